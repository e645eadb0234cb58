#include "optim/clip.h"

#include <math.h>

/* The squares of finite floats cannot overflow a double, so the sum is finite exactly if every element is. */
cov_status cov_sum_squares(const cov_params *params, const cov_ops *ops, const cov_place *place, const float *x,
                           double *sum, int *bad) {
  *sum = 0.0;
  for (*bad = 0; *bad < params->n; ++*bad) {
    const cov_param *t = &params->item[*bad];
    double squares = 0.0;
    if (ops->sum_squares(place, x + t->offset, t->elems, &squares) != 0) {
      return COV_FAIL(COV_EBUG, "%s: sum_squares refused %s (%lld elements)", ops->name, t->name, (long long)t->elems);
    }
    *sum += squares;
    if (!isfinite(squares)) break;
  }
  return COV_OK;
}

cov_status cov_grad_verify(const cov_params *params, int bad) {
  if (bad >= params->n) return COV_OK;
  return COV_FAIL(COV_ENUMERIC,
                  "the gradient of %s is not finite (it is the first in the table that is not); the loss diverged or "
                  "the data is damaged: lower the learning rate, or resume from the last checkpoint",
                  params->item[bad].name);
}

cov_status cov_grad_norm(const cov_params *params, const cov_ops *ops, const cov_place *place, const float *grad,
                         double *norm) {
  double sum;
  int bad;
  COV_TRY(cov_sum_squares(params, ops, place, grad, &sum, &bad));
  *norm = sqrt(sum);
  return cov_grad_verify(params, bad);
}

double cov_clip_factor(double norm, double max_norm) {
  if (max_norm <= 0.0) return 1.0;
  double factor = max_norm / (norm + 1e-6);
  return factor < 1.0 ? factor : 1.0;
}

cov_status cov_loss_judge(const cov_params *params, double loss, int64_t step, double sum, int bad) {
  if (isfinite(loss)) return COV_OK;
  if (bad < params->n) {
    return COV_FAIL(COV_ENUMERIC,
                    "the loss of step %lld is %g: the weights of %s are not finite (first in the table); resume from "
                    "the last checkpoint with a lower learning rate",
                    (long long)step, loss, params->item[bad].name);
  }
  return COV_FAIL(COV_ENUMERIC,
                  "the loss of step %lld is %g though every weight is finite (norm %g): the activations overflowed; "
                  "lower the learning rate, or resume from the last checkpoint",
                  (long long)step, loss, sqrt(sum));
}

cov_status cov_loss_verify(const cov_params *params, const cov_ops *ops, const cov_place *place, const float *theta,
                           double loss, int64_t step) {
  if (isfinite(loss)) return COV_OK;
  double sum;
  int bad;
  COV_TRY(cov_sum_squares(params, ops, place, theta, &sum, &bad));
  return cov_loss_judge(params, loss, step, sum, bad);
}
