/* train-step - contrastive training of both towers.
 *
 * In:   `image` U8 [B,S,S,3] or `patches` with `patches.position`; `text_tokens` I32 [B,L];
 *       `key` and `position` where the stream has them
 * Out:  metrics as lines of JSON on stdout; checkpoints below --out
 * Memory: the model four times over (parameters, gradients, two moments), a fifth time with
 *       --ema; the activations of one batch; one record. All is taken before the first step.
 * Ends: after --steps; with the stream; by SIGTERM, SIGINT, SIGUSR1 after a checkpoint (75). */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "frame/dry_run.h"
#include "frame/metrics.h"
#include "frame/provenance.h"
#include "frame/run_facts.h"
#include "frame/stage.h"
#include "frame/stop_signal.h"
#include "frame/train_plan.h"
#include "frame/waiting.h"
#include "model/batch.h"
#include "model/run_directory.h"
#include "model/trainer.h"
#include "model/training_cost.h"

static struct train_options options = {
    .batch_size = 256, .accum_freq = 1, .warmup = 10000, .save_every = 1000, .keep = 2,
    .log_every = 10, .lr = 5e-4, .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6, .wd = 0.2,
    .cooldown_power = 1, .force_patch_dropout = -1,
};

static struct option_spec option_table[] = {
    {.name = "model", .argument = "FILE", .help = "open_clip's model JSON; that of --init",
     OPTION_TEXT(&options.model)},
    {.name = "init", .argument = "DIR", .help = "start from the weights of this checkpoint",
     OPTION_TEXT(&options.init)},
    {.name = "out", .argument = "DIR", .neutral = true,
     .help = "where checkpoints go; required but for --dry-run", OPTION_TEXT(&options.out)},
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
    {.name = "beta1", .argument = "X", .help = "AdamW",
     OPTION_REAL(&options.beta1, 0, 0.999999)},
    {.name = "beta2", .argument = "X", .help = "AdamW",
     OPTION_REAL(&options.beta2, 0, 0.999999)},
    {.name = "eps", .argument = "X", .help = "AdamW", OPTION_REAL(&options.eps, 1e-12, 1)},
    {.name = "wd", .argument = "X", .help = "weight decay", OPTION_REAL(&options.wd, 0, 100)},
    {.name = "wd-policy", .argument = "NAME", .help = "what decays",
     OPTION_CHOICE(&options.wd_policy, decay_policy_names)},
    {.name = "grad-clip-norm", .argument = "X", .help = "largest norm of the gradient; 0: any",
     OPTION_REAL(&options.grad_clip_norm, 0, 1e9)},
    {.name = "warmup", .argument = "N", .help = "steps to the peak learning rate",
     OPTION_INTEGER(&options.warmup, 0, 0x1p40)},
    {.name = "lr-scheduler", .argument = "NAME", .help = "the curve after the warm-up",
     OPTION_CHOICE(&options.scheduler, train_scheduler_names)},
    {.name = "cooldown-steps", .argument = "N", .help = "last steps of const-cooldown",
     OPTION_INTEGER(&options.cooldown_steps, 0, 0x1p40)},
    {.name = "lr-cooldown-power", .argument = "X", .help = "shape of the cooldown",
     OPTION_REAL(&options.cooldown_power, 0.01, 100)},
    {.name = "lr-cooldown-end", .argument = "X", .help = "learning rate at its end",
     OPTION_REAL(&options.cooldown_end, 0, 100)},
    {.name = "ema", .argument = "X", .help = "decay of an average of the weights; 0: none",
     OPTION_REAL(&options.ema, 0, 0.9999999)},
    {.name = "lock-image", .help = "do not train the image tower",
     OPTION_FLAG(&options.lock_image)},
    {.name = "lock-image-unlocked-groups", .argument = "N", .help = "but its last N groups",
     OPTION_INTEGER(&options.lock_image_groups, 0, 1 << 16)},
    {.name = "lock-text", .help = "do not train the text tower",
     OPTION_FLAG(&options.lock_text)},
    {.name = "lock-text-unlocked-layers", .argument = "N", .help = "but its last N groups",
     OPTION_INTEGER(&options.lock_text_groups, 0, 1 << 16)},
    {.name = "lock-text-freeze-layer-norm", .neutral = true, .help = "it always does",
     OPTION_FLAG(&options.lock_text_norms)},
    {.name = "precision", .argument = "NAME", .help = "arithmetic",
     OPTION_CHOICE(&options.precision, kernels_precision_names)},
    {.name = "seed", .argument = "N", .help = "of the first parameters",
     OPTION_INTEGER(&options.seed, 0, 0x1p53)},
    {.name = "device", .argument = "NAME", .help = "backend",
     OPTION_CHOICE(&options.device, kernels_device_names)},
    {.name = "threads", .letter = 'j', .argument = "N", .neutral = true,
     .help = "of the cpu backend; 0: one per processor",
     OPTION_INTEGER(&options.threads, 0, 1024)},
    {.name = "save-every", .argument = "N", .neutral = true, .help = "steps to a checkpoint",
     OPTION_INTEGER(&options.save_every, 1, 0x1p40)},
    {.name = "keep", .argument = "N", .neutral = true, .help = "checkpoints that stay",
     OPTION_INTEGER(&options.keep, CHECKPOINT_KEEP_MIN, 1 << 20)},
    {.name = "log-every-n-steps", .argument = "N", .neutral = true,
     .help = "steps between metrics", OPTION_INTEGER(&options.log_every, 1, 0x1p40)},
    {.name = "resume", .neutral = true, .help = "go on from the newest checkpoint in --out",
     OPTION_FLAG(&options.resume)},
    {.name = "resume-changed", .neutral = true, .help = "resume though options or data differ",
     OPTION_FLAG(&options.resume_changed)},
    {.name = "force-image-size", .argument = "N", .help = "pixels a side; 0: the model's",
     OPTION_INTEGER(&options.force_image_size, 0, 8192)},
    {.name = "force-context-length", .argument = "N", .help = "tokens; 0: the model's",
     OPTION_INTEGER(&options.force_context_length, 0, 4096)},
    {.name = "force-quick-gelu", .help = "in place of the model file's activation",
     OPTION_FLAG(&options.force_quick_gelu)},
    {.name = "force-patch-dropout", .argument = "X", .help = "share left out; -1: the model's",
     OPTION_REAL(&options.force_patch_dropout, -1, 0.999)},
    {.name = "pos-embed", .argument = "NAME", .help = "image positions",
     OPTION_CHOICE(&options.pos_embed, train_position_names)},
    {.name = "recompute", .argument = "NAME", .neutral = true, .help = "and not keep",
     OPTION_CHOICE(&options.recompute, train_recompute_names)},
    {.name = "grad-checkpointing", .neutral = true, .help = "the same as --recompute block",
     OPTION_FLAG(&options.grad_checkpointing)},
    {.name = "image-resize-mode", .argument = "NAME", .help = "where it is evaluated",
     OPTION_CHOICE(&options.resize_mode, train_resize_names)},
    {.name = "image-mean", .argument = "R,G,B", .help = "of pixels in 0 to 1",
     OPTION_TEXT(&options.image_mean)},
    {.name = "image-std", .argument = "R,G,B", .help = "of pixels in 0 to 1",
     OPTION_TEXT(&options.image_std)},
    {.name = "vocab", .argument = "FILE", .neutral = true,
     .help = "vocabulary to keep with the model, in place of the one that tokenize used",
     OPTION_TEXT(&options.vocab)},
    {.name = "dry-run", .neutral = true, .help = "print what the run would be, and do nothing",
     OPTION_FLAG(&options.dry_run)},
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
    int lock_fd;   /* keeps others out of --out */
    struct train_plan plan;
    struct kernels *kernels;
    struct trainer trainer;
    struct batch_builder batch;
    struct metadata given, about; /* options; facts about the run */
    struct buffer vocabulary;
    bool begun;          /* the first record has come */
    struct metrics metrics;
};

/* ---- before the first record ---- */

static void begin(struct run *run)
{
    struct error error, warning;
    stage_check(run->stage, train_plan_make(&run->plan, &options, &warning, &error), &error);
    if (warning.text[0] != '\0')
        stage_warn(run->stage, "%s", warning.text);
    if (options.dry_run) {
        stage_check(run->stage,
                    dry_run_print(&run->plan, option_table, OPTION_COUNT, stdout, &error),
                    &error);
        exit(STATUS_OK);
    }
    enum status status =
        provenance_settings(&run->given, option_table, OPTION_COUNT, &error);
    if (status == STATUS_OK)
        status = run_directory_claim(options.out, options.resume, &run->lock_fd, &error);
    if (status == STATUS_OK)
        status = kernels_open(&run->kernels, kernels_device_names[options.device],
                              run->plan.precision, (int)options.threads, &error);
    stage_check(run->stage, status, &error);
}

/* ---- at the first record, which says how many patches there are ---- */

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
    if (!options.resume_changed)
        stage_check(run->stage,
                    run_facts_compare(&checkpoint, &run->given, &run->about,
                                      &run->plan.config.preprocess, run->batch.has_position,
                                      options.out, &error),
                    &error);
    stage_check(run->stage, trainer_resume(&run->trainer, &checkpoint, &error), &error);
    stage_note(run->stage, "resumed %s after %" PRId64 " steps", checkpoint.path,
               checkpoint.step);
    checkpoint_close(&checkpoint);
    return true;
}

/* Says what the weights are and how they were changed to fit. */
static void start(struct run *run)
{
    struct error error;
    const struct clip_config *from = &run->plan.init.config, *to = &run->plan.config;
    if (options.init == NULL) {
        stage_check(run->stage,
                    trainer_initialize(&run->trainer, (uint64_t)options.seed, &error), &error);
        return;
    }
    stage_check(run->stage, trainer_start_from(&run->trainer, &run->plan.init, &error), &error);
    stage_note(run->stage, "starting from the weights in %s", run->plan.init.path);
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
    uint64_t version;
    struct train_plan *plan = &run->plan;
    const struct metadata *facts = reader_metadata(run->stage->reader, &version);
    enum status status = batch_builder_init(&run->batch, &plan->config, plan->shape.most,
                                            (uint64_t)options.seed, first, &error);
    if (status == STATUS_OK)
        status = run_facts_collect(facts, stage_provenance(run->stage), options.vocab,
                                   &plan->colors, &plan->config, &run->about, &run->vocabulary,
                                   &error);
    plan->shape.kept = run->batch.kept;
    if (status == STATUS_OK)
        status = trainer_open(&run->trainer, run->kernels, &plan->config, &plan->shape,
                              &plan->settings, &error);
    stage_check(run->stage, status, &error);
    if (!options.resume || !resume(run))
        start(run);
    run->batch.seen = (uint64_t)run->trainer.progress.samples;
    checkpoint_close(&plan->init);
    run->begun = true;
    double flops =
        training_cost_sample_flops(&plan->config, plan->shape.kept, &plan->settings.freeze);
    stage_note(run->stage,
               "%.2f M parameters, %zu image tokens, %zu text tokens, %.3f GFLOP a sample in "
               "training, %" PRId64 " steps of %zu on %s; a loss of %.2f is chance",
               (double)run->trainer.clip->table.total * 1e-6, plan->shape.kept + 1,
               plan->config.text.context_length, 1e-9 * flops,
               plan->settings.schedule.steps, plan->shape.most, run->kernels->name,
               log((double)plan->shape.most));
    metrics_begin(&run->metrics, run->trainer.progress.samples, flops);
}

/* ---- a step ---- */

static void save(struct run *run)
{
    struct error error;
    const struct trainer_notes notes = {&run->given, &run->about, run->vocabulary.data,
                                        run->vocabulary.size};
    if (run->begun)
        stage_check(run->stage, trainer_save(&run->trainer, options.out, &notes,
                                             (int)options.keep, &error), &error);
}

/* Waits for the step that is at work, if one is, and takes it. */
static void finish_step(struct run *run)
{
    struct error error;
    struct trainer_step result;
    if (!run->trainer.at_work)
        return;
    stage_check(run->stage, trainer_end(&run->trainer, &result, &error), &error);
    if (!result.taken)
        stage_fail(run->stage, (trainer_name_samples(&run->trainer, &run->batch, &result,
                                                     options.out, &error), &error));
    int64_t step = run->trainer.optimizer.step;
    enum status status = STATUS_OK;
    errno = 0;
    if (step % options.log_every == 0 || trainer_done(&run->trainer))
        status = metrics_print(&run->metrics, &run->trainer, &result, stdout, &error);
    bool unread = status != STATUS_OK && errno == EPIPE;
    if (status != STATUS_OK || step % options.save_every == 0)
        save(run);
    if (unread) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    stage_check(run->stage, status, &error);
    stage_progress(run->stage, (uint64_t)run->trainer.progress.samples,
                   (uint64_t)run->plan.settings.schedule.steps * run->plan.shape.most);
}

/* Ends the run where a record is refused; what was trained is saved first. */
static void check_input(struct run *run, enum status status, const struct error *error)
{
    if (status == STATUS_OK)
        return;
    finish_step(run);
    save(run);
    stage_fail(run->stage, error);
}

/* Begins a step on the full batch. The next batch is collected while the device is at work;
 * a backend that works while the caller waits is done at once. */
static void begin_step(struct run *run)
{
    struct error error;
    const struct clip_batch batch = batch_builder_batch(&run->batch);
    metrics_end_wait(&run->metrics);
    finish_step(run);
    check_input(run, trainer_begin(&run->trainer, &batch, run->batch.last_position, &error),
                &error);
    batch_builder_clear(&run->batch);
    if (run->kernels->idle(run->kernels) || trainer_has_begun_all(&run->trainer)) {
        finish_step(run);
        metrics_see_idle(&run->metrics);
    }
}

static void stop_if_asked(struct run *run)
{
    struct error error;
    if (!stop_signal_arrived(run->signal_fd))
        return;
    finish_step(run);
    save(run);
    error_set(&error, STATUS_RETRY, "stopped by a signal after step %" PRId64,
              run->trainer.optimizer.step);
    error_hint(&error, "go on with shard-reader --start %s and train-step --resume",
               options.out);
    stage_fail(run->stage, &error);
}

static void consume(struct run *run, struct record *record)
{
    struct error error;
    size_t batch, taken;
    check_input(run, record_batch(record, &batch, &error), &error);
    for (size_t from = 0; from < batch && !trainer_done(&run->trainer); from += taken) {
        check_input(run, batch_builder_take(&run->batch, record, from, &taken, &error), &error);
        if (run->batch.count == run->batch.capacity) {
            begin_step(run);
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
    while (more && (!run->begun || !trainer_done(&run->trainer))) {
        enum status status = stage_try_read(run->stage, &record, &more, &error);
        if (status != STATUS_OK) {
            stop_if_asked(run);
            finish_step(run);
            save(run);
            stage_fail(run->stage, &error);
        }
        if (!more)
            break;
        if (!run->begun)
            begin_training(run, &record);
        if (run->trainer.at_work && run->kernels->idle(run->kernels))
            metrics_see_idle(&run->metrics);
        consume(run, &record);
    }
    finish_step(run);
    save(run);
    if (!run->begun && options.resume &&
        run_directory_has_step(options.out, run->plan.settings.schedule.steps)) {
        stage_note(run->stage, "all steps were done before");
        return;
    }
    if (!run->begun || !trainer_done(&run->trainer)) {
        error_set(&error, STATUS_DATA,
                  "the stream ended after %" PRId64 " of %" PRId64 " steps",
                  run->trainer.optimizer.step, run->plan.settings.schedule.steps);
        error_hint(&error, run->trainer.saved_step > 0
                               ? "give shard-reader more --epochs; the checkpoint is saved"
                               : "give shard-reader more --epochs");
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
    signal(SIGPIPE, SIG_IGN); /* until what was trained is saved */
    stage_check(&stage, stop_signal_open(&run.signal_fd, &error), &error);
    begin(&run);
    stage_open_input(&stage);
    reader_stop_on(stage.reader, run.signal_fd);
    train_all(&run);

    batch_builder_free(&run.batch);
    trainer_close(&run.trainer);
    kernels_close(run.kernels);
    train_plan_free(&run.plan);
    metadata_free(&run.given);
    metadata_free(&run.about);
    buffer_free(&run.vocabulary);
    close(run.lock_fd);
    close(run.signal_fd);
    return stage_finish(&stage);
}
