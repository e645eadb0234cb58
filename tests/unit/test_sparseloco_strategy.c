/* The baselines against computations written out plainly: averaging, Nesterov's momentum as torch.optim.SGD has it, 256
 * bins; the same bits for any number of shards; payloads of another strategy are refused. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/outer.h"
#include "sparseloco/strategy.h"
#include "support.h"

enum { PEERS = 3, ROUNDS = 4 };
static const float alpha = 0.7f;

typedef struct {
  cov_params params;
  cov_grid grid;
  cov_outer_settings set;
} bench;

static void open_bench(bench *b, cov_combine combine) {
  *b = (bench){.set = {.topk = 64,
                       .quant = {.id = COV_QUANT_SIGN1, .bins = 2, .range = 6},
                       .beta = 0.95f,
                       .momentum = 0.9f,
                       .clip = 1}};
  cov_strategy_settle(combine, &b->set);
  if (b->set.quant.id == COV_QUANT_NONE) b->set.quant.bins = 0;
  sparse_params(&b->params, sparse_mixed, sparse_n_mixed);
  assert_ok(cov_grid_create(&b->params, 64, b->set.topk, &b->grid));
}

static void close_bench(bench *b) {
  cov_grid_destroy(&b->grid);
  sparse_params_free(&b->params);
}

/* Where peer p ends round t when it starts from theta. */
static float *end_of(const bench *b, const float *theta, int p, int t) {
  float *move = sparse_random(&b->params, (uint64_t)(100 * t + p), 0.01f, 6);
  for (int64_t i = 0; i < b->params.span; i++) move[i] = theta[i] - move[i];
  return move;
}

static uint8_t *send(const bench *b, int G, const float *theta, const float *end, float *feedback, int peer,
                     cov_payload_view *view) {
  const cov_encoder_params params = {.quant = b->set.quant, .beta = b->set.beta};
  cov_payload_head head = sparse_head((uint32_t)peer);
  cov_payload_expect expect = sparse_expect(&b->grid, &b->set.quant);
  uint8_t *payload;
  size_t bytes;
  head.strategy = expect.strategy = b->set.strategy;
  assert_ok(sparse_encode(&b->grid, &params, G, theta, end, feedback, &head, &payload, &bytes));
  assert_ok(cov_payload_check(payload, bytes, &expect, view));
  return payload;
}

/* One outer step on G shards over span buffers. */
static void step(const bench *b, int G, const cov_payload_view *const *set, int n, float *theta, float *velocity) {
  for (int g = 0; g < G; g++) {
    cov_shard shard;
    assert_ok(cov_shard_create(&b->grid, g, G, &shard));
    float *own = test_fenced((size_t)shard.elems * sizeof *own);
    cov_shard_copy(&shard, own, COV_LAYOUT_SHARD, velocity, COV_LAYOUT_SPAN);
    const cov_outer_params how = {
        .alpha = alpha, .clip = b->set.clip, .momentum = b->set.momentum, .velocity = b->set.momentum > 0 ? own : NULL};
    assert_ok(cov_outer_apply(&shard, set, n, &how, theta, theta, COV_LAYOUT_SPAN, NULL));
    cov_shard_copy(&shard, velocity, COV_LAYOUT_SPAN, own, COV_LAYOUT_SHARD);
    assert_false(test_fence_broken(own));
    test_fenced_free(own);
    cov_shard_destroy(&shard);
  }
}

/* A few rounds on G shards; theta[span] and velocity[span] afterwards. `mean` receives each round's mean
 * pseudo-gradient of the decoded payloads, [ROUNDS][span], if not NULL. */
static void run(const bench *b, int G, float **theta, float **velocity, double *mean) {
  size_t span = (size_t)b->params.span;
  *theta = sparse_random(&b->params, 1, 1, 3);
  *velocity = calloc(span, sizeof **velocity);
  float *feedback[PEERS];
  for (int p = 0; p < PEERS; p++) feedback[p] = calloc(span, sizeof *feedback[p]);
  for (int t = 0; t < ROUNDS; t++) {
    cov_payload_view view[PEERS];
    const cov_payload_view *set[PEERS];
    uint8_t *payload[PEERS];
    for (int p = 0; p < PEERS; p++) {
      float *end = end_of(b, *theta, p, t);
      for (size_t i = 0; mean && i < span; i++) mean[(size_t)t * span + i] += ((double)(*theta)[i] - end[i]) / PEERS;
      payload[p] = send(b, G, *theta, end, feedback[p], p, &view[p]);
      set[PEERS - 1 - p] = &view[p]; /* in any order */
      free(end);
    }
    step(b, G, set, PEERS, *theta, *velocity);
    for (int p = 0; p < PEERS; p++) {
      cov_payload_close(&view[p]);
      free(payload[p]);
    }
  }
  for (int p = 0; p < PEERS; p++) free(feedback[p]);
}

/* theta after ROUNDS steps of SGD with momentum mu (Nesterov) on mean, in doubles; every tensor element by element. */
static void plain(const bench *b, double mu, const double *mean, double *theta) {
  size_t span = (size_t)b->params.span;
  float *start = sparse_random(&b->params, 1, 1, 3);
  for (size_t i = 0; i < span; i++) {
    double v = 0;
    theta[i] = (double)start[i];
    for (int t = 0; t < ROUNDS; t++) {
      double g = mean[(size_t)t * span + i];
      v = t == 0 ? g : mu * v + g;
      theta[i] -= (double)alpha * (g + mu * v);
    }
  }
  free(start);
}

static void check_against_plain(cov_combine combine, double mu, double bound) {
  bench b;
  float *theta, *velocity;
  open_bench(&b, combine);
  size_t span = (size_t)b.params.span;
  double *mean = calloc(span * ROUNDS, sizeof *mean), *want = calloc(span, sizeof *want), worst = 0, moved = 0;
  run(&b, 1, &theta, &velocity, mean);
  plain(&b, mu, mean, want);
  for (size_t i = 0; i < span; i++) {
    worst = fmax(worst, fabs((double)theta[i] - want[i]));
    moved = fmax(moved, fabs(mean[i]));
  }
  assert_true(moved > 1e-3); /* there was something to get wrong */
  if (!(worst <= bound)) fail_msg("an element is off by %g, at most %g is due to rounding", worst, bound);
  free(mean);
  free(want);
  free(theta);
  free(velocity);
  close_bench(&b);
}

static void dense_is_averaging(void **state) {
  (void)state;
  check_against_plain(COV_COMBINE_DENSE, 0, 4e-6); /* |theta| < 8: a few roundings of 2^-22 */
}

static void diloco_is_nesterov_as_torch_has_it(void **state) {
  (void)state;
  check_against_plain(COV_COMBINE_DILOCO, 0.9f, 8e-6);
}

/* Values within the six deviations fall into one of 256 bins and come back as its mean: off by at most a bin. */
static void int8_is_averaging_up_to_a_bin(void **state) {
  (void)state;
  bench b;
  open_bench(&b, COV_COMBINE_INT8);
  float *theta = sparse_random(&b.params, 1, 1, 3), *end = end_of(&b, theta, 0, 0);
  float *feedback = calloc((size_t)b.params.span, sizeof *feedback);
  cov_payload_view view;
  uint8_t *payload = send(&b, 2, theta, end, feedback, 0, &view);
  for (int t = 0; t < b.grid.n; t++) {
    const cov_grid_tensor *gt = &b.grid.tensor[t];
    double sum = 0, square = 0;
    for (int64_t i = 0; i < gt->elems; i++) {
      double v = (double)theta[gt->offset + i] - end[gt->offset + i];
      sum += v;
      square += v * v;
    }
    if (gt->elems < 2) continue; /* its own bin */
    double n = (double)gt->elems, mean = sum / n, deviation = sqrt(fmax(0, square / n - mean * mean) * n / (n - 1));
    double bin = 6 * deviation / 256;
    for (int64_t i = 0; i < gt->elems; i++) {
      double v = (double)theta[gt->offset + i] - end[gt->offset + i], residual = feedback[gt->offset + i];
      if (fabs(v - mean) > 2.9 * deviation) continue; /* clamped to the last bins */
      if (!(fabs(residual) <= 1.01 * bin)) fail_msg("tensor %d: residual %g, a bin is %g", t, residual, bin);
    }
  }
  cov_payload_close(&view);
  free(payload);
  free(theta);
  free(end);
  free(feedback);
  close_bench(&b);
}

static void any_number_of_shards_gives_the_same_bits(void **state) {
  (void)state;
  static const cov_combine all[] = {COV_COMBINE_SPARSELOCO, COV_COMBINE_DENSE, COV_COMBINE_DILOCO, COV_COMBINE_INT8};
  for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
    bench b;
    float *theta, *velocity, *other, *other_velocity;
    open_bench(&b, all[s]);
    size_t bytes = (size_t)b.params.span * sizeof *theta;
    run(&b, 1, &theta, &velocity, NULL);
    for (int G = 2; G <= 8; G++) {
      run(&b, G, &other, &other_velocity, NULL);
      assert_memory_equal(theta, other, bytes);
      assert_memory_equal(velocity, other_velocity, bytes);
      free(other);
      free(other_velocity);
    }
    free(theta);
    free(velocity);
    close_bench(&b);
  }
}

/* Every element is sent, also of chunks with an odd number of them, and 4 bytes (int8: 1) are paid for each. */
static void dense_payloads_carry_every_value(void **state) {
  (void)state;
  bench dense, int8;
  open_bench(&dense, COV_COMBINE_DENSE);
  open_bench(&int8, COV_COMBINE_INT8);
  assert_int_equal(dense.grid.n_kept, dense.params.elems);
  assert_int_equal(int8.grid.n_kept, int8.params.elems);
  size_t n = (size_t)dense.params.elems, overhead = (size_t)dense.grid.n * 64 + 1000;
  assert_in_range(cov_payload_bytes_max(&dense.grid, &dense.set.quant), 4 * n, 4 * n + overhead);
  assert_in_range(cov_payload_bytes_max(&int8.grid, &int8.set.quant), n,
                  n + n / 64 + overhead + (size_t)int8.grid.n * 2048 + (size_t)int8.grid.n_bands * 18);
  close_bench(&dense);
  close_bench(&int8);
}

static void a_payload_of_another_strategy_is_refused(void **state) {
  (void)state;
  bench b;
  open_bench(&b, COV_COMBINE_DILOCO);
  float *theta = sparse_random(&b.params, 1, 1, 3), *end = end_of(&b, theta, 0, 0);
  float *feedback = calloc((size_t)b.params.span, sizeof *feedback);
  cov_payload_view view;
  uint8_t *payload = send(&b, 1, theta, end, feedback, 0, &view);
  cov_payload_close(&view);
  size_t bytes = cov_payload_bytes_max(&b.grid, &b.set.quant);
  cov_payload_expect expect = sparse_expect(&b.grid, &b.set.quant);
  expect.strategy = COV_STRATEGY_DENSE;
  assert_status(cov_payload_check(payload, bytes, &expect, &view), COV_EREMOTE);
  expect.strategy = COV_STRATEGY_DILOCO;
  assert_ok(cov_payload_check(payload, bytes, &expect, &view));
  cov_payload_close(&view);
  uint32_t nan = 0x7FC00000u; /* the last value before the trailer */
  memcpy(payload + bytes - COV_PAYLOAD_DIGEST_BYTES - COV_PAYLOAD_SIGNATURE_BYTES - 4 * 4, &nan, 4);
  sparse_redigest(payload, bytes);
  assert_status(cov_payload_check(payload, bytes, &expect, &view), COV_EREMOTE);
  free(payload);
  free(theta);
  free(end);
  free(feedback);
  close_bench(&b);
}

static void momentum_out_of_range_is_an_error(void **state) {
  (void)state;
  bench b;
  cov_shard shard;
  open_bench(&b, COV_COMBINE_DILOCO);
  assert_ok(cov_shard_create(&b.grid, 0, 1, &shard));
  float *theta = sparse_random(&b.params, 1, 1, 3), *velocity = calloc((size_t)shard.elems, sizeof *velocity);
  cov_outer_params how = {.alpha = alpha, .momentum = 1, .velocity = velocity};
  assert_status(cov_outer_apply(&shard, NULL, 0, &how, theta, theta, COV_LAYOUT_SPAN, NULL), COV_EUSAGE);
  how.momentum = 0.5f;
  how.velocity = NULL;
  assert_status(cov_outer_apply(&shard, NULL, 0, &how, theta, theta, COV_LAYOUT_SPAN, NULL), COV_EUSAGE);
  /* An empty set is no step, not even of the momentum. */
  how.velocity = velocity;
  float *before = sparse_copy(theta, b.params.span);
  velocity[0] = 1;
  assert_ok(cov_outer_apply(&shard, NULL, 0, &how, theta, theta, COV_LAYOUT_SPAN, NULL));
  assert_memory_equal(theta, before, (size_t)b.params.span * sizeof *theta);
  assert_true(velocity[0] == 1);
  free(theta);
  free(before);
  free(velocity);
  cov_shard_destroy(&shard);
  close_bench(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(dense_is_averaging),
      cmocka_unit_test(diloco_is_nesterov_as_torch_has_it),
      cmocka_unit_test(int8_is_averaging_up_to_a_bin),
      cmocka_unit_test(any_number_of_shards_gives_the_same_bits),
      cmocka_unit_test(dense_payloads_carry_every_value),
      cmocka_unit_test(a_payload_of_another_strategy_is_refused),
      cmocka_unit_test(momentum_out_of_range_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
