/* The encoder's passes over a shard's memory, cut over threads. Everything they compute is element-wise or an integer
 * maximum, so the number of threads never shows in a result.
 *
 *   select     theta, theta_end, e -> e       16 bytes: e <- beta e + (theta - theta_end), and the top-k of each chunk
 *   subtract   e, where something is sent     one line of memory an entry: e <- e - decoded
 *   undo       instead, where the round fails: e <- (e - (theta - theta_end)) / beta
 *
 * The subtraction may wait for the next select, which does it on its way: then no line comes from memory for it.
 * A chunk is in the caches only while `select` is at it: its elements that reach a guessed floor are set aside on the
 * way, and the exact top-k is found among those few. A guess that was too high costs a second look at the chunk.
 * Not part of the public interface. */
#ifndef COVENANT_SPARSELOCO_SWEEP_H
#define COVENANT_SPARSELOCO_SWEEP_H

#include <stdint.h>

#include "sparseloco/grid.h"
#include "sparseloco/width.h"

/* What was sent of the kept entries: table[t * bins + code[j]], or value[j] if bins is 0. */
typedef struct {
  const float *table;
  const uint8_t *code;
  int bins;
} covi_sent;

/* All borrowed. */
typedef struct {
  const cov_shard *shard;
  cov_layout theta_layout, feedback_layout;
  float beta;
  int threads;
  const float *theta, *theta_end;
  float *feedback;
  uint16_t *index;             /* [shard->n_kept] */
  float *value;                /* [shard->n_kept] */
  uint32_t *floor;             /* [own chunks] guesses for the next round, 0: none yet */
  const int64_t *chunk_first;  /* [n] own chunks of all tensors before this one */
  int64_t tile_chunks;         /* swept together, at most COVI_TILE_CHUNKS_MAX */
  covi_candidates *candidates; /* [threads * tile_chunks] */
  covi_owed *owed;             /* [threads * tile_chunks] */
  uint32_t *largest;           /* [threads * n] */
} covi_sweep;

/** New e, in place; index, value; floor; largest[n]: of each tensor the largest magnitude bits of the new e over the
 * own bands. Where an e is not finite the entries mean nothing. `owed` (NULL: nothing): what index and value still owe
 * to e from the select before; it is taken off first, and index and value hold the new entries afterwards. */
void covi_sweep_select(const covi_sweep *sweep, const covi_sent *owed, int64_t *largest);
/** e <- fl(e - sent) at every kept entry. */
void covi_sweep_subtract(const covi_sweep *sweep, const covi_sent *sent);
/** After a select without a subtract: the e before it, up to rounding (docs/numerics.md, 2); finite in any case. */
void covi_sweep_undo(const covi_sweep *sweep);

#endif
