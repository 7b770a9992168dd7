#include "formats/tagger_learn.h"

#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/rng.h"
#include "formats/tagger_model.h"

enum {
    DICTIONARY_MIN = 3,   /* times a word must occur to be in the dictionary */
    SURE_MIN = 20,        /* and to be unambiguous */
    UPDATES_MIN = 4,      /* of a feature, before it counts */
    WEIGHT_SCALE = 8,     /* of weights in the file */
    WEIGHT_MIN = 5,       /* the smallest that is kept, after scaling */
    ROWS_AT_FIRST = 1 << 12,
};

/* Shares and probabilities, found by trial on the development part of UD English EWT. */
static const double tag_share_min = 0.03;  /* of a word's occurrences, for the dictionary */
static const double sure_share_min = 0.997;
static const double lower_chance = 0.25;   /* of a sentence to be read without capitals */
static const double join_chance = 0.2;     /* of a sentence to be read with hyphens joined */
static const double drop_chance = 0.5;     /* of a word that occurs once to be unknown */

/* Learning asks for a gold tag that wins by as much. */
static const float margin = 1;

struct row {
    uint32_t key; /* 0: an empty slot */
    uint32_t first; /* number of its first weight, or 0 */
    uint32_t updates; /* in this run */
};

struct weight {
    double total;   /* of `now` over the steps up to `stamp` */
    uint64_t stamp;
    float now;
    float sum;      /* of the averages of earlier runs */
    uint32_t next;  /* of the same row, or 0 */
    uint32_t tag;
};

/* A stretch of words that is tagged as one. */
struct sentence {
    size_t first;
    size_t count;
};

struct learner {
    const struct treebank *treebank;
    struct tagger *dictionary;  /* a tagger without rows */
    struct buffer occurrences;  /* uint32_t, of each word of the treebank */
    struct buffer sentences;    /* struct sentence */
    struct buffer order;        /* uint32_t */
    struct row *rows;           /* [row_mask + 1], open addressing */
    size_t row_mask, row_count;
    struct buffer weights;      /* struct weight; number 0 is none */
    uint64_t clock;             /* words read in this run */
    struct rng rng;
    struct buffer facts;        /* struct tagger_facts of one sentence */
    struct buffer gold;         /* uint8_t, its tags */
    struct buffer joined;       /* bytes of a word with hyphens */
};

/* ---- the dictionary ---- */

/* An occurrence of a word. */
struct occurrence {
    uint32_t key;
    uint32_t tag;
    size_t index;
};

static int compare_occurrences(const void *a, const void *b)
{
    const struct occurrence *first = a, *second = b;
    if (first->key != second->key)
        return first->key < second->key ? -1 : 1;
    return first->index < second->index ? -1 : 1;
}

/* What the dictionary says of a word: `tags` is 0 where it leaves the word out. */
static struct tagger_entry make_entry(const struct occurrence *list, size_t count)
{
    struct tagger_entry entry = {.hash = list->key, .sure = TAGGER_UNSURE};
    size_t counts[TAGGER_TAGS_MAX] = {0};
    uint8_t top = 0;
    for (size_t i = 0; i < count; i++)
        counts[list[i].tag]++;
    if (count < DICTIONARY_MIN)
        return entry;
    for (uint8_t tag = 0; tag < TAGGER_TAGS_MAX; tag++) {
        if (counts[tag] > counts[top])
            top = tag;
        if ((double)counts[tag] > tag_share_min * (double)count)
            entry.tags |= UINT64_C(1) << tag;
    }
    entry.tags |= UINT64_C(1) << top;
    if (count >= SURE_MIN && (double)counts[top] >= sure_share_min * (double)count)
        entry.sure = top;
    return entry;
}

/* Columns of a dictionary, as the file has them. */
struct columns {
    struct buffer hashes, tags, sure;
};

static enum status add_entry(struct columns *columns, const struct tagger_entry *entry,
                             struct error *error)
{
    enum status status = buffer_append(&columns->hashes, &entry->hash, 4, error);
    if (status == STATUS_OK)
        status = buffer_append(&columns->tags, &entry->tags, 8, error);
    if (status == STATUS_OK)
        status = buffer_append(&columns->sure, &entry->sure, 1, error);
    return status;
}

static void free_columns(struct columns *columns)
{
    buffer_free(&columns->hashes);
    buffer_free(&columns->tags);
    buffer_free(&columns->sure);
}

/* Sorted occurrences to entries; counts each word's occurrences, too. */
static enum status collect_entries(struct learner *learner, const struct occurrence *list,
                                   struct columns *columns, struct error *error)
{
    const size_t count = learner->treebank->tags.size;
    uint32_t *occurrences = (void *)learner->occurrences.data;
    enum status status = STATUS_OK;
    for (size_t first = 0, end; first < count && status == STATUS_OK; first = end) {
        for (end = first; end < count && list[end].key == list[first].key;)
            end++;
        for (size_t i = first; i < end; i++)
            occurrences[list[i].index] = (uint32_t)(end - first);
        const struct tagger_entry entry = make_entry(list + first, end - first);
        if (entry.tags != 0)
            status = add_entry(columns, &entry, error);
    }
    return status;
}

static struct tagger_parts dictionary_parts(const struct treebank *treebank,
                                            const struct columns *columns)
{
    return (struct tagger_parts){
        .names = (const void *)treebank->names.data,
        .tag_count = treebank->tag_count,
        .word_hashes = (const void *)columns->hashes.data,
        .word_tags = (const void *)columns->tags.data,
        .word_sure = columns->sure.data,
        .word_count = columns->sure.size,
    };
}

static enum status make_dictionary(struct learner *learner, struct columns *columns,
                                   struct error *error)
{
    const struct treebank *treebank = learner->treebank;
    const struct tagger_word *words = (const void *)treebank->words.data;
    struct buffer list = {0}, model = {0};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < treebank->tags.size && status == STATUS_OK; i++) {
        struct tagger_facts facts;
        tagger_describe(treebank->text + words[i].start, words[i].size, false, &facts);
        const struct occurrence one = {tagger_word_key(facts.hash), treebank->tags.data[i], i};
        status = buffer_append(&list, &one, sizeof one, error);
    }
    if (status == STATUS_OK) {
        qsort(list.data, treebank->tags.size, sizeof(struct occurrence), compare_occurrences);
        status = buffer_reserve(&learner->occurrences, treebank->tags.size * sizeof(uint32_t),
                                error);
    }
    if (status == STATUS_OK)
        status = collect_entries(learner, (const void *)list.data, columns, error);
    if (status == STATUS_OK) {
        const struct tagger_parts parts = dictionary_parts(treebank, columns);
        status = tagger_model_write(&parts, &model, error);
    }
    if (status == STATUS_OK)
        status = tagger_open(&learner->dictionary, model.data, model.size, error);
    buffer_free(&list);
    buffer_free(&model);
    return status;
}

/* ---- rows of weights ---- */

static enum status grow_rows(struct learner *learner, struct error *error)
{
    const size_t slots = learner->rows == NULL ? ROWS_AT_FIRST : 2 * (learner->row_mask + 1);
    struct row *rows = calloc(slots, sizeof *rows);
    if (rows == NULL)
        return error_memory(error, (unsigned long long)slots * sizeof *rows, "features");
    for (size_t i = 0; learner->rows != NULL && i <= learner->row_mask; i++) {
        if (learner->rows[i].key == 0)
            continue;
        size_t slot = learner->rows[i].key & (slots - 1);
        while (rows[slot].key != 0)
            slot = (slot + 1) & (slots - 1);
        rows[slot] = learner->rows[i];
    }
    free(learner->rows);
    learner->rows = rows;
    learner->row_mask = slots - 1;
    return STATUS_OK;
}

/* The row of a key, or the empty slot where it would stand. */
static struct row *find_row(const struct learner *learner, uint32_t key)
{
    size_t slot = key & learner->row_mask;
    while (learner->rows[slot].key != key && learner->rows[slot].key != 0)
        slot = (slot + 1) & learner->row_mask;
    return &learner->rows[slot];
}

static struct weight *weights_of(const struct learner *learner)
{
    return (void *)learner->weights.data;
}

static enum status change_weight(struct learner *learner, struct row *row, uint32_t tag,
                                 float change, struct error *error)
{
    uint32_t number = row->first;
    while (number != 0 && weights_of(learner)[number].tag != tag)
        number = weights_of(learner)[number].next;
    if (number == 0) {
        const struct weight fresh = {.stamp = learner->clock, .next = row->first, .tag = tag};
        number = (uint32_t)(learner->weights.size / sizeof fresh);
        enum status status = buffer_append(&learner->weights, &fresh, sizeof fresh, error);
        if (status != STATUS_OK)
            return status;
        row->first = number;
    }
    struct weight *weight = &weights_of(learner)[number];
    weight->total += (double)weight->now * (double)(learner->clock - weight->stamp);
    weight->stamp = learner->clock;
    weight->now += change;
    return STATUS_OK;
}

/* The perceptron's step: towards `gold`, away from `guess`. */
static enum status update(struct learner *learner, const uint32_t keys[TAGGER_FEATURES],
                          uint32_t gold, uint32_t guess, struct error *error)
{
    for (int i = 0; i < TAGGER_FEATURES; i++) {
        enum status status = STATUS_OK;
        if (2 * (learner->row_count + 1) > learner->row_mask + 1)
            status = grow_rows(learner, error);
        if (status != STATUS_OK)
            return status;
        struct row *row = find_row(learner, keys[i]);
        learner->row_count += row->key == 0;
        row->key = keys[i];
        row->updates++;
        status = change_weight(learner, row, gold, 1, error);
        if (status == STATUS_OK)
            status = change_weight(learner, row, guess, -1, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static void score_tags(const struct learner *learner, const uint32_t keys[TAGGER_FEATURES],
                       float scores[TAGGER_TAGS_MAX])
{
    const struct weight *weights = weights_of(learner);
    memset(scores, 0, TAGGER_TAGS_MAX * sizeof *scores);
    for (int i = 0; i < TAGGER_FEATURES; i++) {
        const struct row *row = find_row(learner, keys[i]);
        if (row->updates < UPDATES_MIN)
            continue;
        for (uint32_t at = row->first; at != 0; at = weights[at].next)
            scores[weights[at].tag] += weights[at].now;
    }
}

static uint32_t best_score(const float *scores, size_t count)
{
    uint32_t best = 0;
    for (uint32_t tag = 1; tag < count; tag++)
        if (scores[tag] > scores[best])
            best = tag;
    return best;
}

/* ---- sentences ---- */

static enum status split_sentences(struct learner *learner, struct error *error)
{
    const struct treebank *treebank = learner->treebank;
    const struct tagger_word *words = (const void *)treebank->words.data;
    const size_t *ends = (const void *)treebank->sentences.data;
    struct sentence sentence = {0, 0};
    for (size_t i = 0; i < treebank->sentences.size / sizeof *ends; i++) {
        while (sentence.first < ends[i]) {
            sentence.count = tagger_sentence_size(treebank->text, words + sentence.first,
                                                  ends[i] - sentence.first);
            enum status status =
                buffer_append(&learner->sentences, &sentence, sizeof sentence, error);
            if (status != STATUS_OK)
                return status;
            sentence.first += sentence.count;
        }
    }
    return STATUS_OK;
}

static bool is_tag(const struct learner *learner, size_t word, const char *name)
{
    const struct treebank *treebank = learner->treebank;
    return strcmp(tagger_tag_name(learner->dictionary, treebank->tags.data[word]), name) == 0;
}

/* The Penn Treebank, which has such words whole, calls "15-year" and "short-haired"
 * adjectives, and the others what their last part is. */
static uint8_t joined_tag(const struct learner *learner, size_t first, size_t last)
{
    const struct treebank *treebank = learner->treebank;
    const bool adjective = is_tag(learner, first, "CD") || is_tag(learner, last, "VBN") ||
                           is_tag(learner, last, "VBG");
    for (uint8_t tag = 0; adjective && tag < treebank->tag_count; tag++)
        if (strcmp(tagger_tag_name(learner->dictionary, tag), "JJ") == 0)
            return tag;
    return treebank->tags.data[last];
}

/* The last word that hyphens join to `word`, before `end`. */
static size_t joined_end(const struct learner *learner, size_t word, size_t end)
{
    while (word + 2 < end && is_tag(learner, word + 1, "HYPH"))
        word += 2;
    return word;
}

/* Describes the words first..last, as one. */
static enum status describe_word(struct learner *learner, size_t first, size_t last, bool lower,
                                 struct tagger_facts *facts, struct error *error)
{
    const struct treebank *treebank = learner->treebank;
    const struct tagger_word *words = (const void *)treebank->words.data;
    learner->joined.size = 0;
    for (size_t i = first; i <= last; i++) {
        enum status status = buffer_append(&learner->joined, treebank->text + words[i].start,
                                           words[i].size, error);
        if (status != STATUS_OK)
            return status;
    }
    tagger_look_up(learner->dictionary, learner->joined.data, learner->joined.size, lower,
                   facts);
    const uint32_t *occurrences = (const void *)learner->occurrences.data;
    if (rng_uniform(&learner->rng) < drop_chance / occurrences[first]) {
        facts->hash = 0;
        facts->tags = TAGGER_UNKNOWN;
        facts->sure = TAGGER_UNSURE;
    }
    return STATUS_OK;
}

/* Draws how the sentence is read; *count is the number of its words then. */
static enum status read_sentence(struct learner *learner, const struct sentence *sentence,
                                 size_t *count, struct error *error)
{
    const bool lower = rng_uniform(&learner->rng) < lower_chance;
    const bool join = rng_uniform(&learner->rng) < join_chance;
    const size_t end = sentence->first + sentence->count;
    enum status status = buffer_reserve(&learner->facts,
                                        sentence->count * sizeof(struct tagger_facts), error);
    if (status == STATUS_OK)
        status = buffer_reserve(&learner->gold, sentence->count, error);
    *count = 0;
    for (size_t word = sentence->first, last; word < end && status == STATUS_OK;
         word = last + 1) {
        last = join ? joined_end(learner, word, end) : word;
        learner->gold.data[*count] =
            last == word ? learner->treebank->tags.data[word] : joined_tag(learner, word, last);
        struct tagger_facts *facts = (void *)learner->facts.data;
        status = describe_word(learner, word, last, lower, facts + *count, error);
        (*count)++;
    }
    return status;
}

/* One word; *guess is what a tagger would say now. */
static enum status learn_word(struct learner *learner, const uint32_t keys[TAGGER_FEATURES],
                              uint32_t gold, uint32_t *guess, struct error *error)
{
    const size_t tags = learner->treebank->tag_count;
    float scores[TAGGER_TAGS_MAX];
    score_tags(learner, keys, scores);
    *guess = best_score(scores, tags);
    scores[gold] -= margin;
    const uint32_t rival = best_score(scores, tags);
    return rival == gold ? STATUS_OK : update(learner, keys, gold, rival, error);
}

static enum status learn_sentence(struct learner *learner, const struct sentence *sentence,
                                  struct error *error)
{
    size_t count;
    enum status status = read_sentence(learner, sentence, &count, error);
    const struct tagger_facts *words = (const void *)learner->facts.data;
    const int sentence_case = tagger_sentence_case(words, count);
    uint32_t before = TAGGER_BOUNDARY, before2 = TAGGER_BOUNDARY;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        uint32_t keys[TAGGER_FEATURES], guess = words[i].sure;
        learner->clock++;
        if (guess == TAGGER_UNSURE) {
            tagger_features(words, count, i, sentence_case, (int)before, (int)before2, keys);
            status = learn_word(learner, keys, learner->gold.data[i], &guess, error);
        }
        before2 = before;
        before = guess;
    }
    return status;
}

/* ---- runs ---- */

static enum status learn_pass(struct learner *learner, struct error *error)
{
    const struct sentence *sentences = (const void *)learner->sentences.data;
    const size_t count = learner->sentences.size / sizeof *sentences;
    uint32_t *order = (void *)learner->order.data;
    enum status status = STATUS_OK;
    rng_permutation(&learner->rng, order, count);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = learn_sentence(learner, &sentences[order[i]], error);
    return status;
}

/* Adds the averages of a run to the sums and forgets the rest of it. */
static void finish_run(struct learner *learner)
{
    for (size_t i = 0; i <= learner->row_mask; i++) {
        struct row *row = &learner->rows[i];
        for (uint32_t at = row->first; at != 0; at = weights_of(learner)[at].next) {
            struct weight *weight = &weights_of(learner)[at];
            const double total = weight->total + (double)weight->now *
                                                     (double)(learner->clock - weight->stamp);
            if (row->updates >= UPDATES_MIN)
                weight->sum += (float)(total / (double)learner->clock);
            weight->total = 0;
            weight->stamp = 0;
            weight->now = 0;
        }
        row->updates = 0;
    }
    learner->clock = 0;
}

/* ---- the file ---- */

static int compare_rows(const void *a, const void *b)
{
    const struct row *first = a, *second = b;
    return first->key < second->key ? -1 : first->key > second->key;
}

/* Rounds a row's weights and appends those that are left; *count is their number. */
static enum status write_row(const struct learner *learner, const struct row *row, int runs,
                             struct buffer *out, uint8_t *count, struct error *error)
{
    int rounded[TAGGER_TAGS_MAX] = {0};
    *count = 0;
    for (uint32_t at = row->first; at != 0; at = weights_of(learner)[at].next) {
        const struct weight *weight = &weights_of(learner)[at];
        const double scaled = (double)weight->sum * WEIGHT_SCALE / runs;
        const int nearest = (int)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
        rounded[weight->tag] = nearest > TAGGER_WEIGHT_MAX    ? TAGGER_WEIGHT_MAX
                               : nearest < -TAGGER_WEIGHT_MAX ? -TAGGER_WEIGHT_MAX
                                                              : nearest;
    }
    for (int tag = 0; tag < TAGGER_TAGS_MAX; tag++) {
        if (abs(rounded[tag]) < WEIGHT_MIN)
            continue;
        const uint16_t packed =
            (uint16_t)((unsigned)rounded[tag] << TAGGER_TAG_BITS | (unsigned)tag);
        enum status status = buffer_append(out, &packed, sizeof packed, error);
        if (status != STATUS_OK)
            return status;
        (*count)++;
    }
    return STATUS_OK;
}

static enum status write_model(struct learner *learner, const struct columns *columns, int runs,
                               struct buffer *model, struct error *error)
{
    struct buffer keys = {0}, sizes = {0}, weights = {0};
    struct tagger_parts parts = dictionary_parts(learner->treebank, columns);
    enum status status = STATUS_OK;
    qsort(learner->rows, learner->row_mask + 1, sizeof *learner->rows, compare_rows);
    for (size_t i = 0; i <= learner->row_mask && status == STATUS_OK; i++) {
        const struct row *row = &learner->rows[i];
        uint8_t count;
        status = write_row(learner, row, runs, &weights, &count, error);
        if (status == STATUS_OK && count > 0)
            status = buffer_append(&keys, &row->key, sizeof row->key, error);
        if (status == STATUS_OK && count > 0)
            status = buffer_append(&sizes, &count, 1, error);
    }
    parts.row_keys = (const void *)keys.data;
    parts.row_sizes = sizes.data;
    parts.row_count = sizes.size;
    parts.weights = (const void *)weights.data;
    parts.weight_count = weights.size / sizeof(uint16_t);
    if (status == STATUS_OK)
        status = tagger_model_write(&parts, model, error);
    buffer_free(&keys);
    buffer_free(&sizes);
    buffer_free(&weights);
    return status;
}

static enum status open_learner(struct learner *learner, struct columns *columns,
                                struct error *error)
{
    const struct weight none = {.tag = 0};
    enum status status = make_dictionary(learner, columns, error);
    if (status == STATUS_OK)
        status = split_sentences(learner, error);
    if (status == STATUS_OK)
        status = buffer_reserve(&learner->order, learner->treebank->tags.size * 4, error);
    if (status == STATUS_OK)
        status = grow_rows(learner, error);
    if (status == STATUS_OK)
        status = buffer_append(&learner->weights, &none, sizeof none, error);
    return status;
}

static void close_learner(struct learner *learner)
{
    struct buffer *const buffers[] = {
        &learner->occurrences, &learner->sentences, &learner->order, &learner->weights,
        &learner->facts, &learner->gold, &learner->joined,
    };
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        buffer_free(buffers[i]);
    free(learner->rows);
    tagger_close(learner->dictionary);
}

enum status tagger_learn(const struct treebank *treebank,
                         const struct tagger_learning *learning, struct buffer *model,
                         struct error *error)
{
    struct learner learner = {.treebank = treebank};
    struct columns columns = {{0}, {0}, {0}};
    enum status status = open_learner(&learner, &columns, error);
    for (int run = 0; run < learning->runs && status == STATUS_OK; run++) {
        rng_init(&learner.rng, learning->seed, (uint64_t)run, 0,
                 RNG_SAMPLE_ORDER);
        for (int pass = 0; pass < learning->passes && status == STATUS_OK; pass++)
            status = learn_pass(&learner, error);
        finish_run(&learner);
    }
    if (status == STATUS_OK)
        status = write_model(&learner, &columns, learning->runs, model, error);
    free_columns(&columns);
    close_learner(&learner);
    return status;
}
