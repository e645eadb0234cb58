/* Ranks of one peer fail together. */
#ifndef COVENANT_COMM_AGREE_H
#define COVENANT_COMM_AGREE_H

#include <mpi.h>

#include "base/status.h"
#include "comm/wait.h"

/** Every rank brings its own status and gets the worst of all, so that either all ranks go on or all leave the phase
 *  together. A rank that did not fail itself finds in cov_error_text() who did and why; a rank that failed keeps its
 *  own text. The failure is first hand only at the lowest of the worst ranks (cov_error_second_hand): one says it.
 * Collective over `comm` (the peer's ranks of one program, never ranks of several peers); polled, `how` may be NULL.
 * Typical: return cov_agree(comm, write_shard(...), NULL). Errors: COV_ECOMM at the deadline. */
cov_status cov_agree(MPI_Comm comm, cov_status mine, const cov_wait *how);

#endif
