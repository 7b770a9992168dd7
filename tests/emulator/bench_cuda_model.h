/* bench_cuda_model.h - the part of bench_cuda that trains whole models. */
#ifndef TESTS_BENCH_CUDA_MODEL_H
#define TESTS_BENCH_CUDA_MODEL_H

#include "base/error.h"

struct kernels;

/* Prints a Markdown table of training speed on an open backend. */
enum status bench_models(struct kernels *k, struct error *error);

#endif
