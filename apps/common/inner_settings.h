/* From the run's settings to the parameters of the inner loop. Local. */
#ifndef COVENANT_COMMON_INNER_SETTINGS_H
#define COVENANT_COMMON_INNER_SETTINGS_H

#include "config/config.h"
#include "train/inner.h"

/** What `peer` trains with; without on_step and arg. */
void cov_inner_settings(const cov_config *cfg, int64_t peer, cov_inner_params *out);
/** The operations that train.backend names. */
const cov_ops *cov_backend_ops(const cov_config *cfg);

#endif
