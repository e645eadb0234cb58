/* Top-k of a chunk by magnitude bits (docs/numerics.md, 2). */
#ifndef COVENANT_SPARSELOCO_SELECT_H
#define COVENANT_SPARSELOCO_SELECT_H

#include <stdint.h>

/** Indices, ascending, of the k largest of magnitude[n] (bits 30..0 of the floats), of equal ones the lower index.
 *  1 <= k <= n <= 4096. `*hint` is a guess of the smallest kept magnitude: it decides the time, never the result, and
 * is replaced by a guess for the next chunk; start with 0. Local. */
void cov_select_topk(const uint32_t *magnitude, int n, int k, uint32_t *hint, uint16_t *index);

#endif
