#include "sparseloco/fixed.h"

#include <math.h>

/* An unsigned 128-bit integer, because the variance is formed exactly and ISO C has no type for it. */
typedef struct {
  uint64_t hi, lo;
} wide;

static wide wide_product(uint64_t a, uint64_t b) {
  uint64_t a0 = a & 0xFFFFFFFFu, a1 = a >> 32, b0 = b & 0xFFFFFFFFu, b1 = b >> 32;
  uint64_t low = a0 * b0, mid1 = a1 * b0, mid2 = a0 * b1;
  uint64_t mid = (low >> 32) + (mid1 & 0xFFFFFFFFu) + (mid2 & 0xFFFFFFFFu);
  return (wide){.hi = a1 * b1 + (mid1 >> 32) + (mid2 >> 32) + (mid >> 32), .lo = (mid << 32) | (low & 0xFFFFFFFFu)};
}

static wide wide_add(wide a, wide b) {
  wide r = {.hi = a.hi + b.hi, .lo = a.lo + b.lo};
  r.hi += r.lo < a.lo;
  return r;
}

static wide wide_subtract(wide a, wide b) {
  return (wide){.hi = a.hi - b.hi - (a.lo < b.lo), .lo = a.lo - b.lo};
}

static double wide_to_double(wide a) {
  return (double)a.hi * 18446744073709551616.0 + (double)a.lo;
}

/* hi * 2^32 + lo, the two words of a sum of squares. */
static wide wide_from_words(int64_t hi, int64_t lo) {
  wide high = {.hi = (uint64_t)hi >> 32, .lo = (uint64_t)hi << 32};
  return wide_add(high, (wide){.hi = 0, .lo = (uint64_t)lo});
}

double cov_fixed_unit(int exponent) {
  return ldexp(1.0, exponent - 150 - COV_FIXED_EXTRA_BITS);
}

double cov_fixed_mean(int64_t sum, int64_t n, int exponent) {
  double mean = (double)sum / (double)n;
  return mean * cov_fixed_unit(exponent);
}

double cov_fixed_norm(int64_t hi, int64_t lo, int exponent) {
  double root = sqrt(wide_to_double(wide_from_words(hi, lo)));
  return root * cov_fixed_unit(exponent);
}

double cov_fixed_deviation(int64_t sum, int64_t sq_hi, int64_t sq_lo, int64_t n, int exponent) {
  /* n * sum_sq < 2^126: the three-word product needs the parts of sum_sq one by one. */
  wide squares = wide_from_words(sq_hi, sq_lo);
  wide scaled = wide_product(squares.lo, (uint64_t)n);
  scaled.hi += squares.hi * (uint64_t)n;
  uint64_t magnitude = sum < 0 ? (uint64_t)-sum : (uint64_t)sum;
  wide numerator = wide_subtract(scaled, wide_product(magnitude, magnitude));
  double variance = wide_to_double(numerator) / (double)(n * (n - 1));
  double root = sqrt(variance);
  return root * cov_fixed_unit(exponent);
}
