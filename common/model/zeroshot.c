#include "model/zeroshot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

static enum status encode_prompts(struct caption_encoder *encoder, const char *class_name,
                                  const struct text_list *templates, struct buffer *prompt,
                                  int32_t *tokens, size_t length, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t t = 0; status == STATUS_OK && t < templates->count; t++) {
        status = template_fill(templates->lines[t], class_name, prompt, error);
        if (status == STATUS_OK)
            status = caption_encoder_run(encoder, prompt->data, prompt->size,
                                         tokens + t * length, error);
    }
    return status;
}

/* Sums in double: the mean of unit vectors, scaled to unit length; the scale of the sum does
 * not matter. */
static void average(const float *embeddings, size_t count, size_t E, double *sum, float *out)
{
    double square = 0;
    for (size_t e = 0; e < E; e++) {
        sum[e] = 0;
        for (size_t i = 0; i < count; i++)
            sum[e] += (double)embeddings[i * E + e];
        square += sum[e] * sum[e];
    }
    double inverse = 1 / fmax(sqrt(square), 1e-12);
    for (size_t e = 0; e < E; e++)
        out[e] = (float)(sum[e] * inverse);
}

enum status zeroshot_build_classifier(struct clip *clip, struct caption_encoder *encoder,
                                      const struct text_list *classes,
                                      const struct text_list *templates, float *weights,
                                      struct error *error)
{
    size_t L = clip->config->text.context_length, E = clip->config->embed_dim;
    struct buffer prompt = {0};
    int32_t *tokens = calloc(templates->count, L * sizeof tokens[0]);
    float *embeddings = calloc(templates->count, E * sizeof embeddings[0]);
    double *sum = calloc(E, sizeof sum[0]);
    enum status status = STATUS_OK;
    if (tokens == NULL || embeddings == NULL || sum == NULL)
        status = error_memory(error, templates->count * (L + E) * 4, "prompts");
    for (size_t c = 0; status == STATUS_OK && c < classes->count; c++) {
        status = encode_prompts(encoder, classes->lines[c], templates, &prompt, tokens, L, error);
        if (status == STATUS_OK)
            status = clip_encode_text(clip, tokens, templates->count, embeddings, error);
        if (status == STATUS_OK)
            average(embeddings, templates->count, E, sum, weights + c * E);
    }
    buffer_free(&prompt);
    free(tokens);
    free(embeddings);
    free(sum);
    return status;
}

void zeroshot_logits(const float *embeddings, size_t count, const float *weights,
                     size_t classes, size_t E, float *logits)
{
#pragma omp parallel for collapse(2)
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < classes; c++) {
            float cosine = 0;
#pragma omp simd reduction(+ : cosine)
            for (size_t e = 0; e < E; e++)
                cosine += embeddings[i * E + e] * weights[c * E + e];
            logits[i * classes + c] = 100 * cosine;
        }
}

enum status zeroshot_score_init(struct zeroshot_score *score, size_t classes,
                                const bool *member, struct error *error)
{
    *score = (struct zeroshot_score){.classes = classes, .member = member};
    score->right = calloc(classes, sizeof score->right[0]);
    score->seen = calloc(classes, sizeof score->seen[0]);
    if (score->right == NULL || score->seen == NULL) {
        zeroshot_score_free(score);
        return error_memory(error, 2 * classes * sizeof score->seen[0], "scores");
    }
    return STATUS_OK;
}

void zeroshot_score_free(struct zeroshot_score *score)
{
    free(score->right);
    free(score->seen);
    *score = (struct zeroshot_score){.classes = 0};
}

void zeroshot_score_add(struct zeroshot_score *score, const float *logits, size_t label)
{
    if (score->member != NULL && !score->member[label])
        return;
    size_t rank = 0;
    for (size_t c = 0; c < score->classes; c++)
        rank += c < label ? !(logits[c] < logits[label]) : !(logits[c] <= logits[label]);
    score->images++;
    score->seen[label]++;
    score->top1 += rank == 0;
    score->top5 += rank < 5;
    score->right[label] += rank == 0;
}

struct zeroshot_metrics zeroshot_score_metrics(const struct zeroshot_score *score)
{
    double recall = 0, present = 0, images = (double)score->images;
    for (size_t c = 0; c < score->classes; c++) {
        if (score->seen[c] == 0)
            continue;
        recall += (double)score->right[c] / (double)score->seen[c];
        present++;
    }
    return (struct zeroshot_metrics){
        .acc1 = (double)score->top1 / images,
        .acc5 = score->classes < 5 ? NAN : (double)score->top5 / images,
        .mean_per_class_recall = recall / present,
    };
}
