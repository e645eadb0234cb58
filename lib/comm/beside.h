/* Long work beside the thread that MPI knows. Links between peers want a look several times a heartbeat, and for a
 * large model the codec, a check of a payload or a slow disk takes seconds: the work gets a thread of its own, and the
 * calling thread goes on polling. What the work wants of MPI the calling thread does for it. All functions are Local.
 */
#ifndef COVENANT_COMM_BESIDE_H
#define COVENANT_COMM_BESIDE_H

#include "comm/wait.h"

typedef cov_status cov_beside_work(void *arg);

/** Run work(arg) in a thread of its own and meanwhile call how->poll about every millisecond. Without a poll (or with
 *  `how` NULL), or where the system starts no more threads, it runs here. Ends when the work does: how->timeout_s is
 *  for waits, not for work. Returns the status of the work, or if that is COV_OK the first failure of the poll, which
 *  is not called again after it; the error text is that of the status returned. A poll may itself run something so. */
cov_status cov_beside_run(cov_beside_work *work, void *arg, const cov_wait *how);

/** From work that cov_beside_run runs, or what it calls in the same thread: run call(arg) in the thread of the caller
 * of cov_beside_run, and return its status and error text. From anywhere else: call(arg), here. */
cov_status cov_beside_call(cov_beside_work *call, void *arg);

#endif
