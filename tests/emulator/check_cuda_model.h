/* check_cuda_model.h - the part of check_cuda that trains whole models. */
#ifndef TESTS_CHECK_CUDA_MODEL_H
#define TESTS_CHECK_CUDA_MODEL_H

/* Returns how many checks failed; *passed = the others. Runs where tests/ is. */
int check_models(int *passed);

#endif
