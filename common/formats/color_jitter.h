/* color_jitter.h - random changes of colour: what torchvision's ColorJitter and Grayscale do to
 * a PIL image, bit for bit, given the same factors and order.
 *
 * Brightness, contrast and saturation blend the image with black, with the rounded mean of its
 * lightness, and with its lightness: out = base + factor (in - base) in single precision, cut
 * toward zero and clipped. Hue turns the H of eight-bit HSV. Lightness is ITU-R 601's in 16
 * fractional bits.
 * Source: torchvision.transforms.ColorJitter and Grayscale; Pillow's ImageEnhance, and its
 * conversions to L and HSV. CLIPA's recipes: (0.32, 0.32, 0.32, 0.08) with probability 0.8,
 * then gray with probability 0.2. */
#ifndef FORMATS_COLOR_JITTER_H
#define FORMATS_COLOR_JITTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

enum color_step {
    COLOR_BRIGHTNESS,
    COLOR_CONTRAST,
    COLOR_SATURATION,
    COLOR_HUE,
    COLOR_STEPS
};

/* How far the factors stray: brightness, contrast and saturation uniformly within 1 +- amount,
 * not below 0; hue within +- amount of a full turn, amount <= 0.5. 0 leaves a step out. */
struct color_jitter {
    double amount[COLOR_STEPS];
    double probability;      /* that an image is jittered at all */
    double gray_probability; /* that it then becomes gray */
};

/* What one image goes through. A zeroed struct changes nothing. */
struct color_change {
    enum color_step order[COLOR_STEPS]; /* the first `count` are taken */
    int count;
    double factor[COLOR_STEPS]; /* by step, not by place; hue in turns */
    bool gray;                  /* last */
};

/* Whether any image can change. */
bool color_jitter_active(const struct color_jitter *jitter);

/* The order is a random permutation. The number of draws does not depend on the amounts. */
struct color_change color_jitter_draw(const struct color_jitter *jitter, struct rng *rng);

/* Changes rgb[pixels,3] in place. From any thread. */
void color_change_apply(const struct color_change *change, uint8_t *rgb, size_t pixels);

/* For tests. As color_change_apply by instruction set number `variant` of those that this
 * machine has, 0 being the best; false, and nothing done, where there are not so many. */
bool color_change_apply_variant(const struct color_change *change, uint8_t *rgb, size_t pixels,
                                size_t variant);

#endif
