/* Sixteen elements at a time. What each loop computes is written in width_plain.c. */
#include "sparseloco/width.h"

#ifdef COVI_X86
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "sparseloco/bits.h"
#include "sparseloco/code_model.h"
#include "sparseloco/fixed.h"

enum { LANES = 16 };

COVI_AVX512 static inline __mmask16 lanes_of(int64_t n) {
  return n >= LANES ? (__mmask16)0xFFFF : (__mmask16)((1u << n) - 1u);
}

COVI_AVX512 static inline __m512i magnitude_of(__m512 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(COV_MAGNITUDE_MASK));
}

COVI_AVX512 static uint32_t avx512_largest(const float *x, int64_t n) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES) {
    a = _mm512_max_epu32(a, magnitude_of(_mm512_loadu_ps(x + i)));
    b = _mm512_max_epu32(b, magnitude_of(_mm512_loadu_ps(x + i + LANES)));
    c = _mm512_max_epu32(c, magnitude_of(_mm512_loadu_ps(x + i + 2 * LANES)));
    d = _mm512_max_epu32(d, magnitude_of(_mm512_loadu_ps(x + i + 3 * LANES)));
  }
  for (; i < n; i += LANES) a = _mm512_max_epu32(a, magnitude_of(_mm512_maskz_loadu_ps(lanes_of(n - i), x + i)));
  return _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_max_epu32(a, b), _mm512_max_epu32(c, d)));
}

/* Append what is kept of sixteen elements, the first of which has place `first`. Nothing is decided by a jump: whole
 * vectors are stored, and what is beyond the candidates is overwritten by the next ones. */
COVI_AVX512 static inline int append(covi_candidates *c, int n, __m512i bits, __mmask16 keep, int first) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512i place = _mm512_add_epi32(_mm512_set1_epi32(first), lane);
  _mm512_storeu_si512(c->bits + n, _mm512_maskz_compress_epi32(keep, bits));
  _mm256_storeu_si256((__m256i *)(c->place + n), _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(keep, place)));
  return n + (int)_mm_popcnt_u32(keep);
}

COVI_AVX512 static void avx512_collect(const float *e, int64_t row_elems, int h, int w, covi_candidates *c) {
  const __m512i floor = _mm512_set1_epi32((int)c->floor);
  int n = 0;
  for (int r = 0; r < h; r++) {
    for (int i = 0; i < w; i += LANES) {
      __mmask16 lanes = lanes_of(w - i);
      __m512 x = _mm512_maskz_loadu_ps(lanes, e + r * row_elems + i);
      __mmask16 keep = _mm512_mask_cmpge_epu32_mask(lanes, magnitude_of(x), floor);
      n = append(c, n, _mm512_castps_si512(x), keep, r * COV_CHUNK_EDGE_MAX + i);
    }
  }
  c->n = n;
}

/* One row of one chunk. */
COVI_AVX512 static inline __m512i feedback_row(const float *theta, const float *theta_end, float *feedback, int w,
                                               int r, __m512 beta, covi_candidates *c, __m512i largest) {
  const __m512i floor = _mm512_set1_epi32((int)c->floor);
  int n = c->n;
  for (int i = 0; i < w; i += LANES) {
    covi_fetch_tile(theta + i, theta_end + i, feedback + i);
    __mmask16 lanes = lanes_of(w - i);
    __m512 delta = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, theta + i), _mm512_maskz_loadu_ps(lanes, theta_end + i));
    __m512 decayed = _mm512_mul_ps(beta, _mm512_maskz_loadu_ps(lanes, feedback + i));
    __m512 e = _mm512_add_ps(decayed, delta);
    __m512i magnitude = magnitude_of(e);
    _mm512_mask_storeu_ps(feedback + i, lanes, e);
    largest = _mm512_mask_max_epu32(largest, lanes, largest, magnitude);
    __mmask16 keep = _mm512_mask_cmpge_epu32_mask(lanes, magnitude, floor);
    n = append(c, n, _mm512_castps_si512(e), keep, r * COV_CHUNK_EDGE_MAX + i);
  }
  c->n = n;
  return largest;
}

/* The common width, 64, without masks. What is owed, some one element of a row, goes into the vectors on the way:
 * stores of single elements would wait for their lines. */
COVI_AVX512 static inline __m512i feedback_row_64(const float *theta, const float *theta_end, float *feedback, int r,
                                                  __m512 beta, covi_candidates *c, __m512i largest, covi_owed *owed) {
  const __m512i floor = _mm512_set1_epi32((int)c->floor);
  uint64_t row = owed->row[r];
  const float *rest = owed->rest;
  int n = c->n;
  for (int i = 0; i < 4; i++) {
    covi_fetch_tile(theta + i * LANES, theta_end + i * LANES, feedback + i * LANES);
    __m512 delta = _mm512_sub_ps(_mm512_loadu_ps(theta + i * LANES), _mm512_loadu_ps(theta_end + i * LANES));
    __mmask16 due = (__mmask16)(row >> (i * LANES));
    __m512 before = _mm512_mask_expandloadu_ps(_mm512_loadu_ps(feedback + i * LANES), due, rest);
    rest += _mm_popcnt_u32(due);
    __m512 e = _mm512_add_ps(_mm512_mul_ps(beta, before), delta);
    __m512i magnitude = magnitude_of(e);
    _mm512_storeu_ps(feedback + i * LANES, e);
    largest = _mm512_max_epu32(largest, magnitude);
    n = append(c, n, _mm512_castps_si512(e), _mm512_cmpge_epu32_mask(magnitude, floor),
               r * COV_CHUNK_EDGE_MAX + i * LANES);
  }
  c->n = n;
  owed->rest = rest;
  return largest;
}

COVI_AVX512 static uint32_t avx512_feedback(const covi_tile *t, covi_candidates *candidates) {
  const __m512 beta = _mm512_set1_ps(t->beta);
  __m512i largest = _mm512_setzero_si512();
  covi_owed nothing = {.rest = t->theta}; /* a masked load from nowhere is slow */
  for (int c = 0; c < t->n_chunks; c++) candidates[c].n = 0;
  for (int r = 0; r < t->h; r++) {
    for (int c = 0; c < t->n_chunks; c++) {
      int64_t at = r * t->row_elems + (int64_t)c * t->w;
      const float *theta = t->theta + at, *theta_end = t->theta_end + at;
      float *e = t->feedback + at;
      covi_owed *owed = t->owed ? &t->owed[c] : &nothing;
      if (t->w == 64) {
        largest = feedback_row_64(theta, theta_end, e, r, beta, &candidates[c], largest, owed);
      } else {
        covi_owed_settle(owed, r, e);
        largest = feedback_row(theta, theta_end, e, t->w, r, beta, &candidates[c], largest);
      }
    }
  }
  return _mm512_reduce_max_epu32(largest);
}

enum { COUNTED_AT_ONCE = 4 * LANES };

/* How many of sixteen magnitudes reach the threshold. */
COVI_AVX512 static inline int reaching(const uint32_t *magnitude, __m512i threshold) {
  return __builtin_popcount(_mm512_cmpge_epu32_mask(_mm512_load_si512(magnitude), threshold));
}

/* Magnitudes are padded with zeros to COUNTED_AT_ONCE, and thresholds are above zero. */
COVI_AVX512 static inline int count_at_least(const uint32_t *magnitude, int n, uint32_t threshold) {
  const __m512i t = _mm512_set1_epi32((int)threshold);
  int count = 0;
  for (int i = 0; i < n; i += COUNTED_AT_ONCE) {
    const uint32_t *m = magnitude + i;
    count += reaching(m, t) + reaching(m + LANES, t) + reaching(m + 2 * LANES, t) + reaching(m + 3 * LANES, t);
  }
  return count;
}

/* magnitude[n], padded; returns the largest. */
COVI_AVX512 static inline uint32_t magnitudes_of(const covi_candidates *c, uint32_t *magnitude) {
  __m512i most = _mm512_setzero_si512();
  for (int i = 0; i < c->n || i % COUNTED_AT_ONCE != 0; i += LANES) {
    __m512i x = _mm512_maskz_loadu_epi32(i < c->n ? lanes_of(c->n - i) : 0, c->bits + i);
    __m512i m = _mm512_and_si512(x, _mm512_set1_epi32(COV_MAGNITUDE_MASK));
    _mm512_store_si512(magnitude + i, m);
    most = _mm512_max_epu32(most, m);
  }
  return _mm512_reduce_max_epu32(most);
}

/* Of the lanes that equal the threshold only the first *ties stay, over all calls. */
COVI_AVX512 static inline __mmask16 limit_ties(__mmask16 keep, __mmask16 equal, int *ties) {
  while (__builtin_popcount(equal) > *ties) { /* drop the highest */
    __mmask16 highest = (__mmask16)(1u << (31 - __builtin_clz((unsigned)equal)));
    equal = (__mmask16)(equal ^ highest);
    keep = (__mmask16)(keep ^ highest);
  }
  *ties -= __builtin_popcount(equal);
  return keep;
}

COVI_AVX512 static uint32_t avx512_pick(const covi_candidates *c, int w, int k, uint16_t *index, float *value) {
  _Alignas(64) uint32_t magnitude[COV_CHUNK_ELEMS_MAX + COUNTED_AT_ONCE];
  uint32_t out_bits[COV_CHUNK_ELEMS_MAX + LANES], out_place[COV_CHUNK_ELEMS_MAX + LANES];
  covi_threshold t = {.low = c->floor, .high = magnitudes_of(c, magnitude) + 1, .reach = c->n};
  while (t.reach != k && t.high - t.low > 1) {
    uint32_t middle = t.low + (t.high - t.low) / 2;
    covi_threshold_narrow(&t, k, middle, count_at_least(magnitude, c->n, middle));
  }
  int ties = t.reach == k ? k : k - count_at_least(magnitude, c->n, t.low + 1), n = 0;
  const __m512i threshold = _mm512_set1_epi32((int)t.low);
  for (int i = 0; i < c->n; i += LANES) {
    __mmask16 lanes = lanes_of(c->n - i);
    __m512i m = _mm512_load_si512(magnitude + i);
    __mmask16 keep = _mm512_mask_cmpge_epu32_mask(lanes, m, threshold);
    if (t.reach != k) keep = limit_ties(keep, _mm512_mask_cmpeq_epu32_mask(keep, m, threshold), &ties);
    __m512i place = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(c->place + i)));
    _mm512_storeu_si512(out_bits + n, _mm512_maskz_compress_epi32(keep, _mm512_loadu_si512(c->bits + i)));
    _mm512_storeu_si512(out_place + n, _mm512_maskz_compress_epi32(keep, place));
    n += __builtin_popcount(keep);
  }
  memcpy(value, out_bits, (size_t)k * sizeof *value);
  const __m512i width = _mm512_set1_epi32(w), column = _mm512_set1_epi32(COV_CHUNK_EDGE_MAX - 1);
  for (int j = 0; j < k; j += LANES) {
    __m512i place = _mm512_loadu_si512(out_place + j);
    __m512i at =
        _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(place, 6), width), _mm512_and_si512(place, column));
    _mm256_mask_storeu_epi16(index + j, lanes_of(k - j), _mm512_cvtepi32_epi16(at));
  }
  return covi_threshold_floor(&t, c, k);
}

/* |q| of sixteen floats from their bits (cov_fixed_magnitude). */
COVI_AVX512 static inline __m512i fixed_magnitude(__m512i bits, int exponent) {
  const __m512i none = _mm512_setzero_si512(), extra = _mm512_set1_epi32(COV_FIXED_EXTRA_BITS);
  __m512i x = _mm512_and_si512(_mm512_srli_epi32(bits, 23), _mm512_set1_epi32(0xFF));
  __m512i s = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFF));
  s = _mm512_mask_or_epi32(s, _mm512_test_epi32_mask(x, x), s, _mm512_set1_epi32(0x800000));
  __m512i d = _mm512_sub_epi32(_mm512_set1_epi32(exponent), _mm512_max_epi32(x, _mm512_set1_epi32(1)));
  __m512i left = _mm512_max_epi32(_mm512_sub_epi32(extra, d), none);
  __m512i right = _mm512_max_epi32(_mm512_sub_epi32(d, extra), none); /* 24 and more shift everything out */
  return _mm512_srlv_epi32(_mm512_sllv_epi32(s, left), right);
}

/* Lanes 0 - 7, or 8 - 15, in 64 bits. */
COVI_AVX512 static inline __m512i low_half(__m512i x) {
  return _mm512_cvtepu32_epi64(_mm512_castsi512_si256(x));
}
COVI_AVX512 static inline __m512i high_half(__m512i x) {
  return _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(x, 1));
}

COVI_AVX512 static inline __m512i with_sign(__m512i q, __mmask8 negative) {
  return _mm512_mask_sub_epi64(q, negative, _mm512_setzero_si512(), q);
}

/* 0 beyond n, whose q is 0. */
COVI_AVX512 static inline __m512i load_bits(const float *v, int64_t n) {
  return _mm512_maskz_loadu_epi32(lanes_of(n), v);
}

typedef struct {
  __m512i sum, magnitude, hi, lo;
} moment_lanes;

COVI_AVX512 static inline void add_moments(__m512i q, __mmask8 negative, moment_lanes *m) {
  __m512i square = _mm512_mul_epu32(q, q);
  m->sum = _mm512_add_epi64(m->sum, with_sign(q, negative));
  m->magnitude = _mm512_add_epi64(m->magnitude, q);
  m->hi = _mm512_add_epi64(m->hi, _mm512_srli_epi64(square, 32));
  m->lo = _mm512_add_epi64(m->lo, _mm512_and_si512(square, _mm512_set1_epi64(0xFFFFFFFF)));
}

COVI_AVX512 static void avx512_moments(const float *v, int64_t n, int exponent, covi_moments *moments) {
  moment_lanes m = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  for (int64_t i = 0; i < n; i += LANES) {
    __m512i bits = load_bits(v + i, n - i), q = fixed_magnitude(bits, exponent);
    __mmask16 negative = _mm512_movepi32_mask(bits);
    add_moments(low_half(q), (__mmask8)negative, &m);
    add_moments(high_half(q), (__mmask8)(negative >> 8), &m);
  }
  moments->sum += _mm512_reduce_add_epi64(m.sum);
  moments->magnitude += _mm512_reduce_add_epi64(m.magnitude);
  moments->sq_hi += _mm512_reduce_add_epi64(m.hi);
  moments->sq_lo += _mm512_reduce_add_epi64(m.lo);
}

COVI_AVX512 static void avx512_codes(const float *v, int64_t n, const covi_coding *coding, uint8_t *code) {
  const __m512 shift = _mm512_set1_ps(coding->shift), scale = _mm512_set1_ps(coding->scale);
  const __m512 middle = _mm512_set1_ps(coding->middle), top = _mm512_set1_ps((float)coding->top);
  for (int64_t i = 0; i < n; i += LANES) {
    __mmask16 lanes = lanes_of(n - i);
    __m512 centred = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, v + i), shift);
    __m512 t = _mm512_add_ps(_mm512_div_ps(centred, scale), middle);
    t = _mm512_min_ps(_mm512_max_ps(t, _mm512_setzero_ps()), top);
    __m512i nearest = _mm512_cvt_roundps_epi32(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_mask_storeu_epi8(code + i, lanes, _mm512_cvtepi32_epi8(nearest));
  }
}

enum { COUNTED_BINS_MAX = 4 };

/* One bin after the other, for as many as there are registers. */
COVI_AVX512 static void avx512_count(const float *v, const uint8_t *code, int64_t n, int exponent, int bins,
                                     int64_t *counts, int64_t *sums) {
  __m512i sum[COUNTED_BINS_MAX];
  if (bins > COUNTED_BINS_MAX) {
    covi_width_plain.count(v, code, n, exponent, bins, counts, sums);
    return;
  }
  for (int b = 0; b < COUNTED_BINS_MAX; b++) sum[b] = _mm512_setzero_si512();
  for (int64_t i = 0; i < n; i += LANES) {
    __mmask16 lanes = lanes_of(n - i);
    __m512i bits = load_bits(v + i, n - i), q = fixed_magnitude(bits, exponent);
    __mmask16 negative = _mm512_movepi32_mask(bits);
    __m512i low = with_sign(low_half(q), (__mmask8)negative);
    __m512i high = with_sign(high_half(q), (__mmask8)(negative >> 8));
    __m128i codes = _mm_maskz_loadu_epi8(lanes, code + i);
    for (int b = 0; b < COUNTED_BINS_MAX; b++) {
      __mmask16 own = _mm_mask_cmpeq_epi8_mask(lanes, codes, _mm_set1_epi8((char)b));
      sum[b] = _mm512_mask_add_epi64(sum[b], (__mmask8)own, sum[b], low);
      sum[b] = _mm512_mask_add_epi64(sum[b], (__mmask8)(own >> 8), sum[b], high);
      if (b < bins) counts[b] += __builtin_popcount(own);
    }
  }
  for (int b = 0; b < bins; b++) sums[b] += _mm512_reduce_add_epi64(sum[b]);
}

/* part[l] += bits * key[l] of eight elements. */
COVI_AVX512 static inline void hash_eight(__m256i bits, const uint64_t *key0, const uint64_t *key1, __m512i part[2]) {
  __m512i wide = _mm512_cvtepu32_epi64(bits);
  part[0] = _mm512_add_epi64(part[0], _mm512_mullo_epi64(wide, _mm512_loadu_si512(key0)));
  part[1] = _mm512_add_epi64(part[1], _mm512_mullo_epi64(wide, _mm512_loadu_si512(key1)));
}

/* total[l] += block[l] * part[l]. */
COVI_AVX512 static inline void hash_block(const __m512i part[2], const uint64_t block[2], __m512i total[2]) {
  for (int l = 0; l < 2; l++)
    total[l] = _mm512_add_epi64(total[l], _mm512_mullo_epi64(part[l], _mm512_set1_epi64((long long)block[l])));
}

COVI_AVX512 static void avx512_hash(const float *x, int64_t n, const uint64_t *const key[2], const uint64_t block[2],
                                    uint64_t sum[2][COVI_HASH_LANES]) {
  __m512i part[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) hash_eight(_mm256_loadu_si256((const __m256i *)(x + i)), key[0] + i, key[1] + i, part);
  if (i < n) {
    __mmask8 lanes = (__mmask8)((1u << (n - i)) - 1u);
    __m512i wide = _mm512_cvtepu32_epi64(_mm256_maskz_loadu_epi32(lanes, x + i));
    for (int l = 0; l < 2; l++)
      part[l] = _mm512_add_epi64(part[l], _mm512_mullo_epi64(wide, _mm512_maskz_loadu_epi64(lanes, key[l] + i)));
  }
  __m512i total[2] = {_mm512_loadu_si512(sum[0]), _mm512_loadu_si512(sum[1])};
  hash_block(part, block, total);
  for (int l = 0; l < 2; l++) _mm512_storeu_si512(sum[l], total[l]);
}

/* Sixteen elements: their next values; sums are cleared. Where nothing was sent D is +0 and, with an alpha that is not
 * negative, so is alpha D: theta - 0 has the bits of theta, and nobody needs to know where that is. */
COVI_AVX512 static inline __m512 step_sixteen(__m512 theta, float *sum, __mmask16 lanes, __m512 alpha, int divisor) {
  __m512 direction = _mm512_maskz_loadu_ps(lanes, sum);
  if (divisor > 0) direction = _mm512_div_ps(direction, _mm512_set1_ps((float)divisor));
  _mm512_mask_storeu_ps(sum, lanes, _mm512_setzero_ps());
  return _mm512_sub_ps(theta, _mm512_mul_ps(alpha, direction));
}

/* part[l] += bits of sixteen elements times their keys, two in a 64-bit lane (covi_leaf.pair_key). */
COVI_AVX512 static inline void hash_pairs(__m512i bits, const uint64_t *key0, const uint64_t *key1, __m512i part[2]) {
  __m512i odd = _mm512_srli_epi64(bits, 32);
  part[0] = _mm512_add_epi64(part[0], _mm512_mullo_epi64(bits, _mm512_loadu_si512(key0)));
  part[1] = _mm512_add_epi64(part[1], _mm512_mullo_epi64(bits, _mm512_loadu_si512(key1)));
  part[0] = _mm512_add_epi64(part[0], _mm512_mullo_epi64(odd, _mm512_loadu_si512(key0 + 8)));
  part[1] = _mm512_add_epi64(part[1], _mm512_mullo_epi64(odd, _mm512_loadu_si512(key1 + 8)));
}

/* Rows of 64 in step with the blocks of the hash: everything in registers. */
COVI_AVX512 static inline uint32_t step_64(const covi_step *s, int hashed) {
  const covi_step c = *s; /* a copy, which stores through its pointers cannot change */
  const __m512 alpha = _mm512_set1_ps(c.mean.alpha);
  __m512i largest = _mm512_setzero_si512(), total[2] = {largest, largest};
  covi_leaf leaf = {0};
  if (hashed) leaf = *c.leaf;
  for (int r = 0; r < c.h; r++) {
    const float *theta = c.theta + r * c.row_elems;
    float *out = c.out + r * c.row_elems;
    int64_t first = c.first + r * c.row_elems, at = first % COVI_HASH_BLOCK_ELEMS;
    const uint64_t *key0 = hashed ? leaf.pair_key[0] + at : NULL, *key1 = hashed ? leaf.pair_key[1] + at : NULL;
    __m512i part[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int i = 0; i < 64; i += LANES) {
      covi_fetch(theta + i, c.next);
      __m512 x = _mm512_loadu_ps(theta + i);
      largest = _mm512_max_epu32(largest, magnitude_of(x));
      x = step_sixteen(x, c.sum + r * 64 + i, 0xFFFF, alpha, c.mean.divisor);
      _mm512_storeu_ps(out + i, x);
      if (hashed) hash_pairs(_mm512_castps_si512(x), key0 + i, key1 + i, part);
    }
    if (hashed) hash_block(part, leaf.block_key[first / COVI_HASH_BLOCK_ELEMS], total);
  }
  for (int l = 0; hashed && l < 2; l++)
    _mm512_storeu_si512(c.leaf->sum[l], _mm512_add_epi64(_mm512_loadu_si512(c.leaf->sum[l]), total[l]));
  memset(c.count, 0, (size_t)c.h * 64 * sizeof *c.count);
  return _mm512_reduce_max_epu32(largest);
}

COVI_AVX512 static uint32_t avx512_step(const covi_step *s) {
  const __m512 alpha = _mm512_set1_ps(s->mean.alpha);
  __m512i largest = _mm512_setzero_si512();
  if (signbit(s->mean.alpha)) return covi_width_plain.step(s);
  if (s->w == 64 && s->row_elems % 64 == 0 && s->first % 64 == 0) return s->leaf ? step_64(s, 1) : step_64(s, 0);
  for (int r = 0; r < s->h; r++) {
    const float *theta = s->theta + r * s->row_elems;
    float *out = s->out + r * s->row_elems;
    for (int i = 0; i < s->w; i += LANES) {
      __mmask16 lanes = lanes_of(s->w - i);
      covi_fetch(theta + i, s->next);
      __m512 x = _mm512_maskz_loadu_ps(lanes, theta + i);
      largest = _mm512_max_epu32(largest, magnitude_of(x));
      x = step_sixteen(x, s->sum + r * s->w + i, lanes, alpha, s->mean.divisor);
      _mm512_mask_storeu_ps(out + i, lanes, x);
    }
    if (s->leaf) covi_leaf_add(&covi_width_avx512, s->leaf, out, s->first + r * s->row_elems, s->w);
  }
  memset(s->count, 0, (size_t)(s->h * s->w) * sizeof *s->count);
  return _mm512_reduce_max_epu32(largest);
}

/* The next four words of sixteen chains: *low has the first two of each, *high the others. */
COVI_AVX512 static inline void take_words(const uint8_t *const at[COVI_CHAINS_MAX], __m512i *low, __m512i *high) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#define EIGHT(l)                                                                         \
  _mm512_set_epi64((int64_t)covi_load64(at[(l) + 7]), (int64_t)covi_load64(at[(l) + 6]), \
                   (int64_t)covi_load64(at[(l) + 5]), (int64_t)covi_load64(at[(l) + 4]), \
                   (int64_t)covi_load64(at[(l) + 3]), (int64_t)covi_load64(at[(l) + 2]), \
                   (int64_t)covi_load64(at[(l) + 1]), (int64_t)covi_load64(at[l]))
  __m512i a = EIGHT(0), b = EIGHT(8);
#undef EIGHT
  *low = _mm512_permutex2var_epi32(a, even, b);
  *high = _mm512_permutex2var_epi32(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
}

/* Of the four codes' numbers the one that the masks say: part >= start of code 1, 2, 3. */
COVI_AVX512 static inline __m512i of_code(const __m512i number[4], const __mmask16 reached[4]) {
  __m512i x = _mm512_mask_mov_epi32(number[0], reached[1], number[1]);
  return _mm512_mask_mov_epi32(x, reached[2], _mm512_mask_mov_epi32(number[2], reached[3], number[3]));
}

/* What width_plain.c does, four codes between looks at the bytes: a code takes one word at most. */
COVI_AVX512 static void avx512_chains(covi_chains *c, int n, float *value) {
  const __m512i all_parts = _mm512_set1_epi32((1 << COVI_CODE_BITS) - 1), word = _mm512_set1_epi32(0xFFFF);
  const __m512i least = _mm512_set1_epi32((int)COVI_RANS_START), one = _mm512_set1_epi32(1);
  covi_chains_rest(c);
  __m512i start[4], freq[4], entry[4], low, high, x = _mm512_loadu_si512(c->state);
  for (int b = 0; b < COVI_CHAIN_BINS; b++) {
    start[b] = _mm512_loadu_si512(c->start[b]);
    freq[b] = _mm512_loadu_si512(c->freq[b]);
    entry[b] = _mm512_loadu_si512(c->value[b]);
  }
  for (int i = 0; i < n; i += 4) {
    __m512i taken = _mm512_setzero_si512();
    take_words(c->at, &low, &high);
    for (int j = 0; j < 4; j++) {
      __mmask16 reached[4];
      __m512i part = _mm512_and_si512(x, all_parts);
      for (int b = 1; b < COVI_CHAIN_BINS; b++) reached[b] = _mm512_cmpge_epu32_mask(part, start[b]);
      _mm512_storeu_si512(value + (i + j) * COVI_CHAINS_MAX, of_code(entry, reached));
      x = _mm512_mullo_epi32(of_code(freq, reached), _mm512_srli_epi32(x, COVI_CODE_BITS));
      x = _mm512_add_epi32(x, _mm512_sub_epi32(part, of_code(start, reached)));
      __mmask16 empty = _mm512_cmplt_epu32_mask(x, least);
      x = _mm512_mask_or_epi32(x, empty, _mm512_slli_epi32(x, 16), _mm512_and_si512(low, word));
      low = _mm512_mask_or_epi32(low, empty, _mm512_srli_epi32(low, 16), _mm512_slli_epi32(high, 16));
      high = _mm512_mask_srli_epi32(high, empty, high, 16);
      taken = _mm512_mask_add_epi32(taken, empty, taken, one);
    }
    uint32_t words[LANES];
    _mm512_storeu_si512(words, taken);
    for (int l = 0; l < COVI_CHAINS_MAX; l++) c->at[l] += 2 * words[l];
  }
  _mm512_storeu_si512(c->state, x);
}

/* The tables differ in how they read indices. */
#define TABLE(label, rice)                                                                                         \
  {                                                                                                                \
    .name = label, .largest = avx512_largest, .feedback = avx512_feedback, .collect = avx512_collect,              \
    .pick = avx512_pick, .moments = avx512_moments, .codes = avx512_codes, .count = avx512_count, .rice_64 = rice, \
    .chains = avx512_chains, .put_codes = covi_put_codes_avx512, .hash = avx512_hash, .step = avx512_step,         \
  }

const covi_width covi_width_avx512 = TABLE("avx512", covi_rice_64_avx512);
const covi_width covi_width_vbmi2 = TABLE("avx512vbmi2", covi_rice_64_vbmi2);
#else
typedef int covi_no_avx512;
#endif
