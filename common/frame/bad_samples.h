/* bad_samples.h - what happens to a sample that cannot be used. It is named, counted and
 * dropped, or it ends the stage; it never disappears silently. */
#ifndef FRAME_BAD_SAMPLES_H
#define FRAME_BAD_SAMPLES_H

#include <stdint.h>

#include "base/error.h"
#include "frame/stage.h"

enum bad_action { BAD_SKIP, BAD_FAIL };

/* Begin with BAD_SAMPLES_DEFAULTS; the two option fields are filled by BAD_SAMPLES_OPTIONS. */
struct bad_samples {
    int action;             /* --on-error, enum bad_action */
    const char *limit_text; /* --max-bad: "N" or "P%" */
    uint64_t count;         /* bad so far */
    double limit;           /* parsed */
    bool limit_is_percent;
};

extern const char *const bad_action_names[];

#define BAD_SAMPLES_DEFAULTS {.action = BAD_SKIP, .limit_text = "5%"}

/* Two entries of an option table. */
#define BAD_SAMPLES_OPTIONS(bad)                                                            \
    {.name = "on-error", .argument = "ACTION", .help = "what a bad sample does",            \
     OPTION_CHOICE(&(bad)->action, bad_action_names)},                                      \
    {.name = "max-bad", .argument = "N|P%", .help = "fail when more samples are bad",       \
     OPTION_TEXT(&(bad)->limit_text)}

/* Parses --max-bad; exits with 64 where it is wrong. Call once after stage_begin. */
void bad_samples_begin(struct bad_samples *bad, struct stage *stage);

/* Takes one bad sample: prints why (the first ten, then every thousandth), counts it in
 * stage->dropped, and fails the stage where the action or the limit says so. `key` (length
 * key_size) names it, or is NULL; `seen` counts the samples so far, bad ones included: a limit
 * in percent applies once 1000 were seen, and at the end. */
void bad_samples_take(struct bad_samples *bad, struct stage *stage, const char *key,
                      size_t key_size, uint64_t seen, const struct error *why);

/* Checks the limit at the end of the stream, before stage_finish. */
void bad_samples_end(struct bad_samples *bad, struct stage *stage, uint64_t seen);

#endif
