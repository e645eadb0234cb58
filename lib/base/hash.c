#include "base/hash.h"

#include <string.h>

#include "base/status.h"

static const uint64_t iv[8] = {0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
                               0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u};

static const uint8_t sigma[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static uint64_t load64(const uint8_t *p) {
  uint64_t x;
  memcpy(&x, p, sizeof x);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  x = __builtin_bswap64(x);
#endif
  return x;
}

static uint64_t rotr(uint64_t x, int n) {
  return x >> n | x << (64 - n);
}

static void mix(uint64_t v[16], int a, int b, int c, int d, uint64_t x, uint64_t y) {
  v[a] += v[b] + x;
  v[d] = rotr(v[d] ^ v[a], 32);
  v[c] += v[d];
  v[b] = rotr(v[b] ^ v[c], 24);
  v[a] += v[b] + y;
  v[d] = rotr(v[d] ^ v[a], 16);
  v[c] += v[d];
  v[b] = rotr(v[b] ^ v[c], 63);
}

static void compress(cov_blake2b *s, const uint8_t block[128], int last) {
  uint64_t m[16], v[16];
  for (int i = 0; i < 16; i++) m[i] = load64(block + 8 * i);
  memcpy(v, s->h, sizeof s->h);
  memcpy(v + 8, iv, sizeof iv);
  v[12] ^= s->count[0];
  v[13] ^= s->count[1];
  if (last) v[14] = ~v[14];
#pragma GCC unroll 12 /* so that the order of the words is known where they are fetched: two thirds of the time */
  for (int r = 0; r < 12; r++) {
    const uint8_t *p = sigma[r % 10];
    mix(v, 0, 4, 8, 12, m[p[0]], m[p[1]]);
    mix(v, 1, 5, 9, 13, m[p[2]], m[p[3]]);
    mix(v, 2, 6, 10, 14, m[p[4]], m[p[5]]);
    mix(v, 3, 7, 11, 15, m[p[6]], m[p[7]]);
    mix(v, 0, 5, 10, 15, m[p[8]], m[p[9]]);
    mix(v, 1, 6, 11, 12, m[p[10]], m[p[11]]);
    mix(v, 2, 7, 8, 13, m[p[12]], m[p[13]]);
    mix(v, 3, 4, 9, 14, m[p[14]], m[p[15]]);
  }
  for (int i = 0; i < 8; i++) s->h[i] ^= v[i] ^ v[i + 8];
}

static void count_bytes(cov_blake2b *s, uint64_t n) {
  s->count[0] += n;
  if (s->count[0] < n) s->count[1]++;
}

void cov_blake2b_open(cov_blake2b *s, size_t digest_bytes) {
  COV_ASSERT(digest_bytes >= 1 && digest_bytes <= 64);
  memset(s, 0, sizeof *s);
  memcpy(s->h, iv, sizeof iv);
  s->h[0] ^= 0x01010000u ^ digest_bytes;
  s->digest_bytes = digest_bytes;
}

void cov_blake2b_add(cov_blake2b *s, const void *data, size_t bytes) {
  const uint8_t *p = data;
  while (bytes > 0) {
    if (s->block_used == 128) { /* the last block is held back: it is compressed with the final flag */
      count_bytes(s, 128);
      compress(s, s->block, 0);
      s->block_used = 0;
    }
    for (; s->block_used == 0 && bytes > 128; p += 128, bytes -= 128) { /* whole blocks from where they lie */
      count_bytes(s, 128);
      compress(s, p, 0);
    }
    size_t n = 128 - s->block_used;
    if (n > bytes) n = bytes;
    memcpy(s->block + s->block_used, p, n);
    s->block_used += n;
    p += n;
    bytes -= n;
  }
}

void cov_blake2b_close(cov_blake2b *s, uint8_t *digest) {
  count_bytes(s, s->block_used);
  memset(s->block + s->block_used, 0, 128 - s->block_used);
  compress(s, s->block, 1);
  for (size_t i = 0; i < s->digest_bytes; i++) digest[i] = (uint8_t)(s->h[i / 8] >> (8 * (i % 8)));
}

void cov_hash(const void *data, size_t bytes, size_t digest_bytes, uint8_t *digest) {
  cov_blake2b s;
  cov_blake2b_open(&s, digest_bytes);
  cov_blake2b_add(&s, data, bytes);
  cov_blake2b_close(&s, digest);
}

void cov_hex(const uint8_t *data, size_t bytes, char *text) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < bytes; i++) {
    text[2 * i] = digits[data[i] >> 4];
    text[2 * i + 1] = digits[data[i] & 15];
  }
  text[2 * bytes] = '\0';
}
