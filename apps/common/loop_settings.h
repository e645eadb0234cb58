/* From the run's settings to the parameters of the inner and the outer loop. Local. */
#ifndef COVENANT_COMMON_LOOP_SETTINGS_H
#define COVENANT_COMMON_LOOP_SETTINGS_H

#include "config/config.h"
#include "sparseloco/outer.h"
#include "sparseloco/strategy.h"
#include "train/inner.h"

/** What `peer` trains with; without dtype (cov_train_dtype), on_step and arg. */
void cov_inner_params_of(const cov_config *cfg, int64_t peer, cov_inner_params *out);
/** Whether the training text has the samples that a round draws: COV_EUSAGE says how many it wants. */
cov_status cov_pool_verify(const cov_config *cfg, const cov_dataset *data);
/** The operations that train.backend names. */
const cov_ops *cov_backend_ops(const cov_config *cfg);
/** What train.dtype comes to with train.backend on this machine. *why (may be NULL): the reason if auto had to fall
 * back to f32, else NULL; the caller says so, once. COV_EUSAGE: bf16 by name, but the machine or the build lacks it. */
cov_status cov_train_dtype(const cov_config *cfg, cov_dtype *dtype, const char **why);
/** How payloads are made, as sync.strategy settles it. */
void cov_outer_settings_of(const cov_config *cfg, cov_outer_settings *out);
/** How they are applied; velocity stays NULL. */
void cov_outer_params_of(const cov_config *cfg, cov_outer_params *out);

#endif
