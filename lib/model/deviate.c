#include "model/deviate.h"

#include <math.h>
#include <string.h>

void cov_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* Natural logarithm of a normal positive double: x = m 2^e with m in [sqrt(1/2), sqrt(2)),
 * log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.1716: eleven terms of the series leave less than 1e-17. */
static double exact_log(double x) {
  static const double ln2 = 0.69314718055994530942, half_root2 = 0.70710678118654752440;
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  int exponent = (int)(bits >> 52) - 1022;
  bits = (bits & 0x000FFFFFFFFFFFFFu) | 0x3FE0000000000000u; /* m in [1/2, 1) */
  double m;
  memcpy(&m, &bits, sizeof m);
  if (m < half_root2) {
    m += m;
    exponent--;
  }
  double s = (m - 1.0) / (m + 1.0), s2 = s * s, sum = 0.0;
  for (int k = 21; k >= 1; k -= 2) sum = sum * s2 + 1.0 / (double)k;
  return (double)exponent * ln2 + 2.0 * s * sum;
}

/* clang-format off */
/* AS 241, PPND16: numerators and denominators of the three ranges, constant term first. */
static const double centre_a[8] = {3.3871328727963666080e0, 1.3314166789178437745e+2, 1.9715909503065514427e+3,
  1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4, 3.3430575583588128105e+4,
  2.5090809287301226727e+3};
static const double centre_b[8] = {1.0, 4.2313330701600911252e+1, 6.8718700749205790830e+2, 5.3941960214247511077e+3,
  2.1213794301586595867e+4, 3.9307895800092710610e+4, 2.8729085735721942674e+4, 5.2264952788528545610e+3};
static const double near_a[8] = {1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
  3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2,
  7.74545014278341407640e-4};
static const double near_b[8] = {1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
  1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9};
static const double far_a[8] = {6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
  2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5,
  2.01033439929228813265e-7};
static const double far_b[8] = {1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
  7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15};
/* clang-format on */

static double ratio(const double a[8], const double b[8], double r) {
  double above = a[7], below = b[7];
  for (int i = 6; i >= 0; i--) {
    above = above * r + a[i];
    below = below * r + b[i];
  }
  return above / below;
}

double cov_normal_quantile(double p) {
  double q = p - 0.5;
  if (q <= 0.425 && q >= -0.425) return q * ratio(centre_a, centre_b, 0.180625 - q * q);
  double r = sqrt(-exact_log(q < 0.0 ? p : 1.0 - p));
  double x = r <= 5.0 ? ratio(near_a, near_b, r - 1.6) : ratio(far_a, far_b, r - 5.0);
  return q < 0.0 ? -x : x;
}

double cov_normal_deviate(uint64_t key, uint64_t index, uint32_t attempt) {
  const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), attempt, 0};
  const uint32_t halves[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
  uint32_t words[4];
  cov_philox(counter, halves, words);
  /* The middle of one of 2^52 equal cells: never 0 or 1, and 1 - p is exact. */
  uint64_t cell = ((uint64_t)words[0] << 32 | words[1]) >> 12;
  return cov_normal_quantile(((double)cell + 0.5) / 4503599627370496.0);
}
