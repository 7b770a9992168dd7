/* scene.h - pictures of one coloured shape, with a caption: a data set that needs no download.
 *
 * Scene i of a split is a function of (seed, split, i). The background, a few grey blobs and
 * lines, the place, size and angle of the shape are random; the caption says only what is true.
 * Six of the 64 pairs of shape and colour are left out of the training split, so that a model
 * can be asked for a pair whose parts it knows. */
#ifndef FORMATS_SCENE_H
#define FORMATS_SCENE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SCENE_SHAPES = 8,
    SCENE_COLORS = 8,
    SCENE_CLASSES = SCENE_SHAPES * SCENE_COLORS,
    SCENE_UNSEEN = 6,
    SCENE_SIDE_MIN = 16,
    SCENE_SIDE_MAX = 4096,
};

enum scene_split { SCENE_TRAIN, SCENE_TEST };
enum scene_size { SCENE_SMALL, SCENE_MEDIUM, SCENE_LARGE };

struct scene {
    int shape, color; /* shape * SCENE_COLORS + color is the class */
    enum scene_size size;
    int column, row;  /* 0 left or top, 1 middle, 2 right or bottom */
    double x, y;      /* centre, as a part of the side, y down */
    double radius;    /* of the circle around the shape, as a part of the side */
    double angle;     /* in radians */
    uint8_t rgb[3];   /* of the shape, near its named colour */
    int quality;      /* that the picture should be encoded with, 75 to 95 */
    char caption[128];
};

/* Draws the scene into pixels, U8 [side,side,3]. SCENE_SIDE_MIN <= side <= SCENE_SIDE_MAX. A
 * training scene is of any class that is not unseen, with equal chances; test scene i is of
 * class i % SCENE_CLASSES. Any thread. */
void scene_draw(struct scene *scene, uint64_t seed, enum scene_split split, uint64_t index,
                int side, uint8_t *pixels);

/* The place of a pixel well inside the shape, which the middle of a ring is not. */
void scene_shape_pixel(const struct scene *scene, int side, int *x, int *y);

/* "red circle"; at most 31 bytes and a zero. */
void scene_class_name(int label, char name[32]);

/* Whether training scenes never show this class. */
bool scene_is_unseen(int label);

const char *scene_shape_name(int shape);
const char *scene_color_name(int color);
const uint8_t *scene_color_rgb(int color); /* [3] */

#endif
