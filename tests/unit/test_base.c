/* Numbers, random numbers, checksums, buffers, the pool. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/crc32c.h"
#include "base/number.h"
#include "base/pool.h"
#include "base/rng.h"
#include "check.h"

static void test_numbers(void)
{
    static const char *const bad_integers[] = {"", " 1", "1 ", "1.0", "0x10", "9223372036854775808",
                                               "one", "--1"};
    static const char *const bad_reals[] = {"", "nan", "inf", "1,0", "1e999", " 1"};
    int64_t integer = 0;
    double real = 0, pair[2];
    CHECK(number_parse_integer("-9223372036854775808", &integer) && integer == INT64_MIN,
          "got %lld", (long long)integer);
    CHECK(number_parse_integer("+7", &integer) && integer == 7, "got %lld", (long long)integer);
    for (size_t i = 0; i < sizeof bad_integers / sizeof bad_integers[0]; i++)
        CHECK(!number_parse_integer(bad_integers[i], &integer), "'%s'", bad_integers[i]);
    CHECK(number_parse_real("2.048e-3", &real) && real == 2.048e-3, "got %g", real);
    for (size_t i = 0; i < sizeof bad_reals / sizeof bad_reals[0]; i++)
        CHECK(!number_parse_real(bad_reals[i], &real), "'%s'", bad_reals[i]);
    CHECK(number_parse_list("0.4,1.0", pair, 2) && pair[0] == 0.4 && pair[1] == 1.0, "pair");
    CHECK(!number_parse_list("0.4", pair, 2) && !number_parse_list("0.4,", pair, 2) &&
              !number_parse_list("0.4,1,2", pair, 2) && !number_parse_list("", pair, 2),
          "pairs that are none");
    size_t size;
    CHECK(!size_multiply(SIZE_MAX / 2, 3, &size) && !size_add(SIZE_MAX, 1, &size), "overflow");
}

static void test_crc(void)
{
    uint8_t data[1000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + 3);
    CHECK(crc32c(0, "123456789", 9) == 0xe3069283, "got %08x", crc32c(0, "123456789", 9));
    CHECK(crc32c(0, "", 0) == 0, "empty");
    uint32_t whole = crc32c(0, data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut += 37) {
        uint32_t parts = crc32c(crc32c(0, data, cut), data + cut, sizeof data - cut);
        CHECK(parts == whole, "cut at %zu: %08x, expected %08x", cut, parts, whole);
    }
}

static void test_rng(void)
{
    struct rng a, b;
    rng_init(&a, 1, 2, 3, RNG_CROP);
    rng_init(&b, 1, 2, 3, RNG_CROP);
    CHECK(rng_next(&a) == rng_next(&b), "same key, same numbers");
    rng_init(&b, 1, 2, 3, RNG_SCENE);
    CHECK(rng_next(&a) != rng_next(&b), "other purpose, other numbers");

    enum { DRAWS = 60000, SIDES = 6 };
    int counts[SIDES] = {0};
    double sum = 0, squares = 0;
    for (int i = 0; i < DRAWS; i++) {
        rng_init(&a, 5, 0, (uint64_t)i, RNG_TEST);
        counts[rng_below(&a, SIDES)]++;
        double normal = rng_normal(&a);
        sum += normal;
        squares += normal * normal;
    }
    /* Chi-squared with 5 degrees of freedom is above 25.7 once in 10,000 times. */
    double chi = 0, expected = (double)DRAWS / SIDES;
    for (int i = 0; i < SIDES; i++)
        chi += (counts[i] - expected) * (counts[i] - expected) / expected;
    CHECK(chi < 25.7, "first draws of neighbouring keys are uneven: chi-squared %g", chi);
    CHECK_NEAR(sum / DRAWS, 0, 0.02, "mean of normals");
    CHECK_NEAR(squares / DRAWS, 1, 0.03, "variance of normals");

    uint32_t order[257];
    int seen[257] = {0};
    rng_permutation(&a, order, 257);
    for (int i = 0; i < 257; i++)
        seen[order[i]]++;
    for (int i = 0; i < 257; i++)
        CHECK(seen[i] == 1, "%d is %d times in the permutation", i, seen[i]);
}

static void test_buffer(void)
{
    struct buffer buffer = {0};
    struct error error;
    for (int i = 0; i < 10000; i++) {
        uint8_t byte = (uint8_t)i;
        if (buffer_append(&buffer, &byte, 1, &error) != STATUS_OK)
            break;
    }
    CHECK(buffer.size == 10000, "%zu bytes", buffer.size);
    bool right = true;
    for (size_t i = 0; i < buffer.size; i++)
        right &= buffer.data[i] == (uint8_t)i;
    CHECK(right && (uintptr_t)buffer.data % 64 == 0, "contents and alignment");
    CHECK(buffer_reserve(&buffer, SIZE_MAX - 10, &error) == STATUS_SYSTEM, "no such memory");
    CHECK(buffer.size == 10000, "a failed reserve keeps the contents");
    buffer_free(&buffer);
}

struct tally {
    atomic_int done[1000];
    atomic_int bad_worker;
    int threads;
};

static void count_item(void *context, size_t item, int worker)
{
    struct tally *tally = context;
    atomic_fetch_add(&tally->done[item], 1);
    if (worker < 0 || worker >= tally->threads)
        atomic_fetch_add(&tally->bad_worker, 1);
}

static void test_pool(void)
{
    static struct tally tally;
    struct pool *pool = NULL;
    struct error error;
    for (int threads = 1; threads <= 5; threads += 2) {
        memset(&tally, 0, sizeof tally);
        tally.threads = threads;
        CHECK(pool_open(&pool, threads, &error) == STATUS_OK, "open");
        for (int round = 0; round < 50; round++)
            pool_run(pool, (size_t)(round * 20), count_item, &tally);
        pool_close(pool);
        bool right = true;
        for (int i = 0; i < 1000; i++)
            right &= tally.done[i] == 49 - i / 20;
        CHECK(right && tally.bad_worker == 0, "%d threads: every item once a round", threads);
    }
}

int main(void)
{
    test_numbers();
    test_crc();
    test_rng();
    test_buffer();
    test_pool();
    return check_report("base");
}
