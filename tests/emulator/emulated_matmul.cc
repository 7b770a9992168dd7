/* Matrix products for the emulated backend, in place of the library's: plain loops, sums and
 * epilogues in double, results rounded once. */
#include "kernels/cuda/cuda_matmul.h"
#include "kernels/cuda/device.h"

/* Nothing to keep, but open must give something that is not NULL. */
struct cuda_matmul {
    int unused;
};
static struct cuda_matmul the_only;

enum status cuda_matmul_open(struct cuda_matmul **m, struct error *error)
{
    (void)error;
    *m = &the_only;
    return STATUS_OK;
}

void cuda_matmul_close(struct cuda_matmul *m)
{
    (void)m;
}

static double value_at(const void *from, enum element type, size_t i)
{
    return (double)(type == ELEMENT_BF16 ? to_float(((const bf16 *)from)[i])
                                         : ((const float *)from)[i]);
}

static void put_at(void *to, enum element type, size_t i, double x)
{
    if (type == ELEMENT_BF16)
        from_float((bf16 *)to + i, (float)x);
    else
        ((float *)to)[i] = (float)x;
}

/* f and its slope. */
struct curve {
    double value, slope;
};

/* x s(u(x)), s the sigmoid. */
static struct curve gated(double x, double u, double du)
{
    const double s = 1 / (1 + exp(-u));
    return {x * s, s + x * s * (1 - s) * du};
}

static struct curve curve_at(enum activation kind, double x)
{
    const double tanh_scale = 2 * sqrt(2 / M_PI), normal = erfc(-x * M_SQRT1_2) / 2;
    switch (kind) {
    case ACTIVATION_GELU:
        return {x * normal, normal + x * exp(-x * x / 2) / sqrt(2 * M_PI)};
    case ACTIVATION_GELU_TANH:
        return gated(x, tanh_scale * (x + 0.044715 * x * x * x),
                     tanh_scale * (1 + 3 * 0.044715 * x * x));
    case ACTIVATION_QUICK_GELU:
        break;
    }
    return gated(x, 1.702 * x, 1.702);
}

static double a_at(const struct matmul *args, enum element type, size_t row, size_t i)
{
    return value_at(args->a, type,
                    args->a_transposed ? i * args->rows + row : row * args->inner + i);
}

static double b_at(const struct matmul *args, enum element type, size_t i, size_t column)
{
    return value_at(args->b, type,
                    args->b_transposed ? column * args->inner + i : i * args->columns + column);
}

static void end_product(const struct matmul *args, enum element type, size_t at, double x)
{
    if (args->accumulate) {
        float *out = (float *)args->out + at;
        *out = (float)((double)*out + x);
        return;
    }
    if (args->bias != NULL)
        x += (double)args->bias[at % args->columns];
    if (args->epilogue == EPILOGUE_ACTIVATION_BACKWARD)
        x *= curve_at(args->activation, value_at(args->before, type, at)).slope;
    if (args->epilogue == EPILOGUE_ACTIVATION && args->before != NULL)
        put_at(args->before, type, at, x);
    if (args->epilogue == EPILOGUE_ACTIVATION)
        x = curve_at(args->activation, x).value;
    put_at(args->out, type, at, x);
}

enum status cuda_matmul_run(struct cuda_matmul *m, const struct cuda_queue *q,
                            enum element operands, enum element result,
                            const struct matmul *args, struct error *error)
{
    (void)m;
    (void)error;
    emulator_stream_run((cudaStream_t)q->stream);
    for (size_t row = 0; row < args->rows; row++) {
        double a_sum = 0;
        for (size_t i = 0; i < args->inner; i++)
            a_sum += a_at(args, operands, row, i);
        if (args->accumulate && args->a_sums != NULL)
            args->a_sums[row] = (float)((double)args->a_sums[row] + a_sum);
        for (size_t column = 0; column < args->columns; column++) {
            double sum = 0;
            for (size_t i = 0; i < args->inner; i++)
                sum += a_at(args, operands, row, i) * b_at(args, operands, i, column);
            end_product(args, result, row * args->columns + column, sum);
        }
    }
    return STATUS_OK;
}
