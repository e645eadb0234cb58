/* Probabilities of the split coder: of n entries in a part, how many lie in its left half, in parts of 2^14.
 * Integers only, so that they are the same on every machine. Inside split.c. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_SPLIT_TABLE_H
#define COVENANT_SPARSELOCO_SPLIT_TABLE_H

#include <stdint.h>

#include "sparseloco/split.h"

enum { COVI_SPLIT_BITS = 14, COVI_SPLIT_PARTS = 1 << COVI_SPLIT_BITS, COVI_SPLIT_SHARES = 64, COVI_SPLIT_DEPTHS = 12 };

struct covi_split {
  int n, k;
  uint16_t *even[COVI_SPLIT_DEPTHS + 1][2];    /* by depth, and size n >> depth or one more: rows of 2 .. k entries */
  uint16_t *shared[COVI_SPLIT_SHARES / 2 + 1]; /* by share of the left half: rows of 1 .. k entries */
  uint16_t *memory;
};

/* One distribution: start[j] is the first part of j entries on the left, start[entries + 1] the number of parts. */
typedef struct {
  const uint16_t *start; /* NULL: a single entry, on the left with `left` parts */
  int entries, mirrored; /* mirrored: of the entries on the right */
  uint32_t left;
} covi_split_row;

/** Parts cut in half, entries anywhere: hypergeometric. 1 <= entries < size. */
covi_split_row covi_split_row_even(const covi_split *split, int depth, int size, int entries);
/** Each entry on the left with probability share / 64: binomial. 1 <= share < 64, 1 <= entries <= k. */
covi_split_row covi_split_row_shared(const covi_split *split, int share, int entries);

static inline void covi_split_symbol(const covi_split_row *row, int left, uint32_t *start, uint32_t *freq) {
  if (!row->start) {
    *start = left ? 0 : row->left;
    *freq = left ? row->left : COVI_SPLIT_PARTS - row->left;
    return;
  }
  int j = row->mirrored ? row->entries - left : left;
  *freq = (uint32_t)(row->start[j + 1] - row->start[j]);
  *start = row->mirrored ? (uint32_t)(COVI_SPLIT_PARTS - row->start[j + 1]) : row->start[j];
}

/** Entries on the left of the symbol that has `part`. */
static inline uint32_t covi_split_find(const covi_split_row *row, uint32_t part, uint32_t *start, uint32_t *freq) {
  int left;
  if (!row->start) {
    left = part < row->left;
  } else {
    uint32_t of = row->mirrored ? COVI_SPLIT_PARTS - 1 - part : part;
    int low = 0, high = row->entries + 1;
    while (high - low > 1) {
      int middle = (low + high) / 2;
      if (of >= row->start[middle]) low = middle;
      else high = middle;
    }
    left = row->mirrored ? row->entries - low : low;
  }
  covi_split_symbol(row, left, start, freq);
  return (uint32_t)left;
}

#endif
