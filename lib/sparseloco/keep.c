#include "sparseloco/keep.h"

cov_status cov_keep_payload(const cov_shard *shard, const cov_payload_view *own, const cov_outer_params *step,
                            int n_peers, const float *theta, float *start) {
  COV_ASSERT(n_peers >= 1);
  cov_outer_params alone = {.alpha = step->alpha, .mean = COV_MEAN_SENDERS};
  if (step->mean == COV_MEAN_PAPER) alone.alpha = step->alpha / (float)n_peers;
  return cov_outer_apply(shard, &own, 1, &alone, theta, start, COV_LAYOUT_SPAN, NULL);
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
