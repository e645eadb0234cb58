/* RMSNorm and rotary positions. */
#include <math.h>

#include "place.h"
#include "ref/ref.h"

int covi_ref_rmsnorm_forward(const cov_place *p, void *y, float *rstd, const void *x, const void *g, int64_t R,
                             int64_t D, float eps) {
  if (!covi_place_ok(p)) return -1;
  const float *fg = g;
  for (int64_t r = 0; r < R; r++) {
    const float *row = (const float *)x + r * D;
    double sum = 0;
    for (int64_t d = 0; d < D; d++) sum += (double)row[d] * (double)row[d];
    double scale = 1.0 / sqrt(sum / (double)D + (double)eps);
    rstd[r] = (float)scale;
    for (int64_t d = 0; d < D; d++) ((float *)y)[r * D + d] = (float)((double)row[d] * scale * (double)fg[d]);
  }
  return 0;
}

/* With s = rstd: y_d = x_d s g_d and ds/dx_d = -s^3 x_d / D, so
 *   dx_d = s g_d dy_d - x_d (s^3 / D) sum_e dy_e g_e x_e,    dg_d = sum_r dy_d x_d s. */
int covi_ref_rmsnorm_backward(const cov_place *p, void *dx, float *dg, const void *dy, const void *x, const void *g,
                              const float *rstd, int64_t R, int64_t D) {
  if (!covi_place_ok(p)) return -1;
  const float *fx = x, *fy = dy, *fg = g;
  float *out = dx;
  for (int64_t d = 0; d < D; d++) {
    double sum = 0;
    for (int64_t r = 0; r < R; r++) sum += (double)fy[r * D + d] * (double)fx[r * D + d] * (double)rstd[r];
    dg[d] = (float)((double)dg[d] + sum);
  }
  for (int64_t r = 0; r < R; r++) {
    double s = rstd[r], dot = 0;
    for (int64_t d = 0; d < D; d++) dot += (double)fy[r * D + d] * (double)fg[d] * (double)fx[r * D + d];
    for (int64_t d = 0; d < D; d++) {
      double own = s * (double)fg[d] * (double)fy[r * D + d];
      double shared = (double)fx[r * D + d] * s * s * s / (double)D * dot;
      out[r * D + d] = (float)((double)out[r * D + d] + own - shared);
    }
  }
  return 0;
}

int covi_ref_rope(const cov_place *p, void *x, const float *table, int64_t B, int64_t T, int64_t heads, int64_t E,
                  int64_t ld, int sign) {
  if (!covi_place_ok(p) || E % 2 != 0 || ld < heads * E || (sign != 1 && sign != -1)) return -1;
  for (int64_t row = 0; row < B * T; row++) {
    const float *turn = table + row % T * E;
    for (int64_t h = 0; h < heads; h++) {
      float *pair = (float *)x + row * ld + h * E;
      for (int64_t i = 0; i < E; i += 2) {
        double c = turn[i], s = sign * (double)turn[i + 1], u = pair[i], v = pair[i + 1];
        pair[i] = (float)(u * c - v * s);
        pair[i + 1] = (float)(u * s + v * c);
      }
    }
  }
  return 0;
}
