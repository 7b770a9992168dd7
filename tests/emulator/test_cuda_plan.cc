/* test_cuda_plan.cc - the file of matrix product plans: what is kept is found again, and no
 * other file does harm. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/cuda/cuda_plan.h"
#include "tests/unit/check.h"

static const char identity[] = "a gpu, version 1";
static char directory[] = "/tmp/clipipe-plans-XXXXXX";
static char path[256];

static void write_text(const char *text, size_t size)
{
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fwrite(text, 1, size, file) == size && fclose(file) == 0, "%s", path);
}

static size_t read_text(char text[4096])
{
    FILE *file = fopen(path, "r");
    const size_t size = file == NULL ? 0 : fread(text, 1, 4095, file);
    text[size] = '\0';
    if (file != NULL)
        fclose(file);
    return size;
}

static bool finds(struct cuda_plans *plans, const char *product, const char *way)
{
    const char *found = cuda_plans_find(plans, product);
    return way == NULL ? found == NULL : found != NULL && strcmp(found, way) == 0;
}

/* What the file holds for a product, to a process that opens it now. */
static bool file_holds(const char *who, const char *product, const char *way)
{
    struct cuda_plans *plans = cuda_plans_open(who);
    const bool holds = plans != NULL && finds(plans, product, way);
    cuda_plans_close(plans);
    return holds;
}

static void keep(const char *who, const char *product, const char *way)
{
    struct cuda_plans *plans = cuda_plans_open(who);
    CHECK(cuda_plans_can_keep(plans), "%s", path);
    CHECK(cuda_plans_keep(plans, product, way) != NULL, "%s", product);
    CHECK(finds(plans, product, way), "%s", product);
    cuda_plans_close(plans);
}

static void test_kept(void)
{
    unlink(path);
    CHECK(file_holds(identity, "2 x 3", NULL), "nothing in no file");
    keep(identity, "2 x 3", "fast 17");
    keep(identity, "4 x 5", "slow a b c");
    CHECK(file_holds(identity, "2 x 3", "fast 17"), "the first");
    CHECK(file_holds(identity, "4 x 5", "slow a b c"), "the second");
    CHECK(file_holds(identity, "2 x", NULL), "not a part of a name");
    CHECK(file_holds("another gpu, version 1", "2 x 3", NULL), "another's plans");
    keep("another gpu, version 1", "2 x 3", "other");
    CHECK(file_holds("another gpu, version 1", "2 x 3", "other"), "now the other's");
    CHECK(file_holds(identity, "2 x 3", NULL), "one identity a file");
}

/* Two processes: the first to write wins, and neither loses what the other kept. */
static void test_together(void)
{
    unlink(path);
    struct cuda_plans *a = cuda_plans_open(identity), *b = cuda_plans_open(identity);
    cuda_plans_keep(a, "p", "of a");
    const char *holds = cuda_plans_keep(b, "p", "of b");
    CHECK(holds != NULL && strcmp(holds, "of a") == 0, "the first stays");
    cuda_plans_keep(b, "q", "of b");
    CHECK(finds(a, "q", NULL), "not read again unasked");
    cuda_plans_keep(a, "r", "of a");
    CHECK(finds(a, "q", "of b"), "read before writing");
    CHECK(file_holds(identity, "p", "of a") && file_holds(identity, "q", "of b") &&
              file_holds(identity, "r", "of a"), "all three");
    cuda_plans_drop(a, "q");
    CHECK(finds(a, "q", NULL) && finds(a, "p", "of a") && finds(a, "r", "of a"), "one dropped");
    cuda_plans_close(a);
    cuda_plans_close(b);
}

/* Cut after every byte, and with every byte changed: an entry is whole or is not there. */
static void test_damage(void)
{
    char text[4096], damaged[4096];
    unlink(path);
    keep(identity, "2 x 3", "fast 17");
    keep(identity, "4 x 5", "slow");
    const size_t size = read_text(text);
    for (size_t cut = 0; cut <= size; cut++) {
        write_text(text, cut);
        CHECK(file_holds(identity, "4 x 5", cut == size ? "slow" : NULL), "cut at %zu", cut);
    }
    for (size_t at = 0; at < size; at++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(damaged, text, size);
            damaged[at] ^= (char)(1 << bit);
            write_text(damaged, size);
            struct cuda_plans *plans = cuda_plans_open(identity);
            const bool first = finds(plans, "2 x 3", "fast 17") || finds(plans, "2 x 3", NULL);
            const bool second = finds(plans, "4 x 5", "slow") || finds(plans, "4 x 5", NULL);
            CHECK(first && second, "bit %d of byte %zu", bit, at);
            cuda_plans_close(plans);
        }
}

/* A file that is something else is neither read nor written. */
static void test_foreign(void)
{
    static const char letter[] = "Dear Ada,\n\nthe engine works.\n";
    char text[4096];
    write_text(letter, sizeof letter - 1);
    struct cuda_plans *plans = cuda_plans_open(identity);
    CHECK(!cuda_plans_can_keep(plans), "a letter");
    CHECK(cuda_plans_keep(plans, "p", "way") != NULL && finds(plans, "p", "way"), "in memory");
    cuda_plans_close(plans);
    CHECK(read_text(text) == sizeof letter - 1 && strcmp(text, letter) == 0, "the letter");
    memset(text, 'x', sizeof text);
    write_text(text, sizeof text); /* one endless line */
    plans = cuda_plans_open(identity);
    CHECK(!cuda_plans_can_keep(plans), "a line without end");
    cuda_plans_close(plans);
}

static void test_places(void)
{
    char cache[200], home[200];
    snprintf(cache, sizeof cache, "%s/cache", directory);
    snprintf(home, sizeof home, "%s/home", directory);
    unlink(path);
    CHECK(setenv("CLIPIPE_CUDA_PLANS", "off", 1) == 0, "off");
    struct cuda_plans *plans = cuda_plans_open(identity);
    CHECK(!cuda_plans_can_keep(plans) && cuda_plans_keep(plans, "p", "way") != NULL, "off");
    cuda_plans_close(plans);
    CHECK(file_holds(identity, "p", NULL), "off keeps nothing");
    unsetenv("CLIPIPE_CUDA_PLANS");
    setenv("HOME", home, 1);
    setenv("XDG_CACHE_HOME", cache, 1);
    keep(identity, "p", "in the cache");
    unsetenv("XDG_CACHE_HOME");
    keep(identity, "p", "at home");
    setenv("XDG_CACHE_HOME", cache, 1);
    CHECK(file_holds(identity, "p", "in the cache"), "XDG_CACHE_HOME first");
    setenv("XDG_CACHE_HOME", "relative", 1);
    CHECK(file_holds(identity, "p", "at home"), "a relative one does not count");
    setenv("CLIPIPE_CUDA_PLANS", "/proc/no/such/place", 1);
    plans = cuda_plans_open(identity);
    CHECK(!cuda_plans_can_keep(plans), "a place that cannot be made");
    cuda_plans_close(plans);
    setenv("CLIPIPE_CUDA_PLANS", path, 1);
}

int main(void)
{
    char command[300];
    CHECK(mkdtemp(directory) != NULL, "%s", directory);
    snprintf(path, sizeof path, "%s/plans", directory);
    setenv("CLIPIPE_CUDA_PLANS", path, 1);
    test_kept();
    test_together();
    test_damage();
    test_foreign();
    test_places();
    snprintf(command, sizeof command, "rm -r %s", directory);
    CHECK(system(command) == 0, "%s", command);
    return check_report("test_cuda_plan");
}
