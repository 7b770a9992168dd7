#include "formats/contact_sheet.h"

#include <pango/pangocairo.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum {
    TITLE_PIXELS = 17, /* sizes of type */
    DETAIL_PIXELS = 12,
    CAPTION_PIXELS = 13,
    NOTE_PIXELS = 10,
    CAPTION_SPACE = 6,    /* between a picture and its caption, a caption and its note */
    ROW_SPACE = 16,       /* below a row */
    HEADING_SPACE = 12,   /* below a heading */
    SECTION_SPACE = 10,   /* above a heading but the first */
    CAPTION_BYTES = 2000, /* more is not shown, so that a page is set in bounded time */
};

static const char *const font_family = "DejaVu Sans, Sans";

struct color {
    uint8_t red, green, blue;
};
static const struct color black = {24, 24, 24}, gray = {150, 150, 150}, blue = {24, 92, 176};
static const struct color strike = {96, 96, 96}; /* thin, so darker than what it strikes */

/* UTF-8 that Pango takes, and the mark of each of its bytes. */
struct text {
    struct buffer bytes; /* without NUL */
    struct buffer marks;
};

struct cell {
    uint8_t *pixels; /* owned; NULL: none */
    size_t width, height;
    struct text caption, note;
    size_t x, y, text_y; /* set by the layout */
};

struct section {
    struct text title, detail;
    size_t first; /* cell */
    size_t y;     /* set by the layout */
};

struct sheet {
    struct sheet_layout layout;
    struct section *sections;
    struct cell *cells;
    size_t section_count, cell_count;
    size_t width, height; /* of the page, set by the layout */
};

/* ---- text ---- */

static void text_free(struct text *text)
{
    buffer_free(&text->bytes);
    buffer_free(&text->marks);
}

static enum status append_code(struct text *text, int32_t code, uint8_t mark,
                               struct error *error)
{
    uint8_t bytes[UTF8_LENGTH_MAX], marks[UTF8_LENGTH_MAX];
    if (code != '\n' && (code < ' ' || (code >= 0x7f && code < 0xa0)))
        code = ' ';
    const size_t length = utf8_write(code, bytes);
    memset(marks, mark, sizeof marks);
    enum status status = buffer_append(&text->bytes, bytes, length, error);
    return status == STATUS_OK ? buffer_append(&text->marks, marks, length, error) : status;
}

static enum status text_set(struct text *text, const uint8_t *bytes, size_t size,
                            const uint8_t *marks, struct error *error)
{
    const size_t shown = size < CAPTION_BYTES ? size : CAPTION_BYTES;
    enum status status = STATUS_OK;
    text->bytes.size = text->marks.size = 0;
    for (size_t at = 0; at < shown && status == STATUS_OK;) {
        const size_t start = at;
        const int32_t code = utf8_next(bytes, size, &at);
        uint8_t mark = SHEET_PLAIN;
        for (size_t i = start; marks != NULL && i < at; i++)
            mark = marks[i] > mark ? marks[i] : mark;
        status = append_code(text, code, mark, error);
    }
    if (status == STATUS_OK && shown < size)
        status = append_code(text, 0x2026, SHEET_PLAIN, error); /* an ellipsis */
    return status;
}

/* ---- what is on the sheet ---- */

enum status sheet_open(struct sheet **sheet, struct sheet_layout layout, struct error *error)
{
    *sheet = calloc(1, sizeof **sheet);
    if (*sheet == NULL)
        return error_memory(error, sizeof **sheet, "a sheet");
    (*sheet)->layout = layout;
    return STATUS_OK;
}

void sheet_close(struct sheet *sheet)
{
    if (sheet == NULL)
        return;
    for (size_t i = 0; i < sheet->section_count; i++) {
        text_free(&sheet->sections[i].title);
        text_free(&sheet->sections[i].detail);
    }
    for (size_t i = 0; i < sheet->cell_count; i++) {
        free(sheet->cells[i].pixels);
        text_free(&sheet->cells[i].caption);
        text_free(&sheet->cells[i].note);
    }
    free(sheet->sections);
    free(sheet->cells);
    free(sheet);
}

enum status sheet_add_section(struct sheet *sheet, struct error *error)
{
    const size_t size = (sheet->section_count + 1) * sizeof sheet->sections[0];
    struct section *grown = realloc(sheet->sections, size);
    if (grown == NULL)
        return error_memory(error, size, "a sheet");
    sheet->sections = grown;
    grown[sheet->section_count++] = (struct section){.first = sheet->cell_count};
    return STATUS_OK;
}

enum status sheet_set_heading(struct sheet *sheet, const char *title, const char *detail,
                              struct error *error)
{
    if (sheet->section_count == 0)
        return error_set(error, STATUS_BUG, "a heading without a section");
    struct section *section = &sheet->sections[sheet->section_count - 1];
    enum status status =
        text_set(&section->title, (const uint8_t *)title, strlen(title), NULL, error);
    if (status == STATUS_OK)
        status =
            text_set(&section->detail, (const uint8_t *)detail, strlen(detail), NULL, error);
    return status;
}

static enum status copy_cell(struct cell *to, const struct sheet_cell *from,
                             struct error *error)
{
    enum status status =
        text_set(&to->caption, from->caption, from->caption_size, from->marks, error);
    if (status == STATUS_OK)
        status = text_set(&to->note, from->note, from->note_size, NULL, error);
    if (status != STATUS_OK || from->pixels == NULL)
        return status;
    const size_t size = from->width * from->height * 3;
    to->pixels = malloc(size);
    if (to->pixels == NULL)
        return error_memory(error, size, "a picture");
    memcpy(to->pixels, from->pixels, size);
    to->width = from->width;
    to->height = from->height;
    return STATUS_OK;
}

enum status sheet_add_cell(struct sheet *sheet, const struct sheet_cell *cell,
                           struct error *error)
{
    const size_t side = sheet->layout.cell;
    if (sheet->section_count == 0)
        return error_set(error, STATUS_BUG, "a cell without a section");
    if (cell->pixels != NULL && (cell->width > side || cell->height > side))
        return error_set(error, STATUS_BUG, "a picture of %zu x %zu in a cell of %zu",
                         cell->width, cell->height, side);
    const size_t size = (sheet->cell_count + 1) * sizeof sheet->cells[0];
    struct cell *grown = realloc(sheet->cells, size);
    if (grown == NULL)
        return error_memory(error, size, "a sheet");
    sheet->cells = grown;
    grown[sheet->cell_count] = (struct cell){.pixels = NULL};
    return copy_cell(&grown[sheet->cell_count++], cell, error);
}

/* ---- setting type ---- */

static void add_attribute(PangoAttrList *list, PangoAttribute *attribute, size_t start,
                          size_t end)
{
    attribute->start_index = (guint)start;
    attribute->end_index = (guint)end;
    pango_attr_list_insert(list, attribute);
}

static PangoAttribute *foreground(struct color color)
{
    return pango_attr_foreground_new(color.red * 257, color.green * 257, color.blue * 257);
}

static PangoAttrList *mark_attributes(const struct text *text)
{
    PangoAttrList *list = pango_attr_list_new();
    const uint8_t *marks = text->marks.data;
    for (size_t start = 0, end; start < text->marks.size; start = end) {
        for (end = start + 1; end < text->marks.size && marks[end] == marks[start]; end++)
            ;
        if (marks[start] == SHEET_DROPPED) {
            add_attribute(list, foreground(gray), start, end);
            add_attribute(list, pango_attr_strikethrough_new(TRUE), start, end);
            add_attribute(list,
                          pango_attr_strikethrough_color_new(
                              strike.red * 257, strike.green * 257, strike.blue * 257),
                          start, end);
        } else if (marks[start] == SHEET_ORDER) {
            add_attribute(list, foreground(blue), start, end);
        }
    }
    return list;
}

struct type {
    int pixels;
    bool bold;
    size_t width; /* of a line */
    size_t lines;
};

static PangoLayout *set_type(cairo_t *cairo, const struct text *text, struct type type)
{
    PangoLayout *layout = pango_cairo_create_layout(cairo);
    PangoFontDescription *font = pango_font_description_from_string(font_family);
    pango_font_description_set_absolute_size(font, type.pixels * PANGO_SCALE);
    if (type.bold)
        pango_font_description_set_weight(font, PANGO_WEIGHT_BOLD);
    pango_layout_set_font_description(layout, font);
    pango_font_description_free(font);
    pango_layout_set_width(layout, (int)type.width * PANGO_SCALE);
    pango_layout_set_height(layout, -(int)type.lines);
    pango_layout_set_wrap(layout, PANGO_WRAP_WORD_CHAR);
    pango_layout_set_ellipsize(layout, PANGO_ELLIPSIZE_END);
    PangoAttrList *marks = mark_attributes(text);
    pango_layout_set_attributes(layout, marks);
    pango_attr_list_unref(marks);
    pango_layout_set_text(layout, (const char *)text->bytes.data, (int)text->bytes.size);
    return layout;
}

/* The height of a text in pixels, 0 where it is empty; drawn at (x, y) where `draw`. */
static size_t show_text(cairo_t *cairo, const struct text *text, struct type type,
                        struct color color, size_t x, size_t y, bool draw)
{
    if (text->bytes.size == 0)
        return 0;
    PangoLayout *layout = set_type(cairo, text, type);
    int height;
    pango_layout_get_pixel_size(layout, NULL, &height);
    if (draw) {
        cairo_set_source_rgb(cairo, color.red / 255., color.green / 255., color.blue / 255.);
        cairo_move_to(cairo, (double)x, (double)y);
        pango_cairo_show_layout(cairo, layout);
    }
    g_object_unref(layout);
    return (size_t)height;
}

static size_t show_caption(const struct sheet *sheet, cairo_t *cairo, const struct cell *cell,
                           size_t y, bool draw)
{
    const struct type type = {CAPTION_PIXELS, false, sheet->layout.cell, sheet->layout.lines};
    return show_text(cairo, &cell->caption, type, black, cell->x, y, draw);
}

static size_t show_note(const struct sheet *sheet, cairo_t *cairo, const struct cell *cell,
                        size_t y, bool draw)
{
    const struct type type = {NOTE_PIXELS, false, sheet->layout.cell, 1};
    return show_text(cairo, &cell->note, type, gray, cell->x, y, draw);
}

/* Returns where the heading ends. */
static size_t show_heading(const struct sheet *sheet, cairo_t *cairo,
                           const struct section *section, bool draw)
{
    const size_t width = sheet->width - 2 * SHEET_MARGIN;
    const struct type title = {TITLE_PIXELS, true, width, 2};
    const struct type detail = {DETAIL_PIXELS, false, width, 3};
    size_t y = section->y;
    y += show_text(cairo, &section->title, title, black, SHEET_MARGIN, y, draw);
    y += show_text(cairo, &section->detail, detail, gray, SHEET_MARGIN, y, draw);
    return y;
}

/* The caption and the note below a picture; returns how high they are. */
static size_t show_below(const struct sheet *sheet, cairo_t *cairo, const struct cell *cell,
                         bool draw)
{
    size_t y = cell->text_y;
    if (cell->pixels != NULL)
        y += CAPTION_SPACE;
    const size_t caption = show_caption(sheet, cairo, cell, y, draw);
    y += caption > 0 ? caption + CAPTION_SPACE / 2 : 0;
    return y + show_note(sheet, cairo, cell, y, draw) - cell->text_y;
}

/* ---- the layout of the page ---- */

static size_t section_end(const struct sheet *sheet, size_t s)
{
    return s + 1 < sheet->section_count ? sheet->sections[s + 1].first : sheet->cell_count;
}

static size_t page_width(const struct sheet *sheet)
{
    size_t columns = 1;
    for (size_t s = 0; s < sheet->section_count; s++) {
        const size_t cells = section_end(sheet, s) - sheet->sections[s].first;
        columns = cells > columns ? cells : columns;
    }
    if (columns > sheet->layout.columns)
        columns = sheet->layout.columns;
    const size_t width =
        2 * SHEET_MARGIN + columns * (sheet->layout.cell + SHEET_GAP) - SHEET_GAP;
    /* A heading needs a line of some length. */
    return width > 480 ? width : 480;
}

/* Places one row of cells at y; returns where it ends. */
static size_t place_row(struct sheet *sheet, cairo_t *cairo, size_t first, size_t count,
                        size_t y)
{
    size_t pictures = 0, below = 0;
    for (size_t i = 0; i < count; i++) {
        struct cell *cell = &sheet->cells[first + i];
        cell->x = SHEET_MARGIN + i * (sheet->layout.cell + SHEET_GAP);
        cell->y = y;
        pictures = cell->height > pictures ? cell->height : pictures;
    }
    for (size_t i = 0; i < count; i++) {
        struct cell *cell = &sheet->cells[first + i];
        cell->text_y = y + pictures;
        const size_t height = show_below(sheet, cairo, cell, false);
        below = height > below ? height : below;
    }
    return y + pictures + below + ROW_SPACE;
}

static size_t place_section(struct sheet *sheet, cairo_t *cairo, size_t s, size_t y)
{
    struct section *section = &sheet->sections[s];
    section->y = s == 0 ? y : y + SECTION_SPACE;
    y = show_heading(sheet, cairo, section, false) + HEADING_SPACE;
    const size_t end = section_end(sheet, s), columns = sheet->layout.columns;
    for (size_t i = section->first; i < end && y <= SHEET_SIDE_MAX; i += columns)
        y = place_row(sheet, cairo, i, end - i < columns ? end - i : columns, y);
    return y;
}

static enum status place_all(struct sheet *sheet, struct error *error)
{
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, 1, 1);
    cairo_t *cairo = cairo_create(surface);
    size_t y = SHEET_MARGIN;
    sheet->width = page_width(sheet);
    for (size_t s = 0; s < sheet->section_count && y <= SHEET_SIDE_MAX; s++)
        y = place_section(sheet, cairo, s, y);
    sheet->height = y;
    cairo_destroy(cairo);
    cairo_surface_destroy(surface);
    if (sheet->width <= SHEET_SIDE_MAX && sheet->height <= SHEET_SIDE_MAX)
        return STATUS_OK;
    error_set(error, STATUS_USAGE, "%zu cells of %zu pixels do not fit on a sheet of %d x %d",
              sheet->cell_count, sheet->layout.cell, SHEET_SIDE_MAX, SHEET_SIDE_MAX);
    return error_hint(error, "show fewer samples, or smaller ones");
}

/* ---- drawing ---- */

/* Cairo's pixels are 32-bit words: red, green and blue from the third byte down. */
static void copy_picture(const struct cell *cell, uint8_t *pixels, size_t stride)
{
    const uint8_t *from = cell->pixels;
    for (size_t y = 0; y < cell->height; y++) {
        uint32_t *row = (uint32_t *)(void *)(pixels + (cell->y + y) * stride) + cell->x;
        for (size_t x = 0; x < cell->width; x++, from += 3)
            row[x] = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];
    }
}

static void draw_page(const struct sheet *sheet, cairo_surface_t *surface)
{
    cairo_t *cairo = cairo_create(surface);
    cairo_set_source_rgb(cairo, 1, 1, 1);
    cairo_paint(cairo);
    for (size_t s = 0; s < sheet->section_count; s++)
        show_heading(sheet, cairo, &sheet->sections[s], true);
    for (size_t i = 0; i < sheet->cell_count; i++)
        show_below(sheet, cairo, &sheet->cells[i], true);
    cairo_destroy(cairo);
    cairo_surface_flush(surface);
    for (size_t i = 0; i < sheet->cell_count; i++)
        if (sheet->cells[i].pixels != NULL)
            copy_picture(&sheet->cells[i], cairo_image_surface_get_data(surface),
                         (size_t)cairo_image_surface_get_stride(surface));
    cairo_surface_mark_dirty(surface);
}

static enum status copy_page(const struct sheet *sheet, cairo_surface_t *surface,
                             struct buffer *rgb, struct error *error)
{
    const size_t stride = (size_t)cairo_image_surface_get_stride(surface);
    const uint8_t *pixels = cairo_image_surface_get_data(surface);
    const size_t size = sheet->width * sheet->height * 3;
    rgb->size = 0;
    enum status status = buffer_reserve(rgb, size, error);
    if (status != STATUS_OK)
        return status;
    rgb->size = size;
    uint8_t *to = rgb->data;
    for (size_t y = 0; y < sheet->height; y++) {
        const uint32_t *row = (const uint32_t *)(const void *)(pixels + y * stride);
        for (size_t x = 0; x < sheet->width; x++, to += 3) {
            to[0] = (uint8_t)(row[x] >> 16);
            to[1] = (uint8_t)(row[x] >> 8);
            to[2] = (uint8_t)row[x];
        }
    }
    return STATUS_OK;
}

enum status sheet_draw(struct sheet *sheet, struct buffer *rgb, size_t *width, size_t *height,
                       struct error *error)
{
    enum status status = place_all(sheet, error);
    if (status != STATUS_OK)
        return status;
    *width = sheet->width;
    *height = sheet->height;
    cairo_surface_t *surface = cairo_image_surface_create(
        CAIRO_FORMAT_RGB24, (int)sheet->width, (int)sheet->height);
    if (cairo_surface_status(surface) == CAIRO_STATUS_SUCCESS) {
        draw_page(sheet, surface);
        status = copy_page(sheet, surface, rgb, error);
    } else {
        status = error_memory(error, (unsigned long long)sheet->width * sheet->height * 4,
                              "a sheet");
    }
    cairo_surface_destroy(surface);
    return status;
}

void sheet_cell_place(const struct sheet *sheet, size_t i, size_t *x, size_t *y)
{
    *x = sheet->cells[i].x;
    *y = sheet->cells[i].y;
}
