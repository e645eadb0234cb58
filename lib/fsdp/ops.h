/* What the ranks that share out a replica (fsdp/replica.h) ask of each other. It is small, so that it can be filled in
 * by MPI on CPUs (fsdp/mpi.h), by NCCL on GPUs, and by the threads of a test. Pointers are in the memory space of the
 * replica.
 *
 * All functions are Collective over the peer's train ranks, and every rank calls them in the same order. *Begin* starts
 * and returns; the buffers belong to the operation until its *finish*. At most one gather and one reduction are under
 * way at a time; they may overlap. Every wait is bounded. After a failure (COV_ECOMM) nothing of this may be used again
 * and the buffers are lost: the caller ends the peer. */
#ifndef COVENANT_FSDP_OPS_H
#define COVENANT_FSDP_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct {
  int rank, size; /* 0 <= rank < size */
  void *self;
  /* all[size][count] gets mine[count] of every rank, in rank order. */
  cov_status (*gather_begin)(void *self, const float *mine, float *all, int64_t count);
  cov_status (*gather_finish)(void *self);
  /* mine[count] gets the sum over all ranks of their all[rank][..], added in an order that depends on nothing but
   * `size`: equal inputs give equal bits. */
  cov_status (*reduce_begin)(void *self, const float *all, float *mine, int64_t count);
  cov_status (*reduce_finish)(void *self);
  /* all[size][bytes] on the host gets mine[bytes] of every rank: for sums that all ranks form alike, in rank order. */
  cov_status (*totals)(void *self, const void *mine, size_t bytes, void *all);
} cov_fsdp_ops;

enum { COV_FSDP_COUNT_ALIGN = 16, COV_FSDP_RANKS_MAX = 4096 }; /* counts are multiples of the first */

#endif
