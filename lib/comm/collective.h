/* Collectives inside one peer, polled: each is the non-blocking MPI call, tested with pauses (comm/wait.h), under a
 * deadline. All are Collective over `comm`; `how` may be NULL (600 s, no poll). Sizes are size_t; large buffers go in
 * pieces that fit MPI's int counts. They fail with COV_ECOMM: then this communicator and the buffers of the call are
 * lost (MPI may still write to them) and the caller must end the peer, not retry. `comm` needs MPI_ERRORS_RETURN.
 * Never use these on a communicator that spans peers: a death there is a hang (DESIGN: Exchange). */
#ifndef COVENANT_COMM_COLLECTIVE_H
#define COVENANT_COMM_COLLECTIVE_H

#include <mpi.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "comm/wait.h"

typedef enum { COV_COLL_SUM, COV_COLL_MAX } cov_coll_op;

cov_status cov_coll_barrier(MPI_Comm comm, const cov_wait *how);
/** data[bytes] of `root` to everyone. */
cov_status cov_coll_bcast(MPI_Comm comm, int root, void *data, size_t bytes, const cov_wait *how);
/** values[n] becomes the element-wise result over all ranks. Integers: the order of ranks cannot matter. */
cov_status cov_coll_reduce_i64(MPI_Comm comm, cov_coll_op op, int64_t *values, size_t n, const cov_wait *how);
cov_status cov_coll_reduce_u64(MPI_Comm comm, cov_coll_op op, uint64_t *values, size_t n, const cov_wait *how);
/** all[size * bytes] gets mine[bytes] of every rank, in rank order. `bytes` must be the same everywhere. */
cov_status cov_coll_allgather(MPI_Comm comm, const void *mine, size_t bytes, void *all, const cov_wait *how);
/** Pieces of any length to `root`: all[room] gets them in rank order, counts[size] their lengths (both only read and
 *  written at root; NULL elsewhere). If they do not fit into `room` every rank gets COV_EBUG and nothing moves.
 *  Uses point-to-point with tag 32001 on `comm`. */
cov_status cov_coll_gatherv(MPI_Comm comm, int root, const void *mine, size_t bytes, void *all, size_t room,
                            size_t *counts, const cov_wait *how);

#endif
