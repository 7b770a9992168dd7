/* Any bytes as a model file, which then tags; and as a treebank and a caption. */
#include "base/crc32c.h"
#include "formats/tagger_learn.h"
#include "formats/tagger_words.h"
#include "tests/fuzz/fuzz.h"

bool fuzz_accepted;

static const char *const treebanks[] = {
    "the\tDT\ndog\tNN\nbarks\tVBZ\n.\t.\n\na\tDT\nred\tJJ\ndog\tNN\n",
    "one\tCD\n-\tHYPH\nyear\tNN\nold\tJJ\n\nhe\tPRP\nbarks\tVBZ\nbarks\tNNS\n",
};

/* Splits and tags a text, by a model or not. */
static void tag(const struct tagger *tagger, const uint8_t *text, size_t size)
{
    static struct buffer words, tags;
    static struct tagger_scratch scratch;
    struct error error;
    words.size = 0;
    MUST(tagger_split(text, size, &words, &error) == STATUS_OK);
    const struct tagger_word *word = (const void *)words.data;
    const size_t count = words.size / sizeof *word;
    for (size_t i = 0, end = 0; i < count; i++) {
        MUST(word[i].size > 0 && word[i].start >= end);
        end = word[i].start + word[i].size;
        MUST(end <= size);
    }
    if (tagger == NULL)
        return;
    MUST(buffer_reserve(&tags, count, &error) == STATUS_OK);
    MUST(tagger_tag(tagger, &scratch, text, word, count, tags.data, &error) == STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        MUST(tags.data[i] < tagger_tag_count(tagger));
        const int priority = tagger_priority(tagger, tags.data[i]);
        MUST(priority >= PRIORITY_NOUN && priority <= PRIORITY_OTHER);
    }
}

static enum status try_model(const uint8_t *data, size_t size)
{
    static const char text[] = "The old dog barks at 3.5 cats, doesn't it?";
    struct tagger *tagger = NULL;
    struct error error;
    enum status status = tagger_open(&tagger, data, size, &error);
    fuzz_check_status(status, &error);
    if (status == STATUS_OK) {
        tag(tagger, (const uint8_t *)text, sizeof text - 1);
        tag(tagger, data, size);
        tagger_close(tagger);
    }
    return status;
}

/* As the file is, and with its checksum made right, which gets damage past it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct buffer sealed;
    struct treebank treebank;
    struct error error;
    enum status status = try_model(data, size);
    sealed.size = 0;
    fuzz_append(&sealed, data, size);
    if (size >= 12) {
        const uint32_t crc = crc32c(0, data + 12, size - 12);
        for (size_t i = 0; i < 4; i++)
            sealed.data[8 + i] = (uint8_t)(crc >> 8 * i);
        status = try_model(sealed.data, size);
    }
    fuzz_accepted = status == STATUS_OK;
    tag(NULL, data, size);
    status = treebank_open(&treebank, data, size, &error);
    fuzz_check_status(status, &error);
    if (status == STATUS_OK)
        treebank_close(&treebank);
    return 0;
}

bool fuzz_seed(int number, struct buffer *out)
{
    const struct tagger_learning learning = {.passes = 3, .runs = 1, .seed = 1};
    struct treebank treebank;
    struct buffer text = {0};
    struct error error;
    out->size = 0;
    if (number >= (int)(sizeof treebanks / sizeof treebanks[0]))
        return false;
    for (int times = 0; times < 4; times++) {
        fuzz_append(&text, treebanks[number], strlen(treebanks[number]));
        fuzz_append(&text, "\n", 1);
    }
    MUST(treebank_open(&treebank, text.data, text.size, &error) == STATUS_OK);
    MUST(tagger_learn(&treebank, &learning, out, &error) == STATUS_OK);
    treebank_close(&treebank);
    buffer_free(&text);
    return true;
}
