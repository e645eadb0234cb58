/* What a peer goes on from while its aggregate is under way, against its formulas and against the outer step. */
#include <stdlib.h>
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/keep.h"
#include "support.h"

static cov_params params;
static cov_grid grid;
static float *theta, *begin, *end;
static uint8_t *payload;
static cov_payload_view own;

static int set_up(void **state) {
  (void)state;
  size_t bytes;
  cov_encoder_params p = sparse_params_of(COV_QUANT_REFERENCE);
  cov_payload_head head = sparse_head(3);
  sparse_params(&params, sparse_mixed, sparse_n_mixed);
  assert_ok(cov_grid_create(&params, 16, 24, &grid));
  theta = sparse_random(&params, 1, 0.1f, 4);
  begin = sparse_random(&params, 2, 0.1f, 4);
  end = sparse_random(&params, 3, 0.1f, 4);
  float *e = sparse_random(&params, 4, 0.01f, 4);
  assert_ok(sparse_encode(&grid, &p, 1, begin, end, e, &head, &payload, &bytes));
  free(e);
  cov_payload_expect expect = sparse_expect(&grid, &p.quant);
  assert_ok(cov_payload_check(payload, bytes, &expect, &own));
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  cov_payload_close(&own);
  free(payload), free(theta), free(begin), free(end);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
  return 0;
}

enum { PAYLOAD, PROGRESS };

/* On G shards, one after the other; the caller's to free. */
static float *keep(int rule, int G, cov_mean mean, int n_peers) {
  const cov_outer_params step = {.alpha = 0.7f, .mean = mean, .clip = 1};
  float *start = sparse_copy(begin, params.span);
  for (int g = 0; g < G; g++) {
    cov_shard shard;
    assert_ok(cov_shard_create(&grid, g, G, &shard));
    const cov_payload_view *set[] = {&own};
    const cov_outer_params alone = cov_keep_step(&step, n_peers);
    if (rule == PROGRESS) cov_keep_progress(&shard, theta, end, start);
    else assert_ok(cov_outer_apply(&shard, set, 1, &alone, theta, start, COV_LAYOUT_SPAN, NULL));
    cov_shard_destroy(&shard);
  }
  return start;
}

static void expect_same(float *have, const float *want) {
  for (int t = 0; t < params.n; t++) {
    const cov_param *p = &params.item[t];
    assert_memory_equal(have + p->offset, want + p->offset, (size_t)p->elems * sizeof(float));
  }
  free(have);
}

static void progress_is_all_local_movement(void **state) {
  (void)state;
  float *want = sparse_copy(theta, params.span);
  for (int64_t i = 0; i < params.span; i++) {
    float moved = begin[i] - end[i];
    want[i] = theta[i] - moved;
  }
  for (int G = 1; G <= 7; G += 3) expect_same(keep(PROGRESS, G, COV_MEAN_SENDERS, 1), want);
  free(want);
}

static void payload_is_the_outer_step_of_one(void **state) {
  (void)state;
  const cov_payload_view *set[] = {&own};
  float *want = sparse_copy(theta, params.span);
  uint8_t hash[32];
  assert_ok(sparse_step(&grid, 1, set, 1, 0.7f, COV_MEAN_SENDERS, 0, theta, want, hash));
  for (int G = 1; G <= 7; G += 3) expect_same(keep(PAYLOAD, G, COV_MEAN_SENDERS, 5), want);
  for (int G = 1; G <= 7; G += 3) expect_same(keep(PAYLOAD, G, COV_MEAN_PAPER, 1), want);
  assert_ok(sparse_step(&grid, 1, set, 1, 0.7f / 4, COV_MEAN_SENDERS, 0, theta, want, hash));
  expect_same(keep(PAYLOAD, 3, COV_MEAN_PAPER, 4), want);
  free(want);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(progress_is_all_local_movement),
      cmocka_unit_test(payload_is_the_outer_step_of_one),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
