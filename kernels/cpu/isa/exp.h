/* An exponential that compilers can vectorise (libm's expf is a call per element).
 *
 * exp(x) = 2^n e^r, n = round(x / ln 2), r = x - n ln 2 with ln 2 in two pieces (the first has 15 bits, so n times it
 * is exact), e^r = 1 + r + r^2 q(r). q interpolates (e^r - 1 - r) / r^2 at five Chebyshev nodes of |r| <= ln(2)/2; that
 * alone errs by 1.1e-8 relative. With rounding: at most 1.5 ulp for -86.64 <= x <= 88.72 (tests/unit). Below: exactly 0
 * (true value < 2^-125). Above: infinity. NaN stays NaN. */
#ifndef COVENANT_KERNELS_CPU_EXP_H
#define COVENANT_KERNELS_CPU_EXP_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float exp_f32(float x) {
  /* Adding 1.5 * 2^23 leaves round(x / ln 2) in the low mantissa bits. No float-to-int conversion: that is undefined
   * for NaN and for large values. */
  const float shifter = 0x1.8p23f;
  float t = x * 0x1.715476p+0f + shifter;
  float n = t - shifter;
  float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  float q = 0x1.6d113cp-10f;
  q = q * r + 0x1.120ba2p-7f;
  q = q * r + 0x1.55551ap-5f;
  q = q * r + 0x1.5554dcp-3f;
  q = q * r + 0.5f;
  float y = 1.0f + (r + r * r * q);
  /* 2^(n-1), doubled afterwards, so that n = 128 does not overflow before the mantissa is in. */
  uint32_t bits;
  memcpy(&bits, &t, sizeof bits);
  bits = (bits - 0x4B400000u + 126u) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  y = y * power * 2.0f;
  y = x < -86.6433945f ? 0.0f : y;
  return x > 88.7228317f ? INFINITY : y;
}

#endif
