/* From two ends of a round to what is sent: pseudo-gradient, error feedback, top-k, quantisation
 * (protocol 3.1 - 3.6, arithmetic in docs/numerics.md 2 - 4), for one shard of the parameter space.
 *
 *   theta, theta_end, e --encode--> indices, codes, tables --piece--> coded bands --(gather in shard order)-->
 * cov_payload_write
 *
 * Statistics of whole tensors are summed over the shards through a callback, so this module knows no MPI. */
#ifndef COVENANT_SPARSELOCO_ENCODER_H
#define COVENANT_SPARSELOCO_ENCODER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "sparseloco/grid.h"
#include "sparseloco/index_coder.h"
#include "sparseloco/quantise.h"

typedef enum { COV_REDUCE_SUM, COV_REDUCE_MAX } cov_reduce_op;

/* Element-wise reduction of values[n] over all shards of the peer, result on every one (an allreduce). Called the same
 * number of times with the same n and op on every shard. A failure is passed up. */
typedef struct {
  cov_status (*reduce)(void *context, int64_t *values, size_t n, cov_reduce_op op);
  void *context;
} cov_reducer;

typedef struct cov_encoder cov_encoder;

typedef struct {
  cov_quant_params quant;
  float beta;              /* decay of the error feedback, finite, in [0, 1]; .95 in production */
  cov_layout theta_layout; /* of theta and theta_end */
  cov_layout feedback_layout;
  int threads;                 /* of this shard, 1 .. COV_THREADS_MAX; 0: 1. No result depends on it */
  cov_index_coder index_coder; /* 0: COV_INDEX_RICE */
  int owes;                    /* e <- e - decoded may wait: for the next encode, or for cov_encoder_settle */
} cov_encoder_params;

/** Buffers for one shard: 7 bytes a kept value (indices, values, codes). `shard` is borrowed and must outlive the
 *  encoder. COV_EUSAGE for parameters out of range. Local. */
cov_status cov_encoder_create(const cov_shard *shard, const cov_encoder_params *params, cov_encoder **encoder);
/** Sets *encoder to NULL. */
void cov_encoder_destroy(cov_encoder **encoder);

/** One round: e <- beta * e + (theta - theta_end), keep the top-k, quantise, e <- e - decoded.
 *  With params.owes the last step is left to the next encode, which does it on its way through e: a seventh of the time
 *  less, since nothing comes from memory twice. Until then, or until cov_encoder_settle, `feedback` holds at the kept
 *  entries what they were before; it must stay where it is (COV_EBUG if the next encode brings another one), and
 *  nobody else may read or write it.
 *  Collective over the shards of the peer through `reducer` (NULL: there is only this shard; then G must be 1).
 *  theta, theta_end: read only; feedback: own bands are updated in one sweep that also reads theta and theta_end.
 *  COV_ENUMERIC on every shard, naming a tensor, if a difference or a sum is not finite on any of them, or one is
 * beyond COV_VALUE_MAX. After that, and after a reduction that fails, nothing was sent and e is computed back to what
 * it was: exact up to the rounding of two fp32 operations, and finite (docs/numerics.md, 2). */
cov_status cov_encoder_encode(cov_encoder *encoder, const float *theta, const float *theta_end, float *feedback,
                              const cov_reducer *reducer);

/** e <- e - decoded of the last encode, unless that has been done. Afterwards `feedback` is what it would be without
 *  params.owes, bit for bit. Local. */
void cov_encoder_settle(cov_encoder *encoder);
/** `feedback` has been written anew, from a checkpoint say: nothing is owed to it any more. Local. */
void cov_encoder_forget(cov_encoder *encoder);

/** Statistics of tensor t in the last encode; the same on every shard. */
const cov_quant_stats *cov_encoder_stats(const cov_encoder *encoder, int t);

/** What no piece of this shard exceeds; depends on grid, shard and quantiser only, so receivers can compute it for all
 *  shards. */
size_t cov_piece_bytes_max(const cov_shard *shard, const cov_quant_params *quant);
/** Write the piece of the last encode to piece[cov_piece_bytes_max()], of which *bytes are used. COV_ENOMEM. Local. */
cov_status cov_encoder_piece(const cov_encoder *encoder, uint8_t *piece, size_t *bytes);

/* A piece by hand, for other strategies and for tests. Kept entries are in the shard's kept order. */
typedef struct {
  const float *tables;   /* [grid->n * bins], the same on all shards; NULL for none */
  const int64_t *counts; /* [grid->n * bins] entries a code, over all shards; NULL: those of `codes` (for one shard) */
  const uint16_t *indices;     /* [n_kept], ascending in a chunk */
  const uint8_t *codes;        /* [n_kept]; NULL for none */
  const float *values;         /* [n_kept] for none, else NULL */
  cov_index_coder index_coder; /* 0: COV_INDEX_RICE */
  int threads;                 /* 1 .. COV_THREADS_MAX; 0: 1. No result depends on it */
} cov_piece;
cov_status cov_piece_write(const cov_shard *shard, const cov_quant_params *quant, const cov_piece *content,
                           uint8_t *piece, size_t *bytes);

#endif
