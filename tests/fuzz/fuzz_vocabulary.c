/* Any bytes as a vocabulary file of either kind; what is accepted encodes a few captions. */
#include "formats/bpe_learn.h"
#include "formats/tokenizer.h"
#include "tests/fuzz/fuzz.h"

bool fuzz_accepted;

static const char *const vocabularies[] = {
    "\"x\"#version: 0.2\nt h\nth e</w>\na t</w>\nc at</w>\n! !</w>\n\xc4\xa0 a\n",
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\n##s\n##a\na\n!\n\xe4\xb8\xad\n##\xcc\x88\n",
    "a\n[SEP]\n##a\n##aa\n[CLS]\r\n[UNK]\n[PAD]\n##\nthe \n",
};
enum { VOCABULARIES = sizeof vocabularies / sizeof vocabularies[0] };

static const char *const captions[] = {
    "",
    "the cats!!",
    "The [CLS] [mask]cat, <end_of_text>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\xe4\xb8\xad\xe6\x96\x87 a\xcc\x88 \xc3\xa4 \xff \xed\x95\x9c",
};

static void encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                   const char *caption)
{
    struct error error;
    struct buffer tokens = {0}, words = {0}, text = {0};
    const size_t size = strlen(caption);
    MUST(tokenizer_encode(tokenizer, scratch, (const uint8_t *)caption, size, &tokens, &words,
                          &error) == STATUS_OK);
    const int32_t *ids = (const void *)tokens.data, *numbers = (const void *)words.data;
    const size_t count = tokens.size / sizeof *ids;
    MUST(words.size == tokens.size);
    size_t position = 0, start, word_size;
    int32_t word_count = 0;
    while (tokenizer_next_word(tokenizer_type(tokenizer), (const uint8_t *)caption, size,
                               &position, &start, &word_size))
        word_count++;
    MUST(word_count == (count == 0 ? 0 : numbers[count - 1] + 1));
    for (size_t i = 0; i < count; i++) {
        MUST(tokenizer_piece(tokenizer, ids[i], &text, &error) == STATUS_OK);
        MUST(numbers[i] == (i == 0 ? 0 : numbers[i - 1]) || numbers[i] == numbers[i - 1] + 1);
    }
    buffer_free(&tokens);
    buffer_free(&words);
    buffer_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error;
    struct tokenizer *tokenizer = NULL;
    struct tokenizer_scratch *scratch;
    enum status status = tokenizer_open(&tokenizer, data, size, &error);
    fuzz_check_status(status, &error);
    fuzz_accepted = status == STATUS_OK;
    if (!fuzz_accepted)
        return 0;
    const int32_t ids[] = {tokenizer_start(tokenizer), tokenizer_end(tokenizer),
                           tokenizer_padding(tokenizer)};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        MUST(ids[i] >= 0 && ids[i] < tokenizer_size(tokenizer));
    MUST(tokenizer_scratch_open(&scratch, tokenizer, &error) == STATUS_OK);
    for (size_t i = 0; i < sizeof captions / sizeof captions[0]; i++)
        for (int time = 0; time < 2; time++) /* once more, from the cache */
            encode(tokenizer, scratch, captions[i]);
    tokenizer_scratch_close(scratch);
    tokenizer_close(tokenizer);
    return 0;
}

bool fuzz_seed(int number, struct buffer *out)
{
    struct error error;
    out->size = 0;
    if (number >= 2 * VOCABULARIES)
        return false;
    const char *text = vocabularies[number % VOCABULARIES];
    if (number < VOCABULARIES)
        fuzz_append(out, text, strlen(text));
    else
        MUST(bpe_pack((const uint8_t *)text, strlen(text), out, &error) == STATUS_OK);
    return true;
}
