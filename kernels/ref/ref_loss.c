#include <math.h>
#include <stdlib.h>

#include "kernels/ref/ref_operations.h"

/* A log-sum-exp that is fed one value at a time. */
struct running_lse {
    double max, sum; /* of exp(value - max) */
};

static void running_lse_add(struct running_lse *lse, double value)
{
    if (value > lse->max) {
        lse->sum *= exp(lse->max - value);
        lse->max = value;
    }
    lse->sum += exp(value - lse->max);
}

static double logit(const float *image, const float *text, double scale, size_t E)
{
    double dot = 0;
    for (size_t e = 0; e < E; e++)
        dot += (double)image[e] * text[e];
    return scale * dot;
}

/* rows[B], columns[B] = log-sum-exp of each row and column of the logits. Returns the loss. */
static double loss_forward(double *rows, double *columns, struct running_lse *running,
                           const float *image, const float *text, double scale, size_t B,
                           size_t E)
{
    double loss = 0;
    for (size_t i = 0; i < 2 * B; i++)
        running[i] = (struct running_lse){.max = -INFINITY, .sum = 0};
    for (size_t i = 0; i < B; i++) {
        for (size_t j = 0; j < B; j++) {
            const double l = logit(image + i * E, text + j * E, scale, E);
            running_lse_add(&running[i], l);
            running_lse_add(&running[B + j], l);
            if (i == j)
                loss -= l;
        }
    }
    for (size_t i = 0; i < B; i++) {
        rows[i] = running[i].max + log(running[i].sum);
        columns[i] = running[B + i].max + log(running[B + i].sum);
        loss += (rows[i] + columns[i]) / 2;
    }
    return loss / (double)B;
}

/* The logits are computed again; d loss / d logit[i,j] =
 *   (softmax over row i + softmax over column j - 2 [i = j]) / 2B
 * and d logit / d logit_scale is the logit itself, because s = exp(logit_scale). */
void ref_contrastive_loss(struct kernels *k, float *loss, float *dimage, float *dtext,
                          float *dlogit_scale, const float *image, const float *text,
                          const float *logit_scale, size_t B, size_t E)
{
    const double scale = exp(logit_scale[0]);
    double dscale = 0;
    double *lse = ref_scratch(k, 2 * B, sizeof *lse);
    struct running_lse *running = ref_scratch(k, 2 * B, sizeof *running);
    double *gradients = ref_scratch(k, 2 * B * E, sizeof *gradients); /* image, then text */
    if (lse == NULL || gradients == NULL || running == NULL)
        goto out_free;

    loss[0] = (float)loss_forward(lse, lse + B, running, image, text, scale, B, E);
    if (dimage == NULL)
        goto out_free;
    for (size_t i = 0; i < B; i++) {
        for (size_t j = 0; j < B; j++) {
            const double l = logit(image + i * E, text + j * E, scale, E);
            const double d = (exp(l - lse[i]) + exp(l - lse[B + j]) - (i == j ? 2 : 0)) /
                             (2 * (double)B);
            dscale += d * l;
            for (size_t e = 0; e < E; e++) {
                gradients[i * E + e] += d * scale * text[j * E + e];
                gradients[(B + j) * E + e] += d * scale * image[i * E + e];
            }
        }
    }
    for (size_t n = 0; n < B * E; n++) {
        dimage[n] = (float)gradients[n];
        dtext[n] = (float)gradients[B * E + n];
    }
    dlogit_scale[0] = (float)(dlogit_scale[0] + dscale);
out_free:
    free(lse);
    free(gradients);
    free(running);
}
