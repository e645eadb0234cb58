#include "sparseloco/rice.h"

#include "sparseloco/bits.h"
#include "sparseloco/width.h"

static uint32_t longest_quotients(int k, int n, int b) {
  return (uint32_t)(k + ((n - k) >> b));
}

int covi_rice_parameter(int k, int n) {
  int best = 0;
  uint32_t least = UINT32_MAX;
  for (int b = 0; b < 12; b++) {
    uint32_t bits = (uint32_t)(k * b) + longest_quotients(k, n, b);
    if (bits < least) {
      least = bits;
      best = b;
    }
  }
  return best;
}

size_t covi_rice_bytes_max(int64_t n_chunks, int k, int n) {
  int b = covi_rice_parameter(k, n);
  return ((size_t)n_chunks * (size_t)(k * b) + 7) / 8 + ((size_t)n_chunks * longest_quotients(k, n, b) + 7) / 8;
}

/* Low bits of a chunk's gaps, four at a time where four fit into one word. */
static inline void write_lows(covi_bit_writer *w, const uint16_t *gap, int k, int b) {
  uint32_t mask = (1u << b) - 1;
  int i = 0;
  for (; 4 * b <= 32 && i + 4 <= k; i += 4) {
    uint32_t x = gap[i] & mask;
    for (int j = 1; j < 4; j++) x |= (gap[i + j] & mask) << (j * b);
    covi_bits_put(w, x, 4 * b);
  }
  for (; i < k; i++) covi_bits_put(w, gap[i] & mask, b);
}

static inline void write_quotient(covi_bit_writer *w, uint32_t zeros) {
  for (; zeros > 31; zeros -= 31) covi_bits_put(w, 0, 31);
  covi_bits_put(w, 1u << zeros, (int)zeros + 1);
}

/* Quotients of a chunk's gaps. `wide`: eight at a time where they fit into 56 bits, which they nearly always do; then
 * 64 bits more must follow. */
static inline void write_quotients(covi_bit_writer *w, const uint16_t *gap, int k, int b, int wide) {
  int i = 0;
  for (; wide && i + 8 <= k; i += 8) {
    uint32_t one = (uint32_t)gap[i] >> b; /* place of the latest one */
    uint64_t x = UINT64_C(1) << (one & 63);
    for (int j = 1; j < 8; j++) {
      one += 1 + ((uint32_t)gap[i + j] >> b);
      x |= UINT64_C(1) << (one & 63);
    }
    if (one < 56) {
      covi_bits_put_wide(w, x, (int)one + 1);
    } else {
      for (int j = 0; j < 8; j++) write_quotient(w, (uint32_t)gap[i + j] >> b);
      covi_bits_flush(w);
    }
  }
  for (; i < k; i++) write_quotient(w, (uint32_t)gap[i] >> b);
  covi_bits_flush(w);
}

static inline void find_gaps(const uint16_t *index, int k, uint16_t *gap) {
  gap[0] = index[0];
  for (int i = 1; i < k; i++) gap[i] = (uint16_t)(index[i] - index[i - 1] - 1);
}

static inline uint8_t *write_chunks(const uint16_t *index, int64_t n_chunks, int k, int b, uint8_t *out) {
  uint16_t gap[4096];
  covi_bit_writer w = {.at = out};
  for (int64_t c = 0; c < n_chunks; c++) {
    find_gaps(index + c * k, k, gap);
    write_lows(&w, gap, k, b);
  }
  w = (covi_bit_writer){.at = covi_bits_end(&w)};
  for (int64_t c = 0; c < n_chunks; c++) {
    find_gaps(index + c * k, k, gap);
    write_quotients(&w, gap, k, b, k >= 64 && c + 1 < n_chunks); /* a quotient has one bit at least */
  }
  return covi_bits_end(&w);
}

uint8_t *covi_rice_write(const uint16_t *index, int64_t n_chunks, int k, int n, uint8_t *out) {
  int b = covi_rice_parameter(k, n);
  if (k == 64 && b == 5)
    return write_chunks(index, n_chunks, 64, 5, out); /* the usual shape: loops of a known length */
  return write_chunks(index, n_chunks, k, b, out);
}

int covi_rice_open(covi_rice_reader *r, int64_t n_chunks, int k, int n, const uint8_t *at, const uint8_t *end) {
  int b = covi_rice_parameter(k, n);
  size_t low_bytes = ((size_t)n_chunks * (size_t)(k * b) + 7) / 8;
  if ((size_t)(end - at) < low_bytes) return 0;
  uint64_t unused = (uint64_t)low_bytes * 8 - (uint64_t)n_chunks * (uint64_t)(k * b);
  if (unused > 0 && at[low_bytes - 1] >> (8 - unused) != 0) return 0;
  *r = (covi_rice_reader){
      .low = at, .unary = at + low_bytes, .end = end, .k = k, .n = n, .b = b, .longest = longest_quotients(k, n, b)};
  return 1;
}

/* Sum of the quotients up to each of the next k ones; 0 if they do not end within `limit` bits. */
static inline int read_quotients(covi_rice_reader *r, int k, uint64_t limit, uint16_t *sum) {
  uint64_t at = 0; /* bits from the start of the chunk */
  int i = 0;
  while (at < limit) {
    uint64_t bit = r->unary_bit + at, word = covi_load64(r->unary + bit / 8) >> bit % 8;
    while (word != 0) {
      uint64_t one = at + (uint64_t)__builtin_ctzll(word);
      sum[i] = (uint16_t)(one - (uint64_t)i);
      word &= word - 1;
      if (++i < k) continue;
      r->unary_bit += one + 1;
      return one < limit;
    }
    at += 64 - bit % 8;
  }
  return 0;
}

static inline int next_chunk(covi_rice_reader *r, int k, int b, uint16_t *index) {
  uint64_t left = 8 * (uint64_t)(r->end - r->unary) - r->unary_bit;
  uint16_t low[4096];
  if (!read_quotients(r, k, left < r->longest ? left : r->longest, index)) return 0;
  for (int i = 0; i < k; i++) low[i] = (uint16_t)covi_bits_get(r->low, r->low_bit + (uint64_t)(i * b), b);
  r->low_bit += (uint64_t)(k * b);
  uint32_t lows = 0, last = 0;
  for (int i = 0; i < k; i++) {
    lows += low[i];
    last = ((uint32_t)index[i] << b) + lows + (uint32_t)i;
    index[i] = (uint16_t)last;
  }
  return last < (uint32_t)r->n;
}

int covi_rice_next(covi_rice_reader *r, uint16_t *index) {
  if (r->k == 64 && r->b == 5) { /* the usual shape: loops of a known length, or of a vector */
    const covi_width *width = covi_width_get();
    if (!width->rice_64) return next_chunk(r, 64, 5, index);
    uint64_t left = 8 * (uint64_t)(r->end - r->unary) - r->unary_bit;
    const uint8_t *low = r->low + r->low_bit / 8;
    if (!width->rice_64(low, r->unary, &r->unary_bit, left < r->longest ? left : r->longest, index)) return 0;
    r->low_bit += 64 * 5;
    return index[63] < r->n;
  }
  return next_chunk(r, r->k, r->b, index);
}

const uint8_t *covi_rice_close(const covi_rice_reader *r) {
  const uint8_t *end = r->unary + (r->unary_bit + 7) / 8;
  if (end > r->end) return NULL;
  unsigned used = (unsigned)(r->unary_bit % 8);
  return used != 0 && end[-1] >> used != 0 ? NULL : end;
}
