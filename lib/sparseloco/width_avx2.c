/* Eight elements at a time. What each loop computes is written in width_plain.c. */
#include "sparseloco/width.h"

#ifdef COVI_X86
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "sparseloco/bits.h"
#include "sparseloco/code_model.h"
#include "sparseloco/fixed.h"

enum { LANES = 8 };

/* All ones in the first n lanes. */
COVI_AVX2 static inline __m256i lanes_of(int64_t n) {
  int count = n >= LANES ? LANES : (int)n;
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Magnitudes have 31 bits, so signed comparisons order them. */
COVI_AVX2 static inline __m256i magnitude_of(__m256 x) {
  return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32((int)COV_MAGNITUDE_MASK));
}

/* One bit a lane: magnitude >= floor, where `below` is floor - 1. */
COVI_AVX2 static inline unsigned reaching(__m256i magnitude, __m256i below) {
  return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(magnitude, below)));
}

/* A floor beyond all magnitudes (31 bits) is one that none reaches. */
COVI_AVX2 static inline __m256i below_floor(uint32_t floor) {
  return _mm256_set1_epi32(floor > COV_MAGNITUDE_MASK ? (int)COV_MAGNITUDE_MASK : (int)floor - 1);
}

COVI_AVX2 static inline uint32_t highest_lane(__m256i m) {
  uint32_t lane[LANES], highest = 0;
  _mm256_storeu_si256((__m256i *)lane, m);
  for (int i = 0; i < LANES; i++) highest = lane[i] > highest ? lane[i] : highest;
  return highest;
}

COVI_AVX2 static uint32_t avx2_largest(const float *x, int64_t n) {
  __m256i a = _mm256_setzero_si256(), b = a;
  int64_t i = 0;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    a = _mm256_max_epi32(a, magnitude_of(_mm256_loadu_ps(x + i)));
    b = _mm256_max_epi32(b, magnitude_of(_mm256_loadu_ps(x + i + LANES)));
  }
  for (; i < n; i += LANES) a = _mm256_max_epi32(a, magnitude_of(_mm256_maskload_ps(x + i, lanes_of(n - i))));
  return highest_lane(_mm256_max_epi32(a, b));
}

/* Append the columns in `keep` of row r, whose elements are at e. Most rows have one to three: those are stored without
 * asking, and what is beyond the candidates is overwritten by the next ones. */
COVI_AVX2 static inline void append(covi_candidates *c, int r, const float *e, uint64_t keep) {
  uint16_t *place = c->place + c->n;
  uint32_t *bits = c->bits + c->n;
  unsigned first = (unsigned)r * COV_CHUNK_EDGE_MAX;
  int n = (int)_mm_popcnt_u64(keep);
  for (int i = 0; i < 3; i++) {
    unsigned column = (unsigned)_tzcnt_u64(keep) % COV_CHUNK_EDGE_MAX; /* 0 where none is left: inside the row */
    place[i] = (uint16_t)(first + column);
    bits[i] = cov_float_bits(e[column]);
    keep = _blsr_u64(keep);
  }
  for (int i = 3; i < n; i++) {
    unsigned column = (unsigned)_tzcnt_u64(keep);
    place[i] = (uint16_t)(first + column);
    bits[i] = cov_float_bits(e[column]);
    keep = _blsr_u64(keep);
  }
  c->n += n;
}

COVI_AVX2 static void avx2_collect(const float *e, int64_t row_elems, int h, int w, covi_candidates *c) {
  const __m256i below = below_floor(c->floor);
  c->n = 0;
  for (int r = 0; r < h; r++) {
    const float *row = e + r * row_elems;
    uint64_t keep = 0;
    for (int i = 0; i < w; i += LANES) {
      __m256i lanes = lanes_of(w - i), m = magnitude_of(_mm256_maskload_ps(row + i, lanes));
      /* a lane outside has magnitude 0, which a floor of 0 would let in */
      unsigned inside = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(lanes));
      keep |= (uint64_t)(reaching(m, below) & inside) << i;
    }
    append(c, r, row, keep);
  }
}

/* One row of one chunk. */
COVI_AVX2 static inline __m256i feedback_row(const float *theta, const float *theta_end, float *feedback, int w, int r,
                                             __m256 beta, covi_candidates *c, __m256i largest) {
  const __m256i below = below_floor(c->floor);
  uint64_t keep = 0;
  for (int i = 0; i < w; i += LANES) {
    if (i % COVI_LINE_ELEMS == 0) covi_fetch_tile(theta + i, theta_end + i, feedback + i);
    __m256i lanes = lanes_of(w - i);
    unsigned inside = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(lanes));
    __m256 delta = _mm256_sub_ps(_mm256_maskload_ps(theta + i, lanes), _mm256_maskload_ps(theta_end + i, lanes));
    __m256 decayed = _mm256_mul_ps(beta, _mm256_maskload_ps(feedback + i, lanes));
    __m256 e = _mm256_add_ps(decayed, delta);
    __m256i magnitude = _mm256_and_si256(magnitude_of(e), lanes);
    _mm256_maskstore_ps(feedback + i, lanes, e);
    largest = _mm256_max_epi32(largest, magnitude);
    keep |= (uint64_t)(reaching(magnitude, below) & inside) << i;
  }
  append(c, r, feedback, keep);
  return largest;
}

/* The common width, 64, without masks. */
COVI_AVX2 static inline __m256i feedback_row_64(const float *theta, const float *theta_end, float *feedback, int r,
                                                __m256 beta, covi_candidates *c, __m256i largest) {
  const __m256i below = below_floor(c->floor);
  uint64_t keep = 0;
  for (int i = 0; i < 64; i += LANES) {
    if (i % COVI_LINE_ELEMS == 0) covi_fetch_tile(theta + i, theta_end + i, feedback + i);
    __m256 delta = _mm256_sub_ps(_mm256_loadu_ps(theta + i), _mm256_loadu_ps(theta_end + i));
    __m256 decayed = _mm256_mul_ps(beta, _mm256_loadu_ps(feedback + i));
    __m256 e = _mm256_add_ps(decayed, delta);
    __m256i magnitude = magnitude_of(e);
    _mm256_storeu_ps(feedback + i, e);
    largest = _mm256_max_epi32(largest, magnitude);
    keep |= (uint64_t)reaching(magnitude, below) << i;
  }
  append(c, r, feedback, keep);
  return largest;
}

COVI_AVX2 static uint32_t avx2_feedback(const covi_tile *t, covi_candidates *candidates) {
  const __m256 beta = _mm256_set1_ps(t->beta);
  __m256i largest = _mm256_setzero_si256();
  for (int c = 0; c < t->n_chunks; c++) candidates[c].n = 0;
  for (int r = 0; r < t->h; r++) {
    for (int c = 0; c < t->n_chunks; c++) {
      int64_t at = r * t->row_elems + (int64_t)c * t->w;
      if (t->owed) covi_owed_settle(&t->owed[c], r, t->feedback + at);
      if (t->w == 64)
        largest = feedback_row_64(t->theta + at, t->theta_end + at, t->feedback + at, r, beta, &candidates[c], largest);
      else
        largest =
            feedback_row(t->theta + at, t->theta_end + at, t->feedback + at, t->w, r, beta, &candidates[c], largest);
    }
  }
  return highest_lane(largest);
}

/* Magnitudes are padded with zeros to whole vectors, and thresholds are above zero. */
COVI_AVX2 static inline int count_at_least(const uint32_t *magnitude, int n, uint32_t threshold) {
  const __m256i below = below_floor(threshold);
  int count = 0;
  for (int i = 0; i < n; i += LANES)
    count += _mm_popcnt_u32(reaching(_mm256_load_si256((const __m256i *)(magnitude + i)), below));
  return count;
}

/* magnitude[n], padded; returns the largest. */
COVI_AVX2 static inline uint32_t magnitudes_of(const covi_candidates *c, uint32_t *magnitude) {
  __m256i most = _mm256_setzero_si256();
  for (int i = 0; i < c->n; i += LANES) {
    __m256i x = _mm256_maskload_epi32((const int *)(c->bits + i), lanes_of(c->n - i));
    __m256i m = _mm256_and_si256(x, _mm256_set1_epi32((int)COV_MAGNITUDE_MASK));
    _mm256_store_si256((__m256i *)(magnitude + i), m);
    most = _mm256_max_epi32(most, m);
  }
  return highest_lane(most);
}

COVI_AVX2 static uint32_t avx2_pick(const covi_candidates *c, int w, int k, uint16_t *index, float *value) {
  _Alignas(32) uint32_t magnitude[COV_CHUNK_ELEMS_MAX + LANES];
  covi_threshold t = {.low = c->floor, .high = magnitudes_of(c, magnitude) + 1, .reach = c->n};
  while (t.reach != k && t.high - t.low > 1) {
    uint32_t middle = t.low + (t.high - t.low) / 2;
    covi_threshold_narrow(&t, k, middle, count_at_least(magnitude, c->n, middle));
  }
  int ties = t.reach == k ? k : k - count_at_least(magnitude, c->n, t.low + 1), n = 0;
  for (int i = 0; n < k; i++) { /* without a branch: a slot is written before it is known whether it counts */
    int equal = magnitude[i] == t.low && t.reach != k, keep = magnitude[i] >= t.low && !(equal && ties == 0);
    index[n] = (uint16_t)(c->place[i] / COV_CHUNK_EDGE_MAX * w + c->place[i] % COV_CHUNK_EDGE_MAX);
    value[n] = cov_float_from_bits(c->bits[i]);
    ties -= equal && keep;
    n += keep;
  }
  return covi_threshold_floor(&t, c, k);
}

/* x * y modulo 2^64, x below 2^32: there is no 64-bit product of this width. */
COVI_AVX2 static inline __m256i product(__m256i x, __m256i y) {
  __m256i high = _mm256_mul_epu32(x, _mm256_srli_epi64(y, 32));
  return _mm256_add_epi64(_mm256_mul_epu32(x, y), _mm256_slli_epi64(high, 32));
}

COVI_AVX2 static void avx2_hash(const float *x, int64_t n, const uint64_t *const key[2], const uint64_t block[2],
                                uint64_t sum[2][COVI_HASH_LANES]) {
  int64_t i = 0;
  for (int l = 0; l < 2; l++) {
    __m256i part[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    uint64_t lane[COVI_HASH_LANES];
    for (i = 0; i + COVI_HASH_LANES <= n; i += COVI_HASH_LANES) {
      for (int j = 0; j < 2; j++) {
        __m256i bits = _mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i *)(x + i + 4 * j)));
        __m256i k = _mm256_loadu_si256((const __m256i *)(key[l] + i + 4 * j));
        part[j] = _mm256_add_epi64(part[j], product(bits, k));
      }
    }
    _mm256_storeu_si256((__m256i *)lane, part[0]);
    _mm256_storeu_si256((__m256i *)(lane + 4), part[1]);
    for (; i < n; i++) lane[i % COVI_HASH_LANES] += key[l][i] * cov_float_bits(x[i]);
    for (int j = 0; j < COVI_HASH_LANES; j++) sum[l][j] += block[l] * lane[j];
  }
}

/* Where nothing was sent D is +0 and, with an alpha that is not negative, so is alpha D: theta - 0 has the bits of
 * theta, and nobody needs to know where that is. */
COVI_AVX2 static inline __m256 step_eight(__m256 theta, const float *sum, __m256 alpha, int divisor) {
  __m256 direction = _mm256_loadu_ps(sum);
  if (divisor > 0) direction = _mm256_div_ps(direction, _mm256_set1_ps((float)divisor));
  return _mm256_sub_ps(theta, _mm256_mul_ps(alpha, direction));
}

COVI_AVX2 static uint32_t avx2_step(const covi_step *s) {
  const __m256 alpha = _mm256_set1_ps(s->mean.alpha);
  __m256i largest = _mm256_setzero_si256();
  if (s->w % LANES != 0 || signbit(s->mean.alpha)) return covi_width_plain.step(s);
  for (int r = 0; r < s->h; r++) {
    const float *theta = s->theta + r * s->row_elems;
    float *out = s->out + r * s->row_elems, *sum = s->sum + r * s->w;
    for (int i = 0; i < s->w; i += LANES) {
      if (i % COVI_LINE_ELEMS == 0) covi_fetch(theta + i, s->next);
      __m256 x = _mm256_loadu_ps(theta + i);
      largest = _mm256_max_epi32(largest, magnitude_of(x));
      _mm256_storeu_ps(out + i, step_eight(x, sum + i, alpha, s->mean.divisor));
    }
    if (s->leaf) covi_leaf_add(&covi_width_avx2, s->leaf, out, s->first + r * s->row_elems, s->w);
  }
  memset(s->sum, 0, (size_t)(s->h * s->w) * sizeof *s->sum);
  memset(s->count, 0, (size_t)(s->h * s->w) * sizeof *s->count);
  return highest_lane(largest);
}

/* The kept values are few: their sums stay plain. */
static void avx2_moments(const float *v, int64_t n, int exponent, covi_moments *moments) {
  covi_width_plain.moments(v, n, exponent, moments);
}

static void avx2_codes(const float *v, int64_t n, const covi_coding *coding, uint8_t *code) {
  covi_width_plain.codes(v, n, coding, code);
}

static void avx2_count(const float *v, const uint8_t *code, int64_t n, int exponent, int bins, int64_t *counts,
                       int64_t *sums) {
  covi_width_plain.count(v, code, n, exponent, bins, counts, sums);
}

/* The next four words of eight chains: *low has the first two of each, *high the others, in the order of chains. */
COVI_AVX2 static inline void take_words(const uint8_t *const at[LANES], __m256i *low, __m256i *high) {
  /* shuffle_ps works in halves: rows 0 1 | 4 5 and 2 3 | 6 7 come out as 0 1 2 3 | 4 5 6 7 */
  __m256i a = _mm256_set_epi64x((int64_t)covi_load64(at[5]), (int64_t)covi_load64(at[4]), (int64_t)covi_load64(at[1]),
                                (int64_t)covi_load64(at[0]));
  __m256i b = _mm256_set_epi64x((int64_t)covi_load64(at[7]), (int64_t)covi_load64(at[6]), (int64_t)covi_load64(at[3]),
                                (int64_t)covi_load64(at[2]));
  __m256 x = _mm256_castsi256_ps(a), y = _mm256_castsi256_ps(b);
  *low = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88));
  *high = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xDD));
}

/* b where mask, else a. */
COVI_AVX2 static inline __m256i choose(__m256i a, __m256i b, __m256i mask) {
  return _mm256_blendv_epi8(a, b, mask);
}

COVI_AVX2 static inline __m256i load_eight(const void *at) {
  return _mm256_loadu_si256((const __m256i *)at);
}

/* Of the four codes' numbers the one that the masks say: part >= start of code 1, 2, 3. */
COVI_AVX2 static inline __m256i of_code(const __m256i number[4], const __m256i reached[4]) {
  return choose(choose(number[0], number[1], reached[1]), choose(number[2], number[3], reached[3]), reached[2]);
}

/* Eight of the chains, from chain `first` on: what width_plain.c does, four codes between looks at the bytes: a code
 * takes one word at most. */
COVI_AVX2 static inline void eight_chains(covi_chains *c, int first, int n, float *value) {
  const __m256i all_parts = _mm256_set1_epi32((1 << COVI_CODE_BITS) - 1), word = _mm256_set1_epi32(0xFFFF);
  const uint8_t **at = c->at + first;
  __m256i before[4], start[4], freq[4], entry[4], reached[4], low, high, x = load_eight(c->state + first);
  for (int b = 0; b < COVI_CHAIN_BINS; b++) {
    start[b] = load_eight(c->start[b] + first);
    before[b] = _mm256_sub_epi32(start[b], _mm256_set1_epi32(1));
    freq[b] = load_eight(c->freq[b] + first);
    entry[b] = load_eight(c->value[b] + first);
  }
  for (int i = 0; i < n; i += 4) {
    __m256i taken = _mm256_setzero_si256();
    take_words(at, &low, &high);
    for (int j = 0; j < 4; j++) {
      __m256i part = _mm256_and_si256(x, all_parts);
      for (int b = 1; b < COVI_CHAIN_BINS; b++) reached[b] = _mm256_cmpgt_epi32(part, before[b]);
      _mm256_storeu_si256((__m256i *)(value + (i + j) * COVI_CHAINS_MAX + first), of_code(entry, reached));
      x = _mm256_mullo_epi32(of_code(freq, reached), _mm256_srli_epi32(x, COVI_CODE_BITS));
      x = _mm256_add_epi32(x, _mm256_sub_epi32(part, of_code(start, reached)));
      __m256i empty = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
      x = choose(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), _mm256_and_si256(low, word)), empty);
      low = choose(low, _mm256_or_si256(_mm256_srli_epi32(low, 16), _mm256_slli_epi32(high, 16)), empty);
      high = choose(high, _mm256_srli_epi32(high, 16), empty);
      taken = _mm256_sub_epi32(taken, empty);
    }
    uint32_t words[LANES];
    _mm256_storeu_si256((__m256i *)words, taken);
    for (int l = 0; l < LANES; l++) at[l] += 2 * words[l];
  }
  _mm256_storeu_si256((__m256i *)(c->state + first), x);
}

COVI_AVX2 static void avx2_chains(covi_chains *c, int n, float *value) {
  covi_chains_rest(c);
  for (int first = 0; first < c->n; first += LANES) eight_chains(c, first, n, value);
}

const covi_width covi_width_avx2 = {
    .name = "avx2",
    .largest = avx2_largest,
    .feedback = avx2_feedback,
    .collect = avx2_collect,
    .pick = avx2_pick,
    .moments = avx2_moments,
    .codes = avx2_codes,
    .count = avx2_count,
    .chains = avx2_chains,
    .hash = avx2_hash,
    .step = avx2_step,
};
#else
typedef int covi_no_avx2;
#endif
