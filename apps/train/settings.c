#include "settings.h"

#include "base/log.h"
#include "common/loop_settings.h"

cov_status train_settings(const cov_app *app, cov_inner_params *out) {
  const char *why;
  cov_inner_params_of(&app->cfg, app->peer, out);
  COV_TRY(cov_train_dtype(&app->cfg, &out->dtype, &why));
  if (!why || app->shard != 0) return COV_OK;
  static const char line[] = "train.dtype=auto is fp32 here: %s";
  if (app->peer == 0) {
    cov_log_info(line, why);
  } else {
    cov_log_note(COV_LOG_INFO, line, why); /* one of many that are mostly alike */
  }
  return COV_OK;
}

const cov_ops *train_backend(const cov_app *app) {
  return cov_backend_ops(&app->cfg);
}
