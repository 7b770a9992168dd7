#include "frame/dry_run.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "model/patch_dropout.h"
#include "model/training_cost.h"

enum { NAME_WIDTH = 36, VALUE_SIZE = 1024 };

__attribute__((format(printf, 3, 4))) static void print_line(FILE *out, const char *name,
                                                             const char *format, ...)
{
    va_list args;
    fprintf(out, "%s:%*s", name, NAME_WIDTH - (int)strlen(name) - 1, "");
    va_start(args, format);
    vfprintf(out, format, args);
    va_end(args);
    fputc('\n', out);
}

static void print_options(const struct option_spec *options, size_t count, FILE *out)
{
    for (size_t i = 0; i < count; i++) {
        char name[64], value[VALUE_SIZE];
        snprintf(name, sizeof name, "option.%s", options[i].name);
        option_format(&options[i], value, sizeof value);
        print_line(out, name, "%s", value[0] == '\0' ? "-" : value);
    }
}

static const char *activation_name(enum activation activation)
{
    switch (activation) {
    case ACTIVATION_GELU:
        return "gelu";
    case ACTIVATION_GELU_TANH:
        return "gelu-tanh";
    case ACTIVATION_QUICK_GELU:
        return "quick-gelu";
    }
    return "unknown";
}

static void print_tower(const char *tower, const struct transformer_config *t, FILE *out)
{
    char name[64];
    snprintf(name, sizeof name, "model.%s.blocks", tower);
    print_line(out, name,
               "%zu layers, width %zu, %zu heads, hidden %zu, %s, %s, norms' eps %g%s",
               t->layers, t->width, t->heads, t->hidden, activation_name(t->activation),
               t->causal ? "causal" : "bidirectional", (double)t->norm_eps,
               t->layer_scale ? ", layer scale" : "");
}

static void print_model(const struct clip_config *c, size_t kept, FILE *out)
{
    static const char *const image_pools[] = {"class token", "mean of patches",
                                              "mean of all tokens"};
    static const char *const text_pools[] = {"first largest id", "last token", "first token",
                                             "first end of text"};
    const struct vision_config *v = &c->vision;
    const struct preprocess_config *p = &c->preprocess;
    print_line(out, "model.embedding", "%zu", c->embed_dim);
    print_tower("image", &v->transformer, out);
    print_line(out, "model.image.pixels", "%zu", v->image_size);
    print_line(out, "model.image.patch", "%zu pixels", v->patch_size);
    print_line(out, "model.image.grid", "%zu x %zu patches", v->grid, v->grid);
    print_line(out, "model.image.tokens", "%zu, the class token among them",
               1 + kept);
    print_line(out, "model.image.positions", "%s", v->fixed_positions ? "fixed" : "learned");
    print_line(out, "model.image.pool", "%s", image_pools[v->pool]);
    print_line(out, "model.image.mean", "%.10g,%.10g,%.10g", p->mean[0], p->mean[1],
               p->mean[2]);
    print_line(out, "model.image.std", "%.10g,%.10g,%.10g", p->std[0], p->std[1], p->std[2]);
    print_tower("text", &c->text.transformer, out);
    print_line(out, "model.text.tokens", "%zu", c->text.context_length);
    print_line(out, "model.text.vocabulary", "%zu", c->text.vocab_size);
    print_line(out, "model.text.pool", "%s", text_pools[c->text.pool]);
}

static void print_parameters(const struct training_cost *cost, FILE *out)
{
    print_line(out, "parameters.image", "%.2f M", 1e-6 * (double)cost->image_parameters);
    print_line(out, "parameters.text", "%.2f M", 1e-6 * (double)cost->text_parameters);
    print_line(out, "parameters.total", "%.2f M", 1e-6 * (double)cost->parameters);
    print_line(out, "parameters.trained", "%.2f M", 1e-6 * (double)cost->trained_parameters);
}

/* Of one sample. */
static void print_flops(const struct training_cost *cost, FILE *out)
{
    print_line(out, "flops.image", "%.5g GFLOP", 1e-9 * cost->image_flops);
    print_line(out, "flops.text", "%.5g GFLOP", 1e-9 * cost->text_flops);
    print_line(out, "flops.forward", "%.5g GFLOP",
               1e-9 * (cost->image_flops + cost->text_flops));
    print_line(out, "flops.training", "%.5g GFLOP", 1e-9 * cost->training_flops);
}

static void print_bytes(const char *name, size_t bytes, FILE *out)
{
    print_line(out, name, "%.4g GB", 1e-9 * (double)bytes);
}

static void print_memory(const struct training_cost *cost, enum recompute recompute, FILE *out)
{
    print_bytes("memory.parameters", cost->parameter_bytes, out);
    print_bytes("memory.gradients", cost->parameter_bytes, out);
    print_bytes("memory.moments", cost->moment_bytes, out);
    print_bytes("memory.average", cost->average_bytes, out);
    print_bytes("memory.rounded", cost->rounded_bytes, out);
    for (enum recompute r = RECOMPUTE_NONE; r <= RECOMPUTE_BLOCK; r++) {
        char name[64];
        snprintf(name, sizeof name, "memory.activations.%s", train_recompute_names[r]);
        print_bytes(name, cost->activation_bytes[r], out);
    }
    print_bytes("memory.total", 2 * cost->parameter_bytes + cost->moment_bytes +
                                    cost->average_bytes + cost->rounded_bytes +
                                    cost->activation_bytes[recompute], out);
    print_bytes("memory.host.batch", cost->batch_bytes, out);
}

static void print_compute(const struct train_plan *plan, const struct training_cost *cost,
                          FILE *out)
{
    double samples = (double)plan->settings.schedule.steps * (double)plan->shape.most;
    print_line(out, "run.batch", "%zu samples", plan->shape.most);
    print_line(out, "run.steps", "%" PRId64, plan->settings.schedule.steps);
    print_line(out, "run.samples", "%.0f", samples);
    print_line(out, "run.compute", "%.4g EFLOP", 1e-18 * samples * cost->training_flops);
}

enum status dry_run_print(const struct train_plan *plan, const struct option_spec *options,
                          size_t option_count, FILE *out, struct error *error)
{
    struct training_cost cost;
    struct clip_shape shape = plan->shape;
    shape.kept = patch_dropout_kept(plan->config.vision.patch_dropout,
                                    clip_config_patches(&plan->config));
    enum status status =
        training_cost_find(&cost, &plan->config, &shape, &plan->settings.freeze,
                           plan->settings.average_decay > 0, plan->precision, error);
    if (status != STATUS_OK)
        return status;
    print_options(options, option_count, out);
    print_model(&plan->config, shape.kept, out);
    print_parameters(&cost, out);
    print_flops(&cost, out);
    print_memory(&cost, shape.recompute, out);
    print_compute(plan, &cost, out);
    if (fflush(out) != 0 || ferror(out))
        return error_set_errno(error, STATUS_IO, "standard output");
    return STATUS_OK;
}
