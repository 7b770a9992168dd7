#include "kernels/cuda/cuda_product_key.h"

#include <stdio.h>
#include <string.h>

/* The largest power of two, up to wide_bytes, that divides an address; of NULL wide_bytes. */
static uint8_t alignment_of(const void *address)
{
    const uintptr_t bits = (uintptr_t)address | wide_bytes;
    return (uint8_t)(bits & -bits);
}

static uint8_t lesser(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

struct product_key product_key_make(enum element operands, enum element result,
                                    const struct matmul *args)
{
    struct product_key key;
    memset(&key, 0, sizeof key);
    key.rows = args->rows;
    key.columns = args->columns;
    key.inner = args->inner;
    key.operands = (uint8_t)operands;
    key.result = (uint8_t)(args->accumulate ? ELEMENT_FLOAT : result);
    key.a_transposed = args->a_transposed;
    key.b_transposed = args->b_transposed;
    key.bias = args->bias != NULL;
    key.accumulate = args->accumulate;
    key.a_sums = args->a_sums != NULL;
    key.epilogue = (uint8_t)args->epilogue;
    key.align_a = alignment_of(args->a);
    key.align_b = alignment_of(args->b);
    key.align_out = alignment_of(args->out);
    key.align_bias = alignment_of(args->bias);
    if (args->epilogue != EPILOGUE_NONE) {
        key.activation = (uint8_t)args->activation;
        key.before = args->before != NULL;
        key.align_out = lesser(key.align_out, alignment_of(args->before));
    }
    return key;
}

void product_key_text(const struct product_key *key, char text[256])
{
    static const char *const elements[] = {"fp32", "bf16"};
    static const char *const epilogues[] = {"", " activation", " activation-backward"};
    static const char *const activations[] = {"gelu", "gelu-tanh", "quick-gelu"};
    const bool plain = key->epilogue == EPILOGUE_NONE;
    snprintf(text, 256, "%llu x %llu x %llu %s%s %s -> %s%s%s%s%s%s%s%s align %d %d %d %d",
             (unsigned long long)key->rows, (unsigned long long)key->columns,
             (unsigned long long)key->inner, key->a_transposed ? "t" : "n",
             key->b_transposed ? "t" : "n", elements[key->operands], elements[key->result],
             key->accumulate ? " accumulate" : "", key->a_sums ? " a-sums" : "",
             key->bias ? " bias" : "", epilogues[key->epilogue], plain ? "" : " ",
             plain ? "" : activations[key->activation], key->before ? " before" : "",
             key->align_a, key->align_b, key->align_out, key->align_bias);
}

size_t product_key_hash(const struct product_key *key)
{
    const uint8_t *bytes = (const uint8_t *)key;
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *key; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return (size_t)(hash ^ hash >> 32);
}
