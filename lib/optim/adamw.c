#include "optim/adamw.h"

void cov_adamw_config_default(cov_adamw_config *config) {
  *config = (cov_adamw_config){.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .decay = 0.1, .exempt_vectors = 0};
}

cov_status cov_adamw_config_verify(const cov_adamw_config *c) {
  if (!(c->beta1 >= 0.0 && c->beta1 < 1.0)) return COV_FAIL(COV_EUSAGE, "AdamW: beta1 %g is not in [0, 1)", c->beta1);
  if (!(c->beta2 >= 0.0 && c->beta2 < 1.0)) return COV_FAIL(COV_EUSAGE, "AdamW: beta2 %g is not in [0, 1)", c->beta2);
  if (!(c->eps > 0.0 && c->eps <= 1.0)) return COV_FAIL(COV_EUSAGE, "AdamW: eps %g is not in (0, 1]", c->eps);
  if (!(c->decay >= 0.0 && c->decay <= 1e3)) {
    return COV_FAIL(COV_EUSAGE, "AdamW: weight decay %g is not in [0, 1000]", c->decay);
  }
  return COV_OK;
}

cov_status cov_adamw_step(const cov_adamw_config *c, const cov_param *t, const cov_ops *ops, const cov_place *place,
                          float *w, float *m, float *v, const float *grad, double lr, double grad_scale, int64_t step) {
  const int decays = t->decay && !(c->exempt_vectors && t->dims == 1);
  if (ops->adamw(place, w, m, v, grad, t->elems, (float)lr, (float)c->beta1, (float)c->beta2, (float)c->eps,
                 decays ? (float)c->decay : 0.0f, (float)grad_scale, step) == 0) {
    return COV_OK;
  }
  return COV_FAIL(COV_EBUG, "%s: adamw refused %s (%lld elements)", ops->name, t->name, (long long)t->elems);
}
