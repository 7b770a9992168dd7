#include "kernels/cpu/cpu_bf16.h"

#include "base/number.h"

bool rooms_open(struct rooms *rooms, struct cpu *cpu, int parts, size_t count, size_t width,
                size_t own)
{
    *rooms = (struct rooms){.own = size_round_up(own, cpu_line), .rows = SIZE_MAX};
    if (cpu_is_bf16(cpu) && count > 0) {
        rooms->rows = width < cpu_piece ? cpu_piece / (width == 0 ? 1 : width) : 1;
        rooms->room = size_round_up(rooms->rows * width, cpu_line);
    }
    rooms->stride = rooms->own + count * rooms->room;
    rooms->memory = cpu_scratch(cpu, (size_t)parts * rooms->stride, sizeof(float));
    return rooms->memory != NULL;
}

void cpu_widen(const struct cpu *cpu, float *to, const void *from, size_t first, size_t stride,
               size_t rows, size_t columns)
{
    const uint16_t *in = (const uint16_t *)from + first;
    const bool whole = stride == columns; /* can be split anywhere */
    const size_t n = whole ? rows * columns : rows;
    const int parts = cpu_parts(cpu, n, whole ? 1 : columns);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const struct range r = cpu_range(n, parts, part, whole ? cpu_line : 1);
        if (whole)
            cpu->vector->from_bf16(to + r.first, in + r.first, r.count);
        else
            for (size_t row = r.first; row < r.first + r.count; row++)
                cpu->vector->from_bf16(to + row * columns, in + row * stride, columns);
    }
}
