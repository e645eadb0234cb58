/* Where the tensors of a replica lie once it is shared out over G ranks.
 *
 * Rank g owns shard g of G of every tensor (sparseloco/grid.h): its *shard buffers* (weights, gradient, moments) hold
 * own bands only, tensor after tensor, each part at a multiple of 16 elements (COV_LAYOUT_SHARD). The shards of a unit
 * (model/llama.h: embedding, one layer, head) are one run of each rank's shard buffer. A unit is collected
 * *rank-major*: [G][count], block r being rank r's run, padded to the longest; *flat* is the unit as the model reads
 * it.
 *
 * With one rank the shard buffer is the flat space itself. All functions are Local. */
#ifndef COVENANT_FSDP_LAYOUT_H
#define COVENANT_FSDP_LAYOUT_H

#include "model/llama.h"
#include "sparseloco/grid.h"

typedef struct {
  int64_t first, elems; /* in the flat space; padding behind the last tensor included */
  int first_tensor, n_tensors;
  int64_t mine, mine_elems; /* this rank's run in a shard buffer */
  int64_t count;            /* longest run of any rank: a multiple of 16 */
  int direct;               /* 1: rank-major and flat are the same order, no copy is needed */
} cov_fsdp_unit;

typedef struct {
  cov_grid grid;
  cov_shard shard;     /* this rank's */
  cov_params table;    /* own parts as tensors of their own: offsets in a shard buffer, elems possibly 0 */
  cov_fsdp_unit *unit; /* [n_units] owned */
  int64_t n_units;
  int64_t shard_elems; /* of a shard buffer, with room for a whole `count` from any unit's run on */
  int64_t widest;      /* elements of the largest unit, flat or rank-major */
  int64_t count_max;
} cov_fsdp_layout;

/** Layout of rank `rank` of `size`. `params` (the table of `llama`) is borrowed until destroy. `edge`: of the chunk
 * grid (sync.chunk). COV_EUSAGE if there are more ranks than bands in the largest tensor: some would own nothing. */
cov_status cov_fsdp_layout_create(const cov_llama_config *llama, const cov_params *params, int edge, int rank, int size,
                                  cov_fsdp_layout *layout);
void cov_fsdp_layout_destroy(cov_fsdp_layout *layout);

/** The most ranks that a replica can be shared out over: bands of its largest tensor. */
int64_t cov_fsdp_ranks_most(const cov_grid *grid);

/** flat[unit elems] from all[size][count], and back. Padding is not touched. */
void cov_fsdp_to_flat(const cov_fsdp_layout *layout, int64_t unit, const float *all, float *flat);
void cov_fsdp_to_ranks(const cov_fsdp_layout *layout, int64_t unit, const float *flat, float *all);

#endif
