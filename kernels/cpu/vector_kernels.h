/* vector_kernels.h - the kernels of struct vector_kernels as source text, not as interface:
 * vector_baseline.c and its siblings define the primitives (vf, LANES, v_load, v_fma, ...) for
 * one instruction set and include this file once. */
#ifndef KERNELS_CPU_VECTOR_KERNELS_H
#define KERNELS_CPU_VECTOR_KERNELS_H

/* Up to a vector from a row that has `left` more values; missing lanes are 0. The branch is
 * taken once a row and predicted, so that kernels need no second loop for the rest. */
VECTOR_INLINE vf v_take(const float *p, size_t left)
{
    return left >= LANES ? v_load(p) : v_load_first(p, left);
}

VECTOR_INLINE void v_put(float *p, vf v, size_t left)
{
    if (left >= LANES)
        v_store(p, v);
    else
        v_store_first(p, v, left);
}

#include "kernels/cpu/vector_bf16.h"

#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/vector_elementwise.h"

#include "kernels/cpu/vector_norm.h"

#include "kernels/cpu/vector_gemm.h"

#include "kernels/cpu/vector_attention.h"

#include "kernels/cpu/vector_loss.h"

const struct vector_kernels VECTOR_TABLE = {
    .isa = VECTOR_ISA,
    .from_bf16 = from_bf16,
    .to_bf16 = to_bf16,
    .add = add,
    .add_rows = add_rows,
    .scale = scale,
    .activation_forward = activation_forward,
    .activation_backward = activation_backward,
    .layer_scale_forward = layer_scale_forward,
    .layer_scale_backward = layer_scale_backward,
    .norm_forward = norm_forward,
    .norm_backward = norm_backward,
    .normalize_forward = normalize_forward,
    .normalize_backward = normalize_backward,
    .attention_scratch = attention_scratch,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .loss_rows = loss_rows,
    .loss_columns = loss_columns,
    .loss_gradient = loss_gradient,
    .adamw = adamw,
    .sum_squares = sum_squares,
    .clamp = clamp,
};

#endif
