/* covenant-train after the start: the rounds of one peer's inner loop, in step with its sync ranks. */
#ifndef COVENANT_APPS_TRAIN_ROUNDS_H
#define COVENANT_APPS_TRAIN_ROUNDS_H

#include "common/context.h"

/** Open the peer's segment, join the peer, train round after round until sync says which was the last one. A failure
 *  ends the whole peer. Local; sets app->lost_peers. */
cov_status train_run(cov_app *app);

#endif
