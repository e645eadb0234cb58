/* The table of operations that a model is written against. One table per implementation:
 *   ref   plain C, sums in double: obviously right, never fast; the oracle of every test
 *   cpu   the fast CPU path: matrix products through oneDNN or BLAS, the rest vectorised
 *   cuda  later, behind the same table
 *
 * Shape letters: B sequences, T positions, R = B*T rows, D model width, H query heads, K key/value heads
 * (H % K == 0), E head width, F feed-forward width, V vocabulary.
 * All matrices are row-major and dense unless a leading dimension is given. Pointers are in the memory space of the
 * place and borrowed for the call. `void *` points to elements of the place's dtype (activations and their gradients,
 * the residual stream included), `float *` to f32 whatever the dtype (weights of norms and of the embedding, gradients
 * of weights, statistics, logits, moments). In bf16 every operation computes in f32 at least and rounds what it stores
 * to nearest even. Outputs are overwritten, except where "+=" is written. No operation allocates, reads configuration
 * or knows MPI.
 * Work is queued on the place's stream (NULL on the CPU: done on return). Every operation returns 0, or -1 if it
 * could not run (an unsupported dtype or space, a library error). */
#ifndef COVENANT_KERNELS_OPS_H
#define COVENANT_KERNELS_OPS_H

#include <stdint.h>

#include "types.h"

typedef struct {
  cov_space space;       /* of every pointer passed */
  cov_dtype dtype;       /* of activations and of the weights as used: whatever is void * below */
  void *stream;          /* cudaStream_t, or NULL on the CPU */
  int threads;           /* >= 1; CPU implementations use at most this many */
  void *scratch;         /* caller's, at least scratch_bytes(); used within a call only */
  int64_t scratch_bytes; /* of it, for the linear maps: 0 where a library may keep scratch of its own instead */
} cov_place;

/* Which of its two products a prepared copy of W is for. */
typedef enum { COV_LINEAR_FORWARD, COV_LINEAR_INPUT_GRADIENT } cov_linear_use;

typedef struct {
  const char *name;

  /** C[m,n] = alpha * op(A)[m,k] * op(B)[k,n] + beta * C; op = transpose if ta / tb. lda, ldb, ldc: row lengths.
   *  f32 only. */
  int (*matmul)(const cov_place *p, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const void *a,
                int64_t lda, const void *b, int64_t ldb, float beta, void *c, int64_t ldc);

  /* Linear maps y[R,n] = x[R,k] W[n,k]^T. W is f32; the products read a *prepared* copy of it, in the dtype of the
   * place and the layout that the library below likes: one for each use, made again whenever W changes. Where
   * linear_bytes is 0 they read W itself, which is then passed in place of a copy. A copy belongs to the place (space,
   * dtype, threads) it was made for. Sums are f32. A library makes the code of a product at the first call with its
   * sizes and keeps it. */

  /** Bytes of the copy for `use`, a multiple of 64, at any number of rows; 0: none; -1: this cannot run. */
  int64_t (*linear_bytes)(const cov_place *p, cov_linear_use use, int64_t n, int64_t k);
  /** prepared[linear_bytes] (64-byte aligned) from w[n,k]; nothing to do where linear_bytes is 0. */
  int (*linear_prepare)(const cov_place *p, cov_linear_use use, void *prepared, const float *w, int64_t n, int64_t k);
  /** y = x W^T. y_dtype: the place's, or f32. ldy, ldx: row lengths. */
  int (*linear_forward)(const cov_place *p, void *y, int64_t ldy, cov_dtype y_dtype, const void *x, int64_t ldx,
                        const void *prepared, int64_t R, int64_t n, int64_t k);
  /** dx[R,k] = dy[R,n] W, or += if `add`. */
  int (*linear_input_gradient)(const cov_place *p, void *dx, int64_t lddx, int add, const void *dy, int64_t lddy,
                               const void *prepared, int64_t R, int64_t n, int64_t k);
  /** dw[n,k] (f32) += dy[R,n]^T x[R,k]. */
  int (*linear_weight_gradient)(const cov_place *p, float *dw, const void *dy, int64_t lddy, const void *x, int64_t ldx,
                                int64_t R, int64_t n, int64_t k);
  /** Bytes of scratch that a map of these sizes needs, with dense rows; makes the code of its products, so that a loop
   *  which runs them later allocates nothing. with_gradient 0: forward only. -1: this cannot run. */
  int64_t (*linear_scratch_bytes)(const cov_place *p, cov_dtype y_dtype, int with_gradient, int64_t R, int64_t n,
                                  int64_t k);

  /** x[R,D] = table[ids[r], :]. ids in [0, V). */
  int (*embed_forward)(const cov_place *p, void *x, const int32_t *ids, const float *table, int64_t R, int64_t D);
  /** dtable[ids[r], :] += dx[r, :], rows in ascending r, so that the sum is reproducible. */
  int (*embed_backward)(const cov_place *p, float *dtable, const int32_t *ids, const void *dx, int64_t R, int64_t D);

  /** x += r, unless r is NULL: the residual addition in the same sweep. Then y = x * rstd * g, where rstd[R] =
   *  1/sqrt(mean(x^2) + eps) is kept for the backward pass. With `stream`[R,D] the sum is kept there in f32, which
   *  small branches need in bf16: stream += r, x = stream rounded (x may be r). */
  int (*rmsnorm_forward)(const cov_place *p, void *y, float *rstd, void *x, const void *r, float *stream,
                         const float *g, int64_t R, int64_t D, float eps);
  /** dx += gradient to x (dx comes with the gradient of the residual stream); dg[D] += gradient to g. With `stream`
   *  likewise: stream += gradient to x, dx = stream rounded. */
  int (*rmsnorm_backward)(const cov_place *p, void *dx, float *stream, float *dg, const void *dy, const void *x,
                          const float *g, const float *rstd, int64_t R, int64_t D);

  /** Rotate pairs (2i, 2i+1) of each head of x[B,T,heads,E] (row length ld) in place by position t:
   *  angle = t * theta^(-2i/E). `table` is [T, E/2, 2] = cos, sin, filled by cov_rope_table. sign = +1 forward,
   *  -1 backward (the inverse rotation is the gradient). */
  int (*rope)(const cov_place *p, void *x, const float *table, int64_t B, int64_t T, int64_t heads, int64_t E,
              int64_t ld, int sign);

  /** Causal attention with scale E^-1/2. q[B,T,H,E], k, v[B,T,K,E] (row lengths ldq, ldk, ldv; head h reads key/value
   *  head h / (H/K)), out[B,T,H,E] dense. lse[B,H,T] = log-sum-exp of the scaled scores, kept for backward. */
  int (*attention_forward)(const cov_place *p, void *out, float *lse, const void *q, const void *k, const void *v,
                           int64_t B, int64_t T, int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk,
                           int64_t ldv);
  /** dq, dk, dv are overwritten (row lengths ldq, ldk, ldv). out and lse as written by the forward pass. */
  int (*attention_backward)(const cov_place *p, void *dq, void *dk, void *dv, const void *dout, const void *q,
                            const void *k, const void *v, const void *out, const float *lse, int64_t B, int64_t T,
                            int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk, int64_t ldv);

  /** y[R,F] = silu(gate) * up, silu(z) = z / (1 + exp(-z)). */
  int (*swiglu_forward)(const cov_place *p, void *y, const void *gate, const void *up, int64_t n);
  /** dgate, dup from dy; and y again, the bits of the forward pass, so that nobody has to keep it. dgate may be the
   * same buffer as gate, dup as up, y as dy. */
  int (*swiglu_backward)(const cov_place *p, void *dgate, void *dup, void *y, const void *dy, const void *gate,
                         const void *up, int64_t n);

  /** Softmax cross-entropy of logits[R,V]. dlogits[R,V] = gradient times grad_scale; NULL: the loss only. In f32
   *  dlogits may be the buffer of the logits; otherwise what that holds afterwards is undefined. targets[r] < 0:
   * ignored (zero gradient, no loss). *loss_sum (host) += sum of nats over counted rows; *count += counted rows. */
  int (*cross_entropy)(const cov_place *p, void *dlogits, float *logits, const int32_t *targets, int64_t R, int64_t V,
                       float grad_scale, double *loss_sum, int64_t *count);

  /** y += x. */
  int (*add)(const cov_place *p, void *y, const void *x, int64_t n);
  /** *sum (host) = sum of x^2 in a fixed order. */
  int (*sum_squares)(const cov_place *p, const float *x, int64_t n, double *sum);

  /** Decoupled AdamW, torch order: w -= lr*decay*w; m = b1 m + (1-b1) g'; v = b2 v + (1-b2) g'^2;
   *  w -= lr * (m / c1) / (sqrt(v / c2) + eps), with g' = grad_scale * g, c1 = 1 - b1^step, c2 = 1 - b2^step. */
  int (*adamw)(const cov_place *p, float *w, float *m, float *v, const float *g, int64_t n, float lr, float b1,
               float b2, float eps, float decay, float grad_scale, int64_t step);
  /** Momentum of Muon on f32 arrays, torch order: with g' = grad_scale * g, m += (1 - beta) (g' - m); then g becomes
   *  g' + beta (m - g') with nesterov, else m. */
  int (*momentum)(const cov_place *p, float *m, float *g, int64_t n, float beta, int nesterov, float grad_scale);
  /** y = keep * y + rate * x on f32 arrays; x may be NULL: y = keep * y. */
  int (*blend)(const cov_place *p, float *y, const float *x, int64_t n, float keep, float rate);

  /** Bytes of scratch that any operation may need at these sizes (0 is fine). */
  int64_t (*scratch_bytes)(int threads, int64_t T, int64_t D, int64_t E);
} cov_ops;

/** The oracle. */
const cov_ops *cov_ops_ref(void);
/** The fast CPU table; chooses vector width at run time. */
const cov_ops *cov_ops_cpu(void);
/** NULL if cov_ops_cpu runs in `dtype` here; else the reason, as part of a message. */
const char *cov_ops_cpu_refuses(cov_dtype dtype);
/** NULL if it runs in `dtype` here and that is faster than f32 (or is f32); else the reason, likewise. */
const char *cov_ops_cpu_avoids(cov_dtype dtype);
/** What matrix products of cov_ops_cpu run on: "oneDNN 2.6.0", "BLAS (OpenBLAS …)", "plain loops". */
const char *cov_ops_cpu_matmul_name(void);

/** table[T, E/2, 2] (host f32) = cos, sin of t * theta^(-2i/E), computed in double. */
void cov_rope_table(float *table, int64_t T, int64_t E, double theta);

#endif
