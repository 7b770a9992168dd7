/* The order of an epoch as pure logic, and over real shards: every sample once, restart from
 * every position equals the rest, damaged and missing shards in the middle. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/sample_reader.h"
#include "tests/unit/check.h"

/* ---- the order alone ---- */

static bool is_permutation(const uint32_t *order, size_t count)
{
    bool *seen = calloc(count + 1, 1), good = true;
    for (size_t i = 0; i < count; i++) {
        good = good && order[i] < count && !seen[order[i]];
        if (order[i] < count)
            seen[order[i]] = true;
    }
    free(seen);
    return good;
}

static void test_shard_order(void)
{
    enum { SHARDS = 50 };
    const struct sample_order order = {.seed = 3, .shuffle = true, .window = 10};
    const struct sample_order other = {.seed = 4, .shuffle = true, .window = 10};
    const struct sample_order plain = {.seed = 3, .window = 10};
    uint32_t a[SHARDS], b[SHARDS];
    for (int64_t epoch = 0; epoch < 20; epoch++) {
        sample_order_shards(&order, epoch, a, SHARDS);
        CHECK(is_permutation(a, SHARDS), "epoch %lld", (long long)epoch);
        sample_order_shards(&order, epoch, b, SHARDS);
        CHECK(memcmp(a, b, sizeof a) == 0, "epoch %lld is not repeatable", (long long)epoch);
        sample_order_shards(&order, epoch + 1, b, SHARDS);
        CHECK(memcmp(a, b, sizeof a) != 0, "epochs %lld and the next", (long long)epoch);
        sample_order_shards(&other, epoch, b, SHARDS);
        CHECK(memcmp(a, b, sizeof a) != 0, "two seeds, epoch %lld", (long long)epoch);
        sample_order_shards(&plain, epoch, b, SHARDS);
        for (uint32_t i = 0; i < SHARDS; i++)
            CHECK(b[i] == i, "not shuffled, place %u is %u", i, b[i]);
    }
}

/* sample_order_find against windows laid one after the other. */
static void test_windows(void)
{
    static const uint32_t lengths[] = {1, 2, 7, 1000};
    for (int w = 0; w < 4; w++) {
        const struct sample_order order = {.seed = 9, .shuffle = true, .window = lengths[w]};
        uint64_t first_sum = 0;
        for (int64_t epoch = 0; epoch < 64; epoch++) {
            uint64_t begin = 0;
            for (uint64_t number = 0; number < 4; number++) {
                uint32_t length = sample_order_window_length(&order, epoch, number);
                CHECK(length >= 1 && length <= lengths[w] &&
                          (number == 0 || length == lengths[w]),
                      "window %llu has %u", (unsigned long long)number, length);
                first_sum += number == 0 ? length : 0;
                const uint64_t samples[] = {begin, begin + length / 2, begin + length - 1};
                for (int i = 0; i < 3; i++) {
                    struct sample_window got = sample_order_find(&order, epoch, samples[i]);
                    CHECK(got.number == number && got.begin == begin,
                          "sample %llu is in window %llu, found %llu",
                          (unsigned long long)samples[i], (unsigned long long)number,
                          (unsigned long long)got.number);
                }
                begin += length;
            }
        }
        /* The mean of 64 uniform lengths, within five standard deviations. */
        double mean = (double)first_sum / 64, wanted = (lengths[w] + 1) / 2.0;
        CHECK_NEAR(mean, wanted, 5 * lengths[w] / 3.46 / 8, "first windows of %u", lengths[w]);
    }
}

static void test_window_order(void)
{
    enum { COUNT = 101 };
    const struct sample_order order = {.seed = 9, .shuffle = true, .window = COUNT};
    uint32_t a[COUNT], b[COUNT];
    sample_order_window(&order, 5, 2, a, COUNT);
    CHECK(is_permutation(a, COUNT), "window 2");
    sample_order_window(&order, 5, 3, b, COUNT);
    CHECK(memcmp(a, b, sizeof a) != 0, "windows 2 and 3 have one order");
    sample_order_window(&order, 6, 2, b, COUNT);
    CHECK(memcmp(a, b, sizeof a) != 0, "epochs 5 and 6 have one order");
    sample_order_window(&order, 5, 2, b, COUNT);
    CHECK(memcmp(a, b, sizeof a) == 0, "window 2 is not repeatable");
}

/* ---- over shards ---- */

enum { SHARDS = 6, TRACE_MAX = 1000 };

static const int shard_samples[SHARDS] = {5, 0, 17, 1, 9, 11};
static char directory[] = "/tmp/test_order.XXXXXX";
static struct shard_list shards;

static void make_shards(void)
{
    struct error error = {0};
    for (int i = 0; i < SHARDS; i++) {
        struct shard_writer *writer;
        const char *path = shard_list_name(&shards, (size_t)i);
        CHECK(shard_writer_open(&writer, path, i % 2, &error) == STATUS_OK, "%s", error.text);
        for (int sample = 0; sample < shard_samples[i]; sample++) {
            char key[32];
            int size = snprintf(key, sizeof key, "%d-%d", i, sample);
            shard_writer_put(writer, key, "jpg", key, (size_t)size, &error);
            shard_writer_put(writer, key, "txt", key, (size_t)size, &error);
        }
        CHECK(shard_writer_finish(writer, &error) == STATUS_OK, "%s", error.text);
    }
}

struct trace {
    struct sample_position positions[TRACE_MAX];
    int count;
    int damaged;
    enum status status;
    struct error error;
};

static enum status count_damage(void *context, struct error *error)
{
    struct trace *trace = context;
    trace->damaged++;
    trace->error = *error;
    return STATUS_OK;
}

static enum status refuse_damage(void *context, struct error *error)
{
    (void)context;
    return error->status;
}

/* The samples from the beginning or after *start. */
static void run(struct trace *trace, struct sample_reader_options options,
                const struct sample_position *start)
{
    struct sample_reader *reader;
    *trace = (struct trace){.count = 0};
    options.shard = (struct shard_options){.keys = {"jpg", "txt", NULL}};
    if (options.damage == NULL)
        options.damage = count_damage;
    options.damage_context = trace;
    trace->status = sample_reader_open(&reader, &shards, &options, &trace->error);
    if (trace->status == STATUS_OK && start != NULL)
        trace->status = sample_reader_start(reader, *start, &trace->error);
    while (trace->status == STATUS_OK && trace->count < TRACE_MAX) {
        const struct shard_sample *sample;
        struct sample_position position;
        trace->status = sample_reader_next(reader, &sample, &position, &trace->error);
        if (trace->status != STATUS_OK || sample == NULL)
            break;
        char key[32];
        snprintf(key, sizeof key, "%d-%d", (int)position.shard, (int)position.index);
        CHECK(sample->key.size == strlen(key) &&
                  memcmp(sample->key.data, key, strlen(key)) == 0 &&
                  sample->fields[SHARD_IMAGE].size == strlen(key) &&
                  memcmp(sample->fields[SHARD_IMAGE].data, key, strlen(key)) == 0,
              "position %s holds '%.*s'", key, (int)sample->key.size, (char *)sample->key.data);
        trace->positions[trace->count++] = position;
    }
    sample_reader_close(reader);
}

static bool same(struct sample_position a, struct sample_position b)
{
    return a.epoch == b.epoch && a.shard == b.shard && a.index == b.index;
}

static void check_rest(const struct trace *all, const struct sample_reader_options *options)
{
    static struct trace rest;
    for (int i = 0; i < all->count; i++) {
        run(&rest, *options, &all->positions[i]);
        bool equal = rest.status == STATUS_OK && rest.count == all->count - i - 1;
        for (int j = 0; equal && j < rest.count; j++)
            equal = same(rest.positions[j], all->positions[i + 1 + j]);
        CHECK(equal, "window %u, restart after sample %d: %d samples of %d: %s",
              options->order.shuffle ? options->order.window : 0, i, rest.count,
              all->count - i - 1, rest.error.text);
    }
}

static void check_epochs(const struct trace *trace, int epochs, int samples)
{
    CHECK(trace->status == STATUS_OK && trace->count == epochs * samples, "%d samples: %s",
          trace->count, trace->error.text);
    for (int epoch = 0; epoch < epochs && trace->count == epochs * samples; epoch++) {
        bool seen[SHARDS][32] = {{false}};
        for (int i = 0; i < samples; i++) {
            struct sample_position at = trace->positions[epoch * samples + i];
            CHECK(at.epoch == epoch, "sample %d of epoch %d is of %lld", i, epoch,
                  (long long)at.epoch);
            CHECK(!seen[at.shard][at.index], "%lld,%lld comes twice in epoch %d",
                  (long long)at.shard, (long long)at.index, epoch);
            seen[at.shard][at.index] = true;
        }
    }
}

static int samples_in_all(void)
{
    int sum = 0;
    for (int i = 0; i < SHARDS; i++)
        sum += shard_samples[i];
    return sum;
}

static void test_restart(void)
{
    static const uint32_t windows[] = {0, 1, 2, 10, 20, 43, 1000};
    static struct trace trace, again;
    for (int w = 0; w < 7; w++) {
        struct sample_reader_options options = {
            .order = {.seed = 5 + (uint64_t)w, .shuffle = windows[w] > 0, .window = windows[w]},
            .epochs = 3,
        };
        run(&trace, options, NULL);
        check_epochs(&trace, 3, samples_in_all());
        run(&again, options, NULL);
        CHECK(memcmp(trace.positions, again.positions, sizeof trace.positions) == 0,
              "window %u is not repeatable", windows[w]);
        check_rest(&trace, &options);
    }
}

/* Shuffled epochs differ, from each other and from the natural order. */
static void test_shuffled(void)
{
    static struct trace trace;
    int samples = samples_in_all(), moved = 0, natural = 0, last = -1;
    struct sample_reader_options options = {.order = {.seed = 1, .shuffle = true, .window = 20},
                                            .epochs = 2};
    run(&trace, options, NULL);
    for (int i = 0; i < samples; i++) {
        struct sample_position a = trace.positions[i], b = trace.positions[samples + i];
        int number = (int)(a.shard * 100 + a.index);
        moved += a.shard != b.shard || a.index != b.index;
        natural += number > last;
        last = number;
    }
    CHECK(moved > samples / 2, "only %d of %d samples move", moved, samples);
    CHECK(natural < samples * 3 / 4, "%d of %d samples ascend", natural, samples);

    options.order.shuffle = false;
    run(&trace, options, NULL);
    for (int i = 1; i < samples; i++) {
        struct sample_position a = trace.positions[i - 1], b = trace.positions[i];
        CHECK(b.shard > a.shard || (b.shard == a.shard && b.index == a.index + 1),
              "sample %d is not in the listed order", i);
    }
}

static void test_bad_starts(void)
{
    static struct trace trace;
    for (int shuffle = 0; shuffle < 2; shuffle++) {
        struct sample_reader_options options = {.order = {.shuffle = shuffle, .window = 10},
                                                .epochs = 2};
        static const struct sample_position bad[] = {
            {0, SHARDS, 0},   {-1, 0, 0},        {0, -1, 0},
            {0, 0, -1},       {0, 0, 5},         {0, 1, 0},
            {1, 3, 1},        {0, 0, INT64_MAX}, {0, 2, INT64_MAX - 1},
            {0, INT64_MAX, 0}};
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            run(&trace, options, &bad[i]);
            CHECK(trace.status == STATUS_DATA && trace.count == 0, "start %zu: status %d", i,
                  (int)trace.status);
        }
        static const struct sample_position past = {2, 0, 0};
        run(&trace, options, &past);
        CHECK(trace.status == STATUS_OK && trace.count == 0, "after the last epoch: %d samples",
              trace.count);
    }
}

/* Shard 2 loses its last sample and is cut in its end mark, shard 4 is missing. */
static void test_damage(void)
{
    static struct trace trace;
    CHECK(truncate(shard_list_name(&shards, 2), 16 * 2048 + 700) == 0, "truncate");
    CHECK(unlink(shard_list_name(&shards, 4)) == 0, "unlink");
    int samples = samples_in_all() - 1 - shard_samples[4];
    for (uint32_t window = 0; window < 30; window += 9) {
        struct sample_reader_options options = {
            .order = {.seed = 2, .shuffle = window > 0, .window = window}, .epochs = 3};
        run(&trace, options, NULL);
        check_epochs(&trace, 3, samples);
        CHECK(trace.damaged == 6, "%d damaged shards in three epochs", trace.damaged);
        check_rest(&trace, &options);
        options.damage = refuse_damage;
        run(&trace, options, NULL);
        CHECK(trace.status == STATUS_DATA || trace.status == STATUS_NO_INPUT, "status %d",
              (int)trace.status);
    }
}

static void test_nothing(void)
{
    static struct trace trace;
    for (size_t i = 0; i < SHARDS; i++)
        unlink(shard_list_name(&shards, i));
    struct sample_reader_options options = {.order = {.shuffle = true, .window = 10},
                                            .epochs = 0};
    run(&trace, options, NULL);
    CHECK(trace.status == STATUS_OK && trace.count == 0 && trace.damaged == SHARDS,
          "%d samples, %d damaged", trace.count, trace.damaged);
}

int main(void)
{
    char pattern[64];
    struct error error;
    if (mkdtemp(directory) == NULL)
        return 1;
    snprintf(pattern, sizeof pattern, "%s/{0..%d}.tar", directory, SHARDS - 1);
    shard_list_add(&shards, pattern, &error);

    test_shard_order();
    test_windows();
    test_window_order();
    make_shards();
    test_restart();
    test_shuffled();
    test_bad_starts();
    test_damage();
    test_nothing();
    rmdir(directory);
    shard_list_free(&shards);
    return check_report("sample_order");
}
