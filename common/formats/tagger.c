#include "formats/tagger.h"

#include <string.h>

#include "formats/tagger_model.h"

void tagger_look_up(const struct tagger *tagger, const uint8_t *word, size_t size, bool lower,
                    struct tagger_facts *facts)
{
    tagger_describe(word, size, lower, facts);
    const uint32_t key = tagger_word_key(facts->hash);
    for (size_t slot = key & tagger->entry_mask; tagger->entries[slot].hash != 0;
         slot = (slot + 1) & tagger->entry_mask) {
        const struct tagger_entry *entry = &tagger->entries[slot];
        if (entry->hash == key) {
            facts->tags = entry->tags;
            facts->sure = entry->sure;
            return;
        }
    }
}

/* Finds the rows of the features that have one; returns their number. The slots and then the
 * weights are asked for all together: each is a cache miss, and one at a time they would be
 * most of the work. */
static int find_rows(const struct tagger *tagger, const uint32_t keys[TAGGER_FEATURES],
                     uint32_t places[TAGGER_FEATURES])
{
    int count = 0;
    for (int i = 0; i < TAGGER_FEATURES; i++)
        __builtin_prefetch(&tagger->rows[keys[i] & tagger->row_mask]);
    for (int i = 0; i < TAGGER_FEATURES; i++) {
        size_t slot = keys[i] & tagger->row_mask;
        while (tagger->rows[slot].key != keys[i] && tagger->rows[slot].key != 0)
            slot = (slot + 1) & tagger->row_mask;
        const struct tagger_row *row = &tagger->rows[slot];
        places[count] = row->weights; /* without weights in an empty slot */
        count += row->key != 0;
        __builtin_prefetch(tagger->weights + (row->weights >> TAGGER_TAG_BITS));
    }
    return count;
}

static int best_tag(const struct tagger *tagger, const uint32_t keys[TAGGER_FEATURES])
{
    uint32_t places[TAGGER_FEATURES];
    int32_t scores[TAGGER_TAGS_MAX + 1] = {0};
    const int count = find_rows(tagger, keys, places);
    for (int i = 0; i < count; i++) {
        const uint16_t *weight = tagger->weights + (places[i] >> TAGGER_TAG_BITS);
        const uint16_t *end = weight + (places[i] & TAGGER_TAGS_MAX);
        for (; weight < end; weight++)
            scores[*weight & TAGGER_TAGS_MAX] += (int16_t)*weight >> TAGGER_TAG_BITS;
    }
    int best = 0;
    for (int tag = 1; tag < tagger->tag_count; tag++)
        if (scores[tag] > scores[best])
            best = tag;
    return best;
}

static void tag_sentence(const struct tagger *tagger, const struct tagger_facts *words,
                         size_t count, uint8_t *tags)
{
    const int sentence_case = tagger_sentence_case(words, count);
    int before = TAGGER_BOUNDARY, before2 = TAGGER_BOUNDARY;
    for (size_t i = 0; i < count; i++) {
        uint32_t keys[TAGGER_FEATURES];
        int tag = words[i].sure;
        if (tag == TAGGER_UNSURE) {
            tagger_features(words, count, i, sentence_case, before, before2, keys);
            tag = best_tag(tagger, keys);
        }
        tags[i] = (uint8_t)tag;
        before2 = before;
        before = tag;
    }
}

enum status tagger_tag(const struct tagger *tagger, struct tagger_scratch *scratch,
                       const uint8_t *text, const struct tagger_word *words, size_t count,
                       uint8_t *tags, struct error *error)
{
    enum status status =
        buffer_reserve(&scratch->facts, count * sizeof(struct tagger_facts), error);
    if (status != STATUS_OK)
        return status;
    struct tagger_facts *facts = (void *)scratch->facts.data;
    for (size_t i = 0; i < count; i++)
        tagger_look_up(tagger, text + words[i].start, words[i].size, false, &facts[i]);
    for (size_t at = 0, size; at < count; at += size) {
        size = tagger_sentence_size(text, words + at, count - at);
        tag_sentence(tagger, facts + at, size, tags + at);
    }
    return STATUS_OK;
}

void tagger_scratch_free(struct tagger_scratch *scratch)
{
    buffer_free(&scratch->facts);
}

int tagger_tag_count(const struct tagger *tagger)
{
    return tagger->tag_count;
}

const char *tagger_tag_name(const struct tagger *tagger, int tag)
{
    return tagger->names[tag];
}

uint8_t tagger_priority(const struct tagger *tagger, int tag)
{
    return tagger->priorities[tag];
}
