/* cpu_bf16.h - activations as floats, which is what the vector kernels know.
 *
 * In fp32 an activation is used where it lies. In bf16 an operation takes it a piece at a time:
 * some rows become floats in a `room` that stays in the cache, the kernel runs on the room, and
 * what it wrote there is rounded into the output. One driver serves both:
 *
 *     struct rooms rooms;
 *     if (!rooms_open(&rooms, cpu, parts, 2, C, 0))
 *         return;
 *     ... for each part, with r = its range of rows ...
 *         for (struct range p = piece_first(&rooms, r); p.count > 0;
 *              p = piece_next(&rooms, r, p)) {
 *             const float *x = floats_of(cpu, in, p.first * C, p.count * C,
 *                                        room_at(&rooms, part, 0));
 *             float *y = floats_for(cpu, out, p.first * C, room_at(&rooms, part, 1));
 *             ... kernel from x to y ...
 *             floats_put(cpu, out, p.first * C, p.count * C, y);
 *         } */
#ifndef KERNELS_CPU_BF16_H
#define KERNELS_CPU_BF16_H

#include "kernels/cpu/cpu_state.h"

/* Values of a piece: 8 KiB as floats, so that four rooms and what they are made from fit the
 * first-level cache. */
enum { cpu_piece = 2048 };

static inline bool cpu_is_bf16(const struct cpu *cpu)
{
    return cpu->kernels.precision == PRECISION_AMP_BF16;
}

/* n values from `first` on as floats: those in memory, or in bf16 copies in `room`. */
static inline const float *floats_of(const struct cpu *cpu, const void *activation,
                                     size_t first, size_t n, float *room)
{
    if (!cpu_is_bf16(cpu))
        return (const float *)activation + first;
    cpu->vector->from_bf16(room, (const uint16_t *)activation + first, n);
    return room;
}

/* The same for a kernel that changes them. */
static inline float *floats_to_change(const struct cpu *cpu, void *activation, size_t first,
                                      size_t n, float *room)
{
    if (!cpu_is_bf16(cpu))
        return (float *)activation + first;
    cpu->vector->from_bf16(room, (const uint16_t *)activation + first, n);
    return room;
}

/* Where a kernel writes the floats that are to become values `first` on: there, or in bf16 the
 * room. */
static inline float *floats_for(const struct cpu *cpu, void *activation, size_t first,
                                float *room)
{
    return cpu_is_bf16(cpu) ? room : (float *)activation + first;
}

/* Rounds n floats of a room into values `first` on; in fp32 they are there already. */
static inline void floats_put(const struct cpu *cpu, void *activation, size_t first, size_t n,
                              const float *room)
{
    if (cpu_is_bf16(cpu))
        cpu->vector->to_bf16((uint16_t *)activation + first, room, n);
}

/* Scratch of all the parts of an operation. */
struct rooms {
    float *memory;
    size_t stride; /* floats of one part: its own, then its rooms */
    size_t own, room;
    size_t rows; /* of a piece */
};

/* `own` floats for each part, whatever the precision, and in bf16 `count` rooms for pieces of
 * at least one row of `width` values. Takes the cpu's scratch; false, remembered as a failure,
 * where memory is refused. */
bool rooms_open(struct rooms *rooms, struct cpu *cpu, int parts, size_t count, size_t width,
                size_t own);

static inline float *own_at(const struct rooms *rooms, int part)
{
    return rooms->memory + (size_t)part * rooms->stride;
}

static inline float *room_at(const struct rooms *rooms, int part, size_t index)
{
    return own_at(rooms, part) + rooms->own + index * rooms->room;
}

static inline struct range piece_from(const struct rooms *rooms, size_t first, size_t end)
{
    const size_t left = end - first;
    return (struct range){first, left < rooms->rows ? left : rooms->rows};
}

/* The first rows of a range, and those after a piece of it; none are left where count is 0. */
static inline struct range piece_first(const struct rooms *rooms, struct range range)
{
    return piece_from(rooms, range.first, range.first + range.count);
}

static inline struct range piece_next(const struct rooms *rooms, struct range range,
                                      struct range piece)
{
    return piece_from(rooms, piece.first + piece.count, range.first + range.count);
}

/* to[rows,columns] = the part of a bf16 matrix of rows of `stride` values that starts at value
 * `first`; all threads work on it. */
void cpu_widen(const struct cpu *cpu, float *to, const void *from, size_t first, size_t stride,
               size_t rows, size_t columns);

#endif
