#include "optim/adamw.h"

#include <math.h>

#include "base/memory.h"

void cov_adamw_config_default(cov_adamw_config *config) {
  *config = (cov_adamw_config){.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .decay = 0.1, .exempt_vectors = 0};
}

static cov_status verify_config(const cov_adamw_config *c) {
  if (!(c->beta1 >= 0.0 && c->beta1 < 1.0)) return COV_FAIL(COV_EUSAGE, "AdamW: beta1 %g is not in [0, 1)", c->beta1);
  if (!(c->beta2 >= 0.0 && c->beta2 < 1.0)) return COV_FAIL(COV_EUSAGE, "AdamW: beta2 %g is not in [0, 1)", c->beta2);
  if (!(c->eps > 0.0 && c->eps <= 1.0)) return COV_FAIL(COV_EUSAGE, "AdamW: eps %g is not in (0, 1]", c->eps);
  if (!(c->decay >= 0.0 && c->decay <= 1e3)) {
    return COV_FAIL(COV_EUSAGE, "AdamW: weight decay %g is not in [0, 1000]", c->decay);
  }
  return COV_OK;
}

cov_status cov_adamw_create(const cov_adamw_config *config, int64_t span, cov_space space, cov_adamw *adamw) {
  *adamw = (cov_adamw){.config = *config, .span = span};
  void *m = NULL, *v = NULL;
  COV_TRY(verify_config(config));
  if (span < 0) return COV_FAIL(COV_EUSAGE, "AdamW: a space of %lld elements", (long long)span);
  COV_TRY(cov_mem_array(space, COV_MEM_MOMENTS, (size_t)span, sizeof(float), &m));
  cov_status st = cov_mem_array(space, COV_MEM_MOMENTS, (size_t)span, sizeof(float), &v);
  if (st != COV_OK) {
    cov_mem_free(m);
    return st;
  }
  adamw->m = m;
  adamw->v = v;
  return COV_OK;
}

void cov_adamw_destroy(cov_adamw *adamw) {
  cov_mem_free(adamw->m);
  cov_mem_free(adamw->v);
  *adamw = (cov_adamw){0};
}

cov_status cov_adamw_step(cov_adamw *adamw, const cov_params *params, const cov_ops *ops, const cov_place *place,
                          float *theta, const float *grad, double lr, double grad_scale) {
  const cov_adamw_config *c = &adamw->config;
  if (params->span != adamw->span) {
    return COV_FAIL(COV_EBUG, "AdamW: moments of %lld elements, parameters of %lld", (long long)adamw->span,
                    (long long)params->span);
  }
  if (!(isfinite(lr) && lr >= 0.0) || !(isfinite(grad_scale) && grad_scale >= 0.0)) {
    return COV_FAIL(COV_EUSAGE, "AdamW: learning rate %g with gradient scale %g; both must be finite and not negative",
                    lr, grad_scale);
  }
  int64_t step = adamw->step + 1;
  for (int i = 0; i < params->n; i++) {
    const cov_param *t = &params->item[i];
    int decays = t->decay && !(c->exempt_vectors && t->dims == 1);
    int64_t o = t->offset;
    if (ops->adamw(place, theta + o, adamw->m + o, adamw->v + o, grad + o, t->elems, (float)lr, (float)c->beta1,
                   (float)c->beta2, (float)c->eps, decays ? (float)c->decay : 0.0f, (float)grad_scale, step) != 0) {
      return COV_FAIL(COV_EBUG, "%s: adamw refused %s (%lld elements)", ops->name, t->name, (long long)t->elems);
    }
  }
  adamw->step = step;
  return COV_OK;
}
