/* The outer state of one sync rank as parts of a checkpoint: its bands of theta and error feedback. */
#ifndef COVENANT_APPS_SYNC_OUTER_STATE_H
#define COVENANT_APPS_SYNC_OUTER_STATE_H

#include "checkpoint/checkpoint.h"
#include "common/outer.h"

/** What this rank writes: pieces[n], owned by the caller (free); they point into `outer` and the segment. Local. */
cov_status cov_outer_pieces(const cov_outer *outer, cov_ckpt_piece **pieces, int *n);
/** Theta, error feedback and hash as the checkpoint in `folder` has them, at the start of `round`. COV_EDATA: the
 *  parameters read do not hash to `state_hash`. Collective over the peer's sync ranks. */
cov_status cov_outer_load(cov_outer *outer, const char *folder, int64_t round,
                          const uint8_t state_hash[COV_STATE_HASH_BYTES]);

#endif
