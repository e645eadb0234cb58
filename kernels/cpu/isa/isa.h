/* Inside cpu/isa: names that differ by vector width. COVI_ISA (baseline, avx2, avx512, avx512bf16) comes from the
 * build. The loops are plain C that GCC and Clang vectorise. `#pragma omp simd` (-fopenmp-simd, no run-time library)
 * says what the compiler may not guess: that buffers overlap exactly or not at all, and that a sum may be taken in
 * lanes. */
#ifndef COVENANT_KERNELS_CPU_ISA_H
#define COVENANT_KERNELS_CPU_ISA_H

#include "cpu/loops.h"

#define COVI_JOIN2(a, b) a##_##b
#define COVI_JOIN(a, b)  COVI_JOIN2(a, b)
#define COVI_NAME(f)     COVI_JOIN(f, COVI_ISA)

extern const covi_loops COVI_NAME(covi_loops);
extern const covi_typed_loops COVI_JOIN(COVI_NAME(covi_typed_loops), f32), COVI_JOIN(COVI_NAME(covi_typed_loops), bf16);

double COVI_NAME(covi_sum_squares)(const float *x, int64_t n);
void COVI_NAME(covi_adamw)(float *w, float *m, float *v, const float *g, int64_t n, const covi_adamw_step *s);
void COVI_NAME(covi_momentum)(float *m, float *g, int64_t n, float beta, int nesterov, float grad_scale);
void COVI_NAME(covi_blend)(float *y, const float *x, int64_t n, float keep, float rate);
void COVI_NAME(covi_scale)(float *x, int64_t n, float factor);
void COVI_NAME(covi_exp)(float *y, const float *x, int64_t n);
void COVI_NAME(covi_matmul)(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                            const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

#endif
