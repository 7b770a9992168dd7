#include "base/utf8.h"

/* What may follow a lead byte: the range of the second byte excludes overlong forms,
 * surrogates and everything above U+10FFFF (The Unicode Standard, table 3-7). */
static size_t sequence_length(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead < 0xC2 || lead > 0xF4)
        return 1;
    if (lead < 0xE0)
        return 2;
    if (lead < 0xF0) {
        if (lead == 0xE0)
            *low = 0xA0;
        if (lead == 0xED)
            *high = 0x9F;
        return 3;
    }
    if (lead == 0xF0)
        *low = 0x90;
    if (lead == 0xF4)
        *high = 0x8F;
    return 4;
}

int32_t utf8_next(const uint8_t *text, size_t size, size_t *position)
{
    uint8_t lead = text[(*position)++];
    if (lead < 0x80)
        return lead;

    uint8_t low, high;
    size_t length = sequence_length(lead, &low, &high);
    if (length == 1)
        return UTF8_REPLACEMENT;
    int32_t code = lead & (0x7F >> length);
    for (size_t i = 1; i < length; i++) {
        if (*position == size || text[*position] < low || text[*position] > high)
            return UTF8_REPLACEMENT;
        code = code << 6 | (text[(*position)++] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    return code;
}

size_t utf8_write(int32_t code, uint8_t *out)
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xC0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xE0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (code & 0x3F));
    return 4;
}
