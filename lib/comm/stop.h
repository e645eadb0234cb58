/* Signals. The first SIGINT, SIGTERM or SIGUSR1 asks for the end at the next round boundary; a SIGINT or SIGTERM after
 * an earlier SIGINT or SIGTERM ends the process at once with _exit(128 + signal). (SIGUSR1 is the batch system's early
 * warning: a SIGTERM after it is still a first one.) All Local.
 *
 * No handler is installed: the signals are blocked in every thread and one thread of ours waits for them. A handler on
 * a computing thread would corrupt the heap, because matrix kernels that oneDNN before 3.12 generates point the stack
 * pointer into heap memory while they run (oneDNN issue 4845). */
#ifndef COVENANT_COMM_STOP_H
#define COVENANT_COMM_STOP_H

#include "base/status.h"

/** Block the signals in this thread, whose mask later threads inherit, and start the thread that waits for them. Call
 *  it before MPI_Init and whatever else starts threads. */
cov_status cov_stop_install(void);
/** 0, or the first signal that asked for the end. */
int cov_stop_requested(void);
/** Ask as if `signal` had come (e.g. another member of the peer got it). */
void cov_stop_request(int signal);
/** How many signals the waiting thread has dealt with. */
int cov_stop_count(void);
/** End the thread, forget requests, let signals through again (tests). */
void cov_stop_reset(void);

#endif
