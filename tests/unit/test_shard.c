/* Shards made by libarchive (plain, gzip, zstd, pax, links), read back; webdataset's grouping;
 * archives cut at every 512 bytes and at odd places; the writer. */
#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/shard.h"
#include "tests/unit/check.h"

static char directory[] = "/tmp/test_shard.XXXXXX";
static char shard_path[64];

enum pack { PACK_NONE, PACK_GZIP, PACK_ZSTD };

/* ---- making archives ---- */

static struct archive *tar_begin(enum pack pack, bool pax)
{
    struct archive *tar = archive_write_new();
    if (pax)
        archive_write_set_format_pax(tar);
    else
        archive_write_set_format_ustar(tar);
    if (pack == PACK_GZIP)
        archive_write_add_filter_gzip(tar);
    if (pack == PACK_ZSTD)
        archive_write_add_filter_zstd(tar);
    archive_write_open_filename(tar, shard_path);
    return tar;
}

static void tar_put(struct archive *tar, const char *name, unsigned type, const char *link,
                    const void *data, size_t size)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)size);
    if (link != NULL && type == AE_IFLNK)
        archive_entry_set_symlink(entry, link);
    else if (link != NULL)
        archive_entry_set_hardlink(entry, link);
    CHECK(archive_write_header(tar, entry) == ARCHIVE_OK, "'%s': %s", name,
          archive_error_string(tar));
    if (size > 0)
        archive_write_data(tar, data, size);
    archive_entry_free(entry);
}

static void tar_text(struct archive *tar, const char *name, const char *text)
{
    tar_put(tar, name, AE_IFREG, NULL, text, strlen(text));
}

static void tar_end(struct archive *tar)
{
    CHECK(archive_write_close(tar) == ARCHIVE_OK, "%s", archive_error_string(tar));
    archive_write_free(tar);
}

/* ---- reading ---- */

static const struct shard_options usual = {.keys = {"jpg;png;jpeg;webp", "txt", "cls"}};

/* "key=image/text/label" for every sample with - for what is absent; the status is that of the
 * end. Freed by the caller. */
static char *describe(const struct shard_options *options, enum status *status,
                      struct error *error)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    struct shard_reader *reader = NULL;
    struct shard_sample sample = {0};
    bool found = false;
    *error = (struct error){0};
    *status = shard_reader_open(&reader, shard_path, options, error);
    for (int64_t i = 0; *status == STATUS_OK; i++) {
        *status = shard_reader_next(reader, &sample, &found, error);
        if (*status != STATUS_OK || !found)
            break;
        CHECK(sample.index == i, "index %lld", (long long)sample.index);
        fprintf(out, "%s%.*s=", i > 0 ? " " : "", (int)sample.key.size,
                (char *)sample.key.data);
        for (int f = 0; f < SHARD_FIELDS; f++)
            if (sample.present[f])
                fprintf(out, "%s%.*s", f > 0 ? "/" : "", (int)sample.fields[f].size,
                        sample.fields[f].size > 0 ? (char *)sample.fields[f].data : "");
            else
                fprintf(out, "%s-", f > 0 ? "/" : "");
        if (sample.problem[0] != '\0')
            fprintf(out, "(%s)", sample.problem);
    }
    fclose(out);
    if (*status != STATUS_OK) {
        /* An error stays. */
        struct error again = {0};
        if (reader != NULL)
            CHECK(shard_reader_next(reader, &sample, &found, &again) == *status && !found,
                  "after '%s' came '%s'", error->text, again.text);
    }
    shard_sample_free(&sample);
    shard_reader_close(reader);
    return text;
}

static void check_samples(const char *what, const char *wanted)
{
    enum status status;
    struct error error;
    char *got = describe(&usual, &status, &error);
    CHECK(status == STATUS_OK, "%s: %s", what, error.text);
    CHECK(strcmp(got, wanted) == 0, "%s: got '%s', expected '%s'", what, got, wanted);
    free(got);
}

/* Names separated by blanks, each with its own name as content. */
static void check_group(const char *names, const char *wanted)
{
    char copy[512], *state = NULL;
    struct archive *tar = tar_begin(PACK_NONE, false);
    snprintf(copy, sizeof copy, "%s", names);
    for (char *name = strtok_r(copy, " ", &state); name; name = strtok_r(NULL, " ", &state))
        tar_text(tar, name, name);
    tar_end(tar);
    check_samples(names, wanted);
}

static void test_grouping(void)
{
    check_group("", "");
    check_group("a.jpg a.txt a.cls", "a=a.jpg/a.txt/a.cls");
    check_group("a.cls a.jpg a.txt b.txt b.jpg", "a=a.jpg/a.txt/a.cls b=b.jpg/b.txt/-");
    check_group("a.jpg b.jpg a.txt", "a=a.jpg/-/- b=b.jpg/-/- a=-/a.txt/-");
    check_group("a.jpg a.jpg a.txt", "a=a.jpg/-/- a=a.jpg/a.txt/-");
    check_group("a.jpg a.txt a.jpg a.txt", "a=a.jpg/a.txt/- a=a.jpg/a.txt/-");
    check_group("a.json a.json", "a=-/-/- a=-/-/-");
    check_group("a.JPG a.Txt", "a=a.JPG/a.Txt/-");
    check_group("A.jpg a.txt", "A=A.jpg/-/- a=-/a.txt/-");
    check_group("a.jpg a.JPG", "a=a.jpg/-/- a=a.JPG/-/-");
    check_group("d/a.seg.png d/a.png d/a.txt", "d/a=d/a.png/d/a.txt/-");
    check_group("d/a.jpg e/a.txt", "d/a=d/a.jpg/-/- e/a=-/e/a.txt/-");
    check_group("v1.0/a.jpg v1.0/a.txt", "v1.0/a=v1.0/a.jpg/v1.0/a.txt/-");
    check_group("./a.jpg ./a.txt", "./a=./a.jpg/./a.txt/-");
    check_group("a.png a.jpg a.webp", "a=a.jpg/-/-");
    check_group("a.webp a.jpeg", "a=a.jpeg/-/-");
    check_group("a.jpg noext a.txt .hidden.txt d/.h.txt a.cls", "a=a.jpg/a.txt/a.cls");
    check_group("__meta__ a.jpg __x__/b.jpg a.txt __x__/a.cls", "a=a.jpg/a.txt/-");
    check_group("__x.jpg __x__.jpg ___.jpg",
                "__x=__x.jpg/-/- __x__=__x__.jpg/-/- ___=___.jpg/-/-");
    check_group("a. a.jpg", "a=a.jpg/-/-");
    check_group("a..jpg", "a=-/-/-");
}

static void test_members(void)
{
    static const char *const kinds[] = {"plain", "gzip", "zstd"};
    char path[300], wanted[2000];
    memset(path, 'd', 250);
    memcpy(path + 250, "/a.jpg", 7);
    snprintf(wanted, sizeof wanted,
             "s=pic/words/3 %.*s/a=long/-/- gr\xc3\xb6\xc3\x9f"
             "e=x/-/- z=//-",
             250, path);
    for (enum pack pack = PACK_NONE; pack <= PACK_ZSTD; pack++)
        for (int pax = 0; pax < 2; pax++) {
            /* libarchive writes UTF-8 names only in such a locale; they are read in "C". */
            CHECK(setlocale(LC_CTYPE, "C.UTF-8") != NULL, "no locale C.UTF-8");
            struct archive *tar = tar_begin(pack, pax);
            tar_put(tar, "s", AE_IFDIR, NULL, NULL, 0);
            tar_text(tar, "s.jpg", "pic");
            tar_put(tar, "s.png", AE_IFLNK, "s.jpg", NULL, 0);
            tar_put(tar, "s.webp", AE_IFREG, "s.jpg", NULL, 0);
            tar_put(tar, "h.jpg", AE_IFREG, "s.jpg", NULL, 0);
            tar_put(tar, "h.txt", AE_IFLNK, "s.txt", NULL, 0);
            tar_put(tar, "s.fifo", AE_IFIFO, NULL, NULL, 0);
            tar_text(tar, "s.txt", "words");
            tar_text(tar, "s.cls", "3");
            if (pax)
                tar_text(tar, path, "long");
            tar_text(tar,
                     "gr\xc3\xb6\xc3\x9f"
                     "e.jpg",
                     "x");
            tar_text(tar, "z.jpg", "");
            tar_text(tar, "z.txt", "");
            tar_end(tar);
            setlocale(LC_CTYPE, "C");
            if (pax)
                check_samples(kinds[pack], wanted);
            else
                check_samples(kinds[pack], "s=pic/words/3 gr\xc3\xb6\xc3\x9f"
                                           "e=x/-/- z=//-");
        }
}

static void test_fields(void)
{
    enum status status;
    struct error error;
    struct archive *tar = tar_begin(PACK_NONE, false);
    tar_text(tar, "a.jpg", "0123456789");
    tar_text(tar, "a.txt", "12345");
    tar_text(tar, "b.jpg", "01234567");
    tar_text(tar, "b.caption", "words");
    tar_end(tar);

    struct shard_options options = {.keys = {"jpg", "txt;Caption", NULL}, .member_size_max = 9};
    char *got = describe(&options, &status, &error);
    CHECK(strcmp(
              got,
              "a=-/12345/-(its .jpg has 10 bytes, the most allowed is 9) b=01234567/words/-") ==
              0,
          "got '%s'", got);
    free(got);
    options = (struct shard_options){.keys = {NULL, "txt", "jpg"}, .presence_only = {0, 1, 0}};
    got = describe(&options, &status, &error);
    CHECK(strcmp(got, "a=-//0123456789 b=-/-/01234567") == 0, "got '%s'", got);
    free(got);
}

static void test_many_members(void)
{
    enum status status;
    struct error error;
    struct archive *tar = tar_begin(PACK_NONE, false);
    for (int i = 0; i < 1001; i++) {
        char name[32];
        snprintf(name, sizeof name, "a.%d", i);
        tar_text(tar, name, "");
    }
    tar_end(tar);
    free(describe(&usual, &status, &error));
    CHECK(status == STATUS_DATA && strstr(error.text, "more than 1000 members"), "%s",
          error.text);
}

/* ---- damage ---- */

static size_t load(unsigned char **data)
{
    FILE *file = fopen(shard_path, "rb");
    struct stat about;
    fstat(fileno(file), &about);
    *data = malloc((size_t)about.st_size);
    size_t size = fread(*data, 1, (size_t)about.st_size, file);
    fclose(file);
    return size;
}

static void store(const unsigned char *data, size_t size)
{
    FILE *file = fopen(shard_path, "wb");
    CHECK(fwrite(data, 1, size, file) == size, "short write");
    fclose(file);
}

/* Samples until the end, read or passed over. */
static int64_t count(bool read, enum status *status, struct error *error)
{
    struct shard_reader *reader;
    struct shard_sample sample = {0};
    int64_t samples = 0;
    *status = shard_reader_open(&reader, shard_path, &usual, error);
    if (*status != STATUS_OK)
        return -1;
    if (!read)
        *status = shard_reader_skip(reader, INT64_MAX, &samples, error);
    for (bool found = true; read && found && *status == STATUS_OK; samples += found) {
        found = false;
        *status = shard_reader_next(reader, &sample, &found, error);
    }
    shard_sample_free(&sample);
    shard_reader_close(reader);
    return samples;
}

/* Cuts the shard at `size`: never a success, the path and a number of bytes in the message, and
 * the same samples whether they are read or passed over. */
static int64_t check_cut(const unsigned char *data, size_t size, const char *what)
{
    enum status status, skip_status;
    struct error error = {0}, skip_error = {0};
    store(data, size);
    int64_t samples = count(true, &status, &error);
    int64_t skipped = count(false, &skip_status, &skip_error);
    CHECK(status == STATUS_DATA, "%s cut at %zu: status %d", what, size, (int)status);
    CHECK(skip_status == STATUS_DATA, "%s cut at %zu: status %d", what, size, (int)skip_status);
    CHECK(samples == skipped, "%s cut at %zu: %lld samples read, %lld passed over", what, size,
          (long long)samples, (long long)skipped);
    CHECK(strstr(error.text, shard_path) != NULL, "'%s'", error.text);
    CHECK(strstr(error.text, "bytes") != NULL, "'%s'", error.text);
    return samples;
}

static void make_samples(enum pack pack, int samples)
{
    /* Larger than a block of input, so that members are passed over by seeking. */
    static unsigned char picture[150000];
    for (size_t i = 0; i < sizeof picture; i++)
        picture[i] = (unsigned char)(i * 2654435761u >> 13);
    struct archive *tar = tar_begin(pack, false);
    for (int i = 0; i < samples; i++) {
        char name[32];
        snprintf(name, sizeof name, "%06d.jpg", i);
        tar_put(tar, name, AE_IFREG, NULL, picture, i == 1 ? sizeof picture : 700);
        snprintf(name, sizeof name, "%06d.txt", i);
        tar_text(tar, name, "a caption");
        snprintf(name, sizeof name, "%06d.json", i);
        tar_text(tar, name, "{}");
    }
    tar_end(tar);
}

/* The samples that a plain tar of make_samples still gives when it is cut: those that are
 * whole, and the one that has a whole member and is cut in the header of another. */
static int64_t samples_before(size_t cut, int samples)
{
    size_t start = 0;
    for (int i = 0; i < samples; i++) {
        const size_t sizes[] = {i == 1 ? 150000 : 700, 9, 2};
        for (int member = 0; member < 3; member++) {
            size_t end = start + 512 + (sizes[member] + 511) / 512 * 512;
            if (cut < end)
                return i + (member > 0 && cut < start + 512);
            start = end;
        }
    }
    return samples;
}

static void test_cut_plain(void)
{
    enum { SAMPLES = 4 };
    unsigned char *data;
    make_samples(PACK_NONE, SAMPLES);
    size_t size = load(&data);
    for (size_t block = 0; block < size - 512; block += 512)
        for (size_t cut = block > 0 ? block - 1 : 0; cut <= block + 1; cut++) {
            if (cut >= size - 512)
                break;
            int64_t samples = check_cut(data, cut, "plain");
            int64_t wanted = samples_before(cut, SAMPLES);
            CHECK(samples == wanted, "cut at %zu: %lld samples, expected %lld", cut,
                  (long long)samples, (long long)wanted);
        }

    enum status status;
    struct error error = {0};
    store(data, size - 512);
    CHECK(count(true, &status, &error) == SAMPLES && status == STATUS_OK,
          "one block of the end mark: %s", error.text);
    store(data, 3584 + 512 + 1000);
    count(true, &status, &error);
    CHECK(strstr(error.text, "ends after 5096 bytes, with 1000 of 150000 bytes of member "
                             "'000001.jpg'") != NULL,
          "'%s'", error.text);
    count(false, &status, &error);
    CHECK(strstr(error.text, "with 1000 of 150000 bytes of member '000001.jpg'") != NULL,
          "'%s'", error.text);
    free(data);
}

static void test_cut_packed(enum pack pack, const char *what)
{
    unsigned char *data;
    make_samples(pack, 3);
    size_t size = load(&data);
    int64_t most = 0;
    /* The last bytes may hold only a checksum and the zeros after the end mark. */
    for (size_t cut = 1; cut < size - 24; cut += cut < 1200 || size - cut < 1200 ? 1 : 997) {
        int64_t samples = check_cut(data, cut, what);
        CHECK(samples >= most && samples <= 3, "%s cut at %zu: %lld samples", what, cut,
              (long long)samples);
        most = samples;
    }
    free(data);
}

static void test_garbage(void)
{
    enum status status;
    struct error error = {0};
    const char *html = "<html><body>404 not found</body></html>";
    store((const unsigned char *)html, strlen(html));
    CHECK(count(true, &status, &error) == 0 && status == STATUS_DATA, "html: %d", (int)status);
    CHECK(strstr(error.text, "no tar") != NULL, "'%s'", error.text);
    CHECK(count(false, &status, &error) == 0 && status == STATUS_DATA, "html: %d", (int)status);

    unsigned char *data;
    make_samples(PACK_NONE, 3);
    size_t size = load(&data);
    data[3584 + 20] ^= 1; /* the name in the header of sample 1: its checksum is now wrong */
    store(data, size);
    CHECK(count(true, &status, &error) == 1 && status == STATUS_DATA, "bad header: %s",
          error.text);
    CHECK(strstr(error.text, "damaged") != NULL, "'%s'", error.text);
    CHECK(count(false, &status, &error) == 1 && status == STATUS_DATA, "bad header: %s",
          error.text);
    free(data);

    unlink(shard_path);
    count(true, &status, &error);
    CHECK(status == STATUS_NO_INPUT && strstr(error.text, shard_path) != NULL, "'%s'",
          error.text);
}

/* Random bytes anywhere in a shard: any result but a crash, a hang or much memory. */
static void test_corruption(enum pack pack)
{
    unsigned char *data;
    unsigned state = 7 + (unsigned)pack;
    make_samples(pack, 3);
    size_t size = load(&data);
    for (int round = 0; round < 300; round++) {
        unsigned char *copy = malloc(size);
        memcpy(copy, data, size);
        for (int i = 0; i < 1 + round % 8; i++) {
            state = state * 1103515245u + 12345u;
            size_t at = (state >> 8) % (round % 2 == 0 ? size : 5000 < size ? 5000 : size);
            copy[at] = (unsigned char)(state >> 3);
        }
        store(copy, size);
        enum status status, skip_status;
        struct error error = {0};
        int64_t read = count(true, &status, &error),
                passed = count(false, &skip_status, &error);
        CHECK(read >= 0 && read <= 10 && (status == STATUS_OK || status == STATUS_DATA),
              "round %d: %lld samples, status %d", round, (long long)read, (int)status);
        CHECK(read == passed && status == skip_status, "round %d: %lld read, %lld passed over",
              round, (long long)read, (long long)passed);
        free(copy);
    }
    free(data);
}

static void test_skip(void)
{
    struct shard_sample sample = {0};
    struct error error = {0};
    make_samples(PACK_NONE, 5);
    for (int64_t skip = 0; skip <= 6; skip++) {
        struct shard_reader *reader;
        int64_t skipped;
        bool found;
        shard_reader_open(&reader, shard_path, &usual, &error);
        enum status status = shard_reader_skip(reader, skip, &skipped, &error);
        CHECK(status == STATUS_OK && skipped == (skip < 5 ? skip : 5),
              "%lld passed over of %lld", (long long)skipped, (long long)skip);
        status = shard_reader_next(reader, &sample, &found, &error);
        CHECK(status == STATUS_OK && found == (skip < 5), "after %lld", (long long)skip);
        if (found)
            CHECK(sample.index == skip && sample.key.data[5] == '0' + skip &&
                      sample.fields[SHARD_IMAGE].size == (skip == 1 ? 150000 : 700),
                  "after %lld comes sample %lld", (long long)skip, (long long)sample.index);
        shard_reader_close(reader);
    }
    shard_sample_free(&sample);
}

/* ---- captions, labels, the writer ---- */

static struct buffer view(const char *text, size_t size)
{
    return (struct buffer){(uint8_t *)text, size, size};
}

static void test_caption(void)
{
    static const struct {
        const char *text;
        size_t size;
        bool good;
    } cases[] = {
        {"a dog", 5, true},
        {"", 0, false},
        {" \t\n\r", 4, false},
        {"\x1c\x1f\x85", 2, false},
        {"\xc2\x85\xe2\x80\xa8\xc2\xa0\xe3\x80\x80", 10, false},
        {"\xe2\x80\x8b", 3, true},
        {"\xe6\x97\xa5", 3, true},
        {"\xff", 1, false},
        {"a\xc3", 2, false},
        {"\xed\xa0\x80", 3, false},
        {"\xc0\x80", 2, false},
        {"a\0b", 3, true},
        {"\xf4\x90\x80\x80", 4, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *reason;
        struct buffer text = view(cases[i].text, cases[i].size);
        CHECK(shard_check_caption(&text, &reason) == cases[i].good, "caption %zu", i);
    }
}

static void test_label(void)
{
    static const char *const good[] = {"0", "7", " 12\n", "\t-3 ", "+5", "999"};
    static const int64_t values[] = {0, 7, 12, -3, 5, 999};
    static const char *const bad[] = {
        "", " ", "a", "1 2", "1.0", "0x1", "99999999999999999999"};
    int64_t label;
    for (int i = 0; i < 6; i++) {
        struct buffer text = view(good[i], strlen(good[i]));
        CHECK(shard_parse_label(&text, &label) && label == values[i], "'%s'", good[i]);
    }
    for (int i = 0; i < 7; i++) {
        struct buffer text = view(bad[i], strlen(bad[i]));
        CHECK(!shard_parse_label(&text, &label), "'%s' is taken for a number", bad[i]);
    }
    struct buffer empty = {0}, zero = view("1\0", 2);
    CHECK(!shard_parse_label(&empty, &label) && !shard_parse_label(&zero, &label), "no number");
}

static void write_shard(int zstd_level, struct error *error)
{
    struct shard_writer *writer;
    CHECK(shard_writer_open(&writer, shard_path, zstd_level, error) == STATUS_OK, "%s",
          error->text);
    CHECK(shard_writer_put(writer, "d/a", "jpg", "pic", 3, error) == STATUS_OK, "%s",
          error->text);
    CHECK(shard_writer_put(writer, "d/a", "txt", "", 0, error) == STATUS_OK, "%s", error->text);
    CHECK(shard_writer_put(writer, "a.b", "txt", "", 0, error) == STATUS_DATA,
          "a dot in a key");
    CHECK(shard_writer_put(writer, "d/", "txt", "", 0, error) == STATUS_DATA, "an empty key");
    CHECK(access(shard_path, F_OK) != 0, "the shard has its name before it is whole");
    CHECK(shard_writer_finish(writer, error) == STATUS_OK, "%s", error->text);
}

static void test_writer(void)
{
    struct error error = {0};
    for (int level = 0; level < 4; level += 3) {
        unsigned char *first, *second;
        unlink(shard_path);
        write_shard(level, &error);
        check_samples("written shard", "d/a=pic//-");
        size_t size = load(&first);
        unlink(shard_path);
        write_shard(level, &error);
        CHECK(load(&second) == size && memcmp(first, second, size) == 0, "the bytes differ");
        free(first);
        free(second);
    }
    unlink(shard_path);
    struct shard_writer *writer;
    shard_writer_open(&writer, shard_path, 0, &error);
    shard_writer_abandon(writer);
    CHECK(shard_writer_open(&writer, "/nonexistent/0.tar", 0, &error) == STATUS_IO,
          "no directory");
    CHECK(rmdir(directory) == 0, "something is left in %s", directory);
}

int main(void)
{
    if (mkdtemp(directory) == NULL)
        return 1;
    snprintf(shard_path, sizeof shard_path, "%s/0.tar", directory);
    test_grouping();
    test_members();
    test_fields();
    test_many_members();
    test_cut_plain();
    test_cut_packed(PACK_GZIP, "gzip");
    test_cut_packed(PACK_ZSTD, "zstd");
    test_garbage();
    for (enum pack pack = PACK_NONE; pack <= PACK_ZSTD; pack++)
        test_corruption(pack);
    test_skip();
    test_caption();
    test_label();
    unlink(shard_path);
    test_writer();
    return check_report("shard");
}
