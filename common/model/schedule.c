#include "model/schedule.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

static const char *const names[] = {
    [SCHEDULE_COSINE] = "cosine",
    [SCHEDULE_CONST] = "const",
    [SCHEDULE_CONST_COOLDOWN] = "const-cooldown",
};

bool schedule_from_name(const char *name, enum schedule_kind *kind)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) {
            *kind = (enum schedule_kind)i;
            return true;
        }
    return false;
}

const char *schedule_name(enum schedule_kind kind)
{
    return names[kind];
}

/* How far `step` is on the way from `begin` to `end`, in [0,1]. */
static double progress(int64_t step, int64_t begin, int64_t end)
{
    if (step >= end)
        return 1;
    return step <= begin ? 0 : (double)(step - begin) / (double)(end - begin);
}

double schedule_lr(const struct schedule *schedule, int64_t step)
{
    const struct schedule *s = schedule;
    if (step < s->warmup)
        return s->lr * (double)(step + 1) / (double)s->warmup;
    switch (s->kind) {
    case SCHEDULE_COSINE:
        return s->lr * 0.5 * (1 + cos(pi * progress(step, s->warmup, s->steps)));
    case SCHEDULE_CONST:
        return s->lr;
    case SCHEDULE_CONST_COOLDOWN: {
        double done = progress(step, s->steps - s->cooldown_steps, s->steps);
        return s->cooldown_end + (s->lr - s->cooldown_end) * pow(1 - done, s->cooldown_power);
    }
    }
    return s->lr;
}
