/* Signals. The first SIGINT, SIGTERM or SIGUSR1 asks for the end at the next round boundary; a SIGINT or SIGTERM after
 * an earlier SIGINT or SIGTERM ends the process at once with _exit(128 + signal). (SIGUSR1 is the batch system's early
 * warning: a SIGTERM after it is still a first one.) All Local; the handler is async-signal-safe. */
#ifndef COVENANT_COMM_STOP_H
#define COVENANT_COMM_STOP_H

#include "base/status.h"

/** Install the handlers, after MPI_Init (which may install its own). System calls are not restarted: sleeps end early.
 */
cov_status cov_stop_install(void);
/** 0, or the first signal that asked for the end. */
int cov_stop_requested(void);
/** Ask as if `signal` had come (e.g. another member of the peer got it). */
void cov_stop_request(int signal);
/** Forget requests and restore the default handlers (tests). */
void cov_stop_reset(void);

#endif
