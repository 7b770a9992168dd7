/* view.h - a contact sheet of a stream: what the model sees of each sample, and what a
 * reduction took away.
 *
 * Pictures are `image`, or `patches` put back at their positions with gray in between. The
 * grid is that of the facts image.grid and image.patch, else of image.size, else the smallest
 * square that holds every position of the record. Captions are `tokens`, else `text` encoded
 * again by the vocabulary that the stream names; the tokens that are not in `text_tokens` are
 * struck out. A sheet has a section for each set of facts, as in streams that were joined. */
#ifndef FRAME_VIEW_H
#define FRAME_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"
#include "stream/metadata.h"
#include "stream/record.h"

struct view_options {
    size_t samples; /* to show */
    size_t columns; /* 0: as many as fit on 1,500 pixels */
    size_t cell;    /* in pixels, which the first image fills; others are drawn to its scale. 0:
                     * that image's side, times a whole number where it is below 160, and 256
                     * where it is above */
    size_t lines;   /* of a caption */
};

struct view;

/* `source` is the stream's name in headings; it must live as long as the view. */
enum status view_open(struct view **view, const struct view_options *options,
                      const char *source, struct error *error);
void view_close(struct view *view); /* accepts NULL */

/* Whether there is room for further samples. */
bool view_has_room(const struct view *view);

/* Shows the samples of a record that was read, as many as there is room for. `facts` are the
 * stream's. STATUS_DATA where tensors or facts do not fit together. */
enum status view_add_record(struct view *view, struct record *record,
                            const struct metadata *facts, struct error *error);

/* Why captions are shown without what was dropped, or NULL. */
const char *view_warning(const struct view *view);

/* Ends the sheet; the contents of *png become the image. */
enum status view_encode(struct view *view, struct buffer *png, struct error *error);

#endif
