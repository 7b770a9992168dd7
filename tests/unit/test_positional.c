/* test_positional.c - resized positional embeddings against what torch's interpolate gives
 * (bicubic with antialias, and linear) for in[i] = sin(0.9 i) with two channels. */
#include <math.h>

#include "model/positional.h"
#include "tests/unit/check.h"

enum { C = 2 };

static void fill(float *in, size_t count)
{
    for (size_t i = 0; i < count; i++)
        in[i] = (float)sin(0.9 * (double)i);
}

/* `expected` is the second channel of every row. */
static void check_image(size_t old_grid, size_t new_grid, const double *expected)
{
    float in[(1 + 25) * C], out[(1 + 9) * C];
    struct error error = {0};
    fill(in, (1 + old_grid * old_grid) * C);
    CHECK(positional_resize_image(out, new_grid, in, old_grid, C, &error) == STATUS_OK, "%s",
          error.text);
    for (size_t i = 0; i < 1 + new_grid * new_grid; i++)
        CHECK_NEAR((double)out[i * C + 1], expected[i], 1e-6, "%zu to %zu, row %zu", old_grid,
                   new_grid, i);
}

static void check_text(size_t old_length, size_t new_length, const double *expected)
{
    float in[5 * C], out[5 * C];
    fill(in, old_length * C);
    positional_resize_text(out, new_length, in, old_length, C);
    for (size_t i = 0; i < new_length; i++)
        CHECK_NEAR((double)out[i * C + 1], expected[i], 1e-6, "%zu to %zu, row %zu", old_length,
                   new_length, i);
}

static void test_same_size(void)
{
    float in[10 * C], out[10 * C];
    struct error error = {0};
    fill(in, 10 * C);
    CHECK(positional_resize_image(out, 3, in, 3, C, &error) == STATUS_OK, "%s", error.text);
    CHECK(memcmp(in, out, sizeof in) == 0, "the same grid");
    positional_resize_text(out, 10, in, 10, C);
    CHECK(memcmp(in, out, sizeof in) == 0, "the same length");
}

int main(void)
{
    static const double grow[] = {0.7833269,  0.5570251,  -0.3256295, -1.2082841, 0.2369599,
                                  0.1091384,  -0.0186831, -0.0831053, 0.5439063,  1.1709179};
    static const double shrink[] = {0.7833269, -0.1354308, 0.0844731, -0.0595201, 0.02651,
                                    -0.032937, 0.0495035,  0.1402585, -0.0904713, 0.0685351};
    static const double stretch[] = {0.7833269, 0.7477322, 0.6053534, 0.4629746, 0.4273799};
    static const double squeeze[] = {0.6646779, -0.9775301, 0.6521978};
    check_image(2, 3, grow);
    check_image(5, 3, shrink);
    check_text(2, 5, stretch);
    check_text(5, 3, squeeze);
    test_same_size();
    return check_report("test_positional");
}
