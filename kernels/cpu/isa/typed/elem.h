/* Inside cpu/isa/typed: one element of the type that the build chose (COVI_ELEM is f32 or bf16, COVI_ELEM_BF16 0 or 1),
 * and names that differ by width and type. */
#ifndef COVENANT_KERNELS_CPU_ISA_ELEM_H
#define COVENANT_KERNELS_CPU_ISA_ELEM_H

#include "bf16.h"
#include "cpu/isa/isa.h"

#define COVI_TYPED(f) COVI_JOIN(COVI_NAME(f), COVI_ELEM)

#if COVI_ELEM_BF16
typedef uint16_t elem;
static inline float wide(elem x) {
  return covi_bf16_widen(x);
}
static inline elem narrow(float x) {
  return covi_bf16_round(x);
}
#else
typedef float elem;
static inline float wide(elem x) {
  return x;
}
static inline elem narrow(float x) {
  return x;
}
#endif

static inline int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}
static inline int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

void COVI_TYPED(covi_add)(void *y, const void *x, int64_t n);
void COVI_TYPED(covi_narrow)(void *y, const float *x, int64_t n);
void COVI_TYPED(covi_add_wide)(float *y, const void *x, int64_t n);
void COVI_TYPED(covi_swiglu_forward)(void *y, const void *gate, const void *up, int64_t n);
void COVI_TYPED(covi_swiglu_backward)(void *dgate, void *dup, void *y, const void *dy, const void *gate, const void *up,
                                      int64_t n);
void COVI_TYPED(covi_rmsnorm_forward)(void *y, float *rstd, void *x, const void *r, float *stream, const float *g,
                                      int64_t rows, int64_t D, float eps);
void COVI_TYPED(covi_rmsnorm_backward_x)(void *dx, float *stream, const void *dy, const void *x, const float *g,
                                         const float *rstd, int64_t rows, int64_t D);
void COVI_TYPED(covi_rmsnorm_backward_g)(float *dg, const void *dy, const void *x, const float *rstd, int64_t rows,
                                         int64_t D, int64_t begin, int64_t end);
void COVI_TYPED(covi_rope)(void *x, const float *turn, int64_t heads, int64_t E, int sign);
void COVI_TYPED(covi_attention_forward)(const covi_attention *a, int64_t pair, void *scratch);
void COVI_TYPED(covi_attention_backward)(const covi_attention *a, int64_t pair, void *scratch);
int64_t COVI_TYPED(covi_attention_forward_bytes)(int64_t T, int64_t E);
int64_t COVI_TYPED(covi_attention_backward_bytes)(int64_t T, int64_t E);
double COVI_TYPED(covi_cross_entropy)(void *dx, float *x, int64_t V, int32_t target, float grad_scale);

#endif
