/* Fills struct kernels with the CUDA operations: one stream, and the first failure on it. */
#include "kernels/cuda/cuda_backend.h"

#include <stdlib.h>

#include "kernels/cuda/cuda_matmul.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"

struct cuda {
    struct kernels kernels; /* first, so that k points to the whole */
    struct cuda_queue queue;
    cudaStream_t stream;
    struct cuda_memory memory;
    struct cuda_matmul *matmuls;
    double *sum; /* one double on the device */
    struct error failure; /* the first since the last check; status 0 where there is none */
};

static struct cuda *cuda_of(struct kernels *k)
{
    return (struct cuda *)k->state;
}

static const struct cuda_queue *queue_of(struct kernels *k)
{
    return &cuda_of(k)->queue;
}

/* The type of activations: here alone a precision becomes one. */
static enum element element_of(const struct kernels *k)
{
    return k->precision == PRECISION_AMP_BF16 ? ELEMENT_BF16 : ELEMENT_FLOAT;
}

const struct cuda_queue *cuda_backend_queue(const struct kernels *k)
{
    return &((const struct cuda *)k->state)->queue;
}

/* ---- failures ---- */

/* Remembers a failure, unless an earlier one is still unread. */
static void failed(struct cuda *cuda, const struct error *error)
{
    if (cuda->failure.status == STATUS_OK)
        cuda->failure = *error;
}

/* What a call of the runtime says. */
static void answered(struct cuda *cuda, cudaError_t result, const char *what)
{
    struct error error;
    if (result == cudaSuccess)
        return;
    error_set(&error, STATUS_SYSTEM, "%s on the device: %s", what, cudaGetErrorString(result));
    failed(cuda, &error);
}

/* After each operation: a launch that was refused. */
static void launched(struct kernels *k, const char *what)
{
    answered(cuda_of(k), cudaGetLastError(), what);
}

static void refused(struct kernels *k, const char *what, size_t size)
{
    struct error error;
    error_set(&error, STATUS_UNAVAILABLE, "%s: the cuda backend has no kernel for %zu", what,
              size);
    failed(cuda_of(k), &error);
}

static void cuda_close(struct kernels *k)
{
    struct cuda *cuda = cuda_of(k);
    if (cuda->stream != NULL)
        cudaStreamSynchronize(cuda->stream);
    cuda_memory_close(&cuda->memory);
    cuda_matmul_close(cuda->matmuls);
    cudaFree(cuda->sum);
    if (cuda->stream != NULL)
        cudaStreamDestroy(cuda->stream);
    free(cuda);
}

/* What failed is done, too; check says so. */
static bool cuda_idle(struct kernels *k)
{
    return cudaStreamQuery(cuda_of(k)->stream) != cudaErrorNotReady;
}

static enum status cuda_check(struct kernels *k, struct error *error)
{
    struct cuda *cuda = cuda_of(k);
    answered(cuda, cudaStreamSynchronize(cuda->stream), "an operation");
    const enum status status = cuda->failure.status;
    if (status != STATUS_OK)
        *error = cuda->failure;
    cuda->failure.status = STATUS_OK;
    return status;
}

/* ---- memory ---- */

static void *allocate(struct kernels *k, size_t bytes)
{
    (void)k;
    return cuda_memory_allocate(bytes);
}

static void release(struct kernels *k, void *memory)
{
    answered(cuda_of(k), cudaFree(memory), "freeing memory");
}

static void upload(struct kernels *k, void *to_device, const void *from_host, size_t bytes)
{
    struct cuda *cuda = cuda_of(k);
    answered(cuda, cuda_memory_upload(&cuda->memory, to_device, from_host, bytes), "a copy");
}

static void download(struct kernels *k, void *to_host, const void *from_device, size_t bytes)
{
    struct cuda *cuda = cuda_of(k);
    answered(cuda, cuda_memory_download(&cuda->memory, to_host, from_device, bytes), "a copy");
}

static void zero(struct kernels *k, void *memory, size_t bytes)
{
    struct cuda *cuda = cuda_of(k);
    answered(cuda, cuda_memory_zero(&cuda->memory, memory, bytes), "zeroing");
}

/* NULL, remembered as a failure, where memory is refused. */
static void *scratch(struct kernels *k, size_t count, size_t element_bytes)
{
    struct cuda *cuda = cuda_of(k);
    struct error error;
    void *piece = cuda_memory_scratch(&cuda->memory, count, element_bytes, &error);
    if (piece == NULL)
        failed(cuda, &error);
    return piece;
}

static float *scratch_floats(struct kernels *k, size_t count)
{
    return (float *)scratch(k, count, sizeof(float));
}

/* ---- operations, in the order of kernels.h ---- */

static void round_values(struct kernels *k, void *out, const float *in, size_t n)
{
    cuda_convert(queue_of(k), element_of(k), out, ELEMENT_FLOAT, in, n);
    launched(k, "round");
}

/* A product whose sums are empty: what the bias and the epilogue make of zeros. */
static void multiply_nothing(struct kernels *k, enum element type, const struct matmul *args)
{
    const struct cuda_queue *q = queue_of(k);
    if (args->accumulate)
        return;
    cuda_fill_rows(q, type, args->out, args->bias, args->rows, args->columns);
    if (args->epilogue != EPILOGUE_ACTIVATION)
        return;
    if (args->before != NULL)
        cuda_fill_rows(q, type, args->before, args->bias, args->rows, args->columns);
    cuda_activation_forward(q, type, args->out, args->out, args->rows * args->columns,
                            args->activation);
}

static void multiply_as(struct kernels *k, enum element type, const struct matmul *args)
{
    struct cuda *cuda = cuda_of(k);
    struct error error;
    if (args->rows == 0 || args->columns == 0)
        return;
    if (args->inner == 0)
        multiply_nothing(k, type, args);
    else if (cuda_matmul_run(cuda->matmuls, queue_of(k), type, type, args, &error) != STATUS_OK)
        failed(cuda, &error);
    launched(k, "matmul");
}

static void multiply(struct kernels *k, const struct matmul *args)
{
    multiply_as(k, element_of(k), args);
}

static void sum_rows(struct kernels *k, float *out, const void *in, size_t N, size_t C)
{
    float *s = scratch_floats(k, cuda_sum_rows_floats(N, C));
    if (s != NULL)
        cuda_sum_rows(queue_of(k), element_of(k), out, in, N, C, C, s);
    launched(k, "sum_rows");
}

static void add(struct kernels *k, void *out, const void *a, const void *b, size_t n)
{
    cuda_add(queue_of(k), element_of(k), out, a, b, n);
    launched(k, "add");
}

static void activation_forward(struct kernels *k, void *out, const void *in, size_t n,
                               enum activation kind)
{
    cuda_activation_forward(queue_of(k), element_of(k), out, in, n, kind);
    launched(k, "activation_forward");
}

static void activation_backward(struct kernels *k, void *din, const void *dout,
                                const void *in, size_t n, enum activation kind)
{
    cuda_activation_backward(queue_of(k), element_of(k), din, dout, in, n, kind);
    launched(k, "activation_backward");
}

static void layer_scale_forward(struct kernels *k, void *out, const void *in,
                                const float *gamma, size_t N, size_t C)
{
    cuda_scale_columns(queue_of(k), element_of(k), out, in, gamma, N, C);
    launched(k, "layer_scale_forward");
}

static void layer_scale_backward(struct kernels *k, void *din, float *dgamma,
                                 const void *dout, const void *in, const float *gamma,
                                 size_t N, size_t C)
{
    float *s = scratch_floats(k, cuda_sum_rows_floats(N, C));
    if (s != NULL)
        cuda_sum_products(queue_of(k), element_of(k), dgamma, dout, in, N, C, s);
    cuda_scale_columns(queue_of(k), element_of(k), din, dout, gamma, N, C);
    launched(k, "layer_scale_backward");
}

static void residual_norm_forward(struct kernels *k, void *residual_out, void *normed,
                                  float *mean, float *rstd, const void *residual,
                                  const void *delta, const float *gamma, const float *beta,
                                  size_t N, size_t C, float eps)
{
    if (!cuda_residual_norm_forward(queue_of(k), element_of(k), residual_out, normed, mean,
                                    rstd, residual, delta, gamma, beta, N, C, eps))
        refused(k, "residual_norm_forward", C);
    launched(k, "residual_norm_forward");
}

static void norm_backward(struct kernels *k, void *dresidual, float *dgamma, float *dbeta,
                          const void *dnormed, const void *residual, const float *mean,
                          const float *rstd, const float *gamma, size_t N, size_t C)
{
    float *s = scratch_floats(k, cuda_norm_backward_floats(N, C));
    if (s != NULL && !cuda_norm_backward(queue_of(k), element_of(k), dresidual, dgamma, dbeta,
                                         dnormed, residual, mean, rstd, gamma, N, C, s))
        refused(k, "norm_backward", C);
    launched(k, "norm_backward");
}

/* bf16 by matrix instructions where they serve, or else, and fp32 always, the plain way. */
static void attention_forward(struct kernels *k, void *out, float *lse, const void *qkv,
                              const struct attention *shape)
{
    const enum element type = element_of(k);
    const bool done = type == ELEMENT_BF16 &&
                      cuda_attention_forward_mma(queue_of(k), (bf16 *)out, lse,
                                                 (const bf16 *)qkv, shape);
    if (!done && !cuda_attention_forward(queue_of(k), type, out, lse, qkv, shape))
        refused(k, "attention_forward", shape->D);
    launched(k, "attention_forward");
}

static void attention_backward(struct kernels *k, void *dqkv, const void *dout, const void *qkv,
                               const void *out, const float *lse, const struct attention *shape)
{
    const enum element type = element_of(k);
    bool done = type == ELEMENT_BF16 &&
                cuda_attention_backward_mma(queue_of(k), (bf16 *)dqkv, (const bf16 *)dout,
                                            (const bf16 *)qkv, (const bf16 *)out, lse, shape);
    if (!done) {
        float *s = scratch_floats(k, cuda_attention_backward_floats(shape));
        done = s == NULL /* remembered */ ||
               cuda_attention_backward(queue_of(k), type, dqkv, dout, qkv, out, lse, shape, s);
    }
    if (!done)
        refused(k, "attention_backward", shape->D);
    launched(k, "attention_backward");
}

static void unpack_patches(struct kernels *k, void *out, const uint8_t *in, size_t N, size_t P,
                           const float mean[3], const float std[3])
{
    cuda_unpack_patches(queue_of(k), element_of(k), out, in, N, P, mean, std);
    launched(k, "unpack_patches");
}

static void embed_patches_forward(struct kernels *k, void *out, const void *features,
                                  const int32_t *position, const float *class_embedding,
                                  const float *positional, size_t B, size_t K, size_t C)
{
    cuda_embed_patches_forward(queue_of(k), element_of(k), out, features, position,
                               class_embedding, positional, B, K, C);
    launched(k, "embed_patches_forward");
}

static void embed_patches_backward(struct kernels *k, void *dfeatures, float *dclass_embedding,
                                   float *dpositional, const void *dout,
                                   const int32_t *position, size_t B, size_t K, size_t C)
{
    float *s = scratch_floats(k, cuda_embed_patches_backward_floats(B, K, C));
    if (s != NULL)
        cuda_embed_patches_backward(queue_of(k), element_of(k), dfeatures, dclass_embedding,
                                    dpositional, dout, position, B, K, C, s);
    launched(k, "embed_patches_backward");
}

static void embed_tokens_forward(struct kernels *k, void *out, const int32_t *tokens,
                                 const float *table, const float *positional, size_t B,
                                 size_t T, size_t C)
{
    cuda_embed_tokens_forward(queue_of(k), element_of(k), out, tokens, table, positional, B, T,
                              C);
    launched(k, "embed_tokens_forward");
}

static void embed_tokens_backward(struct kernels *k, float *dtable, float *dpositional,
                                  const void *dout, const int32_t *tokens, size_t B, size_t T,
                                  size_t C)
{
    float *s = scratch_floats(k, cuda_embed_tokens_backward_floats(B, T, C));
    if (s != NULL)
        cuda_embed_tokens_backward(queue_of(k), element_of(k), dtable, dpositional, dout,
                                   tokens, B, T, C, s);
    launched(k, "embed_tokens_backward");
}

static void pick_token_forward(struct kernels *k, void *out, const void *in,
                               const int32_t *row, size_t B, size_t T, size_t C)
{
    cuda_pick_token_forward(queue_of(k), element_of(k), out, in, row, B, T, C);
    launched(k, "pick_token_forward");
}

static void pick_token_backward(struct kernels *k, void *din, const void *dout,
                                const int32_t *row, size_t B, size_t T, size_t C)
{
    cuda_pick_token_backward(queue_of(k), element_of(k), din, dout, row, B, T, C);
    launched(k, "pick_token_backward");
}

static void mean_tokens_forward(struct kernels *k, void *out, const void *in, size_t B,
                                size_t T, size_t C, size_t first)
{
    cuda_mean_tokens_forward(queue_of(k), element_of(k), out, in, B, T, C, first);
    launched(k, "mean_tokens_forward");
}

static void mean_tokens_backward(struct kernels *k, void *din, const void *dout, size_t B,
                                 size_t T, size_t C, size_t first)
{
    cuda_mean_tokens_backward(queue_of(k), element_of(k), din, dout, B, T, C, first);
    launched(k, "mean_tokens_backward");
}

static void normalize_forward(struct kernels *k, float *out, float *inverse, const void *in,
                              size_t N, size_t E)
{
    cuda_normalize_forward(queue_of(k), element_of(k), out, inverse, in, N, E);
    launched(k, "normalize_forward");
}

static void normalize_backward(struct kernels *k, void *din, const float *dout,
                               const float *out, const float *inverse, size_t N, size_t E)
{
    cuda_normalize_backward(queue_of(k), element_of(k), din, dout, out, inverse, N, E);
    launched(k, "normalize_backward");
}

/* ---- the loss: tiles of dot products, made and used by matrix products ---- */

struct loss {
    struct kernels *k;
    struct cuda_loss parts;
    float *dots; /* [tile_rows, tile_columns] */
    const float *image, *text;
    size_t B, E, tile_rows, tile_columns;
};

static size_t at_most(size_t n, size_t most)
{
    return n < most ? n : most;
}

/* Lays everything out in one piece of scratch: the tile, then what is kept for each row. */
static bool loss_allocate(struct loss *l)
{
    const size_t B = l->B, part = (size_t)cuda_loss_slices * cuda_loss_tile_columns;
    l->tile_rows = at_most(B, cuda_loss_tile_rows);
    l->tile_columns = at_most(B, cuda_loss_tile_columns);
    if (B > SIZE_MAX / 64) {
        refused(l->k, "contrastive_loss", B);
        return false;
    }
    const size_t tile = l->tile_rows * l->tile_columns;
    float *at = scratch_floats(l->k, tile + 2 * part + 6 * B);
    if (at == NULL)
        return false;
    l->dots = at;
    l->parts.column_max_part = at + tile;
    l->parts.column_sum_part = at + tile + part;
    at += tile + 2 * part;
    l->parts.row_max = at;
    l->parts.row_sum = at + B;
    l->parts.column_max = at + 2 * B;
    l->parts.column_sum = at + 3 * B;
    l->parts.diagonal = at + 4 * B;
    l->parts.row_dscale = at + 5 * B;
    l->parts.B = B;
    return true;
}

static struct cuda_loss_tile loss_tile_at(const struct loss *l, size_t row, size_t column)
{
    struct cuda_loss_tile tile;
    tile.dots = l->dots;
    tile.row = row;
    tile.column = column;
    tile.rows = at_most(l->B - row, l->tile_rows);
    tile.columns = at_most(l->B - column, l->tile_columns);
    struct matmul product = {};
    product.rows = tile.rows;
    product.columns = tile.columns;
    product.inner = l->E;
    product.a = l->image + row * l->E;
    product.b = l->text + column * l->E;
    product.b_transposed = true;
    product.out = tile.dots;
    multiply_as(l->k, ELEMENT_FLOAT, &product);
    return tile;
}

/* out[rows,E] = or += tile (transposed or not) times other[..,E]. */
static void loss_gradient(const struct loss *l, const struct cuda_loss_tile *tile,
                          bool transposed, const float *other, float *out, bool accumulate)
{
    struct matmul product = {};
    product.rows = transposed ? tile->columns : tile->rows;
    product.inner = transposed ? tile->rows : tile->columns;
    product.columns = l->E;
    product.a = tile->dots;
    product.a_transposed = transposed;
    product.b = other;
    product.out = out;
    product.accumulate = accumulate;
    multiply_as(l->k, ELEMENT_FLOAT, &product);
}

static void contrastive_loss(struct kernels *k, float *loss_out, float *dimage, float *dtext,
                             float *dlogit_scale, const float *image, const float *text,
                             const float *logit_scale, size_t B, size_t E)
{
    const struct cuda_queue *q = queue_of(k);
    struct loss l = {};
    l.k = k;
    l.image = image;
    l.text = text;
    l.B = B;
    l.E = E;
    l.parts.logit_scale = logit_scale;
    if (B == 0 || !loss_allocate(&l))
        return;
    cuda_loss_begin(q, &l.parts);
    for (size_t row = 0; row < B; row += l.tile_rows)
        for (size_t column = 0; column < B; column += l.tile_columns) {
            const struct cuda_loss_tile tile = loss_tile_at(&l, row, column);
            cuda_loss_forward(q, &l.parts, &tile);
        }
    cuda_loss_end(q, &l.parts, loss_out);
    for (size_t row = 0; row < B && dimage != NULL; row += l.tile_rows)
        for (size_t column = 0; column < B; column += l.tile_columns) {
            const struct cuda_loss_tile tile = loss_tile_at(&l, row, column);
            cuda_loss_backward(q, &l.parts, &tile);
            loss_gradient(&l, &tile, false, text + column * E, dimage + row * E, column > 0);
            loss_gradient(&l, &tile, true, image + row * E, dtext + column * E, row > 0);
        }
    if (dimage != NULL)
        cuda_loss_scale(q, &l.parts, dlogit_scale);
    launched(k, "contrastive_loss");
}

/* ---- optimiser ---- */

static void adamw_step(struct kernels *k, float *parameter, float *m, float *v,
                       const float *gradient, size_t n, const struct adamw *args)
{
    cuda_adamw(queue_of(k), parameter, m, v, gradient, n, args);
    launched(k, "adamw");
}

static double sum_squares(struct kernels *k, const float *in, size_t n)
{
    double sum = NAN;
    double *s = (double *)scratch(k, cuda_sum_squares_doubles(n), sizeof(double));
    if (s == NULL)
        return sum;
    cuda_sum_squares(queue_of(k), cuda_of(k)->sum, in, n, s);
    launched(k, "sum_squares");
    download(k, &sum, cuda_of(k)->sum, sizeof sum);
    return sum;
}

static void clamp(struct kernels *k, float *value, size_t n, float low, float high)
{
    cuda_clamp(queue_of(k), value, n, low, high);
    launched(k, "clamp");
}

static void move_average(struct kernels *k, float *average, const float *value, size_t n,
                         float weight)
{
    cuda_move_average(queue_of(k), average, value, n, weight);
    launched(k, "move_average");
}

static void fill_operations(struct kernels *k)
{
    k->name = "cuda";
    k->close = cuda_close;
    k->check = cuda_check;
    k->idle = cuda_idle;
    k->allocate = allocate;
    k->release = release;
    k->upload = upload;
    k->download = download;
    k->zero = zero;
    k->round = round_values;
    k->matmul = multiply;
    k->sum_rows = sum_rows;
    k->add = add;
    k->activation_forward = activation_forward;
    k->activation_backward = activation_backward;
    k->layer_scale_forward = layer_scale_forward;
    k->layer_scale_backward = layer_scale_backward;
    k->residual_norm_forward = residual_norm_forward;
    k->norm_backward = norm_backward;
    k->attention_forward = attention_forward;
    k->attention_backward = attention_backward;
    k->unpack_patches = unpack_patches;
    k->embed_patches_forward = embed_patches_forward;
    k->embed_patches_backward = embed_patches_backward;
    k->embed_tokens_forward = embed_tokens_forward;
    k->embed_tokens_backward = embed_tokens_backward;
    k->pick_token_forward = pick_token_forward;
    k->pick_token_backward = pick_token_backward;
    k->mean_tokens_forward = mean_tokens_forward;
    k->mean_tokens_backward = mean_tokens_backward;
    k->normalize_forward = normalize_forward;
    k->normalize_backward = normalize_backward;
    k->contrastive_loss = contrastive_loss;
    k->adamw = adamw_step;
    k->sum_squares = sum_squares;
    k->clamp = clamp;
    k->move_average = move_average;
}

/* ---- opening ---- */

static enum status open_device(struct cuda *cuda, struct error *error)
{
    int count = 0, shared_bytes = 0, major = 0;
    cudaError_t result = cudaGetDeviceCount(&count);
    if (result == cudaErrorInsufficientDriver) /* said of no driver at all, too */
        return error_set(error, STATUS_UNAVAILABLE, "no cuda driver, or one that is too old");
    if (result != cudaSuccess || count == 0)
        return error_set(error, STATUS_UNAVAILABLE, "no cuda device: %s",
                         result == cudaSuccess ? "none is visible"
                                               : cudaGetErrorString(result));
    if (cudaSetDevice(0) != cudaSuccess ||
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) != cudaSuccess ||
        cudaDeviceGetAttribute(&cuda->queue.multiprocessors, cudaDevAttrMultiProcessorCount,
                               0) != cudaSuccess ||
        cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) !=
            cudaSuccess)
        return error_set(error, STATUS_UNAVAILABLE, "cuda device 0 does not answer: %s",
                         cudaGetErrorString(cudaGetLastError()));
    if (major < 8)
        return error_set(error, STATUS_UNAVAILABLE,
                         "cuda device 0 has compute capability %d, expected 8 or later", major);
    cuda->queue.shared_bytes = (size_t)shared_bytes;
    result = cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking);
    if (result == cudaSuccess)
        result = cudaMalloc((void **)&cuda->sum, sizeof *cuda->sum);
    if (result == cudaSuccess)
        result = cuda_memory_open(&cuda->memory, cuda->stream);
    if (result != cudaSuccess)
        return error_set(error, STATUS_SYSTEM, "cannot start on cuda device 0: %s",
                         cudaGetErrorString(result));
    cuda->queue.stream = cuda->stream;
    return cuda_matmul_open(&cuda->matmuls, error);
}

enum status clipipe_cuda_open(struct kernels **k, enum precision precision,
                              size_t kernels_bytes, struct error *error)
{
    if (kernels_bytes != sizeof(struct kernels))
        return error_set(error, STATUS_UNAVAILABLE,
                         "the cuda backend is of another build: %zu bytes of operations, "
                         "expected %zu", sizeof(struct kernels), kernels_bytes);
    struct cuda *cuda = (struct cuda *)calloc(1, sizeof *cuda);
    if (cuda == NULL)
        return error_memory(error, sizeof *cuda, "the cuda backend");
    fill_operations(&cuda->kernels);
    cuda->kernels.precision = precision;
    cuda->kernels.state = cuda;
    const enum status status = open_device(cuda, error);
    if (status != STATUS_OK) {
        cuda_close(&cuda->kernels);
        return status;
    }
    *k = &cuda->kernels;
    return STATUS_OK;
}
