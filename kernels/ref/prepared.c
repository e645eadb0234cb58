/* Linear maps. Prepared weights are W rounded to the dtype, in its own order; in f32 they are W itself. */
#include "place.h"
#include "ref/elem.h"
#include "ref/ref.h"

static int sizes_ok(const cov_place *p, int64_t R, int64_t n, int64_t k) {
  return covi_place_ok(p) && R >= 0 && n >= 1 && k >= 1;
}

int64_t covi_ref_linear_bytes(const cov_place *p, cov_linear_use use, int64_t n, int64_t k) {
  (void)use;
  if (!sizes_ok(p, 0, n, k)) return -1;
  return p->dtype == COV_F32 ? 0 : (n * k * 2 + 63) / 64 * 64;
}

int covi_ref_linear_prepare(const cov_place *p, cov_linear_use use, void *prepared, const float *w, int64_t n,
                            int64_t k) {
  (void)use;
  if (!sizes_ok(p, 0, n, k)) return -1;
  for (int64_t i = 0; p->dtype != COV_F32 && i < n * k; i++) put(p->dtype, prepared, i, (double)w[i]);
  return 0;
}

int covi_ref_linear_forward(const cov_place *p, void *y, int64_t ldy, cov_dtype y_dtype, const void *x, int64_t ldx,
                            const void *prepared, int64_t R, int64_t n, int64_t k) {
  if (!sizes_ok(p, R, n, k) || ldy < n || ldx < k || (y_dtype != p->dtype && y_dtype != COV_F32)) return -1;
  for (int64_t r = 0; r < R; r++) {
    for (int64_t i = 0; i < n; i++) {
      double sum = 0;
      for (int64_t j = 0; j < k; j++) sum += get(p->dtype, x, r * ldx + j) * get(p->dtype, prepared, i * k + j);
      put(y_dtype, y, r * ldy + i, sum);
    }
  }
  return 0;
}

int covi_ref_linear_input_gradient(const cov_place *p, void *dx, int64_t lddx, int add, const void *dy, int64_t lddy,
                                   const void *prepared, int64_t R, int64_t n, int64_t k) {
  if (!sizes_ok(p, R, n, k) || lddx < k || lddy < n) return -1;
  for (int64_t r = 0; r < R; r++) {
    for (int64_t j = 0; j < k; j++) {
      double sum = add ? get(p->dtype, dx, r * lddx + j) : 0;
      for (int64_t i = 0; i < n; i++) sum += get(p->dtype, dy, r * lddy + i) * get(p->dtype, prepared, i * k + j);
      put(p->dtype, dx, r * lddx + j, sum);
    }
  }
  return 0;
}

int covi_ref_linear_weight_gradient(const cov_place *p, float *dw, const void *dy, int64_t lddy, const void *x,
                                    int64_t ldx, int64_t R, int64_t n, int64_t k) {
  if (!sizes_ok(p, R, n, k) || ldx < k || lddy < n) return -1;
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < k; j++) {
      double sum = (double)dw[i * k + j];
      for (int64_t r = 0; r < R; r++) sum += get(p->dtype, dy, r * lddy + i) * get(p->dtype, x, r * ldx + j);
      dw[i * k + j] = (float)sum;
    }
  }
  return 0;
}

int64_t covi_ref_linear_scratch_bytes(const cov_place *p, cov_dtype y_dtype, int with_gradient, int64_t R, int64_t n,
                                      int64_t k) {
  (void)y_dtype;
  (void)with_gradient;
  return sizes_ok(p, R, n, k) ? 0 : -1;
}
