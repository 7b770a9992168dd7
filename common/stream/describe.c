#include "stream/describe.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "stream/safetensors.h"

static double half_to_double(uint16_t bits)
{
    int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double value = exponent == 0    ? ldexp(mantissa, -24)
                   : exponent == 31 ? (mantissa ? NAN : INFINITY)
                                    : ldexp(1024 + mantissa, exponent - 25);
    return bits >> 15 ? -value : value;
}

static double bfloat_to_double(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* E4M3 has no infinity: all ones is NaN. E5M2 is half precision cut short. */
static double f8_e4m3_to_double(uint8_t bits)
{
    int exponent = bits >> 3 & 15, mantissa = bits & 7;
    double value = (bits & 127) == 127 ? NAN
                   : exponent == 0     ? ldexp(mantissa, -9)
                                       : ldexp(8 + mantissa, exponent - 10);
    return bits >> 7 ? -value : value;
}

double tensor_value(const struct tensor *tensor, size_t i)
{
    const void *data = tensor->data;
    switch (tensor->dtype) {
    case DTYPE_BOOL:
    case DTYPE_U8:
        return ((const uint8_t *)data)[i];
    case DTYPE_I8:
        return ((const int8_t *)data)[i];
    case DTYPE_F8_E4M3:
        return f8_e4m3_to_double(((const uint8_t *)data)[i]);
    case DTYPE_F8_E5M2:
        return half_to_double((uint16_t)(((const uint8_t *)data)[i] << 8));
    case DTYPE_I16:
        return ((const int16_t *)data)[i];
    case DTYPE_U16:
        return ((const uint16_t *)data)[i];
    case DTYPE_F16:
        return half_to_double(((const uint16_t *)data)[i]);
    case DTYPE_BF16:
        return bfloat_to_double(((const uint16_t *)data)[i]);
    case DTYPE_I32:
        return ((const int32_t *)data)[i];
    case DTYPE_U32:
        return ((const uint32_t *)data)[i];
    case DTYPE_F32:
        return ((const float *)data)[i];
    case DTYPE_I64:
        return (double)((const int64_t *)data)[i];
    case DTYPE_U64:
        return (double)((const uint64_t *)data)[i];
    case DTYPE_F64:
        return ((const double *)data)[i];
    case DTYPE_COUNT:
        break;
    }
    return NAN;
}

void value_range_add(struct value_range *range, const struct tensor *tensor)
{
    size_t count = tensor->size / dtype_size(tensor->dtype);
    for (size_t i = 0; i < count; i++) {
        double value = tensor_value(tensor, i);
        if (!isfinite(value)) {
            range->not_finite++;
            continue;
        }
        if (range->count == 0 || value < range->low)
            range->low = value;
        if (range->count == 0 || value > range->high)
            range->high = value;
        range->sum += value;
        range->count++;
    }
}

/* Well-formed UTF-8 without control characters but for blanks. */
static bool is_text(const unsigned char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t start = at;
        int32_t code = utf8_next(text, size, &at);
        bool stored = at - start == 3 && memcmp(text + start, "\xef\xbf\xbd", 3) == 0;
        if ((code == UTF8_REPLACEMENT && !stored) ||
            (code < 0x20 && code != '\n' && code != '\t' && code != '\r'))
            return false;
    }
    return true;
}

/* ---- the table of tensors ---- */

static struct tensor_row *find_row(struct tensor_table *table, const struct tensor *tensor)
{
    for (size_t i = 0; i < table->count; i++)
        if (strcmp(table->rows[i].tensor.name, tensor->name) == 0)
            return &table->rows[i];
    const size_t size = (table->count + 1) * sizeof *table->rows;
    struct tensor_row *grown = realloc(table->rows, size);
    if (grown == NULL)
        return NULL;
    table->rows = grown;
    grown[table->count] = (struct tensor_row){.tensor = *tensor};
    grown[table->count].tensor.data = NULL;
    return &grown[table->count++];
}

enum status tensor_table_add(struct tensor_table *table, const struct tensor *tensor,
                             bool ragged, struct error *error)
{
    struct tensor_row *row = find_row(table, tensor);
    if (row == NULL)
        return error_memory(error, (table->count + 1) * sizeof *table->rows, "a summary");
    row->ragged = ragged;
    row->bytes += tensor->size;
    value_range_add(&row->range, tensor);
    return STATUS_OK;
}

enum status tensor_table_add_record(struct tensor_table *table, const struct record *record,
                                    struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < record->count && status == STATUS_OK; i++) {
        const struct tensor *tensor = &record->tensors[i];
        if (!record_is_offsets(record, tensor))
            status = tensor_table_add(table, tensor,
                                      record_offsets(record, tensor->name) != NULL, error);
    }
    return status;
}

static void print_row(const struct tensor_row *row, bool stream, FILE *out)
{
    char shape[256] = "[";
    for (int d = 0; d < row->tensor.rank; d++) {
        const size_t used = strlen(shape);
        if (d == 0 && stream)
            snprintf(shape + used, sizeof shape - used, "%s", row->ragged ? "ragged" : "B");
        else
            snprintf(shape + used, sizeof shape - used, "%s%zu", d > 0 ? "," : "",
                     row->tensor.shape[d]);
    }
    const size_t used = strlen(shape);
    snprintf(shape + used, sizeof shape - used, "]");
    const double mean = row->range.count > 0 ? row->range.sum / (double)row->range.count : 0;
    fprintf(out, "%-36s %-5s %-17s %12" PRIu64 " %12.6g %12.6g %12.6g", row->tensor.name,
            dtype_name(row->tensor.dtype), shape, row->bytes, row->range.low, mean,
            row->range.high);
    if (row->range.not_finite > 0)
        fprintf(out, "  %" PRIu64 " not finite", row->range.not_finite);
    fputc('\n', out);
}

void tensor_table_print(const struct tensor_table *table, bool stream, FILE *out)
{
    fprintf(out, "%-36s %-5s %-17s %12s %12s %12s %12s\n", "tensor", "type", "shape", "bytes",
            "min", "mean", "max");
    for (size_t i = 0; i < table->count; i++)
        print_row(&table->rows[i], stream, out);
}

void tensor_table_free(struct tensor_table *table)
{
    free(table->rows);
    *table = (struct tensor_table){.rows = NULL};
}

/* ---- files ---- */

void describe_metadata(FILE *out, const struct metadata *metadata)
{
    for (size_t i = 0; i < metadata->count; i++)
        fprintf(out, "%s: %s\n", metadata->entries[i].key, metadata->entries[i].value);
}

enum status describe_file(FILE *out, const char *path, struct error *error)
{
    struct safetensors file;
    struct tensor_table table = {.rows = NULL};
    enum status status = safetensors_open(&file, path, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < file.header.count && status == STATUS_OK; i++)
        status = tensor_table_add(&table, &file.header.tensors[i], false, error);
    if (status == STATUS_OK) {
        fprintf(out, "%s: %zu tensors, %zu bytes of data\n", path, file.header.count,
                file.header.data_size);
        describe_metadata(out, &file.header.metadata);
        tensor_table_print(&table, false, out);
    }
    tensor_table_free(&table);
    safetensors_close(&file);
    return status;
}

enum status describe_file_health(FILE *out, const char *path, struct error *error)
{
    struct safetensors file;
    enum status status = safetensors_open(&file, path, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < file.header.count && status == STATUS_OK; i++) {
        struct value_range range = {0};
        value_range_add(&range, &file.header.tensors[i]);
        if (range.not_finite > 0)
            status = error_set(error, STATUS_DATA,
                               "%s: tensor '%s' has %" PRIu64 " values not finite", path,
                               file.header.tensors[i].name, range.not_finite);
    }
    if (status == STATUS_OK)
        fprintf(out, "%s: whole, %zu tensors, %zu bytes of data, all finite\n", path,
                file.header.count, file.header.data_size);
    safetensors_close(&file);
    return status;
}

/* ---- samples ---- */

void describe_string(FILE *out, const char *text, size_t size)
{
    const uint8_t *bytes = (const uint8_t *)text;
    putc('"', out);
    for (size_t at = 0; at < size;) {
        uint8_t encoded[UTF8_LENGTH_MAX] = {0};
        int32_t code = utf8_next(bytes, size, &at);
        if (code == '"' || code == '\\')
            fprintf(out, "\\%c", (char)code);
        else if (code < 0x20)
            fprintf(out, "\\u%04x", (unsigned)code);
        else
            fwrite(encoded, 1, utf8_write(code, encoded), out);
    }
    putc('"', out);
}

static void describe_number(FILE *out, const struct tensor *tensor, size_t i)
{
    double value = tensor_value(tensor, i);
    if (tensor->dtype == DTYPE_I64)
        fprintf(out, "%" PRId64, ((const int64_t *)tensor->data)[i]);
    else if (tensor->dtype == DTYPE_U64)
        fprintf(out, "%" PRIu64, ((const uint64_t *)tensor->data)[i]);
    else if (!isfinite(value))
        fprintf(out, "null");
    else
        fprintf(out, "%.9g", value);
}

static void describe_shape(FILE *out, const struct tensor *tensor, size_t first)
{
    fprintf(out, "{\"dtype\":\"%s\",\"shape\":[%zu", dtype_name(tensor->dtype), first);
    for (int d = 1; d < tensor->rank; d++)
        fprintf(out, ",%zu", tensor->shape[d]);
    fprintf(out, "]}");
}

/* Rows begin..end of the first dimension. */
static void describe_rows(FILE *out, const struct tensor *tensor, size_t begin, size_t end,
                          bool ragged, size_t most)
{
    size_t row = 1;
    for (int d = 1; d < tensor->rank; d++)
        row *= tensor->shape[d];
    const unsigned char *bytes = (const unsigned char *)tensor->data + begin * row;
    size_t count = (end - begin) * row;

    if (ragged && tensor->dtype == DTYPE_U8 && is_text(bytes, count)) {
        describe_string(out, (const char *)bytes, count);
    } else if (count > most) {
        describe_shape(out, tensor, end - begin);
    } else if (!ragged && tensor->rank == 1) {
        describe_number(out, tensor, begin);
    } else {
        putc('[', out);
        for (size_t i = 0; i < count; i++) {
            if (i > 0)
                putc(',', out);
            describe_number(out, tensor, begin * row + i);
        }
        putc(']', out);
    }
}

void describe_sample(FILE *out, const struct record *record, size_t i, size_t most)
{
    bool first = true;
    putc('{', out);
    for (size_t t = 0; t < record->count; t++) {
        const struct tensor *tensor = &record->tensors[t];
        const struct tensor *offsets = record_offsets(record, tensor->name);
        if (record_is_offsets(record, tensor))
            continue;
        if (!first)
            putc(',', out);
        first = false;
        describe_string(out, tensor->name, strlen(tensor->name));
        putc(':', out);
        if (offsets != NULL) {
            const int64_t *values = offsets->data;
            describe_rows(out, tensor, (size_t)values[i], (size_t)values[i + 1], true, most);
        } else {
            describe_rows(out, tensor, i, i + 1, false, most);
        }
    }
    fputs("}\n", out);
}
