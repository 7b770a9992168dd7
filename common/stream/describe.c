#include "stream/describe.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

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

/* The length of the UTF-8 sequence at text, or 0 where there is none. */
static size_t utf8_length(const unsigned char *text, size_t size)
{
    size_t length = text[0] < 0x80                      ? 1
                    : text[0] >= 0xc2 && text[0] < 0xe0 ? 2
                    : text[0] >= 0xe0 && text[0] < 0xf0 ? 3
                    : text[0] >= 0xf0 && text[0] < 0xf5 ? 4
                                                        : 0;
    if (length == 0 || length > size)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xf0 && text[1] < 0x90);
    bool surrogate = text[0] == 0xed && text[1] >= 0xa0;
    bool too_large = text[0] == 0xf4 && text[1] >= 0x90;
    return overlong || surrogate || too_large ? 0 : length;
}

static bool is_text(const unsigned char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        size_t length = utf8_length(text + i, size - i);
        bool control = text[i] < 0x20 && text[i] != '\n' && text[i] != '\t' && text[i] != '\r';
        if (length == 0 || control)
            return false;
        i += length;
    }
    return true;
}

void describe_string(FILE *out, const char *text, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    putc('"', out);
    for (size_t i = 0; i < size;) {
        size_t length = utf8_length(bytes + i, size - i);
        if (length == 0)
            fputs("\\ufffd", out);
        else if (bytes[i] == '"' || bytes[i] == '\\')
            fprintf(out, "\\%c", bytes[i]);
        else if (bytes[i] < 0x20)
            fprintf(out, "\\u%04x", bytes[i]);
        else
            fwrite(bytes + i, 1, length, out);
        i += length == 0 ? 1 : length;
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
