#include "model/training_cost.h"

#include "base/number.h"

double training_cost_sample_flops(const struct clip_config *config, size_t kept,
                                  const struct freeze *freeze)
{
    double image = freeze_whole_image(freeze) ? 1 : 3, text = freeze_whole_text(freeze) ? 1 : 3;
    return image * clip_config_image_flops(config, kept) +
           text * clip_config_text_flops(config);
}

static enum status count_parameters(struct training_cost *cost,
                                    const struct clip_config *config,
                                    const struct freeze *freeze, bool average,
                                    enum precision precision, struct error *error)
{
    struct parameters table;
    enum status status = parameters_init(&table, config, error);
    if (status != STATUS_OK)
        return status;
    freeze_apply(freeze, config, &table);
    cost->image_parameters = clip_config_image_parameters(config);
    cost->text_parameters = clip_config_text_parameters(config);
    cost->parameters = table.total;
    for (size_t i = 0; i < table.count; i++)
        if (!table.list[i].frozen && !table.list[i].fixed)
            cost->trained_parameters += table.list[i].count;
    cost->parameter_bytes = table.floats * sizeof(float);
    cost->moment_bytes = 2 * cost->parameter_bytes;
    cost->average_bytes = average ? cost->parameter_bytes : 0;
    if (precision == PRECISION_AMP_BF16)
        cost->rounded_bytes = table.decay_floats * sizeof(uint16_t);
    parameters_free(&table);
    return STATUS_OK;
}

static enum status measure_activations(const struct clip_config *config,
                                       const struct clip_shape *shape,
                                       const struct freeze *freeze, enum recompute recompute,
                                       enum precision precision, size_t *bytes,
                                       struct error *error)
{
    struct clip_shape with = *shape;
    with.recompute = recompute;
    with.image_frozen = freeze_whole_image(freeze);
    with.text_frozen = freeze_whole_text(freeze);
    return clip_activation_bytes(config, &with, precision, bytes, error);
}

static enum status measure_batch(struct training_cost *cost, const struct clip_config *config,
                                 const struct clip_shape *shape, struct error *error)
{
    size_t P = config->vision.patch_size, L = config->text.context_length;
    size_t sample = shape->kept * (P * P * 3 + sizeof(int32_t)) + L * sizeof(int32_t);
    if (!size_multiply(sample, shape->most, &cost->batch_bytes))
        return error_set(error, STATUS_SYSTEM, "a batch of %zu samples is beyond any memory",
                         shape->most);
    return STATUS_OK;
}

enum status training_cost_find(struct training_cost *cost, const struct clip_config *config,
                               const struct clip_shape *shape, const struct freeze *freeze,
                               bool average, enum precision precision, struct error *error)
{
    *cost = (struct training_cost){
        .image_flops = clip_config_image_flops(config, shape->kept),
        .text_flops = clip_config_text_flops(config),
        .training_flops = training_cost_sample_flops(config, shape->kept, freeze),
    };
    enum status status = count_parameters(cost, config, freeze, average, precision, error);
    for (enum recompute r = RECOMPUTE_NONE; status == STATUS_OK && r <= RECOMPUTE_BLOCK; r++)
        status = measure_activations(config, shape, freeze, r, precision,
                                     &cost->activation_bytes[r], error);
    if (status == STATUS_OK)
        status = measure_batch(cost, config, shape, error);
    return status;
}
