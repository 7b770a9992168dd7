#include "frame/train_plan.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/number.h"

const char *const train_position_names[] = {"model", "learnable", "sin_cos_2d", NULL};
const char *const train_recompute_names[] = {"none", "light", "block", NULL};
const char *const train_resize_names[] = {"model", "shortest", "squash", "longest", NULL};
const char *const train_scheduler_names[] = {"cosine", "const", "const-cooldown", NULL};

/* ---- options that must agree ---- */

static enum status check_options(const struct train_options *o, struct error *error)
{
    if (o->out == NULL && !o->dry_run) {
        error_set(error, STATUS_USAGE, "--out is required");
        return error_hint(error, "train-step --help lists the options");
    }
    if (o->lock_image_groups != 0 && !o->lock_image)
        return error_set(error, STATUS_USAGE,
                         "--lock-image-unlocked-groups needs --lock-image");
    if (o->lock_text_groups != 0 && !o->lock_text)
        return error_set(error, STATUS_USAGE, "--lock-text-unlocked-layers needs --lock-text");
    if (o->grad_checkpointing && o->recompute != RECOMPUTE_NONE &&
        o->recompute != RECOMPUTE_BLOCK)
        return error_set(error, STATUS_USAGE, "--grad-checkpointing is --recompute block");
    if (o->steps != 0 && o->samples != 0)
        return error_set(error, STATUS_USAGE, "--steps and --samples exclude each other");
    if (o->steps == 0 && o->samples == 0)
        return error_set(error, STATUS_USAGE, "--steps or --samples is required");
    if (o->model == NULL && o->init == NULL)
        return error_set(error, STATUS_USAGE, "--model or --init is required");
    return STATUS_OK;
}

static enum status find_steps(const struct train_options *o, int64_t *steps,
                              struct error *error)
{
    int64_t effective = o->batch_size * o->accum_freq;
    *steps = o->steps != 0 ? o->steps : o->samples / effective;
    if (*steps < 1)
        return error_set(error, STATUS_USAGE,
                         "--samples %" PRId64 " is less than a step of %" PRId64, o->samples,
                         effective);
    if (o->warmup >= *steps)
        return error_set(error, STATUS_USAGE, "--warmup %" PRId64 " is not shorter than the "
                                              "run of %" PRId64 " steps",
                         o->warmup, *steps);
    bool cools = o->scheduler == SCHEDULE_CONST_COOLDOWN;
    if (o->cooldown_steps != 0 && !cools)
        return error_set(error, STATUS_USAGE,
                         "--cooldown-steps is for --lr-scheduler const-cooldown");
    if (cools && o->warmup + o->cooldown_steps > *steps)
        return error_set(error, STATUS_USAGE,
                         "--warmup %" PRId64 " and --cooldown-steps %" PRId64 " are longer than "
                         "the run of %" PRId64 " steps",
                         o->warmup, o->cooldown_steps, *steps);
    if (o->cooldown_steps > *steps)
        return error_set(error, STATUS_USAGE, "--cooldown-steps %" PRId64 " is longer than "
                                              "the run of %" PRId64 " steps",
                         o->cooldown_steps, *steps);
    return STATUS_OK;
}

static void settle_run(struct train_plan *plan, const struct train_options *o, int64_t steps)
{
    plan->shape = (struct clip_shape){
        .batch = (size_t)o->batch_size,
        .most = (size_t)(o->batch_size * o->accum_freq),
        .training = true,
        .recompute = o->grad_checkpointing ? RECOMPUTE_BLOCK : (enum recompute)o->recompute,
    };
    plan->precision = (enum precision)o->precision;
    plan->settings = (struct trainer_settings){
        .optimizer = {.beta1 = o->beta1,
                      .beta2 = o->beta2,
                      .eps = o->eps,
                      .weight_decay = o->wd,
                      .decay_policy = (enum decay_policy)o->wd_policy,
                      .clip_norm = o->grad_clip_norm},
        .schedule = {.lr = o->lr,
                     .warmup = o->warmup,
                     .steps = steps,
                     .cooldown_steps = o->cooldown_steps,
                     .cooldown_power = o->cooldown_power,
                     .cooldown_end = o->cooldown_end},
        .freeze = {.image = o->lock_image,
                   .text = o->lock_text,
                   .image_groups = (size_t)o->lock_image_groups,
                   .text_groups = (size_t)o->lock_text_groups},
        .average_decay = o->ema,
    };
    schedule_from_name(train_scheduler_names[o->scheduler], &plan->settings.schedule.kind);
}

/* ---- the model ---- */

/* Three values, above `least`, in place of the configuration's. */
static enum status take_channels(const char *name, const char *text, double least,
                                 double out[3], enum color_source *source, struct error *error)
{
    if (text == NULL)
        return STATUS_OK;
    *source = COLOR_OPTION;
    if (number_parse_list(text, out, 3) && out[0] > least && out[1] > least && out[2] > least)
        return STATUS_OK;
    return error_set(error, STATUS_USAGE, "--%s: '%.60s' is not three numbers R,G,B above %g",
                     name, text, least);
}

/* The model is that of --model, or of the checkpoint that --init names. */
static enum status load_config(struct train_plan *plan, const struct train_options *o,
                               struct error *error)
{
    char path[STEP_PATH_MAX];
    const char *model = o->model;
    const struct clip_overrides overrides = {
        .image_size = (size_t)o->force_image_size,
        .context_length = (size_t)o->force_context_length,
        .quick_gelu = o->force_quick_gelu,
        .patch_dropout = o->force_patch_dropout >= 0 ? &o->force_patch_dropout : NULL,
        .pos_embed_type = o->pos_embed == 0 ? NULL : train_position_names[o->pos_embed],
    };
    if (model == NULL) {
        snprintf(path, sizeof path, "%s/" CHECKPOINT_CONFIG_NAME, plan->init.path);
        model = path;
    }
    enum status status = clip_config_load(&plan->config, model, &overrides, error);
    if (status != STATUS_OK)
        return status;
    struct preprocess_config *p = &plan->config.preprocess;
    if (o->resize_mode != 0)
        snprintf(p->resize_mode, sizeof p->resize_mode, "%s",
                 train_resize_names[o->resize_mode]);
    plan->colors = o->model != NULL ? run_facts_color_sources(p)
                                    : (struct run_facts_colors){COLOR_CONFIG, COLOR_CONFIG};
    status = take_channels("image-mean", o->image_mean, -1e6, p->mean, &plan->colors.mean,
                           error);
    if (status == STATUS_OK)
        status = take_channels("image-std", o->image_std, 0, p->std, &plan->colors.std, error);
    return status;
}

enum status train_plan_make(struct train_plan *plan, const struct train_options *options,
                            struct error *warning, struct error *error)
{
    int64_t steps;
    *plan = (struct train_plan){0};
    warning->text[0] = '\0';
    enum status status = check_options(options, error);
    if (status == STATUS_OK)
        status = find_steps(options, &steps, error);
    if (status != STATUS_OK)
        return status;
    settle_run(plan, options, steps);
    if (options->init != NULL)
        status = checkpoint_open_latest(&plan->init, options->init, warning, error);
    if (status == STATUS_NO_INPUT && options->resume && options->out != NULL) {
        struct error at_init = *error; /* the run itself has what is wanted of it */
        status = checkpoint_open_latest(&plan->init, options->out, warning, error);
        if (status == STATUS_NO_INPUT)
            *error = at_init;
    }
    if (status == STATUS_OK)
        status = load_config(plan, options, error);
    if (status != STATUS_OK)
        train_plan_free(plan);
    return status;
}

void train_plan_free(struct train_plan *plan)
{
    checkpoint_close(&plan->init);
    clip_config_free(&plan->config);
    *plan = (struct train_plan){0};
}
