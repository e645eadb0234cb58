/* The writer of codes in vectors (covi_width.put_codes): sixteen bands, each with a state in 64 bits of its own. */
#include "sparseloco/width.h"

#ifdef COVI_X86
#include <immintrin.h>
#include <string.h>

enum { LANES = 8 };

/* The word that a state may give away is stored in front of where each band has come to, whether it goes or not: who
 * takes it back nobody can guess. */
COVI_AVX512 static inline void store_words(__m512i x, __m512i at) {
  uint64_t word[LANES];
  uint8_t *to[LANES];
  _mm512_storeu_si512(word, x);
  _mm512_storeu_si512(to, at);
  for (int l = 0; l < LANES; l++) memcpy(to[l] - 2, &word[l], 2);
}

/* One code of eight bands; the number of the code is in the low three bits of `code`. */
COVI_AVX512 static inline __m512i put_eight(const covi_putter *p, __m512i code, __m512i x, __m512i *at) {
  const __m512i two = _mm512_set1_epi64(2);
  __mmask8 full = _mm512_cmpge_epu64_mask(x, _mm512_permutexvar_epi64(code, _mm512_loadu_si512(p->limit)));
  store_words(x, *at);
  *at = _mm512_mask_sub_epi64(*at, full, *at, two);
  x = _mm512_mask_srli_epi64(x, full, x, 16);
  __m512i reciprocal = _mm512_permutexvar_epi64(code, _mm512_loadu_si512(p->reciprocal));
  __m512i shift = _mm512_permutexvar_epi64(code, _mm512_loadu_si512(p->shift));
  __m512i quotient = _mm512_srlv_epi64(_mm512_mul_epu32(x, reciprocal), shift);
  __m512i others = _mm512_permutexvar_epi64(code, _mm512_loadu_si512(p->others));
  __m512i start = _mm512_permutexvar_epi64(code, _mm512_loadu_si512(p->start));
  return _mm512_add_epi64(_mm512_add_epi64(x, start), _mm512_mul_epu32(quotient, others));
}

COVI_AVX512 static inline void put_sets(covi_putter *p, const uint8_t *code, int64_t n, const int sets) {
  __m512i offset[2], x[2], at[2], four[2];
  for (int s = 0; s < sets; s++) {
    offset[s] = _mm512_loadu_si512(p->offset + s * LANES);
    x[s] = _mm512_loadu_si512(p->state + s * LANES);
    at[s] = _mm512_loadu_si512(p->at + s * LANES);
  }
  for (int64_t i = n - 4; i >= 0; i -= 4) {
    for (int s = 0; s < sets; s++)
      four[s] = _mm512_cvtepu32_epi64(_mm512_i64gather_epi32(offset[s], (const int *)(const void *)(code + i), 1));
    for (int j = 3; j >= 0; j--) {
      for (int s = 0; s < sets; s++) x[s] = put_eight(p, _mm512_srli_epi64(four[s], (unsigned)j * 8), x[s], &at[s]);
    }
  }
  for (int s = 0; s < sets; s++) {
    _mm512_storeu_si512(p->state + s * LANES, x[s]);
    _mm512_storeu_si512(p->at + s * LANES, at[s]);
  }
}

COVI_AVX512 void covi_put_codes_avx512(covi_putter *p, const uint8_t *code, int64_t n) {
  if (p->n > LANES) put_sets(p, code, n, 2);
  else put_sets(p, code, n, 1);
}
#else
typedef int covi_no_codes;
#endif
