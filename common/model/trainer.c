#include "model/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- memory ---- */

static enum status allocate_average(struct trainer *trainer, struct error *error)
{
    struct kernels *k = trainer->kernels;
    size_t bytes = trainer->clip->table.floats * sizeof *trainer->average;
    if (!(trainer->settings.average_decay > 0))
        return STATUS_OK;
    trainer->average = k->allocate(k, bytes);
    if (trainer->average == NULL)
        return error_memory(error, bytes, "the averaged weights");
    k->zero(k, trainer->average, bytes);
    return STATUS_OK;
}

enum status trainer_open(struct trainer *trainer, struct kernels *k,
                         const struct clip_config *config, const struct clip_shape *shape,
                         const struct trainer_settings *settings, struct error *error)
{
    *trainer = (struct trainer){.kernels = k, .settings = *settings};
    struct clip_shape with = *shape;
    with.image_frozen = freeze_whole_image(&settings->freeze);
    with.text_frozen = freeze_whole_text(&settings->freeze);
    enum status status = clip_open(&trainer->clip, k, config, &with, error);
    if (status == STATUS_OK) {
        freeze_apply(&settings->freeze, config, &trainer->clip->table);
        status = optimizer_init(&trainer->optimizer, k, &trainer->clip->table,
                                &settings->optimizer, error);
    }
    if (status == STATUS_OK)
        status = allocate_average(trainer, error);
    if (status != STATUS_OK)
        trainer_close(trainer);
    return status;
}

void trainer_close(struct trainer *trainer)
{
    if (trainer->kernels != NULL)
        trainer->kernels->release(trainer->kernels, trainer->average);
    optimizer_free(&trainer->optimizer);
    clip_close(trainer->clip);
    *trainer = (struct trainer){0};
}

/* ---- the beginning ---- */

/* average = the parameters: from zero, all of the way. */
static void begin_average(struct trainer *trainer)
{
    struct kernels *k = trainer->kernels;
    size_t floats = trainer->clip->table.floats;
    if (trainer->average == NULL)
        return;
    k->zero(k, trainer->average, floats * sizeof *trainer->average);
    k->move_average(k, trainer->average, trainer->clip->parameters, floats, 1);
}

enum status trainer_initialize(struct trainer *trainer, uint64_t seed, struct error *error)
{
    enum status status = clip_initialize(trainer->clip, seed, error);
    if (status == STATUS_OK)
        begin_average(trainer);
    return status;
}

enum status trainer_start_from(struct trainer *trainer, const struct checkpoint *checkpoint,
                               struct error *error)
{
    enum status status = checkpoint_load_resized(checkpoint, trainer->clip, error);
    if (status == STATUS_OK)
        begin_average(trainer);
    return status;
}

enum status trainer_resume(struct trainer *trainer, const struct checkpoint *checkpoint,
                           struct error *error)
{
    enum status status = checkpoint_load_parameters(checkpoint, trainer->clip, error);
    if (status == STATUS_OK)
        status = checkpoint_load_optimizer(checkpoint, &trainer->optimizer, error);
    if (status == STATUS_OK && trainer->average != NULL && checkpoint->has_average)
        status = checkpoint_load_average(checkpoint, trainer->clip, trainer->average, error);
    if (status != STATUS_OK)
        return status;
    if (!checkpoint->has_average)
        begin_average(trainer);
    trainer->progress = checkpoint->progress;
    trainer->saved_step = trainer->optimizer.step;
    return STATUS_OK;
}

/* ---- steps ---- */

bool trainer_done(const struct trainer *trainer)
{
    return trainer->optimizer.step >= trainer->settings.schedule.steps;
}

bool trainer_has_begun_all(const struct trainer *trainer)
{
    return trainer->optimizer.step + trainer->at_work >= trainer->settings.schedule.steps;
}

static void move_average(struct trainer *trainer)
{
    struct kernels *k = trainer->kernels;
    double s = (double)trainer->optimizer.step;
    double decay = fmin(trainer->settings.average_decay, (1 + s) / (10 + s));
    if (trainer->average != NULL)
        k->move_average(k, trainer->average, trainer->clip->parameters,
                        trainer->clip->table.floats, (float)(1 - decay));
}

enum status trainer_begin(struct trainer *trainer, const struct clip_batch *batch,
                          const int64_t position[3], struct error *error)
{
    enum status status = clip_step_begin(trainer->clip, batch, error);
    if (status != STATUS_OK)
        return status;
    trainer->at_work = true;
    trainer->after.samples = trainer->progress.samples + (int64_t)batch->count;
    memcpy(trainer->after.position, position, sizeof trainer->after.position);
    return STATUS_OK;
}

enum status trainer_end(struct trainer *trainer, struct trainer_step *result,
                        struct error *error)
{
    struct clip *clip = trainer->clip;
    *result = (struct trainer_step){.taken = false};
    trainer->at_work = false;
    enum status status = clip_step_end(clip, &result->loss, error);
    if (status != STATUS_OK)
        return status;
    result->norm = optimizer_gradient_norm(&trainer->optimizer, clip->gradients);
    if (!isfinite(result->loss) || !isfinite(result->norm))
        return STATUS_OK;

    result->taken = true;
    result->lr = schedule_lr(&trainer->settings.schedule, trainer->optimizer.step);
    optimizer_step(&trainer->optimizer, clip->parameters, clip->gradients, result->norm,
                   result->lr);
    move_average(trainer);
    trainer->progress = trainer->after;
    return trainer->kernels->check(trainer->kernels, error);
}

enum status trainer_step(struct trainer *trainer, const struct clip_batch *batch,
                         const int64_t position[3], struct trainer_step *result,
                         struct error *error)
{
    enum status status = trainer_begin(trainer, batch, position, error);
    return status == STATUS_OK ? trainer_end(trainer, result, error) : status;
}

enum status trainer_name_samples(const struct trainer *trainer,
                                 const struct batch_builder *batch,
                                 const struct trainer_step *result, const char *out,
                                 struct error *error)
{
    struct error io_error;
    char path[STEP_PATH_MAX], keys[160];
    int64_t step = trainer->optimizer.step + 1;
    snprintf(path, sizeof path, "%s/step-%08" PRId64 ".bad-keys.txt", out, step);
    enum status written = batch_builder_write_keys(batch, path, keys, sizeof keys, &io_error);
    error_set(error, STATUS_DATA,
              "step %" PRId64 ": loss is %g and the gradient's norm %g; samples%s of a batch "
              "of %zu",
              step, (double)result->loss, result->norm,
              keys[0] == '\0' ? " without keys" : keys, batch->given_count);
    if (written == STATUS_OK)
        error_hint(error, "all keys of the batch are in %s; the last checkpoint is untouched",
                   path);
    return STATUS_DATA;
}

enum status trainer_save(struct trainer *trainer, const char *out,
                         const struct trainer_notes *notes, int keep, struct error *error)
{
    if (trainer->saved_step == trainer->optimizer.step)
        return STATUS_OK;
    const struct checkpoint_source source = {
        .clip = trainer->clip,
        .optimizer = &trainer->optimizer,
        .average = trainer->average,
        .progress = trainer->progress,
        .settings = notes->settings,
        .about = notes->about,
        .vocab = notes->vocab,
        .vocab_size = notes->vocab_size,
    };
    enum status status = checkpoint_save(out, &source, keep, error);
    if (status == STATUS_OK)
        trainer->saved_step = trainer->optimizer.step;
    return status;
}
