/* batch.h - training batches out of records of any size.
 *
 * A record brings images whole (`image` U8 [B,S,S,3]) or as kept patches (`patches` and
 * `patches.position`); the model sees patches either way. */
#ifndef MODEL_BATCH_H
#define MODEL_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "model/clip.h"
#include "model/config.h"
#include "stream/record.h"

/* The images of one record, as the model takes them. Views into the record. */
struct image_input {
    size_t batch;
    size_t kept;             /* K patches by image */
    const uint8_t *pixels;   /* whole images [B,S,S,3], or patches [B,K,P*P*3] */
    const int32_t *position; /* [B,K]; NULL: whole images */
};

/* STATUS_DATA, with what to change, where the record's images do not fit the model. */
enum status image_input_find(struct record *record, const struct clip_config *config,
                             struct image_input *out, struct error *error);

/* Writes patches[count,K,P*P*3] of images from..from+count; position[count,K] too, unless the
 * images are whole. */
void image_input_copy(const struct image_input *input, const struct clip_config *config,
                      size_t from, size_t count, uint8_t *patches, int32_t *position);

/* The record's `text_tokens` I32 [B,L] with the model's L. */
enum status text_input_find(struct record *record, const struct clip_config *config,
                            const int32_t **tokens, size_t *batch, struct error *error);

/* Collects samples until a batch is full. A zeroed struct is empty. */
struct batch_builder {
    const struct clip_config *config; /* not owned */
    uint64_t seed;                    /* of the patch dropout */
    size_t capacity;
    size_t count;
    size_t arriving; /* patches that the records bring by image */
    size_t kept;     /* K, what the model's patch_dropout leaves of them */
    uint8_t *patches;  /* [capacity,K,P*P*3], owned */
    int32_t *position; /* [capacity,K], owned; NULL where images come whole and stay so */
    int32_t *tokens;   /* [capacity,L], owned */
    uint8_t *one_patches;     /* a sample before its dropout, [arriving,P*P*3], owned, */
    int32_t *one_position;    /* [arriving], owned, */
    uint32_t *chosen;         /* and which of them stay, [K], owned */
    uint64_t seen;            /* samples so far, also of earlier batches */
    struct buffer keys;       /* the samples' keys, each ended by NUL */
    struct buffer given_keys; /* of the batch before, which the model may be at work on */
    size_t given_count;       /* samples of that */
    int64_t last_position[3]; /* of the last sample taken */
    bool has_position;        /* the stream carries positions */
};

/* Learns the layout from the stream's first record; later ones must agree. */
enum status batch_builder_init(struct batch_builder *builder, const struct clip_config *config,
                               size_t capacity, uint64_t seed, struct record *first,
                               struct error *error);
void batch_builder_free(struct batch_builder *builder);

/* Takes samples `from` onwards until the batch is full; *taken says how many. */
enum status batch_builder_take(struct batch_builder *builder, struct record *record,
                               size_t from, size_t *taken, struct error *error);

/* Begins the next batch; of the last one the keys are still known. */
void batch_builder_clear(struct batch_builder *builder);

/* Writes the keys of the batch before to a file, one a line, and the first few of them, each
 * after a space, into text[size] for a message. */
enum status batch_builder_write_keys(const struct batch_builder *builder, const char *path,
                                     char *text, size_t size, struct error *error);

/* The collected samples as the model takes them. */
struct clip_batch batch_builder_batch(const struct batch_builder *builder);

#endif
