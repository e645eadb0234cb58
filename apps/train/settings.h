/* From the run's configuration to the parameters of the inner loop. Local. */
#ifndef COVENANT_APPS_TRAIN_SETTINGS_H
#define COVENANT_APPS_TRAIN_SETTINGS_H

#include "common/context.h"
#include "train/inner.h"

/** Without on_step and arg. */
cov_status train_settings(const cov_app *app, cov_inner_params *out);
/** The operations that train.backend names. */
const cov_ops *train_backend(const cov_app *app);

#endif
