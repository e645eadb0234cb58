#include "settings.h"

#include "common/loop_settings.h"

void train_settings(const cov_app *app, cov_inner_params *out) {
  cov_inner_params_of(&app->cfg, app->peer, out);
}

const cov_ops *train_backend(const cov_app *app) {
  return cov_backend_ops(&app->cfg);
}
