/* Matrix products with what belongs to them: conversions of bf16, epilogues, sums of a.
 *
 * Ladder for bf16 (oneDNN 2.6.3, one thread of an Emerald Rapids server without bf16
 * instructions, shared with others; November 2026; ms of processor time):
 *                                    2176x512x128 NT   8320x1536x384 NT   and its GELU
 *   fp32, for comparison                         1.7                 67             80
 *   oneDNN's bf16                                9.5                340            333
 *   floats made of bf16, blocks of 4 MiB         2.1                 75             83
 *   the same, blocks of 1 MiB                    1.9                 72             83
 * Where the processor has the instructions, oneDNN takes bf16 as it is. */
#include "base/number.h"
#include "kernels/cpu/cpu_bf16.h"
#include "kernels/cpu/cpu_product.h"

/* Without an inner dimension the product is 0. */
static void fill_empty(const struct cpu *cpu, const struct matmul *args, bool bf16_out)
{
    const float zero = 0;
    for (size_t r = 0; r < args->rows && !args->accumulate; r++) {
        for (size_t c = 0; c < args->columns; c++) {
            const size_t at = r * args->columns + c;
            const float *value = args->bias == NULL ? &zero : &args->bias[c];
            if (bf16_out)
                cpu->vector->to_bf16((uint16_t *)args->out + at, value, 1);
            else
                ((float *)args->out)[at] = *value;
        }
    }
}

/* The product alone; false, remembered as a failure, where oneDNN fails. */
static bool run_product(struct cpu *cpu, const struct matmul *args, bool bf16_in, bool bf16_out)
{
    struct error error;
    if (args->rows == 0 || args->columns == 0)
        return true;
    if (args->inner == 0) {
        fill_empty(cpu, args, bf16_out);
        return true;
    }
    if (product_run(cpu->products, args, bf16_in, bf16_out, cpu->threads, &error) == STATUS_OK)
        return true;
    cpu_fail(cpu, &error);
    return false;
}

void cpu_matmul_fp32(struct cpu *cpu, const struct matmul *args)
{
    run_product(cpu, args, false, false);
}

/* ---- epilogues ---- */

/* n values of the product become values `first` on of out. In fp32 `product` is the place that
 * matmul_by_rows had it written to, `before` or `out`. */
static void finish_piece(const struct cpu *cpu, const struct matmul *args, size_t first,
                         size_t n, float *product, float *room)
{
    float *out = floats_for(cpu, args->out, first, product);
    if (args->epilogue == EPILOGUE_ACTIVATION) {
        if (args->before != NULL)
            floats_put(cpu, args->before, first, n, product);
        cpu->vector->activation_forward(out, product, n, args->activation);
    } else if (args->epilogue == EPILOGUE_ACTIVATION_BACKWARD) {
        const float *before = floats_of(cpu, args->before, first, n, room);
        cpu->vector->activation_backward(out, product, before, n, args->activation);
    }
    floats_put(cpu, args->out, first, n, out);
}

static void finish_block(const struct cpu *cpu, const struct matmul *args, size_t first,
                         size_t n, float *product)
{
    const int parts = cpu_parts(cpu, n, 8);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, cpu_line);
        float room[cpu_piece];
        for (size_t i = 0; i < r.count; i += cpu_piece) {
            const size_t at = r.first + i, left = r.count - i;
            finish_piece(cpu, args, first + at, left < cpu_piece ? left : cpu_piece,
                         product + at, room);
        }
    }
}

/* ---- blocks ---- */

/* The length of blocks of `n` rows that take `floats` each: what lies between a conversion, a
 * product and its epilogue is a MiB for each thread, which the second-level cache keeps.
 * Blocks are nearly equal, so that no product is a sliver. */
static size_t block_length(const struct cpu *cpu, size_t n, size_t floats)
{
    const size_t block_floats = (size_t)cpu->threads << 18;
    const size_t most = floats < block_floats / 64 ? block_floats / (floats + 1) : 64;
    const size_t blocks = n / most + (n % most != 0);
    return blocks <= 1 ? n : size_round_up((n + blocks - 1) / blocks, 16);
}

/* Slices first..first+n, of `all`, of an operand, each of `length` values, as tight floats:
 * rows of the matrix as it is stored, [n,length], or columns, [length,n]. */
static void widen_slices(const struct cpu *cpu, float *to, const void *from, bool are_rows,
                         size_t first, size_t n, size_t all, size_t length)
{
    if (are_rows)
        cpu_widen(cpu, to, from, first * length, length, n, length);
    else
        cpu_widen(cpu, to, from, first, all, length, n);
}

/* out by blocks of rows, each finished while it is in the cache. */
static void matmul_by_rows(struct cpu *cpu, const struct matmul *args)
{
    const bool bf16 = cpu_is_bf16(cpu), convert = bf16 && !cpu->multiplies_bf16;
    const size_t rows = args->rows, columns = args->columns, inner = args->inner;
    const size_t block = args->a_transposed && !convert
                             ? rows
                             : block_length(cpu, rows, columns + (convert ? inner : 0));
    const size_t product_floats = size_round_up(bf16 ? block * columns : 0, cpu_line);
    const size_t a_floats = size_round_up(convert ? block * inner : 0, cpu_line);
    const size_t b_floats = convert ? inner * columns : 0;
    float *product = NULL, *a = NULL, *b = NULL;
    struct matmul part = *args;

    if (bf16) {
        product = cpu_scratch(cpu, product_floats + a_floats + b_floats, sizeof *product);
        if (product == NULL)
            return;
        a = product + product_floats;
        b = a + a_floats;
    }
    if (convert) {
        cpu_widen(cpu, b, args->b, 0, b_floats, 1, b_floats);
        part.a = a;
        part.b = b;
    }
    for (size_t row = 0; row < rows; row += block) {
        part.rows = rows - row < block ? rows - row : block;
        if (convert)
            widen_slices(cpu, a, args->a, !args->a_transposed, row, part.rows, rows, inner);
        else
            part.a = (const char *)args->a + row * inner * activation_bytes(&cpu->kernels);
        if (!bf16)
            product = (float *)(args->epilogue == EPILOGUE_ACTIVATION && args->before != NULL
                                    ? args->before
                                    : args->out) + row * columns;
        part.out = product;
        if (!run_product(cpu, &part, bf16 && !convert, false))
            return;
        finish_block(cpu, args, row * columns, part.rows * columns, product);
    }
}

/* out += by blocks of the inner dimension, which is the batch, of bf16 made floats. */
static void matmul_by_inner(struct cpu *cpu, const struct matmul *args)
{
    const size_t rows = args->rows, columns = args->columns, inner = args->inner;
    const size_t block = block_length(cpu, inner, rows + columns);
    const size_t a_floats = size_round_up(block * rows, cpu_line);
    float *a = cpu_scratch(cpu, a_floats + block * columns, sizeof *a);
    if (a == NULL)
        return;
    float *b = a + a_floats;
    struct matmul part = *args;
    part.a = a;
    part.b = b;
    for (size_t i = 0; i < inner; i += block) {
        part.inner = inner - i < block ? inner - i : block;
        widen_slices(cpu, a, args->a, args->a_transposed, i, part.inner, inner, rows);
        widen_slices(cpu, b, args->b, !args->b_transposed, i, part.inner, inner, columns);
        if (!run_product(cpu, &part, false, false))
            return;
    }
}

/* ---- sums of a ---- */

/* Of a stored in rows of op(a); a layer's backward pass has it the other way round. */
static void sum_a_rows(struct cpu *cpu, const struct matmul *args)
{
    const size_t inner = args->inner;
    const int parts = cpu_parts(cpu, args->rows, inner);
    struct rooms rooms;
    if (!rooms_open(&rooms, cpu, parts, 1, inner, 0))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(args->rows, parts, part, 1);
        for (size_t row = r.first; row < r.first + r.count; row++) {
            const float *x = floats_of(cpu, args->a, row * inner, inner,
                                       room_at(&rooms, part, 0));
            double sum = args->a_sums[row];
            for (size_t i = 0; i < inner; i++)
                sum += x[i];
            args->a_sums[row] = (float)sum;
        }
    }
}

void cpu_matmul(struct kernels *k, const struct matmul *args)
{
    struct cpu *cpu = k->state;
    const bool bf16 = cpu_is_bf16(cpu), convert = bf16 && !cpu->multiplies_bf16;
    if (args->accumulate && convert)
        matmul_by_inner(cpu, args);
    else if (args->epilogue != EPILOGUE_NONE || convert)
        matmul_by_rows(cpu, args);
    else
        run_product(cpu, args, bf16, bf16 && !args->accumulate);

    if (args->accumulate && args->a_sums != NULL) {
        if (args->a_transposed)
            cpu_sum_rows(k, args->a_sums, args->a, args->inner, args->rows);
        else
            sum_a_rows(cpu, args);
    }
}
