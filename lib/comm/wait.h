/* How to wait: every wait of this library is a non-blocking call, a test, and a sleep that grows to 1 ms. A blocking
 * MPI wait burns a core (98 % measured); this costs about 1 %, for long waits (sleeps of 4 ms) less. Nothing waits
 * without a deadline. */
#ifndef COVENANT_COMM_WAIT_H
#define COVENANT_COMM_WAIT_H

#include <mpi.h>

#include "base/status.h"

/** Called between two tests, at most every millisecond or so. Anything but COV_OK ends the wait with that status. */
typedef cov_status cov_poll_fn(void *arg);

typedef struct {
  double timeout_s;  /* > 0; the deadline counts from the call */
  cov_poll_fn *poll; /* may be NULL. The gateway keeps its carrier going here; everybody looks for stop and death */
  void *arg;         /* handed to poll */
} cov_wait;

enum { COV_WAIT_DEFAULT_S = 600 }; /* what a NULL cov_wait means */

/* State of one wait; lives on the caller's stack. */
typedef struct {
  const cov_wait *how;
  const char *what;
  double start_s;
  int idle_rounds;
} cov_waiting;

/** Begin: `what` (borrowed) completes "no answer after 600 s while ...". Local. */
void cov_wait_begin(cov_waiting *w, const cov_wait *how, const char *what);
/** One pause: calls poll, checks the deadline (COV_ECOMM with a message), sleeps. The first pauses only yield, so that
 *  a short wait stays short; later ones sleep 32 us growing to 1 ms, 4 ms after the first second. Local. */
cov_status cov_wait_pause(cov_waiting *w);

/** Wait until `request` is complete. Collective or Local as the request is. On COV_ECOMM (deadline, poll, MPI error)
 *  the request is abandoned: neither its buffers nor its communicator may be used or freed again. */
cov_status cov_wait_request(MPI_Request *request, const cov_wait *how, const char *what);

/** Never free `p` (may be NULL): an abandoned request may still use it. Kept reachable, so no leak checker complains
 * and nobody reuses it. Local. */
void cov_wait_keep(void *p);

/** Before MPI_Init of a process that talks to other peers: what UCX (if it is used) reads from the environment and the
 * user has not set. UCX_RNDV_THRESH=inf: large messages go out at once instead of after a question and its answer; over
 * 80 ms that filled a link to 66 % only, with it 90 % (bench wan, 4 peers). UCX_ZCOPY_THRESH=inf: with it and without
 * this, UCX 1.13 aborts the sender when the receiver dies in mid-message (test_carrier_kill). Local. */
void cov_mpi_prepare(void);

/** COV_ECOMM with the text of the MPI error unless `code` is MPI_SUCCESS. Local. */
cov_status cov_mpi_check(int code, const char *what);
/** Set MPI_ERRORS_RETURN on `comm`. Local. */
cov_status cov_mpi_errors_return(MPI_Comm comm);
/** A private duplicate of `comm` with MPI_ERRORS_RETURN. Collective over `comm`; polled. */
cov_status cov_mpi_comm_dup(MPI_Comm comm, const cov_wait *how, MPI_Comm *out);

#endif
