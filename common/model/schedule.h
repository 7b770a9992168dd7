/* schedule.h - the learning rate, a function of the step and of nothing else, so that a run
 * that stops and resumes continues the same curve. Source: open_clip, scheduler.py. */
#ifndef MODEL_SCHEDULE_H
#define MODEL_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

enum schedule_kind {
    SCHEDULE_COSINE,        /* "cosine": half a cosine down to 0 at `steps` */
    SCHEDULE_CONST,         /* "const" */
    SCHEDULE_CONST_COOLDOWN /* "const-cooldown": constant, then down over the last steps */
};

struct schedule {
    enum schedule_kind kind;
    double lr;              /* the peak */
    int64_t warmup;         /* steps, 0: none */
    int64_t steps;          /* of the whole run, at least 1 */
    int64_t cooldown_steps; /* the last ones; SCHEDULE_CONST_COOLDOWN */
    double cooldown_power;  /* 1: linear */
    double cooldown_end;    /* the learning rate at the end */
};

/* The kind with that name; false if there is none. */
bool schedule_from_name(const char *name, enum schedule_kind *kind);
const char *schedule_name(enum schedule_kind kind);

/* The learning rate of step 0, 1, ...: lr (step + 1) / warmup while step < warmup, then the
 * kind's curve. Steps at or past the end have the curve's last value. */
double schedule_lr(const struct schedule *schedule, int64_t step);

#endif
