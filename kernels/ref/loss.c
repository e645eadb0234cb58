/* Softmax cross-entropy with its gradient. */
#include <math.h>

#include "place.h"
#include "ref/elem.h"
#include "ref/ref.h"

/* Element `at` of dx is the first of the row; dx may be x. */
static double row_loss(cov_dtype dtype, void *dx, int64_t at, const float *x, int64_t V, int32_t target,
                       double grad_scale) {
  double top = -INFINITY, sum = 0;
  for (int64_t j = 0; j < V; j++) top = fmax(top, (double)x[j]);
  for (int64_t j = 0; j < V; j++) sum += exp((double)x[j] - top);
  double loss = top + log(sum) - (double)x[target];
  for (int64_t j = 0; dx && j < V; j++) {
    double p = exp((double)x[j] - top) / sum;
    put(dtype, dx, at + j, grad_scale * (j == target ? p - 1 : p));
  }
  return loss;
}

int covi_ref_cross_entropy(const cov_place *p, void *dlogits, float *logits, const int32_t *targets, int64_t R,
                           int64_t V, float grad_scale, double *loss_sum, int64_t *count) {
  if (!covi_place_ok(p)) return -1;
  for (int64_t r = 0; r < R; r++) {
    if (targets[r] >= V) return -1;
  }
  for (int64_t r = 0; r < R; r++) {
    if (targets[r] >= 0) {
      *loss_sum += row_loss(p->dtype, dlogits, r * V, logits + r * V, V, targets[r], (double)grad_scale);
      *count += 1;
    } else {
      for (int64_t j = 0; dlogits && j < V; j++) put(p->dtype, dlogits, r * V + j, 0);
    }
  }
  return 0;
}
