/* Streams of bits, least significant bit first: bit i of a stream is bit i mod 8 of byte i / 8 (docs/payload.md).
 * Reads fetch 8 bytes at once and may touch up to 8 bytes behind the last one that counts; in a payload the trailer
 * lies there, so they stay inside its memory. Not part of the public interface. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_BITS_H
#define COVENANT_SPARSELOCO_BITS_H

#include <stdint.h>
#include <string.h>

/** 8 bytes as a little-endian number. */
static inline uint64_t covi_load64(const uint8_t *at) {
  uint64_t x;
  memcpy(&x, at, sizeof x);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  x = __builtin_bswap64(x);
#endif
  return x;
}

static inline void covi_store64(uint8_t *at, uint64_t x) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  x = __builtin_bswap64(x);
#endif
  memcpy(at, &x, sizeof x);
}

/** n <= 32 bits at bit `bit`. */
static inline uint32_t covi_bits_get(const uint8_t *stream, uint64_t bit, int n) {
  return (uint32_t)(covi_load64(stream + bit / 8) >> bit % 8 & ((UINT64_C(1) << n) - 1));
}

typedef struct {
  uint8_t *at;      /* next whole byte */
  uint64_t pending; /* bits not written yet, fewer than 32 between calls */
  int n_pending;
} covi_bit_writer;

/** Append the n <= 32 low bits of value, the others of which are zero. */
static inline void covi_bits_put(covi_bit_writer *w, uint32_t value, int n) {
  w->pending |= (uint64_t)value << w->n_pending;
  w->n_pending += n;
  if (w->n_pending < 32) return;
  for (int i = 0; i < 4; i++) w->at[i] = (uint8_t)(w->pending >> 8 * i);
  w->at += 4;
  w->pending >>= 32;
  w->n_pending -= 32;
}

/** Whole bytes out: fewer than 8 bits stay. */
static inline void covi_bits_flush(covi_bit_writer *w) {
  for (; w->n_pending >= 8; w->n_pending -= 8) {
    *w->at++ = (uint8_t)w->pending;
    w->pending >>= 8;
  }
}

/** covi_bits_put of n <= 56 bits behind a flush, without a jump. Eight bytes are written, whatever n is. */
static inline void covi_bits_put_wide(covi_bit_writer *w, uint64_t value, int n) {
  uint64_t pending = w->pending | value << w->n_pending;
  unsigned bits = (unsigned)(w->n_pending + n);
  covi_store64(w->at, pending);
  w->at += bits / 8;
  w->pending = pending >> (bits & ~7u);
  w->n_pending = (int)(bits & 7);
}

/** Fill the last byte with zeros; returns the end. */
static inline uint8_t *covi_bits_end(covi_bit_writer *w) {
  covi_bits_flush(w);
  if (w->n_pending > 0) *w->at++ = (uint8_t)w->pending;
  w->pending = 0;
  w->n_pending = 0;
  return w->at;
}

#endif
