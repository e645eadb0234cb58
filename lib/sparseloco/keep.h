/* What a peer starts its next round from while the aggregate D_t of the present one is still under way (sync.delay = 1,
 * DESIGN: Overlap). The common parameters are theta_t, this peer started from `start` and ended at `theta_end`, and its
 * contribution is Q(t). It goes on from theta_t moved by what it did itself, which the next outer step replaces by D_t:
 *
 *   payload    theta_t - alpha c Q(t)              its own payload as if it were the aggregate; c = 1 for the mean over
 *                                                 senders, 1 / peers for the mean over all
 *   progress   theta_t - (start - theta_end)      all of its local movement, sent or not
 *
 * Every operation is rounded to fp32 on its own, so any sharding gives the same bits (docs/numerics.md). Local. */
#ifndef COVENANT_SPARSELOCO_KEEP_H
#define COVENANT_SPARSELOCO_KEEP_H

#include "sparseloco/outer.h"

/** The outer step of `payload`: cov_outer_apply with these parameters on this peer's checked payload alone, from theta
 *  into start. `step`: as of the real one, whose clipping and momentum play no part here; n_peers >= 1 is the R of the
 *  mean over all. With one peer, no clipping and no momentum the result has the bits of the real step. */
cov_outer_params cov_keep_step(const cov_outer_params *step, int n_peers);
/** start[span] <- theta[span] - (start[span] - theta_end[span]) on the own bands. */
void cov_keep_progress(const cov_shard *shard, const float *theta, const float *theta_end, float *start);

#endif
