/* RMSNorm and rotary positions. */
#include <math.h>

#include "place.h"
#include "ref/elem.h"
#include "ref/ref.h"

int covi_ref_rmsnorm_forward(const cov_place *p, void *y, float *rstd, void *x, const void *r, float *stream,
                             const float *g, int64_t R, int64_t D, float eps) {
  if (!covi_place_ok(p)) return -1;
  for (int64_t i = 0; r && i < R * D; i++) {
    double sum = (stream ? (double)stream[i] : get(p->dtype, x, i)) + get(p->dtype, r, i);
    if (stream) stream[i] = (float)sum;
    put(p->dtype, x, i, stream ? (double)stream[i] : sum);
  }
  for (int64_t row = 0; row < R; row++) {
    double sum = 0;
    for (int64_t i = row * D; i < (row + 1) * D; i++) sum += get(p->dtype, x, i) * get(p->dtype, x, i);
    double scale = 1.0 / sqrt(sum / (double)D + (double)eps);
    rstd[row] = (float)scale;
    for (int64_t d = 0; d < D; d++) put(p->dtype, y, row * D + d, get(p->dtype, x, row * D + d) * scale * (double)g[d]);
  }
  return 0;
}

/* With s = rstd: y_d = x_d s g_d and ds/dx_d = -s^3 x_d / D, so
 *   dx_d = s g_d dy_d - x_d (s^3 / D) sum_e dy_e g_e x_e,    dg_d = sum_r dy_d x_d s. */
int covi_ref_rmsnorm_backward(const cov_place *p, void *dx, float *stream, float *dg, const void *dy, const void *x,
                              const float *g, const float *rstd, int64_t R, int64_t D) {
  if (!covi_place_ok(p)) return -1;
  for (int64_t d = 0; d < D; d++) {
    double sum = 0;
    for (int64_t r = 0; r < R; r++) {
      sum += get(p->dtype, dy, r * D + d) * get(p->dtype, x, r * D + d) * (double)rstd[r];
    }
    dg[d] = (float)((double)dg[d] + sum);
  }
  for (int64_t r = 0; r < R; r++) {
    double s = rstd[r], dot = 0;
    for (int64_t d = 0; d < D; d++) dot += get(p->dtype, dy, r * D + d) * (double)g[d] * get(p->dtype, x, r * D + d);
    for (int64_t i = r * D; i < (r + 1) * D; i++) {
      double own = s * (double)g[i - r * D] * get(p->dtype, dy, i);
      double shared = get(p->dtype, x, i) * s * s * s / (double)D * dot;
      double sum = (stream ? (double)stream[i] : get(p->dtype, dx, i)) + own - shared;
      if (stream) stream[i] = (float)sum;
      put(p->dtype, dx, i, stream ? (double)stream[i] : sum);
    }
  }
  return 0;
}

int covi_ref_rope(const cov_place *p, void *x, const float *table, int64_t B, int64_t T, int64_t heads, int64_t E,
                  int64_t ld, int sign) {
  if (!covi_place_ok(p) || E % 2 != 0 || ld < heads * E || (sign != 1 && sign != -1)) return -1;
  for (int64_t row = 0; row < B * T; row++) {
    const float *turn = table + row % T * E;
    for (int64_t i = 0; i < heads * E; i += 2) {
      int64_t at = row * ld + i;
      double c = turn[i % E], s = sign * (double)turn[i % E + 1];
      double u = get(p->dtype, x, at), v = get(p->dtype, x, at + 1);
      put(p->dtype, x, at, u * c - v * s);
      put(p->dtype, x, at + 1, u * s + v * c);
    }
  }
  return 0;
}
