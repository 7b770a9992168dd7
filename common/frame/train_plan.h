/* train_plan.h - from train-step's options to what the libraries take: the model, the shape of
 * its batches, and the settings of the run. */
#ifndef FRAME_TRAIN_PLAN_H
#define FRAME_TRAIN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "frame/run_facts.h"
#include "model/checkpoint.h"
#include "model/clip.h"
#include "model/config.h"
#include "model/trainer.h"

/* Choices, ended by NULL. */
extern const char *const train_position_names[];
extern const char *const train_recompute_names[];
extern const char *const train_resize_names[];
extern const char *const train_scheduler_names[];

/* The command line; each value as its option's manual says, -1, 0 or NULL: not given. */
struct train_options {
    const char *model, *init, *out, *vocab, *image_mean, *image_std;
    int64_t batch_size, steps, samples, accum_freq, warmup, cooldown_steps, seed;
    int64_t save_every, keep, log_every, threads, force_image_size, force_context_length;
    int64_t lock_image_groups, lock_text_groups;
    double lr, beta1, beta2, eps, wd, grad_clip_norm, cooldown_power, cooldown_end, ema;
    double force_patch_dropout;
    int scheduler, precision, device, pos_embed, wd_policy, recompute, resize_mode;
    bool resume, resume_changed, force_quick_gelu, grad_checkpointing, dry_run;
    bool lock_image, lock_text, lock_text_norms;
};

/* A zeroed struct is empty. */
struct train_plan {
    struct clip_config config; /* owned */
    struct clip_shape shape;   /* kept is 0: the stream says how many patches there are */
    struct trainer_settings settings;
    enum precision precision;
    struct run_facts_colors colors;
    struct checkpoint init; /* owned: whose weights the run starts from; empty without --init */
};

/* Reads the model's file or checkpoint. warning->text says what was passed over in --init, or
 * is empty. STATUS_USAGE for options that contradict each other. */
enum status train_plan_make(struct train_plan *plan, const struct train_options *options,
                            struct error *warning, struct error *error);
void train_plan_free(struct train_plan *plan);

#endif
