/* check_cuda [--quick] - the CUDA backend on the device at hand. Run by `make check-cuda`.
 *
 * 1. backend_checks: every operation in fp32 and in bf16 against the reference, as the emulator
 *    does it, at larger sizes.
 * 2. Every operation in bf16 by a rule without tolerances: its error is at most twice that of
 *    the naive computation in bf16, both against fp32 with sums in double on the same inputs.
 *    Naive is the reference's own operations with every result rounded to bf16, and for
 *    attention the plain formula with every intermediate rounded.
 * 3. Every way that a matrix product can be done in, by the same rule.
 * 4. Whole models (check_cuda_model.c).
 *
 * Outputs begin as NaN, every buffer stands between guards, inputs must come back unchanged.
 * --quick: small sizes and no models, for compute-sanitizer. Exit 69 without a device. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_matmul.h"
#include "kernels/kernels.h"
#include "kernels/ref/ref.h"
#include "tests/emulator/backend_checks.h"
#include "tests/emulator/check_cuda_model.h"
#include "tests/unit/check.h"

static bool quick;

/* ---- bf16 on the host ---- */

static uint16_t to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bits(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float rounded(float x)
{
    return from_bits(to_bits(x));
}

/* ---- three sides that do the same operation ---- */

enum side_name { TRUTH, NAIVE, OURS, SIDES };

enum { blocks_most = 24, guard_bytes = 64, guard_byte = 0xa5 };

/* One array of an operation, between guards. */
struct block {
    const char *name; /* of an output, else NULL */
    char *memory;     /* the side's */
    size_t count, element_bytes, before_bytes, all_bytes;
    bool bf16;
    char *host;   /* as it was uploaded */
    float *start; /* what an output that is added to began with, or NULL */
    float *result;
};

struct side {
    enum side_name name;
    struct kernels *k;
    struct rng rng; /* the same numbers on every side */
    size_t shift;   /* elements by which every array is out of alignment */
    struct block blocks[blocks_most];
    int count;
    struct cuda_matmul *ways; /* of ours: for run_way */
    int way;                  /* of ours; < 0: the backend's own choice */
    char way_name[64];
    enum status status;
};

static void stop(const char *why)
{
    fprintf(stderr, "check_cuda: %s\n", why);
    exit(STATUS_SYSTEM);
}

/* An array of `count`; the caller fills host + before_bytes and then calls block_send. */
static struct block *block_make(struct side *s, const char *name, size_t count,
                                size_t element_bytes)
{
    if (s->count == blocks_most)
        stop("too many arrays");
    struct block *b = &s->blocks[s->count++];
    *b = (struct block){.name = name, .count = count, .element_bytes = element_bytes};
    b->before_bytes = guard_bytes + s->shift * element_bytes;
    b->all_bytes = b->before_bytes + count * element_bytes + guard_bytes;
    b->host = malloc(b->all_bytes);
    b->memory = s->k->allocate(s->k, b->all_bytes);
    if (b->host == NULL || b->memory == NULL)
        stop("no memory");
    memset(b->host, guard_byte, b->all_bytes);
    return b;
}

static void *block_send(struct side *s, struct block *b)
{
    s->k->upload(s->k, b->memory, b->host, b->all_bytes);
    return b->memory + b->before_bytes;
}

static void put(struct block *b, size_t i, float x)
{
    char *to = b->host + b->before_bytes + i * b->element_bytes;
    const uint16_t bits = to_bits(x);
    if (b->bf16)
        memcpy(to, &bits, sizeof bits);
    else
        memcpy(to, &x, sizeof x);
}

static struct block *value_block(struct side *s, const char *name, size_t count)
{
    struct block *b = block_make(s, name, count, activation_bytes(s->k));
    b->bf16 = s->k->precision == PRECISION_AMP_BF16;
    return b;
}

/* Activations: random, rounded to bf16 on every side. */
static void *in_values(struct side *s, size_t count, double deviation)
{
    struct block *b = value_block(s, NULL, count);
    for (size_t i = 0; i < count; i++)
        put(b, i, rounded((float)(deviation * rng_normal(&s->rng))));
    return block_send(s, b);
}

static float *in_floats(struct side *s, size_t count, double mean, double deviation)
{
    struct block *b = block_make(s, NULL, count, sizeof(float));
    for (size_t i = 0; i < count; i++)
        put(b, i, (float)(mean + deviation * rng_normal(&s->rng)));
    return block_send(s, b);
}

static int32_t *in_integers(struct side *s, size_t count, size_t bound)
{
    struct block *b = block_make(s, NULL, count, sizeof(int32_t));
    for (size_t i = 0; i < count; i++) {
        const int32_t x = (int32_t)rng_below(&s->rng, bound);
        memcpy(b->host + b->before_bytes + i * sizeof x, &x, sizeof x);
    }
    return block_send(s, b);
}

/* Outputs begin as NaN. */
static void *out_block(struct side *s, struct block *b)
{
    memset(b->host + b->before_bytes, 0xff, b->count * b->element_bytes);
    return block_send(s, b);
}

static void *out_values(struct side *s, const char *name, size_t count)
{
    return out_block(s, value_block(s, name, count));
}

static float *out_floats(struct side *s, const char *name, size_t count)
{
    return out_block(s, block_make(s, name, count, sizeof(float)));
}

/* Outputs that are added to. */
static void *sum_block(struct side *s, struct block *b)
{
    b->start = malloc(b->count * sizeof *b->start);
    if (b->start == NULL)
        stop("no memory");
    for (size_t i = 0; i < b->count; i++)
        put(b, i, b->start[i] = rounded((float)rng_normal(&s->rng)));
    return block_send(s, b);
}

static void *sum_values(struct side *s, const char *name, size_t count)
{
    return sum_block(s, value_block(s, name, count));
}

static float *sum_floats(struct side *s, const char *name, size_t count)
{
    return sum_block(s, block_make(s, name, count, sizeof(float)));
}

static bool is_guard(const char *memory, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)memory[i] != guard_byte)
            return false;
    return true;
}

/* Fetches a block: an output's change becomes its result; anything else must be as it was. */
static void block_fetch(struct side *s, struct block *b, const char *what)
{
    char *now = malloc(b->all_bytes);
    b->result = malloc((b->count + 1) * sizeof *b->result);
    if (now == NULL || b->result == NULL)
        stop("no memory");
    s->k->download(s->k, now, b->memory, b->all_bytes);
    const char *after = now + b->all_bytes - guard_bytes;
    CHECK(is_guard(now, b->before_bytes) && is_guard(after, guard_bytes),
          "%s: written outside of %s", what, b->name == NULL ? "an input" : b->name);
    if (b->name == NULL)
        CHECK(memcmp(now, b->host, b->all_bytes) == 0, "%s: an input has changed", what);
    for (size_t i = 0; b->name != NULL && i < b->count; i++) {
        const char *from = now + b->before_bytes + i * b->element_bytes;
        uint16_t bits;
        memcpy(&bits, from, sizeof bits);
        memcpy(&b->result[i], from, b->bf16 ? 0 : sizeof(float));
        if (b->bf16)
            b->result[i] = from_bits(bits);
        if (b->start != NULL)
            b->result[i] -= b->start[i];
        if (s->name == NAIVE)
            b->result[i] = rounded(b->result[i]);
    }
    free(now);
}

static void side_clear(struct side *s)
{
    for (int i = 0; i < s->count; i++) {
        s->k->release(s->k, s->blocks[i].memory);
        free(s->blocks[i].host);
        free(s->blocks[i].start);
        free(s->blocks[i].result);
    }
    s->count = 0;
}

static double distance(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum);
}

/* ---- the rule ---- */

struct shape {
    size_t B, T, H, D, C, E, K, P, V;
    bool causal, bias, before, accumulate, a_transposed, b_transposed;
    enum matmul_epilogue epilogue;
    enum activation activation;
    size_t rows, columns, inner;
};

typedef void operation(struct side *s, const struct shape *shape);

static struct side sides[SIDES];
static double worst_ratio;
static char worst_name[160];

/* ours <= 2 naive, by each output's norm; what is exact in bf16 may be off by fp32 sums, and
 * where there are few numbers the naive ones may be right by chance. */
static void compare(const char *what)
{
    for (int i = 0; i < sides[TRUTH].count; i++) {
        const struct block *truth = &sides[TRUTH].blocks[i];
        if (truth->name == NULL)
            continue;
        const size_t n = truth->count;
        double norm = 0;
        for (size_t j = 0; j < n; j++)
            norm += (double)truth->result[j] * (double)truth->result[j];
        norm = sqrt(norm);
        const double ours = distance(sides[OURS].blocks[i].result, truth->result, n);
        const double naive = distance(sides[NAIVE].blocks[i].result, truth->result, n);
        const double floor = (n < 16 ? 4e-3 : 2e-6) * norm;
        CHECK(ours <= 2 * naive + floor + 1e-30,
              "%s: %s is off by %.3g of its norm, naive bf16 by %.3g", what, truth->name,
              ours / norm, naive / norm);
        if (n >= 16 && naive > 0 && !(ours / naive <= worst_ratio) && ours > floor) {
            worst_ratio = ours / naive;
            snprintf(worst_name, sizeof worst_name, "%s, %s", what, truth->name);
        }
    }
}

/* Runs one side and fetches what it did. False where there is no such way. */
static bool run_side(struct side *s, const char *what, operation *run,
                     const struct shape *shape, uint64_t seed)
{
    struct error error;
    s->status = STATUS_OK;
    rng_init(&s->rng, seed, 0, 0, RNG_TEST);
    run(s, shape);
    CHECK(s->k->check(s->k, &error) == STATUS_OK, "%s: %s", what, error.text);
    for (int i = 0; s->status == STATUS_OK && i < s->count; i++)
        block_fetch(s, &s->blocks[i], what);
    return s->status == STATUS_OK;
}

static void check_rule(const char *what, operation *run, const struct shape *shape,
                       size_t shift, uint64_t seed)
{
    sides[OURS].shift = shift;
    for (int i = 0; i < SIDES; i++)
        run_side(&sides[i], what, run, shape, seed);
    compare(what);
    for (int i = 0; i < SIDES; i++)
        side_clear(&sides[i]);
    sides[OURS].shift = 0;
}

/* In alignment and out of it. */
static void check_both(const char *what, operation *run, const struct shape *shape,
                       uint64_t seed)
{
    char name[160];
    check_rule(what, run, shape, 0, seed);
    snprintf(name, sizeof name, "%s, not aligned", what);
    check_rule(name, run, shape, 1, seed + 1000);
}

/* ---- products ---- */

static void naive_product(struct kernels *k, const struct matmul *m)
{
    struct matmul plain = *m;
    const size_t n = m->rows * m->columns;
    plain.epilogue = EPILOGUE_NONE;
    plain.before = NULL;
    if (m->epilogue == EPILOGUE_ACTIVATION && m->before != NULL)
        plain.out = m->before;
    k->matmul(k, &plain);
    if (m->epilogue == EPILOGUE_ACTIVATION)
        k->activation_forward(k, m->out, plain.out, n, m->activation);
    else if (m->epilogue == EPILOGUE_ACTIVATION_BACKWARD)
        k->activation_backward(k, m->out, m->out, m->before, n, m->activation);
}

static void run_product(struct side *s, const struct shape *p)
{
    const size_t n = p->rows * p->columns;
    const bool backward = p->epilogue == EPILOGUE_ACTIVATION_BACKWARD;
    struct error error;
    struct matmul m = {.rows = p->rows,
                       .columns = p->columns,
                       .inner = p->inner,
                       .a_transposed = p->a_transposed,
                       .b_transposed = p->b_transposed,
                       .accumulate = p->accumulate,
                       .epilogue = p->epilogue,
                       .activation = p->activation};
    m.a = in_values(s, p->rows * p->inner, 1);
    m.b = in_values(s, p->inner * p->columns, 1 / sqrt((double)p->inner));
    m.bias = p->bias ? in_floats(s, p->columns, 0, 1) : NULL;
    m.a_sums = p->accumulate && p->before ? sum_floats(s, "a_sums", p->rows) : NULL;
    m.out = p->accumulate ? sum_floats(s, "out", n) : out_values(s, "out", n);
    if (backward)
        m.before = in_values(s, n, 1.5);
    else if (p->epilogue == EPILOGUE_ACTIVATION && p->before)
        m.before = out_values(s, "before", n);
    if (s->name == OURS && s->way >= 0)
        s->status = cuda_matmul_run_way(s->ways, cuda_backend_queue(s->k), ELEMENT_BF16,
                                        ELEMENT_BF16, &m, s->way, s->way_name, &error);
    else if (s->name == NAIVE)
        naive_product(s->k, &m);
    else
        s->k->matmul(s->k, &m);
    if (s->status != STATUS_OK && s->status != STATUS_UNAVAILABLE)
        printf("way %d: %s\n", s->way, error.text);
}

/* Every way there is, cuDNN's seconds of compiling included. A way that the library names and
 * then refuses is told and passed over, as the backend does. */
static void check_ways(const char *what, const struct shape *p, uint64_t seed)
{
    struct side *ours = &sides[OURS];
    char name[256];
    int ways = 0, refused = 0;
    for (int i = 0; i < OURS; i++)
        run_side(&sides[i], what, run_product, p, seed);
    ours->status = STATUS_OK;
    for (ours->way = 0; ours->status != STATUS_UNAVAILABLE && ours->way < 64; ours->way++) {
        snprintf(name, sizeof name, "%s, way %d", what, ours->way);
        if (run_side(ours, name, run_product, p, seed)) {
            ways++;
            compare(name);
        } else if (ours->status != STATUS_UNAVAILABLE) {
            refused++;
        }
        side_clear(ours);
    }
    ours->way = -1;
    for (int i = 0; i < OURS; i++)
        side_clear(&sides[i]);
    CHECK(ways > 0, "%s: no way to do it", what);
    printf("%s: %d ways agree, the last %s; %d refused\n", what, ways, ours->way_name,
           refused);
}

static const char *const activation_names[] = {"GELU", "GELU tanh", "quick GELU"};

static void check_epilogues(size_t rows, size_t columns, size_t inner, bool ways)
{
    char name[128];
    for (int kind = 0; kind < 3; kind++)
        for (int form = 0; form < 4; form++) {
            struct shape p = {.rows = rows, .columns = columns, .inner = inner};
            p.activation = (enum activation)kind;
            p.epilogue = form < 3 ? EPILOGUE_ACTIVATION : EPILOGUE_ACTIVATION_BACKWARD;
            p.b_transposed = form < 3;
            p.bias = form < 2;
            p.before = form != 1;
            snprintf(name, sizeof name, "product %zu x %zu x %zu, %s%s%s%s", rows, columns,
                     inner, activation_names[kind], form == 3 ? " backward" : "",
                     p.bias ? ", bias" : "", p.before ? ", before" : "");
            if (ways && form % 3 == 0) /* the passes of training */
                check_ways(name, &p, (uint64_t)(20 + form));
            else if (!ways)
                check_both(name, run_product, &p, (uint64_t)(10 + form));
        }
}

static void check_products(void)
{
    static const size_t sizes[][3] = {
        {1, 1, 1}, {3, 5, 7}, {17, 33, 65}, {64, 96, 128}, {130, 257, 72}, {8, 512, 2000}};
    const size_t count = quick ? 4 : sizeof sizes / sizeof sizes[0];
    char name[128];
    for (size_t i = 0; i < count; i++) {
        const size_t *z = sizes[i];
        for (int form = 0; form < 8; form++) {
            struct shape p = {.rows = z[0], .columns = z[1], .inner = z[2]};
            p.a_transposed = form & 1;
            p.b_transposed = form & 2;
            p.bias = form & 4;
            snprintf(name, sizeof name, "product %zu x %zu x %zu, form %d", z[0], z[1], z[2],
                     form);
            check_both(name, run_product, &p, (uint64_t)form);
            p.bias = false;
            p.accumulate = true;
            p.before = form & 4; /* a_sums */
            snprintf(name, sizeof name, "product += %zu x %zu x %zu, form %d", z[0], z[1],
                     z[2], form);
            check_both(name, run_product, &p, (uint64_t)form);
        }
        check_epilogues(z[0], z[1], z[2], false);
    }
    if (quick)
        return;
    const struct shape bias = {
        .rows = 392, .columns = 384, .inner = 768, .b_transposed = true, .bias = true};
    const struct shape weight = {.rows = 384, .columns = 256, .inner = 1000,
                                 .a_transposed = true, .accumulate = true, .before = true};
    check_ways("product with bias", &bias, 1);
    check_ways("gradient of a weight", &weight, 2);
    check_epilogues(2056, 512, 64, true); /* as many as cudnn is asked for */
}

/* ---- attention ---- */

static float naive_dot(const uint16_t *a, const uint16_t *b, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += from_bits(a[i]) * from_bits(b[i]);
    return rounded(sum);
}

/* P[T,T] of one head, every step rounded; row by row, 0 where the mask is. */
static void naive_softmax(const struct attention *a, const uint16_t *q, const uint16_t *k,
                          size_t stride, uint16_t *P, float *lse)
{
    const float scale = 1 / sqrtf((float)a->D);
    for (size_t i = 0; i < a->T; i++) {
        const size_t end = a->causal ? i + 1 : a->T;
        float max = -INFINITY, sum = 0;
        for (size_t j = 0; j < a->T; j++) {
            const float score =
                rounded(scale * naive_dot(q + i * stride, k + j * stride, a->D));
            P[i * a->T + j] = to_bits(j < end ? score : 0);
            max = j < end ? fmaxf(max, score) : max;
        }
        for (size_t j = 0; j < end; j++)
            sum += expf(from_bits(P[i * a->T + j]) - max);
        for (size_t j = 0; j < end; j++)
            P[i * a->T + j] = to_bits(expf(from_bits(P[i * a->T + j]) - max) / sum);
        lse[i] = max + logf(sum);
    }
}

struct head {
    const uint16_t *q, *k, *v; /* rows 3C apart */
    size_t stride, offset;     /* of the head in a row of C */
};

static struct head head_of(const uint16_t *qkv, const struct attention *a, size_t b, size_t h)
{
    const size_t C = a->H * a->D;
    const uint16_t *first = qkv + b * a->T * 3 * C + h * a->D;
    return (struct head){first, first + C, first + 2 * C, 3 * C, b * a->T * C + h * a->D};
}

static void naive_attention(const struct attention *a, uint16_t *out, float *lse,
                            const uint16_t *qkv)
{
    const size_t T = a->T, D = a->D, C = a->H * D;
    uint16_t *P = malloc(T * T * sizeof *P);
    for (size_t b = 0; P != NULL && b < a->B; b++)
        for (size_t h = 0; h < a->H; h++) {
            const struct head e = head_of(qkv, a, b, h);
            naive_softmax(a, e.q, e.k, e.stride, P, lse + (b * a->H + h) * T);
            for (size_t i = 0; i < T; i++)
                for (size_t d = 0; d < D; d++) {
                    float sum = 0;
                    for (size_t j = 0; j < T; j++)
                        sum += from_bits(P[i * T + j]) * from_bits(e.v[j * e.stride + d]);
                    out[e.offset + i * C + d] = to_bits(sum);
                }
        }
    free(P);
}

/* dS[T,T] of one head from P and dP = dout V^T, every step rounded, with the scale. */
static void naive_dscores(const struct attention *a, const struct head *e,
                          const uint16_t *dout, const uint16_t *P, uint16_t *dS)
{
    const size_t T = a->T, D = a->D, C = a->H * D;
    const float scale = 1 / sqrtf((float)D);
    for (size_t i = 0; i < T; i++) {
        float sum = 0;
        for (size_t j = 0; j < T; j++) {
            const float dP =
                naive_dot(dout + e->offset + i * C, e->v + j * e->stride, D);
            dS[i * T + j] = to_bits(dP);
            sum += dP * from_bits(P[i * T + j]);
        }
        for (size_t j = 0; j < T; j++)
            dS[i * T + j] = to_bits(
                scale * rounded(from_bits(P[i * T + j]) * (from_bits(dS[i * T + j]) - sum)));
    }
}

static void naive_attention_backward(const struct attention *a, uint16_t *dqkv,
                                     const uint16_t *dout, const uint16_t *qkv)
{
    const size_t T = a->T, D = a->D, C = a->H * D;
    uint16_t *P = malloc(2 * T * T * sizeof *P), *dS = P + T * T;
    float *lse = malloc(T * sizeof *lse);
    for (size_t bh = 0; P != NULL && lse != NULL && bh < a->B * a->H; bh++) {
        const struct head e = head_of(qkv, a, bh / a->H, bh % a->H);
        uint16_t *dq = dqkv + (e.q - qkv);
        naive_softmax(a, e.q, e.k, e.stride, P, lse);
        naive_dscores(a, &e, dout, P, dS);
        for (size_t i = 0; i < T; i++)
            for (size_t d = 0; d < D; d++) {
                float q = 0, k = 0, v = 0;
                for (size_t j = 0; j < T; j++) {
                    q += from_bits(dS[i * T + j]) * from_bits(e.k[j * e.stride + d]);
                    k += from_bits(dS[j * T + i]) * from_bits(e.q[j * e.stride + d]);
                    v += from_bits(P[j * T + i]) * from_bits(dout[e.offset + j * C + d]);
                }
                dq[i * e.stride + d] = to_bits(q);
                dq[i * e.stride + C + d] = to_bits(k);
                dq[i * e.stride + 2 * C + d] = to_bits(v);
            }
    }
    free(P);
    free(lse);
}

static void run_attention(struct side *s, const struct shape *p)
{
    const struct attention a = {p->B, p->T, p->H, p->D, p->causal};
    const size_t n = p->B * p->T * p->H * p->D;
    const void *qkv = in_values(s, 3 * n, 1);
    void *out = out_values(s, "out", n);
    float *lse = out_floats(s, "lse", p->B * p->H * p->T);
    if (s->name == NAIVE)
        naive_attention(&a, out, lse, qkv);
    else
        s->k->attention_forward(s->k, out, lse, qkv, &a);
}

/* out and lse are each side's own, as in a real pass. */
static void run_attention_backward(struct side *s, const struct shape *p)
{
    const struct attention a = {p->B, p->T, p->H, p->D, p->causal};
    const size_t n = p->B * p->T * p->H * p->D;
    const void *qkv = in_values(s, 3 * n, 1), *dout = in_values(s, n, 1);
    void *out = out_values(s, "out", n), *dqkv = out_values(s, "dqkv", 3 * n);
    float *lse = out_floats(s, "lse", p->B * p->H * p->T);
    if (s->name == NAIVE) {
        naive_attention(&a, out, lse, qkv);
        naive_attention_backward(&a, dqkv, dout, qkv);
    } else {
        s->k->attention_forward(s->k, out, lse, qkv, &a);
        s->k->attention_backward(s->k, dqkv, dout, qkv, out, lse, &a);
    }
}

static void check_attention(void)
{
    static const size_t tokens[] = {1, 8, 17, 37, 50, 77, 197, 257, 600};
    static const size_t heads[] = {64, 80, 88, 96, 104, 128, 20};
    char name[128];
    for (size_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++)
        for (size_t d = 0; d < sizeof heads / sizeof heads[0]; d++) {
            if ((quick && (tokens[t] > 77 || d % 3 != 0)) || (tokens[t] > 257 && d > 1))
                continue;
            for (int causal = 0; causal < 2; causal++) {
                const struct shape p = {.B = tokens[t] > 100 ? 1 : 3, .T = tokens[t],
                                        .H = 2, .D = heads[d], .causal = causal};
                snprintf(name, sizeof name, "attention, %zu tokens, head %zu%s", p.T, p.D,
                         causal ? ", causal" : "");
                check_both(name, run_attention, &p, t);
                snprintf(name, sizeof name, "attention backward, %zu tokens, head %zu%s", p.T,
                         p.D, causal ? ", causal" : "");
                check_both(name, run_attention_backward, &p, t);
            }
        }
}

/* ---- the rest ---- */

static void run_norm(struct side *s, const struct shape *p)
{
    const size_t n = p->rows * p->C;
    const void *residual = in_values(s, n, 1), *delta = in_values(s, n, 1);
    const float *gamma = in_floats(s, p->C, 1, 0.2), *beta = in_floats(s, p->C, 0, 0.2);
    void *sum = out_values(s, "residual_out", n), *normed = out_values(s, "normed", n);
    float *mean = out_floats(s, "mean", p->rows), *rstd = out_floats(s, "rstd", p->rows);
    s->k->residual_norm_forward(s->k, sum, normed, mean, rstd, residual, delta, gamma, beta,
                                p->rows, p->C, 1e-5f);
    void *plain = out_values(s, "normed alone", n);
    float *mean_2 = out_floats(s, "mean alone", p->rows),
          *rstd_2 = out_floats(s, "rstd alone", p->rows);
    s->k->residual_norm_forward(s->k, NULL, plain, mean_2, rstd_2, residual, NULL, gamma, beta,
                                p->rows, p->C, 1e-5f);
    void *dresidual = sum_values(s, "dresidual", n);
    float *dgamma = sum_floats(s, "dgamma", p->C), *dbeta = sum_floats(s, "dbeta", p->C);
    s->k->norm_backward(s->k, dresidual, dgamma, dbeta, delta, residual, mean_2, rstd_2, gamma,
                        p->rows, p->C);
}

static void run_elementwise(struct side *s, const struct shape *p)
{
    const size_t n = p->rows * p->C;
    const void *x = in_values(s, n, 2), *y = in_values(s, n, 1);
    const float *gamma = in_floats(s, p->C, 0, 1);
    s->k->add(s->k, out_values(s, "add", n), x, y, n);
    for (int kind = 0; kind < 3; kind++) {
        s->k->activation_forward(s->k, out_values(s, activation_names[kind], n), x, n,
                                 (enum activation)kind);
        s->k->activation_backward(s->k, out_values(s, "activation's gradient", n), y, x, n,
                                  (enum activation)kind);
    }
    s->k->layer_scale_forward(s->k, out_values(s, "layer scale", n), x, gamma, p->rows, p->C);
    s->k->layer_scale_backward(s->k, out_values(s, "layer scale's gradient", n),
                               sum_floats(s, "dgamma", p->C), y, x, gamma, p->rows, p->C);
    s->k->sum_rows(s->k, sum_floats(s, "sum of rows", p->C), x, p->rows, p->C);
    s->k->round(s->k, out_values(s, "round", p->C), gamma, p->C);
}

static void run_patches(struct side *s, const struct shape *p)
{
    static const float mean[3] = {0.48f, 0.46f, 0.41f}, std[3] = {0.27f, 0.26f, 0.28f};
    const size_t N = p->B * p->K, pixels = p->P * p->P * 3, n = p->B * (1 + p->K) * p->C;
    struct block *bytes = block_make(s, NULL, N * pixels, 1);
    for (size_t i = 0; i < N * pixels; i++)
        bytes->host[bytes->before_bytes + i] = (char)rng_next(&s->rng);
    const uint8_t *in = block_send(s, bytes);
    s->k->unpack_patches(s->k, out_values(s, "unpacked", N * pixels), in, N, p->P, mean, std);

    const void *features = in_values(s, N * p->C, 1), *dout = in_values(s, n, 1);
    const float *class_embedding = in_floats(s, p->C, 0, 1),
                *positional = in_floats(s, (1 + p->V) * p->C, 0, 1);
    struct block *places = block_make(s, NULL, N, sizeof(int32_t));
    for (size_t i = 0; i < N; i++) { /* distinct within a sample */
        const int32_t place = (int32_t)((i / p->K + (i % p->K) * 3) % p->V);
        memcpy(places->host + places->before_bytes + i * sizeof place, &place, sizeof place);
    }
    const int32_t *position = block_send(s, places);
    s->k->embed_patches_forward(s->k, out_values(s, "embedded patches", n), features, position,
                                class_embedding, positional, p->B, p->K, p->C);
    s->k->embed_patches_backward(s->k, out_values(s, "dfeatures", N * p->C),
                                 sum_floats(s, "dclass", p->C),
                                 sum_floats(s, "dpositional", (1 + p->V) * p->C), dout,
                                 position, p->B, p->K, p->C);
}

static void run_tokens(struct side *s, const struct shape *p)
{
    const size_t n = p->B * p->T * p->C;
    const int32_t *tokens = in_integers(s, p->B * p->T, p->V),
                  *row = in_integers(s, p->B, p->T);
    const float *table = in_floats(s, p->V * p->C, 0, 1),
                *positional = in_floats(s, p->T * p->C, 0, 1);
    const void *x = in_values(s, n, 1), *pooled = in_values(s, p->B * p->C, 1);
    s->k->embed_tokens_forward(s->k, out_values(s, "embedded tokens", n), tokens, table,
                               positional, p->B, p->T, p->C);
    s->k->embed_tokens_backward(s->k, sum_floats(s, "dtable", p->V * p->C),
                                sum_floats(s, "dpositional", p->T * p->C), x, tokens, p->B,
                                p->T, p->C);
    s->k->pick_token_forward(s->k, out_values(s, "picked", p->B * p->C), x, row, p->B, p->T,
                             p->C);
    s->k->pick_token_backward(s->k, out_values(s, "picked's gradient", n), pooled, row, p->B,
                              p->T, p->C);
    s->k->mean_tokens_forward(s->k, out_values(s, "mean", p->B * p->C), x, p->B, p->T, p->C,
                              p->T > 1);
    s->k->mean_tokens_backward(s->k, out_values(s, "mean's gradient", n), pooled, p->B, p->T,
                               p->C, p->T > 1);
}

static void run_normalize(struct side *s, const struct shape *p)
{
    const size_t n = p->rows * p->C;
    const void *x = in_values(s, n, 1);
    const float *dout = in_floats(s, n, 0, 1);
    float *out = out_floats(s, "unit", n), *inverse = out_floats(s, "inverse", p->rows);
    s->k->normalize_forward(s->k, out, inverse, x, p->rows, p->C);
    s->k->normalize_backward(s->k, out_values(s, "unit's gradient", n), dout, out, inverse,
                             p->rows, p->C);
}

/* Unit rows, rounded to bf16 for the naive side: what a loss in bf16 is given. */
static float *in_units(struct side *s, size_t N, size_t E)
{
    struct block *b = block_make(s, NULL, N * E, sizeof(float));
    for (size_t i = 0; i < N; i++) {
        struct rng again = s->rng;
        double squares = 0;
        for (size_t j = 0; j < E; j++) {
            const double x = rng_normal(&again);
            squares += x * x;
        }
        for (size_t j = 0; j < E; j++) {
            const float x = (float)(rng_normal(&s->rng) / sqrt(squares));
            put(b, i * E + j, s->name == NAIVE ? rounded(x) : x);
        }
    }
    return block_send(s, b);
}

static void run_loss(struct side *s, const struct shape *p)
{
    const size_t n = p->B * p->E;
    const float *image = in_units(s, p->B, p->E), *text = in_units(s, p->B, p->E);
    const float *scale = in_floats(s, 1, p->causal ? 4.6 : 2.66, 0);
    float *loss = out_floats(s, "loss", 1), *dimage = out_floats(s, "dimage", n),
          *dtext = out_floats(s, "dtext", n), *dscale = sum_floats(s, "dlogit_scale", 1);
    s->k->contrastive_loss(s->k, loss, dimage, dtext, dscale, image, text, scale, p->B, p->E);
}

static void check_rest(void)
{
    static const size_t widths[] = {1, 7, 64, 96, 192, 500, 768, 1024, 1280};
    static const size_t losses[][2] = {{1, 8}, {2, 5}, {33, 64}, {128, 512}, {700, 130}};
    const size_t width_count = quick ? 5 : sizeof widths / sizeof widths[0];
    char name[128];
    for (size_t i = 0; i < width_count; i++) {
        struct shape p = {.rows = 257, .B = 5, .T = 9, .C = widths[i], .K = 6, .P = 5, .V = 25};
        snprintf(name, sizeof name, "width %zu", p.C);
        check_both(name, run_norm, &p, 1);
        check_both(name, run_elementwise, &p, 2);
        check_both(name, run_patches, &p, 3);
        check_both(name, run_tokens, &p, 4);
        if (p.C > 1) /* of one number the gradient is zero */
            check_both(name, run_normalize, &p, 5);
        p.T = 1;
        p.rows = 1;
        check_both(name, run_norm, &p, 6);
        check_both(name, run_tokens, &p, 7);
    }
    for (size_t i = 0; i < sizeof losses / sizeof losses[0] - (quick ? 1 : 0); i++)
        for (int steep = 0; steep < 2; steep++) {
            const struct shape p = {.B = losses[i][0], .E = losses[i][1], .causal = steep};
            snprintf(name, sizeof name, "loss of %zu, width %zu%s", p.B, p.E,
                     steep ? ", scale 100" : "");
            check_both(name, run_loss, &p, 8);
        }
}

/* ---- all of it ---- */

static void check_backend(enum precision precision)
{
    struct kernels *ref, *cuda;
    struct error error;
    if (ref_open(&ref, precision, 0, &error) != STATUS_OK ||
        clipipe_cuda_open(&cuda, precision, sizeof *cuda, &error) != STATUS_OK)
        stop(error.text);
    for (int i = 0; i < BACKEND_CHECKS; i++) {
        char first[256];
        size_t passed = 0;
        const size_t failed =
            backend_check_run((enum backend_check)i, ref, cuda,
                              quick ? SIZES_SMALL : SIZES_LARGE, 100 + (uint64_t)i, &passed,
                              first);
        check_passed += (int)passed;
        CHECK(failed == 0, "%s, %s: %zu failed, the first: %s",
              precision == PRECISION_FP32 ? "fp32" : "bf16", backend_check_names[i], failed,
              first);
        CHECK(cuda->check(cuda, &error) == STATUS_OK, "%s: %s", backend_check_names[i],
              error.text);
    }
    cuda->close(cuda);
    ref->close(ref);
}

static void open_sides(void)
{
    struct error error;
    for (int i = 0; i < SIDES; i++)
        sides[i].name = (enum side_name)i;
    sides[OURS].way = -1;
    enum status status = ref_open(&sides[TRUTH].k, PRECISION_FP32, 0, &error);
    if (status == STATUS_OK)
        status = ref_open(&sides[NAIVE].k, PRECISION_AMP_BF16, 0, &error);
    if (status == STATUS_OK)
        status = clipipe_cuda_open(&sides[OURS].k, PRECISION_AMP_BF16, sizeof *sides[OURS].k,
                                   &error);
    if (status == STATUS_OK)
        status = cuda_matmul_open(&sides[OURS].ways, &error);
    if (status != STATUS_OK) {
        fprintf(stderr, "check_cuda: %s\n", error.text);
        exit((int)status);
    }
}

static void close_sides(void)
{
    cuda_matmul_close(sides[OURS].ways);
    for (int i = 0; i < SIDES; i++)
        sides[i].k->close(sides[i].k);
}

/* Plans of its own: timed anew, and read back by the backends that are opened later. */
static char plans[] = "/tmp/clipipe-check-cuda-XXXXXX";

static void remove_plans(void)
{
    unlink(plans);
}

int main(int argc, char **argv)
{
    quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    if (argc > 2 || (argc == 2 && !quick)) {
        fprintf(stderr, "usage: check_cuda [--quick]\n");
        return STATUS_USAGE;
    }
    const int file = mkstemp(plans);
    if (file < 0 || close(file) != 0 || atexit(remove_plans) != 0 ||
        setenv("CLIPIPE_CUDA_PLANS", plans, 1) != 0)
        stop("no temporary file");
    if (quick)
        setenv("CLIPIPE_CUDA_PLANS", "off", 1);
    open_sides();
    check_products();
    check_attention();
    check_rest();
    close_sides();
    printf("bf16: the largest error is %.2f times naive bf16's: %s\n", worst_ratio, worst_name);
    check_backend(PRECISION_FP32);
    check_backend(PRECISION_AMP_BF16);
    if (!quick) {
        int passed = 0;
        check_failed += check_models(&passed);
        check_passed += passed;
    }
    return check_report("check_cuda");
}
