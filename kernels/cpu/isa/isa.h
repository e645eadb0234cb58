/* Inside cpu/isa: names that differ by vector width. COVI_ISA (baseline, avx2, avx512) comes from the build.
 * The loops are plain C that GCC and Clang vectorise. `#pragma omp simd` (-fopenmp-simd, no run-time library) says what
 * the compiler may not guess: that buffers overlap exactly or not at all, and that a sum may be taken in lanes. */
#ifndef COVENANT_KERNELS_CPU_ISA_H
#define COVENANT_KERNELS_CPU_ISA_H

#include "cpu/loops.h"

#define COVI_JOIN2(a, b) a##_##b
#define COVI_JOIN(a, b)  COVI_JOIN2(a, b)
#define COVI_NAME(f)     COVI_JOIN(f, COVI_ISA)

extern const covi_loops COVI_NAME(covi_loops);

void COVI_NAME(covi_add)(float *y, const float *x, int64_t n);
double COVI_NAME(covi_sum_squares)(const float *x, int64_t n);
void COVI_NAME(covi_adamw)(float *w, float *m, float *v, const float *g, int64_t n, const covi_adamw_step *s);
void COVI_NAME(covi_swiglu_forward)(float *y, const float *gate, const float *up, int64_t n);
void COVI_NAME(covi_swiglu_backward)(float *dgate, float *dup, const float *dy, const float *gate, const float *up,
                                     int64_t n);
void COVI_NAME(covi_rmsnorm_forward)(float *y, float *rstd, const float *x, const float *g, int64_t rows, int64_t D,
                                     float eps);
void COVI_NAME(covi_rmsnorm_backward_x)(float *dx, const float *dy, const float *x, const float *g, const float *rstd,
                                        int64_t rows, int64_t D);
void COVI_NAME(covi_rmsnorm_backward_g)(float *dg, const float *dy, const float *x, const float *rstd, int64_t rows,
                                        int64_t D, int64_t begin, int64_t end);
void COVI_NAME(covi_rope)(float *x, const float *turn, int64_t heads, int64_t E, int sign);
double COVI_NAME(covi_cross_entropy)(float *x, int64_t V, int32_t target, float grad_scale);
float COVI_NAME(covi_exp_row)(float *x, int64_t n, float *sum);
void COVI_NAME(covi_scale)(float *x, int64_t n, float factor);
float COVI_NAME(covi_dot)(const float *a, const float *b, int64_t n);
void COVI_NAME(covi_attention_grad)(float *p, float *ds, int64_t n, float lse, float own);
void COVI_NAME(covi_exp)(float *y, const float *x, int64_t n);
void COVI_NAME(covi_matmul)(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                            const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

#endif
