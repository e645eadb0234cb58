/* The plain loops: what the other widths must equal, and what runs where there is no other. */
#include <string.h>

#include "sparseloco/code_model.h"
#include "sparseloco/fixed.h"
#include "sparseloco/select.h"
#include "sparseloco/width.h"

static uint32_t magnitude_of(float x) {
  return cov_float_bits(x) & COV_MAGNITUDE_MASK;
}

static uint32_t plain_largest(const float *x, int64_t n) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; i++) {
    uint32_t m = magnitude_of(x[i]);
    largest = m > largest ? m : largest;
  }
  return largest;
}

/* Without a branch: the slot behind the last candidate is written before it is known whether it counts. */
static void collect_row(const float *e, int r, int w, covi_candidates *c) {
  for (int i = 0; i < w; i++) {
    c->place[c->n] = (uint16_t)(r * COV_CHUNK_EDGE_MAX + i);
    c->bits[c->n] = cov_float_bits(e[i]);
    c->n += magnitude_of(e[i]) >= c->floor;
  }
}

static void plain_collect(const float *e, int64_t row_elems, int h, int w, covi_candidates *candidates) {
  candidates->n = 0;
  for (int r = 0; r < h; r++) collect_row(e + r * row_elems, r, w, candidates);
}

static uint32_t plain_feedback(const covi_tile *t, covi_candidates *candidates) {
  uint32_t largest = 0;
  int64_t n = (int64_t)t->n_chunks * t->w;
  for (int c = 0; c < t->n_chunks; c++) candidates[c].n = 0;
  for (int r = 0; r < t->h; r++) {
    const float *theta = t->theta + r * t->row_elems, *theta_end = t->theta_end + r * t->row_elems;
    float *e = t->feedback + r * t->row_elems;
    for (int c = 0; t->owed && c < t->n_chunks; c++) covi_owed_settle(&t->owed[c], r, e + c * t->w);
    for (int64_t i = 0; i < n; i++) {
      float delta = theta[i] - theta_end[i];
      float decayed = t->beta * e[i];
      e[i] = decayed + delta;
    }
    uint32_t m = plain_largest(e, n);
    largest = m > largest ? m : largest;
    for (int c = 0; c < t->n_chunks; c++) collect_row(e + c * t->w, r, t->w, &candidates[c]);
  }
  return largest;
}

static uint32_t plain_pick(const covi_candidates *c, int w, int k, uint16_t *index, float *value) {
  uint32_t magnitude[COV_CHUNK_ELEMS_MAX], hint = 0;
  uint16_t at[COV_CHUNK_ELEMS_MAX];
  for (int i = 0; i < c->n; i++) magnitude[i] = c->bits[i] & COV_MAGNITUDE_MASK;
  cov_select_topk(magnitude, c->n, k, &hint, at); /* places ascend with the index, so ties fall the same way */
  for (int j = 0; j < k; j++) {
    int place = c->place[at[j]];
    index[j] = (uint16_t)(place / COV_CHUNK_EDGE_MAX * w + place % COV_CHUNK_EDGE_MAX);
    value[j] = cov_float_from_bits(c->bits[at[j]]);
  }
  return hint;
}

static void plain_moments(const float *v, int64_t n, int exponent, covi_moments *moments) {
  for (int64_t i = 0; i < n; i++) {
    int64_t q = cov_fixed_value(cov_float_bits(v[i]), exponent);
    uint64_t square = (uint64_t)q * (uint64_t)q;
    moments->sum += q;
    moments->magnitude += q < 0 ? -q : q;
    moments->sq_hi += (int64_t)(square >> 32);
    moments->sq_lo += (int64_t)(square & 0xFFFFFFFFu);
  }
}

/* Nearest integer of t, ties to even, clamped to 0 .. top. */
static uint8_t code_of(float t, int top) {
  if (t <= 0.0f) return 0;
  if (t >= (float)top) return (uint8_t)top;
  int whole = (int)t;
  float rest = t - (float)whole; /* exact */
  if (rest > 0.5f || (rest == 0.5f && whole % 2 == 1)) whole++;
  return (uint8_t)whole;
}

static void plain_codes(const float *v, int64_t n, const covi_coding *coding, uint8_t *code) {
  for (int64_t i = 0; i < n; i++) {
    float centred = v[i] - coding->shift;
    float steps = centred / coding->scale;
    code[i] = code_of(steps + coding->middle, coding->top);
  }
}

static void plain_count(const float *v, const uint8_t *code, int64_t n, int exponent, int bins, int64_t *counts,
                        int64_t *sums) {
  (void)bins;
  for (int64_t i = 0; i < n; i++) {
    counts[code[i]]++;
    sums[code[i]] += cov_fixed_value(cov_float_bits(v[i]), exponent);
  }
}

static void plain_hash(const float *x, int64_t n, const uint64_t *const key[2], const uint64_t block[2],
                       uint64_t sum[2][COVI_HASH_LANES]) {
  for (int l = 0; l < 2; l++) {
    uint64_t part[COVI_HASH_LANES] = {0};
    for (int64_t i = 0; i < n; i++) part[i % COVI_HASH_LANES] += key[l][i] * cov_float_bits(x[i]);
    for (int i = 0; i < COVI_HASH_LANES; i++) sum[l][i] += block[l] * part[i];
  }
}

static uint32_t plain_step(const covi_step *s) {
  uint32_t largest = 0;
  for (int r = 0; r < s->h; r++) {
    const float *theta = s->theta + r * s->row_elems;
    float *out = s->out + r * s->row_elems, *sum = s->sum + r * s->w;
    uint16_t *count = s->count + r * s->w;
    uint32_t m = plain_largest(theta, s->w);
    largest = m > largest ? m : largest;
    for (int i = 0; i < s->w; i++) {
      float next = theta[i];
      if (count[i] > 0) {
        float direction = s->mean.divisor > 0 ? sum[i] / (float)s->mean.divisor : sum[i];
        float step = s->mean.alpha * direction;
        next = theta[i] - step;
      }
      out[i] = next;
    }
    memset(sum, 0, (size_t)s->w * sizeof *sum);
    memset(count, 0, (size_t)s->w * sizeof *count);
    if (s->leaf) covi_leaf_add(&covi_width_plain, s->leaf, out, s->first + r * s->row_elems, s->w);
  }
  return largest;
}

static void plain_chains(covi_chains *c, int n, float *value) {
  for (int l = 0; l < c->n; l++) {
    uint32_t x = c->state[l];
    const uint8_t *at = c->at[l];
    for (int i = 0; i < n; i++) {
      uint32_t part = covi_rans_part(x, COVI_CODE_BITS);
      int code = (part >= c->start[1][l]) + (part >= c->start[2][l]) + (part >= c->start[3][l]);
      value[i * COVI_CHAINS_MAX + l] = c->value[code][l];
      covi_rans_words words = {.at = at, .end = at + 2};
      x = covi_rans_pass(x, c->start[code][l], c->freq[code][l], COVI_CODE_BITS, &words);
      at = words.at;
    }
    c->state[l] = x;
    c->at[l] = at;
  }
}

const covi_width covi_width_plain = {
    .name = "plain",
    .largest = plain_largest,
    .feedback = plain_feedback,
    .collect = plain_collect,
    .pick = plain_pick,
    .moments = plain_moments,
    .codes = plain_codes,
    .count = plain_count,
    .chains = plain_chains,
    .hash = plain_hash,
    .step = plain_step,
};
