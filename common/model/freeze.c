#include "model/freeze.h"

#include <stdio.h>
#include <string.h>

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* The group of a tensor of a tower, 0 for the first one of all; `name` lacks the tower's
 * prefix. One group stands before the blocks, and the last block's has the final norm. */
static size_t group_of(const char *name, size_t layers)
{
    size_t block;
    if (sscanf(name, "transformer.resblocks.%zu.", &block) == 1)
        return 1 + block;
    if (starts_with(name, "ln_post.") || starts_with(name, "ln_final."))
        return layers;
    if (starts_with(name, "proj") || starts_with(name, "text_projection"))
        return layers + 1;
    return 0;
}

static bool is_frozen(const char *name, size_t layers, size_t groups, size_t trained)
{
    size_t first = trained < groups ? groups - trained : 0; /* that is trained */
    return group_of(name, layers) < first;
}

void freeze_apply(const struct freeze *freeze, const struct clip_config *config,
                  struct parameters *table)
{
    static const char image[] = "visual.";
    size_t image_layers = config->vision.transformer.layers;
    size_t text_layers = config->text.transformer.layers;
    size_t text_groups = text_layers + (config->text.projection == PROJECTION_NONE ? 1 : 2);

    for (size_t i = 0; i < table->count; i++) {
        struct parameter *p = &table->list[i];
        if (starts_with(p->name, "logit_"))
            p->frozen = false;
        else if (starts_with(p->name, image))
            p->frozen = freeze->image && is_frozen(p->name + strlen(image), image_layers,
                                                   image_layers + 2, freeze->image_groups);
        else
            p->frozen = freeze->text && is_frozen(p->name, text_layers, text_groups,
                                                  freeze->text_groups);
    }
}
