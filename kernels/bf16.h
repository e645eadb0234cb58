/* bfloat16: the upper half of an f32. Widening is exact; rounding is to nearest, ties to even, and a NaN stays a NaN.
 */
#ifndef COVENANT_KERNELS_BF16_H
#define COVENANT_KERNELS_BF16_H

#include <stdint.h>
#include <string.h>

static inline float covi_bf16_widen(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

static inline uint16_t covi_bf16_round(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  /* The carry could turn a NaN with only low bits set into an infinity, or into the other sign's zero. */
  uint32_t quiet = (bits >> 16) | 0x40u;
  return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

#endif
