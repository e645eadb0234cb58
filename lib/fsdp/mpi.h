/* fsdp/ops.h over MPI, for replicas in host memory. Non-blocking collectives, polled under a deadline (comm/wait.h).
 *
 * A reduction sends every rank its own block (Ialltoall) and adds the blocks here, in rank order: as many bytes as the
 * best reduce-scatter, and the bits do not depend on the MPI library, whose own reductions may add in any order. */
#ifndef COVENANT_FSDP_MPI_H
#define COVENANT_FSDP_MPI_H

#include <mpi.h>

#include "comm/wait.h"
#include "fsdp/ops.h"

typedef struct cov_fsdp_mpi cov_fsdp_mpi;

/** Over `comm` (the peer's train ranks by shard), which is duplicated. `how` is copied: the deadline of each operation
 *  and its poll. Collective over `comm`. `*out` is owned. */
cov_status cov_fsdp_mpi_create(MPI_Comm comm, const cov_wait *how, cov_fsdp_mpi **out);
/** Account what reductions over `size` ranks will take, `count` as in reduce_begin at most: for a plan (base/memory.h).
 */
void cov_fsdp_mpi_account(int size, int64_t count);
/** clean = 1: the communicators are freed too, Collective. 0: Local, memory only. NULL is fine. */
void cov_fsdp_mpi_destroy(cov_fsdp_mpi **mpi, int clean);
/** The table; borrowed. Local. */
const cov_fsdp_ops *cov_fsdp_mpi_ops(const cov_fsdp_mpi *mpi);

#endif
