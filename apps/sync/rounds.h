/* The rounds of one peer, from the first parameters to the last outer step. Collective over the peer's sync ranks. */
#ifndef COVENANT_APPS_SYNC_ROUNDS_H
#define COVENANT_APPS_SYNC_ROUNDS_H

#include "common/context.h"

cov_status cov_rounds_run(cov_app *app);

#endif
