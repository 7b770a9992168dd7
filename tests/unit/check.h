/* check.h - the whole test harness: a test program is a list of CHECKs and ends with
 * `return check_report("name")`, which prints one line and gives the exit status. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <stdio.h>
#include <string.h>

static int check_passed, check_failed;

/* Counts; on failure prints where, what was expected and a printf-style detail. */
#define CHECK(condition, ...)                                                     \
    do {                                                                          \
        if (condition) {                                                          \
            check_passed++;                                                       \
        } else {                                                                  \
            check_failed++;                                                       \
            printf("%s:%d: failed: %s: ", __FILE__, __LINE__, #condition);        \
            printf(__VA_ARGS__);                                                  \
            putchar('\n');                                                        \
        }                                                                         \
    } while (0)

/* |got - want| <= tolerance, written so that NaN fails. */
#define CHECK_NEAR(got, want, tolerance, ...)                                     \
    do {                                                                          \
        double check_got = (got), check_want = (want);                            \
        double check_error = check_got - check_want;                              \
        if (check_error < 0)                                                      \
            check_error = -check_error;                                           \
        if (check_error <= (tolerance)) {                                         \
            check_passed++;                                                       \
        } else {                                                                  \
            check_failed++;                                                       \
            printf("%s:%d: failed: %s = %.9g, expected %.9g +- %g: ", __FILE__,   \
                   __LINE__, #got, check_got, check_want, (double)(tolerance));   \
            printf(__VA_ARGS__);                                                  \
            putchar('\n');                                                        \
        }                                                                         \
    } while (0)

static inline int check_report(const char *name)
{
    printf("%s: %d passed, %d failed\n", name, check_passed, check_failed);
    return check_failed == 0 ? 0 : 1;
}

#endif
