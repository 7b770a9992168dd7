/* Matrix products by oneDNN.
 *
 * Ladder (oneDNN 2.6.3 on two cores of a Sapphire Rapids server, November 2026; GFLOP/s):
 *                         2176x512x128 NT   2176x128x512 NN   512x128x2176 TN   256x1024x128 NT
 *   dnnl_sgemm                        325               314               289               315
 *   matmul primitive                  310               325               284               329
 * Both run the same generated kernels (brg:avx512_core) whatever is transposed. The primitive
 * was chosen: it adds the bias and accumulates in its own pass. With the caller's scratch and
 * cached descriptors a call allocates nothing of size after a shape's first use; seven small
 * blocks of oneDNN's own list of arguments remain.
 *
 * On a machine that other programs keep busy, set OMP_WAIT_POLICY=passive: a thread that spins
 * at a barrier while its partner waits for a processor costs a time slice, 8 ms, each time (9
 * GFLOP/s instead of 155 at these shapes). */
#include "kernels/cpu/cpu_product.h"

#include <dnnl.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

/* A model has a few tens of shapes; 64 sets of 4 hold them with few collisions, and a shape
 * that is pushed out is only made again. */
enum { cache_sets = 64, cache_ways = 4 };

enum { arg_a, arg_b, arg_bias, arg_out, arg_scratch, arg_count };

static const int dnnl_args[arg_count] = {
    DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD,
};

struct key {
    size_t rows, columns, inner;
    bool a_transposed, b_transposed, bias, accumulate, bf16_in, bf16_out;
    int threads; /* oneDNN plans for the number of threads it sees */
};

struct entry {
    struct key key;
    dnnl_primitive_t primitive; /* NULL where the entry is free */
    dnnl_memory_t memory[arg_count];
    size_t scratch_bytes;
    uint64_t last_used;
};

struct product_cache {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct buffer scratch; /* what the largest primitive asks for */
    uint64_t clock;
    struct entry entries[cache_sets][cache_ways];
};

static void entry_free(struct entry *entry)
{
    for (int i = 0; i < arg_count; i++)
        dnnl_memory_destroy(entry->memory[i]);
    dnnl_primitive_destroy(entry->primitive);
    *entry = (struct entry){0};
}

static bool key_equal(const struct key *a, const struct key *b)
{
    return a->rows == b->rows && a->columns == b->columns && a->inner == b->inner &&
           a->a_transposed == b->a_transposed && a->b_transposed == b->b_transposed &&
           a->bias == b->bias && a->accumulate == b->accumulate && a->bf16_in == b->bf16_in &&
           a->bf16_out == b->bf16_out && a->threads == b->threads;
}

static size_t key_set(const struct key *key)
{
    uint64_t hash = key->rows;
    hash = hash * 0x9e3779b97f4a7c15u + key->columns;
    hash = hash * 0x9e3779b97f4a7c15u + key->inner;
    hash = hash * 0x9e3779b97f4a7c15u + (uint64_t)(key->a_transposed + 2 * key->b_transposed +
                                                   4 * key->bias + 8 * key->accumulate +
                                                   16 * key->bf16_in + 32 * key->bf16_out);
    return (size_t)((hash * 0x9e3779b97f4a7c15u) >> 58);
}

/* A row-major matrix, or one that is stored the other way round. */
static dnnl_status_t describe(dnnl_memory_desc_t *desc, size_t rows, size_t columns,
                              bool transposed, bool bf16)
{
    const dnnl_dims_t sizes = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    const dnnl_dims_t strides = {transposed ? 1 : (dnnl_dim_t)columns,
                                 transposed ? (dnnl_dim_t)rows : 1};
    return dnnl_memory_desc_init_by_strides(desc, 2, sizes, bf16 ? dnnl_bf16 : dnnl_f32,
                                           strides);
}

/* Accumulation is the "sum" post-op: out = 1 * out + product. */
static dnnl_status_t make_attributes(dnnl_primitive_attr_t attributes, bool accumulate)
{
    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(attributes,
                                                                   dnnl_scratchpad_mode_user);
    if (status != dnnl_success || !accumulate)
        return status;
    dnnl_post_ops_t post_ops;
    status = dnnl_post_ops_create(&post_ops);
    if (status != dnnl_success)
        return status;
    status = dnnl_post_ops_append_sum(post_ops, 1);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(attributes, post_ops);
    dnnl_post_ops_destroy(post_ops);
    return status;
}

/* The primitive and the memory objects that carry its arguments, all without data yet. */
static dnnl_status_t make_primitive(struct entry *entry, dnnl_engine_t engine,
                                    const dnnl_matmul_desc_t *desc,
                                    const dnnl_primitive_attr_t attributes)
{
    dnnl_primitive_desc_t plan;
    dnnl_status_t status = dnnl_primitive_desc_create(&plan, desc, attributes, engine, NULL);
    if (status != dnnl_success)
        return status;
    const dnnl_memory_desc_t *scratch =
        dnnl_primitive_desc_query_md(plan, dnnl_query_scratchpad_md, 0);
    const dnnl_memory_desc_t *descs[arg_count] = {
        [arg_a] = &desc->src_desc,
        [arg_b] = &desc->weights_desc,
        [arg_bias] = entry->key.bias ? &desc->bias_desc : NULL,
        [arg_out] = &desc->dst_desc,
        [arg_scratch] = scratch,
    };
    entry->scratch_bytes = dnnl_memory_desc_get_size(scratch);
    for (int i = 0; i < arg_count && status == dnnl_success; i++)
        if (descs[i] != NULL)
            status = dnnl_memory_create(&entry->memory[i], descs[i], engine, DNNL_MEMORY_NONE);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&entry->primitive, plan);
    dnnl_primitive_desc_destroy(plan);
    return status;
}

static dnnl_status_t entry_init(struct entry *entry, dnnl_engine_t engine,
                                const struct key *key)
{
    dnnl_memory_desc_t a, b, bias, out;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attributes;

    *entry = (struct entry){.key = *key};
    dnnl_status_t status = describe(&a, key->rows, key->inner, key->a_transposed, key->bf16_in);
    if (status == dnnl_success)
        status = describe(&b, key->inner, key->columns, key->b_transposed, key->bf16_in);
    if (status == dnnl_success)
        status = describe(&bias, 1, key->columns, false, false);
    if (status == dnnl_success)
        status = describe(&out, key->rows, key->columns, false, key->bf16_out);
    if (status == dnnl_success)
        status = dnnl_matmul_desc_init(&desc, &a, &b, key->bias ? &bias : NULL, &out);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_create(&attributes);
    if (status != dnnl_success)
        return status;
    status = make_attributes(attributes, key->accumulate);
    if (status == dnnl_success)
        status = make_primitive(entry, engine, &desc, attributes);
    dnnl_primitive_attr_destroy(attributes);
    if (status != dnnl_success)
        entry_free(entry);
    return status;
}

/* The entry for this key, made where there is none in the place of the set's oldest. */
static dnnl_status_t cache_find(struct product_cache *cache, const struct key *key,
                                struct entry **found)
{
    struct entry *set = cache->entries[key_set(key)], *oldest = &set[0];
    dnnl_status_t status = dnnl_success;
    for (int way = 0; way < cache_ways; way++) {
        if (set[way].primitive != NULL && key_equal(&set[way].key, key)) {
            *found = &set[way];
            set[way].last_used = ++cache->clock;
            return status;
        }
        if (set[way].last_used < oldest->last_used)
            oldest = &set[way];
    }
    entry_free(oldest);
    status = entry_init(oldest, cache->engine, key);
    oldest->last_used = status == dnnl_success ? ++cache->clock : 0;
    *found = oldest;
    return status;
}

static dnnl_status_t cache_execute(struct product_cache *cache, struct entry *entry,
                                   const struct matmul *args)
{
    /* oneDNN's memory objects are not const-correct; the inputs are only read. */
    void *const data[arg_count] = {
        [arg_a] = (void *)(uintptr_t)args->a,
        [arg_b] = (void *)(uintptr_t)args->b,
        [arg_bias] = (void *)(uintptr_t)args->bias,
        [arg_out] = args->out,
        [arg_scratch] = cache->scratch.data,
    };
    dnnl_exec_arg_t list[arg_count];
    int count = 0;
    for (int i = 0; i < arg_count; i++) {
        if (entry->memory[i] == NULL)
            continue;
        const dnnl_status_t status = dnnl_memory_set_data_handle(entry->memory[i], data[i]);
        if (status != dnnl_success)
            return status;
        list[count++] = (dnnl_exec_arg_t){dnnl_args[i], entry->memory[i]};
    }
    const dnnl_status_t status =
        dnnl_primitive_execute(entry->primitive, cache->stream, count, list);
    return status != dnnl_success ? status : dnnl_stream_wait(cache->stream);
}

enum status product_run(struct product_cache *cache, const struct matmul *args, bool bf16_in,
                        bool bf16_out, int threads, struct error *error)
{
    struct entry *entry;
    if (omp_get_max_threads() != threads)
        omp_set_num_threads(threads);
    const struct key key = {
        args->rows, args->columns, args->inner, args->a_transposed, args->b_transposed,
        args->bias != NULL, args->accumulate, bf16_in, bf16_out, threads,
    };
    dnnl_status_t status = cache_find(cache, &key, &entry);
    if (status == dnnl_success) {
        if (buffer_reserve(&cache->scratch, entry->scratch_bytes, error) != STATUS_OK)
            return error->status;
        status = cache_execute(cache, entry, args);
    }
    if (status != dnnl_success)
        return error_set(error, status == dnnl_out_of_memory ? STATUS_SYSTEM
                                                             : STATUS_UNAVAILABLE,
                         "oneDNN: matrix product of %zu x %zu x %zu: status %d", args->rows,
                         args->columns, args->inner, (int)status);
    return STATUS_OK;
}

enum status product_cache_open(struct product_cache **out, struct error *error)
{
    struct product_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return error_memory(error, sizeof *cache, "the cache of matrix products");
    dnnl_status_t status = dnnl_engine_create(&cache->engine, dnnl_cpu, 0);
    if (status == dnnl_success)
        status = dnnl_stream_create(&cache->stream, cache->engine, dnnl_stream_default_flags);
    if (status != dnnl_success) {
        product_cache_close(cache);
        return error_set(error, STATUS_UNAVAILABLE, "oneDNN: no cpu engine: status %d",
                         (int)status);
    }
    *out = cache;
    return STATUS_OK;
}

void product_cache_close(struct product_cache *cache)
{
    if (cache == NULL)
        return;
    for (int set = 0; set < cache_sets; set++)
        for (int way = 0; way < cache_ways; way++)
            entry_free(&cache->entries[set][way]);
    dnnl_stream_destroy(cache->stream);
    dnnl_engine_destroy(cache->engine);
    buffer_free(&cache->scratch);
    free(cache);
}

/* The sets are bit masks, each with the bits of those it includes; "all" is 0, which oneDNN
 * says where it knows none of them, as on aarch64. */
bool product_has_bf16(void)
{
    const unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    return (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}
