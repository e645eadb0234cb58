/* Inside cpu/isa/typed: what the two passes of attention share. Letters as in ops.h; Tp and Ep are T and E padded. */
#ifndef COVENANT_KERNELS_CPU_ISA_ATTENTION_H
#define COVENANT_KERNELS_CPU_ISA_ATTENTION_H

#include "cpu/isa/typed/tile.h"

/* Queries and keys of a block. A block is worked on in strips of MR queries, so that scores never leave the first-level
 * cache. */
enum { BQ = 64, BK = 64 };
_Static_assert(BQ % MR == 0 && BK % NR == 0, "blocks consist of whole tiles");

typedef struct {
  int64_t Tp, Ep, words; /* words of a row as a left operand */
} padded;

static inline padded padded_sizes(const covi_attention *a) {
  return (padded){round_up(a->T, BK), round_up(a->E, NR), (a->E + PER_WORD - 1) / PER_WORD};
}

/* Pieces of the scratch, each on a cache line. With base = NULL it only counts. */
typedef struct {
  char *base;
  int64_t bytes;
} arena;

/* Room for n words or floats. */
static inline void *arena_take(arena *m, int64_t n) {
  void *piece = m->base ? m->base + m->bytes : NULL;
  m->bytes += round_up(n * (int64_t)sizeof(float), 64);
  return piece;
}

/* Keys of the block from j0 that query t may see: at most n. */
static inline int64_t seen(int64_t t, int64_t j0, int64_t n) {
  return t < j0 ? 0 : least(t - j0 + 1, n);
}

#endif
