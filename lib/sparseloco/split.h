/* The tighter index coder: a chunk is halved again and again, and of each half with something in it is coded how many
 * of the entries lie on its left. With hypergeometric probabilities that is exactly the combinatorial bound, log2
 * C(n, k) bits a chunk (7.36 an index at 64 of 4096). What exceeds the bound is rounding and 3 bytes a band.
 *
 * Where entries crowd in some rows of the matrix, a band can be coded with probabilities that adapt: the first six
 * halvings of a 64 x 64 chunk divide its rows, and how the chunks of the band before were divided says how the next one
 * is. A band begins anew; so it can be read without any other. The writer tries what is shortest for each band: even
 * (0), adaptive (1) or Golomb-Rice (2, bounds the length).
 * Not part of the public interface. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_SPLIT_H
#define COVENANT_SPARSELOCO_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "sparseloco/rans.h"
#include "sparseloco/rice.h"

enum { COVI_SPLIT_K_MAX = 128, COVI_SPLIT_NODES = 64 };

/* Probabilities for k of n. */
typedef struct covi_split covi_split;

/** For 2 <= k <= COVI_SPLIT_K_MAX, k < n <= 4096; about 200 KiB at 64 of 4096. NULL if memory is short. */
covi_split *covi_split_create(int n, int k);
void covi_split_destroy(covi_split *split);

/** What no band of n_chunks chunks exceeds, in bytes. */
size_t covi_split_bytes_max(int64_t n_chunks, int k, int n);
/** Bytes of `scratch` for a band; it is aligned as malloc does. */
size_t covi_split_scratch_bytes(int64_t n_chunks, int k);
/** Write the indices of n_chunks chunks, k each, ascending and below n; returns the end. */
uint8_t *covi_split_write(const covi_split *split, const uint16_t *index, int64_t n_chunks, uint8_t *scratch,
                          uint8_t *out);

/* Before a chunk of a band. */
typedef struct {
  const covi_split *split;
  int mode;
  uint32_t state;
  covi_rans_words words;
  covi_rice_reader rice;                                    /* mode 2 */
  uint16_t left[COVI_SPLIT_NODES], right[COVI_SPLIT_NODES]; /* mode 1: entries so far on either side of a node */
} covi_split_reader;

/** Returns 0 if this cannot be a band. */
int covi_split_open(covi_split_reader *r, const covi_split *split, int64_t n_chunks, const uint8_t *at,
                    const uint8_t *end);
/** The next chunk; 0 if there are no bytes left. */
int covi_split_next(covi_split_reader *r, uint16_t *index);
/** The end of the band after its last chunk; NULL if these are not the bytes that the writer makes in this mode. */
const uint8_t *covi_split_close(const covi_split_reader *r);

#endif
