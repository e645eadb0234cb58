/* The inner loop on a small data set: it learns, it repeats itself bit by bit, accumulation changes only rounding,
 * and what it trains on is what the assignment says.
 * covenant-test: timeout=120 */
#include <math.h>

#include "base/memory.h"
#include "data/assign.h"
#include "data_fixture.h"
#include "optim/clip.h"
#include "train/inner.h"

enum { T = 32, H = 5, BATCH = 4, LOG_ROOM = 64 };

typedef struct {
  cov_dataset *data;
  cov_llama_config llama;
  cov_params params;
} fixture;
static fixture f;

static int open_fixture(void **state) {
  open_base_folder(state);
  prepare_easily(put_paragraphs("text", 0, 200), in_base("data"));
  assert_ok(cov_dataset_open(in_base("data"), COV_VERIFY_HASH, &f.data));
  cov_llama_config_default(&f.llama);
  f.llama.vocab = cov_dataset_manifest(f.data)->vocab;
  f.llama.dim = 16;
  f.llama.layers = 2;
  f.llama.heads = 2;
  f.llama.kv_heads = 1;
  f.llama.ffn = 32;
  f.llama.seq_len = T;
  assert_ok(cov_llama_config_verify(&f.llama));
  assert_ok(cov_llama_params(&f.llama, &f.params));
  return 0;
}

static int close_fixture(void **state) {
  (void)state;
  cov_params_destroy(&f.params);
  cov_dataset_close(&f.data);
  return 0;
}

static cov_inner_params make_params(void) {
  cov_inner_params p = {
      .peer = 3, .inner_steps = H, .batch_seqs = BATCH, .micro_batch_seqs = BATCH, .threads = 1, .clip_norm = 1.0};
  cov_schedule_default(&p.schedule);
  p.schedule.base = 1e-2;
  p.schedule.warmup_steps = 3;
  p.schedule.decay_steps = 27;
  cov_optimizer_config_default(&p.optimizer);
  return p;
}

static float *make_work(void) {
  void *work;
  assert_ok(cov_mem_array(COV_SPACE_HOST, COV_MEM_PARAMS, (size_t)f.params.span, sizeof(float), &work));
  assert_ok(cov_params_init(&f.params, 42, work));
  return work;
}

static cov_inner *make_inner(const cov_inner_params *p) {
  cov_inner *inner;
  assert_ok(cov_inner_create(p, &f.llama, &f.params, f.data, cov_ops_cpu(), &inner));
  return inner;
}

/* Weights after `rounds` rounds; reports[rounds]. */
static float *train(const cov_inner_params *p, int rounds, cov_inner_report *reports) {
  cov_inner *inner = make_inner(p);
  float *work = make_work();
  for (int r = 0; r < rounds; r++) assert_ok(cov_inner_round(inner, r, work, &reports[r]));
  cov_inner_destroy(&inner);
  assert_null(inner);
  return work;
}

static void same_weights(const float *a, const float *b) {
  assert_memory_equal(a, b, (size_t)f.params.span * sizeof *a);
}

/* ---- learning ---- */

typedef struct {
  cov_inner_step step[LOG_ROOM];
  int n;
} step_log;

static void note_step(void *arg, const cov_inner_step *step) {
  step_log *log = arg;
  assert_true(log->n < LOG_ROOM);
  log->step[log->n++] = *step;
}

static void test_loss_falls(void **state) {
  (void)state;
  step_log seen = {.n = 0};
  cov_inner_params p = make_params();
  cov_inner_report reports[6];
  p.on_step = note_step;
  p.arg = &seen;
  float *work = train(&p, 6, reports);
  assert_int_equal(seen.n, 30);
  for (int i = 0; i < seen.n; i++) {
    assert_int_equal(seen.step[i].step, i); /* counted over the whole run */
    assert_int_equal(seen.step[i].index, i % H);
    assert_int_equal(seen.step[i].positions, BATCH * (T - 1));
    assert_true(seen.step[i].lr == cov_schedule_lr(&p.schedule, i));
    assert_true(seen.step[i].grad_norm > 0.0);
  }
  assert_true(fabs(seen.step[0].loss - log((double)f.llama.vocab)) < 0.2); /* untrained: uniform */
  for (int r = 0; r < 6; r++) {
    double mean = 0.0;
    for (int i = 0; i < H; i++) mean += seen.step[r * H + i].loss / H;
    assert_true(fabs(mean - reports[r].loss) < 1e-9); /* equal counts: the mean of means is the mean */
    assert_int_equal(reports[r].positions, H * BATCH * (T - 1));
    assert_int_equal(reports[r].steps, H);
    assert_true(reports[r].compute_s > 0.0);
  }
  assert_true(reports[5].loss < reports[0].loss - 1.0);
  cov_mem_free(work);
}

static int has_bf16(void) {
  const char *why = cov_ops_cpu_refuses(COV_BF16);
  if (why) printf("bf16 is not run: %s\n", why);
  return !why;
}

/* In each dtype and for each number of threads; between two numbers the bits may differ. */
static void test_two_runs_have_equal_bits(void **state) {
  (void)state;
  for (int variant = 0; variant < (has_bf16() ? 6 : 3); variant++) {
    cov_inner_params p = make_params();
    cov_inner_report a[2], b[2];
    p.dtype = variant < 3 ? COV_F32 : COV_BF16;
    p.threads = 1 + variant % 3;
    float *first = train(&p, 2, a), *second = train(&p, 2, b);
    same_weights(first, second);
    for (int r = 0; r < 2; r++) {
      assert_true(a[r].loss == b[r].loss);
      assert_memory_equal(a[r].sample_digest, b[r].sample_digest, COV_SAMPLE_DIGEST_BYTES);
    }
    cov_mem_free(first);
    cov_mem_free(second);
  }
}

/* Thirty steps apart, every one rounded: the losses stay within half a percent, far less than they fell. */
static void test_bf16_learns_like_f32(void **state) {
  (void)state;
  cov_inner_params p = make_params();
  cov_inner_report wide[6], narrow[6];
  if (!has_bf16()) skip();
  float *x = train(&p, 6, wide);
  p.dtype = COV_BF16;
  float *y = train(&p, 6, narrow);
  for (int r = 0; r < 6; r++) {
    if (!(fabs(narrow[r].loss / wide[r].loss - 1.0) < 5e-3)) {
      fail_msg("round %d: loss %.5f in bf16, %.5f in f32", r, narrow[r].loss, wide[r].loss);
    }
  }
  assert_true(memcmp(x, y, (size_t)f.params.span * sizeof *x) != 0);
  cov_mem_free(x);
  cov_mem_free(y);
}

/* The layers' forward passes done again have the bits they had the first time, and less is held. */
static void test_recomputing_changes_no_bit(void **state) {
  (void)state;
  cov_inner_params p = make_params();
  cov_inner_report plain, again;
  float *want = train(&p, 1, &plain);
  p.recompute = 1;
  float *got = train(&p, 1, &again);
  same_weights(got, want);
  assert_true(plain.loss == again.loss);
  size_t held[2], before = cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_ACTIVATIONS);
  for (p.recompute = 0; p.recompute < 2; p.recompute++) {
    cov_inner *inner = make_inner(&p);
    held[p.recompute] = cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_ACTIVATIONS) - before;
    cov_inner_destroy(&inner);
  }
  assert_true(held[1] < held[0]);
  cov_mem_free(want);
  cov_mem_free(got);
}

static void test_muon_learns(void **state) {
  (void)state;
  cov_inner_params p = make_params();
  cov_inner_report a[6], b[6];
  p.optimizer.kind = COV_OPTIMIZER_MUON;
  p.schedule.base = 2e-2;
  float *first = train(&p, 6, a), *second = train(&p, 6, b);
  same_weights(first, second);
  if (!(a[5].loss < a[0].loss - 1.0)) fail_msg("loss %g after %g", a[5].loss, a[0].loss);
  cov_mem_free(first);
  cov_mem_free(second);
}

/* The moments of round 0 shape round 1: a fresh object on the same weights goes elsewhere. */
static void test_moments_outlive_a_round(void **state) {
  (void)state;
  cov_inner_params p = make_params();
  cov_inner_report reports[2];
  float *whole = train(&p, 2, reports), *parts = train(&p, 1, reports);
  cov_inner *fresh = make_inner(&p);
  assert_ok(cov_inner_round(fresh, 1, parts, &reports[1]));
  assert_true(test_max_error(whole, parts, (size_t)f.params.span, 1.0, NULL) > 1e-3);
  cov_inner_destroy(&fresh);
  cov_mem_free(whole);
  cov_mem_free(parts);
}

/* One step without AdamW's normalisation of tiny gradients: eps of 1 makes the move linear in the gradient, so that the
 * tolerance is one of fp32 sums (a few 1e-7 of the largest move, which is at most lr). */
static void test_accumulation_changes_only_rounding(void **state) {
  (void)state;
  cov_inner_params p = make_params();
  cov_inner_report report;
  p.inner_steps = 1;
  p.schedule.warmup_steps = 0;
  p.optimizer.adamw.eps = 1.0;
  p.clip_norm = 0.0;
  float *whole = train(&p, 1, &report), *start = make_work();
  double loss = report.loss, moved = test_max_error(whole, start, (size_t)f.params.span, 1.0, NULL);
  for (int64_t micro = 1; micro <= 2; micro++) {
    p.micro_batch_seqs = micro;
    float *parts = train(&p, 1, &report);
    double off = test_max_error(parts, whole, (size_t)f.params.span, 1.0, NULL);
    if (!(off <= 1e-4 * moved)) fail_msg("micro %d: off by %g, moved %g", (int)micro, off, moved);
    assert_true(fabs(report.loss - loss) < 1e-6 * loss);
    cov_mem_free(parts);
  }
  assert_true(moved > 1e-4);
  cov_mem_free(whole);
  cov_mem_free(start);
}

/* Whole batches by hand, step after step: gradient of the mean loss, norm, clip, AdamW. eps of 1 as above. Two
 * micro-batches in the loop under test, with the mask on, so that they count different numbers of positions. */
static void step_by_hand(cov_llama *model, cov_optimizer *optimizer, const cov_inner_params *p, const int64_t *ids,
                         int64_t at, float *work, float *grad, double *norm) {
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  const int64_t micro = p->micro_batch_seqs;
  int32_t tokens[BATCH * T], targets[BATCH * T];
  uint32_t sample[T];
  cov_llama_loss loss;
  memset(grad, 0, (size_t)f.params.span * sizeof *grad);
  for (int64_t m = 0; m < BATCH / micro; m++) {
    for (int64_t i = 0; i < micro; i++) {
      assert_ok(cov_dataset_sample(f.data, T, ids[m * micro + i], sample));
      cov_inner_label(sample, T, cov_dataset_manifest(f.data)->eos, p->mask_eos, tokens + i * T, targets + i * T);
    }
    const cov_llama_batch batch = {.tokens = tokens, .targets = targets, .B = micro, .T = T};
    float scale = (float)(1.0 / (double)cov_llama_count_targets(&batch)) / (float)(BATCH / micro);
    assert_ok(cov_llama_grad(model, work, &batch, scale, grad, &loss));
  }
  assert_ok(cov_grad_norm(&f.params, cov_ops_ref(), &place, grad, norm));
  assert_true(*norm > p->clip_norm); /* so that clipping matters */
  assert_ok(cov_optimizer_step(optimizer, cov_ops_ref(), &place, work, grad, cov_schedule_lr(&p->schedule, at),
                               p->clip_norm / *norm));
}

static void test_steps_follow_the_formula(void **state) {
  (void)state;
  step_log seen = {.n = 0};
  cov_inner_params p = make_params();
  cov_inner_report reports[2];
  int64_t ids[H * BATCH];
  p.on_step = note_step;
  p.arg = &seen;
  p.mask_eos = 1;
  p.micro_batch_seqs = 2;
  p.clip_norm = 0.05;
  p.optimizer.adamw.eps = 1.0;
  p.schedule.base = 1.0; /* eps and clip make the moves small */
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  const cov_llama_shape shape = {.batch = p.micro_batch_seqs, .seq_len = T};
  float *start = make_work(), *want = make_work(), *grad = make_work(), *got = train(&p, 2, reports);
  cov_llama *model;
  cov_optimizer optimizer;
  assert_ok(cov_llama_create(&f.llama, &f.params, &shape, cov_ops_ref(), &place, &model));
  assert_ok(cov_optimizer_create(&p.optimizer, &f.params, NULL, COV_SPACE_HOST, &optimizer));
  cov_inner *inner = make_inner(&p);
  for (int r = 0; r < 2; r++) {
    assert_ok(cov_inner_samples(inner, r, ids));
    for (int i = 0; i < H; i++) {
      double norm;
      step_by_hand(model, &optimizer, &p, ids + i * BATCH, r * H + i, want, grad, &norm);
      double off = fabs(norm / seen.step[r * H + i].grad_norm - 1.0);
      if (!(off < 1e-3)) fail_msg("step %d: norm off by %g", r * H + i, off);
    }
  }
  double moved = test_max_error(got, start, (size_t)f.params.span, 1.0, NULL);
  double off = test_max_error(got, want, (size_t)f.params.span, 1.0, NULL);
  if (!(moved > 1e-3 && off < 1e-3 * moved)) fail_msg("off by %g, moved %g", off, moved);
  cov_inner_destroy(&inner);
  cov_optimizer_destroy(&optimizer);
  cov_llama_destroy(&model);
  cov_mem_free(start);
  cov_mem_free(want);
  cov_mem_free(grad);
  cov_mem_free(got);
}

/* ---- targets ---- */

static void test_labels(void **state) {
  (void)state;
  enum { EOS = 9 };
  const uint32_t sample[6] = {5, EOS, 7, EOS, EOS, 2};
  const int32_t tokens_want[6] = {5, EOS, 7, EOS, EOS, 2};
  const int32_t all[6] = {EOS, 7, EOS, EOS, 2, -1}, masked[6] = {-1, 7, -1, -1, 2, -1};
  int32_t tokens[6], targets[6];
  assert_int_equal(cov_inner_label(sample, 6, EOS, 0, tokens, targets), 5);
  assert_memory_equal(tokens, tokens_want, sizeof tokens);
  assert_memory_equal(targets, all, sizeof targets);
  assert_int_equal(cov_inner_label(sample, 6, EOS, 1, tokens, targets), 2);
  assert_memory_equal(tokens, tokens_want, sizeof tokens); /* masked as target, not as input */
  assert_memory_equal(targets, masked, sizeof targets);
  assert_int_equal(cov_inner_label(sample, 1, EOS, 0, tokens, targets), 0);
}

/* Positions counted = all next tokens of the assigned samples that are not EOS. */
static void test_mask_eos_leaves_them_out(void **state) {
  (void)state;
  cov_inner_params p = make_params();
  cov_inner_report plain, masked;
  int64_t ids[H * BATCH], n_eos = 0;
  uint32_t sample[T];
  cov_mem_free(train(&p, 1, &plain));
  p.mask_eos = 1;
  cov_inner *inner = make_inner(&p);
  assert_ok(cov_inner_samples(inner, 0, ids));
  cov_inner_destroy(&inner);
  cov_mem_free(train(&p, 1, &masked));
  for (int i = 0; i < H * BATCH; i++) {
    assert_ok(cov_dataset_sample(f.data, T, ids[i], sample));
    for (int t = 1; t < T; t++) n_eos += sample[t] == cov_dataset_manifest(f.data)->eos;
  }
  assert_true(n_eos > 0);
  assert_int_equal(plain.positions, H * BATCH * (T - 1));
  assert_int_equal(masked.positions, plain.positions - n_eos);
  assert_true(masked.loss != plain.loss);
}

/* Samples of one token have no next one: no step, no NaN, the weights stay. */
static void test_batch_without_targets_takes_no_step(void **state) {
  (void)state;
  step_log seen = {.n = 0};
  cov_inner_params p = make_params();
  cov_llama_config llama = f.llama;
  cov_params params;
  cov_inner *inner;
  cov_inner_report report;
  p.on_step = note_step;
  p.arg = &seen;
  llama.seq_len = 1;
  cov_params_create(&params);
  assert_ok(cov_llama_params(&llama, &params));
  assert_ok(cov_inner_create(&p, &llama, &params, f.data, cov_ops_cpu(), &inner));
  float *work = make_work(), *start = make_work();
  assert_ok(cov_inner_round(inner, 0, work, &report));
  same_weights(work, start);
  assert_int_equal(report.positions, 0);
  assert_int_equal(report.steps, 0);
  assert_true(report.loss == 0.0);
  assert_int_equal(seen.n, H);
  cov_inner_destroy(&inner);
  cov_params_destroy(&params);
  cov_mem_free(work);
  cov_mem_free(start);
}

/* ---- assignment ---- */

static void test_samples_are_the_assigned_ones(void **state) {
  (void)state;
  enum { POOL = 30, USED = H * BATCH };
  cov_inner_params p = make_params();
  p.pool_samples = POOL;
  cov_inner_report reports[2];
  int64_t pool[POOL], ids[USED];
  char want[COV_DIGEST_TEXT], got[COV_DIGEST_TEXT];
  cov_inner *inner = make_inner(&p);
  float *work = make_work();
  for (int r = 0; r < 2; r++) {
    const uint32_t seed = cov_assign_seed(3, (uint64_t)r);
    assert_ok(cov_inner_round(inner, r, work, &reports[r]));
    assert_ok(cov_assign_choose(cov_dataset_samples(f.data, T), POOL, seed, pool));
    assert_ok(cov_inner_samples(inner, r, ids));
    assert_memory_equal(ids, pool, sizeof ids); /* the first of the pool, in its order */
    assert_ok(cov_assign_digest(pool, POOL, want));
    cov_hex(reports[r].sample_digest, COV_SAMPLE_DIGEST_BYTES, got);
    assert_string_equal(got, want); /* of the whole pool */
  }
  assert_memory_not_equal(reports[0].sample_digest, reports[1].sample_digest, COV_SAMPLE_DIGEST_BYTES);
  cov_inner_destroy(&inner);
  cov_mem_free(work);
}

/* What is trained on shows in the loss of the first step: it is that of the first samples at the initial weights. */
static void test_first_loss_is_that_of_the_assigned_samples(void **state) {
  (void)state;
  step_log seen = {.n = 0};
  cov_inner_params p = make_params();
  cov_inner_report report;
  int64_t ids[H * BATCH];
  uint32_t sample[T];
  int32_t tokens[BATCH * T], targets[BATCH * T];
  p.on_step = note_step;
  p.arg = &seen;
  cov_inner *inner = make_inner(&p);
  assert_ok(cov_inner_samples(inner, 0, ids));
  cov_inner_destroy(&inner);
  for (int i = 0; i < BATCH; i++) {
    assert_ok(cov_dataset_sample(f.data, T, ids[i], sample));
    cov_inner_label(sample, T, 0, 0, tokens + i * T, targets + i * T);
  }
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  const cov_llama_shape shape = {.batch = BATCH, .seq_len = T, .evaluate_only = 1};
  const cov_llama_batch batch = {.tokens = tokens, .targets = targets, .B = BATCH, .T = T};
  cov_llama *model;
  cov_llama_loss loss;
  float *start = make_work();
  assert_ok(cov_llama_create(&f.llama, &f.params, &shape, cov_ops_ref(), &place, &model));
  assert_ok(cov_llama_evaluate(model, start, &batch, NULL, &loss));
  cov_mem_free(train(&p, 1, &report));
  assert_true(fabs(loss.loss_sum / (double)loss.count - seen.step[0].loss) < 1e-5);
  cov_llama_destroy(&model);
  cov_mem_free(start);
}

static void test_peers_train_on_different_samples(void **state) {
  (void)state;
  cov_inner_params p = make_params();
  cov_inner_report a, b;
  cov_mem_free(train(&p, 1, &a));
  p.peer = 4;
  cov_mem_free(train(&p, 1, &b));
  assert_memory_not_equal(a.sample_digest, b.sample_digest, COV_SAMPLE_DIGEST_BYTES);
}

/* ---- errors ---- */

static void test_not_finite_is_an_error(void **state) {
  (void)state;
  cov_inner_params p = make_params();
  cov_inner_report report;
  cov_inner *inner = make_inner(&p);
  float *work = make_work();
  work[f.params.item[2].offset] = NAN;
  assert_status(cov_inner_round(inner, 0, work, &report), COV_ENUMERIC);
  assert_says(f.params.item[2].name);
  cov_inner_destroy(&inner);
  cov_mem_free(work);
}

static void refuse(cov_inner_params p, const char *says) {
  cov_inner *inner;
  assert_status(cov_inner_create(&p, &f.llama, &f.params, f.data, cov_ops_cpu(), &inner), COV_EUSAGE);
  assert_null(inner);
  assert_says(says);
}

static void test_bad_sizes_are_refused(void **state) {
  (void)state;
  cov_inner_params p = make_params();
  p.micro_batch_seqs = 3;
  refuse(p, "micro-batches of 3");
  p = make_params();
  p.pool_samples = H * BATCH - 1;
  refuse(p, "pool holds");
  p = make_params();
  p.inner_steps = 100000;
  refuse(p, "larger than dataset");
  p = make_params();
  p.threads = 0;
  refuse(p, "threads");
  p = make_params();
  p.schedule.base = 0.0;
  refuse(p, "base");
  p = make_params();
  cov_inner *inner;
  cov_llama_config small = f.llama;
  small.vocab = 2;
  assert_status(cov_inner_create(&p, &small, &f.params, f.data, cov_ops_cpu(), &inner), COV_EUSAGE);
  assert_says("embeddings");
}

static void test_decay_steps(void **state) {
  (void)state;
  assert_int_equal(cov_inner_decay_steps(960, 60, 0), 900); /* the rest */
  assert_int_equal(cov_inner_decay_steps(960, 60, 100), 100);
  assert_int_equal(cov_inner_decay_steps(60, 60, 0), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_loss_falls),
      cmocka_unit_test(test_two_runs_have_equal_bits),
      cmocka_unit_test(test_recomputing_changes_no_bit),
      cmocka_unit_test(test_bf16_learns_like_f32),
      cmocka_unit_test(test_muon_learns),
      cmocka_unit_test(test_moments_outlive_a_round),
      cmocka_unit_test(test_accumulation_changes_only_rounding),
      cmocka_unit_test(test_steps_follow_the_formula),
      cmocka_unit_test(test_labels),
      cmocka_unit_test(test_mask_eos_leaves_them_out),
      cmocka_unit_test(test_batch_without_targets_takes_no_step),
      cmocka_unit_test(test_samples_are_the_assigned_ones),
      cmocka_unit_test(test_first_loss_is_that_of_the_assigned_samples),
      cmocka_unit_test(test_peers_train_on_different_samples),
      cmocka_unit_test(test_not_finite_is_an_error),
      cmocka_unit_test(test_bad_sizes_are_refused),
      cmocka_unit_test(test_decay_steps),
  };
  return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
