/* Runs a fuzz target without a fuzzer: its seeds, which must be accepted, and then the same
 * damaged at random, always in the same way.
 *
 *     fuzz_NAME               everything
 *     fuzz_NAME --only N      input number N of that
 *     fuzz_NAME --seeds DIR   writes the seeds into a directory, for a fuzzer to begin with
 *     fuzz_NAME FILE...       these inputs */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "base/number.h"
#include "base/rng.h"
#include "tests/fuzz/fuzz.h"

enum { SEEDS_MAX = 64, INPUTS = 10000, SIZE_MAX_BYTES = 1 << 16, INPUT_SECONDS_MAX = 30 };

static struct buffer seeds[SEEDS_MAX];
static size_t seed_count;

/* What the child tells its parent, in shared memory. */
static struct progress {
    uint64_t next;     /* the input being tried */
    uint64_t accepted; /* of the damaged ones */
} *progress;

/* ---- damage ---- */

/* Numbers at which sizes go wrong, as they stand in the formats. */
static size_t write_number(struct rng *rng, uint8_t *at, size_t room)
{
    static const uint64_t numbers[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff,
                                       0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX};
    uint64_t value = numbers[rng_below(rng, sizeof numbers / sizeof numbers[0])];
    size_t size = (size_t)1 << rng_below(rng, 4);
    bool big_endian = rng_next(rng) & 1;
    if (size > room)
        return 0;
    for (size_t i = 0; i < size; i++)
        at[big_endian ? size - 1 - i : i] = (uint8_t)(value >> 8 * i);
    return size;
}

/* Removes `gone` bytes at `at` and puts piece[0..size) there. */
static void splice(struct buffer *input, size_t at, size_t gone, const uint8_t *piece,
                   size_t size)
{
    struct buffer out = {0};
    fuzz_append(&out, input->data, at);
    fuzz_append(&out, piece, size);
    fuzz_append(&out, input->data + at + gone, input->size - at - gone);
    buffer_free(input);
    *input = out;
}

static void damage_once(struct rng *rng, struct buffer *input)
{
    if (input->size == 0)
        return;
    size_t at = (size_t)rng_below(rng, input->size);
    size_t rest = input->size - at, few = 1 + (size_t)rng_below(rng, rest < 40 ? rest : 40);
    const struct buffer *other = &seeds[rng_below(rng, seed_count)];
    switch (rng_below(rng, 9)) {
    case 0:
    case 1:
        input->data[at] ^= (uint8_t)(1 << rng_below(rng, 8));
        break;
    case 2:
        input->data[at] = (uint8_t)rng_next(rng);
        break;
    case 3:
        write_number(rng, input->data + at, rest);
        break;
    case 4: /* ASCII, for the formats that are text */
        input->data[at] = (uint8_t) "0919-.e\"\\{}[],: \n&;<"[rng_below(rng, 20)];
        break;
    case 5:
        input->size = at;
        break;
    case 6:
        splice(input, at, few, NULL, 0);
        break;
    case 7: /* something twice */
        splice(input, at, 0, input->data + at, few);
        break;
    case 8: /* the end of another */
        if (other->size > 0) {
            size_t from = (size_t)rng_below(rng, other->size);
            splice(input, at, rest, other->data + from, other->size - from);
        }
        break;
    }
}

/* Input `number`: below seed_count, a seed. */
static void make_input(uint64_t number, struct buffer *input)
{
    const struct buffer *seed = &seeds[number % seed_count];
    input->size = 0;
    fuzz_append(input, seed->data, seed->size);
    if (number < seed_count)
        return;
    struct rng rng;
    rng_init(&rng, 0, 0, number, RNG_TEST);
    for (uint64_t times = 1 + rng_below(&rng, 5); times > 0; times--)
        damage_once(&rng, input);
    if (input->size > SIZE_MAX_BYTES)
        input->size = SIZE_MAX_BYTES;
}

/* ---- running ---- */

/* In memory of exactly that size, so that a sanitizer sees what is read beyond. */
static void try_input(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size > 0 ? size : 1);
    MUST(exact != NULL);
    if (size > 0)
        memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(size > 0 ? exact : exact + 1, size);
    free(exact);
}

static void try_from(uint64_t first, uint64_t end)
{
    struct buffer input = {0};
    for (uint64_t i = first; i < end; i++) {
        progress->next = i;
        make_input(i, &input);
        alarm(INPUT_SECONDS_MAX);
        try_input(input.data, input.size);
        if (i < seed_count && !fuzz_accepted) {
            fprintf(stderr, "seed %d was not accepted\n", (int)i);
            _exit(1);
        }
        progress->accepted += i >= seed_count && fuzz_accepted;
    }
    progress->next = end;
    buffer_free(&input);
    for (size_t i = 0; i < seed_count; i++)
        buffer_free(&seeds[i]);
}

/* A child for every run of inputs that ends well, so that one crash hides no other. */
static int try_all(const char *name)
{
    struct rlimit no_core = {0, 0};
    int failed = 0;
    setrlimit(RLIMIT_CORE, &no_core);
    while (progress->next < INPUTS) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            try_from(progress->next, INPUTS);
            exit(0);
        }
        int status;
        MUST(child > 0 && waitpid(child, &status, 0) == child);
        if (status == 0)
            break;
        printf("%s: input %d ended with %s %d; to repeat it: %s --only %d\n", name,
               (int)progress->next, WIFSIGNALED(status) ? "signal" : "status",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), name,
               (int)progress->next);
        failed++;
        progress->next++;
    }
    if (progress->accepted == 0 || progress->accepted >= INPUTS - seed_count) {
        printf("%s: %d of %d damaged inputs were accepted\n", name, (int)progress->accepted,
               (int)(INPUTS - seed_count));
        failed++;
    }
    printf("%s: %d passed, %d failed\n", name, INPUTS - failed, failed);
    return failed > 0;
}

static int write_seeds(const char *directory)
{
    struct error error;
    for (size_t i = 0; i < seed_count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/seed-%02d", directory, (int)i);
        if (io_write_file(path, seeds[i].data, seeds[i].size, &error) != STATUS_OK) {
            fprintf(stderr, "%s\n", error.text);
            return error.status;
        }
    }
    return 0;
}

static int try_files(char **paths)
{
    for (; *paths != NULL; paths++) {
        struct buffer file = {0};
        struct error error;
        if (io_read_file(*paths, SIZE_MAX, &file, &error) != STATUS_OK) {
            fprintf(stderr, "%s\n", error.text);
            return error.status;
        }
        try_input(file.data, file.size);
        printf("%s: %s\n", *paths, fuzz_accepted ? "accepted" : "refused");
        buffer_free(&file);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/'), *name = slash == NULL ? argv[0] : slash + 1;
    int64_t only;
    while (seed_count < SEEDS_MAX && fuzz_seed((int)seed_count, &seeds[seed_count]))
        seed_count++;
    MUST(seed_count > 0 && seed_count < SEEDS_MAX);
    progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                    -1, 0);
    MUST(progress != MAP_FAILED);

    if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
        return write_seeds(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--only") == 0) {
        if (!number_parse_integer(argv[2], &only) || only < 0)
            return STATUS_USAGE;
        try_from((uint64_t)only, (uint64_t)only + 1);
        return 0;
    }
    return argc > 1 ? try_files(argv + 1) : try_all(name);
}
