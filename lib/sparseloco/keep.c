#include "sparseloco/keep.h"

cov_outer_params cov_keep_step(const cov_outer_params *step, int n_peers) {
  COV_ASSERT(n_peers >= 1);
  cov_outer_params alone = *step;
  alone.mean = COV_MEAN_SENDERS;
  if (step->mean == COV_MEAN_PAPER) alone.alpha = step->alpha / (float)n_peers;
  alone.clip = 0;
  alone.momentum = 0;
  alone.velocity = NULL;
  return alone;
}

void cov_keep_progress(const cov_shard *shard, const float *theta, const float *theta_end, float *start) {
  for (int t = 0; t < shard->grid->n; t++) {
    const int64_t first = cov_shard_offset(shard, COV_LAYOUT_SPAN, t), end = first + shard->part[t].elems;
    for (int64_t i = first; i < end; i++) {
      float moved = start[i] - theta_end[i];
      start[i] = theta[i] - moved;
    }
  }
}
