/* covenant-test: timeout=120
 * Held-out loss: the same rows evaluated by hand, any number of ranks, short tails, known models, bits per byte. */
#include <math.h>

#include "data_fixture.h"
#include "evaluate/heldout.h"

enum { T = 16, RANKS = 3 };

static cov_dataset *data;
static cov_llama_config config;
static cov_params params;
static float *theta;
static const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};

static int open_fixture(void **state) {
  open_base_folder(state);
  prepare_easily(put_paragraphs("text.txt", 0, 60), in_base("data"));
  if (cov_dataset_open(in_base("data"), COV_VERIFY_SIZE, &data) != COV_OK) return 1;
  cov_llama_config_default(&config);
  config.vocab = cov_dataset_manifest(data)->vocab;
  config.dim = 12;
  config.layers = 2;
  config.heads = 2;
  config.kv_heads = 1;
  config.ffn = 20;
  config.seq_len = T;
  cov_params_create(&params);
  if (cov_llama_params(&config, &params) != COV_OK) return 1;
  theta = calloc((size_t)params.span, sizeof *theta);
  if (!theta || cov_params_init(&params, 5, theta) != COV_OK) return 1;
  for (int64_t i = 0; i < params.span; i++) theta[i] *= 20.0f; /* far from uniform: every token's loss differs */
  return 0;
}

static int close_fixture(void **state) {
  (void)state;
  free(theta);
  cov_params_destroy(&params);
  cov_dataset_close(&data);
  return 0;
}

static cov_heldout_sums part_of(const cov_heldout_params *p, const float *weights) {
  cov_heldout *h;
  cov_heldout_sums sums = {.loss_sum = NAN, .count = -1};
  assert_ok(cov_heldout_create(&config, &params, p, cov_ops_ref(), &place, &h));
  assert_ok(cov_heldout_evaluate(h, weights, &sums));
  cov_heldout_destroy(&h);
  assert_null(h);
  return sums;
}

/* Row by row, one sequence each, with a model of its own: `n` tokens predicted from `first` on. */
static cov_heldout_sums by_hand(int64_t first, int64_t n) {
  cov_heldout_sums sums = {0};
  cov_llama *model;
  const cov_llama_shape shape = {.batch = 1, .seq_len = T, .head_rows = 5, .evaluate_only = 1};
  assert_ok(cov_llama_create(&config, &params, &shape, cov_ops_ref(), &place, &model));
  for (int64_t at = 0; at < n; at += T) {
    uint32_t ids[T + 1];
    int32_t tokens[T], targets[T];
    int64_t len = n - at < T ? n - at : T;
    assert_ok(cov_dataset_read(data, COV_SPLIT_HELDOUT, first + at, len + 1, ids));
    for (int64_t i = 0; i < len; i++) {
      tokens[i] = (int32_t)ids[i];
      targets[i] = (int32_t)ids[i + 1];
    }
    cov_llama_batch batch = {.tokens = tokens, .targets = targets, .B = 1, .T = len};
    cov_llama_loss loss;
    assert_ok(cov_llama_evaluate(model, theta, &batch, NULL, &loss));
    sums.loss_sum += loss.loss_sum;
    sums.count += loss.count;
  }
  cov_llama_destroy(&model);
  return sums;
}

static void assert_close(double got, double want) {
  if (!(fabs(got - want) <= 1e-6 * fabs(want))) fail_msg("%.17g is not %.17g", got, want);
}

static const struct {
  int64_t first, n; /* n 0: to the end of the split */
} ranges[] = {{0, 0}, {0, 10 * T}, {3, 10 * T + 5}, {7, 2 * T}, {1, T - 1}, {0, 1}, {5, T + 1}};
enum { N_RANGES = sizeof ranges / sizeof *ranges };

static int64_t predicted(int k) {
  return ranges[k].n ? ranges[k].n : cov_dataset_tokens(data, COV_SPLIT_HELDOUT) - 1 - ranges[k].first;
}

static void rows_and_batches_do_not_change_the_sum(void **state) {
  (void)state;
  for (int k = 0; k < N_RANGES; k++) {
    cov_heldout_sums want = by_hand(ranges[k].first, predicted(k));
    assert_int_equal(want.count, predicted(k));
    for (int64_t batch = 1; batch <= 1000; batch = 3 * batch + 1) {
      cov_heldout_params p = {
          .data = data, .batch_seqs = batch, .first_token = ranges[k].first, .n_tokens = ranges[k].n, .n_ranks = 1};
      cov_heldout_sums got = part_of(&p, theta);
      assert_int_equal(got.count, want.count);
      assert_close(got.loss_sum, want.loss_sum);
    }
  }
}

/* More ranks than rows included: a rank without rows adds nothing. */
static void ranks_share_the_rows(void **state) {
  (void)state;
  for (int k = 0; k < N_RANGES; k++) {
    cov_heldout_params p = {
        .data = data, .batch_seqs = 4, .first_token = ranges[k].first, .n_tokens = ranges[k].n, .n_ranks = 1};
    cov_heldout_sums one = part_of(&p, theta), parts[RANKS];
    cov_heldout_result alone, together;
    cov_heldout *h;
    assert_ok(cov_heldout_create(&config, &params, &p, cov_ops_ref(), &place, &h));
    assert_ok(cov_heldout_total(h, &one, &alone));
    cov_heldout_destroy(&h);
    p.n_ranks = RANKS;
    int64_t rows = (predicted(k) + T - 1) / T;
    for (p.rank = 0; p.rank < RANKS; p.rank++) {
      parts[p.rank] = part_of(&p, theta);
      assert_in_range(parts[p.rank].count, 0, (uintmax_t)((rows + RANKS - 1) / RANKS * T));
    }
    p.rank = 1;
    assert_ok(cov_heldout_create(&config, &params, &p, cov_ops_ref(), &place, &h));
    assert_ok(cov_heldout_total(h, parts, &together));
    assert_int_equal(together.tokens, predicted(k));
    assert_close(together.loss, alone.loss);
    assert_close(together.perplexity, exp(alone.loss));
    assert_close(together.bits_per_byte, alone.bits_per_byte);
    parts[0].count++; /* parts that do not fit together are no result */
    assert_status(cov_heldout_total(h, parts, &together), COV_EBUG);
    cov_heldout_destroy(&h);
  }
}

static void a_long_request_ends_with_the_split(void **state) {
  (void)state;
  cov_heldout_params p = {.data = data, .batch_seqs = 8, .n_tokens = 1000000000, .n_ranks = 1};
  cov_heldout *h;
  assert_ok(cov_heldout_create(&config, &params, &p, cov_ops_ref(), &place, &h));
  assert_int_equal(cov_heldout_tokens(h), cov_dataset_tokens(data, COV_SPLIT_HELDOUT) - 1);
  cov_heldout_destroy(&h);
}

/* All weights zero: every token is equally likely, so the loss is log V, and bits per byte follow from the manifest. */
static void a_uniform_model_has_the_entropy_of_its_vocabulary(void **state) {
  (void)state;
  const cov_split_info *split = &cov_dataset_manifest(data)->splits[COV_SPLIT_HELDOUT];
  const double want = log((double)config.vocab);
  float *zeros = calloc((size_t)params.span, sizeof *zeros);
  assert_non_null(zeros);
  for (int part = 0; part < 2; part++) {
    cov_heldout_params p = {.data = data, .batch_seqs = 8, .n_tokens = part ? 50 : 0, .n_ranks = 1};
    cov_heldout *h;
    cov_heldout_sums sums;
    cov_heldout_result r;
    assert_ok(cov_heldout_create(&config, &params, &p, cov_ops_ref(), &place, &h));
    assert_ok(cov_heldout_evaluate(h, zeros, &sums));
    assert_ok(cov_heldout_total(h, &sums, &r));
    assert_close(r.loss, want);
    assert_close(r.perplexity, (double)config.vocab);
    double bytes = part ? 50.0 * (double)split->text_bytes / (double)split->tokens : (double)split->text_bytes;
    assert_close(r.bits_per_byte, (double)r.tokens * want / log(2.0) / bytes);
    cov_heldout_destroy(&h);
  }
  free(zeros);
}

static void a_diverged_model_is_reported_as_such(void **state) {
  (void)state;
  float *bad = calloc((size_t)params.span, sizeof *bad);
  assert_non_null(bad);
  for (int64_t i = 0; i < params.span; i++) bad[i] = NAN;
  cov_heldout_params p = {.data = data, .batch_seqs = 8, .n_ranks = 1};
  cov_heldout *h;
  cov_heldout_sums sums;
  cov_heldout_result r;
  assert_ok(cov_heldout_create(&config, &params, &p, cov_ops_ref(), &place, &h));
  assert_ok(cov_heldout_evaluate(h, bad, &sums));
  assert_ok(cov_heldout_total(h, &sums, &r));
  assert_false(isfinite(r.loss));
  cov_heldout_destroy(&h);
  free(bad);
}

static void bits_per_byte_match_the_vector(void **state) {
  (void)state;
  double bpb = 0;
  assert_ok(cov_bits_per_byte(100, 50, 100, 0, &bpb)); /* protocol V22 */
  assert_true(fabs(bpb - 1.442695) < 5e-7);
  assert_ok(cov_bits_per_byte(100, 50, 0, 2, &bpb));
  assert_true(fabs(bpb - 1.442695) < 5e-7);
  assert_ok(cov_bits_per_byte(100, 50, 200, 2, &bpb)); /* a count beats the ratio */
  assert_true(fabs(bpb - 0.7213475) < 5e-7);
  assert_ok(cov_bits_per_byte(0, 0, 100, 0, &bpb));
  assert_true(isinf(bpb) && bpb > 0);
  assert_status(cov_bits_per_byte(100, 50, 0, 0, &bpb), COV_EUSAGE);
  assert_status(cov_bits_per_byte(100, 50, 0, NAN, &bpb), COV_EUSAGE);
}

static void wrong_parameters_are_refused(void **state) {
  (void)state;
  const int64_t n = cov_dataset_tokens(data, COV_SPLIT_HELDOUT);
  const struct {
    cov_heldout_params p;
    cov_status want;
  } cases[] = {
      {{.data = data, .batch_seqs = 0, .n_ranks = 1}, COV_EUSAGE},
      {{.data = data, .batch_seqs = 1, .n_ranks = 0}, COV_EUSAGE},
      {{.data = data, .batch_seqs = 1, .rank = 2, .n_ranks = 2}, COV_EUSAGE},
      {{.data = data, .batch_seqs = 1, .rank = -1, .n_ranks = 2}, COV_EUSAGE},
      {{.data = data, .batch_seqs = 1, .first_token = -1, .n_ranks = 1}, COV_EUSAGE},
      {{.data = data, .batch_seqs = 1, .n_tokens = -1, .n_ranks = 1}, COV_EUSAGE},
      {{.data = data, .batch_seqs = 1, .first_token = n - 1, .n_ranks = 1}, COV_EDATA},
      {{.data = data, .batch_seqs = 1, .first_token = INT64_MAX, .n_ranks = 1}, COV_EDATA},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    cov_heldout *h = NULL;
    assert_status(cov_heldout_create(&config, &params, &cases[i].p, cov_ops_ref(), &place, &h), cases[i].want);
    assert_null(h);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_and_batches_do_not_change_the_sum),
      cmocka_unit_test(ranks_share_the_rows),
      cmocka_unit_test(a_long_request_ends_with_the_split),
      cmocka_unit_test(a_uniform_model_has_the_entropy_of_its_vocabulary),
      cmocka_unit_test(a_diverged_model_is_reported_as_such),
      cmocka_unit_test(bits_per_byte_match_the_vector),
      cmocka_unit_test(wrong_parameters_are_refused),
  };
  return cmocka_run_group_tests_name("evaluate", tests, open_fixture, close_fixture);
}
