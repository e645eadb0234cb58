#include "data/pcg64.h"

/* 128-bit arithmetic in 64-bit halves: C11 has no wider type, and speed is of no account here. */

static const uint64_t multiplier_high = 0x2360ED051FC65DA4u, multiplier_low = 0x4385DF649FCCF645u;

static void multiply_64(uint64_t a, uint64_t b, uint64_t *high, uint64_t *low) {
  uint64_t a0 = a & 0xFFFFFFFFu, a1 = a >> 32, b0 = b & 0xFFFFFFFFu, b1 = b >> 32;
  uint64_t p00 = a0 * b0, p01 = a0 * b1, p10 = a1 * b0;
  uint64_t middle = (p00 >> 32) + (p01 & 0xFFFFFFFFu) + (p10 & 0xFFFFFFFFu);
  *low = middle << 32 | (p00 & 0xFFFFFFFFu);
  *high = a1 * b1 + (p01 >> 32) + (p10 >> 32) + (middle >> 32);
}

static void add_to_state(cov_pcg64 *g, uint64_t high, uint64_t low) {
  g->state_low += low;
  g->state_high += high + (g->state_low < low);
}

/* state = state * multiplier + increment mod 2^128 */
static void step(cov_pcg64 *g) {
  uint64_t high, low;
  multiply_64(g->state_low, multiplier_low, &high, &low);
  high += g->state_high * multiplier_low + g->state_low * multiplier_high;
  g->state_high = high;
  g->state_low = low;
  add_to_state(g, g->increment_high, g->increment_low);
}

static uint32_t hash_word(uint32_t v, uint32_t *h, uint32_t factor) {
  v ^= *h;
  *h *= factor;
  v *= *h;
  return v ^ v >> 16;
}

static uint32_t mix_words(uint32_t x, uint32_t y) {
  uint32_t z = 0xca01f9ddu * x - 0x4973f715u * y;
  return z ^ z >> 16;
}

/* numpy's SeedSequence(seed).generate_state(4, uint64) */
static void spread_seed(uint32_t seed, uint64_t words[4]) {
  uint32_t pool[4], out[8], h = 0x43b0d7e5u;
  for (int i = 0; i < 4; i++) pool[i] = hash_word(i == 0 ? seed : 0, &h, 0x931e8875u);
  for (int s = 0; s < 4; s++) {
    for (int d = 0; d < 4; d++) {
      if (s != d) pool[d] = mix_words(pool[d], hash_word(pool[s], &h, 0x931e8875u));
    }
  }
  h = 0x8b51f9ddu;
  for (int i = 0; i < 8; i++) out[i] = hash_word(pool[i % 4], &h, 0x58f38dedu);
  for (int i = 0; i < 4; i++) words[i] = (uint64_t)out[2 * i + 1] << 32 | out[2 * i];
}

void cov_pcg64_open(cov_pcg64 *g, uint32_t seed) {
  uint64_t w[4];
  spread_seed(seed, w);
  *g = (cov_pcg64){.increment_high = w[2] << 1 | w[3] >> 63, .increment_low = w[3] << 1 | 1};
  step(g);
  add_to_state(g, w[0], w[1]);
  step(g);
}

uint64_t cov_pcg64_next64(cov_pcg64 *g) {
  step(g);
  uint64_t x = g->state_high ^ g->state_low;
  unsigned turn = (unsigned)(g->state_high >> 58); /* state >> 122 */
  return x >> turn | x << (-turn & 63);
}

uint32_t cov_pcg64_next32(cov_pcg64 *g) {
  if (g->has_half) {
    g->has_half = 0;
    return g->half;
  }
  uint64_t x = cov_pcg64_next64(g);
  g->half = (uint32_t)(x >> 32);
  g->has_half = 1;
  return (uint32_t)x;
}

double cov_pcg64_double(cov_pcg64 *g) {
  return (double)(cov_pcg64_next64(g) >> 11) * 0x1p-53;
}

uint32_t cov_pcg64_upto(cov_pcg64 *g, uint32_t max) {
  if (max == 0) return 0;
  if (max == UINT32_MAX) return cov_pcg64_next32(g);
  uint32_t n = max + 1;
  uint64_t m = (uint64_t)cov_pcg64_next32(g) * n;
  if ((uint32_t)m < n) {
    uint32_t threshold = (UINT32_MAX - max) % n;
    while ((uint32_t)m < threshold) m = (uint64_t)cov_pcg64_next32(g) * n;
  }
  return (uint32_t)(m >> 32);
}
