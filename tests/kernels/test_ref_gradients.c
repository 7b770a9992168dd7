/* Each backward pass of the reference against differences of its forward pass.
 *
 * An operation's outputs y are made one number, f = sum w y with random w, in double. The
 * backward pass is given dout = w and must return df/dx for every x. Outputs are float, so f
 * carries a noise of some 1e-7 sqrt(outputs); a difference of fourth order with a large step,
 *   (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h,
 * turns that into 1e-5 and leaves an error of h^4 = 1e-6 times the fifth derivative. */
#include <math.h>

#include "kernels/kernels.h"
#include "tests/kernels/kernel_data.h"
#include "tests/unit/check.h"

static const double step = 1.0 / 32;
static const double tolerance = 3e-4; /* of max(1, |gradient|); see above */

static struct kernels *k;

/* What a forward pass computes, at the present values of whatever `problem` points to. */
typedef double objective(const void *problem);

static double weighted_sum(const float *out, const float *weight, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)out[i] * weight[i];
    return sum;
}

static double moved(objective *f, const void *problem, float *x, double by)
{
    const float before = *x;
    *x = (float)(before + by);
    const double value = f(problem);
    *x = before;
    return value;
}

/* `gradient` was made by a "+=" operation on zeros, or by a "=" one. */
static void check_gradient(const char *what, objective *f, const void *problem, float *x,
                           const float *gradient, size_t n)
{
    double worst = 0, want_at = 0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const double near = moved(f, problem, &x[i], step) - moved(f, problem, &x[i], -step);
        const double far = moved(f, problem, &x[i], 2 * step) -
                           moved(f, problem, &x[i], -2 * step);
        const double want = (8 * near - far) / (12 * step);
        const double error = fabs(gradient[i] - want) / fmax(1, fabs(want));
        if (!isnan(worst) && !(error <= worst)) { /* a NaN stays the worst */
            worst = error;
            at = i;
            want_at = want;
        }
    }
    CHECK(n > 0 && worst <= tolerance, "%s: gradient %zu of %zu is %.7g, differences give %.7g",
          what, at, n, (double)gradient[at], want_at);
}

static float *zeros(size_t n)
{
    float *x = data_allocate(n * sizeof *x);
    k->zero(k, x, n * sizeof *x);
    return x;
}

/* ---- matrix product and bias ---- */

struct matmul_problem {
    struct matmul args;
    const float *weight;
};

static double matmul_objective(const void *problem)
{
    const struct matmul_problem *p = problem;
    k->matmul(k, &p->args);
    return weighted_sum(p->args.out, p->weight, p->args.rows * p->args.columns);
}

/* y = x W^T + b as a linear layer is trained: dx = dy W, dW += dy^T x, db += sum of dy. */
static void test_linear(void)
{
    enum { N = 5, in = 3, out = 4 };
    float *x = data_normal(N * in, 1), *w = data_normal(out * in, 1), *b = data_normal(out, 1);
    float *dy = data_normal(N * out, 1);
    const struct matmul_problem problem = {
        .args = {.rows = N, .columns = out, .inner = in, .a = x, .b = w, .b_transposed = true,
                 .bias = b, .out = zeros(N * out)},
        .weight = dy,
    };
    float *dx = zeros(N * in), *dw = zeros(out * in), *db = zeros(out), *sums = zeros(out);
    k->matmul(k, &(struct matmul){.rows = N, .columns = in, .inner = out, .a = dy, .b = w,
                                  .out = dx});
    k->matmul(k, &(struct matmul){.rows = out, .columns = in, .inner = N, .a = dy,
                                  .a_transposed = true, .b = x, .out = dw, .accumulate = true,
                                  .a_sums = sums});
    k->sum_rows(k, db, dy, N, out);
    check_gradient("linear x", matmul_objective, &problem, x, dx, N * in);
    check_gradient("linear weight", matmul_objective, &problem, w, dw, out * in);
    check_gradient("linear bias", matmul_objective, &problem, b, db, out);
    check_gradient("linear bias, from a_sums", matmul_objective, &problem, b, sums, out);
    data_free_all();
}

/* Two linear layers with an activation between, by the epilogues alone. */
struct mlp_problem {
    struct matmul fc, proj;
    const float *weight;
};

static double mlp_objective(const void *problem)
{
    const struct mlp_problem *p = problem;
    k->matmul(k, &p->fc);
    k->matmul(k, &p->proj);
    return weighted_sum(p->proj.out, p->weight, p->proj.rows * p->proj.columns);
}

/* dh = (dy W2) f'(h) and dW1 += dh^T x, db1 += sum of dh. */
static void test_mlp(void)
{
    enum { N = 5, C = 3, F = 4 };
    for (int kind = 0; kind < 3; kind++) {
        float *x = data_normal(N * C, 1), *w1 = data_normal(F * C, 1), *b1 = data_normal(F, 1);
        float *w2 = data_normal(C * F, 1), *dy = data_normal(N * C, 1), *dh = zeros(N * F);
        float *dw1 = zeros(F * C), *db1 = zeros(F), *activated = zeros(N * F);
        const struct mlp_problem p = {
            .fc = {.rows = N, .columns = F, .inner = C, .a = x, .b = w1, .b_transposed = true,
                   .bias = b1, .out = activated, .epilogue = EPILOGUE_ACTIVATION,
                   .activation = (enum activation)kind, .before = zeros(N * F)},
            .proj = {.rows = N, .columns = C, .inner = F, .a = activated, .b = w2,
                     .b_transposed = true, .out = zeros(N * C)},
            .weight = dy,
        };
        mlp_objective(&p);
        k->matmul(k, &(struct matmul){.rows = N, .columns = F, .inner = C, .a = dy, .b = w2,
                                      .out = dh, .epilogue = EPILOGUE_ACTIVATION_BACKWARD,
                                      .activation = (enum activation)kind,
                                      .before = p.fc.before});
        k->matmul(k, &(struct matmul){.rows = F, .columns = C, .inner = N, .a = dh,
                                      .a_transposed = true, .b = x, .out = dw1,
                                      .accumulate = true, .a_sums = db1});
        check_gradient("mlp weight", mlp_objective, &p, w1, dw1, F * C);
        check_gradient("mlp bias", mlp_objective, &p, b1, db1, F);
        data_free_all();
    }
}

/* ---- activation ---- */

struct activation_problem {
    float *in, *out, *weight;
    size_t n;
    enum activation kind;
};

static double activation_objective(const void *problem)
{
    const struct activation_problem *p = problem;
    k->activation_forward(k, p->out, p->in, p->n, p->kind);
    return weighted_sum(p->out, p->weight, p->n);
}

static void test_activation(void)
{
    enum { n = 40 };
    for (int kind = 0; kind < 3; kind++) {
        const struct activation_problem p = {data_normal(n, 2), zeros(n), data_normal(n, 1), n,
                                             (enum activation)kind};
        float *din = zeros(n);
        k->activation_backward(k, din, p.weight, p.in, n, p.kind);
        check_gradient("activation", activation_objective, &p, p.in, din, n);
        data_free_all();
    }
}

/* ---- layer scale ---- */

struct scale_problem {
    float *in, *gamma, *out, *weight;
    size_t N, C;
};

static double scale_objective(const void *problem)
{
    const struct scale_problem *p = problem;
    k->layer_scale_forward(k, p->out, p->in, p->gamma, p->N, p->C);
    return weighted_sum(p->out, p->weight, p->N * p->C);
}

static void test_layer_scale(void)
{
    enum { N = 5, C = 7, n = N * C };
    const struct scale_problem p = {data_normal(n, 1), data_normal(C, 1), zeros(n),
                                    data_normal(n, 1), N, C};
    float *din = zeros(n), *dgamma = zeros(C);
    k->layer_scale_backward(k, din, dgamma, p.weight, p.in, p.gamma, N, C);
    check_gradient("layer scale input", scale_objective, &p, p.in, din, n);
    check_gradient("layer scale gamma", scale_objective, &p, p.gamma, dgamma, C);
    data_free_all();
}

/* ---- norms ---- */

struct norm_problem {
    float *residual, *delta, *gamma, *beta, *residual_out, *normed, *mean, *rstd;
    float *weight, *residual_weight;
    size_t N, C;
};

static double norm_objective(const void *problem)
{
    const struct norm_problem *p = problem;
    k->residual_norm_forward(k, p->residual_out, p->normed, p->mean, p->rstd, p->residual,
                             p->delta, p->gamma, p->beta, p->N, p->C, 1e-2f);
    return weighted_sum(p->normed, p->weight, p->N * p->C) +
           weighted_sum(p->residual_out, p->residual_weight, p->N * p->C);
}

/* The residual goes on beside the norm, so its gradient starts from what comes back there. */
static void test_norm(void)
{
    enum { N = 4, C = 9, n = N * C };
    const struct norm_problem p = {
        data_normal(n, 1), data_normal(n, 1), data_normal(C, 1), data_normal(C, 1), zeros(n),
        zeros(n), zeros(N), zeros(N), data_normal(n, 1), data_normal(n, 1), N, C,
    };
    float *dresidual = zeros(n), *dgamma = zeros(C), *dbeta = zeros(C);
    norm_objective(&p);
    memcpy(dresidual, p.residual_weight, n * sizeof *dresidual);
    k->norm_backward(k, dresidual, dgamma, dbeta, p.weight, p.residual_out, p.mean, p.rstd,
                     p.gamma, N, C);
    check_gradient("norm residual", norm_objective, &p, p.residual, dresidual, n);
    check_gradient("norm delta", norm_objective, &p, p.delta, dresidual, n);
    check_gradient("norm gamma", norm_objective, &p, p.gamma, dgamma, C);
    check_gradient("norm beta", norm_objective, &p, p.beta, dbeta, C);
    data_free_all();
}

struct normalize_problem {
    float *in, *out, *inverse, *weight;
    size_t N, E;
};

static double normalize_objective(const void *problem)
{
    const struct normalize_problem *p = problem;
    k->normalize_forward(k, p->out, p->inverse, p->in, p->N, p->E);
    return weighted_sum(p->out, p->weight, p->N * p->E);
}

static void test_normalize(void)
{
    enum { N = 4, E = 7, n = N * E };
    const struct normalize_problem p = {data_normal(n, 2), zeros(n), zeros(N),
                                        data_normal(n, 1), N, E};
    float *din = zeros(n);
    normalize_objective(&p);
    k->normalize_backward(k, din, p.weight, p.out, p.inverse, N, E);
    check_gradient("normalize", normalize_objective, &p, p.in, din, n);
    data_free_all();
}

/* ---- attention ---- */

struct attention_problem {
    float *qkv, *out, *lse, *weight;
    struct attention shape;
};

static double attention_objective(const void *problem)
{
    const struct attention_problem *p = problem;
    k->attention_forward(k, p->out, p->lse, p->qkv, &p->shape);
    return weighted_sum(p->out, p->weight, p->shape.B * p->shape.T * p->shape.H * p->shape.D);
}

static void test_attention(void)
{
    enum { B = 2, T = 5, H = 2, D = 3, n = B * T * H * D };
    for (int causal = 0; causal < 2; causal++) {
        const struct attention_problem p = {
            data_normal(3 * n, 1), zeros(n), zeros(B * H * T), data_normal(n, 1),
            {B, T, H, D, causal},
        };
        float *dqkv = zeros(3 * n);
        attention_objective(&p);
        k->attention_backward(k, dqkv, p.weight, p.qkv, p.out, p.lse, &p.shape);
        check_gradient(causal ? "causal attention" : "attention", attention_objective, &p,
                       p.qkv, dqkv, 3 * n);
        data_free_all();
    }
}

/* A causal token does not see what comes after it, to the bit. */
static void test_causality(void)
{
    enum { T = 6, H = 1, D = 4, n = T * D };
    const struct attention shape = {1, T, H, D, true};
    float *qkv = data_normal(3 * n, 1), *out = zeros(n), *changed = zeros(n), lse[T];
    k->attention_forward(k, out, lse, qkv, &shape);
    qkv[3 * (n - D) + D] += 1; /* the last token's key */
    k->attention_forward(k, changed, lse, qkv, &shape);
    CHECK(memcmp(out, changed, (n - D) * sizeof *out) == 0, "an early token saw the last");
    CHECK(memcmp(out, changed, n * sizeof *out) != 0, "the last token did not see itself");
    data_free_all();
}

/* ---- embeddings and pooling ---- */

struct embed_problem {
    float *features, *class_embedding, *positional, *table, *out, *weight;
    const int32_t *position, *tokens, *row;
    size_t B, T, C, first;
};

static double embed_patches_objective(const void *problem)
{
    const struct embed_problem *p = problem;
    k->embed_patches_forward(k, p->out, p->features, p->position, p->class_embedding,
                             p->positional, p->B, p->T, p->C);
    return weighted_sum(p->out, p->weight, p->B * (1 + p->T) * p->C);
}

static double embed_tokens_objective(const void *problem)
{
    const struct embed_problem *p = problem;
    k->embed_tokens_forward(k, p->out, p->tokens, p->table, p->positional, p->B, p->T, p->C);
    return weighted_sum(p->out, p->weight, p->B * p->T * p->C);
}

static double pick_objective(const void *problem)
{
    const struct embed_problem *p = problem;
    k->pick_token_forward(k, p->out, p->features, p->row, p->B, p->T, p->C);
    return weighted_sum(p->out, p->weight, p->B * p->C);
}

static double mean_objective(const void *problem)
{
    const struct embed_problem *p = problem;
    k->mean_tokens_forward(k, p->out, p->features, p->B, p->T, p->C, p->first);
    return weighted_sum(p->out, p->weight, p->B * p->C);
}

static void test_embed(void)
{
    enum { B = 3, T = 4, C = 5, grid = 9, V = 6, n = B * (1 + T) * C };
    const struct embed_problem p = {
        data_normal(B * T * C, 1), data_normal(C, 1), data_normal((1 + grid) * C, 1),
        data_normal(V * C, 1), zeros(n), data_normal(n, 1), data_distinct(B, T, grid),
        data_integers(B * T, V), data_integers(B, T), B, T, C, 1,
    };
    float *dfeatures = zeros(B * T * C), *dclass = zeros(C), *dtable = zeros(V * C);
    float *dpositional = zeros((1 + grid) * C), *dtoken_positional = zeros(T * C);

    k->embed_patches_backward(k, dfeatures, dclass, dpositional, p.weight, p.position, B, T, C);
    check_gradient("patches", embed_patches_objective, &p, p.features, dfeatures, B * T * C);
    check_gradient("class", embed_patches_objective, &p, p.class_embedding, dclass, C);
    check_gradient("patch positions", embed_patches_objective, &p, p.positional, dpositional,
                   (1 + grid) * C);
    k->embed_tokens_backward(k, dtable, dtoken_positional, p.weight, p.tokens, B, T, C);
    check_gradient("table", embed_tokens_objective, &p, p.table, dtable, V * C);
    check_gradient("token positions", embed_tokens_objective, &p, p.positional,
                   dtoken_positional, T * C);
    k->pick_token_backward(k, dfeatures, p.weight, p.row, B, T, C);
    check_gradient("picked token", pick_objective, &p, p.features, dfeatures, B * T * C);
    k->mean_tokens_backward(k, dfeatures, p.weight, B, T, C, p.first);
    check_gradient("mean of tokens", mean_objective, &p, p.features, dfeatures, B * T * C);
    data_free_all();
}

/* Channel, y, x out of y, x, channel: one pixel followed by hand. */
static void test_unpack(void)
{
    const uint8_t in[12] = {0, 51, 102, 255, 1, 2, 3, 4, 5, 6, 7, 8};
    const float mean[3] = {0.5f, 0.25f, 0.1f}, std[3] = {0.5f, 0.2f, 0.1f};
    float out[12];
    k->unpack_patches(k, out, in, 1, 2, mean, std);
    CHECK_NEAR(out[0], -1, 1e-6, "red of pixel 0");
    CHECK_NEAR(out[1], 1, 1e-6, "red of pixel 1");
    CHECK_NEAR(out[4], -0.25, 1e-6, "green of pixel 0");
    CHECK_NEAR(out[8], 3, 1e-6, "blue of pixel 0");
}

/* ---- loss ---- */

struct loss_problem {
    float *image, *text, *logit_scale;
    size_t B, E;
};

static double loss_objective(const void *problem)
{
    const struct loss_problem *p = problem;
    float loss;
    k->contrastive_loss(k, &loss, NULL, NULL, NULL, p->image, p->text, p->logit_scale, p->B,
                        p->E);
    return 20 * (double)loss;
}

/* The loss is a mean: times 20, its gradients have the size that the tolerance is for. */
static void test_loss(void)
{
    enum { B = 6, E = 5, n = B * E };
    float logit_scale = 1.5f, loss, dscale = 0.25f, dimage[n], dtext[n];
    const struct loss_problem p = {data_unit_rows(B, E), data_unit_rows(B, E), &logit_scale, B,
                                   E};
    k->contrastive_loss(k, &loss, dimage, dtext, &dscale, p.image, p.text, &logit_scale, B, E);
    for (size_t i = 0; i < n; i++) {
        dimage[i] *= 20;
        dtext[i] *= 20;
    }
    dscale = 20 * (dscale - 0.25f); /* += */
    check_gradient("loss image", loss_objective, &p, p.image, dimage, n);
    check_gradient("loss text", loss_objective, &p, p.text, dtext, n);
    check_gradient("loss logit scale", loss_objective, &p, &logit_scale, &dscale, 1);
    data_free_all();

    /* Logits that are all equal leave a guess among B. */
    const float same[8] = {1, 0, 1, 0, 1, 0, 1, 0};
    k->contrastive_loss(k, &loss, NULL, NULL, NULL, same, same, &logit_scale, 4, 2);
    CHECK_NEAR(loss, log(4), 1e-6, "loss of equal logits");
}

/* AdamW's first step by hand: m^ = g and v^ = g^2, so the update is lr g / (|g| + eps). */
static void test_adamw(void)
{
    float p[2] = {1, -2}, m[2] = {0}, v[2] = {0};
    const float g[2] = {0.5f, -0.25f};
    const struct adamw args = {.lr = 0.1f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f,
                               .weight_decay = 0.5f, .gradient_scale = 0.5f, .step = 1};
    k->adamw(k, p, m, v, g, 2, &args);
    CHECK_NEAR(p[0], 1 - 0.1 * 0.5 * 1 - 0.1, 1e-6, "parameter 0");
    CHECK_NEAR(p[1], -2 + 0.1 * 0.5 * 2 + 0.1, 1e-6, "parameter 1");
    CHECK_NEAR(m[0], 0.1 * 0.25, 1e-7, "first moment");
    CHECK_NEAR(v[0], 0.05 * 0.0625, 1e-8, "second moment");
}

static void test_move_average(void)
{
    float average[3] = {1, -2, 5};
    const float value[3] = {3, 2, 5};
    k->move_average(k, average, value, 3, 0.25f);
    CHECK(average[0] == 1.5f && average[1] == -1 && average[2] == 5, "averages %g %g %g",
          (double)average[0], (double)average[1], (double)average[2]);
    k->move_average(k, average, value, 3, 0);
    CHECK(average[0] == 1.5f, "a weight of 0 moves to %g", (double)average[0]);
    k->move_average(k, average, value, 3, 1);
    CHECK(average[0] == 3 && average[1] == 2, "a weight of 1 moves to %g %g",
          (double)average[0], (double)average[1]);
}

int main(void)
{
    struct error error;
    if (kernels_open(&k, "ref", PRECISION_FP32, 0, &error) != STATUS_OK) {
        CHECK(false, "%s", error.text);
        return check_report("ref_gradients");
    }
    rng_init(&data_rng, 7, 0, 0, RNG_TEST);
    test_linear();
    test_mlp();
    test_activation();
    test_layer_scale();
    test_norm();
    test_normalize();
    test_attention();
    test_causality();
    test_embed();
    test_unpack();
    test_loss();
    test_adamw();
    test_move_average();
    kernels_close(k);
    return check_report("ref_gradients");
}
