/* The outer path under FTZ and DAZ, which libraries like to switch on: the same bits, and the caller's mode afterwards.
 */
#include <fenv.h>
#include <stdlib.h>
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/fixed.h"
#include "sparseloco/outer.h"
#include "support.h"

#if defined(__SSE2__)
#include <immintrin.h>

enum { FTZ_DAZ = 0x8040, ROUND_DOWN = 0x2000 };

typedef struct {
  uint8_t *payload;
  size_t bytes;
  float *feedback, *theta;
  double norm0;
  uint8_t hash[32];
} result;

/* One shard in this thread (threads have modes of their own), with data down in the subnormal numbers. */
static void run_round(cov_quant_id id, float scale, const cov_grid *grid, const cov_shard *shard, unsigned mode,
                      result *r) {
  const cov_params *params = grid->params;
  cov_encoder_params p = sparse_params_of(id);
  cov_payload_head head = sparse_head(1);
  cov_payload_expect expect = sparse_expect(grid, &p.quant);
  cov_payload_view view;
  cov_encoder *encoder;
  const cov_payload_view *set[1] = {&view};
  float *theta = sparse_random(params, 1, scale, 10), *end = sparse_random(params, 2, scale, 10);
  r->feedback = sparse_random(params, 3, scale, 10);
  r->theta = calloc((size_t)params->span, sizeof *r->theta);
  assert_ok(cov_encoder_create(shard, &p, &encoder));
  uint8_t *piece = malloc(cov_piece_bytes_max(shard, &p.quant));
  r->payload = malloc(cov_payload_bytes_max(grid, &p.quant));
  unsigned before = _mm_getcsr();
  _mm_setcsr(before | mode);
  cov_status encoded = cov_encoder_encode(encoder, theta, end, r->feedback, NULL);
  size_t piece_bytes;
  assert_ok(cov_encoder_piece(encoder, piece, &piece_bytes));
  cov_status written = cov_payload_write(grid, &p.quant, &head, 1, piece, piece_bytes, r->payload, &r->bytes);
  cov_status checked = cov_payload_check(r->payload, r->bytes, &expect, &view);
  cov_status stepped = COV_EBUG;
  if (checked == COV_OK) {
    r->norm0 = view.tensor[0].norm;
    stepped = sparse_step(grid, 2, set, 1, 0.7f, COV_MEAN_SENDERS, 1, theta, r->theta, r->hash);
    cov_payload_give_back(&view, shard, r->feedback, COV_LAYOUT_SPAN);
  }
  unsigned after = _mm_getcsr();
  _mm_setcsr(before);
  assert_ok(encoded);
  assert_ok(written);
  assert_ok(checked);
  assert_ok(stepped);
  assert_int_equal(after & 0xFFC0u, (before | mode) & 0xFFC0u); /* all but the sticky exception flags */
  cov_payload_close(&view);
  cov_encoder_destroy(&encoder);
  free(piece), free(theta), free(end);
}

static void flushing_to_zero_changes_nothing(void **state) {
  (void)state;
  static const cov_quant_id quantisers[] = {COV_QUANT_REFERENCE, COV_QUANT_SIGN1, COV_QUANT_SIGN2, COV_QUANT_NONE};
  static const float scales[] = {1e-41f, 1e-39f, 2e-38f, 0.1f};
  cov_params params;
  cov_grid grid;
  cov_shard shard;
  sparse_params(&params, sparse_mixed, sparse_n_mixed);
  assert_ok(cov_grid_create(&params, 16, 24, &grid));
  assert_ok(cov_shard_create(&grid, 0, 1, &shard));
  for (int q = 0; q < 4; q++) {
    for (int s = 0; s < 4; s++) {
      result plain, flushed, rounded;
      run_round(quantisers[q], scales[s], &grid, &shard, 0, &plain);
      run_round(quantisers[q], scales[s], &grid, &shard, FTZ_DAZ, &flushed);
      run_round(quantisers[q], scales[s], &grid, &shard, ROUND_DOWN, &rounded);
      const result *others[2] = {&flushed, &rounded};
      for (int o = 0; o < 2; o++) {
        assert_memory_equal(others[o]->payload, plain.payload, plain.bytes);
        assert_memory_equal(others[o]->feedback, plain.feedback, (size_t)params.span * sizeof(float));
        assert_memory_equal(others[o]->theta, plain.theta, (size_t)params.span * sizeof(float));
        assert_memory_equal(others[o]->hash, plain.hash, sizeof plain.hash);
        assert_true(others[o]->norm0 == plain.norm0);
      }
      if (s < 2) assert_true(plain.norm0 > 0); /* there was something to flush */
      int subnormal = 0;
      for (int64_t i = 0; i < params.span; i++) {
        uint32_t m = cov_float_bits(plain.theta[i]) & COV_MAGNITUDE_MASK;
        subnormal += m > 0 && m < 0x00800000u;
      }
      if (s < 2) assert_true(subnormal > 100);
      result *all[3] = {&plain, &flushed, &rounded};
      for (int i = 0; i < 3; i++) free(all[i]->payload), free(all[i]->feedback), free(all[i]->theta);
    }
  }
  cov_shard_destroy(&shard);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

/* That the modes used above do change ordinary arithmetic, or the test would prove nothing. */
static void the_modes_are_real(void **state) {
  (void)state;
  volatile float tiny = 1e-39f, one = 1.0f, small = 1e-9f;
  unsigned before = _mm_getcsr();
  _mm_setcsr(before | FTZ_DAZ);
  volatile float flushed = tiny * one;
  _mm_setcsr(before | ROUND_DOWN);
  volatile float rounded = one - small;
  _mm_setcsr(before);
  assert_int_equal(cov_float_bits(flushed), 0);
  assert_int_equal(cov_float_bits(rounded), 0x3F7FFFFF);
}
#else
static void flushing_to_zero_changes_nothing(void **state) {
  (void)state;
  printf("skipped: FTZ and DAZ are set through SSE's control register, which this machine has not\n");
  skip();
}
static void the_modes_are_real(void **state) {
  (void)state;
  skip();
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_modes_are_real),
      cmocka_unit_test(flushing_to_zero_changes_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
