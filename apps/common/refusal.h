/* A start that all ranks refuse for the same reason: one rank says so, the others end quietly. */
#ifndef COVENANT_APPS_REFUSAL_H
#define COVENANT_APPS_REFUSAL_H

#include "common/context.h"

/** Whether every rank could open what it needs (app->unfit). Collective over the world, within run.start_timeout. If
 *  not, the lowest rank with the worst status says why, in the log and in STATE, and no rank returns before; app->said
 *  and app->refused are set. */
cov_status cov_app_all_fit(cov_app *app);
/** After a handshake with comms.refused, `st` its verdict. Collective over the world, within run.start_timeout. If the
 *  configurations differ, find out in which setting, or that it is the data. World rank 0 logs it and writes it into
 *  STATE where launch has written that the run is running; no rank returns before. Returns the status to end with;
 * app->said and app->refused are set. */
cov_status cov_app_refuse(cov_app *app, cov_status st);

#endif
