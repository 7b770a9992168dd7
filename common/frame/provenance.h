/* provenance.h - which programs made a stream or a checkpoint, and with what options.
 *
 * A stream's metadata holds one line for each stage, under pg.1, pg.2, ...: the name, the
 * version and every option that decides the output, given or not. What does not decide it (the
 * number of threads, say) is left out, so that the same work gives the same bytes. */
#ifndef FRAME_PROVENANCE_H
#define FRAME_PROVENANCE_H

#include <stddef.h>

#include "base/error.h"
#include "frame/options.h"
#include "stream/metadata.h"

/* The line of one program; owned by the caller, NULL for want of memory. Of many operands the
 * first ones stand for all. */
char *provenance_format(const char *program, const struct option_spec *options,
                        size_t option_count, char *const *operands, int operand_count);

/* Adds a line under the next free number. */
enum status provenance_append(struct metadata *map, const char *line, struct error *error);

/* Sets name: value for every option that decides the output. */
enum status provenance_settings(struct metadata *map, const struct option_spec *options,
                                size_t option_count, struct error *error);

/* STATUS_USAGE that names the first option of `now` with another value in `before`; options
 * that `before` lacks are passed over. */
enum status provenance_compare(const struct metadata *now, const struct metadata *before,
                               struct error *error);

#endif
