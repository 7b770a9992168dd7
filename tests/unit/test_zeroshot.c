/* Scores: ranks with ties, fewer than five classes, subsets, classes that do not occur; logits
 * against a plain loop. */
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "check.h"
#include "model/zeroshot.h"

static void test_ranks(void)
{
    struct zeroshot_score score;
    struct error error;
    CHECK(zeroshot_score_init(&score, 6, NULL, &error) == STATUS_OK, "init");
    const float logits[6] = {1, 5, 5, 2, 0, 3};
    zeroshot_score_add(&score, logits, 1); /* first: of equal ones the lower index leads */
    zeroshot_score_add(&score, logits, 2); /* second */
    zeroshot_score_add(&score, logits, 0); /* fifth */
    zeroshot_score_add(&score, logits, 4); /* sixth */
    struct zeroshot_metrics metrics = zeroshot_score_metrics(&score);
    CHECK_NEAR(metrics.acc1, 1.0 / 4, 0, "one of four is first");
    CHECK_NEAR(metrics.acc5, 3.0 / 4, 0, "three of four are among five");
    CHECK_NEAR(metrics.mean_per_class_recall, 1.0 / 4, 0, "classes 3 and 5 do not occur");
    const float lost[6] = {NAN, NAN, NAN, NAN, NAN, NAN};
    zeroshot_score_add(&score, lost, 1);
    CHECK(score.top1 == 1 && score.top5 == 3, "NaN is never right");
    zeroshot_score_free(&score);
}

static void test_subset(void)
{
    struct zeroshot_score score;
    struct error error;
    const bool member[3] = {true, false, true};
    const float first[3] = {2, 1, 0};
    zeroshot_score_init(&score, 3, member, &error);
    zeroshot_score_add(&score, first, 0);
    zeroshot_score_add(&score, first, 1); /* not counted, though it stays in the choice */
    zeroshot_score_add(&score, first, 2);
    struct zeroshot_metrics metrics = zeroshot_score_metrics(&score);
    CHECK(score.images == 2, "%llu images", (unsigned long long)score.images);
    CHECK_NEAR(metrics.acc1, 0.5, 0, "one of two");
    CHECK(isnan(metrics.acc5), "fewer than five classes: %g", metrics.acc5);
    zeroshot_score_free(&score);
}

static void test_logits(void)
{
    enum { COUNT = 7, CLASSES = 5, E = 19 };
    float images[COUNT * E], weights[CLASSES * E], logits[COUNT * CLASSES];
    struct rng rng;
    rng_init(&rng, 1, 0, 0, RNG_TEST);
    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
        images[i] = (float)rng_normal(&rng);
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++)
        weights[i] = (float)rng_normal(&rng);
    zeroshot_logits(images, COUNT, weights, CLASSES, E, logits);
    for (int i = 0; i < COUNT; i++)
        for (int c = 0; c < CLASSES; c++) {
            double sum = 0;
            for (int e = 0; e < E; e++)
                sum += (double)images[i * E + e] * (double)weights[c * E + e];
            CHECK_NEAR(logits[i * CLASSES + c], 100 * sum, 2e-3, "image %d, class %d", i, c);
        }
}

int main(void)
{
    test_ranks();
    test_subset();
    test_logits();
    return check_report("zeroshot");
}
