/* The Rice reader's usual chunk in vectors (rice.h, covi_width.rice_64). The sum of the quotients up to an index is the
 * place of its one minus the number of ones before it, so that what is to be found are the places of 64 ones. */
#include "sparseloco/width.h"

#ifdef COVI_X86
#include <immintrin.h>
#include <string.h>

#include "sparseloco/bits.h"

enum { LANES = 16 };

COVI_AVX512 static inline __m512i lane_numbers(void) {
  return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/* Places of the first 64 ones; 0 if they are not within `limit` bits. place[64 + LANES]. */
COVI_AVX512 static inline int find_ones(const uint8_t *stream, uint64_t first_bit, uint64_t limit, uint32_t *place) {
  int n = 0;
  for (uint64_t at = 0; n < 64;) {
    if (at >= limit) return 0;
    uint64_t bit = first_bit + at, word = covi_load64(stream + bit / 8) >> bit % 8;
    for (uint32_t part = 0; part < 64 && n < 64; part += LANES) {
      __mmask16 ones = (__mmask16)(word >> part);
      __m512i here = _mm512_add_epi32(_mm512_set1_epi32((int)((uint32_t)at + part)), lane_numbers());
      _mm512_storeu_si512(place + n, _mm512_maskz_compress_epi32(ones, here));
      n += __builtin_popcount(ones);
    }
    at += 64 - bit % 8;
  }
  return place[63] < limit;
}

#define FOUR(n)    n, (n) + 1, (n) + 2, (n) + 3
#define SIXTEEN(n) FOUR(n), FOUR((n) + 4), FOUR((n) + 8), FOUR((n) + 12)
static const _Alignas(64) uint8_t byte_numbers[64] = {SIXTEEN(0), SIXTEEN(16), SIXTEEN(32), SIXTEEN(48)};
#undef SIXTEEN
#undef FOUR

/* The same for limits of at most 192: of each 64 bits the numbers of the ones, as bytes, in one instruction. No byte is
 * read behind that of the last bit. place[192]. */
COVI_VBMI2 static inline int find_ones_192(const uint8_t *stream, uint64_t first_bit, uint64_t limit, uint8_t *place) {
  uint64_t bytes = (first_bit % 8 + limit + 7) / 8, word[4];
  __m256i raw = _mm256_maskz_loadu_epi8((__mmask32)((UINT64_C(1) << bytes) - 1), stream + first_bit / 8);
  __m256i above = _mm256_alignr_epi64(_mm256_setzero_si256(), raw, 1); /* the word behind each */
  __m128i skipped = _mm_cvtsi32_si128((int)(first_bit % 8)), kept = _mm_cvtsi32_si128(64 - (int)(first_bit % 8));
  _mm256_storeu_si256((__m256i *)word, _mm256_or_si256(_mm256_srl_epi64(raw, skipped), _mm256_sll_epi64(above, kept)));
  __m512i number = _mm512_load_si512(byte_numbers);
  int n = 0;
  for (int i = 0; i < 3; i++) {
    _mm512_storeu_si512(place + n, _mm512_maskz_compress_epi8(word[i], number));
    number = _mm512_add_epi8(number, _mm512_set1_epi8(64));
    n += (int)_mm_popcnt_u64(word[i]);
  }
  return n >= 64 && place[63] < limit;
}

/* Sixteen values of 5 bits, one after the other from bit 0 of `at`: two bytes that hold each, shifted into place. */
COVI_AVX512 static inline __m512i five_bits(const uint8_t *at) {
#define BYTES(e) (((5 * (e)) / 8 + 1) << 8 | (5 * (e)) / 8 | (int)0x80800000)
  const __m512i window =
      _mm512_setr_epi32(BYTES(0), BYTES(1), BYTES(2), BYTES(3), BYTES(4), BYTES(5), BYTES(6), BYTES(7), BYTES(8),
                        BYTES(9), BYTES(10), BYTES(11), BYTES(12), BYTES(13), BYTES(14), BYTES(15));
#undef BYTES
  const __m512i shift =
      _mm512_and_si512(_mm512_mullo_epi32(lane_numbers(), _mm512_set1_epi32(5)), _mm512_set1_epi32(7));
  __m128i bytes = _mm_maskz_loadu_epi8(0x3FF, at); /* ten: no byte behind the last one is read */
  __m512i pairs = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), window);
  return _mm512_and_si512(_mm512_srlv_epi32(pairs, shift), _mm512_set1_epi32(31));
}

/* Each lane plus all below it. */
COVI_AVX512 static inline __m512i running_sum(__m512i x) {
  const __m512i zero = _mm512_setzero_si512();
  x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 15));
  x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 14));
  x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 12));
  return _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 8));
}

/* Indices from the places of the ones of four times sixteen, and from the low bits. */
COVI_AVX512 static inline void join(const __m512i place[4], const uint8_t *low, uint16_t *index) {
  __m512i carry = _mm512_setzero_si512();
  for (int j = 0; j < 4; j++) {
    __m512i number = _mm512_add_epi32(lane_numbers(), _mm512_set1_epi32(LANES * j));
    __m512i quotients = _mm512_sub_epi32(place[j], number);
    __m512i lows = _mm512_add_epi32(carry, running_sum(five_bits(low + 10 * j)));
    carry = _mm512_permutexvar_epi32(_mm512_set1_epi32(15), lows);
    __m512i at = _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(quotients, 5), lows), number);
    _mm256_storeu_si256((__m256i *)(index + LANES * j), _mm512_cvtepi32_epi16(at));
  }
}

COVI_AVX512 int covi_rice_64_avx512(const uint8_t *low, const uint8_t *unary, uint64_t *unary_bit, uint64_t limit,
                                    uint16_t *index) {
  uint32_t place[64 + LANES];
  __m512i places[4];
  if (!find_ones(unary, *unary_bit, limit, place)) return 0;
  *unary_bit += place[63] + 1;
  for (int j = 0; j < 4; j++) places[j] = _mm512_loadu_si512(place + LANES * j);
  join(places, low, index);
  return 1;
}

COVI_VBMI2 int covi_rice_64_vbmi2(const uint8_t *low, const uint8_t *unary, uint64_t *unary_bit, uint64_t limit,
                                  uint16_t *index) {
  uint8_t place[192];
  __m512i places[4];
  if (!find_ones_192(unary, *unary_bit, limit, place)) return 0;
  *unary_bit += (uint64_t)place[63] + 1;
  for (int j = 0; j < 4; j++) places[j] = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(place + LANES * j)));
  join(places, low, index);
  return 1;
}
#else
typedef int covi_no_rice_vectors;
#endif
