/* vector_gemm.h - products of matrices that lie in the cache (part of vector_kernels.h).
 *
 * oneDNN is for large matrices: a whole head of attention with T 17 and D 32 takes 1.2
 * microseconds here, about what one call would. The block of c fills half of the registers, 8 x
 * 2 vectors of 32 with AVX-512, 4 x 2 of 16 elsewhere, so that 16 (8) independent sums hide the
 * multiply-add's latency of 4 cycles at two a cycle. */

#ifdef __clang__
#define VECTOR_UNROLL _Pragma("unroll")
#else
#define VECTOR_UNROLL _Pragma("GCC unroll 8")
#endif

/* c (= or +=) a b. Element (r,i) of a is a[r * a_row + i * a_inner], so that a may be stored
 * either way round; b and c are row-major with the given strides. */
struct gemm {
    size_t rows, columns, inner;
    const float *a;
    size_t a_row, a_inner;
    const float *b;
    size_t b_stride;
    float *c;
    size_t c_stride;
    bool accumulate;
};

/* A block of c, rows x vectors, in registers. rows and vectors are constants in each call;
 * columns is what is left of the row where vectors is 1, else all lanes are used. */
VECTOR_INLINE void gemm_block(const struct gemm *g, size_t row, size_t column, size_t rows,
                              size_t vectors, size_t columns)
{
    const float *a = g->a + row * g->a_row;
    const float *b = g->b + column;
    float *c = g->c + row * g->c_stride + column;
    vf sums[GEMM_ROWS][2];

    VECTOR_UNROLL
    for (size_t r = 0; r < rows; r++)
        VECTOR_UNROLL
        for (size_t v = 0; v < vectors; v++)
            sums[r][v] = v_splat(0);
    for (size_t i = 0; i < g->inner; i++) {
        vf from_b[2];
        VECTOR_UNROLL
        for (size_t v = 0; v < vectors; v++)
            from_b[v] = vectors == 1 ? v_take(b, columns) : v_load(b + v * LANES);
        VECTOR_UNROLL
        for (size_t r = 0; r < rows; r++) {
            const vf from_a = v_splat(a[r * g->a_row]);
            VECTOR_UNROLL
            for (size_t v = 0; v < vectors; v++)
                sums[r][v] = v_fma(from_a, from_b[v], sums[r][v]);
        }
        a += g->a_inner;
        b += g->b_stride;
    }
    VECTOR_UNROLL
    for (size_t r = 0; r < rows; r++) {
        VECTOR_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            float *at = c + r * g->c_stride + v * LANES;
            const size_t left = vectors == 1 ? columns : LANES;
            v_put(at, g->accumulate ? sums[r][v] + v_take(at, left) : sums[r][v], left);
        }
    }
}

/* All rows of one or two vectors of columns: as many whole blocks as fit, then halves. */
VECTOR_INLINE void gemm_panel(const struct gemm *g, size_t column, size_t vectors,
                              size_t columns)
{
    size_t row = 0;
    for (; row + GEMM_ROWS <= g->rows; row += GEMM_ROWS)
        gemm_block(g, row, column, GEMM_ROWS, vectors, columns);
#if GEMM_ROWS > 4
    if (row + 4 <= g->rows) {
        gemm_block(g, row, column, 4, vectors, columns);
        row += 4;
    }
#endif
    if (row + 2 <= g->rows) {
        gemm_block(g, row, column, 2, vectors, columns);
        row += 2;
    }
    if (row < g->rows)
        gemm_block(g, row, column, 1, vectors, columns);
}

static void gemm(const struct gemm *g)
{
    size_t column = 0;
    for (; column + 2 * LANES <= g->columns; column += 2 * LANES)
        gemm_panel(g, column, 2, 2 * LANES);
    for (; column < g->columns; column += LANES)
        gemm_panel(g, column, 1, g->columns - column);
}

typedef float v4 __attribute__((vector_size(16)));

#if defined(__clang__) || __GNUC__ >= 12
#define V4_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define V4_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (vi4){i, j, k, l})
typedef int32_t vi4 __attribute__((vector_size(16)));
#endif

/* out[c * out_stride + r] = in[r * in_stride + c] for 4 x 4 values, or 0 from row `rows` on:
 * half the work of moving them one by one, on every instruction set. */
VECTOR_INLINE void transpose_4x4(float *out, size_t out_stride, const float *in,
                                 size_t in_stride, size_t rows)
{
    v4 in_rows[4] = {{0}, {0}, {0}, {0}};
    VECTOR_UNROLL
    for (size_t r = 0; r < 4; r++)
        if (r < rows)
            memcpy(&in_rows[r], in + r * in_stride, sizeof in_rows[r]);
    const v4 low01 = V4_SHUFFLE(in_rows[0], in_rows[1], 0, 4, 1, 5);
    const v4 high01 = V4_SHUFFLE(in_rows[0], in_rows[1], 2, 6, 3, 7);
    const v4 low23 = V4_SHUFFLE(in_rows[2], in_rows[3], 0, 4, 1, 5);
    const v4 high23 = V4_SHUFFLE(in_rows[2], in_rows[3], 2, 6, 3, 7);
    const v4 out_rows[4] = {
        V4_SHUFFLE(low01, low23, 0, 1, 4, 5),
        V4_SHUFFLE(low01, low23, 2, 3, 6, 7),
        V4_SHUFFLE(high01, high23, 0, 1, 4, 5),
        V4_SHUFFLE(high01, high23, 2, 3, 6, 7),
    };
    VECTOR_UNROLL
    for (size_t r = 0; r < 4; r++)
        memcpy(out + r * out_stride, &out_rows[r], sizeof out_rows[r]);
}

/* out[columns, out_stride] = the transpose of in[rows, columns]; columns of out past `rows`
 * become 0. out_stride is a multiple of 4. */
static void transpose(float *out, size_t out_stride, const float *in, size_t in_stride,
                      size_t rows, size_t columns)
{
    const size_t whole = columns - columns % 4;
    for (size_t r = 0; r < out_stride; r += 4) {
        const size_t left = r < rows ? rows - r : 0;
        const float *from = left > 0 ? in + r * in_stride : in;
        if (left >= 4)
            for (size_t c = 0; c < whole; c += 4)
                transpose_4x4(out + c * out_stride + r, out_stride, from + c, in_stride, 4);
        else
            for (size_t c = 0; c < whole; c += 4)
                transpose_4x4(out + c * out_stride + r, out_stride, from + c, in_stride, left);
    }
    for (size_t c = whole; c < columns; c++)
        for (size_t r = 0; r < out_stride; r++)
            out[c * out_stride + r] = r < rows ? in[r * in_stride + c] : 0;
}
