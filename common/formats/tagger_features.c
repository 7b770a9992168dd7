#include "formats/tagger_features.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

/* ---- words ---- */

enum {
    SHAPE_FIRST = 6, /* letters of a word whose kind its shape tells */
    SHAPE_LAST = 2,
};

/* Kinds of letters; a punctuation character is a kind of its own, its code. */
enum {
    KIND_UPPER = 1,
    KIND_LOWER, /* and letters without case */
    KIND_DIGIT,
};

struct letter {
    uint8_t bytes[UTF8_LENGTH_MAX]; /* in the normal form */
    size_t size;
    uint32_t kind;
};

static void read_ascii(uint8_t byte, struct letter *letter)
{
    letter->size = 1;
    letter->bytes[0] = byte;
    letter->kind = byte;
    if (byte >= 'A' && byte <= 'Z') {
        letter->bytes[0] = byte | 0x20;
        letter->kind = KIND_UPPER;
    } else if (byte >= 'a' && byte <= 'z') {
        letter->kind = KIND_LOWER;
    } else if (byte >= '0' && byte <= '9') {
        letter->bytes[0] = '0';
        letter->kind = KIND_DIGIT;
    }
}

/* The letter at word[*position], which moves past it. */
static void read_letter(const uint8_t *word, size_t size, size_t *position,
                        struct letter *letter)
{
    if (word[*position] < 0x80) {
        read_ascii(word[(*position)++], letter);
        return;
    }
    const int32_t code = utf8_next(word, size, position);
    const int32_t small = utf8proc_tolower(code);
    letter->size = utf8_write(small, letter->bytes);
    letter->kind = small == code ? KIND_LOWER : KIND_UPPER;
}

/* Collects the kinds of a word's letters. */
struct outline {
    uint64_t first;  /* of the first SHAPE_FIRST */
    uint32_t last[SHAPE_LAST];
    uint64_t runs;
    uint32_t previous;
    size_t count;
    bool upper, lower;
};

static void add_kind(struct outline *outline, uint32_t kind)
{
    if (outline->count < SHAPE_FIRST)
        outline->first = outline->first * 131 + kind;
    outline->last[0] = outline->last[1];
    outline->last[1] = kind;
    if (kind != outline->previous)
        outline->runs = outline->runs * 131 + kind;
    outline->previous = kind;
    outline->count++;
    outline->upper = outline->upper || kind == KIND_UPPER;
    outline->lower = outline->lower || kind == KIND_LOWER;
}

static void note_kind(struct tagger_facts *facts, uint32_t kind)
{
    if (kind == KIND_DIGIT)
        facts->has_digit = true;
    else if (kind == '-')
        facts->has_hyphen = true;
    if (kind > KIND_DIGIT)
        facts->has_other = true;
}

static uint64_t low_bytes(uint64_t value, int count)
{
    return value & ((UINT64_C(1) << 8 * count) - 1);
}

/* A word shorter than a suffix or prefix is filled up with bytes of 1, which no text has. */
void tagger_describe(const uint8_t *word, size_t size, bool lower, struct tagger_facts *facts)
{
    struct outline outline = {.count = 0};
    uint64_t hash = size, last = 0x0101010101, first = 0x010101;
    size_t length = 0;
    *facts = (struct tagger_facts){.tags = TAGGER_UNKNOWN, .sure = TAGGER_UNSURE};
    for (size_t at = 0; at < size;) {
        struct letter letter;
        read_letter(word, size, &at, &letter);
        if (lower && letter.kind == KIND_UPPER)
            letter.kind = KIND_LOWER;
        for (size_t i = 0; i < letter.size; i++) {
            const uint64_t byte = letter.bytes[i];
            hash = (hash ^ byte) * 0x9e3779b97f4a7c15u;
            hash ^= hash >> 32;
            last = last << 8 | byte;
            if (length < TAGGER_PREFIX_MAX)
                first += (byte - 1) << 8 * length;
            length++;
        }
        add_kind(&outline, letter.kind);
        note_kind(facts, letter.kind);
    }
    facts->hash = tagger_mix(hash);
    for (int i = 0; i < TAGGER_SUFFIX_MAX; i++)
        facts->suffix[i] = low_bytes(last, i + 1);
    for (int i = 0; i < TAGGER_PREFIX_MAX; i++)
        facts->prefix[i] = low_bytes(first, i + 1);
    facts->shape = (outline.first * 131 + outline.last[0]) * 131 + outline.last[1];
    facts->outline = outline.runs;
    if (outline.upper)
        facts->capital = outline.lower ? CAPITAL_SOME : CAPITAL_ALL;
}

/* ---- sentences ---- */

int tagger_sentence_case(const struct tagger_facts *words, size_t count)
{
    size_t capitals = 0;
    for (size_t i = 0; i < count; i++)
        capitals += words[i].capital != CAPITAL_NONE;
    if (capitals == 0)
        return 0;
    return capitals * 2 > count && count > 1 ? 2 : 1;
}

static bool is_word_start(uint8_t byte)
{
    return byte >= 0x80 || (byte >= '0' && byte <= '9') ||
           ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z');
}

size_t tagger_sentence_size(const uint8_t *text, const struct tagger_word *words, size_t count)
{
    for (size_t i = 0; i + 1 < count; i++) {
        const uint8_t mark = words[i].size > 0 ? text[words[i].start] : 0;
        if ((mark == '.' || mark == '!' || mark == '?') &&
            text[words[i].start + words[i].size - 1] == mark && words[i + 1].size > 0 &&
            is_word_start(text[words[i + 1].start]))
            return i + 1;
    }
    return count;
}

/* ---- features ---- */

static uint64_t pair(uint64_t a, uint64_t b)
{
    return tagger_mix(a + 77) + b * 0xff51afd7ed558ccdu;
}

static uint64_t triple(uint64_t a, uint64_t b, uint64_t c)
{
    return pair(pair(a, b), c);
}

/* What stands before the first and behind the last word. */
static const struct tagger_facts boundary = {
    .hash = 1, .suffix = {1, 1, 1, 1, 1}, .shape = 1, .outline = 1,
};

/* A feature is one value and the place where it stands in the list. */
void tagger_features(const struct tagger_facts *words, size_t count, size_t at,
                     int sentence_case, int before, int before2, uint32_t keys[TAGGER_FEATURES])
{
    const struct tagger_facts *word = &words[at];
    const struct tagger_facts *left = at > 0 ? word - 1 : &boundary;
    const struct tagger_facts *left2 = at > 1 ? word - 2 : &boundary;
    const struct tagger_facts *right = at + 1 < count ? word + 1 : &boundary;
    const struct tagger_facts *right2 = at + 2 < count ? word + 2 : &boundary;
    const uint64_t tag = (uint64_t)before, tag2 = (uint64_t)before2;
    const uint64_t style = (uint64_t)sentence_case, first = at == 0;
    const uint64_t kind = (uint64_t)word->has_digit | (uint64_t)word->has_hyphen << 1 |
                          (uint64_t)word->has_other << 2;
    const uint64_t values[TAGGER_FEATURES] = {
        0,
        word->hash,
        triple(word->hash, word->capital, style),
        word->suffix[0], word->suffix[1], word->suffix[2], word->suffix[3], word->suffix[4],
        word->prefix[0], word->prefix[1], word->prefix[2],
        triple(word->shape, first, style),
        triple(word->outline, first, style),
        pair(word->suffix[2], word->capital * 8u + first * 4 + style),
        /* the tags before */
        tag,
        pair(tag, tag2),
        pair(tag, word->hash),
        pair(tag2, word->hash),
        pair(tag, word->suffix[2]),
        pair(tag, right->hash),
        triple(tag, word->capital, kind),
        triple(tag, tag2, word->suffix[1]),
        /* the words around */
        left->hash, left2->hash, right->hash, right2->hash,
        pair(left->hash, word->hash),
        pair(word->hash, right->hash),
        pair(left->hash, right->hash),
        pair(left2->hash, left->hash),
        pair(right->hash, right2->hash),
        left->suffix[2], right->suffix[2],
        triple(left->hash, word->suffix[1], word->capital),
        triple(right->hash, word->suffix[1], word->capital),
        pair(right->capital * 4u + style, word->capital),
        pair(left->capital * 4u + style, word->capital),
        /* the tags that they may have */
        word->tags, right->tags, right2->tags,
        pair(tag, word->tags),
        triple(tag, tag2, word->tags),
        pair(word->tags, right->tags),
        triple(tag, word->tags, right->tags),
        triple(word->tags, right->tags, right2->tags),
        pair(right->suffix[1], word->tags),
        pair(right->tags, right->suffix[1]),
        triple(tag, word->suffix[1], right->tags),
    };
    for (size_t i = 0; i < TAGGER_FEATURES; i++) {
        const uint64_t key = tagger_mix(values[i] * 0x9e3779b97f4a7c15u +
                                        (i + 1) * 0xd6e8feb86659fd93u);
        keys[i] = key >> 32 != 0 ? (uint32_t)(key >> 32) : 1;
    }
}
