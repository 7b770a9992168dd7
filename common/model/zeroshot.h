/* zeroshot.h - classification by the names of the classes (Radford et al. 2021, section 3.1.4),
 * with CLIP_benchmark's metrics. */
#ifndef MODEL_ZEROSHOT_H
#define MODEL_ZEROSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/text_list.h"
#include "model/caption_encoder.h"
#include "model/clip.h"

/* weights[classes,E]: by class, the mean of its prompts' unit embeddings, of unit length. One
 * prompt for every template. */
enum status zeroshot_build_classifier(struct clip *clip, struct caption_encoder *encoder,
                                      const struct text_list *classes,
                                      const struct text_list *templates, float *weights,
                                      struct error *error);

/* logits[count,classes] = 100 * cosine of embeddings[count,E] and weights[classes,E], in fp32
 * whatever the model computes in; host memory. */
void zeroshot_logits(const float *embeddings, size_t count, const float *weights,
                     size_t classes, size_t E, float *logits);

/* Counts over a set of images, or over those whose class is in a subset. */
struct zeroshot_score {
    size_t classes;
    const bool *member; /* [classes] or NULL: which labels count; not owned */
    uint64_t images;
    uint64_t top1, top5;
    uint64_t *right, *seen; /* [classes], owned: for the recall of each class */
};

struct zeroshot_metrics {
    double acc1;
    double acc5;                  /* NaN with fewer than five classes */
    double mean_per_class_recall; /* over the classes that occur */
};

enum status zeroshot_score_init(struct zeroshot_score *score, size_t classes,
                                const bool *member, struct error *error);
void zeroshot_score_free(struct zeroshot_score *score);

/* One image: logits[classes] and its label. Equal logits rank by class index. */
void zeroshot_score_add(struct zeroshot_score *score, const float *logits, size_t label);

/* NaN where no image was counted. */
struct zeroshot_metrics zeroshot_score_metrics(const struct zeroshot_score *score);

#endif
