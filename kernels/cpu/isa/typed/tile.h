/* Blocks of matrix products out of packed operands, for attention.
 *
 * Packed operands consist of *words* of four bytes. In f32 a word is one element. Where elements are bf16 and the
 * processor multiplies pairs of them (AVX512-BF16), a word is two elements that follow each other along the summed
 * index, and one instruction does both products; elsewhere bf16 is widened while it is packed. The left operand is read
 * word by word at any strides, the right one in panels of NR columns: panel p holds its columns as [words][NR].
 *
 * A product covers tiles of MR rows and NR columns, all in registers; buffers are padded to whole tiles. */
#ifndef COVENANT_KERNELS_CPU_TILE_H
#define COVENANT_KERNELS_CPU_TILE_H

#include "cpu/isa/typed/elem.h"
#include "cpu/isa/vec.h"

#if COVI_ELEM_BF16 && defined(__AVX512BF16__)
#define COVI_PAIRS 1
enum { PER_WORD = 2 };
typedef uint32_t word;
typedef __m512bh operand;
static inline operand operand_load(const word *b) {
  return (__m512bh)_mm512_loadu_si512(b);
}
static inline operand operand_set(word a) {
  return (__m512bh)_mm512_set1_epi32((int)a);
}
static inline vec multiply_add(vec sum, operand a, operand b) {
  return _mm512_dpbf16_ps(sum, a, b);
}
#else
#define COVI_PAIRS 0
enum { PER_WORD = 1 };
typedef float word;
typedef vec operand;
static inline operand operand_load(const word *b) {
  return vec_load(b);
}
static inline operand operand_set(word a) {
  return vec_set(a);
}
static inline vec multiply_add(vec sum, operand a, operand b) {
  return vec_fma(a, b, sum);
}
#endif

enum { MR = LANES == 16 ? 8 : 4, NV = 2, NR = NV * LANES };

static inline vec vec_of(const elem *x) {
#if COVI_ELEM_BF16
  return vec_load_bf16(x);
#else
  return vec_load(x);
#endif
}

/* The left operand of a product: word (i, k) is at[i * row + k * step]. */
typedef struct {
  const word *at;
  int64_t row, step;
} left;

/* C[MR, NR] = keep_i C + sum over k < words of a(i, k) b[k][NR]. keep = NULL: old values are not read. */
static inline void tile_product(float *c, int64_t ldc, const float *keep, left a, const word *b, int64_t words) {
  vec sum[MR][NV];
#pragma GCC unroll 8
  for (int i = 0; i < MR; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) {
      sum[i][v] = keep ? vec_mul(vec_set(keep[i]), vec_load(c + i * ldc + v * LANES)) : vec_set(0.0f);
    }
  }
  for (int64_t k = 0; k < words; k++, a.at += a.step, b += NR) {
    operand right[NV];
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) right[v] = operand_load(b + v * LANES);
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
      operand x = operand_set(a.at[i * a.row]);
#pragma GCC unroll 2
      for (int v = 0; v < NV; v++) sum[i][v] = multiply_add(sum[i][v], x, right[v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) vec_store(c + i * ldc + v * LANES, sum[i][v]);
  }
}

/* Vector j of row p of a left operand. */
static inline void store_left(word *p, int64_t j, vec v) {
#if COVI_PAIRS
  _mm256_storeu_si256((__m256i *)(void *)((uint16_t *)p + j), (__m256i)_mm512_cvtneps_pbh(v));
#else
  vec_store(p + j, v);
#endif
}

/* One vector each of PER_WORD rows that follow each other, for a left operand summed over rows. */
static inline void store_rows(word *p, const vec *rows) {
#if COVI_PAIRS
  const __m512i interleave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                              6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  _mm512_storeu_si512(p, _mm512_permutexvar_epi16(interleave, (__m512i)_mm512_cvtne2ps_pbh(rows[1], rows[0])));
#else
  vec_store(p, rows[0]);
#endif
}

/* ---- packing rows x[n, E] of row length ld; what lies beyond n or E becomes 0 ---- */

/* Rows lie far apart and are short, which processors do not foresee: ask for the one some rows ahead. */
static inline void fetch_ahead(const elem *row, int64_t ld, int64_t E) {
  enum { ROWS_AHEAD = 8, LINE_BYTES = 64 };
  const char *ahead = (const char *)(row + ROWS_AHEAD * ld);
  for (int64_t at = 0; at < E * (int64_t)sizeof *row; at += LINE_BYTES) __builtin_prefetch(ahead + at);
}

/* As a left operand summed over columns: word (i, k) at to[i * words + k], words = ceil(E / PER_WORD), for i < rows. */
static inline void pack_left(word *to, const elem *x, int64_t ld, int64_t n, int64_t E, int64_t rows) {
  const int64_t words = (E + PER_WORD - 1) / PER_WORD;
  for (int64_t i = 0; i < n; i++) {
    fetch_ahead(x + i * ld, ld, E);
#if COVI_PAIRS
    if (E % 2) to[i * words + words - 1] = 0;
    memcpy(to + i * words, x + i * ld, (size_t)E * sizeof *x);
#else
    for (int64_t e = 0; e < E; e++) to[i * words + e] = wide(x[i * ld + e]);
#endif
  }
  memset(to + n * words, 0, (size_t)((rows - n) * words) * sizeof *to);
}

/* Element e of row a and, in pairs, of the row behind it. */
static inline word word_of(const elem *a, const elem *behind, int64_t e) {
#if COVI_PAIRS
  return a[e] | (word)behind[e] << 16;
#else
  (void)behind;
  return wide(a[e]);
#endif
}

/* As a right operand summed over rows: panels of NR columns, each [rows / PER_WORD][NR]; rows a multiple of both. */
static inline void pack_right_by_rows(word *to, const elem *x, int64_t ld, int64_t n, int64_t E, int64_t rows) {
  for (int64_t e0 = 0; e0 < E; e0 += NR) {
    const int64_t width = least(E - e0, NR);
    for (int64_t k = 0; k < rows; k += PER_WORD, to += NR) {
      const elem *a = x + k * ld + e0;
      if (width == NR && k + PER_WORD <= n) {
        for (int64_t e = 0; e < NR; e++) to[e] = word_of(a, a + ld, e);
        continue;
      }
      memset(to, 0, NR * sizeof *to);
#if COVI_PAIRS
      for (int64_t e = 0; k < n && e < width; e++) to[e] = a[e];
      for (int64_t e = 0; k + 1 < n && e < width; e++) to[e] |= (word)a[ld + e] << 16;
#else
      for (int64_t e = 0; k < n && e < width; e++) to[e] = wide(a[e]);
#endif
    }
  }
}

/* As a right operand summed over columns, the rows being its columns: panels of NR rows, each [words][NR]. */
static inline void pack_right_by_columns(word *to, const elem *x, int64_t ld, int64_t n, int64_t E, int64_t rows) {
  const int64_t words = (E + PER_WORD - 1) / PER_WORD;
  memset(to, 0, (size_t)(rows * words) * sizeof *to);
  for (int64_t i = 0; i < n; i++) {
    word *column = to + i / NR * NR * words + i % NR;
    const elem *row = x + i * ld;
    fetch_ahead(row, ld, E);
#if COVI_PAIRS
    for (int64_t k = 0; k < E / 2; k++) column[k * NR] = row[2 * k] | (word)row[2 * k + 1] << 16;
    if (E % 2) column[E / 2 * NR] = row[E - 1];
#else
    for (int64_t k = 0; k < E; k++) column[k * NR] = wide(row[k]);
#endif
  }
}

#endif
