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

struct center_crop crop_center(size_t width, size_t height, size_t side)
{
    struct center_crop crop = {.out_width = side, .out_height = side};
    if (width <= height)
        crop.out_height = (size_t)((double)side * (double)height / (double)width);
    else
        crop.out_width = (size_t)((double)side * (double)width / (double)height);
    crop.x = middle(crop.out_width, side);
    crop.y = middle(crop.out_height, side);
    return crop;
}
