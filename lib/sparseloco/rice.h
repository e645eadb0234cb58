/* Golomb-Rice coding of the indices of a band, the fast index coder: 7.52 bits an index at 64 of 4096.
 *
 * An index is coded as the gap g >= 0 to the one before it in its chunk. The low b bits of all gaps of the band come
 * first, b bits each; then the quotients g >> b in unary, as zeros closed by a one. Apart from each other both can be
 * read without a chain of decisions: the low bits lie at known places, and the sum of the quotients up to an entry is
 * the place of its one minus the number of ones before it. b follows from k and chunk size.
 * Not part of the public interface. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_RICE_H
#define COVENANT_SPARSELOCO_RICE_H

#include <stddef.h>
#include <stdint.h>

/** b for k of n: the one with the smallest longest chunk, k (b + 1) + ((n - k) >> b) bits; the smaller of equal ones.
 */
int covi_rice_parameter(int k, int n);
/** What no band of n_chunks chunks exceeds, in bytes. */
size_t covi_rice_bytes_max(int64_t n_chunks, int k, int n);
/** Write the indices of n_chunks chunks, k each, ascending and below n; returns the end. */
uint8_t *covi_rice_write(const uint16_t *index, int64_t n_chunks, int k, int n, uint8_t *out);

/* Before a chunk of a band. */
typedef struct {
  const uint8_t *low, *unary, *end; /* end: of what may be read as part of the band */
  uint64_t low_bit, unary_bit;
  int k, n, b;
  uint32_t longest; /* bits of the quotients of one chunk */
} covi_rice_reader;

/** Returns 0 if the low bits alone do not fit before `end`. */
int covi_rice_open(covi_rice_reader *r, int64_t n_chunks, int k, int n, const uint8_t *at, const uint8_t *end);
/** The next chunk; 0 if it leaves the chunk or the band. */
int covi_rice_next(covi_rice_reader *r, uint16_t *index);
/** The end of the band after its last chunk; NULL if it lies behind `end` or unused bits are not zero. */
const uint8_t *covi_rice_close(const covi_rice_reader *r);

#endif
