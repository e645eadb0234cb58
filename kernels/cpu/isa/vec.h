/* One vector of f32 of the width that the file is compiled for, for the few loops that must hold whole tiles in
 * registers and cannot be left to the compiler's vectoriser. LANES elements; every function is one or a few
 * instructions. */
#ifndef COVENANT_KERNELS_CPU_VEC_H
#define COVENANT_KERNELS_CPU_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "bf16.h"

#if defined(__AVX512F__)
#include <immintrin.h>
enum { LANES = 16 };
typedef __m512 vec;
static inline vec vec_set(float x) {
  return _mm512_set1_ps(x);
}
static inline vec vec_load(const float *x) {
  return _mm512_loadu_ps(x);
}
static inline void vec_store(float *x, vec v) {
  _mm512_storeu_ps(x, v);
}
static inline vec vec_add(vec a, vec b) {
  return _mm512_add_ps(a, b);
}
static inline vec vec_sub(vec a, vec b) {
  return _mm512_sub_ps(a, b);
}
static inline vec vec_mul(vec a, vec b) {
  return _mm512_mul_ps(a, b);
}
/* a * b + c */
static inline vec vec_fma(vec a, vec b, vec c) {
  return _mm512_fmadd_ps(a, b, c);
}
/* b where either is a NaN */
static inline vec vec_max(vec a, vec b) {
  return _mm512_max_ps(a, b);
}
static inline vec vec_min(vec a, vec b) {
  return _mm512_min_ps(a, b);
}
/* 1 / x to 2e-7 for 2^-126 <= x <= 2^126: an estimate of 14 bits and one step of Newton's. */
static inline vec vec_inverse(vec x) {
  vec y = _mm512_rcp14_ps(x);
  return _mm512_fmadd_ps(y, _mm512_fnmadd_ps(x, y, _mm512_set1_ps(1.0f)), y);
}
static inline float vec_sum(vec v) {
  return _mm512_reduce_add_ps(v);
}
static inline float vec_top(vec v) {
  return _mm512_reduce_max_ps(v);
}
static inline vec vec_round(vec x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* m * 2^n for whole n, n > -200; 0 below the range of f32 */
static inline vec vec_scale2(vec m, vec n) {
  return _mm512_scalef_ps(m, n);
}
static inline vec vec_load_bf16(const uint16_t *x) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)x)), 16));
}

#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
enum { LANES = 8 };
typedef __m256 vec;
static inline vec vec_set(float x) {
  return _mm256_set1_ps(x);
}
static inline vec vec_load(const float *x) {
  return _mm256_loadu_ps(x);
}
static inline void vec_store(float *x, vec v) {
  _mm256_storeu_ps(x, v);
}
static inline vec vec_add(vec a, vec b) {
  return _mm256_add_ps(a, b);
}
static inline vec vec_sub(vec a, vec b) {
  return _mm256_sub_ps(a, b);
}
static inline vec vec_mul(vec a, vec b) {
  return _mm256_mul_ps(a, b);
}
static inline vec vec_fma(vec a, vec b, vec c) {
  return _mm256_fmadd_ps(a, b, c);
}
static inline vec vec_max(vec a, vec b) {
  return _mm256_max_ps(a, b);
}
static inline vec vec_min(vec a, vec b) {
  return _mm256_min_ps(a, b);
}
static inline vec vec_inverse(vec x) {
  return _mm256_div_ps(_mm256_set1_ps(1.0f), x);
}
static inline float vec_sum(vec v) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
static inline float vec_top(vec v) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
static inline vec vec_round(vec x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* In two steps, since 2^n alone may be too small for f32. */
static inline vec vec_scale2(vec m, vec n) {
  __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), rest = _mm256_sub_epi32(whole, half);
  const __m256i one = _mm256_set1_epi32(127);
  m = _mm256_mul_ps(m, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, one), 23)));
  return _mm256_mul_ps(m, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, one), 23)));
}
static inline vec vec_load_bf16(const uint16_t *x) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)x)), 16));
}

#else
/* The compiler's own vectors: SSE2, NEON or plain scalars. */
enum { LANES = 4 };
typedef float vec __attribute__((vector_size(16)));
typedef int32_t int_vec __attribute__((vector_size(16)));
static inline vec vec_set(float x) {
  return (vec){x, x, x, x};
}
static inline vec vec_load(const float *x) {
  vec v;
  memcpy(&v, x, sizeof v);
  return v;
}
static inline void vec_store(float *x, vec v) {
  memcpy(x, &v, sizeof v);
}
static inline vec vec_add(vec a, vec b) {
  return a + b;
}
static inline vec vec_sub(vec a, vec b) {
  return a - b;
}
static inline vec vec_mul(vec a, vec b) {
  return a * b;
}
static inline vec vec_fma(vec a, vec b, vec c) {
  return a * b + c;
}
static inline vec vec_max(vec a, vec b) {
  int_vec larger = a > b;
  return (vec)(((int_vec)a & larger) | ((int_vec)b & ~larger));
}
static inline vec vec_min(vec a, vec b) {
  int_vec smaller = a < b;
  return (vec)(((int_vec)a & smaller) | ((int_vec)b & ~smaller));
}
static inline vec vec_inverse(vec x) {
  return vec_set(1.0f) / x;
}
static inline float vec_sum(vec v) {
  return (v[0] + v[2]) + (v[1] + v[3]);
}
static inline float vec_top(vec v) {
  float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
  return a > b ? a : b;
}
/* Adding 1.5 * 2^23 leaves no room for a fraction. */
static inline vec vec_round(vec x) {
  return (x + vec_set(0x1.8p23f)) - vec_set(0x1.8p23f);
}
/* In two steps, since 2^n alone may be too small for f32; n is read from the mantissa of a sum as above. */
static inline vec vec_scale2(vec m, vec n) {
  int_vec whole = (int_vec)(n + vec_set(0x1.8p23f)) - (int_vec)vec_set(0x1.8p23f), half = whole >> 1;
  m *= (vec)((half + 127) << 23);
  return m * (vec)((whole - half + 127) << 23);
}
static inline vec vec_load_bf16(const uint16_t *x) {
  return (vec){covi_bf16_widen(x[0]), covi_bf16_widen(x[1]), covi_bf16_widen(x[2]), covi_bf16_widen(x[3])};
}
#endif

/* 2^x for x <= 126, to 2e-7 relative; 0 for x < -150. Rounding to the nearest whole number leaves |f| <= 1/2, where a
 * polynomial of degree 5 with the least relative error (1e-7, found by exchange) gives 2^f. NaN stays NaN. */
static inline vec vec_exp2(vec x) {
  x = vec_max(vec_set(-180.0f), x);
  vec n = vec_round(x), f = vec_sub(x, n), y = vec_set(0x1.5c08e6p-10f);
  y = vec_fma(y, f, vec_set(0x1.3d0c52p-7f));
  y = vec_fma(y, f, vec_set(0x1.c6b6e4p-5f));
  y = vec_fma(y, f, vec_set(0x1.ebf918p-3f));
  y = vec_fma(y, f, vec_set(0x1.62e428p-1f));
  y = vec_fma(y, f, vec_set(1.0f));
  return vec_scale2(y, n);
}

#endif
