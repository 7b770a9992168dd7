#include "frame/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/contact_sheet.h"
#include "formats/image.h"
#include "frame/view_caption.h"
#include "frame/view_image.h"

enum { PAGE_WIDTH = 1500, TEXT_CELL = 240, COLUMNS_MAX = 1000 };

struct view {
    struct view_options options;
    const char *source;
    struct sheet *sheet; /* NULL until the first record says how large cells are */
    struct metadata facts; /* of the section */
    struct view_image image;
    struct view_caption caption;
    size_t shown;        /* samples, over all sections */
    uint64_t seen;       /* samples of the stream */
    /* Of the section. */
    size_t section_samples;
    size_t captions, kept, all; /* captions whose tokens were counted, and their tokens */
    char image_text[120];
};

enum status view_open(struct view **view, const struct view_options *options,
                      const char *source, struct error *error)
{
    *view = calloc(1, sizeof **view);
    if (*view == NULL)
        return error_memory(error, sizeof **view, "a view");
    (*view)->options = *options;
    (*view)->source = source;
    (*view)->image.cell = options->cell;
    return STATUS_OK;
}

void view_close(struct view *view)
{
    if (view == NULL)
        return;
    sheet_close(view->sheet);
    metadata_free(&view->facts);
    view_image_free(&view->image);
    view_caption_free(&view->caption);
    free(view);
}

bool view_has_room(const struct view *view)
{
    return view->shown < view->options.samples;
}

const char *view_warning(const struct view *view)
{
    return view->caption.warning[0] != '\0' ? view->caption.warning : NULL;
}

/* ---- sections ---- */

static enum status open_sheet(struct view *view, struct error *error)
{
    struct sheet_layout layout = {
        .columns = view->options.columns,
        .cell = view->image.cell > 0 ? view->image.cell : TEXT_CELL,
        .lines = view->options.lines,
    };
    if (layout.columns == 0)
        layout.columns =
            (PAGE_WIDTH - 2 * SHEET_MARGIN + SHEET_GAP) / (layout.cell + SHEET_GAP);
    if (layout.columns == 0)
        layout.columns = 1;
    view->image.cell = layout.cell;
    return sheet_open(&view->sheet, layout, error);
}

/* What was done to the samples, in large type. */
static void format_title(const struct view *view, char *title, size_t size)
{
    const char *image = metadata_get(&view->facts, "image.strategy");
    const char *text = metadata_get(&view->facts, "text.strategy");
    if (image == NULL && text == NULL)
        snprintf(title, size, "not reduced");
    else
        snprintf(title, size, "%s%.60s%s%s%.60s", image != NULL ? "image " : "",
                 image != NULL ? image : "", image != NULL && text != NULL ? ", " : "",
                 text != NULL ? "text " : "", text != NULL ? text : "");
}

/* How much is left, and of which stream. */
static void format_detail(const struct view *view, char *detail, size_t size)
{
    int used = snprintf(detail, size, "%zu sample%s of %.200s", view->section_samples,
                        view->section_samples == 1 ? "" : "s", view->source);
    if (view->image_text[0] != '\0')
        used += snprintf(detail + used, size - (size_t)used, "; %s", view->image_text);
    if (view->captions > 0)
        snprintf(detail + used, size - (size_t)used, "; %.1f of %.1f tokens a caption (%.0f%%)",
                 (double)view->kept / (double)view->captions,
                 (double)view->all / (double)view->captions,
                 view->all > 0 ? 100.0 * (double)view->kept / (double)view->all : 100.0);
}

static enum status end_section(struct view *view, struct error *error)
{
    char title[160], detail[600];
    format_title(view, title, sizeof title);
    format_detail(view, detail, sizeof detail);
    return sheet_set_heading(view->sheet, title, detail, error);
}

static enum status begin_section(struct view *view, const struct metadata *facts,
                                 struct error *error)
{
    enum status status = STATUS_OK;
    if (view->sheet != NULL)
        status = end_section(view, error);
    view->section_samples = view->captions = view->kept = view->all = 0;
    view->image_text[0] = '\0';
    if (status == STATUS_OK)
        status = metadata_copy(&view->facts, facts, error);
    return status == STATUS_OK ? view_caption_set_facts(&view->caption, facts, error) : status;
}

/* ---- samples ---- */

static enum status set_note(struct record *record, uint64_t number, size_t i, char *note,
                            size_t size, struct error *error)
{
    struct ragged key;
    snprintf(note, size, "sample %" PRIu64, number);
    if (record_find(record, "key") == NULL)
        return STATUS_OK;
    enum status status = record_require_ragged(record, "key", DTYPE_U8, &key, error);
    if (status == STATUS_OK && key.offsets[i + 1] > key.offsets[i])
        snprintf(note, size, "%.*s", (int)(key.offsets[i + 1] - key.offsets[i]),
                 (const char *)key.data + key.offsets[i]);
    return status;
}

static enum status show_sample(struct view *view, struct record *record, size_t i,
                               struct error *error)
{
    const bool has_image = view_image_present(&view->image);
    char note[160];
    enum status status = set_note(record, view->seen + i, i, note, sizeof note, error);
    if (status == STATUS_OK && has_image)
        status = view_image_draw(&view->image, i, error);
    if (status == STATUS_OK)
        status = view_caption_make(&view->caption, i, error);
    if (status != STATUS_OK)
        return error_prefix(error, "sample %" PRIu64, view->seen + i), status;
    const struct view_caption *caption = &view->caption;
    const struct picture *picture = &view->image.picture;
    view->captions += caption->counted;
    view->kept += caption->kept;
    view->all += caption->all;
    view->section_samples++;
    view->shown++;
    return sheet_add_cell(view->sheet,
                          &(struct sheet_cell){
                              .pixels = has_image ? picture->pixels.data : NULL,
                              .width = picture->width,
                              .height = picture->height,
                              .caption = caption->shown.data,
                              .caption_size = caption->shown.size,
                              .marks = caption->marks.data,
                              .note = (const uint8_t *)note,
                              .note_size = strlen(note),
                          },
                          error);
}

enum status view_add_record(struct view *view, struct record *record,
                            const struct metadata *facts, struct error *error)
{
    size_t batch;
    const bool new_section = view->sheet == NULL || !metadata_equal(&view->facts, facts);
    enum status status = record_batch(record, &batch, error);
    if (status == STATUS_OK && new_section)
        status = begin_section(view, facts, error);
    if (status == STATUS_OK)
        status = view_image_begin(&view->image, record, facts, error);
    if (status == STATUS_OK)
        status = view_caption_begin(&view->caption, record, error);
    if (status == STATUS_OK && view->sheet == NULL)
        status = open_sheet(view, error);
    if (status == STATUS_OK && new_section)
        status = sheet_add_section(view->sheet, error);
    if (status == STATUS_OK && view_image_present(&view->image) && view->image_text[0] == '\0')
        view_image_describe(&view->image, view->image_text, sizeof view->image_text);
    for (size_t i = 0; i < batch && status == STATUS_OK && view_has_room(view); i++)
        status = show_sample(view, record, i, error);
    view->seen += batch;
    return status;
}

/* ---- the end ---- */

enum status view_encode(struct view *view, struct buffer *png, struct error *error)
{
    struct buffer rgb = {0};
    size_t width = 0, height = 0;
    enum status status = STATUS_OK;
    if (view->sheet == NULL) {
        status = open_sheet(view, error);
        if (status == STATUS_OK)
            status = sheet_add_section(view->sheet, error);
    }
    if (status == STATUS_OK)
        status = end_section(view, error);
    if (status == STATUS_OK)
        status = sheet_draw(view->sheet, &rgb, &width, &height, error);
    if (status == STATUS_OK)
        status = image_encode_png(rgb.data, width, height, png, error);
    buffer_free(&rgb);
    return status;
}
