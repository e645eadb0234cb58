/* Linear maps with prepared weights. With oneDNN both uses of a weight matrix read a packed copy, so that no product
 * has to pack it again, and bf16 is possible; without it f32 products read the matrix itself. */
#include <stddef.h>

#include "cpu/cpu.h"
#include "cpu/jobs.h"
#include "place.h"

static int sizes_ok(const cov_place *p, int64_t R, int64_t n, int64_t k) {
  return covi_place_ok(p) && R >= 0 && n >= 1 && k >= 1;
}

const char *covi_bf16_avoided(int has_amx, int is_intel) {
  if (has_amx || !is_intel) return NULL;
  return "this processor multiplies bf16 slower than fp32 without AMX, which it lacks or which is hidden (by the "
         "system or ONEDNN_MAX_CPU_ISA; train.dtype=bf16 takes it all the same)";
}

#if defined(COVENANT_HAVE_ONEDNN)

/* The matrix that a use multiplies by, B[rows, cols], is W^T for y = x W^T and W for dx = dy W. */
static covi_job_shape packing_of(const cov_place *p, cov_linear_use use, int64_t n, int64_t k) {
  const int forward = use == COV_LINEAR_FORWARD;
  return (covi_job_shape){.kind = COVI_PACKING,
                          .in = p->dtype,
                          .out = p->dtype,
                          .k = forward ? k : n,
                          .n = forward ? n : k,
                          .b_row = forward ? 1 : k,
                          .b_col = forward ? k : 1,
                          .threads = p->threads};
}

static covi_job_shape product_of(const cov_place *p, int64_t m, int64_t n, int64_t k, int64_t a_row, int64_t c_row) {
  return (covi_job_shape){.in = p->dtype,
                          .out = p->dtype,
                          .m = m,
                          .n = n,
                          .k = k,
                          .a_row = a_row,
                          .a_col = 1,
                          .packed_b = 1,
                          .c_row = c_row,
                          .threads = p->threads};
}

static covi_job_shape forward_of(const cov_place *p, int64_t ldy, cov_dtype y_dtype, int64_t ldx, int64_t R, int64_t n,
                                 int64_t k) {
  covi_job_shape s = product_of(p, R, n, k, ldx, ldy);
  s.out = y_dtype;
  return s;
}

static covi_job_shape input_gradient_of(const cov_place *p, int64_t lddx, int add, int64_t lddy, int64_t R, int64_t n,
                                        int64_t k) {
  covi_job_shape s = product_of(p, R, k, n, lddy, lddx);
  s.add = add;
  return s;
}

/* dW[n, k] += dy^T[n, R] x[R, k]: nothing is packed beforehand, since each matrix is used once. */
static covi_job_shape weight_gradient_of(const cov_place *p, int64_t lddy, int64_t ldx, int64_t R, int64_t n,
                                         int64_t k) {
  return (covi_job_shape){.in = p->dtype,
                          .out = COV_F32,
                          .m = n,
                          .n = k,
                          .k = R,
                          .a_row = 1,
                          .a_col = lddy,
                          .b_row = ldx,
                          .b_col = 1,
                          .c_row = k,
                          .add = 1,
                          .threads = p->threads};
}

static int run(const cov_place *p, const covi_job_shape *shape, const void *a, const void *b, void *c) {
  covi_job *job = covi_jobs_take(shape, p->scratch ? p->scratch_bytes : 0);
  if (!job) return -1;
  int failed = covi_job_run(job, a, b, c, p->scratch);
  covi_jobs_give(job);
  return failed;
}

int64_t covi_cpu_linear_bytes(const cov_place *p, cov_linear_use use, int64_t n, int64_t k) {
  if (!sizes_ok(p, 0, n, k)) return -1;
  const covi_job_shape s = packing_of(p, use, n, k);
  covi_job *job = covi_jobs_take(&s, 0);
  if (!job) return -1;
  int64_t bytes = (covi_job_packed_bytes(job) + 63) / 64 * 64;
  covi_jobs_give(job);
  return bytes;
}

int covi_cpu_linear_prepare(const cov_place *p, cov_linear_use use, void *prepared, const float *w, int64_t n,
                            int64_t k) {
  if (!sizes_ok(p, 0, n, k)) return -1;
  const covi_job_shape s = packing_of(p, use, n, k);
  return run(p, &s, NULL, w, prepared);
}

int covi_cpu_linear_forward(const cov_place *p, void *y, int64_t ldy, cov_dtype y_dtype, const void *x, int64_t ldx,
                            const void *prepared, int64_t R, int64_t n, int64_t k) {
  if (!sizes_ok(p, R, n, k) || ldy < n || ldx < k || (y_dtype != p->dtype && y_dtype != COV_F32)) return -1;
  if (R == 0) return 0;
  const covi_job_shape s = forward_of(p, ldy, y_dtype, ldx, R, n, k);
  return run(p, &s, x, prepared, y);
}

int covi_cpu_linear_input_gradient(const cov_place *p, void *dx, int64_t lddx, int add, const void *dy, int64_t lddy,
                                   const void *prepared, int64_t R, int64_t n, int64_t k) {
  if (!sizes_ok(p, R, n, k) || lddx < k || lddy < n) return -1;
  if (R == 0) return 0;
  const covi_job_shape s = input_gradient_of(p, lddx, add != 0, lddy, R, n, k);
  return run(p, &s, dy, prepared, dx);
}

int covi_cpu_linear_weight_gradient(const cov_place *p, float *dw, const void *dy, int64_t lddy, const void *x,
                                    int64_t ldx, int64_t R, int64_t n, int64_t k) {
  if (!sizes_ok(p, R, n, k) || ldx < k || lddy < n) return -1;
  if (R == 0) return 0;
  /* dnnl_sgemm is ahead of the matmul primitive in this form (README.md), and needs no scratch of ours. */
  if (p->dtype == COV_F32) return covi_cpu_matmul(p, 1, 0, n, k, R, 1.0f, dy, lddy, x, ldx, 1.0f, dw, k);
  const covi_job_shape s = weight_gradient_of(p, lddy, ldx, R, n, k);
  return run(p, &s, dy, x, dw);
}

/* Makes the job, so that the first step finds it. */
static int need(const covi_job_shape *shape, int64_t *most) {
  covi_job *job = covi_jobs_take(shape, INT64_MAX);
  if (!job) return -1;
  if (covi_job_scratch_bytes(job) > *most) *most = covi_job_scratch_bytes(job);
  covi_jobs_give(job);
  return 0;
}

int64_t covi_cpu_linear_scratch_bytes(const cov_place *p, cov_dtype y_dtype, int with_gradient, int64_t R, int64_t n,
                                      int64_t k) {
  int64_t most = 0;
  if (!sizes_ok(p, R, n, k)) return -1;
  if (R == 0) return 0;
  covi_job_shape s[6] = {packing_of(p, COV_LINEAR_FORWARD, n, k),        forward_of(p, n, y_dtype, k, R, n, k),
                         packing_of(p, COV_LINEAR_INPUT_GRADIENT, n, k), input_gradient_of(p, k, 0, n, R, n, k),
                         input_gradient_of(p, k, 1, n, R, n, k),         weight_gradient_of(p, n, k, R, n, k)};
  const int used = !with_gradient ? 2 : p->dtype == COV_F32 ? 5 : 6;
  for (int i = 0; i < used; i++) {
    if (need(&s[i], &most) != 0) return -1;
  }
  return most;
}

const char *cov_ops_cpu_refuses(cov_dtype dtype) {
  if (dtype == COV_F32 || covi_onednn_has_bf16()) return NULL;
  return "this processor has neither AVX512-BF16 nor AMX (or ONEDNN_MAX_CPU_ISA hides them)";
}

const char *cov_ops_cpu_avoids(cov_dtype dtype) {
  const char *why = cov_ops_cpu_refuses(dtype);
  if (why || dtype == COV_F32) return why;
  int is_intel = 0;
#if defined(__x86_64__) || defined(__i386__)
  is_intel = __builtin_cpu_is("intel") != 0;
#endif
  return covi_bf16_avoided(covi_onednn_has_amx(), is_intel);
}

#else

int64_t covi_cpu_linear_bytes(const cov_place *p, cov_linear_use use, int64_t n, int64_t k) {
  (void)use;
  return sizes_ok(p, 0, n, k) && p->dtype == COV_F32 ? 0 : -1;
}

int covi_cpu_linear_prepare(const cov_place *p, cov_linear_use use, void *prepared, const float *w, int64_t n,
                            int64_t k) {
  (void)use;
  (void)prepared;
  (void)w;
  return sizes_ok(p, 0, n, k) && p->dtype == COV_F32 ? 0 : -1;
}

int covi_cpu_linear_forward(const cov_place *p, void *y, int64_t ldy, cov_dtype y_dtype, const void *x, int64_t ldx,
                            const void *prepared, int64_t R, int64_t n, int64_t k) {
  if (!sizes_ok(p, R, n, k) || p->dtype != COV_F32 || y_dtype != COV_F32) return -1;
  return covi_cpu_matmul(p, 0, 1, R, n, k, 1.0f, x, ldx, prepared, k, 0.0f, y, ldy);
}

int covi_cpu_linear_input_gradient(const cov_place *p, void *dx, int64_t lddx, int add, const void *dy, int64_t lddy,
                                   const void *prepared, int64_t R, int64_t n, int64_t k) {
  if (!sizes_ok(p, R, n, k) || p->dtype != COV_F32) return -1;
  return covi_cpu_matmul(p, 0, 0, R, k, n, 1.0f, dy, lddy, prepared, k, add ? 1.0f : 0.0f, dx, lddx);
}

int covi_cpu_linear_weight_gradient(const cov_place *p, float *dw, const void *dy, int64_t lddy, const void *x,
                                    int64_t ldx, int64_t R, int64_t n, int64_t k) {
  if (!sizes_ok(p, R, n, k) || p->dtype != COV_F32) return -1;
  return covi_cpu_matmul(p, 1, 0, n, k, R, 1.0f, dy, lddy, x, ldx, 1.0f, dw, k);
}

int64_t covi_cpu_linear_scratch_bytes(const cov_place *p, cov_dtype y_dtype, int with_gradient, int64_t R, int64_t n,
                                      int64_t k) {
  (void)y_dtype;
  (void)with_gradient;
  return sizes_ok(p, R, n, k) && p->dtype == COV_F32 ? 0 : -1;
}

const char *cov_ops_cpu_refuses(cov_dtype dtype) {
  return dtype == COV_F32 ? NULL : "this build has no oneDNN, which multiplies bf16 here";
}

const char *cov_ops_cpu_avoids(cov_dtype dtype) {
  return cov_ops_cpu_refuses(dtype);
}
#endif
