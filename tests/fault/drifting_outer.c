/* Linked into covenant-sync-drifting, a covenant-sync in whose outer step one bit of one parameter turns over: the
 * linker gives it this cov_outer_apply (--wrap). COVTEST_DRIFT=PEER:STEP says with whom and in which of its steps, from
 * 0. The state hash is that of what is in memory, as after a fault of the memory; all else is the real program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sparseloco/state_hash.h"
#include "common/outer.h"

enum { DRIFTING_TENSOR = 3 };

cov_status __real_cov_outer_create(const cov_app *app, cov_segment *segment, const cov_wait *how, cov_outer *outer);
cov_status __wrap_cov_outer_create(const cov_app *app, cov_segment *segment, const cov_wait *how, cov_outer *outer);
cov_status __real_cov_outer_apply(const cov_shard *shard, const cov_payload_view *const *set, int n_set,
                                  const cov_outer_params *params, const float *theta, float *out, cov_layout layout,
                                  uint8_t *leaves);
cov_status __wrap_cov_outer_apply(const cov_shard *shard, const cov_payload_view *const *set, int n_set,
                                  const cov_outer_params *params, const float *theta, float *out, cov_layout layout,
                                  uint8_t *leaves);

static int64_t own_peer = -1;

cov_status __wrap_cov_outer_create(const cov_app *app, cov_segment *segment, const cov_wait *how, cov_outer *outer) {
  own_peer = app->peer;
  return __real_cov_outer_create(app, segment, how, outer);
}

cov_status __wrap_cov_outer_apply(const cov_shard *shard, const cov_payload_view *const *set, int n_set,
                                  const cov_outer_params *params, const float *theta, float *out, cov_layout layout,
                                  uint8_t *leaves) {
  static int steps;
  const char *drift = getenv("COVTEST_DRIFT");
  int peer, step;
  cov_status st = __real_cov_outer_apply(shard, set, n_set, params, theta, out, layout, leaves);
  int now = steps++;
  if (st != COV_OK || !drift || sscanf(drift, "%d:%d", &peer, &step) != 2 || peer != own_peer || step != now) return st;
  uint32_t bits;
  float *x = out + cov_shard_offset(shard, layout, DRIFTING_TENSOR);
  memcpy(&bits, x, sizeof bits);
  bits ^= 1;
  memcpy(x, &bits, sizeof bits);
  cov_shard_leaves(shard, out, layout, leaves);
  return COV_OK;
}
