/* train-step - contrastive training of both towers.
 *
 * In:   `image` U8 [B,S,S,3] or `patches` with `patches.position`; `text_tokens` I32 [B,L];
 *       `key` and `position` where the stream has them
 * Out:  metrics as lines of JSON on stdout; checkpoints below --out
 * Memory: the model four times over (parameters, gradients, two moments), the activations of
 *       one batch, one record; all of it taken before the first step.
 * Ends: after --steps; with the stream; by SIGTERM, SIGINT or SIGUSR1 after a checkpoint (75). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/number.h"
#include "frame/provenance.h"
#include "frame/stage.h"
#include "frame/stop_signal.h"
#include "frame/waiting.h"
#include "model/batch.h"
#include "model/checkpoint.h"
#include "model/schedule.h"
#include "model/vocabulary.h"

static const char *const device_names[] = {"cpu", "ref", "cuda", "auto", NULL};
static const char *const precision_names[] = {"fp32", NULL};
static const char *const position_names[] = {"model", "learnable", "sin_cos_2d", NULL};
static const char *const scheduler_names[] = {"cosine", "const", "const-cooldown", NULL};

static struct {
    const char *model, *init, *out, *vocab, *image_mean, *image_std;
    int64_t batch_size, steps, samples, accum_freq, warmup, cooldown_steps, seed;
    int64_t save_every, keep, log_every, threads, force_image_size, force_context_length;
    double lr, beta1, beta2, eps, wd, grad_clip_norm, cooldown_power, cooldown_end;
    double force_patch_dropout;
    int scheduler, precision, device, pos_embed;
    bool resume, resume_changed, force_quick_gelu, grad_checkpointing;
} options = {
    .batch_size = 256, .accum_freq = 1, .warmup = 10000, .save_every = 1000, .keep = 2,
    .log_every = 10, .lr = 5e-4, .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6, .wd = 0.2,
    .cooldown_power = 1, .force_patch_dropout = -1,
};

static struct option_spec option_table[] = {
    {.name = "model", .argument = "FILE", .help = "open_clip's model JSON; that of --init",
     OPTION_TEXT(&options.model)},
    {.name = "init", .argument = "DIR", .help = "start from the weights of this checkpoint",
     OPTION_TEXT(&options.init)},
    {.name = "out", .argument = "DIR", .required = true, .neutral = true,
     .help = "where checkpoints go", OPTION_TEXT(&options.out)},
    {.name = "batch-size", .argument = "N", .help = "samples that pass through at once",
     OPTION_INTEGER(&options.batch_size, 1, 1 << 20)},
    {.name = "accum-freq", .argument = "N", .help = "batches to one loss and one step",
     OPTION_INTEGER(&options.accum_freq, 1, 1 << 16)},
    {.name = "steps", .argument = "N", .help = "steps of the whole run",
     OPTION_INTEGER(&options.steps, 1, 0x1p40)},
    {.name = "samples", .argument = "N", .help = "the same in samples, rounded down",
     OPTION_INTEGER(&options.samples, 1, 0x1p50)},
    {.name = "lr", .argument = "X", .help = "peak learning rate",
     OPTION_REAL(&options.lr, 0, 100)},
    {.name = "beta1", .argument = "X", .help = "AdamW", OPTION_REAL(&options.beta1, 0, 0.999999)},
    {.name = "beta2", .argument = "X", .help = "AdamW", OPTION_REAL(&options.beta2, 0, 0.999999)},
    {.name = "eps", .argument = "X", .help = "AdamW", OPTION_REAL(&options.eps, 1e-12, 1)},
    {.name = "wd", .argument = "X", .help = "weight decay", OPTION_REAL(&options.wd, 0, 100)},
    {.name = "grad-clip-norm", .argument = "X", .help = "largest norm of the gradient; 0: any",
     OPTION_REAL(&options.grad_clip_norm, 0, 1e9)},
    {.name = "warmup", .argument = "N", .help = "steps to the peak learning rate",
     OPTION_INTEGER(&options.warmup, 0, 0x1p40)},
    {.name = "lr-scheduler", .argument = "NAME", .help = "the curve after the warm-up",
     OPTION_CHOICE(&options.scheduler, scheduler_names)},
    {.name = "cooldown-steps", .argument = "N", .help = "last steps of const-cooldown",
     OPTION_INTEGER(&options.cooldown_steps, 0, 0x1p40)},
    {.name = "lr-cooldown-power", .argument = "X", .help = "shape of the cooldown",
     OPTION_REAL(&options.cooldown_power, 0.01, 100)},
    {.name = "lr-cooldown-end", .argument = "X", .help = "learning rate at its end",
     OPTION_REAL(&options.cooldown_end, 0, 100)},
    {.name = "precision", .argument = "NAME", .help = "arithmetic",
     OPTION_CHOICE(&options.precision, precision_names)},
    {.name = "seed", .argument = "N", .help = "of the first parameters",
     OPTION_INTEGER(&options.seed, 0, 0x1p53)},
    {.name = "device", .argument = "NAME", .help = "backend",
     OPTION_CHOICE(&options.device, device_names)},
    {.name = "threads", .letter = 'j', .argument = "N", .neutral = true,
     .help = "of the cpu backend; 0: one per processor",
     OPTION_INTEGER(&options.threads, 0, 1024)},
    {.name = "save-every", .argument = "N", .neutral = true, .help = "steps between checkpoints",
     OPTION_INTEGER(&options.save_every, 1, 0x1p40)},
    {.name = "keep", .argument = "N", .neutral = true, .help = "checkpoints that stay",
     OPTION_INTEGER(&options.keep, CHECKPOINT_KEEP_MIN, 1 << 20)},
    {.name = "log-every-n-steps", .argument = "N", .neutral = true,
     .help = "steps between metrics", OPTION_INTEGER(&options.log_every, 1, 0x1p40)},
    {.name = "resume", .neutral = true, .help = "go on from the newest checkpoint in --out",
     OPTION_FLAG(&options.resume)},
    {.name = "resume-changed", .neutral = true,
     .help = "resume though options or data are not the same",
     OPTION_FLAG(&options.resume_changed)},
    {.name = "force-image-size", .argument = "N", .help = "in place of the model file's; 0: keep",
     OPTION_INTEGER(&options.force_image_size, 0, 8192)},
    {.name = "force-context-length", .argument = "N",
     .help = "in place of the model file's; 0: keep",
     OPTION_INTEGER(&options.force_context_length, 0, 4096)},
    {.name = "force-quick-gelu", .help = "in place of the model file's activation",
     OPTION_FLAG(&options.force_quick_gelu)},
    {.name = "force-patch-dropout", .argument = "X",
     .help = "in place of the model file's; -1: keep",
     OPTION_REAL(&options.force_patch_dropout, -1, 0.999)},
    {.name = "pos-embed", .argument = "NAME",
     .help = "image positions: the model file's, learned, or fixed",
     OPTION_CHOICE(&options.pos_embed, position_names)},
    {.name = "grad-checkpointing", .neutral = true,
     .help = "keep fewer activations and compute them again",
     OPTION_FLAG(&options.grad_checkpointing)},
    {.name = "image-mean", .argument = "R,G,B", .help = "of pixels in 0 to 1",
     OPTION_TEXT(&options.image_mean)},
    {.name = "image-std", .argument = "R,G,B", .help = "of pixels in 0 to 1",
     OPTION_TEXT(&options.image_std)},
    {.name = "vocab", .argument = "FILE", .neutral = true,
     .help = "vocabulary to keep with the model, in place of the one that tokenize used",
     OPTION_TEXT(&options.vocab)},
};

enum { OPTION_COUNT = sizeof option_table / sizeof option_table[0] };

static const struct program program = {
    .name = "train-step",
    .purpose = "Trains a CLIP model on a stream of image and text tokens.",
    .operands = "[FILE]",
    .example = "... | train-step --model ViT-B-16.json --batch-size 4096 --steps 37000 "
               "--warmup 782 --lr 2.048e-3 --beta2 0.95 --out run/",
    .streams = STAGE_READS,
    .options = option_table,
    .option_count = OPTION_COUNT,
};

struct run {
    struct stage *stage;
    int signal_fd; /* readable once the run is to stop */
    struct clip_config config;
    struct schedule schedule;
    struct kernels *kernels;
    struct clip *clip;
    struct optimizer optimizer;
    struct batch_builder batch;
    struct checkpoint init; /* whose weights the run starts from */
    struct metadata settings, about;
    struct buffer vocabulary;
    struct checkpoint_progress progress;
    int64_t saved_step;
    double sample_flops; /* of training on one sample */
    int64_t log_ns, log_wait_ns, log_samples; /* at the last line of metrics */
};

/* ---- before the first record ---- */

/* Three values, above `least`, in place of the configuration's. */
static void parse_channels(struct stage *stage, const char *name, const char *text,
                           double least, double out[3])
{
    struct error error;
    if (text == NULL || (number_parse_list(text, out, 3) && out[0] > least && out[1] > least &&
                         out[2] > least))
        return;
    error_set(&error, STATUS_USAGE, "--%s: '%.60s' is not three numbers R,G,B above %g", name,
              text, least);
    stage_fail(stage, &error);
}

static void begin_schedule(struct run *run)
{
    struct error error;
    int64_t effective = options.batch_size * options.accum_freq;
    int64_t steps = options.steps != 0 ? options.steps : options.samples / effective;
    enum status status = STATUS_OK;
    if (options.steps != 0 && options.samples != 0)
        status = error_set(&error, STATUS_USAGE, "--steps and --samples exclude each other");
    else if (options.steps == 0 && options.samples == 0)
        status = error_set(&error, STATUS_USAGE, "--steps or --samples is required");
    else if (steps < 1)
        status = error_set(&error, STATUS_USAGE, "--samples %" PRId64 " is less than a step of "
                                                 "%" PRId64,
                           options.samples, effective);
    else if (options.warmup >= steps)
        status = error_set(&error, STATUS_USAGE, "--warmup %" PRId64 " is not shorter than the "
                                                 "run of %" PRId64 " steps",
                           options.warmup, steps);
    else if (options.cooldown_steps > steps)
        status = error_set(&error, STATUS_USAGE, "--cooldown-steps %" PRId64 " is longer than "
                                                 "the run of %" PRId64 " steps",
                           options.cooldown_steps, steps);
    stage_check(run->stage, status, &error);

    run->schedule = (struct schedule){
        .lr = options.lr,
        .warmup = options.warmup,
        .steps = steps,
        .cooldown_steps = options.cooldown_steps,
        .cooldown_power = options.cooldown_power,
        .cooldown_end = options.cooldown_end,
    };
    schedule_from_name(scheduler_names[options.scheduler], &run->schedule.kind);
}

/* Two runs that save into one directory would remove each other's checkpoints. The lock goes
 * with the process, however it ends. */
static void lock_output(struct run *run)
{
    struct error error;
    int fd = open(options.out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        stage_fail(run->stage,
                   (error_set_errno(&error, STATUS_IO, "cannot open %s", options.out), &error));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        stage_fail(run->stage, (error_set(&error, STATUS_RETRY,
                                          "another train-step is saving into %s", options.out),
                                &error));
}

static void refuse_old_output(struct run *run)
{
    struct error error, warning;
    struct checkpoint old;
    stage_check(run->stage, checkpoint_remove_leftovers(options.out, &error), &error);
    if (options.resume)
        return;
    enum status status = checkpoint_open_latest(&old, options.out, &warning, &error);
    checkpoint_close(&old);
    if (status == STATUS_NO_INPUT)
        return;
    error_set(&error, STATUS_USAGE, "%s already holds checkpoints", options.out);
    error_hint(&error, "go on with --resume, or choose another --out");
    stage_fail(run->stage, &error);
}

/* The model is that of --model, or of the checkpoint that --init names. */
static void load_config(struct run *run)
{
    struct error error, warning;
    char path[4096];
    const char *model = options.model;
    const struct clip_overrides overrides = {
        .image_size = (size_t)options.force_image_size,
        .context_length = (size_t)options.force_context_length,
        .quick_gelu = options.force_quick_gelu,
        .patch_dropout =
            options.force_patch_dropout >= 0 ? &options.force_patch_dropout : NULL,
        .pos_embed_type = options.pos_embed == 0 ? NULL : position_names[options.pos_embed],
    };
    if (options.init != NULL) {
        stage_check(run->stage,
                    checkpoint_open_latest(&run->init, options.init, &warning, &error), &error);
        if (warning.text[0] != '\0')
            stage_warn(run->stage, "%s", warning.text);
        snprintf(path, sizeof path, "%s/" CHECKPOINT_CONFIG_NAME, run->init.path);
    } else if (model == NULL) {
        error_set(&error, STATUS_USAGE, "--model or --init is required");
        stage_fail(run->stage, &error);
    }
    if (model == NULL)
        model = path;
    stage_check(run->stage, clip_config_load(&run->config, model, &overrides, &error), &error);
    parse_channels(run->stage, "image-mean", options.image_mean, -1e6,
                   run->config.preprocess.mean);
    parse_channels(run->stage, "image-std", options.image_std, 0, run->config.preprocess.std);
}

static void begin(struct run *run)
{
    struct error error;
    begin_schedule(run);
    load_config(run);
    stage_check(run->stage,
                provenance_settings(&run->settings, option_table, OPTION_COUNT, &error), &error);
    if (mkdir(options.out, 0777) != 0 && errno != EEXIST)
        stage_fail(run->stage,
                   (error_set_errno(&error, STATUS_IO, "cannot create %s", options.out), &error));
    lock_output(run);
    refuse_old_output(run);
    stage_check(run->stage,
                kernels_open(&run->kernels, device_names[options.device], (int)options.threads,
                             &error),
                &error);
}

/* ---- at the first record, which says how many patches there are ---- */

/* What the checkpoint says about its making: the stream's facts, this program's line, and the
 * vocabulary that made the tokens, so that it can be evaluated alone. */
static void collect_about(struct run *run)
{
    struct error error;
    uint64_t version;
    char crc[VOCABULARY_CRC_SIZE];
    stage_check(run->stage,
                metadata_copy(&run->about, reader_metadata(run->stage->reader, &version), &error),
                &error);
    stage_check(run->stage,
                provenance_append(&run->about, stage_provenance(run->stage), &error), &error);
    int64_t ids;
    const char *size = stage_fact(run->stage, "tokenizer.size");
    if (size != NULL && number_parse_integer(size, &ids) &&
        ids > (int64_t)run->config.text.vocab_size)
        stage_fail(run->stage, (error_set(&error, STATUS_DATA,
                                          "vocabulary of %" PRId64 " ids, the model has %zu", ids,
                                          run->config.text.vocab_size),
                                &error));
    const char *interpolation = stage_fact(run->stage, "image.interpolation");
    if (interpolation != NULL)
        snprintf(run->config.preprocess.interpolation,
                 sizeof run->config.preprocess.interpolation, "%s", interpolation);
    const char *path = options.vocab != NULL ? options.vocab
                                             : stage_fact(run->stage, "tokenizer.path");
    if (path != NULL)
        stage_check(run->stage,
                    vocabulary_load(path, stage_fact(run->stage, "tokenizer.crc32c"),
                                    &run->vocabulary, crc, &error),
                    &error);
}

static void compare_settings(struct run *run, const struct checkpoint *checkpoint)
{
    struct error error;
    if (options.resume_changed ||
        provenance_compare(&run->settings, &checkpoint->state.header.metadata, &error) ==
            STATUS_OK)
        return;
    error_hint(&error, "give the same options, or --resume-changed");
    stage_fail(run->stage, &error);
}

/* shard-reader names the sample it starts after; resuming on other data would train twice on
 * some samples and never on others. */
static void compare_start(struct run *run, const struct checkpoint *checkpoint)
{
    const int64_t *at = checkpoint->progress.position;
    const char *start = stage_fact(run->stage, "start");
    char expected[64];
    snprintf(expected, sizeof expected, "%" PRId64 ",%" PRId64 ",%" PRId64, at[0], at[1], at[2]);
    if (!run->batch.has_position || options.resume_changed ||
        (start != NULL && strcmp(start, expected) == 0))
        return;
    struct error error;
    error_set(&error, STATUS_DATA, "the stream starts %s%s, the checkpoint ends at position %s",
              start == NULL ? "at the beginning" : "after ", start == NULL ? "" : start,
              expected);
    error_hint(&error, "give shard-reader --start %s, or train-step --resume-changed",
               options.out);
    stage_fail(run->stage, &error);
}

static bool resume(struct run *run)
{
    struct error error, warning;
    struct checkpoint checkpoint;
    enum status status = checkpoint_open_latest(&checkpoint, options.out, &warning, &error);
    if (status == STATUS_NO_INPUT)
        return false;
    stage_check(run->stage, status, &error);
    if (warning.text[0] != '\0')
        stage_warn(run->stage, "%s", warning.text);
    compare_settings(run, &checkpoint);
    compare_start(run, &checkpoint);
    stage_check(run->stage, checkpoint_load_parameters(&checkpoint, run->clip, &error), &error);
    stage_check(run->stage, checkpoint_load_optimizer(&checkpoint, &run->optimizer, &error),
                &error);
    run->progress = checkpoint.progress;
    run->saved_step = run->optimizer.step;
    stage_note(run->stage, "resumed %s after %" PRId64 " steps", checkpoint.path,
               run->optimizer.step);
    checkpoint_close(&checkpoint);
    return true;
}

/* Says what the weights are and how they were changed to fit. */
static void load_initial_weights(struct run *run)
{
    struct error error;
    const struct clip_config *from = &run->init.config, *to = &run->config;
    if (options.init == NULL) {
        stage_check(run->stage, clip_initialize(run->clip, (uint64_t)options.seed, &error),
                    &error);
        return;
    }
    stage_check(run->stage, checkpoint_load_resized(&run->init, run->clip, &error), &error);
    stage_note(run->stage, "starting from the weights in %s", run->init.path);
    if (from->vision.grid != to->vision.grid)
        stage_note(run->stage,
                   "image positional embedding resized from %zu x %zu to %zu x %zu patches",
                   from->vision.grid, from->vision.grid, to->vision.grid, to->vision.grid);
    if (from->text.context_length != to->text.context_length)
        stage_note(run->stage, "text positional embedding resized from %zu to %zu tokens",
                   from->text.context_length, to->text.context_length);
}

static void begin_training(struct run *run, struct record *first)
{
    struct error error;
    size_t effective = (size_t)(options.batch_size * options.accum_freq);
    stage_check(run->stage,
                batch_builder_init(&run->batch, &run->config, effective, (uint64_t)options.seed,
                                   first, &error),
                &error);
    const struct clip_shape shape = {
        .batch = (size_t)options.batch_size,
        .most = effective,
        .kept = run->batch.kept,
        .training = true,
        .recompute = options.grad_checkpointing,
    };
    const struct optimizer_settings settings = {
        .beta1 = options.beta1,
        .beta2 = options.beta2,
        .eps = options.eps,
        .weight_decay = options.wd,
        .clip_norm = options.grad_clip_norm,
    };
    stage_check(run->stage,
                clip_open(&run->clip, run->kernels, &run->config, &shape, &error), &error);
    stage_check(run->stage,
                optimizer_init(&run->optimizer, run->kernels, &run->clip->table, &settings,
                               &error),
                &error);
    collect_about(run);
    if (!options.resume || !resume(run))
        load_initial_weights(run);
    checkpoint_close(&run->init);
    run->sample_flops = 3 * (clip_config_image_flops(&run->config, run->batch.kept) +
                             clip_config_text_flops(&run->config));
    stage_note(run->stage,
               "%.2f M parameters, %zu image tokens, %zu text tokens, %.3f GFLOP a sample in "
               "training, %" PRId64 " steps of %zu; a loss of %.2f is chance",
               (double)run->clip->table.total * 1e-6, run->batch.kept + 1,
               run->config.text.context_length, 1e-9 * run->sample_flops, run->schedule.steps, effective, log((double)effective));
    run->log_ns = clock_now_ns();
    run->log_samples = run->progress.samples;
    run->log_wait_ns = reader_stats(run->stage->reader).wait_ns;
}

/* ---- a step ---- */

static void save(struct run *run)
{
    struct error error;
    if (run->clip == NULL || run->saved_step == run->optimizer.step)
        return;
    const struct checkpoint_source source = {
        .clip = run->clip,
        .optimizer = &run->optimizer,
        .progress = run->progress,
        .settings = &run->settings,
        .about = &run->about,
        .vocab = run->vocabulary.data,
        .vocab_size = run->vocabulary.size,
    };
    stage_check(run->stage, checkpoint_save(options.out, &source, (int)options.keep, &error),
                &error);
    run->saved_step = run->optimizer.step;
}

/* A loss that is no number ends the run with the names of its samples; the last checkpoint is
 * from before it. */
static _Noreturn void fail_not_finite(struct run *run, float loss, double norm)
{
    struct error error, io_error;
    char path[512], keys[160];
    int64_t step = run->optimizer.step + 1;
    snprintf(path, sizeof path, "%s/step-%08" PRId64 ".bad-keys.txt", options.out, step);
    enum status written =
        batch_builder_write_keys(&run->batch, path, keys, sizeof keys, &io_error);
    error_set(&error, STATUS_DATA,
              "step %" PRId64 ": loss is %g and the gradient's norm %g; samples%s of a batch of "
              "%zu",
              step, (double)loss, norm, keys[0] == '\0' ? " without keys" : keys,
              run->batch.count);
    if (written == STATUS_OK)
        error_hint(&error, "all keys of the batch are in %s; the last checkpoint is untouched",
                   path);
    stage_fail(run->stage, &error);
}

static void print_metrics(struct run *run, float loss, double norm, double lr)
{
    struct error error;
    int64_t now = clock_now_ns(), wait = reader_stats(run->stage->reader).wait_ns;
    double seconds = (double)(now - run->log_ns) * 1e-9;
    printf("{\"step\":%" PRId64 ",\"samples\":%" PRId64 ",\"loss\":%.6g,\"logit_scale\":%.6g,"
           "\"lr\":%.6g,\"grad_norm\":%.6g,\"flops\":%.6g,\"samples_per_second\":%.6g,"
           "\"data_wait\":%.4f}\n",
           run->optimizer.step, run->progress.samples, (double)loss,
           (double)clip_logit_scale(run->clip), lr, norm,
           (double)run->progress.samples * run->sample_flops,
           (double)(run->progress.samples - run->log_samples) / seconds,
           (double)(wait - run->log_wait_ns) * 1e-9 / seconds);
    if (fflush(stdout) != 0)
        stage_fail(run->stage, (error_set_errno(&error, STATUS_IO, "standard output"), &error));
    run->log_ns = now;
    run->log_wait_ns = wait;
    run->log_samples = run->progress.samples;
}

static void train(struct run *run)
{
    struct error error;
    float loss;
    const struct clip_batch batch = batch_builder_batch(&run->batch);
    stage_check(run->stage, clip_step_gradients(run->clip, &batch, &loss, &error), &error);
    double norm = optimizer_gradient_norm(&run->optimizer, run->clip->gradients);
    if (!isfinite(loss) || !isfinite(norm))
        fail_not_finite(run, loss, norm);
    double lr = schedule_lr(&run->schedule, run->optimizer.step);
    optimizer_step(&run->optimizer, run->clip->parameters, run->clip->gradients, norm, lr);
    stage_check(run->stage, run->kernels->check(run->kernels, &error), &error);

    run->progress.samples += (int64_t)run->batch.count;
    memcpy(run->progress.position, run->batch.last_position, sizeof run->progress.position);
    batch_builder_clear(&run->batch);
    if (run->optimizer.step % options.log_every == 0 ||
        run->optimizer.step == run->schedule.steps)
        print_metrics(run, loss, norm, lr);
    if (run->optimizer.step % options.save_every == 0)
        save(run);
    stage_progress(run->stage, (uint64_t)run->progress.samples,
                   (uint64_t)(run->schedule.steps * options.batch_size * options.accum_freq));
}

static void stop_if_asked(struct run *run)
{
    struct error error;
    if (!stop_signal_arrived(run->signal_fd))
        return;
    save(run);
    error_set(&error, STATUS_RETRY, "stopped by a signal after step %" PRId64,
              run->optimizer.step);
    error_hint(&error, "go on with shard-reader --start %s and train-step --resume",
               options.out);
    stage_fail(run->stage, &error);
}

static void consume(struct run *run, struct record *record)
{
    struct error error;
    size_t batch, taken;
    stage_check(run->stage, record_batch(record, &batch, &error), &error);
    for (size_t from = 0; from < batch && run->optimizer.step < run->schedule.steps;
         from += taken) {
        stage_check(run->stage,
                    batch_builder_take(&run->batch, record, from, &taken, &error), &error);
        if (run->batch.count == run->batch.capacity) {
            train(run);
            stop_if_asked(run);
        }
    }
}

/* Reads until the steps are done or the stream ends. What was trained is saved before a
 * failure upstream ends the run. */
static void train_all(struct run *run)
{
    struct record record;
    struct error error;
    bool more = true;
    while (more && (run->clip == NULL || run->optimizer.step < run->schedule.steps)) {
        enum status status = stage_try_read(run->stage, &record, &more, &error);
        if (status != STATUS_OK) {
            stop_if_asked(run);
            save(run);
            stage_fail(run->stage, &error);
        }
        if (!more)
            break;
        if (run->clip == NULL)
            begin_training(run, &record);
        consume(run, &record);
    }
    save(run);
    if (run->optimizer.step < run->schedule.steps) {
        error_set(&error, STATUS_DATA, "the stream ended after %" PRId64 " of %" PRId64 " steps",
                  run->optimizer.step, run->schedule.steps);
        error_hint(&error, "give shard-reader more --epochs; the checkpoint is saved");
        stage_fail(run->stage, &error);
    }
    if (!more)
        return;
    /* END comes next, where the source knew the length. Being stopped now changes nothing. */
    enum status status = stage_try_read(run->stage, &record, &more, &error);
    if (status != STATUS_OK && status != STATUS_RETRY)
        stage_fail(run->stage, &error);
    if (more)
        stage_note(run->stage, "all steps are done, the rest of the stream is not read");
}

int main(int argc, char **argv)
{
    struct stage stage;
    struct error error;
    struct run run = {.stage = &stage};

    waiting_be_passive(argv);
    stage_begin(&stage, &program, argc, argv);
    stage_check(&stage, stop_signal_open(&run.signal_fd, &error), &error);
    begin(&run);
    stage_open_input(&stage);
    reader_stop_on(stage.reader, run.signal_fd);
    train_all(&run);

    batch_builder_free(&run.batch);
    optimizer_free(&run.optimizer);
    clip_close(run.clip);
    kernels_close(run.kernels);
    clip_config_free(&run.config);
    metadata_free(&run.settings);
    metadata_free(&run.about);
    buffer_free(&run.vocabulary);
    close(run.signal_fd);
    return stage_finish(&stage);
}
