/* The random generator of numpy's default_rng(seed), bit for bit: SeedSequence for a 32-bit seed, PCG64 (a 128-bit
 * linear congruential generator with the XSL-RR output), buffered 32-bit halves, Lemire's bounded integers.
 * The original system draws its samples with it, so every peer and every validator must reproduce it exactly.
 * Source: protocol.md section 6.3, vectors V17 and V18. It assigns data, and it draws the tokens of sampled text.
 * All functions are Local; a generator belongs to one thread. */
#ifndef COVENANT_DATA_PCG64_H
#define COVENANT_DATA_PCG64_H

#include <stdint.h>

typedef struct {
  uint64_t state_high, state_low;         /* 128-bit state */
  uint64_t increment_high, increment_low; /* odd */
  uint32_t half;                          /* upper half of the last 64-bit output, if not used yet */
  int has_half;
} cov_pcg64;

/** The state of numpy.random.default_rng(seed) before its first draw. */
void cov_pcg64_open(cov_pcg64 *g, uint32_t seed);
/** Next 64 bits; leaves a buffered half where it is, as numpy does. */
uint64_t cov_pcg64_next64(cov_pcg64 *g);
/** Next 32 bits: the low half of a fresh 64-bit output, then its high half. */
uint32_t cov_pcg64_next32(cov_pcg64 *g);
/** Uniform in [0, 1): 53 bits. */
double cov_pcg64_double(cov_pcg64 *g);
/** Uniform integer in [0, max], without bias (Lemire, 32 bits); max = 0 gives 0 without a draw. */
uint32_t cov_pcg64_upto(cov_pcg64 *g, uint32_t max);

#endif
