#include "formats/crop.h"

#include <math.h>

enum { DRAWS = 10 };

static double uniform(struct rng *rng, double low, double high)
{
    return low + (high - low) * rng_uniform(rng);
}

struct image_region crop_random(struct rng *rng, size_t width, size_t height,
                                const double scale[2], const double ratio[2])
{
    double area = (double)width * (double)height;
    for (int draw = 0; draw < DRAWS; draw++) {
        double wanted = area * uniform(rng, scale[0], scale[1]);
        double aspect = exp(uniform(rng, log(ratio[0]), log(ratio[1])));
        double w = nearbyint(sqrt(wanted * aspect)), h = nearbyint(sqrt(wanted / aspect));
        if (w < 1 || h < 1 || w > (double)width || h > (double)height)
            continue;
        struct image_region region = {.width = (size_t)w, .height = (size_t)h};
        region.y = (size_t)rng_below(rng, height - region.height + 1);
        region.x = (size_t)rng_below(rng, width - region.width + 1);
        return region;
    }

    struct image_region region = {.width = width, .height = height};
    double aspect = (double)width / (double)height;
    if (aspect < ratio[0])
        region.height = (size_t)nearbyint((double)width / ratio[0]);
    else if (aspect > ratio[1])
        region.width = (size_t)nearbyint((double)height * ratio[1]);
    region.width = region.width < 1 ? 1 : region.width > width ? width : region.width;
    region.height = region.height < 1 ? 1 : region.height > height ? height : region.height;
    region.x = (width - region.width) / 2;
    region.y = (height - region.height) / 2;
    return region;
}

/* (longer - side) / 2, halves to the even neighbour as Python's round() does. */
static size_t middle(size_t longer, size_t side)
{
    return (size_t)nearbyint((double)(longer - side) / 2);
}

struct crop_fit crop_squash(size_t side)
{
    return (struct crop_fit){
        .out_width = side, .out_height = side, .width = side, .height = side};
}

struct crop_fit crop_center(size_t width, size_t height, size_t side)
{
    struct crop_fit fit = crop_squash(side);
    if (width <= height)
        fit.out_height = (size_t)((double)side * (double)height / (double)width);
    else
        fit.out_width = (size_t)((double)side * (double)width / (double)height);
    fit.x = middle(fit.out_width, side);
    fit.y = middle(fit.out_height, side);
    return fit;
}

/* One side of an image whose longer side is `ratio` times the square's. */
static size_t shrink(size_t length, double ratio, size_t side)
{
    double shrunk = nearbyint((double)length / ratio);
    return shrunk < 1 ? 1 : shrunk > (double)side ? side : (size_t)shrunk;
}

struct crop_fit crop_longest(size_t width, size_t height, size_t side)
{
    double ratio = (double)(width > height ? width : height) / (double)side;
    struct crop_fit fit = {.width = shrink(width, ratio, side),
                           .height = shrink(height, ratio, side)};
    fit.out_width = fit.width;
    fit.out_height = fit.height;
    fit.left = (side - fit.width) / 2;
    fit.top = (side - fit.height) / 2;
    return fit;
}
