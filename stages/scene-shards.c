/* scene-shards - draws captioned scenes into webdataset shards, laid out as CLIP_benchmark's.
 *
 * In:   nothing
 * Out:  --out DIR with classnames.txt, zeroshot_classification_templates.txt, dataset_type.txt,
 *       seen.txt, unseen.txt, and train/ and test/, each with N.tar.zst and nshards.txt
 * Memory: the encoded pictures of one chunk.
 * Ends: after --count training and --test-count test scenes. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/pool.h"
#include "formats/image.h"
#include "formats/scene.h"
#include "formats/shard.h"
#include "frame/stage.h"

/* Scenes that are drawn side by side before they are written in order. */
enum { CHUNK = 256, ZSTD_LEVEL = 3 };

static struct {
    int64_t count, test_count, seed, side, shard_size, threads;
    const char *out;
} options = {.test_count = 1024, .side = 64, .shard_size = 10000};

static struct option_spec option_table[] = {
    {.name = "count", .letter = 'n', .argument = "N", .help = "training scenes",
     .required = true, OPTION_INTEGER(&options.count, 1, 10000000)},
    {.name = "out", .letter = 'o', .argument = "DIR", .help = "directory to write to",
     .required = true, OPTION_TEXT(&options.out)},
    {.name = "test-count", .argument = "N", .help = "test scenes",
     OPTION_INTEGER(&options.test_count, 0, 10000000)},
    {.name = "seed", .argument = "N", .help = "seed of all scenes",
     OPTION_INTEGER(&options.seed, 0, 0x1p53)},
    {.name = "size", .argument = "PX", .help = "width and height of a picture",
     OPTION_INTEGER(&options.side, SCENE_SIDE_MIN, SCENE_SIDE_MAX)},
    {.name = "shard-size", .argument = "N", .help = "scenes in a shard",
     OPTION_INTEGER(&options.shard_size, 1, 10000000)},
    {.name = "threads", .letter = 'j', .argument = "N", .neutral = true,
     .help = "threads; 0: one per processor", OPTION_INTEGER(&options.threads, 0, 1024)},
};

static const struct program program = {
    .name = "scene-shards",
    .purpose = "Draws captioned scenes of one coloured shape as a data set.",
    .operands = NULL,
    .example = "scene-shards --count 100000 --out scenes/",
    .streams = 0,
    .options = option_table,
    .option_count = sizeof option_table / sizeof option_table[0],
};

/* ---- drawing ---- */

struct picture {
    struct scene scene;
    struct buffer bytes;
    struct error error; /* status OK if there was none */
};

/* The scenes first..first+count of a split, and scratch for the threads that draw them. */
struct chunk {
    enum scene_split split;
    uint64_t first;
    struct picture pictures[CHUNK];
    uint8_t *pixels; /* [threads,side,side,3] */
};

/* JPEG and WebP take turns. */
static bool is_webp(uint64_t index)
{
    return index % 2 == 1;
}

static void draw_picture(void *context, size_t item, int worker)
{
    struct chunk *chunk = context;
    struct picture *picture = &chunk->pictures[item];
    uint64_t index = chunk->first + item;
    size_t side = (size_t)options.side;
    uint8_t *pixels = chunk->pixels + (size_t)worker * side * side * 3;
    scene_draw(&picture->scene, (uint64_t)options.seed, chunk->split, index, (int)side, pixels);
    int quality = picture->scene.quality;
    picture->error.status = STATUS_OK;
    if (is_webp(index))
        image_encode_webp(pixels, side, side, quality, &picture->bytes, &picture->error);
    else
        image_encode_jpeg(pixels, side, side, quality, &picture->bytes, &picture->error);
}

/* ---- writing ---- */

static enum status write_picture(struct shard_writer *writer, const struct picture *picture,
                                 uint64_t index, struct error *error)
{
    const struct scene *scene = &picture->scene;
    char key[32], label[16];
    snprintf(key, sizeof key, "s%07" PRIu64, index);
    snprintf(label, sizeof label, "%d", scene->shape * SCENE_COLORS + scene->color);
    enum status status = shard_writer_put(writer, key, is_webp(index) ? "webp" : "jpg",
                                          picture->bytes.data, picture->bytes.size, error);
    if (status == STATUS_OK)
        status = shard_writer_put(writer, key, "txt", scene->caption, strlen(scene->caption),
                                  error);
    if (status == STATUS_OK)
        status = shard_writer_put(writer, key, "cls", label, strlen(label), error);
    return status;
}

static enum status write_shard(struct stage *stage, struct pool *pool, struct chunk *chunk,
                               const char *path, uint64_t begin, uint64_t end,
                               struct error *error)
{
    struct shard_writer *writer;
    enum status status = shard_writer_open(&writer, path, ZSTD_LEVEL, error);
    if (status != STATUS_OK)
        return status;
    for (uint64_t first = begin; first < end && status == STATUS_OK; first += CHUNK) {
        size_t count = end - first < CHUNK ? (size_t)(end - first) : CHUNK;
        chunk->first = first;
        pool_run(pool, count, draw_picture, chunk);
        for (size_t i = 0; i < count && status == STATUS_OK; i++) {
            *error = chunk->pictures[i].error;
            status = error->status;
            if (status == STATUS_OK)
                status = write_picture(writer, &chunk->pictures[i], first + i, error);
        }
        stage->work_samples += count;
        stage_progress(stage, stage->work_samples,
                       (uint64_t)(options.count + options.test_count));
    }
    if (status != STATUS_OK) {
        shard_writer_abandon(writer);
        return status;
    }
    return shard_writer_finish(writer, error);
}

/* Joins DIR/name. Exits where that is no path. */
static const char *out_path(struct stage *stage, char path[PATH_MAX], const char *name)
{
    struct error error;
    if (snprintf(path, PATH_MAX, "%s/%s", options.out, name) >= PATH_MAX)
        stage_check(stage,
                    error_set(&error, STATUS_USAGE, "--out %.60s...: path is too long",
                              options.out),
                    &error);
    return path;
}

static void make_directory(struct stage *stage, const char *path)
{
    struct error error;
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        stage_check(stage,
                    error_set_errno(&error, STATUS_IO, "cannot create directory %s", path),
                    &error);
}

static void write_text(struct stage *stage, const char *name, const char *text)
{
    struct error error;
    char path[PATH_MAX];
    stage_check(stage, io_write_file(out_path(stage, path, name), text, strlen(text), &error),
                &error);
}

/* nshards.txt comes last: a reader that finds it finds its shards. */
static void write_split(struct stage *stage, struct pool *pool, struct chunk *chunk,
                        enum scene_split split, uint64_t count)
{
    const char *name = split == SCENE_TRAIN ? "train" : "test";
    struct error error;
    char path[PATH_MAX], text[64];
    make_directory(stage, out_path(stage, path, name));
    uint64_t shard_size = (uint64_t)options.shard_size, shards = 0;
    chunk->split = split;
    for (uint64_t begin = 0; begin < count; begin += shard_size, shards++) {
        uint64_t end = count - begin < shard_size ? count : begin + shard_size;
        snprintf(text, sizeof text, "%s/%" PRIu64 ".tar.zst", name, shards);
        out_path(stage, path, text);
        stage_check(stage, write_shard(stage, pool, chunk, path, begin, end, &error), &error);
    }
    char number[24];
    snprintf(text, sizeof text, "%s/nshards.txt", name);
    snprintf(number, sizeof number, "%" PRIu64 "\n", shards);
    write_text(stage, text, number);
}

/* "Seen" is in training. */
enum class_list { CLASSES_ALL, CLASSES_SEEN, CLASSES_UNSEEN };

static void write_classes(struct stage *stage, const char *file, enum class_list wanted)
{
    char text[SCENE_CLASSES * 33 + 1];
    size_t length = 0;
    for (int label = 0; label < SCENE_CLASSES; label++) {
        char name[32];
        bool unseen = scene_is_unseen(label);
        if ((wanted == CLASSES_SEEN && unseen) || (wanted == CLASSES_UNSEEN && !unseen))
            continue;
        scene_class_name(label, name);
        length += (size_t)snprintf(text + length, sizeof text - length, "%s\n", name);
    }
    write_text(stage, file, text);
}

static void write_descriptions(struct stage *stage)
{
    write_classes(stage, "classnames.txt", CLASSES_ALL);
    write_classes(stage, "seen.txt", CLASSES_SEEN);
    write_classes(stage, "unseen.txt", CLASSES_UNSEEN);
    write_text(stage, "dataset_type.txt", "classification\n");
    write_text(stage, "zeroshot_classification_templates.txt",
               "a {c}\n"
               "{c}\n"
               "a photo of a {c}\n"
               "a drawing of a {c}\n"
               "a picture of a {c}\n"
               "there is a {c} in the picture\n");
}

int main(int argc, char **argv)
{
    struct stage stage;
    struct error error;
    struct pool *pool;
    static struct chunk chunk;

    stage_begin(&stage, &program, argc, argv);
    stage_check(&stage, pool_open(&pool, (int)options.threads, &error), &error);
    size_t bytes = (size_t)pool_threads(pool) * (size_t)(options.side * options.side) * 3;
    chunk.pixels = malloc(bytes);
    if (chunk.pixels == NULL)
        stage_check(&stage, error_memory(&error, bytes, "pictures"), &error);

    make_directory(&stage, options.out);
    write_descriptions(&stage);
    write_split(&stage, pool, &chunk, SCENE_TRAIN, (uint64_t)options.count);
    write_split(&stage, pool, &chunk, SCENE_TEST, (uint64_t)options.test_count);

    for (int i = 0; i < CHUNK; i++)
        buffer_free(&chunk.pictures[i].bytes);
    free(chunk.pixels);
    pool_close(pool);
    return stage_finish(&stage);
}
