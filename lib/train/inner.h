/* The inner loop: what one peer does between two exchanges. In a round it draws its samples (protocol 6.3), takes H
 * optimiser steps on them (protocol 2.1 to 2.6) in place in the weights it is handed, and says what it saw. Nothing
 * here knows of other peers, of MPI or of shared memory.
 *
 * The replica may be shared out over the peer's train ranks (fsdp/replica.h): then each takes its part of every batch,
 * whole micro-batches in the order of ranks, and moves its own bands. Loss, counts, the gradient's norm and what fails
 * are the same on all of them.
 *
 * One step: the next batch_seqs samples of the round go through the model in micro-batches; the gradient is the mean
 * over micro-batches of the mean over the positions of each (protocol 2.2), clipped to a norm, and AdamW or Muon
 * moves the weights with the learning rate of the global step, round * H + i. Its state lives as long as the object: an
 * outer step does not reset it.
 *
 * Equal weights, data, settings, number of threads and ranks, and machine give equal bits. All functions are Local,
 * except that cov_inner_round is Collective over the ranks that share the replica. */
#ifndef COVENANT_TRAIN_INNER_H
#define COVENANT_TRAIN_INNER_H

#include <stdint.h>

#include "base/status.h"
#include "data/shards.h"
#include "fsdp/replica.h"
#include "model/llama.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"

enum { COV_SAMPLE_DIGEST_BYTES = 16 };

/* One step, for whoever watches. */
typedef struct {
  int64_t step;  /* global, from 0 */
  int64_t index; /* within the round */
  double loss;   /* nats a position; 0 if the batch had none */
  int64_t positions;
  double grad_norm; /* before clipping */
  double lr;
} cov_inner_step;

typedef struct {
  int64_t peer;              /* its number: seeds the assignment */
  int64_t inner_steps;       /* H, >= 1 */
  int64_t batch_seqs;        /* samples of a step, >= 1 */
  int64_t micro_batch_seqs;  /* samples in the model at once; times the ranks it divides batch_seqs */
  int64_t pool_samples;      /* drawn for a round, >= inner_steps * batch_seqs; 0: as many as are trained on */
  int mask_eos;              /* 1: the end-of-document token is no target */
  int threads;               /* >= 1 */
  cov_dtype dtype;           /* of the passes; weights, gradients and moments are f32 */
  int recompute;             /* 1: activations of one layer are kept, the others computed again (cov_llama_shape) */
  const cov_fsdp_ops *ranks; /* who share the replica out; borrowed until destroy. NULL: this rank has all of it */
  int chunk_edge;            /* sync.chunk, for `ranks`; 0: COV_CHUNK_EDGE_MAX */
  int weights_shared;        /* 1: `work` of cov_inner_round is the same memory on all ranks */
  double clip_norm;          /* 0: no clipping */
  cov_schedule schedule;
  cov_optimizer_config optimizer;
  void (*on_step)(void *arg, const cov_inner_step *step); /* called after each step; may be NULL */
  void *arg;
} cov_inner_params;

typedef struct {
  double loss;       /* mean over all positions of the round, nats */
  int64_t positions; /* with a target */
  int64_t steps;     /* taken by the optimiser: H, less the batches without any target */
  double compute_s;
  uint8_t sample_digest[COV_SAMPLE_DIGEST_BYTES]; /* cov_assign_digest of the round's pool (protocol 6.3) */
} cov_inner_report;

typedef struct cov_inner cov_inner;

/** Checks everything and allocates everything: gradient, moments, activations, sample numbers; the steps of a round
 *  allocate nothing. `data` may be NULL where only the memory is of interest (base/memory.h): no round can be trained.
 * `llama`, `params` (the table of `llama`), `data` and `ops` are borrowed until destroy; a sample has llama->seq_len
 * tokens. `*out` is owned. COV_EUSAGE: a size out of range, a pool that does not fit the data, a data set whose tokens
 * the model has no rows for. COV_ENOMEM. */
cov_status cov_inner_create(const cov_inner_params *p, const cov_llama_config *llama, const cov_params *params,
                            const cov_dataset *data, const cov_ops *ops, cov_inner **out);
/** NULL is fine; *inner becomes NULL. */
void cov_inner_destroy(cov_inner **inner);

/** Train `round` (>= 0): work[params->span] holds the weights to start from and then those it ended with. With several
 *  ranks a rank reads only its own bands; on return `work` holds its own bands, and where it is shared those of all.
 *  COV_ENUMERIC: a loss or gradient is not finite; `work` is then worth nothing. COV_EDATA: a damaged shard.
 *  A batch without any target (every label is a masked EOS) takes no optimiser step; its place in the schedule passes.
 */
cov_status cov_inner_round(cov_inner *inner, int64_t round, float *work, cov_inner_report *report);
/** The optimiser's state, for checkpoints; borrowed. Its moments lie as the layout below says. */
cov_optimizer *cov_inner_optimizer(cov_inner *inner);
/** What this rank owns of each tensor; borrowed. */
const cov_fsdp_layout *cov_inner_layout(const cov_inner *inner);
/** The samples of a round in the order they are trained on: ids[inner_steps * batch_seqs]. */
cov_status cov_inner_samples(const cov_inner *inner, int64_t round, int64_t *ids);

/** Model input and labels of one sample of T tokens: tokens[t] = sample[t], targets[t] = sample[t + 1]; no target (-1)
 *  at the last position, nor where it would be `eos` if mask_eos (protocol 2.2). Returns the number of targets. */
int64_t cov_inner_label(const uint32_t *sample, int64_t T, uint32_t eos, int mask_eos, int32_t *tokens,
                        int32_t *targets);

/** Steps of the cosine that `decay_steps` = 0 stands for: the rest of `total_steps` after `warmup_steps` (>= 0). */
int64_t cov_inner_decay_steps(int64_t total_steps, int64_t warmup_steps, int64_t decay_steps);

#endif
