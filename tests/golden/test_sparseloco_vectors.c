/* The conformance vectors V1 - V6 of the behavioural specification (protocol.md, section 12). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/original.h"
#include "sparseloco/outer.h"
#include "support.h"

/* V1: 12-bit packing. */
static void v1_pack12(void **state) {
  (void)state;
  static const struct {
    size_t n;
    uint16_t index[6];
    uint8_t packed[9];
  } cases[] = {
      {6, {0, 1, 2, 3, 4, 5}, {0x00, 0x10, 0x00, 0x02, 0x30, 0x00, 0x04, 0x50, 0x00}},
      {4, {4095, 4094, 0, 1}, {0xff, 0xef, 0xff, 0x00, 0x10, 0x00}},
      {6, {0, 255, 256, 1000, 2000, 4000}, {0x00, 0xf0, 0x0f, 0x00, 0x81, 0x3e, 0xd0, 0x07, 0xfa}},
      {2, {0xABC, 0x123}, {0xbc, 0x3a, 0x12}},
  };
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    uint8_t packed[9];
    uint16_t back[6];
    assert_ok(cov_pack12(cases[c].index, cases[c].n, packed));
    assert_memory_equal(packed, cases[c].packed, cases[c].n / 2 * 3);
    cov_unpack12(packed, 0, (int)cases[c].n, back);
    assert_memory_equal(back, cases[c].index, cases[c].n * 2);
    cov_unpack12(packed, 1, 1, back); /* from the middle of a pair */
    assert_int_equal(back[0], cases[c].index[1]);
  }
}

/* V2: layout. */
static void v2_layout(void **state) {
  (void)state;
  static const sparse_shape shape = {"w", 128, 192};
  cov_params params;
  cov_grid grid;
  sparse_params(&params, &shape, 1);
  assert_ok(cov_grid_create(&params, 64, 64, &grid));
  int64_t c;
  int i;
  cov_grid_locate(&grid.tensor[0], 70 * 192 + 130, &c, &i);
  assert_int_equal(c, 1 * 3 + 2); /* chunk (1, 2) of a 2 x 3 grid */
  assert_int_equal(i, 386);
  assert_int_equal(cov_grid_elem(&grid.tensor[0], 5, 386), 70 * 192 + 130);
  assert_int_equal(grid.tensor[0].n_bands, 2);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

/* V3: split (section 3.4). */
static void v3_split(void **state) {
  (void)state;
  static const int64_t cases[][3] = {{64, 64, 64},  {28672, 64, 64}, {262144, 64, 64}, {32000, 64, 64},
                                     {100, 16, 10}, {64, 7, 4},      {8191, 64, 1},    {32, 64, 32}};
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
    assert_int_equal(cov_grid_split(cases[c][0], cases[c][1]), cases[c][2]);
}

/* One vector, one chunk, everything kept: what the quantiser makes of these values. */
static void quantise(const float *v, int n, cov_quant_stats *stats, uint8_t *code, float *table) {
  const sparse_shape shape = {"v", 0, n};
  cov_params params;
  cov_grid grid;
  cov_shard shard;
  cov_encoder *encoder;
  sparse_params(&params, &shape, 1);
  assert_ok(cov_grid_create(&params, n, n, &grid));
  assert_ok(cov_shard_create(&grid, 0, 1, &shard));
  cov_encoder_params p = sparse_params_of(COV_QUANT_REFERENCE);
  assert_ok(cov_encoder_create(&shard, &p, &encoder));
  float zero[64] = {0}, e[64] = {0}, theta[64] = {0};
  memcpy(theta, v, (size_t)n * sizeof *v);
  assert_ok(cov_encoder_encode(encoder, theta, zero, e, NULL));
  *stats = *cov_encoder_stats(encoder, 0);
  size_t piece_bytes = cov_piece_bytes_max(&shard, &p.quant), bytes = cov_payload_bytes_max(&grid, &p.quant);
  uint8_t *piece = malloc(piece_bytes), *payload = malloc(bytes);
  assert_ok(cov_encoder_piece(encoder, piece, &piece_bytes));
  cov_payload_head head = sparse_head(0);
  cov_payload_expect expect = sparse_expect(&grid, &p.quant);
  cov_payload_view view;
  uint16_t index[64];
  assert_ok(cov_payload_write(&grid, &p.quant, &head, 1, piece, piece_bytes, payload, &bytes));
  assert_ok(cov_payload_check(payload, bytes, &expect, &view));
  cov_payload_codes(&view, 0, 0, index, code);
  memcpy(table, view.tensor[0].table, 4 * sizeof *table);
  cov_payload_close(&view);
  free(piece), free(payload);
  cov_encoder_destroy(&encoder);
  cov_shard_destroy(&shard);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

/* V4: quantiser with 4 bins over 6 deviations. */
static void v4_quantiser(void **state) {
  (void)state;
  cov_quant_stats s;
  uint8_t code[64];
  float table[4];

  static const float first[8] = {-4, -1, -1, 1, 1, 4, .25f, -.25f};
  static const uint8_t first_codes[8] = {1, 2, 2, 2, 2, 3, 2, 2};
  quantise(first, 8, &s, code, table);
  assert_true(s.shift == 0);
  assert_true(s.scale == (float)3.4075808343834106);
  assert_memory_equal(code, first_codes, 8);
  assert_true(table[0] == 0 && table[1] == -4 && table[2] == 0 && table[3] == 4);

  static const float zeros[8] = {0};
  static const uint8_t zero_codes[8] = {2, 2, 2, 2, 2, 2, 2, 2};
  quantise(zeros, 8, &s, code, table);
  assert_true(s.scale == 1 && s.shift == 0);
  assert_memory_equal(code, zero_codes, 8);

  static const float long_tail[20] = {-10, -1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1, 3, .5f, -.5f};
  quantise(long_tail, 20, &s, code, table);
  assert_true(fabs((double)s.shift + 0.35) < 1e-7);
  assert_true(fabs((double)s.scale - 3.817290993141051) < 5e-7);
  assert_int_equal(code[0], 0);
  for (int i = 1; i < 20; i++) assert_int_equal(code[i], i == 17 ? 3 : 2);
  static const double lookup[4] = {-9.65, 0, 0.35, 3.35}; /* centred; bin 1 is empty */
  for (int b = 0; b < 4; b++) {
    double centred = b == 1 ? (double)table[b] : (double)table[b] - (double)s.shift;
    assert_true(fabs(centred - lookup[b]) < 1e-6);
  }
}

/* V5: error feedback without a quantiser. */
static void v5_error_feedback(void **state) {
  (void)state;
  static const sparse_shape shape = {"v", 0, 4};
  cov_params params;
  cov_grid grid;
  cov_encoder_params p = sparse_params_of(COV_QUANT_NONE);
  cov_payload_head head = sparse_head(0);
  sparse_params(&params, &shape, 1);
  assert_ok(cov_grid_create(&params, 4, 2, &grid));
  cov_payload_expect expect = sparse_expect(&grid, &p.quant);
  float e[16] = {0}, end[16] = {0};
  static const struct {
    float delta[16];
    uint16_t index[2];
    float value[2], e[4];
  } rounds[2] = {{{1, -3, .5f, 2}, {1, 3}, {-3, 2}, {1, 0, .5f, 0}},
                 {{1, 1, 1, 1}, {0, 2}, {1.95f, 1.475f}, {0, 1, 0, 1}}};
  for (int r = 0; r < 2; r++) {
    uint8_t *payload;
    size_t bytes;
    uint16_t index[2];
    float value[2];
    cov_payload_view view;
    assert_ok(sparse_encode(&grid, &p, 1, rounds[r].delta, end, e, &head, &payload, &bytes));
    assert_ok(cov_payload_check(payload, bytes, &expect, &view));
    cov_payload_chunk(&view, 0, 0, index, value);
    assert_memory_equal(index, rounds[r].index, sizeof index);
    for (int i = 0; i < 2; i++) assert_true(fabsf(value[i] - rounds[r].value[i]) <= 1.2e-7f);
    for (int i = 0; i < 4; i++) assert_true(e[i] == rounds[r].e[i]);
    cov_payload_close(&view);
    free(payload);
  }
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

/* V6: aggregation with median clipping, of all three peers and of two. */
static void v6_aggregation(void **state) {
  (void)state;
  static const sparse_shape shape = {"v", 0, 4};
  static const struct {
    uint16_t index[2];
    float value[2];
  } peers[3] = {{{0, 1}, {2, 4}}, {{1, 2}, {1, -1}}, {{0, 3}, {10, 0}}};
  static const struct {
    double norm[3], factor[3], median;
    double theta[4];
  } want[2] = {{{4.472136, 1.414214}, {.316227765, .999999993}, 1.414214, {-.4 * .632455530, -.4 * 1.132455527, .4, 0}},
               {{4.472136, 1.414214, 10}, {.999999998, 1, .447213595}, 4.472136, {-1.294427189, -.999999998, .4, 0}}};
  cov_params params;
  cov_grid grid;
  cov_quant_params quant = {.id = COV_QUANT_NONE};
  sparse_params(&params, &shape, 1);
  assert_ok(cov_grid_create(&params, 4, 2, &grid));
  cov_payload_expect expect = sparse_expect(&grid, &quant);
  cov_payload_view view[3];
  const cov_payload_view *set[3];
  uint8_t *payload[3], hash[32];
  for (int i = 0; i < 3; i++) {
    size_t bytes;
    cov_payload_head head = sparse_head((uint32_t)i);
    cov_piece content = {.indices = peers[i].index, .values = peers[i].value};
    payload[i] = sparse_by_hand(&grid, &quant, &head, &content, &bytes);
    assert_ok(cov_payload_check(payload[i], bytes, &expect, &view[i]));
    set[i] = &view[i];
  }
  for (int n = 2; n <= 3; n++) {
    double norm[3], factor[3];
    cov_clip clip = {.norm = norm, .factor = factor};
    float theta[16] = {0};
    cov_clip_describe(set, n, 0, 1, &clip);
    assert_true(fabs(clip.median - want[n - 2].median) < 1e-6);
    for (int i = 0; i < n; i++) {
      assert_true(fabs(norm[i] - want[n - 2].norm[i]) < 1e-6);
      assert_true(fabs(factor[i] - want[n - 2].factor[i]) < 1e-9);
    }
    assert_ok(sparse_step(&grid, 1, set, n, .4f, COV_MEAN_SENDERS, 1, theta, theta, hash));
    for (int i = 0; i < 4; i++) assert_true(fabs((double)theta[i] - want[n - 2].theta[i]) < 2e-7);
  }
  for (int i = 0; i < 3; i++) {
    cov_payload_close(&view[i]);
    free(payload[i]);
  }
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(v1_pack12),    cmocka_unit_test(v2_layout),         cmocka_unit_test(v3_split),
      cmocka_unit_test(v4_quantiser), cmocka_unit_test(v5_error_feedback), cmocka_unit_test(v6_aggregation),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
