/* Strategy DeMo: what is sent are coefficients of a chunk's cosine transform, what is applied is their inverse; the
 * same bits for any number of shards and threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/demo.h"
#include "sparseloco/state_hash.h"
#include "support.h"

static cov_params params;
static cov_grid grid;
static float *theta, *end;

static int set_up(void **state) {
  (void)state;
  sparse_params(&params, sparse_mixed, sparse_n_mixed);
  theta = sparse_random(&params, 1, 0.1f, 4);
  end = sparse_random(&params, 2, 0.1f, 4);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  free(theta), free(end);
  sparse_params_free(&params);
  return 0;
}

/* One peer's payload of `topk` unquantised coefficients a chunk, and the error feedback it leaves. */
static uint8_t *send(int topk, float *feedback, cov_payload_view *view) {
  cov_shard shard;
  cov_demo demo;
  cov_encoder *encoder;
  size_t bytes;
  cov_encoder_params p = sparse_params_of(COV_QUANT_NONE);
  p.theta_layout = p.feedback_layout = COV_LAYOUT_SHARD;
  cov_payload_head head = sparse_head(0);
  assert_ok(cov_grid_create(&params, 16, topk, &grid));
  assert_ok(cov_shard_create(&grid, 0, 1, &shard));
  assert_ok(cov_demo_create(&shard, 0, 1, &demo));
  assert_ok(cov_encoder_create(&shard, &p, &encoder));
  cov_demo_project(&demo, theta, end);
  assert_ok(cov_encoder_encode(encoder, demo.zero, demo.coefficients, feedback, NULL));
  uint8_t *piece = malloc(cov_piece_bytes_max(&shard, &p.quant)),
          *payload = malloc(cov_payload_bytes_max(&grid, &p.quant));
  size_t piece_bytes;
  assert_ok(cov_encoder_piece(encoder, piece, &piece_bytes));
  assert_ok(cov_payload_write(&grid, &p.quant, &head, 1, piece, piece_bytes, payload, &bytes));
  free(piece);
  cov_encoder_destroy(&encoder);
  cov_demo_destroy(&demo);
  cov_shard_destroy(&shard);
  cov_payload_expect expect = sparse_expect(&grid, &p.quant);
  assert_ok(cov_payload_check(payload, bytes, &expect, view));
  return payload;
}

/* theta after one step with one payload on G shards; the caller's to free. */
static float *step(const cov_payload_view *view, float alpha, int sign, int G, int threads, uint8_t *leaves) {
  const cov_payload_view *set[] = {view};
  const cov_outer_params outer = {.alpha = alpha, .mean = COV_MEAN_SENDERS};
  float *out = sparse_copy(theta, params.span);
  for (int g = 0; g < G; g++) {
    cov_shard shard;
    cov_demo demo;
    assert_ok(cov_shard_create(&grid, g, G, &shard));
    assert_ok(cov_demo_create(&shard, sign, threads, &demo));
    assert_ok(cov_demo_apply(&demo, set, 1, &outer, theta, out, G == 1 ? leaves : NULL));
    cov_demo_destroy(&demo);
    cov_shard_destroy(&shard);
  }
  return out;
}

/* With every coefficient sent, one peer and a rate of 1 the step goes to where the peer ended. */
static void all_coefficients_bring_the_whole_movement(void **state) {
  (void)state;
  cov_payload_view view;
  float *feedback = calloc((size_t)params.span, sizeof *feedback);
  uint8_t *payload = send(COV_CHUNK_ELEMS_MAX, feedback, &view);
  float *out = step(&view, 1.0f, 0, 1, 1, NULL);
  for (int64_t i = 0; i < params.span; i++) {
    assert_float_equal(out[i], end[i], 2e-6);
    assert_true(feedback[i] == 0);
  }
  free(out), free(feedback), free(payload);
  cov_payload_close(&view);
  cov_grid_destroy(&grid);
}

/* What is not sent stays in the feedback: both together are the transform of the movement. */
static void what_is_kept_back_and_what_is_sent_add_up(void **state) {
  (void)state;
  cov_payload_view view;
  cov_shard shard;
  cov_demo demo;
  float *feedback = calloc((size_t)params.span, sizeof *feedback);
  uint8_t *payload = send(24, feedback, &view);
  assert_ok(cov_shard_create(&grid, 0, 1, &shard));
  assert_ok(cov_demo_create(&shard, 0, 1, &demo));
  cov_payload_give_back(&view, &shard, feedback, COV_LAYOUT_SHARD);
  cov_demo_project(&demo, theta, end);
  for (int64_t i = 0; i < shard.elems; i++) assert_true(feedback[i] == -demo.coefficients[i]);
  cov_demo_destroy(&demo);
  cov_shard_destroy(&shard);
  free(feedback), free(payload);
  cov_payload_close(&view);
  cov_grid_destroy(&grid);
}

static void shards_and_threads_do_not_change_the_bits(void **state) {
  (void)state;
  static const int tried[][2] = {{1, 3}, {2, 1}, {3, 2}, {7, 1}};
  cov_payload_view view;
  float *feedback = calloc((size_t)params.span, sizeof *feedback);
  uint8_t *payload = send(24, feedback, &view);
  for (int sign = 0; sign < 2; sign++) {
    float *want = step(&view, 0.7f, sign, 1, 1, NULL);
    for (size_t i = 0; i < sizeof tried / sizeof *tried; i++) {
      float *have = step(&view, 0.7f, sign, tried[i][0], tried[i][1], NULL);
      assert_memory_equal(have, want, (size_t)params.span * sizeof(float));
      free(have);
    }
    free(want);
  }
  free(feedback), free(payload);
  cov_payload_close(&view);
  cov_grid_destroy(&grid);
}

static void the_sign_is_all_that_counts(void **state) {
  (void)state;
  cov_payload_view view;
  float *feedback = calloc((size_t)params.span, sizeof *feedback);
  uint8_t *payload = send(24, feedback, &view);
  float *plain = step(&view, 1.0f, 0, 1, 1, NULL), *sign = step(&view, 0.5f, 1, 1, 1, NULL);
  int64_t moved = 0;
  for (int64_t i = 0; i < params.span; i++) {
    float d = theta[i] - plain[i], want = theta[i] - (d > 0 ? 0.5f : -0.5f);
    if (fabsf(d) < 1e-6f) continue; /* lost in the rounding of theta */
    assert_true(sign[i] == want);
    moved++;
  }
  assert_true(moved > params.elems / 2);
  free(plain), free(sign), free(feedback), free(payload);
  cov_payload_close(&view);
  cov_grid_destroy(&grid);
}

static void leaves_are_those_of_the_result(void **state) {
  (void)state;
  cov_payload_view view;
  cov_shard shard;
  float *feedback = calloc((size_t)params.span, sizeof *feedback);
  uint8_t *payload = send(24, feedback, &view);
  uint8_t *have = malloc((size_t)grid.n_bands * COV_LEAF_BYTES), *want = malloc((size_t)grid.n_bands * COV_LEAF_BYTES);
  float *out = step(&view, 0.7f, 0, 1, 1, have);
  assert_ok(cov_shard_create(&grid, 0, 1, &shard));
  cov_shard_leaves(&shard, out, COV_LAYOUT_SPAN, want);
  assert_memory_equal(have, want, (size_t)grid.n_bands * COV_LEAF_BYTES);
  cov_shard_destroy(&shard);
  free(out), free(have), free(want), free(feedback), free(payload);
  cov_payload_close(&view);
  cov_grid_destroy(&grid);
}

static void parameters_without_bound_are_refused(void **state) {
  (void)state;
  cov_payload_view view;
  cov_shard shard;
  cov_demo demo;
  const cov_payload_view *set[] = {&view};
  const cov_outer_params outer = {.alpha = 0.7f, .mean = COV_MEAN_SENDERS};
  float *feedback = calloc((size_t)params.span, sizeof *feedback);
  uint8_t *payload = send(24, feedback, &view);
  float *bad = sparse_copy(theta, params.span), *out = sparse_copy(theta, params.span);
  assert_ok(cov_shard_create(&grid, 0, 1, &shard));
  assert_ok(cov_demo_create(&shard, 0, 1, &demo));
  bad[params.item[params.n - 1].offset] = NAN;
  assert_status(cov_demo_apply(&demo, set, 1, &outer, bad, out, NULL), COV_ENUMERIC);
  assert_memory_equal(out, theta, (size_t)params.span * sizeof(float));
  cov_demo_destroy(&demo);
  cov_shard_destroy(&shard);
  free(bad), free(out), free(feedback), free(payload);
  cov_payload_close(&view);
  cov_grid_destroy(&grid);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_coefficients_bring_the_whole_movement),
      cmocka_unit_test(what_is_kept_back_and_what_is_sent_add_up),
      cmocka_unit_test(shards_and_threads_do_not_change_the_bits),
      cmocka_unit_test(the_sign_is_all_that_counts),
      cmocka_unit_test(leaves_are_those_of_the_result),
      cmocka_unit_test(parameters_without_bound_are_refused),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
