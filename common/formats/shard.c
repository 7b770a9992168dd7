#include "formats/shard.h"

#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utf8proc.h>

#include "base/number.h"

enum {
    BLOCK_SIZE = 1 << 16,
    TAR_BLOCK_SIZE = 512,
    MEMBERS_PER_SAMPLE_MAX = 1000, /* extensions are compared pair by pair */
    LABEL_LENGTH_MAX = 64,
};

static const size_t member_size_max_default = (size_t)256 << 20;

/* Where the archive stands: after open, inside the member `name` whose header has been read,
 * or at the end, where `failure` says whether it came as it should. */
struct shard_reader {
    struct archive *archive;
    struct archive_entry *entry; /* libarchive's, of the current member */
    int fd;
    bool seekable;
    bool input_ended;
    int read_errno;
    int64_t input_size;  /* where seekable */
    int64_t input_bytes; /* read or passed over so far */

    bool in_member; /* its data has not been consumed */
    bool at_end;
    struct error failure;
    struct buffer name; /* path of the current or last member, with its zero */
    size_t key_length;
    char *extension; /* points into a copy behind the path in `name` */
    int64_t member_size;
    int64_t member_offset; /* of its data in the unpacked archive */

    int64_t next_index;
    struct shard_options options;
    struct shard_sample skipped; /* scratch for shard_reader_skip */
    char *path;
    uint8_t block[BLOCK_SIZE];
};

/* ---- input ---- */

static la_ssize_t read_block(struct archive *archive, void *context, const void **data)
{
    struct shard_reader *reader = context;
    ssize_t got;
    do
        got = read(reader->fd, reader->block, sizeof reader->block);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
        reader->read_errno = errno;
        archive_set_error(archive, errno, "read failed");
        return -1;
    }
    if (got == 0)
        reader->input_ended = true;
    reader->input_bytes += got;
    *data = reader->block;
    return got;
}

/* Never goes beyond the end of the file, where the kernel would let a seek succeed and hide
 * that the archive is cut. */
static la_int64_t skip_bytes(struct archive *archive, void *context, la_int64_t request)
{
    (void)archive;
    struct shard_reader *reader = context;
    if (!reader->seekable)
        return 0;
    int64_t left = reader->input_size - reader->input_bytes;
    int64_t step = request < left ? request : left;
    if (step <= 0 || lseek(reader->fd, step, SEEK_CUR) < 0)
        return 0;
    reader->input_bytes += step;
    return step;
}

/* ---- members ---- */

static enum status fail_archive(struct shard_reader *reader, struct error *error)
{
    const char *name = reader->name.size > 0 ? (const char *)reader->name.data : NULL;
    long long bytes = (long long)reader->input_bytes;
    bool packed = archive_filter_count(reader->archive) > 1;

    if (reader->read_errno != 0) {
        errno = reader->read_errno;
        return error_set_errno(error, STATUS_IO, "shard %s: reading failed at byte %lld",
                               reader->path, bytes);
    }
    if (archive_format(reader->archive) == 0)
        return error_set(error, STATUS_DATA,
                         "shard %s: no tar, tar.gz or tar.zst file in its first %lld bytes%s",
                         reader->path, bytes, reader->input_ended ? ", which are all" : "");
    if (!reader->input_ended)
        return error_set(error, STATUS_DATA, "shard %s: damaged before byte %lld, %s '%s': %s",
                         reader->path, bytes, reader->in_member ? "in member" : "after member",
                         name != NULL ? name : "", archive_error_string(reader->archive));
    if (name == NULL)
        return error_set(error, STATUS_DATA,
                         "shard %s: ends after %lld bytes, in the header of its first member",
                         reader->path, bytes);
    if (!reader->in_member)
        return error_set(error, STATUS_DATA,
                         "shard %s: ends after %lld bytes, after member '%s', with no end mark",
                         reader->path, bytes, name);
    if (packed)
        return error_set(error, STATUS_DATA,
                         "shard %s: ends after %lld packed bytes, in member '%s' of %lld bytes",
                         reader->path, bytes, name, (long long)reader->member_size);
    long long got = bytes - (long long)reader->member_offset;
    return error_set(error, STATUS_DATA,
                     "shard %s: ends after %lld bytes, with %lld of %lld bytes of member '%s'",
                     reader->path, bytes,
                     got < reader->member_size ? got : (long long)reader->member_size,
                     (long long)reader->member_size, name);
}

/* Consumes what is left of the current member. */
static enum status finish_member(struct shard_reader *reader, struct error *error)
{
    if (reader->in_member && archive_read_data_skip(reader->archive) != ARCHIVE_OK) {
        reader->at_end = true;
        fail_archive(reader, &reader->failure);
        *error = reader->failure;
        return error->status;
    }
    reader->in_member = false;
    return STATUS_OK;
}

/* webdataset's skip_meta: a first component that begins and ends with two underscores. */
static bool is_meta(const char *path)
{
    size_t length = strcspn(path, "/");
    return length >= 4 && memcmp(path, "__", 2) == 0 && memcmp(path + length - 2, "__", 2) == 0;
}

/* Takes over the name of the current entry; *usable says whether it belongs to a sample. */
static enum status take_name(struct shard_reader *reader, bool *usable, struct error *error)
{
    *usable = false;
    /* libarchive gives NULL for a name that the locale cannot express. */
    const char *path = archive_entry_pathname(reader->entry);
    if (path == NULL)
        path = archive_entry_pathname_utf8(reader->entry);
    if (path == NULL)
        path = "";

    size_t length = strlen(path);
    reader->name.size = 0;
    enum status status = buffer_reserve(&reader->name, 2 * (length + 1), error);
    if (status != STATUS_OK)
        return status;
    memcpy(reader->name.data, path, length + 1);
    memcpy(reader->name.data + length + 1, path, length + 1);
    reader->name.size = 2 * (length + 1);

    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    const char *dot = strchr(base, '.');
    if (archive_entry_filetype(reader->entry) != AE_IFREG ||
        archive_entry_hardlink(reader->entry) != NULL || dot == NULL || dot == base ||
        is_meta(path))
        return STATUS_OK;
    reader->key_length = (size_t)(dot - path);
    reader->extension = (char *)reader->name.data + length + 1 + reader->key_length + 1;
    for (char *c = reader->extension; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    *usable = true;
    return STATUS_OK;
}

/* Moves to the next member that belongs to a sample, or to the end. An archive that fails
 * between two members is at its end and keeps the failure for later, because what was read
 * until then is whole. */
static enum status next_member(struct shard_reader *reader, struct error *error)
{
    for (bool usable = false; !usable;) {
        enum status status = finish_member(reader, error);
        if (status != STATUS_OK)
            return status;
        int64_t before = archive_filter_bytes(reader->archive, 0);
        int result = archive_read_next_header(reader->archive, &reader->entry);
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN) {
            /* libarchive takes a missing end mark for an end. */
            int64_t mark = archive_filter_bytes(reader->archive, 0) - before;
            if (result != ARCHIVE_EOF || mark < TAR_BLOCK_SIZE)
                fail_archive(reader, &reader->failure);
            reader->at_end = true;
            return STATUS_OK;
        }
        reader->in_member = true;
        reader->member_size = archive_entry_size(reader->entry);
        reader->member_offset = archive_filter_bytes(reader->archive, 0);
        status = take_name(reader, &usable, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status read_member(struct shard_reader *reader, struct buffer *data,
                               struct error *error)
{
    size_t size = (size_t)reader->member_size;
    data->size = 0;
    enum status status = buffer_reserve(data, size, error);
    if (status != STATUS_OK)
        return status;
    while (data->size < size) {
        la_ssize_t got = archive_read_data(reader->archive, data->data + data->size,
                                           size - data->size);
        if (got <= 0) {
            reader->at_end = true;
            fail_archive(reader, &reader->failure);
            *error = reader->failure;
            return error->status;
        }
        data->size += (size_t)got;
    }
    return STATUS_OK;
}

/* ---- samples ---- */

/* The place of an extension in a list "jpg;png;...", or -1. */
static int key_rank(const char *keys, const char *extension)
{
    size_t length = strlen(extension);
    for (int rank = 0; keys != NULL && *keys != '\0'; rank++) {
        size_t key_length = strcspn(keys, ";");
        if (key_length == length && strncasecmp(keys, extension, length) == 0)
            return rank;
        keys += key_length + (keys[key_length] == ';');
    }
    return -1;
}

/* Reads the current member if it is the best so far for one of the fields. */
static enum status take_member(struct shard_reader *reader, struct shard_sample *sample,
                               int ranks[SHARD_FIELDS], struct error *error)
{
    int field = 0, rank = -1;
    for (; field < SHARD_FIELDS; field++) {
        rank = key_rank(reader->options.keys[field], reader->extension);
        if (rank >= 0)
            break;
    }
    if (field == SHARD_FIELDS || rank >= ranks[field])
        return STATUS_OK;
    if (reader->member_size < 0 ||
        (uint64_t)reader->member_size > reader->options.member_size_max) {
        snprintf(sample->problem, sizeof sample->problem,
                 "its .%.20s has %lld bytes, the most allowed is %zu", reader->extension,
                 (long long)reader->member_size, reader->options.member_size_max);
        return STATUS_OK;
    }
    ranks[field] = rank;
    sample->present[field] = true;
    if (reader->options.presence_only[field])
        return STATUS_OK;
    return read_member(reader, &sample->fields[field], error);
}

static bool has_extension(const struct shard_sample *sample, const char *extension)
{
    const char *next = (const char *)sample->extensions.data;
    const char *end = next + sample->extensions.size;
    for (; next < end; next += strlen(next) + 1)
        if (strcmp(next, extension) == 0)
            return true;
    return false;
}

static bool continues_sample(const struct shard_reader *reader,
                             const struct shard_sample *sample)
{
    return !reader->at_end && reader->key_length == sample->key.size &&
           memcmp(reader->name.data, sample->key.data, sample->key.size) == 0 &&
           !has_extension(sample, reader->extension);
}

static enum status begin_sample(struct shard_reader *reader, struct shard_sample *sample,
                                struct error *error)
{
    sample->index = reader->next_index;
    sample->key.size = 0;
    sample->extensions.size = 0;
    sample->problem[0] = '\0';
    for (int i = 0; i < SHARD_FIELDS; i++) {
        sample->present[i] = false;
        sample->fields[i].size = 0;
    }
    enum status status = buffer_reserve(&sample->extensions, 64, error);
    if (status == STATUS_OK)
        status = buffer_append(&sample->key, reader->name.data, reader->key_length, error);
    return status;
}

static enum status read_sample(struct shard_reader *reader, struct shard_sample *sample,
                               bool with_data, bool *found, struct error *error)
{
    enum status status;
    *found = false;
    if (!reader->in_member && !reader->at_end) {
        status = next_member(reader, error);
        if (status != STATUS_OK)
            return status;
    }
    if (reader->at_end) {
        *error = reader->failure;
        return error->status;
    }

    int ranks[SHARD_FIELDS] = {INT_MAX, INT_MAX, INT_MAX};
    int members = 0;
    status = begin_sample(reader, sample, error);
    do {
        if (++members > MEMBERS_PER_SAMPLE_MAX) {
            reader->at_end = true;
            error_set(&reader->failure, STATUS_DATA,
                      "shard %s: sample '%.*s' has more than %d members",
                      reader->path, (int)sample->key.size, (const char *)sample->key.data,
                      MEMBERS_PER_SAMPLE_MAX);
            *error = reader->failure;
            return error->status;
        }
        if (status == STATUS_OK)
            status = buffer_append(&sample->extensions, reader->extension,
                                   strlen(reader->extension) + 1, error);
        if (status == STATUS_OK && with_data)
            status = take_member(reader, sample, ranks, error);
        if (status == STATUS_OK)
            status = next_member(reader, error);
        if (status != STATUS_OK)
            return status;
    } while (continues_sample(reader, sample));

    reader->next_index++;
    *found = true;
    return STATUS_OK;
}

enum status shard_reader_open(struct shard_reader **out, const char *path,
                              const struct shard_options *options, struct error *error)
{
    struct shard_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return error_memory(error, sizeof *reader, "a shard reader");
    reader->options = *options;
    if (reader->options.member_size_max == 0)
        reader->options.member_size_max = member_size_max_default;
    bool standard_input = strcmp(path, "-") == 0;
    reader->fd = standard_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0) {
        free(reader);
        return error_set_errno(error, STATUS_NO_INPUT, "shard %s: cannot open", path);
    }

    struct stat file = {.st_mode = 0};
    if (!standard_input && fstat(reader->fd, &file) == 0 && S_ISREG(file.st_mode)) {
        reader->seekable = true;
        reader->input_size = file.st_size;
    }
    if (S_ISDIR(file.st_mode)) {
        shard_reader_close(reader);
        return error_set(error, STATUS_NO_INPUT, "shard %s: is a directory", path);
    }
    reader->path = strdup(standard_input ? "standard input" : path);
    reader->archive = archive_read_new();
    if (reader->path == NULL || reader->archive == NULL) {
        shard_reader_close(reader);
        return error_memory(error, sizeof *reader, "a shard reader");
    }
    archive_read_support_format_tar(reader->archive);
    archive_read_support_filter_gzip(reader->archive);
    archive_read_support_filter_zstd(reader->archive);
    archive_read_set_callback_data(reader->archive, reader);
    archive_read_set_read_callback(reader->archive, read_block);
    archive_read_set_skip_callback(reader->archive, skip_bytes);
    if (archive_read_open1(reader->archive) != ARCHIVE_OK) {
        reader->at_end = true;
        fail_archive(reader, &reader->failure);
    }
    *out = reader;
    return STATUS_OK;
}

enum status shard_reader_next(struct shard_reader *reader, struct shard_sample *sample,
                              bool *found, struct error *error)
{
    return read_sample(reader, sample, true, found, error);
}

enum status shard_reader_skip(struct shard_reader *reader, int64_t count, int64_t *skipped,
                              struct error *error)
{
    for (*skipped = 0; *skipped < count; ++*skipped) {
        bool found;
        enum status status = read_sample(reader, &reader->skipped, false, &found, error);
        if (status != STATUS_OK || !found)
            return status;
    }
    return STATUS_OK;
}

void shard_reader_close(struct shard_reader *reader)
{
    if (reader == NULL)
        return;
    if (reader->archive != NULL)
        archive_read_free(reader->archive);
    if (reader->fd != STDIN_FILENO)
        close(reader->fd);
    buffer_free(&reader->name);
    shard_sample_free(&reader->skipped);
    free(reader->path);
    free(reader);
}

void shard_sample_free(struct shard_sample *sample)
{
    buffer_free(&sample->key);
    buffer_free(&sample->extensions);
    for (int i = 0; i < SHARD_FIELDS; i++)
        buffer_free(&sample->fields[i]);
}

/* What str.isspace says of one character: bidirectional type WS, B or S, or category Zs. */
static bool is_blank(utf8proc_int32_t character)
{
    const utf8proc_property_t *property = utf8proc_get_property(character);
    return property->bidi_class == UTF8PROC_BIDI_CLASS_WS ||
           property->bidi_class == UTF8PROC_BIDI_CLASS_B ||
           property->bidi_class == UTF8PROC_BIDI_CLASS_S ||
           property->category == UTF8PROC_CATEGORY_ZS;
}

bool shard_check_caption(const struct buffer *text, const char **reason)
{
    bool blank = true;
    for (size_t at = 0; at < text->size;) {
        utf8proc_int32_t character;
        utf8proc_ssize_t length = utf8proc_iterate(
            text->data + at, (utf8proc_ssize_t)(text->size - at), &character);
        if (length <= 0) {
            *reason = "its caption is not UTF-8";
            return false;
        }
        blank = blank && is_blank(character);
        at += (size_t)length;
    }
    *reason = "its caption is blank";
    return !blank;
}

bool shard_parse_label(const struct buffer *text, int64_t *label)
{
    const char *begin = text->size > 0 ? (const char *)text->data : "";
    const char *end = begin + text->size;
    while (begin < end && isspace((unsigned char)*begin))
        begin++;
    while (end > begin && isspace((unsigned char)end[-1]))
        end--;
    char digits[LABEL_LENGTH_MAX + 1];
    size_t length = (size_t)(end - begin);
    if (length == 0 || length > LABEL_LENGTH_MAX || memchr(begin, '\0', length) != NULL)
        return false;
    memcpy(digits, begin, length);
    digits[length] = '\0';
    return number_parse_integer(digits, label);
}

/* ---- writing ---- */

struct shard_writer {
    struct archive *archive;
    struct archive_entry *entry;
    int fd;
    char *path;
    char *temporary;
};

static enum status fail_write(struct shard_writer *writer, struct error *error)
{
    const char *reason = archive_error_string(writer->archive);
    return error_set(error, STATUS_IO, "shard %s: writing failed: %s", writer->path,
                     reason != NULL ? reason : "unknown reason");
}

static enum status open_output(struct shard_writer *writer, int zstd_level, struct error *error)
{
    if (archive_write_set_format_ustar(writer->archive) != ARCHIVE_OK)
        return fail_write(writer, error);
    if (zstd_level != 0) {
        char level[16];
        snprintf(level, sizeof level, "%d", zstd_level);
        if (archive_write_add_filter_zstd(writer->archive) != ARCHIVE_OK ||
            archive_write_set_filter_option(writer->archive, "zstd", "compression-level",
                                            level) != ARCHIVE_OK)
            return fail_write(writer, error);
    }
    writer->fd = open(writer->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (writer->fd < 0)
        return error_set_errno(error, STATUS_IO, "shard %s: cannot create %s", writer->path,
                               writer->temporary);
    if (archive_write_open_fd(writer->archive, writer->fd) != ARCHIVE_OK)
        return fail_write(writer, error);
    return STATUS_OK;
}

enum status shard_writer_open(struct shard_writer **out, const char *path, int zstd_level,
                              struct error *error)
{
    struct shard_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return error_memory(error, sizeof *writer, "a shard writer");
    writer->fd = -1;
    writer->path = strdup(path);
    writer->archive = archive_write_new();
    writer->entry = archive_entry_new();
    if (writer->path == NULL || writer->archive == NULL || writer->entry == NULL ||
        asprintf(&writer->temporary, "%s.%ld.tmp", path, (long)getpid()) < 0) {
        writer->temporary = NULL;
        shard_writer_abandon(writer);
        return error_memory(error, sizeof *writer, "a shard writer");
    }
    enum status status = open_output(writer, zstd_level, error);
    if (status != STATUS_OK) {
        shard_writer_abandon(writer);
        return status;
    }
    *out = writer;
    return STATUS_OK;
}

enum status shard_writer_put(struct shard_writer *writer, const char *key,
                             const char *extension, const void *data, size_t size,
                             struct error *error)
{
    const char *slash = strrchr(key, '/');
    const char *base = slash != NULL ? slash + 1 : key;
    if (*base == '\0' || strchr(base, '.') != NULL)
        return error_set(error, STATUS_DATA,
                         "shard %s: key '%s' would not be read back: its last "
                         "part is empty or has a dot",
                         writer->path, key);

    char *name;
    if (asprintf(&name, "%s.%s", key, extension) < 0)
        return error_memory(error, strlen(key), "a member's name");
    archive_entry_clear(writer->entry);
    archive_entry_set_pathname(writer->entry, name);
    archive_entry_set_filetype(writer->entry, AE_IFREG);
    archive_entry_set_perm(writer->entry, 0444);
    archive_entry_set_mtime(writer->entry, 0, 0);
    archive_entry_set_size(writer->entry, (la_int64_t)size);
    free(name);
    if (archive_write_header(writer->archive, writer->entry) != ARCHIVE_OK)
        return fail_write(writer, error);
    for (size_t written = 0; written < size;) {
        la_ssize_t put = archive_write_data(writer->archive, (const char *)data + written,
                                            size - written);
        if (put <= 0)
            return fail_write(writer, error);
        written += (size_t)put;
    }
    return STATUS_OK;
}

enum status shard_writer_finish(struct shard_writer *writer, struct error *error)
{
    enum status status = STATUS_OK;
    if (archive_write_close(writer->archive) != ARCHIVE_OK)
        status = fail_write(writer, error);
    if (status == STATUS_OK && fsync(writer->fd) != 0)
        status = error_set_errno(error, STATUS_IO, "shard %s: writing failed", writer->path);
    int fd = writer->fd;
    writer->fd = -1;
    if (close(fd) != 0 && status == STATUS_OK)
        status = error_set_errno(error, STATUS_IO, "shard %s: closing failed", writer->path);
    if (status == STATUS_OK && rename(writer->temporary, writer->path) != 0)
        status = error_set_errno(error, STATUS_IO, "shard %s: cannot rename %s", writer->path,
                                 writer->temporary);
    if (status == STATUS_OK) {
        free(writer->temporary);
        writer->temporary = NULL;
    }
    shard_writer_abandon(writer);
    return status;
}

void shard_writer_abandon(struct shard_writer *writer)
{
    if (writer == NULL)
        return;
    archive_write_free(writer->archive);
    archive_entry_free(writer->entry);
    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->temporary != NULL)
        unlink(writer->temporary);
    free(writer->temporary);
    free(writer->path);
    free(writer);
}
