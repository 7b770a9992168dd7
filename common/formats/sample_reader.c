#include "formats/sample_reader.h"

#include <stdlib.h>

#include "base/number.h"
#include "base/pool.h"

struct window {
    struct shard_sample *samples; /* [capacity], in the order of reading */
    uint32_t *shards;             /* [capacity] */
    uint32_t *places;             /* [capacity], from sample_order_window */
    uint32_t capacity;
    uint32_t length; /* the samples it should get */
    uint32_t count;  /* those it has */
    uint32_t next;   /* those that have left */
    int64_t epoch;
    bool begun, complete;
};

/* What is read next: window `window_number` of `epoch`, from the shard at `place`. */
struct sample_reader {
    const struct shard_list *list;
    struct sample_reader_options options;
    uint32_t *shard_order; /* of `epoch` */
    int64_t epoch;
    uint64_t window_number;
    size_t place;
    struct shard_reader *shard; /* open at `place`, or NULL */
    bool epoch_has_samples;
    bool finished; /* nothing is left to read */
    struct window windows[2];
    int current;                /* the window whose samples leave */
    struct shard_sample *given; /* to the caller, by the last call */
};

static void enter_epoch(struct sample_reader *reader, int64_t epoch)
{
    reader->epoch = epoch;
    reader->window_number = 0;
    reader->place = 0;
    reader->epoch_has_samples = false;
    reader->finished = reader->options.epochs != 0 && epoch >= reader->options.epochs;
    if (!reader->finished)
        sample_order_shards(&reader->options.order, epoch, reader->shard_order,
                            reader->list->count);
}

static const char *shard_at(const struct sample_reader *reader, size_t place)
{
    return shard_list_name(reader->list, reader->shard_order[place]);
}

/* ---- filling a window ---- */

static enum status window_reserve(struct window *window, uint32_t capacity, struct error *error)
{
    window->samples = calloc(capacity, sizeof *window->samples);
    window->shards = calloc(capacity, sizeof *window->shards);
    window->places = calloc(capacity, sizeof *window->places);
    if (window->samples == NULL || window->shards == NULL || window->places == NULL)
        return error_memory(error, capacity * sizeof *window->samples, "a window of samples");
    window->capacity = capacity;
    return STATUS_OK;
}

static void window_free(struct window *window)
{
    for (uint32_t i = 0; i < window->capacity; i++)
        shard_sample_free(&window->samples[i]);
    free(window->samples);
    free(window->shards);
    free(window->places);
}

static void begin_window(struct sample_reader *reader, struct window *window)
{
    window->epoch = reader->epoch;
    window->length = sample_order_window_length(&reader->options.order, reader->epoch,
                                                reader->window_number);
    window->count = window->next = 0;
    window->begun = true;
    window->complete = false;
}

static void complete_window(struct sample_reader *reader, struct window *window)
{
    sample_order_window(&reader->options.order, window->epoch, reader->window_number,
                        window->places, window->count);
    window->complete = true;
    reader->window_number++;
}

static bool is_damage(enum status status)
{
    return status == STATUS_DATA || status == STATUS_NO_INPUT || status == STATUS_IO;
}

/* Closes the shard at `place` after `status`, the result of reading it. */
static enum status leave_shard(struct sample_reader *reader, enum status status,
                               struct error *error)
{
    shard_reader_close(reader->shard);
    reader->shard = NULL;
    reader->place++;
    if (is_damage(status))
        status = reader->options.damage(reader->options.damage_context, error);
    return status;
}

/* Reads one sample into the window, or finds that it is complete. */
static enum status fill_one(struct sample_reader *reader, struct window *window,
                            struct error *error)
{
    while (window->count < window->length && reader->place < reader->list->count) {
        bool found = false;
        enum status status = STATUS_OK;
        if (reader->shard == NULL)
            status = shard_reader_open(&reader->shard, shard_at(reader, reader->place),
                                       &reader->options.shard, error);
        if (status == STATUS_OK)
            status = shard_reader_next(reader->shard, &window->samples[window->count], &found,
                                       error);
        if (found) {
            window->shards[window->count++] = reader->shard_order[reader->place];
            reader->epoch_has_samples = true;
            return STATUS_OK;
        }
        status = leave_shard(reader, status, error);
        if (status != STATUS_OK)
            return status;
    }
    complete_window(reader, window);
    if (window->count < window->length) {
        if (reader->epoch_has_samples)
            enter_epoch(reader, reader->epoch + 1);
        else
            reader->finished = true;
    }
    return STATUS_OK;
}

static enum status fill_window(struct sample_reader *reader, struct window *window,
                               struct error *error)
{
    enum status status = STATUS_OK;
    if (!window->begun)
        begin_window(reader, window);
    while (status == STATUS_OK && !window->complete)
        status = fill_one(reader, window, error);
    return status;
}

/* ---- starting in the middle ---- */

struct count_work {
    const struct sample_reader *reader;
    int64_t *counts;
    struct error *errors; /* one per worker: the last that was no damage */
};

static void count_shard(void *context, size_t place, int worker)
{
    const struct count_work *work = context;
    static const struct shard_options no_fields;
    struct shard_reader *shard = NULL;
    struct error error = {0};
    enum status status = shard_reader_open(&shard, shard_at(work->reader, place), &no_fields,
                                           &error);
    if (status == STATUS_OK)
        status = shard_reader_skip(shard, INT64_MAX, &work->counts[place], &error);
    shard_reader_close(shard);
    if (status != STATUS_OK && !is_damage(status))
        work->errors[worker] = error;
}

/* counts[0..places) become the numbers of samples of the shards visited first. */
static enum status count_samples(const struct sample_reader *reader, int64_t *counts,
                                 size_t places, struct error *error)
{
    struct pool *pool;
    enum status status = pool_open(&pool, 0, error);
    if (status != STATUS_OK)
        return status;
    int threads = pool_threads(pool);
    struct count_work work = {.reader = reader, .counts = counts};
    work.errors = calloc((size_t)threads, sizeof *work.errors);
    if (work.errors == NULL) {
        status = error_memory(error, (size_t)threads * sizeof *work.errors, "a scan of shards");
        goto out;
    }
    pool_run(pool, places, count_shard, &work);
    for (int i = 0; i < threads && status == STATUS_OK; i++)
        if (work.errors[i].status != STATUS_OK) {
            *error = work.errors[i];
            status = error->status;
        }
out:
    free(work.errors);
    pool_close(pool);
    return status;
}

static enum status no_such_sample(const struct sample_reader *reader,
                                  struct sample_position position, struct error *error)
{
    error_set(error, STATUS_DATA, "shard %s: has no sample %lld, where the last run stopped",
              shard_list_name(reader->list, (size_t)position.shard), (long long)position.index);
    return error_hint(error, "are these the shards, the seed and the window of that run?");
}

static enum status skip_samples(struct sample_reader *reader, int64_t count,
                                struct sample_position last, struct error *error)
{
    int64_t skipped = 0;
    enum status status = shard_reader_open(&reader->shard, shard_at(reader, reader->place),
                                           &reader->options.shard, error);
    if (status == STATUS_OK)
        status = shard_reader_skip(reader->shard, count, &skipped, error);
    if (status == STATUS_OK && skipped < count)
        status = no_such_sample(reader, last, error);
    return status;
}

/* Reads the window of `last` again, and lets everything up to `last` leave it. */
static enum status pass_window(struct sample_reader *reader, struct sample_position last,
                               struct error *error)
{
    struct window *window = &reader->windows[reader->current];
    enum status status = fill_window(reader, window, error);
    if (status != STATUS_OK)
        return status;
    while (window->next < window->count) {
        uint32_t place = window->places[window->next++];
        bool is_last = window->shards[place] == (uint32_t)last.shard &&
                       window->samples[place].index == last.index;
        shard_sample_free(&window->samples[place]);
        window->samples[place] = (struct shard_sample){0};
        if (is_last)
            return STATUS_OK;
    }
    return no_such_sample(reader, last, error);
}

static enum status start_shuffled(struct sample_reader *reader, struct sample_position last,
                                  size_t last_place, struct error *error)
{
    int64_t *counts = calloc(last_place + 1, sizeof *counts);
    if (counts == NULL)
        return error_memory(error, (last_place + 1) * sizeof *counts, "a scan of shards");
    enum status status = count_samples(reader, counts, last_place, error);
    if (status == STATUS_OK) {
        uint64_t number = (uint64_t)last.index;
        for (size_t i = 0; i < last_place; i++)
            number += (uint64_t)counts[i];
        struct sample_window window = sample_order_find(&reader->options.order, last.epoch,
                                                        number);
        uint64_t skip = window.begin;
        for (; reader->place < last_place && skip >= (uint64_t)counts[reader->place];
             reader->place++)
            skip -= (uint64_t)counts[reader->place];
        reader->window_number = window.number;
        status = skip_samples(reader, (int64_t)skip, last, error);
    }
    free(counts);
    return status == STATUS_OK ? pass_window(reader, last, error) : status;
}

enum status sample_reader_start(struct sample_reader *reader, struct sample_position last,
                                struct error *error)
{
    if (last.epoch < 0 || last.index < 0 || last.index == INT64_MAX || last.shard < 0 ||
        (uint64_t)last.shard >= reader->list->count)
        return error_set(error, STATUS_DATA, "position %lld,%lld,%lld: no sample of %zu shards",
                         (long long)last.epoch, (long long)last.shard, (long long)last.index,
                         reader->list->count);
    enter_epoch(reader, last.epoch);
    if (reader->finished)
        return STATUS_OK;
    reader->epoch_has_samples = true;
    size_t last_place = 0;
    while (reader->shard_order[last_place] != (uint32_t)last.shard)
        last_place++;
    if (reader->options.order.shuffle)
        return start_shuffled(reader, last, last_place, error);
    reader->place = last_place;
    return skip_samples(reader, last.index + 1, last, error);
}

/* ---- the samples ---- */

enum status sample_reader_open(struct sample_reader **out, const struct shard_list *shards,
                               const struct sample_reader_options *options, struct error *error)
{
    struct sample_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return error_memory(error, sizeof *reader, "a sample reader");
    reader->list = shards;
    reader->options = *options;
    reader->shard_order = calloc(shards->count, sizeof *reader->shard_order);
    enum status status = STATUS_OK;
    if (reader->shard_order == NULL)
        status = error_memory(error, shards->count * sizeof *reader->shard_order,
                              "a shard order");
    uint32_t capacity = options->order.shuffle ? options->order.window : 1;
    for (int i = 0; i < 2 && status == STATUS_OK; i++)
        status = window_reserve(&reader->windows[i], capacity, error);
    if (status != STATUS_OK) {
        sample_reader_close(reader);
        return status;
    }
    enter_epoch(reader, options->first_epoch);
    *out = reader;
    return STATUS_OK;
}

/* Frees the memory of a sample that has left a window, which the samples that are read
 * meanwhile need. Without windows the buffers are used again. */
static void release_given(struct sample_reader *reader)
{
    if (reader->given != NULL && reader->options.order.shuffle) {
        shard_sample_free(reader->given);
        *reader->given = (struct shard_sample){0};
    }
    reader->given = NULL;
}

enum status sample_reader_next(struct sample_reader *reader, const struct shard_sample **sample,
                               struct sample_position *position, struct error *error)
{
    enum status status = STATUS_OK;
    release_given(reader);
    *sample = NULL;
    struct window *window = &reader->windows[reader->current];
    while (window->next == window->count) {
        window->begun = false;
        window = &reader->windows[!reader->current];
        if (reader->finished && !window->begun)
            return STATUS_OK;
        status = fill_window(reader, window, error);
        if (status != STATUS_OK)
            return status;
        reader->current = !reader->current;
    }

    uint32_t place = window->places[window->next++];
    reader->given = &window->samples[place];
    *sample = reader->given;
    *position = (struct sample_position){window->epoch, window->shards[place],
                                         reader->given->index};

    struct window *other = &reader->windows[!reader->current];
    if (reader->options.order.shuffle && !reader->finished && !other->begun)
        begin_window(reader, other);
    if (reader->options.order.shuffle && other->begun && !other->complete)
        status = fill_one(reader, other, error);
    return status;
}

void sample_reader_close(struct sample_reader *reader)
{
    if (reader == NULL)
        return;
    shard_reader_close(reader->shard);
    window_free(&reader->windows[0]);
    window_free(&reader->windows[1]);
    free(reader->shard_order);
    free(reader);
}
