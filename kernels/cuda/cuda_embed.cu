/* Patches unpacked from bytes, token and positional embeddings.
 *
 * The gradient of a table adds many rows to few. Without atomics, whose order is anybody's:
 *   1. Row numbers are sorted by the table row they go to, stably, by a radix sort of 8 bits a
 *      pass. A block takes a chunk of keys; thread d counts, then places, the keys with digit
 *      d, reading the chunk in order: 256 threads read what 1024 comparisons would need ranks
 *      and ballots for, and a pass over 315,000 tokens is 80 M of them.
 *   2. Sorted rows are cut in pieces of equal length, however long a token's run is (half of
 *      all tokens may be padding). A piece adds its runs to the table; a run that goes on in
 *      the next piece is left in scratch, and the piece where it began adds the parts in order.
 *
 * Ladder: v1 as above, a thread an element. Not measured.
 * v2, 16 bytes at a time where alignment allows. Not measured yet. */
#include "kernels/cuda/grid.h"

/* ---- patches from bytes ---- */

struct channels {
    float centre[3], factor[3]; /* value = (byte - centre) * factor */
};

/* Where the bytes of W pixels, 3 W of them, can be read as whole words. */
template <int W> DEVICE void load_pixels(float byte[3 * W], const uint8_t *from)
{
    if constexpr (W == 1) {
        UNROLL
        for (int c = 0; c < 3; c++)
            byte[c] = from[c];
    } else {
        const uint32_t *word = (const uint32_t *)(const void *)from;
        UNROLL
        for (int i = 0; i < 3 * W; i += 4)
            UNROLL
            for (int j = 0; j < 4; j++)
                byte[i + j] = (float)(word[i / 4] >> (8 * j) & 255);
    }
}

/* A thread takes W pixels at a time, whose bytes lie side by side, and writes W values of each
 * channel. n counts pixels of all patches; W divides those of one. */
template <typename T, int W>
KERNEL(flat_threads) unpack_kernel(T *out, const uint8_t *in, size_t n, size_t pixels,
                                   struct channels channels)
{
    for (size_t i = flat_first(W); i < n; i += flat_step(W)) {
        float byte[3 * W], x[W];
        T *to = out + i / pixels * 3 * pixels + i % pixels;
        load_pixels<W>(byte, in + 3 * i);
        UNROLL
        for (int c = 0; c < 3; c++) {
            UNROLL
            for (int j = 0; j < W; j++)
                x[j] = (byte[3 * j + c] - channels.centre[c]) * channels.factor[c];
            store<W>(to + (size_t)c * pixels, x);
        }
    }
}

template <typename T, int W>
static void unpack_launch(const struct cuda_queue *q, T *out, const uint8_t *in, size_t n,
                          size_t pixels, const struct channels &channels)
{
    LAUNCH((unpack_kernel<T, W>), flat_blocks(q, n / W), 1, flat_threads, 0, q->stream, out, in,
           n, pixels, channels);
}

/* 14 x 14 patches have 196 pixels, a multiple of 4 but not of 8. */
template <typename T>
static void unpack_choose(const struct cuda_queue *q, T *out, const uint8_t *in, size_t n,
                          size_t pixels, const struct channels &channels)
{
    const int W = wide<T>::count;
    const bool aligned = aligned_wide(out) && (uintptr_t)in % sizeof(uint32_t) == 0;
    if (aligned && pixels % (size_t)W == 0)
        unpack_launch<T, W>(q, out, in, n, pixels, channels);
    else if (aligned && pixels % 4 == 0)
        unpack_launch<T, 4>(q, out, in, n, pixels, channels);
    else
        unpack_launch<T, 1>(q, out, in, n, pixels, channels);
}

/* (x / 255 - mean) / std = (x - 255 mean) / (255 std): the difference of two numbers near each
 * other is exact, where x * (1 / 255 std) - mean / std would cancel. */
void cuda_unpack_patches(const struct cuda_queue *q, enum element type, void *out,
                         const uint8_t *in, size_t N, size_t P, const float mean[3],
                         const float std[3])
{
    struct channels channels;
    for (int c = 0; c < 3; c++) {
        channels.centre[c] = (float)(255.0 * mean[c]);
        channels.factor[c] = (float)(1 / (255.0 * std[c]));
    }
    const size_t pixels = P * P, n = N * pixels;
    if (n == 0)
        return;
    if (type == ELEMENT_BF16)
        unpack_choose(q, (bf16 *)out, in, n, pixels, channels);
    else
        unpack_choose(q, (float *)out, in, n, pixels, channels);
}

/* ---- forward: gathers ---- */

template <typename T, int W>
KERNEL(flat_threads) embed_patches_kernel(T *out, const T *features, const int32_t *position,
                                          const float *class_embedding, const float *positional,
                                          size_t n, size_t K, size_t C)
{
    for (size_t i = flat_first(W); i < n; i += flat_step(W)) {
        const size_t c = i % C, t = i / C % (1 + K), b = i / C / (1 + K);
        const size_t patch = b * K + t - 1;
        const size_t place = t == 0 ? 0 : 1 + (size_t)position[patch];
        float x[W], p[W];
        if (t == 0)
            load<W>(x, class_embedding + c);
        else
            load<W>(x, features + patch * C + c);
        load<W>(p, positional + place * C + c);
        UNROLL
        for (int j = 0; j < W; j++)
            x[j] += p[j];
        store<W>(out + i, x);
    }
}

template <typename T>
static void embed_patches(const struct cuda_queue *q, T *out, const T *features,
                          const int32_t *position, const float *class_embedding,
                          const float *positional, size_t n, size_t K, size_t C)
{
    const int W = wide<T>::count;
    if (wide_rows<T>(C, out, features, class_embedding) && aligned_wide(positional))
        LAUNCH((embed_patches_kernel<T, W>), flat_blocks(q, n / W), 1, flat_threads, 0,
               q->stream, out, features, position, class_embedding, positional, n, K, C);
    else
        LAUNCH((embed_patches_kernel<T, 1>), flat_blocks(q, n), 1, flat_threads, 0, q->stream,
               out, features, position, class_embedding, positional, n, K, C);
}

void cuda_embed_patches_forward(const struct cuda_queue *q, enum element type, void *out,
                                const void *features, const int32_t *position,
                                const float *class_embedding, const float *positional, size_t B,
                                size_t K, size_t C)
{
    const size_t n = B * (1 + K) * C;
    if (n == 0)
        return;
    if (type == ELEMENT_BF16)
        embed_patches(q, (bf16 *)out, (const bf16 *)features, position, class_embedding,
                      positional, n, K, C);
    else
        embed_patches(q, (float *)out, (const float *)features, position, class_embedding,
                      positional, n, K, C);
}

template <typename T, int W>
KERNEL(flat_threads) embed_tokens_kernel(T *out, const int32_t *token, const float *table,
                                         const float *positional, size_t n, size_t tokens,
                                         size_t C)
{
    for (size_t i = flat_first(W); i < n; i += flat_step(W)) {
        const size_t c = i % C, row = i / C;
        float x[W], p[W];
        load<W>(x, table + (size_t)token[row] * C + c);
        load<W>(p, positional + row % tokens * C + c);
        UNROLL
        for (int j = 0; j < W; j++)
            x[j] += p[j];
        store<W>(out + i, x);
    }
}

template <typename T>
static void embed_tokens(const struct cuda_queue *q, T *out, const int32_t *token,
                         const float *table, const float *positional, size_t n, size_t tokens,
                         size_t C)
{
    const int W = wide<T>::count;
    if (wide_rows<T>(C, out, table, positional))
        LAUNCH((embed_tokens_kernel<T, W>), flat_blocks(q, n / W), 1, flat_threads, 0,
               q->stream, out, token, table, positional, n, tokens, C);
    else
        LAUNCH((embed_tokens_kernel<T, 1>), flat_blocks(q, n), 1, flat_threads, 0, q->stream,
               out, token, table, positional, n, tokens, C);
}

void cuda_embed_tokens_forward(const struct cuda_queue *q, enum element type, void *out,
                               const int32_t *tokens, const float *table,
                               const float *positional, size_t B, size_t T, size_t C)
{
    const size_t n = B * T * C;
    if (n == 0)
        return;
    if (type == ELEMENT_BF16)
        embed_tokens(q, (bf16 *)out, tokens, table, positional, n, T, C);
    else
        embed_tokens(q, (float *)out, tokens, table, positional, n, T, C);
}

/* ---- a stable sort of row numbers by key ---- */

enum { digits = 256, chunk_keys = 1024, scan_threads = 1024, key_bits = 31 };

struct sorted {
    uint32_t *key, *row;
};

/* The chunk's digits, for all threads to read. Returns how many there are. */
DEVICE size_t load_digits(uint8_t *digit, const uint32_t *key, size_t n, int shift)
{
    const size_t first = (size_t)block_index() * chunk_keys;
    const size_t count = n - first < chunk_keys ? n - first : (size_t)chunk_keys;
    for (size_t i = thread_index(); i < count; i += digits)
        digit[i] = (uint8_t)(key[first + i] >> shift);
    block_sync();
    return count;
}

/* counts[digit,chunk] */
KERNEL(digits) count_digits_kernel(uint32_t *counts, const uint32_t *key, size_t n, int shift)
{
    SHARED_MEMORY(uint8_t, digit);
    const size_t count = load_digits(digit, key, n, shift);
    uint32_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += digit[i] == thread_index();
    counts[(size_t)thread_index() * block_count() + block_index()] = found;
}

/* Each count becomes the sum of those before it; one block. */
KERNEL(scan_threads) scan_kernel(uint32_t *counts, size_t n)
{
    SHARED_MEMORY(uint32_t, sums); /* [scan_threads] */
    const size_t each = divide_up(n, scan_threads), first = thread_index() * each;
    const size_t end = first + each < n ? first + each : n;
    uint32_t sum = 0;
    for (size_t i = first; i < end; i++)
        sum += counts[i];
    sums[thread_index()] = sum;
    block_sync();
    uint32_t before = 0;
    for (unsigned t = 0; t < thread_index(); t++)
        before += sums[t];
    for (size_t i = first; i < end; i++) {
        const uint32_t count = counts[i];
        counts[i] = before;
        before += count;
    }
}

KERNEL(digits) place_kernel(struct sorted to, struct sorted from, const uint32_t *offsets,
                            size_t n, int shift)
{
    SHARED_MEMORY(uint8_t, digit);
    const size_t count = load_digits(digit, from.key, n, shift);
    const size_t first = (size_t)block_index() * chunk_keys;
    size_t at = offsets[(size_t)thread_index() * block_count() + block_index()];
    for (size_t i = 0; i < count; i++) {
        if (digit[i] != thread_index())
            continue;
        to.key[at] = from.key[first + i];
        to.row[at++] = from.row[first + i];
    }
}

/* Row i of the gradient, when sorted, is row_of_key's. plus is 0, or 1 for positions, whose
 * table begins with the class token's. */
KERNEL(flat_threads) number_rows_kernel(struct sorted to, const int32_t *key, size_t n,
                                        uint32_t plus)
{
    for (size_t i = flat_first(1); i < n; i += flat_step(1)) {
        to.key[i] = (uint32_t)key[i] + plus;
        to.row[i] = (uint32_t)i;
    }
}

/* Scratch of a scatter of n rows of C. */
struct scatter {
    struct sorted sorted, other;
    uint32_t *counts;
    float *parts; /* [pieces,C] */
};

enum { piece_rows = 64 };

static size_t scatter_layout(struct scatter *s, float *scratch, size_t n, size_t C)
{
    const size_t words = divide_up(n, 64) * 64, chunks = divide_up(n, chunk_keys);
    uint32_t *at = (uint32_t *)scratch;
    s->sorted.key = at;
    s->sorted.row = at + words;
    s->other.key = at + 2 * words;
    s->other.row = at + 3 * words;
    s->counts = at + 4 * words;
    s->parts = scratch + 4 * words + digits * chunks;
    return 4 * words + digits * chunks + divide_up(n, piece_rows) * C;
}

/* Four passes for any 31-bit key: how large the table is, is not known here. Those of digits
 * that all keys share move rows in order and could be left out. */
static void sort_rows(const struct cuda_queue *q, struct scatter *s, const int32_t *key,
                      size_t n, uint32_t plus)
{
    const size_t chunks = divide_up(n, chunk_keys);
    LAUNCH(number_rows_kernel, flat_blocks(q, n), 1, flat_threads, 0, q->stream, s->sorted, key,
           n, plus);
    for (int shift = 0; shift < key_bits; shift += 8) {
        LAUNCH(count_digits_kernel, chunks, 1, digits, chunk_keys, q->stream, s->counts,
               s->sorted.key, n, shift);
        LAUNCH(scan_kernel, 1, 1, scan_threads, scan_threads * sizeof(uint32_t), q->stream,
               s->counts, digits * chunks);
        LAUNCH(place_kernel, chunks, 1, digits, chunk_keys, q->stream, s->other, s->sorted,
               s->counts, n, shift);
        const struct sorted held = s->sorted;
        s->sorted = s->other;
        s->other = held;
    }
}

/* ---- the table's gradient ---- */

/* Where the source's rows lie: row r of the list is row r + r / group + skip of in, which skips
 * one row (the class token's) at the head of every `group`; group 0: none. */
DEVICE size_t source_row(size_t r, size_t group)
{
    return group == 0 ? r : r + r / group + 1;
}

/* A thread adds W columns of its piece's rows, run by run. The piece's last run goes to the
 * table only if it ends here; its first only if it began here, or else to `parts`, and so does
 * a run that fills the whole piece. */
template <typename T, int W>
KERNEL(flat_threads) add_runs_kernel(float *table, float *parts, const T *in,
                                     struct sorted sorted, size_t n, size_t C, size_t group)
{
    const size_t c = ((size_t)block_index_y() * thread_count() + thread_index()) * W;
    const size_t first = (size_t)block_index() * piece_rows;
    const size_t end = first + piece_rows < n ? first + piece_rows : n;
    if (c >= C)
        return;
    for (size_t i = first; i < end;) {
        const uint32_t key = sorted.key[i];
        const bool began = i > first || i == 0 || sorted.key[i - 1] != key;
        float sum[W] = {};
        if (began)
            load<W>(sum, table + (size_t)key * C + c);
        for (; i < end && sorted.key[i] == key; i++) {
            float x[W];
            load<W>(x, in + source_row(sorted.row[i], group) * C + c);
            UNROLL
            for (int j = 0; j < W; j++)
                sum[j] += x[j];
        }
        store<W>(began ? table + (size_t)key * C + c : parts + block_index() * C + c, sum);
    }
}

/* A piece whose last run began in it and goes on adds the parts that followed. */
KERNEL(flat_threads) join_runs_kernel(float *table, const float *parts, const uint32_t *key,
                                      size_t n, size_t C)
{
    const size_t c = (size_t)block_index_y() * thread_count() + thread_index();
    const size_t end = ((size_t)block_index() + 1) * piece_rows, first = end - piece_rows;
    if (c >= C || end >= n || key[end] != key[end - 1])
        return;
    const uint32_t last = key[end - 1];
    if (key[first] == last && first > 0 && key[first - 1] == last)
        return; /* it began before this piece */
    float sum = table[(size_t)last * C + c];
    for (size_t i = end; i < n && key[i] == last; i += piece_rows)
        sum += parts[i / piece_rows * C + c];
    table[(size_t)last * C + c] = sum;
}

/* Whole warps for one item to a thread, as far as a block goes. */
static unsigned row_threads(size_t items)
{
    return (unsigned)smaller(flat_threads, divide_up(items, warp_size) * warp_size);
}

template <typename T, int W>
static void add_runs_launch(const struct cuda_queue *q, const struct scatter *s, float *table,
                            const T *in, size_t n, size_t C, size_t group)
{
    const unsigned threads = row_threads(C / W);
    LAUNCH((add_runs_kernel<T, W>), divide_up(n, piece_rows), divide_up(C / W, threads),
           threads, 0, q->stream, table, s->parts, in, s->sorted, n, C, group);
}

template <typename T>
static void add_runs(const struct cuda_queue *q, const struct scatter *s, float *table,
                     const T *in, size_t n, size_t C, size_t group)
{
    if (wide_rows<T>(C, table, in, s->parts))
        add_runs_launch<T, wide<T>::count>(q, s, table, in, n, C, group);
    else
        add_runs_launch<T, 1>(q, s, table, in, n, C, group);
}

/* table[key + plus, C] += rows of in [type]. */
static void scatter_rows(const struct cuda_queue *q, enum element type, float *table,
                         const void *in, const int32_t *key, size_t n, size_t C, uint32_t plus,
                         size_t group, float *scratch)
{
    struct scatter s;
    if (n == 0 || C == 0)
        return;
    scatter_layout(&s, scratch, n, C);
    sort_rows(q, &s, key, n, plus);
    if (type == ELEMENT_BF16)
        add_runs(q, &s, table, (const bf16 *)in, n, C, group);
    else
        add_runs(q, &s, table, (const float *)in, n, C, group);
    const unsigned threads = row_threads(C);
    LAUNCH(join_runs_kernel, divide_up(n, piece_rows), divide_up(C, threads), threads, 0,
           q->stream, table, s.parts, s.sorted.key, n, C);
}

template <typename T, int W>
KERNEL(flat_threads) drop_class_kernel(T *dfeatures, const T *dout, size_t n, size_t K,
                                       size_t C)
{
    for (size_t i = flat_first(W); i < n; i += flat_step(W)) {
        float x[W];
        load<W>(x, dout + source_row(i / C, K) * C + i % C);
        store<W>(dfeatures + i, x);
    }
}

template <typename T>
static void drop_class(const struct cuda_queue *q, T *dfeatures, const T *dout, size_t n,
                       size_t K, size_t C)
{
    const int W = wide<T>::count;
    if (wide_rows<T>(C, dfeatures, dout, NULL))
        LAUNCH((drop_class_kernel<T, W>), flat_blocks(q, n / W), 1, flat_threads, 0, q->stream,
               dfeatures, dout, n, K, C);
    else
        LAUNCH((drop_class_kernel<T, 1>), flat_blocks(q, n), 1, flat_threads, 0, q->stream,
               dfeatures, dout, n, K, C);
}

size_t cuda_embed_patches_backward_floats(size_t B, size_t K, size_t C)
{
    struct scatter s;
    const size_t scatter = scatter_layout(&s, NULL, B * K, C);
    const size_t sums = cuda_sum_rows_floats(B, C);
    return scatter > sums ? scatter : sums;
}

void cuda_embed_patches_backward(const struct cuda_queue *q, enum element type, void *dfeatures,
                                 float *dclass_embedding, float *dpositional, const void *dout,
                                 const int32_t *position, size_t B, size_t K, size_t C,
                                 float *scratch)
{
    const size_t n = B * K * C, stride = (1 + K) * C;
    cuda_sum_rows(q, type, dclass_embedding, dout, B, C, stride, scratch);
    cuda_sum_rows(q, type, dpositional, dout, B, C, stride, scratch);
    if (n == 0)
        return;
    if (type == ELEMENT_BF16)
        drop_class(q, (bf16 *)dfeatures, (const bf16 *)dout, n, K, C);
    else
        drop_class(q, (float *)dfeatures, (const float *)dout, n, K, C);
    scatter_rows(q, type, dpositional, dout, position, B * K, C, 1, K, scratch);
}

size_t cuda_embed_tokens_backward_floats(size_t B, size_t T, size_t C)
{
    struct scatter s;
    const size_t scatter = scatter_layout(&s, NULL, B * T, C);
    const size_t sums = cuda_sum_rows_floats(B, T * C);
    return scatter > sums ? scatter : sums;
}

void cuda_embed_tokens_backward(const struct cuda_queue *q, enum element type, float *dtable,
                                float *dpositional, const void *dout, const int32_t *tokens,
                                size_t B, size_t T, size_t C, float *scratch)
{
    cuda_sum_rows(q, type, dpositional, dout, B, T * C, T * C, scratch);
    scatter_rows(q, type, dtable, dout, tokens, B * T, C, 0, 0, scratch);
}
