/* One replica of the model, shared out over the train ranks of a peer (fully sharded data parallel): each rank holds
 * its bands of the weights and of the gradient, collects a unit (an embedding, a layer) when a pass opens it, and adds
 * up its gradient over all ranks when the pass has left it. The next unit is collected while the present one computes;
 * which one comes next is what came next in the pass before.
 *
 *   cov_replica_start    weights of the round into the shards
 *   per step:
 *     cov_replica_grad_begin   the gradient's shard becomes zero
 *     cov_replica_pass         a source for one forward and backward pass; as often as there are micro-batches
 *     cov_replica_grad_end     the gradient's shard is complete
 *     (the optimizer moves cov_replica_theta, tensor by tensor of cov_replica_table)
 *     cov_replica_moved        units collected before are worth nothing any more
 *   cov_replica_end      all ranks' shards are back in the flat space
 *
 * Where the ranks share memory, the flat space of the round may be one for all (`weights_shared`): then nothing is
 * collected, the passes read the weights there, and every step puts the moved bands into it.
 *
 * Alone (one rank) the shards are the flat space itself: nothing is copied. Collective over the peer's train ranks
 * unless it says Local; a failure of one is a failure of the peer. */
#ifndef COVENANT_FSDP_REPLICA_H
#define COVENANT_FSDP_REPLICA_H

#include "fsdp/layout.h"
#include "fsdp/ops.h"

typedef struct cov_replica cov_replica;

typedef struct {
  const cov_llama_config *llama; /* borrowed for the call */
  const cov_params *params;      /* the table of `llama`; borrowed until destroy, like ops */
  const cov_fsdp_ops *ops;       /* NULL: alone */
  int chunk_edge;                /* sync.chunk: the bands are the outer step's */
  int weights_shared;            /* 1: the flat space handed to cov_replica_start is the same memory on all ranks */
} cov_replica_params;

/** Allocates everything (COV_MEM_PARAMS, COV_MEM_GRADS). Local. COV_EUSAGE: more ranks than bands. COV_ENOMEM. */
cov_status cov_replica_create(const cov_replica_params *p, cov_replica **out);
/** NULL is fine; *replica becomes NULL. Buffers of an operation that was begun and not finished are kept: it may still
 *  write to them. Local. */
void cov_replica_destroy(cov_replica **replica);
/** Bytes that cov_replica_create allocates for rank `layout->shard.g`, without the small struct itself. Local. */
int64_t cov_replica_bytes(const cov_fsdp_layout *layout, int weights_shared);

const cov_fsdp_layout *cov_replica_layout(const cov_replica *replica); /* Local */
/** Own parts of all tensors; offsets are those of theta and grad below. Local. */
const cov_params *cov_replica_table(const cov_replica *replica);
float *cov_replica_theta(cov_replica *replica); /* [table->span]; valid from cov_replica_start on. Local */
float *cov_replica_grad(cov_replica *replica);  /* [table->span]. Local */

/** `flat` [params->span], borrowed until cov_replica_end, holds the weights: own bands are read (alone: used in place).
 */
cov_status cov_replica_start(cov_replica *replica, float *flat);
/** Own bands into the flat space of cov_replica_start; on return those of all ranks are there. */
cov_status cov_replica_end(cov_replica *replica);

void cov_replica_grad_begin(cov_replica *replica); /* Local */
/** The source for the next pass, borrowed until the next call of this. Local. */
const cov_llama_source *cov_replica_pass(cov_replica *replica);
cov_status cov_replica_grad_end(cov_replica *replica);
cov_status cov_replica_moved(cov_replica *replica);

/** For what needs whole tensors between gradient and step. x (as cov_replica_grad) holds own parts; every tensor that
 *  wants(arg, tensor) is put together at one rank, where work(arg, tensor, whole) changes it, and each rank gets its
 *  part of that back into x. The tensors of a unit are spread over the ranks. Not for one rank alone. */
cov_status cov_replica_apply(cov_replica *replica, float *x, int (*wants)(void *arg, int tensor),
                             cov_status (*work)(void *arg, int tensor, float *whole), void *arg);

int cov_replica_rank(const cov_replica *replica); /* Local; 0 alone */
int cov_replica_size(const cov_replica *replica); /* Local; 1 alone */
/** cov_fsdp_ops.totals: all[size][bytes] gets mine[bytes] of every rank. Alone a copy. */
cov_status cov_replica_totals(cov_replica *replica, const void *mine, size_t bytes, void *all);

#endif
