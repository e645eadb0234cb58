/* covenant-test: timeout=120
 * The loops of every vector width give the bits of the plain ones: shapes that no vector fits, ties, subnormals,
 * infinities, floors of any kind, values beside rounding borders. Then whole rounds, over widths and threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/code_model.h"
#include "sparseloco/fixed.h"
#include "sparseloco/leaf.h"
#include "sparseloco/outer.h"
#include "sparseloco/rice.h"
#include "sparseloco/width.h"
#include "support.h"

enum { STRIDE = 1031, MOST = 5000 };

enum { WIDE = 3 };
static const char *const names[WIDE] = {"avx2", "avx512", "avx512vbmi2"};

/* The tables to be compared with the plain one. */
static int list_widths(const covi_width *list[WIDE]) {
  int n = 0;
  for (int i = 0; i < WIDE; i++) {
    if (covi_width_choose(names[i]) == 0) list[n++] = covi_width_get();
    else printf("%s: skipped, this processor cannot run it\n", names[i]);
  }
  assert_int_equal(covi_width_choose(NULL), 0);
  return n;
}

/* Element i of a stream of floats; kind 0: a wide spread, 1: ties, 2: subnormals and zeros, 3: the largest. */
static float draw(int kind, uint64_t seed, uint64_t i) {
  float r = test_random(seed, i);
  switch (kind) {
  case 0:
    return ldexpf(r, (int)(i % 11) - 5);
  case 1:
    return (float)(int)(r * 4) * 0.25f;
  case 2:
    return i % 3 == 0 ? -0.0f : r * 1e-39f;
  default:
    return i % 97 == 0 ? (i % 2 ? -INFINITY : 3e38f) : r * 2e38f;
  }
}

static void fill(float *x, int64_t n, int kind, uint64_t seed) {
  for (int64_t i = 0; i < n; i++) x[i] = draw(kind, seed, (uint64_t)i);
}

/* The same numbers; a NaN is a NaN, since which one it is depends on the order of operands. */
static void assert_same(const float *got, const float *want, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    if (isnan(want[i])) assert_true(isnan(got[i]));
    else assert_int_equal(cov_float_bits(got[i]), cov_float_bits(want[i]));
  }
}

static void assert_same_candidates(const covi_candidates *got, const covi_candidates *want) {
  assert_int_equal(got->n, want->n);
  assert_memory_equal(got->place, want->place, (size_t)want->n * sizeof *want->place);
  for (int i = 0; i < want->n; i++) {
    if ((want->bits[i] & COV_MAGNITUDE_MASK) <= COV_MAGNITUDE_INF) assert_int_equal(got->bits[i], want->bits[i]);
  }
}

static const uint32_t floors[] = {0, 1, 0x00000100u, 0x3E800000u, 0x3F000000u, 0x7F000000u, 0x7FFFFFFFu, 0xFFFFFFFFu};

/* Owed to half of the chunks: rows that are empty, full, and in between. */
static void fill_owed(covi_owed *owed, const covi_tile *tile, const float *rest) {
  for (int c = 0; c < tile->n_chunks; c++) {
    owed[c] = (covi_owed){.rest = rest + c};
    for (int r = 0; r < tile->h && c % 2 == 0; r++) {
      uint64_t bits = (uint64_t)(c + 7 * r + 1) * 0x9E3779B97F4A7C15u;
      bits = r % 4 == 0 ? bits : r % 4 == 1 ? bits & bits << 9 & bits >> 11 : r % 4 == 2 ? 0 : UINT64_MAX;
      owed[c].row[r] = tile->w == 64 ? bits : bits & (((uint64_t)1 << tile->w) - 1);
    }
  }
}

static void sweeps_agree(void **state) {
  (void)state;
  static const int shapes[][3] = {{64, 64, 3}, {64, 64, 1}, {1, 64, 7}, {1, 1, 5},
                                  {3, 37, 4},  {64, 5, 2},  {7, 16, 9}, {2, 33, 8}};
  const covi_width *width[WIDE];
  int n_widths = list_widths(width);
  float *theta = malloc(64 * STRIDE * sizeof *theta), *end = malloc(64 * STRIDE * sizeof *end);
  float *e = malloc(64 * STRIDE * sizeof *e), *want_e = malloc(64 * STRIDE * sizeof *e);
  float *rest = malloc(64 * STRIDE * sizeof *rest);
  covi_candidates *got = calloc(10, sizeof *got), *want = calloc(10, sizeof *want);
  covi_owed *owed = calloc(10, sizeof *owed);
  fill(rest, 64 * STRIDE, 0, 4);
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
    for (int kind = 0; kind < 4; kind++) {
      for (int v = 0; v < n_widths; v++) {
        fill(theta, 64 * STRIDE, kind, 1);
        fill(end, 64 * STRIDE, kind, 2);
        fill(e, 64 * STRIDE, kind, 3);
        memcpy(want_e, e, 64 * STRIDE * sizeof *e);
        covi_tile tile = {.theta = theta,
                          .theta_end = end,
                          .feedback = e,
                          .row_elems = STRIDE,
                          .h = shapes[s][0],
                          .w = shapes[s][1],
                          .n_chunks = shapes[s][2],
                          .beta = 0.95f};
        for (int c = 0; c < tile.n_chunks; c++) got[c].floor = want[c].floor = floors[(c + kind) % 8];
        tile.owed = kind % 3 ? owed : NULL;
        fill_owed(owed, &tile, rest);
        uint32_t largest = width[v]->feedback(&tile, got);
        tile.feedback = want_e;
        fill_owed(owed, &tile, rest);
        uint32_t want_largest = covi_width_plain.feedback(&tile, want);
        if (want_largest < COV_MAGNITUDE_INF) assert_int_equal(largest, want_largest);
        assert_int_equal(largest >= COV_MAGNITUDE_INF, want_largest >= COV_MAGNITUDE_INF);
        assert_same(e, want_e, 64 * STRIDE);
        for (int c = 0; c < tile.n_chunks; c++) {
          assert_same_candidates(&got[c], &want[c]);
          got[c].floor = floors[(c + kind + 3) % 8];
          want[c].floor = got[c].floor;
          width[v]->collect(e + c * tile.w, STRIDE, tile.h, tile.w, &got[c]);
          covi_width_plain.collect(want_e + c * tile.w, STRIDE, tile.h, tile.w, &want[c]);
          assert_same_candidates(&got[c], &want[c]);
        }
      }
    }
  }
  free(theta), free(end), free(e), free(want_e), free(rest), free(got), free(want), free(owed);
}

static void selections_agree(void **state) {
  (void)state;
  static const int sizes[] = {1, 2, 15, 16, 17, 64, 65, 99, 130, 1000, 4096};
  const covi_width *width[WIDE];
  int n_widths = list_widths(width);
  covi_candidates *c = calloc(1, sizeof *c);
  uint16_t want[4096], got[4096];
  float want_value[4096], value[4096];
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    for (int kind = 0; kind < 5; kind++) {
      c->n = sizes[s];
      c->floor = kind == 0 ? 0x3C000000u : 0;
      for (int i = 0; i < c->n; i++) {
        float x = kind == 4 ? 0.0f : draw(kind, 5, (uint64_t)i);
        c->bits[i] = cov_float_bits(x);
        if ((c->bits[i] & COV_MAGNITUDE_MASK) < c->floor) c->bits[i] = c->floor;
        c->place[i] = (uint16_t)(c->n < 2048 ? 2 * i : i);
      }
      static const int wanted[] = {1, 2, 63, 64, 4095, 4096};
      for (size_t j = 0; j < 6; j++) {
        int k = wanted[j] < c->n ? wanted[j] : c->n;
        covi_width_plain.pick(c, 64, k, want, want_value);
        for (int v = 0; v < n_widths; v++) {
          memset(got, 0xEE, sizeof got);
          memset(value, 0xEE, sizeof value);
          uint32_t floor = width[v]->pick(c, 64, k, got, value);
          assert_memory_equal(got, want, (size_t)k * sizeof *got);
          assert_memory_equal(value, want_value, (size_t)k * sizeof *value);
          assert_true(k == 4096 || (got[k] == 0xEEEE && cov_float_bits(value[k]) == 0xEEEEEEEEu));
          int reach = 0;
          for (int i = 0; i < c->n; i++) reach += (c->bits[i] & COV_MAGNITUDE_MASK) >= floor;
          assert_true(reach >= k); /* or every round would look twice */
        }
      }
    }
  }
  free(c);
}

/* In-chunk indices of rows that are not 64 wide. */
static void places_become_indices(void **state) {
  (void)state;
  const covi_width *width[WIDE + 1];
  int n_widths = list_widths(width);
  width[n_widths++] = &covi_width_plain;
  covi_candidates *c = calloc(1, sizeof *c);
  float e[37 * 5];
  uint16_t index[37 * 5];
  float value[37 * 5];
  for (int i = 0; i < 37 * 5; i++) e[i] = 1;
  for (int v = 0; v < n_widths; v++) {
    c->floor = 0;
    width[v]->collect(e, 37, 5, 37, c);
    assert_int_equal(c->n, 37 * 5);
    width[v]->pick(c, 37, 37 * 5, index, value);
    for (int i = 0; i < 37 * 5; i++) assert_int_equal(index[i], i);
  }
  free(c);
}

static void statistics_agree(void **state) {
  (void)state;
  static const int sizes[] = {0, 1, 7, 8, 9, 16, 31, 64, 1000};
  const covi_width *width[WIDE];
  int n_widths = list_widths(width);
  static float x[MOST];
  static uint8_t want_code[MOST], code[MOST];
  for (int kind = 0; kind < 3; kind++) {
    fill(x, MOST, kind, 7);
    if (kind == 1) {
      for (int i = 0; i < MOST; i++) { /* a float to either side of every border between codes */
        x[i] = nextafterf((float)(i % 1200) * 0.0625f - 37, i % 3 == 0 ? -99.0f : i % 3 == 1 ? 99.0f : x[i]);
      }
    }
    uint32_t largest = covi_width_plain.largest(x, MOST);
    int exponent = cov_fixed_exponent(largest);
    for (int v = 0; v < n_widths; v++) {
      for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        covi_moments want = {1, 2, 3, 4}, got = want;
        const float *at = x + 3 * s;
        assert_int_equal(width[v]->largest(at, n), covi_width_plain.largest(at, n));
        covi_width_plain.moments(at, n, exponent, &want);
        width[v]->moments(at, n, exponent, &got);
        assert_memory_equal(&got, &want, sizeof got);
        for (int bins = 2; bins <= 256; bins = bins < 5 ? bins + 1 : bins * 3 + 1) {
          if (bins > 200) bins = 256;
          int64_t want_counts[256] = {5}, want_sums[256] = {6}, counts[256] = {5}, sums[256] = {6};
          covi_coding coding = {.shift = kind == 1 ? 0 : 0.01f,
                                .scale = kind == 1 ? 0.125f : 0.3f,
                                .middle = (float)(bins / 2),
                                .top = bins - 1};
          if (kind == 2) coding.scale = 1e-39f;
          covi_width_plain.codes(at, n, &coding, want_code);
          width[v]->codes(at, n, &coding, code);
          assert_memory_equal(code, want_code, (size_t)n);
          covi_width_plain.count(at, code, n, exponent, bins, want_counts, want_sums);
          width[v]->count(at, code, n, exponent, bins, counts, sums);
          assert_memory_equal(counts, want_counts, sizeof counts);
          assert_memory_equal(sums, want_sums, sizeof sums);
        }
      }
    }
  }
}

/* Data of one chunk inside a band of its tensor. */
static void fill_step(float *theta, float *sum, uint16_t *count, int64_t n, int kind) {
  fill(theta, n, kind, 11);
  for (int i = 0; i < 4096; i++) {
    count[i] = (uint16_t)(i % 5 == 0 ? i % 7 : i % 50 == 1 ? 65535 : 0);
    sum[i] = count[i] ? draw(kind, 12, (uint64_t)i) : 0;
  }
}

static void steps_agree(void **state) {
  (void)state;
  /* h, w, row_elems, first; 1000 and 1031 are out of step with the blocks of the hash, some rows lie across two */
  static const int shapes[][4] = {{64, 64, 64, 0},    {64, 64, 256, 128}, {64, 64, 4096, 4032}, {64, 64, 1000, 936},
                                  {5, 37, 1031, 994}, {3, 16, 48, 16},    {1, 1, 1, 0},         {1, 64, 64, 0}};
  enum { SPAN = 64 * 4096 };
  const covi_width *width[WIDE];
  int n_widths = list_widths(width);
  uint64_t(*block_key)[2] = malloc(65 * sizeof *block_key);
  float *theta = malloc(SPAN * sizeof *theta), *out = malloc(SPAN * sizeof *out), *want = malloc(SPAN * sizeof *want);
  static float sum[2][4096 + COVI_LANES_MAX];
  static uint16_t count[2][4096 + COVI_LANES_MAX];
  covi_block_keys(65, block_key);
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
    for (int kind = 0; kind < 4; kind++) {
      for (int v = 0; v < n_widths; v++) {
        for (int divisor = 0; divisor < 4; divisor++) {
          covi_leaf leaf[2];
          for (int i = 0; i < 2; i++) {
            fill_step(theta, sum[i], count[i], SPAN, kind);
            covi_leaf_open(&leaf[i], (const uint64_t(*)[2])block_key);
          }
          covi_step step = {.theta = theta,
                            .out = want,
                            .h = shapes[s][0],
                            .w = shapes[s][1],
                            .row_elems = shapes[s][2],
                            .first = shapes[s][3],
                            .sum = sum[0],
                            .count = count[0],
                            .mean = {.alpha = s % 3 == 2 ? -0.7f : 0.7f, .divisor = divisor},
                            .leaf = divisor == 1 ? NULL : &leaf[0],
                            .next = divisor * 1000003};
          memset(out, 0xEE, SPAN * sizeof *out);
          memset(want, 0xEE, SPAN * sizeof *want);
          uint32_t want_largest = covi_width_plain.step(&step);
          step.out = out;
          step.sum = sum[1];
          step.count = count[1];
          if (step.leaf) step.leaf = &leaf[1];
          assert_int_equal(width[v]->step(&step), want_largest);
          assert_same(out, want, SPAN);
          for (int i = 0; i < 4096; i++) { /* cleared for the next chunk, and nothing else */
            int used = i < step.h * step.w;
            assert_true(!used || (cov_float_bits(sum[1][i]) == 0 && count[1][i] == 0));
            assert_true(used || count[1][i] == count[0][i]);
          }
          if (kind == 3) continue; /* has NaN, whose bits may differ */
          uint8_t want_bytes[16], bytes[16];
          covi_leaf_close(&leaf[0], want_bytes);
          covi_leaf_close(&leaf[1], bytes);
          assert_memory_equal(bytes, want_bytes, sizeof bytes);
        }
      }
    }
  }
  free(theta), free(out), free(want), free(block_key);
}

static void hashes_agree(void **state) {
  (void)state;
  const covi_width *width[WIDE];
  int n_widths = list_widths(width);
  static float x[MOST];
  covi_leaf leaf;
  covi_leaf_open(&leaf, NULL);
  const uint64_t block[2] = {0x9E3779B97F4A7C15u, 0xBF58476D1CE4E5B9u};
  fill(x, MOST, 0, 9);
  for (int64_t n = 0; n < 70; n++) {
    for (int v = 0; v < n_widths; v++) {
      uint64_t want[2][COVI_HASH_LANES] = {{1, 2}}, got[2][COVI_HASH_LANES] = {{1, 2}};
      covi_width_plain.hash(x + n, n, leaf.key, block, want);
      width[v]->hash(x + n, n, leaf.key, block, got);
      assert_memory_equal(got, want, sizeof got);
    }
  }
}

/* Chunks as a writer makes them, and bytes of any kind: the vector reads, or refuses, what the reader's own loop does.
 */
static void rice_chunks_agree(void **state) {
  (void)state;
  enum { CHUNKS = 5, BYTES = 512 };
  uint8_t bytes[BYTES];
  uint16_t index[CHUNKS * 64], got[64 + COVI_LANES_MAX], want[64];
  const covi_width *width[WIDE];
  int n_widths = list_widths(width), refused = 0, taken = 0;
  for (int round = 0; round < 4000; round++) {
    memset(bytes, 0, sizeof bytes);
    size_t used = BYTES - 16;
    for (int c = 0; c < CHUNKS; c++) { /* ascending: one in each stretch of 64, or all at either end */
      for (int i = 0; i < 64; i++) {
        uint32_t r = cov_float_bits(test_random((uint64_t)round, (uint64_t)(c * 64 + i)));
        int spread = round % 3 == 0 ? 64 * i + (int)(r % 64) : round % 3 == 1 ? i : 4032 + i;
        index[c * 64 + i] = (uint16_t)spread;
      }
    }
    if (round % 4 != 3) used = (size_t)(covi_rice_write(index, CHUNKS, 64, 4096, bytes) - bytes);
    for (int j = 0; round % 4 >= 2 && j < (round % 4 == 3 ? (int)used : 3); j++) {
      uint32_t r = cov_float_bits(test_random(1000 + (uint64_t)round, (uint64_t)j));
      size_t at = round % 4 == 3 ? (size_t)j : r % used;
      bytes[at] = (uint8_t)(r >> (round % 16 < 8 ? 3 : 9) & (round % 32 < 16 ? 0xFF : 0x91));
    }
    for (int v = 0; v < n_widths; v++) {
      covi_rice_reader plain, wide;
      assert_int_equal(covi_width_choose("plain"), 0);
      assert_true(covi_rice_open(&plain, CHUNKS, 64, 4096, bytes, bytes + used));
      assert_true(covi_rice_open(&wide, CHUNKS, 64, 4096, bytes, bytes + used));
      for (int c = 0; c < CHUNKS; c++) {
        assert_int_equal(covi_width_choose("plain"), 0);
        int ok = covi_rice_next(&plain, want);
        assert_int_equal(covi_width_choose(width[v]->name), 0);
        assert_int_equal(covi_rice_next(&wide, got), ok);
        refused += !ok;
        taken += ok;
        if (!ok) break;
        assert_memory_equal(got, want, sizeof want);
        assert_int_equal(wide.unary_bit, plain.unary_bit);
        assert_int_equal(wide.low_bit, plain.low_bit);
        if (round % 4 < 2) assert_memory_equal(want, index + c * 64, sizeof want);
      }
    }
  }
  assert_int_equal(covi_width_choose(NULL), 0);
  if (n_widths > 0) assert_true(refused > 500 && taken > 500);
}

/* A model of `bins` codes that n random codes, some much rarer than others, ask for; their band. */
static uint8_t *draw_band(uint64_t seed, int bins, int n, covi_code_model *model, uint8_t *code, uint8_t *bytes) {
  int64_t counts[COVI_CHAIN_BINS] = {0};
  for (int i = 0; i < n; i++) {
    uint32_t r = cov_float_bits(test_random(seed, (uint64_t)i)) >> 3;
    int rare = r % 64 < seed % 8;
    code[i] = (uint8_t)(rare ? r / 64 % (uint32_t)bins : seed % (uint64_t)bins);
    counts[code[i]]++;
  }
  covi_code_model_fit(counts, bins, 8, 1, n, model); /* 8 bits a code as it is: coded, whatever they are */
  assert_true(covi_code_chainable(model, n));
  return covi_code_write(model, code, n, bytes);
}

/* A band read by itself gives the values and ends where its chain does, whatever its bytes are: the reader finds codes
 * in another way. */
static void assert_reads_alike(covi_code_reader *reader, const covi_chains *chains, const covi_chains *want, int n,
                               const float *want_value, int l) {
  uint8_t code[COVI_CHAIN_CODES_MAX];
  reader->words.at = chains->at[l];
  reader->words.end = chains->at[l] + 2 * n + 8;
  reader->state = chains->state[l];
  assert_true(covi_code_next(reader, n, code));
  assert_ptr_equal(reader->words.at, want->at[l]);
  assert_int_equal(reader->state, want->state[l]);
  for (int i = 0; i < n; i++)
    assert_int_equal(cov_float_bits(chains->value[code[i]][l]), cov_float_bits(want_value[i * COVI_CHAINS_MAX + l]));
}

/* Codes as a writer makes them come back, one to eight bands side by side; of bytes of any kind every width makes the
 * same. */
static void chains_agree(void **state) {
  (void)state;
  enum { CODES = 64, BYTES = 2 * CODES + 64 };
  static uint8_t bytes[COVI_CHAINS_MAX][BYTES], code[COVI_CHAINS_MAX][CODES];
  const covi_width *width[WIDE + 1];
  int n_widths = list_widths(width);
  width[n_widths++] = &covi_width_plain;
  for (int round = 0; round < 600; round++) {
    covi_chains chains = {.n = 1 + round % COVI_CHAINS_MAX}, want;
    float want_value[CODES * COVI_CHAINS_MAX], value[CODES * COVI_CHAINS_MAX];
    covi_code_model model[COVI_CHAINS_MAX];
    covi_code_reader reader[COVI_CHAINS_MAX];
    int hostile = round % 3 == 2;
    memset(bytes, 0, sizeof bytes);
    for (int l = 0; l < chains.n; l++) {
      const uint64_t seed = (uint64_t)(round * COVI_CHAINS_MAX + l);
      static const float values[COVI_CHAIN_BINS] = {-2, -0.0f, 1.5f, 1e-39f};
      const uint8_t *end = draw_band(seed, 2 + (int)(seed % 3), CODES, &model[l], code[l], bytes[l]);
      assert_true(covi_code_open(&reader[l], &model[l], CODES, bytes[l], end));
      covi_code_chain(&model[l], values, &chains, l);
      for (int i = 0; hostile && i < BYTES; i++)
        bytes[l][i] = (uint8_t)(cov_float_bits(test_random(seed, (uint64_t)(i + 9999))) >> 5);
      chains.at[l] = reader[l].words.at;
      chains.state[l] = hostile ? cov_float_bits(test_random(seed, 5)) | COVI_RANS_START : reader[l].state;
    }
    for (int v = n_widths - 1; v >= 0; v--) {
      covi_chains got = chains;
      memset(value, 0xEE, sizeof value);
      width[v]->chains(&got, CODES, value);
      if (v == n_widths - 1) {
        want = got;
        memcpy(want_value, value, sizeof value);
      }
      for (int l = 0; l < chains.n && v == n_widths - 1; l++)
        assert_reads_alike(&reader[l], &chains, &want, CODES, want_value, l);
      for (int l = 0; l < chains.n; l++) {
        assert_ptr_equal(got.at[l], want.at[l]);
        assert_int_equal(got.state[l], want.state[l]);
        assert_true(hostile || got.state[l] == COVI_RANS_START);
        for (int i = 0; i < CODES; i++) {
          const uint32_t bits = cov_float_bits(value[i * COVI_CHAINS_MAX + l]);
          assert_int_equal(bits, cov_float_bits(want_value[i * COVI_CHAINS_MAX + l]));
          assert_true(hostile || bits == cov_float_bits(chains.value[code[l][i]][l]));
        }
      }
    }
  }
}

/* Two rounds of five peers: payloads, error feedback, parameters and state hash, by any width and number of threads. */
static void rounds_agree(void **state) {
  (void)state;
  static const cov_quant_id quantisers[] = {COV_QUANT_REFERENCE, COV_QUANT_SIGN1, COV_QUANT_SIGN2, COV_QUANT_NONE};
  static const char *const all[] = {"plain", "avx2", "avx512", "avx512vbmi2"};
  static const int threads[] = {1, 2, 3, 7};
  cov_params params;
  cov_grid grid;
  sparse_params(&params, sparse_mixed, sparse_n_mixed);
  assert_ok(cov_grid_create(&params, 64, 64, &grid));
  size_t span_bytes = (size_t)params.span * sizeof(float);
  for (int q = 0; q < 4; q++) {
    for (int kind = 0; kind < 3; kind++) {
      uint8_t *want = NULL, want_hash[32];
      float *want_e = NULL;
      size_t want_bytes = 0;
      for (int v = 0; v < WIDE + 1; v++) {
        if (covi_width_choose(all[v]) != 0) continue;
        for (int i = 0; i < 4; i++) {
          cov_encoder_params p = sparse_params_of(quantisers[q]);
          cov_payload_head head = sparse_head(1);
          p.threads = threads[i];
          float *theta = calloc(1, span_bytes), *end = calloc(1, span_bytes), *e = calloc(1, span_bytes);
          for (int t = 0; t < params.n; t++) {
            int64_t at = params.item[t].offset, n = params.item[t].elems;
            fill(theta + at, n, kind, 21);
            fill(end + at, n, kind, 22);
          }
          uint8_t *payload = NULL, hash[32];
          size_t bytes;
          for (int round = 0; round < 2; round++) {
            free(payload);
            assert_ok(sparse_encode(&grid, &p, 2, theta, end, e, &head, &payload, &bytes));
          }
          cov_payload_view view;
          cov_payload_expect expect = sparse_expect(&grid, &p.quant);
          assert_ok(cov_payload_check(payload, bytes, &expect, &view));
          const cov_payload_view *set[1] = {&view};
          assert_ok(sparse_step(&grid, 2, set, 1, 0.7f, COV_MEAN_SENDERS, 1, theta, theta, hash));
          cov_payload_close(&view);
          if (!want) {
            want = payload, want_e = e, want_bytes = bytes;
            memcpy(want_hash, hash, sizeof hash);
          } else {
            assert_int_equal(bytes, want_bytes);
            assert_memory_equal(payload, want, bytes);
            assert_memory_equal(e, want_e, span_bytes);
            assert_memory_equal(hash, want_hash, sizeof hash);
            free(payload), free(e);
          }
          free(theta), free(end);
        }
      }
      free(want), free(want_e);
    }
  }
  assert_int_equal(covi_width_choose(NULL), 0);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

static void unknown_widths_change_nothing(void **state) {
  (void)state;
  const covi_width *before = covi_width_get();
  assert_int_equal(covi_width_choose("avx1024"), -1);
  assert_ptr_equal(covi_width_get(), before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sweeps_agree),          cmocka_unit_test(selections_agree),
      cmocka_unit_test(places_become_indices), cmocka_unit_test(statistics_agree),
      cmocka_unit_test(steps_agree),           cmocka_unit_test(hashes_agree),
      cmocka_unit_test(rice_chunks_agree),     cmocka_unit_test(chains_agree),
      cmocka_unit_test(rounds_agree),          cmocka_unit_test(unknown_widths_change_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
