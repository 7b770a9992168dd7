/* test_schedule.c - learning rates against values worked out by hand from open_clip's
 * formulas. */
#include "model/schedule.h"
#include "tests/unit/check.h"

static void test_cosine(void)
{
    const struct schedule s = {.kind = SCHEDULE_COSINE, .lr = 4e-3, .warmup = 10, .steps = 110};
    CHECK_NEAR(schedule_lr(&s, 0), 4e-4, 1e-15, "the first step is not at zero");
    CHECK_NEAR(schedule_lr(&s, 9), 4e-3, 1e-15, "the last step of the warm-up is at the peak");
    CHECK_NEAR(schedule_lr(&s, 10), 4e-3, 1e-15, "the cosine begins at the peak");
    CHECK_NEAR(schedule_lr(&s, 35), 4e-3 * 0.853553390593274, 1e-15, "a quarter");
    CHECK_NEAR(schedule_lr(&s, 60), 2e-3, 1e-15, "half way");
    CHECK_NEAR(schedule_lr(&s, 109), 4e-3 * 2.467198171342e-4, 1e-12, "the last step");
    CHECK_NEAR(schedule_lr(&s, 110), 0.0, 1e-18, "the end");
    CHECK_NEAR(schedule_lr(&s, 1000000), 0.0, 1e-18, "it does not rise again");
}

static void test_const(void)
{
    const struct schedule s = {.kind = SCHEDULE_CONST, .lr = 1.0, .warmup = 4, .steps = 10};
    CHECK_NEAR(schedule_lr(&s, 1), 0.5, 0.0, "warm-up");
    CHECK_NEAR(schedule_lr(&s, 4), 1.0, 0.0, "after it");
    CHECK_NEAR(schedule_lr(&s, 99), 1.0, 0.0, "past the end");
}

static void test_cooldown(void)
{
    const struct schedule s = {.kind = SCHEDULE_CONST_COOLDOWN,
                               .lr = 1.0,
                               .warmup = 0,
                               .steps = 100,
                               .cooldown_steps = 20,
                               .cooldown_power = 2,
                               .cooldown_end = 0.2};
    CHECK_NEAR(schedule_lr(&s, 0), 1.0, 0.0, "no warm-up");
    CHECK_NEAR(schedule_lr(&s, 79), 1.0, 0.0, "before");
    CHECK_NEAR(schedule_lr(&s, 80), 1.0, 1e-15, "at its beginning");
    CHECK_NEAR(schedule_lr(&s, 90), 0.2 + 0.8 * 0.25, 1e-15, "half way, squared");
    CHECK_NEAR(schedule_lr(&s, 100), 0.2, 1e-15, "the end");
    CHECK_NEAR(schedule_lr(&s, 101), 0.2, 1e-15, "past the end");
}

/* Runs that a user may ask for by mistake have a finite learning rate all the same. */
static void test_extremes(void)
{
    const struct schedule all_warm = {
        .kind = SCHEDULE_COSINE, .lr = 1.0, .warmup = 50, .steps = 10};
    CHECK_NEAR(schedule_lr(&all_warm, 9), 0.2, 1e-15, "warm-up longer than the run");
    CHECK_NEAR(schedule_lr(&all_warm, 50), 0.0, 1e-15, "and past both");
    const struct schedule one = {.kind = SCHEDULE_COSINE, .lr = 1.0, .steps = 1};
    CHECK_NEAR(schedule_lr(&one, 0), 1.0, 0.0, "a run of one step");
    const struct schedule cold = {.kind = SCHEDULE_CONST_COOLDOWN,
                                  .lr = 1.0,
                                  .steps = 10,
                                  .cooldown_steps = 30,
                                  .cooldown_power = 1};
    CHECK_NEAR(schedule_lr(&cold, 0), 1.0 / 3, 1e-15, "cool-down longer than the run");
}

static void test_names(void)
{
    enum schedule_kind kind = SCHEDULE_CONST;
    CHECK(schedule_from_name("cosine", &kind) && kind == SCHEDULE_COSINE, "cosine");
    CHECK(schedule_from_name("const-cooldown", &kind) && kind == SCHEDULE_CONST_COOLDOWN,
          "const-cooldown");
    CHECK(!schedule_from_name("linear", &kind), "linear");
    CHECK(strcmp(schedule_name(SCHEDULE_CONST), "const") == 0, "const");
}

int main(void)
{
    test_cosine();
    test_const();
    test_cooldown();
    test_extremes();
    test_names();
    return check_report("test_schedule");
}
