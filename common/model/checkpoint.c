#include "model/checkpoint.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/io.h"
#include "model/checkpoint_weights.h"
#include "model/manifest.h"
#include "model/step_directory.h"

enum {
    ABOUT_SIZE_MAX = 16 << 20,
    STATE_INTEGERS = 3 /* step, samples, position */
};

/* ---- writing ---- */

/* The directory that is being written, with what its manifest will say. */
struct writer {
    const struct checkpoint_source *source;
    char directory[STEP_PATH_MAX];
    struct manifest manifest;
    float *host;            /* two parameter blocks */
    struct tensor *tensors; /* two by parameter and the integers of the state */
};

static void file_path(char path[STEP_PATH_MAX], const char *directory, const char *name)
{
    snprintf(path, STEP_PATH_MAX, "%.*s/%s", STEP_PATH_MAX - STEP_NAMES_MAX / 2, directory,
             name);
}

static enum status write_bytes(struct writer *w, const char *name, const void *data,
                               size_t size, struct error *error)
{
    char path[STEP_PATH_MAX];
    file_path(path, w->directory, name);
    manifest_add(&w->manifest, name, size, crc32c(0, data, size));
    return io_write_file(path, data, size, error);
}

static enum status write_tensors(struct writer *w, const char *name, size_t count,
                                 const struct metadata *metadata, struct error *error)
{
    char path[STEP_PATH_MAX];
    struct stat about;
    uint32_t crc;
    file_path(path, w->directory, name);
    enum status status = safetensors_write(path, w->tensors, count, metadata, &crc, error);
    if (status != STATUS_OK)
        return status;
    if (stat(path, &about) != 0)
        return error_set_errno(error, STATUS_IO, "cannot look at %s", path);
    manifest_add(&w->manifest, name, (uint64_t)about.st_size, crc);
    return STATUS_OK;
}

/* One tensor by parameter, named NAME + suffix, whose values stand in `block`. */
static size_t describe_block(const struct parameters *table, float *block, const char *suffix,
                             struct tensor *tensors)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->list[i];
        char name[TENSOR_NAME_MAX + 1];
        snprintf(name, sizeof name, "%s%s", p->name, suffix);
        tensor_init(&tensors[i], name, DTYPE_F32, p->rank, p->shape, block + p->offset);
    }
    return table->count;
}

static enum status write_config(struct writer *w, struct error *error)
{
    struct buffer text = {0};
    enum status status = clip_config_format(w->source->clip->config, &text, error);
    if (status == STATUS_OK)
        status = write_bytes(w, CHECKPOINT_CONFIG_NAME, text.data, text.size, error);
    buffer_free(&text);
    return status;
}

/* A block of parameters in backend memory. */
static enum status write_weights(struct writer *w, const char *name, const float *block,
                                 struct error *error)
{
    struct metadata_entry framework = {(char *)"format", (char *)"pt"};
    const struct metadata metadata = {.entries = &framework, .count = 1, .capacity = 1};
    const struct parameters *table = &w->source->clip->table;
    struct kernels *k = w->source->clip->kernels;
    k->download(k, w->host, block, table->floats * sizeof *block);
    size_t count = describe_block(table, w->host, "", w->tensors);
    return write_tensors(w, name, count, &metadata, error);
}

static enum status write_state(struct writer *w, struct error *error)
{
    const struct checkpoint_source *source = w->source;
    const struct parameters *table = &source->clip->table;
    struct checkpoint_progress progress = source->progress;
    int64_t step = source->optimizer->step;
    const size_t one = 1, three = 3;
    float *m = w->host, *v = w->host + table->floats;

    optimizer_get_moments(source->optimizer, m, v);
    size_t count = describe_block(table, m, ".exp_avg", w->tensors);
    count += describe_block(table, v, ".exp_avg_sq", w->tensors + count);
    tensor_init(&w->tensors[count++], "step", DTYPE_I64, 1, &one, &step);
    tensor_init(&w->tensors[count++], "samples", DTYPE_I64, 1, &one, &progress.samples);
    tensor_init(&w->tensors[count++], "position", DTYPE_I64, 1, &three, progress.position);
    static const struct metadata none;
    return write_tensors(w, CHECKPOINT_STATE_NAME, count,
                         source->settings == NULL ? &none : source->settings, error);
}

static enum status write_about(struct writer *w, struct error *error)
{
    const struct metadata *about = w->source->about;
    json_t *object = json_object();
    bool complete = object != NULL;
    for (size_t i = 0; about != NULL && i < about->count && complete; i++)
        complete = json_object_set_new(object, about->entries[i].key,
                                       json_string(about->entries[i].value)) == 0;
    char *text = complete ? json_dumps(object, JSON_INDENT(4)) : NULL;
    json_decref(object);
    if (text == NULL)
        return error_set(error, STATUS_DATA, "a fact about the run is not UTF-8");
    enum status status = write_bytes(w, CHECKPOINT_ABOUT_NAME, text, strlen(text), error);
    free(text);
    return status;
}

static enum status write_all(struct writer *w, struct error *error)
{
    const struct checkpoint_source *source = w->source;
    struct kernels *k = source->clip->kernels;
    enum status status = write_config(w, error);
    if (status == STATUS_OK)
        status = write_about(w, error);
    if (status == STATUS_OK && source->vocab != NULL)
        status = write_bytes(w, CHECKPOINT_VOCAB_NAME, source->vocab, source->vocab_size,
                             error);
    if (status == STATUS_OK)
        status = write_weights(w, CHECKPOINT_MODEL_NAME, source->clip->parameters, error);
    if (status == STATUS_OK && source->average != NULL)
        status = write_weights(w, CHECKPOINT_AVERAGE_NAME, source->average, error);
    if (status == STATUS_OK)
        status = write_state(w, error);
    if (status == STATUS_OK)
        status = k->check(k, error);
    if (status == STATUS_OK)
        status = manifest_write(&w->manifest, w->directory, error);
    return status;
}

static enum status allocate_writer(struct writer *w, struct error *error)
{
    const struct parameters *table = &w->source->clip->table;
    size_t bytes = 2 * table->floats * sizeof *w->host;
    w->host = malloc(bytes);
    w->tensors = malloc((2 * table->count + STATE_INTEGERS) * sizeof *w->tensors);
    if (w->host == NULL || w->tensors == NULL)
        return error_memory(error, bytes, "writing a checkpoint");
    return STATUS_OK;
}

/* Creates OUT, durably in its parent, unless it exists. */
static enum status make_output(const char *out, struct error *error)
{
    if (mkdir(out, 0777) != 0)
        return errno == EEXIST ? STATUS_OK
                               : error_set_errno(error, STATUS_IO, "cannot create %s", out);
    char parent[STEP_PATH_MAX];
    file_path(parent, out, "..");
    return io_sync_directory(parent, error);
}

static enum status make_temporary(const char *directory, struct error *error)
{
    struct error ignored;
    (void)step_remove(directory, &ignored); /* of an interrupted run; mkdir tells if it stays */
    if (mkdir(directory, 0777) != 0)
        return error_set_errno(error, STATUS_IO, "cannot create %s", directory);
    return STATUS_OK;
}

enum status checkpoint_save(const char *out, const struct checkpoint_source *source, int keep,
                            struct error *error)
{
    struct writer w = {.source = source};
    struct error ignored;
    int64_t step = source->optimizer->step;
    enum status status = step_path(w.directory, out, step, ".tmp", error);
    if (status != STATUS_OK)
        return status;
    status = allocate_writer(&w, error);
    if (status == STATUS_OK)
        status = make_output(out, error);
    if (status == STATUS_OK)
        status = make_temporary(w.directory, error);
    if (status != STATUS_OK)
        goto out_memory;

    status = write_all(&w, error);
    if (status == STATUS_OK)
        status = step_publish(out, step, error);
    if (status != STATUS_OK)
        (void)step_remove(w.directory, &ignored);
    else
        status =
            step_prune(out, keep < CHECKPOINT_KEEP_MIN ? CHECKPOINT_KEEP_MIN : keep, error);

out_memory:
    free(w.host);
    free(w.tensors);
    return status;
}

enum status checkpoint_remove_leftovers(const char *out, struct error *error)
{
    return step_remove_leftovers(out, error);
}

/* ---- opening ---- */

static bool file_exists(const char *directory, const char *name)
{
    char path[STEP_PATH_MAX];
    file_path(path, directory, name);
    return access(path, F_OK) == 0;
}

static bool is_foreign(const char *directory)
{
    return !file_exists(directory, MANIFEST_NAME) &&
           !file_exists(directory, CHECKPOINT_STATE_NAME) &&
           !file_exists(directory, CHECKPOINT_ABOUT_NAME);
}

/* Our own directories have a manifest, which lists what they must have. Averaged weights that
 * it does not list are not the checkpoint's. */
static enum status verify(const char *directory, bool *has_average, struct error *error)
{
    static const char *const needed[] = {CHECKPOINT_CONFIG_NAME, CHECKPOINT_MODEL_NAME,
                                         CHECKPOINT_STATE_NAME, CHECKPOINT_ABOUT_NAME};
    struct manifest manifest;
    enum status status = manifest_read(&manifest, directory, error);
    if (status == STATUS_NO_INPUT) /* the directory is there: this is damage */
        return error->status = STATUS_DATA;
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (!manifest_has(&manifest, needed[i]))
            return error_set(error, STATUS_DATA, MANIFEST_NAME " does not list %s", needed[i]);
    *has_average = manifest_has(&manifest, CHECKPOINT_AVERAGE_NAME);
    return manifest_verify(&manifest, directory, error);
}

static enum status read_about(struct metadata *about, const char *directory,
                              struct error *error)
{
    char path[STEP_PATH_MAX];
    struct buffer text = {0};
    file_path(path, directory, CHECKPOINT_ABOUT_NAME);
    enum status status = io_read_file(path, ABOUT_SIZE_MAX, &text, error);
    json_t *object = NULL;
    if (status == STATUS_OK) {
        object = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(object))
            status = error_set(error, STATUS_DATA, "%s is not a JSON object", path);
    }
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        if (status == STATUS_OK && json_is_string(value))
            status = metadata_set(about, key, json_string_value(value), error);
    }
    json_decref(object);
    buffer_free(&text);
    return status;
}

static enum status read_integers(const struct safetensors *state, const char *name,
                                 size_t count, int64_t *out, struct error *error)
{
    char found[256];
    const struct tensor *tensor = safetensors_find(state, name);
    if (tensor == NULL)
        return error_set(error, STATUS_DATA, CHECKPOINT_STATE_NAME ": %s is missing", name);
    if (tensor->dtype != DTYPE_I64 || tensor->rank != 1 || tensor->shape[0] != count)
        return error_set(error, STATUS_DATA,
                         CHECKPOINT_STATE_NAME ": %s is %s, expected I64 [%zu]", name,
                         tensor_describe(tensor, found, sizeof found), count);
    memcpy(out, tensor->data, count * sizeof *out);
    return STATUS_OK;
}

static enum status open_tensors(struct safetensors *file, const char *directory,
                                const char *name, struct error *error)
{
    char path[STEP_PATH_MAX];
    file_path(path, directory, name);
    return safetensors_open(file, path, error);
}

static enum status open_state(struct checkpoint *c, const char *directory, struct error *error)
{
    enum status status = open_tensors(&c->state, directory, CHECKPOINT_STATE_NAME, error);
    if (status == STATUS_OK)
        status = read_integers(&c->state, "step", 1, &c->step, error);
    if (status == STATUS_OK)
        status = read_integers(&c->state, "samples", 1, &c->progress.samples, error);
    if (status == STATUS_OK)
        status = read_integers(&c->state, "position", 3, c->progress.position, error);
    if (status == STATUS_OK && (c->step < 0 || c->progress.samples < 0))
        status = error_set(error, STATUS_DATA,
                           "%s/" CHECKPOINT_STATE_NAME ": a negative step or number of samples",
                           directory);
    c->has_state = status == STATUS_OK;
    return status;
}

static enum status open_weights(struct checkpoint *c, const char *directory, bool foreign,
                                struct error *error)
{
    enum status status = STATUS_OK;
    c->model_name = CHECKPOINT_MODEL_NAME;
    if (foreign)
        status = checkpoint_weights_find(directory, &c->model_name, error);
    if (status == STATUS_OK)
        status = open_tensors(&c->model, directory, c->model_name, error);
    if (status == STATUS_OK && c->has_average)
        status = open_tensors(&c->average, directory, CHECKPOINT_AVERAGE_NAME, error);
    return status;
}

static enum status open_files(struct checkpoint *c, const char *directory, struct error *error)
{
    char path[STEP_PATH_MAX];
    bool foreign = is_foreign(directory);
    if (foreign)
        c->has_average = file_exists(directory, CHECKPOINT_AVERAGE_NAME);
    else if (verify(directory, &c->has_average, error) != STATUS_OK)
        return error_prefix(error, "%s", directory);

    file_path(path, directory, CHECKPOINT_CONFIG_NAME);
    enum status status = clip_config_load(&c->config, path, NULL, error);
    if (status == STATUS_OK)
        status = open_weights(c, directory, foreign, error);
    if (status == STATUS_OK && !foreign)
        status = read_about(&c->about, directory, error);
    if (status == STATUS_OK && !foreign)
        status = open_state(c, directory, error);
    return status;
}

enum status checkpoint_open(struct checkpoint *checkpoint, const char *directory,
                            struct error *error)
{
    *checkpoint = (struct checkpoint){0};
    if (strlen(directory) > STEP_PATH_MAX - STEP_NAMES_MAX)
        return error_set(error, STATUS_USAGE, "the path of the checkpoint is too long");
    struct stat about;
    if (stat(directory, &about) != 0)
        return error_set_errno(error, STATUS_NO_INPUT, "cannot open %s", directory);
    checkpoint->path = strdup(directory);
    if (checkpoint->path == NULL)
        return error_memory(error, strlen(directory), "a path");
    enum status status = open_files(checkpoint, directory, error);
    if (status != STATUS_OK)
        checkpoint_close(checkpoint);
    return status;
}

void checkpoint_close(struct checkpoint *checkpoint)
{
    free(checkpoint->path);
    clip_config_free(&checkpoint->config);
    metadata_free(&checkpoint->about);
    safetensors_close(&checkpoint->model);
    safetensors_close(&checkpoint->average);
    safetensors_close(&checkpoint->state);
    *checkpoint = (struct checkpoint){0};
}

/* Appends to the warning, as far as there is room. */
static void warn(struct error *warning, const char *text)
{
    size_t used = strlen(warning->text);
    snprintf(warning->text + used, sizeof warning->text - used, "%s%.200s",
             used > 0 ? "; " : "passed over a damaged checkpoint: ", text);
}

/* Damage is a reason to try the next older one; a lack of memory is not. */
static bool is_damage(enum status status)
{
    return status == STATUS_DATA || status == STATUS_NO_INPUT || status == STATUS_IO;
}

static enum status open_newest(struct checkpoint *checkpoint, const char *out,
                               const int64_t *steps, size_t count, struct error *warning,
                               struct error *error)
{
    struct error first = {0};
    for (size_t i = 0; i < count; i++) {
        char path[STEP_PATH_MAX];
        enum status status = step_path(path, out, steps[i], "", error);
        if (status == STATUS_OK)
            status = checkpoint_open(checkpoint, path, error);
        if (status == STATUS_OK || !is_damage(status))
            return status;
        if (i == 0)
            first = *error;
        warn(warning, error->text);
    }
    *error = first;
    return error->status = STATUS_DATA; /* NO_INPUT would say that there is none */
}

enum status checkpoint_open_latest(struct checkpoint *checkpoint, const char *path,
                                   struct error *warning, struct error *error)
{
    *checkpoint = (struct checkpoint){0};
    *warning = (struct error){0};
    if (strlen(path) > STEP_PATH_MAX - STEP_NAMES_MAX)
        return error_set(error, STATUS_USAGE, "the path of the checkpoint is too long");
    if (file_exists(path, CHECKPOINT_CONFIG_NAME) || file_exists(path, MANIFEST_NAME))
        return checkpoint_open(checkpoint, path, error);

    int64_t *steps;
    size_t count;
    enum status status = step_list(path, &steps, &count, error);
    if (status == STATUS_OK && count == 0)
        status = error_set(error, STATUS_NO_INPUT, "%s: no checkpoint", path);
    if (status == STATUS_OK)
        status = open_newest(checkpoint, path, steps, count, warning, error);
    free(steps);
    return status;
}

/* ---- from tensors to backend memory ---- */

/* *host = the weights as a block of floats, owned by the caller. */
static enum status read_host(const struct safetensors *file, const struct parameters *table,
                             bool resize, float **host, struct error *error)
{
    *host = calloc(table->floats, sizeof **host);
    if (*host == NULL)
        return error_memory(error, table->floats * sizeof **host, "reading a checkpoint");
    return checkpoint_weights_read(file, table, resize, *host, error);
}

static enum status load_weights(const struct checkpoint *checkpoint, struct clip *clip,
                                bool resize, struct error *error)
{
    bool average = checkpoint->uses_average;
    float *host;
    enum status status = read_host(average ? &checkpoint->average : &checkpoint->model,
                                   &clip->table, resize, &host, error);
    if (status == STATUS_OK) {
        clip_set_parameters(clip, host);
        status = clip->kernels->check(clip->kernels, error);
    }
    free(host);
    return status == STATUS_OK
               ? status
               : error_prefix(error, "%s/%s", checkpoint->path,
                              average ? CHECKPOINT_AVERAGE_NAME : checkpoint->model_name);
}

enum status checkpoint_load_parameters(const struct checkpoint *checkpoint, struct clip *clip,
                                       struct error *error)
{
    return load_weights(checkpoint, clip, false, error);
}

enum status checkpoint_load_resized(const struct checkpoint *checkpoint, struct clip *clip,
                                    struct error *error)
{
    return load_weights(checkpoint, clip, true, error);
}

static enum status require_average(const struct checkpoint *checkpoint, struct error *error)
{
    if (checkpoint->has_average)
        return STATUS_OK;
    return error_set(error, STATUS_NO_INPUT, "%s has no averaged weights, "
                     CHECKPOINT_AVERAGE_NAME, checkpoint->path);
}

enum status checkpoint_use_average(struct checkpoint *checkpoint, struct error *error)
{
    enum status status = require_average(checkpoint, error);
    checkpoint->uses_average = status == STATUS_OK;
    return status;
}

enum status checkpoint_load_average(const struct checkpoint *checkpoint, struct clip *clip,
                                    float *average, struct error *error)
{
    enum status status = require_average(checkpoint, error);
    if (status != STATUS_OK)
        return status;
    float *host;
    struct kernels *k = clip->kernels;
    status = read_host(&checkpoint->average, &clip->table, false, &host, error);
    if (status == STATUS_OK) {
        k->upload(k, average, host, clip->table.floats * sizeof *host);
        status = k->check(k, error);
    }
    free(host);
    return status == STATUS_OK
               ? status
               : error_prefix(error, "%s/" CHECKPOINT_AVERAGE_NAME, checkpoint->path);
}

enum status checkpoint_load_optimizer(const struct checkpoint *checkpoint,
                                      struct optimizer *optimizer, struct error *error)
{
    const struct parameters *table = optimizer->table;
    size_t bytes = 2 * table->floats * sizeof(float);
    if (!checkpoint->has_state)
        return error_set(error, STATUS_DATA, "%s has no training state", checkpoint->path);
    float *m = calloc(1, bytes);
    if (m == NULL)
        return error_memory(error, bytes, "reading a checkpoint");
    float *v = m + table->floats;
    enum status status =
        checkpoint_weights_read_suffixed(&checkpoint->state, table, ".exp_avg", m, error);
    if (status == STATUS_OK)
        status = checkpoint_weights_read_suffixed(&checkpoint->state, table, ".exp_avg_sq", v,
                                                  error);
    size_t expected = 2 * table->count + STATE_INTEGERS, found = checkpoint->state.header.count;
    if (status == STATUS_OK && found != expected)
        status = error_set(error, STATUS_DATA, "%zu tensors, expected %zu", found, expected);
    if (status == STATUS_OK) {
        optimizer_set_moments(optimizer, m, v);
        optimizer->step = checkpoint->step;
        status = optimizer->kernels->check(optimizer->kernels, error);
    }
    free(m);
    return status == STATUS_OK
               ? status
               : error_prefix(error, "%s/" CHECKPOINT_STATE_NAME, checkpoint->path);
}
