/* AdamW over the canonical parameter space (protocol 2.1): decoupled weight decay, bias-corrected moments, state kept
 * across outer steps. All functions are Local. */
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

typedef struct {
  cov_adamw_config config;
  float *m, *v; /* [span], owned, COV_MEM_MOMENTS, zero at first; with `step` the whole state to checkpoint */
  int64_t span; /* elements */
  int64_t step; /* steps taken */
} cov_adamw;

/** beta 0.9 and 0.95, eps 1e-8, decay 0.1 on everything. */
void cov_adamw_config_default(cov_adamw_config *config);
/** Zero moments for `span` elements in `space`. COV_EUSAGE names a setting out of range. */
cov_status cov_adamw_create(const cov_adamw_config *config, int64_t span, cov_space space, cov_adamw *adamw);
void cov_adamw_destroy(cov_adamw *adamw);

/** One step: theta[span] and the moments move, grad[span] is read, scaled by grad_scale (the clip factor). `params`
 *  must have the span of create. The padding between tensors is not touched. COV_EUSAGE: lr or grad_scale is not
 *  finite or negative (nothing has moved). */
cov_status cov_adamw_step(cov_adamw *adamw, const cov_params *params, const cov_ops *ops, const cov_place *place,
                          float *theta, const float *grad, double lr, double grad_scale);

#endif
