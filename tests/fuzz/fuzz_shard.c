/* Any bytes as a shard. Reading and skipping find the same samples. */
#include <archive.h>
#include <archive_entry.h>

#include "formats/shard.h"
#include "tests/fuzz/fuzz.h"

bool fuzz_accepted;

static const struct shard_options options = {
    .keys = {"jpg;png;jpeg;webp", "txt;caption", "cls"},
    .member_size_max = 1 << 14,
};

/* `sample` is the one before. */
static void check_sample(const struct shard_sample *sample, int64_t index)
{
    int64_t label;
    const char *reason = NULL;
    MUST(sample->index == index);
    MUST(memchr(sample->problem, '\0', sizeof sample->problem) != NULL);
    MUST(sample->extensions.size == 0 ||
         sample->extensions.data[sample->extensions.size - 1] == '\0');
    for (int f = 0; f < SHARD_FIELDS; f++) {
        MUST(sample->fields[f].size <= options.member_size_max);
        fuzz_digest(0, sample->fields[f].data, sample->fields[f].size);
    }
    MUST(shard_check_caption(&sample->fields[SHARD_TEXT], &reason) || reason != NULL);
    shard_parse_label(&sample->fields[SHARD_LABEL], &label);
}

static enum status read_all(const char *path, int64_t *count)
{
    struct shard_reader *reader;
    struct shard_sample sample = {.index = 0};
    struct error error = {.status = STATUS_OK};
    bool found = true;
    *count = 0;
    MUST(shard_reader_open(&reader, path, &options, &error) == STATUS_OK);
    enum status status = shard_reader_next(reader, &sample, &found, &error);
    while (status == STATUS_OK && found) {
        check_sample(&sample, (*count)++);
        status = shard_reader_next(reader, &sample, &found, &error);
    }
    fuzz_check_status(status, &error);
    shard_reader_close(reader);
    shard_sample_free(&sample);
    return status;
}

static enum status skip_all(const char *path, int64_t *count)
{
    struct shard_reader *reader;
    struct error error;
    MUST(shard_reader_open(&reader, path, &options, &error) == STATUS_OK);
    enum status status = shard_reader_skip(reader, INT64_MAX, count, &error);
    fuzz_check_status(status, &error);
    shard_reader_close(reader);
    return status;
}

/* The input as a member's contents. */
static void try_fields(const uint8_t *data, size_t size)
{
    struct buffer text = {0};
    int64_t label;
    const char *reason = NULL;
    fuzz_append(&text, data, size);
    MUST(shard_check_caption(&text, &reason) || reason != NULL);
    shard_parse_label(&text, &label);
    buffer_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd;
    char path[FUZZ_PATH_SIZE];
    int64_t count, skipped;
    fuzz_file(&fd, path, data, size);
    enum status status = read_all(path, &count);
    enum status skip_status = skip_all(path, &skipped);
    fuzz_accepted = status == STATUS_OK && count > 0;
    MUST(skipped == count);
    MUST(skip_status == status);
    try_fields(data, size);
    return 0;
}

/* ---- seeds ---- */

static void add_member(struct archive *tar, const char *name, const char *data, size_t size)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)size);
    MUST(archive_write_header(tar, entry) == ARCHIVE_OK);
    MUST(archive_write_data(tar, data, size) == (la_ssize_t)size);
    archive_entry_free(entry);
}

/* `filter` is libarchive's; `pax` adds extended headers for a long name. */
static void add_tar(struct buffer *out, int filter, bool pax)
{
    static char packed[1 << 16], image[600];
    char name[200];
    size_t size;
    struct archive *tar = archive_write_new();
    MUST((pax ? archive_write_set_format_pax(tar) : archive_write_set_format_ustar(tar)) ==
         ARCHIVE_OK);
    MUST(archive_write_add_filter(tar, filter) == ARCHIVE_OK);
    MUST(archive_write_open_memory(tar, packed, sizeof packed, &size) == ARCHIVE_OK);
    for (int i = 0; i < 3; i++) {
        int dirs = pax ? 150 : 5;
        memset(name, 'd', sizeof name);
        snprintf(name + dirs, sizeof name - (size_t)dirs, "/00%d.jpg", i);
        add_member(tar, name, image, (size_t)(i * 300));
        memcpy(strrchr(name, '.'), ".txt", 4);
        add_member(tar, name, "a caption", 9);
        memcpy(strrchr(name, '.'), ".cls", 4);
        add_member(tar, name, "12\n", 3);
    }
    MUST(archive_write_close(tar) == ARCHIVE_OK);
    archive_write_free(tar);
    fuzz_append(out, packed, size);
}

bool fuzz_seed(int number, struct buffer *out)
{
    out->size = 0;
    switch (number) {
    case 0:
        add_tar(out, ARCHIVE_FILTER_NONE, false);
        return true;
    case 1:
        add_tar(out, ARCHIVE_FILTER_NONE, true);
        return true;
    case 2:
        add_tar(out, ARCHIVE_FILTER_GZIP, false);
        return true;
    case 3:
        add_tar(out, ARCHIVE_FILTER_ZSTD, true);
        return true;
    }
    return false;
}
