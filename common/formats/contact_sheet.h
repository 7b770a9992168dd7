/* contact_sheet.h - a page of pictures with captions, in sections with headings.
 *
 * Text is set by Pango, so that any script is shaped and wrapped as it should be, in the fonts
 * that fontconfig finds. The page is white; pictures keep their pixels exactly. One thread at a
 * time. */
#ifndef FORMATS_CONTACT_SHEET_H
#define FORMATS_CONTACT_SHEET_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum {
    SHEET_MARGIN = 16,     /* around the page, in pixels */
    SHEET_GAP = 12,        /* between cells */
    SHEET_SIDE_MAX = 32767 /* pixels; Cairo's own limit */
};

struct sheet;

struct sheet_layout {
    size_t columns; /* cells in a row */
    size_t cell;    /* width of a cell, and the height of its picture, in pixels */
    size_t lines;   /* captions are cut after so many */
};

/* How a byte of a caption is drawn. */
enum sheet_mark {
    SHEET_PLAIN,
    SHEET_DROPPED, /* struck out, in gray */
    SHEET_ORDER,   /* in another colour */
};

/* What a cell shows; everything is copied. Text is any bytes: what is not UTF-8 becomes U+FFFD,
 * control characters other than a line break become spaces. */
struct sheet_cell {
    const uint8_t *pixels; /* RGB u8 [height,width,3], at most `cell` each way; NULL: none */
    size_t width, height;
    const uint8_t *caption;
    size_t caption_size;  /* in bytes */
    const uint8_t *marks; /* enum sheet_mark of each byte; a character takes the highest of its
                           * bytes. NULL: all plain */
    const uint8_t *note;  /* in small type below */
    size_t note_size;
};

enum status sheet_open(struct sheet **sheet, struct sheet_layout layout, struct error *error);
void sheet_close(struct sheet *sheet); /* accepts NULL */

/* Begins a section: what follows stands below its heading. */
enum status sheet_add_section(struct sheet *sheet, struct error *error);

/* Sets the heading of the last section: a line in bold and one in small type. */
enum status sheet_set_heading(struct sheet *sheet, const char *title, const char *detail,
                              struct error *error);

/* Adds a cell to the last section. STATUS_BUG where there is none or the picture is too large.
 */
enum status sheet_add_cell(struct sheet *sheet, const struct sheet_cell *cell,
                           struct error *error);

/* Draws the page: *rgb becomes u8 [height,width,3]. STATUS_USAGE where a side of it would
 * exceed SHEET_SIDE_MAX. A section's first cell lies SHEET_MARGIN from the left, the next ones
 * `cell` + SHEET_GAP apart; rows are as high as their highest caption. */
enum status sheet_draw(struct sheet *sheet, struct buffer *rgb, size_t *width, size_t *height,
                       struct error *error);

/* After sheet_draw: where the picture of cell i (counted over all sections) begins. */
void sheet_cell_place(const struct sheet *sheet, size_t i, size_t *x, size_t *y);

#endif
