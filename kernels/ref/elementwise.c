/* SwiGLU, addition, the sum of squares, and the element-wise parts of AdamW and Muon. */
#include <math.h>

#include "place.h"
#include "ref/elem.h"
#include "ref/ref.h"

int covi_ref_swiglu_forward(const cov_place *p, void *y, const void *gate, const void *up, int64_t n) {
  if (!covi_place_ok(p)) return -1;
  for (int64_t i = 0; i < n; i++) {
    double z = get(p->dtype, gate, i), u = get(p->dtype, up, i);
    put(p->dtype, y, i, z / (1 + exp(-z)) * u);
  }
  return 0;
}

/* silu'(z) = s + z s (1 - s) with s = 1 / (1 + exp(-z)). */
int covi_ref_swiglu_backward(const cov_place *p, void *dgate, void *dup, void *y, const void *dy, const void *gate,
                             const void *up, int64_t n) {
  if (!covi_place_ok(p)) return -1;
  for (int64_t i = 0; i < n; i++) {
    double z = get(p->dtype, gate, i), u = get(p->dtype, up, i), d = get(p->dtype, dy, i);
    double s = 1 / (1 + exp(-z));
    put(p->dtype, dgate, i, d * u * (s + z * s * (1 - s)));
    put(p->dtype, dup, i, d * z * s);
    put(p->dtype, y, i, z / (1 + exp(-z)) * u);
  }
  return 0;
}

int covi_ref_add(const cov_place *p, void *y, const void *x, int64_t n) {
  if (!covi_place_ok(p)) return -1;
  for (int64_t i = 0; i < n; i++) put(p->dtype, y, i, get(p->dtype, y, i) + get(p->dtype, x, i));
  return 0;
}

int covi_ref_sum_squares(const cov_place *p, const float *x, int64_t n, double *sum) {
  if (!covi_place_ok(p)) return -1;
  double total = 0;
  for (int64_t i = 0; i < n; i++) total += (double)x[i] * (double)x[i];
  *sum = total;
  return 0;
}

int covi_ref_adamw(const cov_place *p, float *w, float *m, float *v, const float *g, int64_t n, float lr, float b1,
                   float b2, float eps, float decay, float grad_scale, int64_t step) {
  if (!covi_place_ok(p) || step < 1) return -1;
  double c1 = 1 - pow((double)b1, (double)step), c2 = 1 - pow((double)b2, (double)step);
  for (int64_t i = 0; i < n; i++) {
    double grad = (double)grad_scale * (double)g[i];
    double mean = (double)b1 * (double)m[i] + (1 - (double)b1) * grad;
    double square = (double)b2 * (double)v[i] + (1 - (double)b2) * grad * grad;
    double kept = (double)w[i] - (double)lr * (double)decay * (double)w[i];
    w[i] = (float)(kept - (double)lr * (mean / c1) / (sqrt(square / c2) + (double)eps));
    m[i] = (float)mean;
    v[i] = (float)square;
  }
  return 0;
}

int covi_ref_momentum(const cov_place *p, float *m, float *g, int64_t n, float beta, int nesterov, float grad_scale) {
  if (!covi_place_ok(p)) return -1;
  for (int64_t i = 0; i < n; i++) {
    double grad = (double)grad_scale * (double)g[i];
    double mean = (double)m[i] + (1 - (double)beta) * (grad - (double)m[i]);
    m[i] = (float)mean;
    g[i] = (float)(nesterov ? grad + (double)beta * (mean - grad) : mean);
  }
  return 0;
}

int covi_ref_blend(const cov_place *p, float *y, const float *x, int64_t n, float keep, float rate) {
  if (!covi_place_ok(p)) return -1;
  for (int64_t i = 0; i < n; i++) {
    y[i] = (float)((double)keep * (double)y[i] + (x ? (double)rate * (double)x[i] : 0.0));
  }
  return 0;
}
