#include "model/positional.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

/* weights[new,old]: row i says what output i takes from each input. Inputs beyond the border
 * are left out and the rest weighs as much as all. */
static void fill_weights(double *weights, size_t new, size_t old)
{
    double scale = (double)old / (double)new;
    double stretch = scale > 1 ? scale : 1;
    for (size_t i = 0; i < new; i++) {
        double *row = weights + i * old, sum = 0;
        double centre = scale * ((double)i + 0.5);
        for (size_t j = 0; j < old; j++) {
            row[j] = cubic(((double)j + 0.5 - centre) / stretch);
            sum += row[j];
        }
        for (size_t j = 0; j < old; j++)
            row[j] /= sum;
    }
}

/* out[outer,new,inner] = weights applied to the middle dimension of in[outer,old,inner]. */
static void apply_weights(float *out, const float *in, const double *weights, size_t outer,
                          size_t new, size_t old, size_t inner)
{
    for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < new; i++)
            for (size_t c = 0; c < inner; c++) {
                double sum = 0;
                for (size_t j = 0; j < old; j++)
                    if (weights[i * old + j] != 0)
                        sum += weights[i * old + j] * (double)in[(o * old + j) * inner + c];
                out[(o * new + i) * inner + c] = (float)sum;
            }
}

enum status positional_resize_image(float *out, size_t new_grid, const float *in,
                                    size_t old_grid, size_t C, struct error *error)
{
    size_t cells, floats;
    if (!size_multiply(new_grid, old_grid, &cells) || !size_multiply(cells, C, &floats))
        return error_memory(error, SIZE_MAX, "positional embeddings");
    double *weights = calloc(cells, sizeof *weights);
    float *columns = calloc(floats, sizeof *columns); /* [new_grid,old_grid,C] */
    enum status status = STATUS_OK;
    if (weights == NULL || columns == NULL) {
        status = error_memory(error, floats * sizeof *columns, "positional embeddings");
    } else {
        fill_weights(weights, new_grid, old_grid);
        memcpy(out, in, C * sizeof *out);
        apply_weights(columns, in + C, weights, 1, new_grid, old_grid, old_grid * C);
        apply_weights(out + C, columns, weights, new_grid, new_grid, old_grid, C);
    }
    free(weights);
    free(columns);
    return status;
}

void positional_resize_text(float *out, size_t new_length, const float *in, size_t old_length,
                            size_t C)
{
    double scale = (double)old_length / (double)new_length;
    for (size_t i = 0; i < new_length; i++) {
        double place = fmax(scale * ((double)i + 0.5) - 0.5, 0);
        size_t low = (size_t)place;
        size_t high = low + 1 < old_length ? low + 1 : low;
        double part = place - (double)low;
        for (size_t c = 0; c < C; c++)
            out[i * C + c] = (float)((1 - part) * (double)in[low * C + c] +
                                     part * (double)in[high * C + c]);
    }
}

void positional_sin_cos(float *out, size_t patches, size_t C)
{
    size_t grid = (size_t)(sqrt((double)patches) + 0.5), n = C / 4;
    memset(out, 0, C * sizeof *out);
    for (size_t patch = 0; patch < patches; patch++) {
        float *row = out + (1 + patch) * C;
        double x = (double)(patch % grid), y = (double)(patch / grid);
        for (size_t k = 0; k < n; k++) {
            double w = pow(10000, -(double)k / (double)n);
            row[k] = (float)sin(x * w);
            row[n + k] = (float)cos(x * w);
            row[2 * n + k] = (float)sin(y * w);
            row[3 * n + k] = (float)cos(y * w);
        }
    }
}
