/* Range asymmetric numeral systems (Duda 2013): a state x in [2^16, 2^32), words of 16 bits, probabilities in parts of
 * 2^bits. Coding runs backwards, decoding forwards, and each is the exact inverse of the other, so that symbols have
 * one code only: a decoder that ends in the state the coder began with, at the end of the words, has read the bytes
 * that the coder writes for these symbols. Integers only. Not part of the public interface. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_RANS_H
#define COVENANT_SPARSELOCO_RANS_H

#include <stdint.h>

#define COVI_RANS_START ((uint32_t)1 << 16)

/** Code a symbol of `freq` parts that begin at part `start`. *at moves down by 2 bytes or not at all. */
static inline uint32_t covi_rans_put(uint32_t x, uint32_t start, uint32_t freq, int bits, uint8_t **at) {
  if ((uint64_t)x >= (uint64_t)freq << (32 - bits)) {
    *at -= 2;
    (*at)[0] = (uint8_t)x;
    (*at)[1] = (uint8_t)(x >> 8);
    x >>= 16;
  }
  return ((x / freq) << bits) + x % freq + start;
}

/** The reciprocal of freq <= 2^bits for covi_rans_put_fast; bits = 12. */
static inline uint64_t covi_rans_reciprocal(uint32_t freq) {
  return ((UINT64_C(1) << 44) + freq - 1) / freq;
}

/** The same as covi_rans_put for bits = 12 without its division. When x is divided, x < freq 2^20 <= 2^32. With
 *  m = (2^44 + e) / freq, 0 <= e < freq, the product x m is x 2^44 / freq + x e / freq, where x e / freq < 2^32 <=
 *  2^44 / freq is too little to reach the next integer; and x m < 2^64, because 2^20 freq <= 2^44 / freq. */
static inline uint32_t covi_rans_put_fast(uint32_t x, uint32_t start, uint32_t freq, uint64_t reciprocal,
                                          uint8_t **at) {
  if ((uint64_t)x >= (uint64_t)freq << 20) {
    *at -= 2;
    (*at)[0] = (uint8_t)x;
    (*at)[1] = (uint8_t)(x >> 8);
    x >>= 16;
  }
  uint32_t quotient = (uint32_t)((x * reciprocal) >> 44);
  return (quotient << 12) + (x - quotient * freq) + start;
}

/** The part in which the next symbol lies. */
static inline uint32_t covi_rans_part(uint32_t x, int bits) {
  return x & ((1u << bits) - 1);
}

/* Words that are still to be read. */
typedef struct {
  const uint8_t *at, *end;
  int overrun; /* 1: more were wanted than there are */
} covi_rans_words;

/** Go past that symbol. */
static inline uint32_t covi_rans_pass(uint32_t x, uint32_t start, uint32_t freq, int bits, covi_rans_words *words) {
  x = freq * (x >> bits) + (x & ((1u << bits) - 1)) - start;
  if (x < COVI_RANS_START) {
    if (words->end - words->at < 2) {
      words->overrun = 1;
      return COVI_RANS_START;
    }
    x = x << 16 | words->at[0] | (uint32_t)words->at[1] << 8;
    words->at += 2;
  }
  return x;
}

static inline void covi_rans_state_put(uint32_t x, uint8_t *at) {
  for (int i = 0; i < 4; i++) at[i] = (uint8_t)(x >> 8 * i);
}
static inline uint32_t covi_rans_state_get(const uint8_t *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

#endif
