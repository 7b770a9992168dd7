#include "stream/header.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/utf8.h"

/* ---- reading JSON ---- */

/* A place in the text. The first failure is kept in *error and every later call fails. */
struct cursor {
    const char *json;
    size_t at;
    size_t size;
    struct error *error;
};

static bool fail(struct cursor *c, const char *what)
{
    error_set(c->error, STATUS_DATA, "header byte %zu: %s", c->at, what);
    return false;
}

static void skip_blanks(struct cursor *c)
{
    while (c->at < c->size && (c->json[c->at] == ' ' || c->json[c->at] == '\n' ||
                               c->json[c->at] == '\t' || c->json[c->at] == '\r'))
        c->at++;
}

/* Skips blanks; true, and past it, if the next character is `wanted`. */
static bool accept(struct cursor *c, char wanted)
{
    skip_blanks(c);
    if (c->at >= c->size || c->json[c->at] != wanted)
        return false;
    c->at++;
    return true;
}

static bool expect(struct cursor *c, char wanted)
{
    if (accept(c, wanted))
        return true;
    char what[] = "expected 'x'";
    what[10] = wanted;
    return fail(c, what);
}

static bool parse_hex4(struct cursor *c, unsigned *out)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        char h = c->at < c->size ? c->json[c->at] : '\0';
        unsigned digit;
        if (h >= '0' && h <= '9')
            digit = (unsigned)(h - '0');
        else if (h >= 'a' && h <= 'f')
            digit = (unsigned)(h - 'a' + 10);
        else if (h >= 'A' && h <= 'F')
            digit = (unsigned)(h - 'A' + 10);
        else
            return fail(c, "expected four hex digits after \\u");
        value = value << 4 | digit;
        c->at++;
    }
    *out = value;
    return true;
}

/* What follows "\u": one unit, or a surrogate pair. NUL is refused: our strings end with it. */
static bool parse_unicode_escape(struct cursor *c, char out[4], size_t *length)
{
    unsigned code;
    if (!parse_hex4(c, &code))
        return false;
    if (code >= 0xd800 && code < 0xdc00) {
        unsigned low;
        if (c->at + 2 > c->size || c->json[c->at] != '\\' || c->json[c->at + 1] != 'u')
            return fail(c, "a high surrogate without its low one");
        c->at += 2;
        if (!parse_hex4(c, &low))
            return false;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(c, "a high surrogate without its low one");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code <= 0xdfff) {
        return fail(c, "a low surrogate alone");
    } else if (code == 0) {
        return fail(c, "NUL in a string");
    }
    *length = utf8_write((int32_t)code, (uint8_t *)out);
    return true;
}

static bool parse_escape(struct cursor *c, char out[4], size_t *length)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    char letter = c->at < c->size ? c->json[c->at] : '\0';
    if (letter == 'u') {
        c->at++;
        return parse_unicode_escape(c, out, length);
    }
    const char *found = letter == '\0' ? NULL : strchr(letters, letter);
    if (found == NULL)
        return fail(c, "unknown escape in a string");
    c->at++;
    out[0] = values[found - letters];
    *length = 1;
    return true;
}

/* A string into out[0..limit), ended with NUL. */
static bool parse_string(struct cursor *c, char *out, size_t limit)
{
    if (!expect(c, '"'))
        return false;
    size_t length = 0;
    for (;;) {
        if (c->at >= c->size)
            return fail(c, "string without end");
        char bytes[4] = {c->json[c->at++]};
        size_t count = 1;
        if (bytes[0] == '"')
            break;
        if ((unsigned char)bytes[0] < 0x20)
            return fail(c, "control character in a string");
        if (bytes[0] == '\\' && !parse_escape(c, bytes, &count))
            return false;
        if (length + count >= limit)
            return fail(c, "string too long");
        memcpy(out + length, bytes, count);
        length += count;
    }
    out[length] = '\0';
    return true;
}

/* A non-negative integer without sign, fraction, exponent or leading zeros. */
static bool parse_size(struct cursor *c, size_t *out)
{
    skip_blanks(c);
    size_t start = c->at, value = 0;
    while (c->at < c->size && c->json[c->at] >= '0' && c->json[c->at] <= '9') {
        if (!size_multiply(value, 10, &value) ||
            !size_add(value, (size_t)(c->json[c->at] - '0'), &value))
            return fail(c, "number too large");
        c->at++;
    }
    if (c->at == start)
        return fail(c, "expected a non-negative integer");
    if (c->json[start] == '0' && c->at - start > 1)
        return fail(c, "number with a leading zero");
    *out = value;
    return true;
}

/* "[n,n,...]" of at most `limit` numbers. */
static bool parse_sizes(struct cursor *c, size_t *out, int limit, int *count)
{
    *count = 0;
    if (!expect(c, '['))
        return false;
    if (accept(c, ']'))
        return true;
    do {
        if (*count == limit)
            return fail(c, "array too long");
        if (!parse_size(c, &out[(*count)++]))
            return false;
    } while (accept(c, ','));
    return expect(c, ']');
}

/* ---- tensors ---- */

static bool grow(struct header *header, struct error *error)
{
    if (header->count < header->capacity)
        return true;
    size_t capacity = header->capacity == 0 ? 16 : 2 * header->capacity;
    void *tensors = realloc(header->tensors, capacity * sizeof header->tensors[0]);
    if (tensors != NULL)
        header->tensors = tensors;
    void *offsets = realloc(header->offsets, capacity * sizeof header->offsets[0]);
    if (offsets != NULL)
        header->offsets = offsets;
    if (tensors == NULL || offsets == NULL) {
        error_memory(error, capacity * sizeof header->tensors[0], "a header");
        return false;
    }
    header->capacity = capacity;
    return true;
}

/* The object {"dtype":..,"shape":..,"data_offsets":..}, its keys in any order. */
static bool parse_tensor(struct cursor *c, struct tensor *tensor, size_t *offset)
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    unsigned seen = 0;
    size_t range[2] = {0, 0};
    int count = 0;
    char text[32];

    if (!expect(c, '{'))
        return false;
    do {
        if (!parse_string(c, text, sizeof text) || !expect(c, ':'))
            return false;
        unsigned field = strcmp(text, "dtype") == 0          ? DTYPE
                         : strcmp(text, "shape") == 0        ? SHAPE
                         : strcmp(text, "data_offsets") == 0 ? OFFSETS
                                                             : 0;
        if (field == 0 || seen & field)
            return fail(c, field == 0 ? "unknown field of a tensor" : "field given twice");
        seen |= field;
        if (field == DTYPE) {
            if (!parse_string(c, text, sizeof text))
                return false;
            if (!dtype_from_name(text, strlen(text), &tensor->dtype))
                return fail(c, "unknown dtype");
        } else if (field == SHAPE) {
            if (!parse_sizes(c, tensor->shape, TENSOR_RANK_MAX, &tensor->rank))
                return false;
        } else if (!parse_sizes(c, range, 2, &count)) {
            return false;
        }
    } while (accept(c, ','));
    if (!expect(c, '}'))
        return false;

    if (seen != (DTYPE | SHAPE | OFFSETS) || count != 2)
        return fail(c, "tensor without dtype, shape or two data_offsets");
    if (!tensor_shape_size(tensor->dtype, tensor->rank, tensor->shape, &tensor->size))
        return fail(c, "shape too large");
    if (range[1] < range[0] || range[1] - range[0] != tensor->size)
        return fail(c, "data_offsets do not agree with dtype and shape");
    if (range[0] % dtype_size(tensor->dtype) != 0)
        return fail(c, "tensor not aligned to its element size");
    *offset = range[0];
    return true;
}

static bool parse_metadata(struct cursor *c, struct metadata *metadata)
{
    static _Thread_local char key[256], value[65536];
    if (!expect(c, '{'))
        return false;
    if (accept(c, '}'))
        return true;
    do {
        if (!parse_string(c, key, sizeof key) || !expect(c, ':') ||
            !parse_string(c, value, sizeof value))
            return false;
        if (metadata_get(metadata, key) != NULL)
            return fail(c, "metadata key given twice");
        if (metadata_set(metadata, key, value, c->error) != STATUS_OK)
            return false;
    } while (accept(c, ','));
    return expect(c, '}');
}

static bool parse_members(struct cursor *c, struct header *header)
{
    bool have_metadata = false;
    if (!expect(c, '{'))
        return false;
    if (accept(c, '}'))
        return true;
    do {
        if (!grow(header, c->error))
            return false;
        struct tensor *tensor = &header->tensors[header->count];
        *tensor = (struct tensor){.rank = 0};
        if (!parse_string(c, tensor->name, sizeof tensor->name) || !expect(c, ':'))
            return false;
        if (strcmp(tensor->name, "__metadata__") == 0) {
            if (have_metadata)
                return fail(c, "__metadata__ given twice");
            have_metadata = true;
            if (!parse_metadata(c, &header->metadata))
                return false;
        } else {
            if (!parse_tensor(c, tensor, &header->offsets[header->count]))
                return false;
            header->count++;
        }
    } while (accept(c, ','));
    return expect(c, '}');
}

/* Sorts by offset; tensors without bytes may share an offset with their neighbour. The
 * insertion sort is linear on headers that are in order already, as written ones are. */
static void sort_by_offset(struct header *header)
{
    for (size_t i = 1; i < header->count; i++) {
        size_t offset = header->offsets[i];
        struct tensor tensor = header->tensors[i];
        size_t end = offset + tensor.size;
        size_t j = i;
        while (j > 0 && (header->offsets[j - 1] > offset ||
                         (header->offsets[j - 1] == offset &&
                          header->offsets[j - 1] + header->tensors[j - 1].size > end))) {
            header->offsets[j] = header->offsets[j - 1];
            header->tensors[j] = header->tensors[j - 1];
            j--;
        }
        header->offsets[j] = offset;
        header->tensors[j] = tensor;
    }
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const struct tensor *const *)a)->name,
                  (*(const struct tensor *const *)b)->name);
}

static bool check_names(const struct header *header, struct error *error)
{
    if (header->count < 2)
        return true;
    const struct tensor **names = malloc(header->count * sizeof names[0]);
    if (names == NULL) {
        error_memory(error, header->count * sizeof names[0], "a header");
        return false;
    }
    for (size_t i = 0; i < header->count; i++)
        names[i] = &header->tensors[i];
    qsort(names, header->count, sizeof names[0], compare_names);
    bool unique = true;
    for (size_t i = 1; i < header->count && unique; i++) {
        if (strcmp(names[i - 1]->name, names[i]->name) == 0) {
            error_set(error, STATUS_DATA, "header: tensor '%s' given twice", names[i]->name);
            unique = false;
        }
    }
    free(names);
    return unique;
}

static bool check_tiling(struct header *header, struct error *error)
{
    size_t end = 0;
    for (size_t i = 0; i < header->count; i++) {
        if (header->offsets[i] != end) {
            error_set(error, STATUS_DATA, "header: tensor '%s' begins at byte %zu, expected %zu",
                      header->tensors[i].name, header->offsets[i], end);
            return false;
        }
        if (!size_add(end, header->tensors[i].size, &end)) {
            error_set(error, STATUS_DATA, "header: data too large");
            return false;
        }
    }
    header->data_size = end;
    return true;
}

enum status header_parse(struct header *header, const char *json, size_t size,
                         struct error *error)
{
    struct cursor c = {json, 0, size, error};
    header->count = 0;
    header->data_size = 0;
    metadata_free(&header->metadata);

    if (size == 0 || json[0] != '{')
        return error_set(error, STATUS_DATA, "header byte 0: expected '{'");
    if (!parse_members(&c, header))
        return error->status;
    for (; c.at < size; c.at++)
        if (json[c.at] != ' ')
            return error_set(error, STATUS_DATA, "header byte %zu: text after the object", c.at);
    sort_by_offset(header);
    if (!check_names(header, error) || !check_tiling(header, error))
        return error->status;
    return STATUS_OK;
}

/* ---- writing ---- */

static enum status append_text(struct buffer *out, const char *text, struct error *error)
{
    return buffer_append(out, text, strlen(text), error);
}

static enum status append_string(struct buffer *out, const char *text, struct error *error)
{
    enum status status = append_text(out, "\"", error);
    for (; status == STATUS_OK && *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        char escaped[8];
        if (byte == '"' || byte == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", byte);
        else if (byte < 0x20)
            snprintf(escaped, sizeof escaped, "\\u%04x", byte);
        else
            snprintf(escaped, sizeof escaped, "%c", byte);
        status = append_text(out, escaped, error);
    }
    return status == STATUS_OK ? append_text(out, "\"", error) : status;
}

static enum status append_metadata(struct buffer *out, const struct metadata *metadata,
                                   struct error *error)
{
    enum status status = append_text(out, "\"__metadata__\":{", error);
    for (size_t i = 0; status == STATUS_OK && i < metadata->count; i++) {
        if (i > 0)
            status = append_text(out, ",", error);
        if (status == STATUS_OK)
            status = append_string(out, metadata->entries[i].key, error);
        if (status == STATUS_OK)
            status = append_text(out, ":", error);
        if (status == STATUS_OK)
            status = append_string(out, metadata->entries[i].value, error);
    }
    return status == STATUS_OK ? append_text(out, "}", error) : status;
}

static enum status append_tensor(struct buffer *out, const struct tensor *tensor,
                                 size_t offset, struct error *error)
{
    char text[64];
    enum status status = append_string(out, tensor->name, error);
    snprintf(text, sizeof text, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(tensor->dtype));
    if (status == STATUS_OK)
        status = append_text(out, text, error);
    for (int i = 0; status == STATUS_OK && i < tensor->rank; i++) {
        snprintf(text, sizeof text, "%s%zu", i > 0 ? "," : "", tensor->shape[i]);
        status = append_text(out, text, error);
    }
    snprintf(text, sizeof text, "],\"data_offsets\":[%zu,%zu]}", offset, offset + tensor->size);
    return status == STATUS_OK ? append_text(out, text, error) : status;
}

enum status header_format(struct buffer *out, const struct tensor *tensors, size_t count,
                          const struct metadata *metadata, struct error *error)
{
    static const uint8_t no_length[HEADER_LENGTH_SIZE];
    size_t start = out->size;
    enum status status = buffer_append(out, no_length, sizeof no_length, error);
    if (status == STATUS_OK)
        status = append_text(out, "{", error);
    if (status == STATUS_OK && metadata->count > 0)
        status = append_metadata(out, metadata, error);

    size_t offset = 0;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        if (i > 0 || metadata->count > 0)
            status = append_text(out, ",", error);
        if (status == STATUS_OK)
            status = append_tensor(out, &tensors[i], offset, error);
        offset += tensors[i].size;
    }
    if (status == STATUS_OK)
        status = append_text(out, "}", error);
    while (status == STATUS_OK && (out->size - start) % HEADER_ALIGNMENT != 0)
        status = append_text(out, " ", error);
    if (status != STATUS_OK)
        return status;

    uint64_t length = out->size - start - HEADER_LENGTH_SIZE;
    for (int i = 0; i < HEADER_LENGTH_SIZE; i++)
        out->data[start + (size_t)i] = (uint8_t)(length >> 8 * i);
    return STATUS_OK;
}

void header_sort_tensors(struct tensor *tensors, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct tensor tensor = tensors[i];
        size_t j = i;
        while (j > 0 && dtype_size(tensors[j - 1].dtype) < dtype_size(tensor.dtype)) {
            tensors[j] = tensors[j - 1];
            j--;
        }
        tensors[j] = tensor;
    }
}

void header_free(struct header *header)
{
    free(header->tensors);
    free(header->offsets);
    metadata_free(&header->metadata);
    *header = (struct header){0};
}

uint64_t header_load_length(const uint8_t bytes[HEADER_LENGTH_SIZE])
{
    uint64_t length = 0;
    for (int i = HEADER_LENGTH_SIZE - 1; i >= 0; i--)
        length = length << 8 | bytes[i];
    return length;
}
