/* State hash: a 128-bit multilinear hash a band, BLAKE2b over those leaves (docs/numerics.md, 6). The same for every
 * number of shards. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_STATE_HASH_H
#define COVENANT_SPARSELOCO_STATE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "sparseloco/grid.h"

enum { COV_LEAF_BYTES = 16, COV_TENSOR_HASH_BYTES = 16, COV_STATE_HASH_BYTES = 32 };

/** Leaf of x[n]. */
void cov_leaf_compute(const float *x, int64_t n, uint8_t leaf[COV_LEAF_BYTES]);
/** leaves[shard->n_bands * 16] of the own bands, tensor after tensor. */
void cov_shard_leaves(const cov_shard *shard, const float *theta, cov_layout layout, uint8_t *leaves);

/** Leaves of G shards one after the other in shard order (as MPI_Gatherv delivers them) -> leaves[grid->n_bands * 16]
 * in the order of the space: tensor after tensor, bands ascending. COV_EBUG if `bytes` does not fit. */
cov_status cov_leaves_assemble(const cov_grid *grid, int G, const uint8_t *gathered, size_t bytes, uint8_t *leaves);

/** 16-byte hash of tensor t from the assembled leaves: compare these to name the tensor that differs. */
void cov_tensor_hash(const cov_grid *grid, const uint8_t *leaves, int t, uint8_t hash[COV_TENSOR_HASH_BYTES]);
/** The state hash from the assembled leaves. */
void cov_state_hash(const cov_grid *grid, const uint8_t *leaves, uint8_t hash[COV_STATE_HASH_BYTES]);

#endif
