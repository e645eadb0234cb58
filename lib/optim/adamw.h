/* AdamW (protocol 2.1): decoupled weight decay, bias-corrected moments. All functions are Local. */
#ifndef COVENANT_OPTIM_ADAMW_H
#define COVENANT_OPTIM_ADAMW_H

#include <stdint.h>

#include "base/status.h"
#include "model/params.h"
#include "ops.h"

typedef struct {
  double beta1;       /* in [0, 1) */
  double beta2;       /* in [0, 1) */
  double eps;         /* > 0 */
  double decay;       /* weight decay, >= 0; on tensors whose row in the table has decay = 1 */
  int exempt_vectors; /* 1: no decay on one-dimensional tensors. 0 (protocol): decay on every tensor */
} cov_adamw_config;

/** beta 0.9 and 0.95, eps 1e-8, decay 0.1 on everything. */
void cov_adamw_config_default(cov_adamw_config *config);
/** COV_EUSAGE names the setting, its value and what it must be. */
cov_status cov_adamw_config_verify(const cov_adamw_config *config);

/** Step number `step` (>= 1) of one tensor: w and the moments m, v (all as the tensor) move; grad is read, scaled by
 *  grad_scale (the clip factor). lr and grad_scale must be finite and not negative. */
cov_status cov_adamw_step(const cov_adamw_config *config, const cov_param *tensor, const cov_ops *ops,
                          const cov_place *place, float *w, float *m, float *v, const float *grad, double lr,
                          double grad_scale, int64_t step);

#endif
