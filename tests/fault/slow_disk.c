/* Linked into covenant-sync-slow, a covenant-sync in which peer 2 takes COVTEST_SLOW seconds longer to look through a
 * checkpoint and to read one (--wrap of what opens them). All else is the real program. */
#include <stdlib.h>

#include "base/clock.h"
#include "checkpoint/checkpoint.h"
#include "sync/gateway.h"

enum { SLOW = 2 };
static bool slow;

cov_status __real_cov_ckpt_open(const char *folder, cov_ckpt_check check, cov_ckpt **out);
cov_status __wrap_cov_ckpt_open(const char *folder, cov_ckpt_check check, cov_ckpt **out);
cov_status __real_cov_gateway_open(cov_app *app, cov_outer *outer, cov_gateway *gateway);
cov_status __wrap_cov_gateway_open(cov_app *app, cov_outer *outer, cov_gateway *gateway);

cov_status __wrap_cov_gateway_open(cov_app *app, cov_outer *outer, cov_gateway *gateway) {
  slow = app->peer == SLOW;
  return __real_cov_gateway_open(app, outer, gateway);
}

cov_status __wrap_cov_ckpt_open(const char *folder, cov_ckpt_check check, cov_ckpt **out) {
  const char *seconds = getenv("COVTEST_SLOW");
  if (!seconds) abort();
  if (slow && check != COV_CKPT_QUICK) cov_sleep_s(atof(seconds));
  return __real_cov_ckpt_open(folder, check, out);
}
