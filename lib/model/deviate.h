/* Random numbers that are a pure function of (key, counter): the same bits on every machine and compiler.
 * Integers come from Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11); normal
 * deviates from the inverse normal distribution function (Wichura, algorithm AS 241, Applied Statistics 37, 1988)
 * with a logarithm of our own, so that only + - * / and sqrt occur, which IEEE 754 rounds exactly. All Local. */
#ifndef COVENANT_MODEL_DEVIATE_H
#define COVENANT_MODEL_DEVIATE_H

#include <stdint.h>

/** out[4] = Philox4x32-10 of counter[4] under key[2]. */
void cov_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/** The value that a standard normal variable stays below with probability p; p in (0, 1). Relative error about
 *  1e-15. */
double cov_normal_quantile(double p);
/** Standard normal deviate number `index` of stream `key`; `attempt` > 0 draws again for the same index.
 *  |result| <= 8.3: the uniform number below it has 52 bits. */
double cov_normal_deviate(uint64_t key, uint64_t index, uint32_t attempt);

#endif
