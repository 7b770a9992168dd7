#include "model/training_cost.h"

#include "base/number.h"
#include "model/arena.h"

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
                                    struct error *error)
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
    parameters_free(&table);
    return STATUS_OK;
}

/* The towers lay out their memory in an arena that measures; around them stand the inputs of a
 * piece and the embeddings of the whole batch. */
static enum status measure_activations(const struct clip_config *config,
                                       const struct clip_shape *shape, bool recompute,
                                       size_t *bytes, struct error *error)
{
    enum transformer_memory memory = recompute ? TRANSFORMER_RECOMPUTE : TRANSFORMER_KEEP;
    const size_t B = shape->batch, P = config->vision.patch_size;
    struct arena arena = {0}, text_scratch;
    struct parameters table = {0};
    struct image_tower image = {0};
    struct text_tower text = {0};
    enum status status = parameters_init(&table, config, error);
    if (status == STATUS_OK)
        status = image_tower_init(&image, config, &table.vision, shape->kept, memory, error);
    if (status == STATUS_OK)
        status = text_tower_init(&text, config, &table.text, memory, error);
    if (status != STATUS_OK)
        goto out_towers;

    arena_take(&arena, B, shape->kept, P * P * 3);
    arena_take(&arena, B, shape->kept, sizeof(int32_t));
    arena_take(&arena, B, config->text.context_length, sizeof(int32_t));
    arena_take(&arena, B, 1, sizeof(int32_t));
    for (int block = 0; block < 4; block++) /* embeddings of images and texts, gradients */
        arena_take_floats(&arena, shape->most, config->embed_dim);
    arena_take_floats(&arena, 1, 1);
    image_tower_take(&image, &arena, B);
    text_tower_take(&text, &arena, B);
    text_scratch = arena;
    image_tower_take_scratch(&image, &arena, B);
    text_tower_take_scratch(&text, &text_scratch, B);
    if (arena.overflow || text_scratch.overflow)
        status = error_set(error, STATUS_SYSTEM, "a batch of %zu samples is beyond any memory",
                           B);
    *bytes = arena.used > text_scratch.used ? arena.used : text_scratch.used;

out_towers:
    image_tower_free(&image);
    text_tower_free(&text);
    parameters_free(&table);
    return status;
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
                               bool average, struct error *error)
{
    *cost = (struct training_cost){
        .image_flops = clip_config_image_flops(config, shape->kept),
        .text_flops = clip_config_text_flops(config),
        .training_flops = training_cost_sample_flops(config, shape->kept, freeze),
    };
    enum status status = count_parameters(cost, config, freeze, average, error);
    if (status == STATUS_OK)
        status = measure_activations(config, shape, false, &cost->activation_bytes, error);
    if (status == STATUS_OK)
        status = measure_activations(config, shape, true, &cost->recomputed_activation_bytes,
                                     error);
    if (status == STATUS_OK)
        status = measure_batch(cost, config, shape, error);
    return status;
}
