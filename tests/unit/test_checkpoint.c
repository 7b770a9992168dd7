/* test_checkpoint.c - what is saved comes back bit for bit and training goes on as if it had
 * not stopped; no damage to any file goes unnoticed; whatever interrupts a save, the
 * checkpoints before it stay. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/rng.h"
#include "model/checkpoint.h"
#include "model/manifest.h"
#include "model/positional.h"
#include "tests/unit/check.h"

static const char *const config_json =
    "{\"embed_dim\": 4,"
    " \"vision_cfg\": {\"image_size\": 4, \"patch_size\": 2, \"layers\": 1, \"width\": 4,"
    "   \"head_width\": 2},"
    " \"text_cfg\": {\"context_length\": 3, \"vocab_size\": 5, \"width\": 4, \"heads\": 2,"
    "   \"layers\": 1}}";

static const struct optimizer_settings settings = {
    .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6, .weight_decay = 0.2, .clip_norm = 1};

static const char vocab[] = "\x1f\x8b not really compressed \0 but with a zero";

static char root[256]; /* a temporary directory for everything */

/* ---- a run: model, optimiser, data ---- */

struct run {
    struct kernels *kernels;
    struct clip_config config;
    struct clip *clip;
    struct optimizer optimizer;
    float *average; /* backend memory [clip->table.floats] */
    struct metadata settings, about;
};

static void must(enum status status, const struct error *error)
{
    CHECK(status == STATUS_OK, "%s", error->text);
    if (status != STATUS_OK)
        exit(check_report("test_checkpoint"));
}

static void run_open(struct run *r, const char *json)
{
    struct error error = {0};
    const struct clip_shape shape = {.batch = 3, .kept = 4, .training = true};
    *r = (struct run){0};
    must(kernels_open(&r->kernels, "ref", PRECISION_FP32, 1, &error), &error);
    must(clip_config_parse(&r->config, json, strlen(json), NULL, &error), &error);
    must(clip_open(&r->clip, r->kernels, &r->config, &shape, &error), &error);
    must(clip_initialize(r->clip, 1, &error), &error);
    must(optimizer_init(&r->optimizer, r->kernels, &r->clip->table, &settings, &error), &error);
    r->average = r->kernels->allocate(r->kernels, r->clip->table.floats * sizeof(float));
    memcpy(r->average, r->clip->parameters, r->clip->table.floats * sizeof(float));
    must(metadata_set(&r->settings, "seed", "1", &error), &error);
    must(metadata_set(&r->settings, "lr", "0.001", &error), &error);
    must(metadata_set(&r->about, "tokenizer", "clip", &error), &error);
    must(metadata_set(&r->about, "provenance", "a \"quoted\" | line\n", &error), &error);
}

static void run_close(struct run *r)
{
    optimizer_free(&r->optimizer);
    r->kernels->release(r->kernels, r->average);
    clip_close(r->clip);
    clip_config_free(&r->config);
    kernels_close(r->kernels);
    metadata_free(&r->settings);
    metadata_free(&r->about);
}

/* A step whose data depends on the step's number alone. */
static void run_step(struct run *r)
{
    enum { COUNT = 3, PATCHES = COUNT * 4 * 12, TOKENS = COUNT * 3 };
    uint8_t patches[PATCHES];
    int32_t tokens[TOKENS];
    struct error error = {0};
    struct rng rng;
    float loss;
    rng_init(&rng, 9, 0, (uint64_t)r->optimizer.step, RNG_TEST);
    for (size_t i = 0; i < PATCHES; i++)
        patches[i] = (uint8_t)rng_next(&rng);
    for (size_t i = 0; i < TOKENS; i++)
        tokens[i] = (int32_t)rng_below(&rng, 5);
    const struct clip_batch batch = {COUNT, patches, NULL, tokens};
    must(clip_step_gradients(r->clip, &batch, &loss, &error), &error);
    double norm = optimizer_gradient_norm(&r->optimizer, r->clip->gradients);
    optimizer_step(&r->optimizer, r->clip->parameters, r->clip->gradients, norm, 0.01);
    for (size_t i = 0; i < r->clip->table.floats; i++)
        r->average[i] += (r->clip->parameters[i] - r->average[i]) / 4;
}

static enum status run_save(struct run *r, const char *out, int keep, struct error *error)
{
    const struct checkpoint_source source = {
        .clip = r->clip,
        .optimizer = &r->optimizer,
        .average = r->average,
        .progress = {.samples = 3 * r->optimizer.step, .position = {1, 20, 300}},
        .settings = &r->settings,
        .about = &r->about,
        .vocab = vocab,
        .vocab_size = sizeof vocab,
    };
    return checkpoint_save(out, &source, keep, error);
}

static void run_load(struct run *r, const struct checkpoint *c)
{
    struct error error = {0};
    must(checkpoint_load_parameters(c, r->clip, &error), &error);
    must(checkpoint_load_optimizer(c, &r->optimizer, &error), &error);
    must(checkpoint_load_average(c, r->clip, r->average, &error), &error);
}

static bool same_block(const struct run *a, const float *x, const float *y)
{
    return memcmp(x, y, a->clip->table.floats * sizeof *x) == 0;
}

static bool same_state(const struct run *a, const struct run *b)
{
    return same_block(a, a->clip->parameters, b->clip->parameters) &&
           same_block(a, a->optimizer.m, b->optimizer.m) &&
           same_block(a, a->optimizer.v, b->optimizer.v) &&
           same_block(a, a->average, b->average) &&
           a->optimizer.step == b->optimizer.step;
}

/* ---- files ---- */

static const char *const file_names[] = {
    MANIFEST_NAME,         CHECKPOINT_CONFIG_NAME, CHECKPOINT_MODEL_NAME, CHECKPOINT_STATE_NAME,
    CHECKPOINT_ABOUT_NAME, CHECKPOINT_VOCAB_NAME,  CHECKPOINT_AVERAGE_NAME};
enum { FILES = sizeof file_names / sizeof file_names[0] };

static const char *path_of(const char *directory, const char *name)
{
    static char paths[4][600];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static bool exists(const char *directory, const char *name)
{
    struct stat about;
    return stat(path_of(directory, name), &about) == 0;
}

static void put_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0, "%s: %s",
          path, strerror(errno));
}

static struct buffer get_file(const char *path)
{
    struct buffer out = {0};
    struct error error = {0};
    must(io_read_file(path, 1 << 24, &out, &error), &error);
    return out;
}

/* A fresh output directory below the root. */
static const char *fresh(const char *name)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", root, name);
    CHECK(mkdir(path, 0777) == 0, "%s: %s", path, strerror(errno));
    return path;
}

/* ---- tests ---- */

static void test_round_trip(void)
{
    const char *out = fresh("round-trip");
    struct run a, b;
    struct error error = {0}, warning;
    struct checkpoint c;
    run_open(&a, config_json);
    for (int i = 0; i < 3; i++)
        run_step(&a);
    must(run_save(&a, out, 2, &error), &error);
    must(checkpoint_open_latest(&c, out, &warning, &error), &error);
    CHECK(warning.text[0] == '\0', "%s", warning.text);
    CHECK(strcmp(c.path, path_of(out, "step-00000003")) == 0, "%s", c.path);
    CHECK(c.step == 3 && c.progress.samples == 9 && c.progress.position[0] == 1 &&
              c.progress.position[1] == 20 && c.progress.position[2] == 300,
          "step %lld, %lld samples", (long long)c.step, (long long)c.progress.samples);
    CHECK(metadata_equal(&c.about, &a.about), "facts differ");
    CHECK(metadata_equal(&c.state.header.metadata, &a.settings), "settings differ");
    CHECK(strcmp(c.config.model_json, a.config.model_json) == 0, "configuration differs");
    struct buffer copied = get_file(path_of(c.path, CHECKPOINT_VOCAB_NAME));
    CHECK(copied.size == sizeof vocab && memcmp(copied.data, vocab, sizeof vocab) == 0,
          "vocabulary differs");
    buffer_free(&copied);

    run_open(&b, config_json);
    CHECK(!same_state(&a, &b), "there would be nothing to test");
    run_load(&b, &c);
    CHECK(same_state(&a, &b), "parameters or moments differ");
    for (int i = 0; i < 3; i++) {
        run_step(&a);
        run_step(&b);
    }
    CHECK(same_state(&a, &b), "three steps later they differ");
    checkpoint_close(&c);

    must(checkpoint_open_latest(&c, path_of(out, "step-00000003"), &warning, &error), &error);
    CHECK(c.step == 3, "the directory itself");
    checkpoint_close(&c);
    run_close(&a);
    run_close(&b);
}

/* The averaged weights where they are asked for, and only there. */
static void test_average(void)
{
    const char *out = fresh("average");
    struct run a, b;
    struct error error = {0};
    struct checkpoint c;
    run_open(&a, config_json);
    run_open(&b, config_json);
    for (int i = 0; i < 3; i++)
        run_step(&a);
    CHECK(!same_block(&a, a.clip->parameters, a.average), "there would be nothing to test");
    must(run_save(&a, out, 2, &error), &error);
    must(checkpoint_open(&c, path_of(out, "step-00000003"), &error), &error);
    CHECK(c.has_average && !c.uses_average, "has %d, uses %d", c.has_average, c.uses_average);
    must(checkpoint_load_parameters(&c, b.clip, &error), &error);
    CHECK(same_block(&a, b.clip->parameters, a.clip->parameters), "the last unless asked");
    must(checkpoint_use_average(&c, &error), &error);
    must(checkpoint_load_parameters(&c, b.clip, &error), &error);
    CHECK(same_block(&a, b.clip->parameters, a.average), "the average");
    clip_set_parameters(b.clip, a.clip->parameters);
    must(checkpoint_load_resized(&c, b.clip, &error), &error);
    CHECK(same_block(&a, b.clip->parameters, a.average), "the average, resized");
    must(checkpoint_load_average(&c, b.clip, b.average, &error), &error);
    CHECK(same_block(&a, b.average, a.average), "the average to go on with");
    checkpoint_close(&c);

    /* By itself and under the other name it is a model. */
    struct buffer bytes = get_file(path_of(out, "step-00000003/" CHECKPOINT_AVERAGE_NAME));
    const char *alone = fresh("average-alone");
    put_file(path_of(alone, CHECKPOINT_CONFIG_NAME), config_json, strlen(config_json));
    put_file(path_of(alone, CHECKPOINT_MODEL_NAME), bytes.data, bytes.size);
    must(checkpoint_open(&c, alone, &error), &error);
    clip_set_parameters(b.clip, a.clip->parameters);
    must(checkpoint_load_parameters(&c, b.clip, &error), &error);
    CHECK(same_block(&a, b.clip->parameters, a.average), "the average alone");
    CHECK(checkpoint_use_average(&c, &error) == STATUS_NO_INPUT, "it has no average");
    checkpoint_close(&c);
    put_file(path_of(alone, CHECKPOINT_AVERAGE_NAME), bytes.data, bytes.size);
    must(checkpoint_open(&c, alone, &error), &error);
    must(checkpoint_use_average(&c, &error), &error); /* of another program, in our name */
    checkpoint_close(&c);
    put_file(path_of(alone, CHECKPOINT_AVERAGE_NAME), bytes.data, bytes.size - 1);
    CHECK(checkpoint_open(&c, alone, &error) == STATUS_DATA, "damaged");
    buffer_free(&bytes);
    run_close(&a);
    run_close(&b);
}

/* A run that keeps none, over one that did; what lies there by chance is not taken for it. */
static void test_no_average(void)
{
    const char *out = fresh("no-average");
    struct run r;
    struct error error = {0};
    struct checkpoint c;
    run_open(&r, config_json);
    must(run_save(&r, out, 2, &error), &error);
    float *average = r.average, kept = average[3];
    r.average = NULL;
    must(run_save(&r, out, 2, &error), &error);
    CHECK(!exists(out, "step-00000000/" CHECKPOINT_AVERAGE_NAME), "the earlier one is gone");
    put_file(path_of(out, "step-00000000/" CHECKPOINT_AVERAGE_NAME), "notes", 5);
    must(checkpoint_open(&c, path_of(out, "step-00000000"), &error), &error);
    CHECK(!c.has_average, "not listed");
    CHECK(checkpoint_use_average(&c, &error) == STATUS_NO_INPUT && !c.uses_average, "use");
    CHECK(strstr(error.text, "step-00000000 has no averaged weights") != NULL, "%s",
          error.text);
    average[3] = 77;
    CHECK(checkpoint_load_average(&c, r.clip, average, &error) == STATUS_NO_INPUT, "load");
    CHECK(average[3] == 77, "nothing is written");
    average[3] = kept;
    must(checkpoint_load_parameters(&c, r.clip, &error), &error);
    checkpoint_close(&c);
    r.average = average;
    run_close(&r);
}

static void test_keep(void)
{
    const char *out = fresh("keep");
    struct run r;
    struct error error = {0};
    run_open(&r, config_json);
    r.optimizer.step = 99999997; /* names grow to nine digits on the way */
    for (int i = 0; i < 5; i++) {
        r.optimizer.step++;
        must(run_save(&r, out, 3, &error), &error);
    }
    CHECK(!exists(out, "step-99999998") && !exists(out, "step-99999999"), "two are too many");
    CHECK(exists(out, "step-100000000") && exists(out, "step-100000001") &&
              exists(out, "step-100000002"),
          "the newest three");
    put_file(path_of(path_of(out, "step-100000000"), "notes"), "mine", 4);
    must(run_save(&r, out, -1, &error), &error); /* the same step again; two are kept */
    CHECK(exists(out, "step-100000001/" MANIFEST_NAME) &&
              exists(out, "step-100000002/" MANIFEST_NAME),
          "two are kept");
    CHECK(exists(out, "step-100000000/notes") &&
              !exists(out, "step-100000000/" CHECKPOINT_MODEL_NAME) &&
              !exists(out, "step-100000000/" CHECKPOINT_AVERAGE_NAME),
          "a user's file stays, ours goes");
    CHECK(!exists(out, "step-100000002.old") && !exists(out, "step-100000002.tmp"), "traces");
    run_close(&r);
}

/* One damaged file: an error by itself, a warning and the older one from the whole. */
static void check_damage(const char *out, const char *directory, const char *name,
                         const char *how)
{
    struct checkpoint c;
    struct error error = {0}, warning;
    enum status status = checkpoint_open(&c, directory, &error);
    CHECK(status == STATUS_DATA, "%s %s: status %d %s", name, how, status, error.text);
    if (status == STATUS_OK)
        checkpoint_close(&c);
    status = checkpoint_open_latest(&c, out, &warning, &error);
    CHECK(status == STATUS_OK && c.step == 1, "%s %s: %s", name, how, error.text);
    CHECK(strstr(warning.text, "step-00000002") != NULL, "%s %s: '%s'", name, how,
          warning.text);
    checkpoint_close(&c);
}

static void damage_file(const char *out, const char *directory, const char *name)
{
    const char *path = path_of(directory, name);
    char kept[600], how[64];
    snprintf(kept, sizeof kept, "%s", path);
    struct buffer good = get_file(kept);

    for (size_t at = 0; at < good.size; at += good.size / 997 + 1) {
        good.data[at] ^= 0x10;
        put_file(kept, good.data, good.size);
        snprintf(how, sizeof how, "flipped at %zu", at);
        check_damage(out, directory, name, how);
        good.data[at] ^= 0x10;
    }
    for (size_t size = 0; size < good.size; size += good.size / 499 + 1) {
        put_file(kept, good.data, size);
        snprintf(how, sizeof how, "cut to %zu of %zu", size, good.size);
        check_damage(out, directory, name, how);
    }
    CHECK(unlink(kept) == 0, "%s", kept);
    check_damage(out, directory, name, "removed");
    put_file(kept, good.data, good.size);
    buffer_free(&good);
}

static void test_damage(void)
{
    const char *out = fresh("damage");
    char directory[500];
    struct run r;
    struct error error = {0}, warning;
    struct checkpoint c;
    snprintf(directory, sizeof directory, "%s/step-00000002", out);
    run_open(&r, config_json);
    for (int i = 0; i < 2; i++) {
        run_step(&r);
        must(run_save(&r, out, 2, &error), &error);
    }
    for (size_t i = 0; i < FILES; i++)
        damage_file(out, directory, file_names[i]);
    must(checkpoint_open_latest(&c, out, &warning, &error), &error);
    CHECK(c.step == 2 && warning.text[0] == '\0', "all is as it was: %s", warning.text);
    checkpoint_close(&c);

    CHECK(truncate(path_of(directory, CHECKPOINT_MODEL_NAME), 5) == 0, "truncate");
    CHECK(unlink(path_of(path_of(out, "step-00000001"), CHECKPOINT_STATE_NAME)) == 0, "unlink");
    CHECK(checkpoint_open_latest(&c, out, &warning, &error) == STATUS_DATA, "both damaged");
    CHECK(strstr(error.text, "step-00000002: open_clip_model.safetensors has 5 bytes") != NULL,
          "%s", error.text);
    run_close(&r);
}

/* Each file is right in itself, but one that must be there is not listed, or there is no list
 * although the directory is one of ours. */
static void test_incomplete(void)
{
    const char *out = fresh("incomplete");
    char directory[500];
    struct run r;
    struct error error = {0};
    struct checkpoint c;
    struct manifest all;
    snprintf(directory, sizeof directory, "%s/step-00000000", out);
    run_open(&r, config_json);
    must(run_save(&r, out, 2, &error), &error);
    must(manifest_read(&all, directory, &error), &error);
    CHECK(all.count == FILES - 1, "%zu files are listed", all.count);
    for (size_t left_out = 0; left_out < all.count; left_out++) {
        struct manifest some = {0};
        for (size_t i = 0; i < all.count; i++)
            if (i != left_out)
                manifest_add(&some, all.files[i].name, all.files[i].size, all.files[i].crc);
        must(manifest_write(&some, directory, &error), &error);
        const char *name = all.files[left_out].name;
        bool average = strcmp(name, CHECKPOINT_AVERAGE_NAME) == 0;
        bool needed = !average && strcmp(name, CHECKPOINT_VOCAB_NAME) != 0;
        enum status status = checkpoint_open(&c, directory, &error);
        CHECK(status == (needed ? STATUS_DATA : STATUS_OK), "without %s: status %d", name,
              status);
        CHECK(needed || c.has_average == !average, "without %s: an average %d", name,
              c.has_average);
        if (status == STATUS_OK)
            checkpoint_close(&c);
    }
    CHECK(unlink(path_of(directory, MANIFEST_NAME)) == 0 &&
              unlink(path_of(directory, CHECKPOINT_ABOUT_NAME)) == 0,
          "%s", strerror(errno));
    CHECK(checkpoint_open(&c, directory, &error) == STATUS_DATA, "state without a manifest");
    run_close(&r);
}

static void test_nothing_there(void)
{
    const char *out = fresh("nothing");
    struct checkpoint c;
    struct error error = {0}, warning;
    CHECK(checkpoint_open_latest(&c, out, &warning, &error) == STATUS_NO_INPUT, "empty");
    CHECK(checkpoint_open_latest(&c, path_of(out, "absent"), &warning, &error) ==
              STATUS_NO_INPUT,
          "absent");
    CHECK(checkpoint_open(&c, path_of(out, "absent"), &error) == STATUS_NO_INPUT, "absent");
    CHECK(mkdir(path_of(out, "step-00000005"), 0777) == 0, "%s", strerror(errno));
    CHECK(checkpoint_open_latest(&c, out, &warning, &error) == STATUS_DATA,
          "an empty checkpoint is not the same as none");
    put_file(path_of(out, "file"), "x", 1);
    CHECK(checkpoint_open_latest(&c, path_of(out, "file"), &warning, &error) ==
              STATUS_NO_INPUT,
          "not a directory");
    char *endless = calloc(1, 20000);
    memset(endless, 'x', 19999);
    CHECK(checkpoint_open_latest(&c, endless, &warning, &error) == STATUS_USAGE, "endless");
    CHECK(checkpoint_open(&c, endless, &error) == STATUS_USAGE, "endless");
    free(endless);
}

/* A disk that is full after any number of bytes: a file size limit gives EFBIG where a full
 * disk gives ENOSPC, at the same places. */
static void test_full_disk(void)
{
    const char *out = fresh("full");
    struct run r;
    struct error error = {0}, warning;
    struct checkpoint c;
    struct rlimit before, limit;
    int failed = 0;
    run_open(&r, config_json);
    run_step(&r);
    must(run_save(&r, out, 2, &error), &error);
    run_step(&r);

    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR, "%s", strerror(errno));
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0, "%s", strerror(errno));
    for (rlim_t bytes = 0; bytes < 16000; bytes += 571) {
        limit = (struct rlimit){bytes, before.rlim_max};
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0, "%s", strerror(errno));
        enum status status = run_save(&r, out, 2, &error);
        CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0, "%s", strerror(errno));
        if (status == STATUS_OK)
            break;
        failed++;
        CHECK(status == STATUS_IO, "%llu bytes: status %d, %s", (unsigned long long)bytes,
              status, error.text);
        CHECK(!exists(out, "step-00000002") && !exists(out, "step-00000002.tmp"),
              "%llu bytes: something is left", (unsigned long long)bytes);
        must(checkpoint_open_latest(&c, out, &warning, &error), &error);
        CHECK(c.step == 1 && warning.text[0] == '\0', "%s", warning.text);
        checkpoint_close(&c);
    }
    CHECK(failed >= 5, "only %d saves failed", failed);
    must(run_save(&r, out, 2, &error), &error);
    run_close(&r);
}

static void test_unwritable(void)
{
    struct run r;
    struct error error = {0};
    run_open(&r, config_json);
    CHECK(run_save(&r, "/proc/nothing/run", 2, &error) == STATUS_IO, "%s", error.text);
    CHECK(run_save(&r, path_of(root, "new"), 2, &error) == STATUS_OK, "%s", error.text);
    CHECK(exists(path_of(root, "new"), "step-00000000"), "the output directory is made");
    run_close(&r);
}

static void make_leftover(const char *out, const char *name)
{
    CHECK(mkdir(path_of(out, name), 0777) == 0, "%s: %s", name, strerror(errno));
    put_file(path_of(path_of(out, name), CHECKPOINT_MODEL_NAME), "whole", 5);
    put_file(path_of(path_of(out, name), CHECKPOINT_AVERAGE_NAME), "half", 4);
}

static void test_leftovers(void)
{
    const char *out = fresh("leftovers");
    struct run r;
    struct error error = {0};
    run_open(&r, config_json);
    run_step(&r);
    must(run_save(&r, out, 2, &error), &error);
    make_leftover(out, "step-00000007.tmp");
    make_leftover(out, "step-00000001.old");
    make_leftover(out, "step-7.tmp");
    make_leftover(out, "step-00000007.tmpx");
    make_leftover(out, "other.tmp");
    must(checkpoint_remove_leftovers(out, &error), &error);
    CHECK(!exists(out, "step-00000007.tmp") && !exists(out, "step-00000001.old"), "they stay");
    CHECK(exists(out, "step-7.tmp") && exists(out, "step-00000007.tmpx") &&
              exists(out, "other.tmp") && exists(out, "step-00000001"),
          "names that are not ours are left alone");
    must(checkpoint_remove_leftovers(path_of(out, "absent"), &error), &error);

    make_leftover(out, "step-00000002.tmp");
    run_step(&r);
    must(run_save(&r, out, 2, &error), &error); /* over the leftover of the same step */
    CHECK(exists(out, "step-00000002/" MANIFEST_NAME), "saved");
    run_close(&r);
}

/* ---- directories of other programs ---- */

/* The run's model but for the last `missing` tensors; what else may be in such a file is
 * test_checkpoint_weights' matter. */
static void write_foreign(struct run *r, const char *path, size_t missing)
{
    const struct parameters *table = &r->clip->table;
    struct tensor *tensors = calloc(table->count, sizeof *tensors);
    struct error error = {0};
    static const struct metadata none;
    for (size_t i = 0; i < table->count; i++)
        tensor_init(&tensors[i], table->list[i].name, DTYPE_F32, table->list[i].rank,
                    table->list[i].shape, r->clip->parameters + table->list[i].offset);
    must(safetensors_write(path, tensors, table->count - missing, &none, NULL, &error), &error);
    free(tensors);
}

static void check_foreign(struct run *r, const char *directory, const char *name)
{
    const char *missing = r->clip->table.list[r->clip->table.count - 1].name;
    char message[700];
    struct run loaded;
    struct checkpoint c;
    struct error error = {0};
    write_foreign(r, path_of(directory, name), 0);
    must(checkpoint_open(&c, directory, &error), &error);
    CHECK(!c.has_state && c.step == 0, "a foreign directory has no state");
    CHECK(checkpoint_load_optimizer(&c, &r->optimizer, &error) == STATUS_DATA, "no moments");
    CHECK(checkpoint_load_average(&c, r->clip, r->average, &error) == STATUS_NO_INPUT,
          "no average");
    run_open(&loaded, config_json);
    must(checkpoint_load_parameters(&c, loaded.clip, &error), &error);
    CHECK(same_block(r, r->clip->parameters, loaded.clip->parameters), "%s", name);
    run_close(&loaded);
    checkpoint_close(&c);

    write_foreign(r, path_of(directory, name), 1);
    must(checkpoint_open(&c, directory, &error), &error);
    snprintf(message, sizeof message, "%s: tensor %s is missing", path_of(directory, name),
             missing);
    CHECK(checkpoint_load_parameters(&c, r->clip, &error) == STATUS_DATA, "%s", name);
    CHECK(strcmp(error.text, message) == 0, "'%s', expected '%s'", error.text, message);
    checkpoint_close(&c);
}

/* By all names that a directory may have the weights under, each before those above it. */
static void test_foreign(void)
{
    static const char *const names[] = {"model.safetensors",
                                        "open_clip_pytorch_model.safetensors",
                                        CHECKPOINT_MODEL_NAME};
    const char *out = fresh("foreign");
    struct run r;
    struct checkpoint c;
    struct error error = {0}, warning;
    run_open(&r, config_json);
    run_step(&r);
    put_file(path_of(out, CHECKPOINT_CONFIG_NAME), config_json, strlen(config_json));
    CHECK(checkpoint_open(&c, out, &error) == STATUS_NO_INPUT, "no weights: %s", error.text);
    put_file(path_of(out, "model.safetensors.index.json"), "{}", 2);
    CHECK(checkpoint_open_latest(&c, out, &warning, &error) == STATUS_DATA &&
              error.hint[0] != '\0',
          "in pieces: %s", error.text);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check_foreign(&r, out, names[i]);
    run_close(&r);
}

/* A checkpoint into a model of another shape. */
static void test_other_model(void)
{
    static const char wider[] =
        "{\"embed_dim\": 4, \"vision_cfg\": {\"image_size\": 4, \"patch_size\": 2,"
        " \"layers\": 1, \"width\": 4, \"head_width\": 2},"
        " \"text_cfg\": {\"context_length\": 3, \"vocab_size\": 5, \"width\": 4,"
        " \"heads\": 2, \"layers\": 2}}";
    const char *out = fresh("other");
    struct run small, large;
    struct checkpoint c;
    struct error error = {0}, warning;
    run_open(&small, config_json);
    run_open(&large, wider);
    must(run_save(&small, out, 2, &error), &error);
    must(checkpoint_open_latest(&c, out, &warning, &error), &error);
    CHECK(checkpoint_load_parameters(&c, large.clip, &error) == STATUS_DATA, "too few");
    CHECK(strstr(error.text, "resblocks.1.ln_1.weight is missing") != NULL, "%s", error.text);
    CHECK(checkpoint_load_optimizer(&c, &large.optimizer, &error) == STATUS_DATA, "too few");
    checkpoint_close(&c);

    large.optimizer.step = 1;
    must(run_save(&large, out, 2, &error), &error);
    must(checkpoint_open_latest(&c, out, &warning, &error), &error);
    CHECK(checkpoint_load_parameters(&c, small.clip, &error) == STATUS_DATA, "too many");
    CHECK(checkpoint_load_optimizer(&c, &small.optimizer, &error) == STATUS_DATA, "too many");
    CHECK(strstr(error.text, "expected") != NULL, "%s", error.text);
    checkpoint_close(&c);
    run_close(&small);
    run_close(&large);
}

/* Weights of a small image size and short texts into a model of larger ones. */
static void test_resized(void)
{
    static const char larger[] =
        "{\"embed_dim\": 4, \"vision_cfg\": {\"image_size\": 6, \"patch_size\": 2,"
        " \"layers\": 1, \"width\": 4, \"head_width\": 2},"
        " \"text_cfg\": {\"context_length\": 5, \"vocab_size\": 5, \"width\": 4,"
        " \"heads\": 2, \"layers\": 1}}";
    const char *out = fresh("resized");
    struct run small, large;
    struct checkpoint c;
    struct error error = {0}, warning;
    run_open(&small, config_json);
    run_open(&large, larger);
    float *positional = calloc(10 * 4, sizeof *positional);
    must(run_save(&small, out, 2, &error), &error);
    must(checkpoint_open_latest(&c, out, &warning, &error), &error);
    CHECK(checkpoint_load_parameters(&c, large.clip, &error) == STATUS_DATA, "not unasked");
    must(checkpoint_load_resized(&c, large.clip, &error), &error);

    const struct parameters *from = &small.clip->table, *to = &large.clip->table;
    must(positional_resize_image(positional, 3,
                                 small.clip->parameters + from->vision.positional_embedding, 2,
                                 4, &error),
         &error);
    CHECK(memcmp(large.clip->parameters + to->vision.positional_embedding, positional,
                 10 * 4 * sizeof *positional) == 0,
          "image positions");
    positional_resize_text(positional, 5,
                           small.clip->parameters + from->text.positional_embedding, 3, 4);
    CHECK(memcmp(large.clip->parameters + to->text.positional_embedding, positional,
                 5 * 4 * sizeof *positional) == 0,
          "text positions");
    CHECK(memcmp(large.clip->parameters + to->text.token_embedding,
                 small.clip->parameters + from->text.token_embedding, 5 * 4 * sizeof(float)) ==
              0,
          "all else is copied");
    checkpoint_close(&c);
    free(positional);
    run_close(&small);
    run_close(&large);
}

static int remove_everything(void)
{
    char command[400];
    snprintf(command, sizeof command, "rm -rf -- '%s'", root);
    return system(command);
}

int main(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(root, sizeof root, "%.200s/test-checkpoint-XXXXXX",
             parent == NULL ? "/tmp" : parent);
    if (mkdtemp(root) == NULL) {
        perror(root);
        return 1;
    }
    test_round_trip();
    test_average();
    test_no_average();
    test_keep();
    test_damage();
    test_incomplete();
    test_nothing_there();
    test_full_disk();
    test_unwritable();
    test_leftovers();
    test_foreign();
    test_other_model();
    test_resized();
    CHECK(remove_everything() == 0, "%s stays", root);
    return check_report("test_checkpoint");
}
