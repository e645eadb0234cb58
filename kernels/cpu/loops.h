/* The vectorised loops of cov_ops_cpu. Every file in cpu/isa/ is compiled once per vector width, with that width's
 * flags, those in cpu/isa/typed/ once more per element type, and the table that this machine can run is chosen at run
 * time. The loops are single-threaded pieces: the files
 * in cpu/ cut the work and hand out the pieces. */
#ifndef COVENANT_KERNELS_CPU_LOOPS_H
#define COVENANT_KERNELS_CPU_LOOPS_H

#include <stdint.h>

#include "types.h"

/** Constants of one AdamW step, made once in double. */
typedef struct {
  float b1, b2, one_minus_b1, one_minus_b2;
  float keep;      /* 1 - lr * decay */
  float step_size; /* lr / c1 */
  float inv_sqrt_c2;
  float eps, grad_scale;
} covi_adamw_step;

/** Arguments of attention, as in ops.h; only what the pass needs is set. */
typedef struct {
  int64_t B, T, H, K, E, ldq, ldk, ldv;
  const void *q, *k, *v, *dout, *out;
  const float *lse;
  void *dq, *dk, *dv;
  void *out_to; /* of the forward pass */
  float *lse_to;
} covi_attention;

/** Loops over activations; `void *` points to elements of the table's type. Sums are taken in f32. */
typedef struct {
  void (*add)(void *y, const void *x, int64_t n);
  void (*swiglu_forward)(void *y, const void *gate, const void *up, int64_t n);
  void (*swiglu_backward)(void *dgate, void *dup, void *y, const void *dy, const void *gate, const void *up, int64_t n);

  /** r and stream may be NULL (ops.h). */
  void (*rmsnorm_forward)(void *y, float *rstd, void *x, const void *r, float *stream, const float *g, int64_t rows,
                          int64_t D, float eps);
  void (*rmsnorm_backward_x)(void *dx, float *stream, const void *dy, const void *x, const float *g, const float *rstd,
                             int64_t rows, int64_t D);
  /** Columns [begin, end) of dg += sum over all rows, ascending. */
  void (*rmsnorm_backward_g)(float *dg, const void *dy, const void *x, const float *rstd, int64_t rows, int64_t D,
                             int64_t begin, int64_t end);
  /** One position: `heads` heads of E elements; turn[E/2][2] = cos, sin; sign +1 or -1. */
  void (*rope)(void *x, const float *turn, int64_t heads, int64_t E, int sign);
  /** One row with a target in [0, V): returns its loss. x is overwritten; dx (x itself if f32; NULL: only the loss) =
   *  grad_scale * (softmax - one-hot). */
  double (*cross_entropy)(void *dx, float *x, int64_t V, int32_t target, float grad_scale);

  /** All query heads of one pair (sequence, key/value head), pair in [0, B K). scratch: on a cache line, as many bytes
   *  as the functions below say; different calls may share nothing. */
  void (*attention_forward)(const covi_attention *a, int64_t pair, void *scratch);
  void (*attention_backward)(const covi_attention *a, int64_t pair, void *scratch);
  int64_t (*attention_forward_bytes)(int64_t T, int64_t E);
  int64_t (*attention_backward_bytes)(int64_t T, int64_t E);

  /** y = x, rounded. */
  void (*narrow)(void *y, const float *x, int64_t n);
  /** y += x. */
  void (*add_wide)(float *y, const void *x, int64_t n);
} covi_typed_loops;

typedef struct {
  const char *name;                 /* "avx512bf16", "avx512", "avx2", "baseline" */
  const covi_typed_loops *typed[2]; /* by cov_dtype */

  double (*sum_squares)(const float *x, int64_t n);
  void (*adamw)(float *w, float *m, float *v, const float *g, int64_t n, const covi_adamw_step *s);
  void (*momentum)(float *m, float *g, int64_t n, float beta, int nesterov, float grad_scale);
  void (*blend)(float *y, const float *x, int64_t n, float keep, float rate);

  void (*scale)(float *x, int64_t n, float factor);
  /** y = exp(x); the exponential that all of these share (isa/exp.h), for its own test. */
  void (*exp)(float *y, const float *x, int64_t n);

  /** Row-major C[m,n] = alpha op(A) op(B) + beta C, for machines without oneDNN and BLAS. */
  void (*matmul)(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                 const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
} covi_loops;

/** The table in use: the widest that this processor runs. */
const covi_loops *covi_loops_get(void);
/** For tests and benchmarks: use the table called `name` (NULL: the widest) from now on, in all threads. Returns -1,
 *  changing nothing, if it is not in this build or this processor cannot run it. */
int covi_loops_choose(const char *name);

#endif
