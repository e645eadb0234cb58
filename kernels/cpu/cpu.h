/* The functions behind cov_ops_cpu. Contracts are in ops.h. */
#ifndef COVENANT_KERNELS_CPU_H
#define COVENANT_KERNELS_CPU_H

#include "cpu/loops.h"
#include "ops.h"

/** Element i of an array of `dtype`. */
static inline void *covi_at(cov_dtype dtype, void *x, int64_t i) {
  return (char *)x + i * (dtype == COV_F32 ? 4 : 2);
}
static inline const void *covi_at_const(cov_dtype dtype, const void *x, int64_t i) {
  return (const char *)x + i * (dtype == COV_F32 ? 4 : 2);
}

/** The loops over activations of this place. */
static inline const covi_typed_loops *covi_typed(cov_dtype dtype) {
  return covi_loops_get()->typed[dtype];
}

/** Why bf16 is slower than f32 on a processor that has it, or NULL. AVX512-BF16 alone: an instruction in two cycles on
 *  Intel's cores, half the products of f32 (docs/performance.md), one in each cycle on AMD's, twice those of f32. */
const char *covi_bf16_avoided(int has_amx, int is_intel);

int covi_cpu_matmul(const cov_place *p, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const void *a,
                    int64_t lda, const void *b, int64_t ldb, float beta, void *c, int64_t ldc);
int64_t covi_cpu_linear_bytes(const cov_place *p, cov_linear_use use, int64_t n, int64_t k);
int covi_cpu_linear_prepare(const cov_place *p, cov_linear_use use, void *prepared, const float *w, int64_t n,
                            int64_t k);
int covi_cpu_linear_forward(const cov_place *p, void *y, int64_t ldy, cov_dtype y_dtype, const void *x, int64_t ldx,
                            const void *prepared, int64_t R, int64_t n, int64_t k);
int covi_cpu_linear_input_gradient(const cov_place *p, void *dx, int64_t lddx, int add, const void *dy, int64_t lddy,
                                   const void *prepared, int64_t R, int64_t n, int64_t k);
int covi_cpu_linear_weight_gradient(const cov_place *p, float *dw, const void *dy, int64_t lddy, const void *x,
                                    int64_t ldx, int64_t R, int64_t n, int64_t k);
int64_t covi_cpu_linear_scratch_bytes(const cov_place *p, cov_dtype y_dtype, int with_gradient, int64_t R, int64_t n,
                                      int64_t k);
int covi_cpu_embed_forward(const cov_place *p, void *x, const int32_t *ids, const float *table, int64_t R, int64_t D);
int covi_cpu_embed_backward(const cov_place *p, float *dtable, const int32_t *ids, const void *dx, int64_t R,
                            int64_t D);
int covi_cpu_rmsnorm_forward(const cov_place *p, void *y, float *rstd, void *x, const void *r, float *stream,
                             const float *g, int64_t R, int64_t D, float eps);
int covi_cpu_rmsnorm_backward(const cov_place *p, void *dx, float *stream, float *dg, const void *dy, const void *x,
                              const float *g, const float *rstd, int64_t R, int64_t D);
int covi_cpu_rope(const cov_place *p, void *x, const float *table, int64_t B, int64_t T, int64_t heads, int64_t E,
                  int64_t ld, int sign);
int covi_cpu_attention_forward(const cov_place *p, void *out, float *lse, const void *q, const void *k, const void *v,
                               int64_t B, int64_t T, int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk,
                               int64_t ldv);
int covi_cpu_attention_backward(const cov_place *p, void *dq, void *dk, void *dv, const void *dout, const void *q,
                                const void *k, const void *v, const void *out, const float *lse, int64_t B, int64_t T,
                                int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk, int64_t ldv);
int64_t covi_cpu_attention_scratch_bytes(int threads, int64_t T, int64_t D, int64_t E);
int covi_cpu_swiglu_forward(const cov_place *p, void *y, const void *gate, const void *up, int64_t n);
int covi_cpu_swiglu_backward(const cov_place *p, void *dgate, void *dup, void *y, const void *dy, const void *gate,
                             const void *up, int64_t n);
int covi_cpu_cross_entropy(const cov_place *p, void *dlogits, float *logits, const int32_t *targets, int64_t R,
                           int64_t V, float grad_scale, double *loss_sum, int64_t *count);
int covi_cpu_add(const cov_place *p, void *y, const void *x, int64_t n);
int covi_cpu_sum_squares(const cov_place *p, const float *x, int64_t n, double *sum);
int covi_cpu_adamw(const cov_place *p, float *w, float *m, float *v, const float *g, int64_t n, float lr, float b1,
                   float b2, float eps, float decay, float grad_scale, int64_t step);
int covi_cpu_momentum(const cov_place *p, float *m, float *g, int64_t n, float beta, int nesterov, float grad_scale);
int covi_cpu_blend(const cov_place *p, float *y, const float *x, int64_t n, float keep, float rate);

#endif
