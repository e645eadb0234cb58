/* Bits of floats, fixed point, and the 128-bit integers needed for exact variances (docs/numerics.md, 3).
 * Everything is Local and uses integer operations only, except the functions that return double. */
#ifndef COVENANT_SPARSELOCO_FIXED_H
#define COVENANT_SPARSELOCO_FIXED_H

#include <stdint.h>
#include <string.h>

enum { COV_FIXED_EXTRA_BITS = 8 };
#define COV_MAGNITUDE_MASK 0x7FFFFFFFu
#define COV_MAGNITUDE_INF  0x7F800000u /* magnitudes from here on are not finite */

static inline uint32_t cov_float_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}
static inline float cov_float_from_bits(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

/** E of a tensor whose largest magnitude bits are `max_magnitude`. */
static inline int cov_fixed_exponent(uint32_t max_magnitude) {
  int e = (int)(max_magnitude >> 23);
  return e > 0 ? e : 1;
}
/** |q(v)| from the bits of v; exponent = E. < 2^32. */
static inline uint64_t cov_fixed_magnitude(uint32_t bits, int exponent) {
  uint32_t x = (bits >> 23) & 0xFFu, s = bits & 0x7FFFFFu;
  if (x == 0) x = 1;
  else s |= 0x800000u;
  int d = exponent - (int)x;
  if (d <= COV_FIXED_EXTRA_BITS) return (uint64_t)s << (COV_FIXED_EXTRA_BITS - d);
  d -= COV_FIXED_EXTRA_BITS;
  return d < 24 ? (uint64_t)s >> d : 0;
}
/** q(v), with its sign. */
static inline int64_t cov_fixed_value(uint32_t bits, int exponent) {
  int64_t q = (int64_t)cov_fixed_magnitude(bits, exponent);
  return bits >> 31 ? -q : q;
}
/** Unit u = 2^(E-158): v = q * u. */
double cov_fixed_unit(int exponent);
/** fl64(fl64(sum / n) * u), n >= 1. */
double cov_fixed_mean(int64_t sum, int64_t n, int exponent);
/** sqrt(hi * 2^32 + lo) * u: the norm from a sum of squares in two words. */
double cov_fixed_norm(int64_t hi, int64_t lo, int exponent);
/** Sample standard deviation from the exact n * sum_sq - sum^2; n >= 2. */
double cov_fixed_deviation(int64_t sum, int64_t sq_hi, int64_t sq_lo, int64_t n, int exponent);

#endif
