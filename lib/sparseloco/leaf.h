/* Leaves of the state hash (docs/numerics.md, 6): how to begin and end one. Elements are added by covi_leaf_add of
 * width.h. Not part of the public interface. */
#ifndef COVENANT_SPARSELOCO_LEAF_H
#define COVENANT_SPARSELOCO_LEAF_H

#include <stdint.h>

#include "sparseloco/width.h"

/** Multipliers of blocks 0 .. n-1 of a band, the same for all bands. */
void covi_block_keys(int64_t n, uint64_t (*block_key)[2]);
/** An empty leaf. `block_key` is borrowed: [blocks of the band]. */
void covi_leaf_open(covi_leaf *leaf, const uint64_t (*block_key)[2]);
/** The 16 bytes. */
void covi_leaf_close(const covi_leaf *leaf, uint8_t *bytes);

#endif
