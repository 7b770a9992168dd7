/* eval-zeroshot - zero-shot classification with a checkpoint.
 *
 * In:   `image` U8 [B,S,S,3] or `patches` with `patches.position`; `label` I64 [B]
 * Out:  one JSON object a line on stdout, CLIP_benchmark's: all classes, then each --subset
 * Memory: the model, one record, a classifier of classes x embedding.
 * Ends: with the stream. */
#include <inttypes.h>
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "frame/stage.h"
#include "frame/waiting.h"
#include "model/batch.h"
#include "model/checkpoint.h"
#include "model/zeroshot.h"
#include "stream/describe.h"

enum { LIST_LIMIT = 16 << 20, SUBSETS_MAX = 16, BATCH = 64 };

enum { TEXT_AS_TRAINED, TEXT_CUT, TEXT_BY_SYNTAX };

static const char *const text_names[] = {"trained", "truncate", "syntax", NULL};

static struct {
    const char *model, *dataset, *name, *subset, *vocab;
    int64_t expect, allow_dropped, threads;
    int device, precision, text;
    bool ema;
} options = {.subset = ""};

static struct option_spec option_table[] = {
    {.name = "model", .argument = "DIR", .required = true,
     .help = "a checkpoint, or the newest below DIR", OPTION_TEXT(&options.model)},
    {.name = "ema", .help = "the averaged weights", OPTION_FLAG(&options.ema)},
    {.name = "dataset", .argument = "DIR", .required = true,
     .help = "holds classnames.txt and zeroshot_classification_templates.txt",
     OPTION_TEXT(&options.dataset)},
    {.name = "name", .argument = "NAME", .help = "of the data set, for the JSON; default: DIR's",
     OPTION_TEXT(&options.name)},
    {.name = "subset", .argument = "FILE,...",
     .help = "lists of class names to report on alone, too", OPTION_TEXT(&options.subset)},
    {.name = "expect", .argument = "N", .help = "fail unless N images come; 0: any number",
     OPTION_INTEGER(&options.expect, 0, 0x1p53)},
    {.name = "allow-dropped", .argument = "N",
     .help = "samples that the stages before may have dropped",
     OPTION_INTEGER(&options.allow_dropped, 0, 0x1p53)},
    {.name = "text", .argument = "NAME", .help = "how prompts that are too long are reduced",
     OPTION_CHOICE(&options.text, text_names)},
    {.name = "vocab", .argument = "FILE", .help = "in place of the checkpoint's vocabulary",
     OPTION_TEXT(&options.vocab)},
    {.name = "device", .argument = "NAME", .neutral = true, .help = "backend",
     OPTION_CHOICE(&options.device, kernels_device_names)},
    {.name = "precision", .argument = "NAME", .help = "arithmetic",
     OPTION_CHOICE(&options.precision, kernels_precision_names)},
    {.name = "threads", .letter = 'j', .argument = "N", .neutral = true,
     .help = "of the cpu backend; 0: one per processor",
     OPTION_INTEGER(&options.threads, 0, 1024)},
};

static const struct program program = {
    .name = "eval-zeroshot",
    .purpose = "Classifies the images of a stream by the names of their classes.",
    .operands = "[FILE]",
    .example = "shard-reader 'cifar10/test/{0..1}.tar' | image-decode --size 32 --crop center | "
               "eval-zeroshot --model run/ --dataset cifar10",
    .streams = STAGE_READS,
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
};

struct evaluation {
    struct stage *stage;
    struct kernels *kernels;
    struct checkpoint checkpoint;
    struct clip *clip;
    struct text_list classes, templates;
    float *weights; /* [classes,E] */
    struct buffer patches, position, embeddings, logits;
    struct {
        char name[256]; /* "" for all classes */
        bool *member;   /* [classes]; NULL: all */
        struct zeroshot_score score;
    } sets[1 + SUBSETS_MAX];
    size_t set_count;
};

/* ---- before the first record ---- */

static void load_list(struct stage *stage, const char *path, struct text_list *list)
{
    struct error error;
    struct buffer bytes = {0};
    stage_check(stage, io_read_file(path, LIST_LIMIT, &bytes, &error), &error);
    if (text_list_parse(list, bytes.data, bytes.size, &error) != STATUS_OK)
        stage_fail(stage, (error_prefix(&error, "%s", path), &error));
    buffer_free(&bytes);
}

static void add_set(struct evaluation *e, const char *path)
{
    struct error error;
    struct text_list names;
    if (e->set_count > SUBSETS_MAX)
        stage_fail(e->stage, (error_set(&error, STATUS_USAGE, "--subset: more than %d files",
                                        SUBSETS_MAX),
                              &error));
    size_t number = e->set_count++;
    char copy[4096];
    snprintf(copy, sizeof copy, "%s", path);
    char *base = basename(copy);
    snprintf(e->sets[number].name, sizeof e->sets[number].name, "/%.*s",
             (int)strcspn(base, "."), base);
    load_list(e->stage, path, &names);
    bool *member = calloc(e->classes.count, sizeof member[0]);
    if (member == NULL)
        stage_fail(e->stage, (error_memory(&error, e->classes.count, "a subset"), &error));
    for (size_t i = 0; i < names.count; i++) {
        size_t found = text_list_find(&e->classes, names.lines[i]);
        if (found == e->classes.count) {
            error_set(&error, STATUS_DATA, "%s: '%.60s' is not a class of the data set", path,
                      names.lines[i]);
            stage_fail(e->stage, &error);
        }
        member[found] = true;
    }
    text_list_free(&names);
    e->sets[number].member = member;
}

static void load_dataset(struct evaluation *e)
{
    struct error error;
    char path[4096];
    snprintf(path, sizeof path, "%s/classnames.txt", options.dataset);
    load_list(e->stage, path, &e->classes);
    snprintf(path, sizeof path, "%s/zeroshot_classification_templates.txt", options.dataset);
    load_list(e->stage, path, &e->templates);

    e->set_count = 1;
    char *copy = strdup(options.subset);
    char *rest = copy;
    for (char *file; rest != NULL && (file = strsep(&rest, ",")) != NULL;)
        if (file[0] != '\0')
            add_set(e, file);
    free(copy);
    for (size_t i = 0; i < e->set_count; i++)
        stage_check(e->stage,
                    zeroshot_score_init(&e->sets[i].score, e->classes.count, e->sets[i].member,
                                        &error),
                    &error);
}

static void open_checkpoint(struct evaluation *e)
{
    struct error error, warning;
    stage_check(e->stage,
                checkpoint_open_latest(&e->checkpoint, options.model, &warning, &error), &error);
    if (warning.text[0] != '\0')
        stage_warn(e->stage, "%s", warning.text);
    if (options.ema)
        stage_check(e->stage, checkpoint_use_average(&e->checkpoint, &error), &error);
}

/* ---- records ---- */

/* The model is laid out for as many patches as the first record brings. */
static void open_model(struct evaluation *e, size_t kept)
{
    struct error error;
    struct caption_encoder encoder;
    const struct clip_shape shape = {.batch = BATCH, .kept = kept};
    stage_check(e->stage,
                clip_open(&e->clip, e->kernels, &e->checkpoint.config, &shape, &error), &error);
    stage_check(e->stage, checkpoint_load_parameters(&e->checkpoint, e->clip, &error), &error);
    stage_check(e->stage,
                caption_encoder_open(&encoder, &e->checkpoint, options.vocab, &error), &error);
    if (options.text == TEXT_BY_SYNTAX ||
        (options.text == TEXT_AS_TRAINED && caption_encoder_trained_by_syntax(&e->checkpoint)))
        stage_check(e->stage,
                    caption_encoder_reduce_by_syntax(&encoder, &e->checkpoint, &error), &error);
    e->weights = calloc(e->classes.count,
                        e->checkpoint.config.embed_dim * sizeof e->weights[0]);
    if (e->weights == NULL)
        stage_fail(e->stage, (error_memory(&error, e->classes.count, "a classifier"), &error));
    stage_check(e->stage,
                zeroshot_build_classifier(e->clip, &encoder, &e->classes, &e->templates,
                                          e->weights, &error),
                &error);
    caption_encoder_close(&encoder);
}

static enum status embed_images(struct evaluation *e, const struct image_input *images,
                                struct error *error)
{
    const struct clip_config *config = &e->checkpoint.config;
    size_t P = config->vision.patch_size, bytes = images->kept * P * P * 3;
    enum status status = buffer_reserve(&e->patches, images->batch * bytes, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&e->position, images->batch * images->kept * 4, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&e->embeddings, images->batch * config->embed_dim * 4, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&e->logits, images->batch * e->classes.count * 4, error);
    if (status != STATUS_OK)
        return status;
    int32_t *position = images->position == NULL ? NULL : (int32_t *)e->position.data;
    image_input_copy(images, config, 0, images->batch, e->patches.data, position);
    return clip_encode_image(e->clip, e->patches.data, position, images->batch,
                             (float *)e->embeddings.data, error);
}

static enum status classify(struct evaluation *e, struct record *record, struct error *error)
{
    struct image_input images;
    const struct tensor *label;
    enum status status = image_input_find(record, &e->checkpoint.config, &images, error);
    if (status == STATUS_OK)
        status = record_require(record, "label", DTYPE_I64, 1, &label, error);
    if (status != STATUS_OK)
        return status;
    if (e->clip == NULL)
        open_model(e, images.kept);

    float *logits;
    size_t classes = e->classes.count;
    status = embed_images(e, &images, error);
    logits = (float *)e->logits.data;
    if (status == STATUS_OK)
        zeroshot_logits((const float *)e->embeddings.data, images.batch, e->weights, classes,
                        e->checkpoint.config.embed_dim, logits);
    for (size_t i = 0; status == STATUS_OK && i < images.batch; i++) {
        int64_t value = ((const int64_t *)label->data)[i];
        if (value < 0 || (uint64_t)value >= classes)
            return error_set(error, STATUS_DATA, "label %" PRId64 ", the data set has %zu classes",
                             value, classes);
        for (size_t s = 0; s < e->set_count; s++)
            zeroshot_score_add(&e->sets[s].score, logits + i * classes, (size_t)value);
    }
    return status;
}

/* ---- the result ---- */

/* As Python writes a float: the fewest digits that read back as the same value. */
static void print_float(const char *name, double value)
{
    char text[40] = "NaN";
    for (int digits = 1; digits <= 17 && !isnan(value); digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    printf("\"%s\": %s%s", name, text,
           strpbrk(text, ".eN") == NULL ? ".0" : "");
}

static void print_text(const char *name, const char *text, const char *more)
{
    printf("\"%s\": ", name);
    char joined[4096];
    snprintf(joined, sizeof joined, "%s%s", text, more);
    describe_string(stdout, joined, strlen(joined));
    printf(", ");
}

static void print_result(const struct evaluation *e, size_t set)
{
    const struct zeroshot_metrics metrics = zeroshot_score_metrics(&e->sets[set].score);
    char dataset[4096], model[4096];
    snprintf(dataset, sizeof dataset, "%s", options.dataset);
    snprintf(model, sizeof model, "%s", options.model);
    printf("{");
    print_text("dataset", options.name != NULL ? options.name : basename(dataset),
               e->sets[set].name);
    print_text("model", basename(model), "");
    print_text("pretrained", e->checkpoint.path,
               options.ema ? "/" CHECKPOINT_AVERAGE_NAME : "");
    print_text("task", "zeroshot_classification", "");
    printf("\"metrics\": {");
    print_float("acc1", metrics.acc1);
    printf(", ");
    print_float("acc5", metrics.acc5);
    printf(", ");
    print_float("mean_per_class_recall", metrics.mean_per_class_recall);
    printf("}, \"language\": \"en\"}\n");
}

/* A figure over fewer images than there are would be a wrong figure. */
static void check_complete(const struct evaluation *e)
{
    struct error error;
    struct reader_stats stats = reader_stats(e->stage->reader);
    if (stats.dropped > (uint64_t)options.allow_dropped) {
        error_set(&error, STATUS_DATA, "%" PRIu64 " samples were dropped upstream, %" PRId64
                                       " allowed",
                  stats.dropped, options.allow_dropped);
        stage_fail(e->stage, &error);
    }
    if (stats.samples == 0 ||
        (options.expect != 0 && stats.samples != (uint64_t)options.expect)) {
        error_set(&error, STATUS_DATA, "%" PRIu64 " images, expected %" PRId64, stats.samples,
                  options.expect == 0 ? 1 : options.expect);
        stage_fail(e->stage, &error);
    }
}

static void evaluation_free(struct evaluation *e)
{
    for (size_t i = 0; i < e->set_count; i++) {
        zeroshot_score_free(&e->sets[i].score);
        free(e->sets[i].member);
    }
    text_list_free(&e->classes);
    text_list_free(&e->templates);
    clip_close(e->clip);
    kernels_close(e->kernels);
    checkpoint_close(&e->checkpoint);
    free(e->weights);
    buffer_free(&e->patches);
    buffer_free(&e->position);
    buffer_free(&e->embeddings);
    buffer_free(&e->logits);
}

int main(int argc, char **argv)
{
    struct stage stage;
    struct record record;
    struct error error;
    static struct evaluation evaluation;

    waiting_be_passive(argv);
    stage_begin(&stage, &program, argc, argv);
    evaluation.stage = &stage;
    load_dataset(&evaluation);
    open_checkpoint(&evaluation);
    stage_check(&stage,
                kernels_open(&evaluation.kernels, kernels_device_names[options.device],
                             (enum precision)options.precision, (int)options.threads, &error),
                &error);
    stage_open_input(&stage);

    while (stage_read(&stage, &record))
        stage_check(&stage, classify(&evaluation, &record, &error), &error);

    check_complete(&evaluation);
    for (size_t set = 0; set < evaluation.set_count; set++)
        print_result(&evaluation, set);
    evaluation_free(&evaluation);
    return stage_finish(&stage);
}
