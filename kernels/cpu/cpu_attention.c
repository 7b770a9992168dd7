#include "base/number.h"
#include "kernels/cpu/cpu_bf16.h"

/* A head costs about T * T * D / 8 touched values' time, and T * D for its memory. */
static int attention_parts(const struct cpu *cpu, const struct attention *shape)
{
    return cpu_parts(cpu, shape->B * shape->H, shape->T * shape->D * (1 + shape->T / 8));
}

/* Scratch for each part: what the kernel wants, and in bf16 `copies` of [T,D] floats after it;
 * false where memory is refused. */
static bool attention_rooms(struct rooms *rooms, struct cpu *cpu, const struct attention *shape,
                            int parts, size_t copies)
{
    const size_t kernel = cpu->vector->attention_scratch(shape->T, shape->D);
    return rooms_open(rooms, cpu, parts, copies, shape->T * shape->D, kernel);
}

/* Where head h of sample b lies, as the kernels see it: in fp32 in place, in bf16 as a copy of
 * its columns alone, which is a batch of one sample with one head. */
struct head {
    struct attention shape;
    size_t b, h;
    size_t lse; /* where the batch's values of it begin */
};

static struct head head_at(const struct cpu *cpu, const struct attention *shape, size_t index)
{
    if (!cpu_is_bf16(cpu))
        return (struct head){*shape, index / shape->H, index % shape->H, 0};
    return (struct head){{1, shape->T, 1, shape->D, shape->causal}, 0, 0, index * shape->T};
}

/* The columns of head `index` of [B,T,width * C], `width` times D of them in each row. */
static const float *head_read(const struct cpu *cpu, const void *in, size_t width,
                              const struct attention *shape, size_t index, float *room)
{
    const size_t T = shape->T, D = shape->D, C = shape->H * D;
    const size_t first = index / shape->H * T * width * C + index % shape->H * D;
    if (!cpu_is_bf16(cpu))
        return in;
    for (size_t row = 0; row < T * width; row++)
        floats_of(cpu, in, first + row * C, D, room + row * D);
    return room;
}

static float *head_room(const struct cpu *cpu, void *out, float *room)
{
    return floats_for(cpu, out, 0, room);
}

static void head_write(const struct cpu *cpu, void *out, size_t width,
                       const struct attention *shape, size_t index, const float *room)
{
    const size_t T = shape->T, D = shape->D, C = shape->H * D;
    const size_t first = index / shape->H * T * width * C + index % shape->H * D;
    for (size_t row = 0; row < T * width && cpu_is_bf16(cpu); row++)
        floats_put(cpu, out, first + row * C, D, room + row * D);
}

void cpu_attention_forward(struct kernels *k, void *out, float *lse, const void *qkv,
                           const struct attention *shape)
{
    struct cpu *cpu = k->state;
    if (shape->T == 0 || shape->D == 0)
        return;
    const size_t heads = shape->B * shape->H;
    const int parts = attention_parts(cpu, shape);
    struct rooms rooms;
    if (!attention_rooms(&rooms, cpu, shape, parts, 4))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(heads, parts, part, 1);
        for (size_t i = r.first; i < r.first + r.count; i++) {
            const struct head head = head_at(cpu, shape, i);
            const float *in = head_read(cpu, qkv, 3, shape, i, room_at(&rooms, part, 0));
            float *y = head_room(cpu, out, room_at(&rooms, part, 3));
            cpu->vector->attention_forward(y, lse + head.lse, in, &head.shape, head.b, head.h,
                                           own_at(&rooms, part));
            head_write(cpu, out, 1, shape, i, y);
        }
    }
}

void cpu_attention_backward(struct kernels *k, void *dqkv, const void *dout, const void *qkv,
                            const void *out, const float *lse, const struct attention *shape)
{
    struct cpu *cpu = k->state;
    if (shape->T == 0 || shape->D == 0)
        return;
    const size_t heads = shape->B * shape->H;
    const int parts = attention_parts(cpu, shape);
    struct rooms rooms;
    if (!attention_rooms(&rooms, cpu, shape, parts, 8))
        return;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(heads, parts, part, 1);
        for (size_t i = r.first; i < r.first + r.count; i++) {
            const struct head head = head_at(cpu, shape, i);
            const float *in = head_read(cpu, qkv, 3, shape, i, room_at(&rooms, part, 0));
            const float *y = head_read(cpu, out, 1, shape, i, room_at(&rooms, part, 3));
            const float *dy = head_read(cpu, dout, 1, shape, i, room_at(&rooms, part, 4));
            float *din = head_room(cpu, dqkv, room_at(&rooms, part, 5));
            cpu->vector->attention_backward(din, dy, in, y, lse + head.lse, &head.shape, head.b,
                                            head.h, own_at(&rooms, part));
            head_write(cpu, dqkv, 3, shape, i, din);
        }
    }
}
