/* Matrix products for the emulated backend, in place of the library's: plain loops, sums in
 * double. Products with an even number of columns are ended here, in double and rounded once;
 * the others by the kernels that end those of the library, which read them rounded. */
#include "kernels/cuda/cuda_epilogue.h"
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

/* What is left of `args` when bias and epilogue are taken from it. */
static struct matmul bare_product(const struct matmul *args)
{
    struct matmul bare = *args;
    if (args->epilogue == EPILOGUE_ACTIVATION && args->before != NULL)
        bare.out = args->before;
    bare.bias = NULL;
    bare.before = NULL;
    bare.epilogue = EPILOGUE_NONE;
    return bare;
}

static void end_by_kernels(const struct cuda_queue *q, enum element type,
                           const struct matmul *args, void *product)
{
    const size_t n = args->rows * args->columns;
    if (args->bias != NULL)
        cuda_add_bias(q, type, product, args->bias, args->rows, args->columns);
    if (args->epilogue == EPILOGUE_ACTIVATION)
        cuda_activation_forward(q, type, args->out, product, n, args->activation);
    else if (args->epilogue == EPILOGUE_ACTIVATION_BACKWARD)
        cuda_activation_backward(q, type, args->out, product, args->before, n,
                                 args->activation);
}

static void add_sums(const struct cuda_queue *q, enum element type, const struct matmul *args)
{
    void *parts = NULL;
    if (!args->a_transposed) {
        cuda_sum_columns(q, type, args->a_sums, args->a, args->rows, args->inner);
    } else if (cudaMalloc(&parts, cuda_sum_rows_floats(args->inner, args->rows) *
                                      sizeof(float)) == cudaSuccess) {
        cuda_sum_rows(q, type, args->a_sums, args->a, args->inner, args->rows, args->rows,
                      (float *)parts);
        cudaFree(parts);
    }
}

enum status cuda_matmul_run(struct cuda_matmul *m, const struct cuda_queue *q,
                            enum element operands, enum element result,
                            const struct matmul *args, struct error *error)
{
    const bool by_kernels = args->columns % 2 != 0 && !args->accumulate;
    const struct matmul product = by_kernels ? bare_product(args) : *args;
    (void)m;
    (void)error;
    emulator_stream_run((cudaStream_t)q->stream);
    for (size_t row = 0; row < args->rows; row++)
        for (size_t column = 0; column < args->columns; column++) {
            double sum = 0;
            for (size_t i = 0; i < args->inner; i++)
                sum += a_at(args, operands, row, i) * b_at(args, operands, i, column);
            end_product(&product, result, row * args->columns + column, sum);
        }
    if (by_kernels)
        end_by_kernels(q, result, args, product.out);
    if (args->accumulate && args->a_sums != NULL)
        add_sums(q, operands, args);
    return STATUS_OK;
}
