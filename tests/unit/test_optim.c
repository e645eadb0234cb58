/* AdamW over the table, clipping, and the stop on numbers that are none. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "optim/adamw.h"
#include "optim/clip.h"
#include "support.h"

static const cov_place host = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};

enum { ROWS = 3, COLS = 7, GAIN = 5, SPAN = 48 }; /* 21 + 11 of padding, 5 + 11 of padding */

static void make_params(cov_params *params) {
  cov_param matrix = {.name = "matrix", .dims = 2, .rows = ROWS, .cols = COLS, .decay = 1};
  cov_param gain = {.name = "gain", .dims = 1, .rows = 1, .cols = GAIN, .decay = 1};
  cov_params_create(params);
  assert_ok(cov_params_add(params, &matrix));
  assert_ok(cov_params_add(params, &gain));
  assert_int_equal(params->span, SPAN);
}

static void fill(const cov_params *params, float *x, uint64_t seed) {
  memset(x, 0, SPAN * sizeof *x);
  for (int i = 0; i < params->n; i++) {
    const cov_param *t = &params->item[i];
    for (int64_t e = 0; e < t->elems; e++) x[t->offset + e] = test_random(seed + (uint64_t)i, (uint64_t)e);
  }
}

/* The formula of protocol 2.1 in double, element by element. */
static void expected_steps(double *w, double *m, double *v, const float *g, double scale, double decay, int step) {
  const double lr = 1e-2, c1 = 1.0 - pow(0.9, step), c2 = 1.0 - pow(0.95, step), gs = scale * (double)*g;
  *w -= lr * decay * *w;
  *m = 0.9 * *m + 0.1 * gs;
  *v = 0.95 * *v + 0.05 * gs * gs;
  *w -= lr * (*m / c1) / (sqrt(*v / c2) + 1e-8);
}

static void check_steps(const cov_ops *ops, int exempt) {
  cov_params params;
  cov_adamw_config config;
  cov_adamw adamw;
  float theta[SPAN], grad[SPAN];
  double w[SPAN], m[SPAN] = {0}, v[SPAN] = {0};
  make_params(&params);
  fill(&params, theta, 1);
  for (int i = 0; i < SPAN; i++) w[i] = (double)theta[i];
  cov_adamw_config_default(&config);
  config.exempt_vectors = exempt;
  assert_ok(cov_adamw_create(&config, params.span, COV_SPACE_HOST, &adamw));
  for (int step = 1; step <= 4; step++) {
    fill(&params, grad, (uint64_t)(10 * step));
    assert_ok(cov_adamw_step(&adamw, &params, ops, &host, theta, grad, 1e-2, 0.5));
    assert_int_equal(adamw.step, step);
    for (int i = 0; i < params.n; i++) {
      double decay = exempt && params.item[i].dims == 1 ? 0.0 : 0.1;
      for (int64_t e = params.item[i].offset; e < params.item[i].offset + params.item[i].elems; e++) {
        expected_steps(&w[e], &m[e], &v[e], &grad[e], 0.5, decay, step);
      }
    }
  }
  for (int i = 0; i < SPAN; i++) {
    assert_true(fabs((double)theta[i] - w[i]) < 1e-6);
    assert_true(fabs((double)adamw.m[i] - m[i]) < 1e-6);
    assert_true(fabs((double)adamw.v[i] - v[i]) < 1e-6);
  }
  cov_adamw_destroy(&adamw);
  cov_params_destroy(&params);
}

static void steps_follow_the_formula(void **state) {
  (void)state;
  check_steps(cov_ops_ref(), 0);
  check_steps(cov_ops_cpu(), 0);
}

static void vectors_can_be_exempt_from_decay(void **state) {
  (void)state;
  check_steps(cov_ops_ref(), 1);
}

static void a_tensor_of_the_table_can_be_exempt(void **state) {
  (void)state;
  cov_params params;
  cov_adamw_config config;
  cov_adamw adamw;
  float theta[SPAN], before[SPAN], grad[SPAN] = {0};
  make_params(&params);
  params.item[0].decay = 0;
  fill(&params, theta, 3);
  memcpy(before, theta, sizeof theta);
  cov_adamw_config_default(&config);
  assert_ok(cov_adamw_create(&config, params.span, COV_SPACE_HOST, &adamw));
  assert_ok(cov_adamw_step(&adamw, &params, cov_ops_ref(), &host, theta, grad, 0.5, 1.0));
  assert_memory_equal(theta, before, ROWS * COLS * sizeof(float)); /* no gradient, no decay */
  for (int64_t e = params.item[1].offset; e < params.item[1].offset + GAIN; e++) {
    assert_true(fabs((double)theta[e] - 0.95 * (double)before[e]) < 1e-7);
  }
  cov_adamw_destroy(&adamw);
  cov_params_destroy(&params);
}

static void moments_are_accounted(void **state) {
  (void)state;
  cov_adamw_config config;
  cov_adamw adamw;
  size_t before = cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_MOMENTS);
  cov_adamw_config_default(&config);
  assert_ok(cov_adamw_create(&config, SPAN, COV_SPACE_HOST, &adamw));
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_MOMENTS) - before, 2 * SPAN * sizeof(float));
  for (int i = 0; i < SPAN; i++) assert_true(adamw.m[i] == 0.0f && adamw.v[i] == 0.0f);
  cov_adamw_destroy(&adamw);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_MOMENTS), before);
}

static void bad_settings_are_refused(void **state) {
  (void)state;
  cov_adamw_config good, c;
  cov_adamw adamw;
  cov_params params;
  float theta[SPAN] = {0}, grad[SPAN] = {0};
  cov_adamw_config_default(&good);
#define REFUSED(field, value)                                                      \
  do {                                                                             \
    c = good;                                                                      \
    c.field = (value);                                                             \
    assert_status(cov_adamw_create(&c, SPAN, COV_SPACE_HOST, &adamw), COV_EUSAGE); \
  } while (0)
  REFUSED(beta1, 1.0);
  REFUSED(beta1, NAN);
  REFUSED(beta2, -0.1);
  REFUSED(eps, 0.0);
  REFUSED(decay, -1.0);
  make_params(&params);
  assert_ok(cov_adamw_create(&good, SPAN, COV_SPACE_HOST, &adamw));
  assert_status(cov_adamw_step(&adamw, &params, cov_ops_ref(), &host, theta, grad, NAN, 1.0), COV_EUSAGE);
  assert_status(cov_adamw_step(&adamw, &params, cov_ops_ref(), &host, theta, grad, -1e-3, 1.0), COV_EUSAGE);
  assert_status(cov_adamw_step(&adamw, &params, cov_ops_ref(), &host, theta, grad, 1e-3, INFINITY), COV_EUSAGE);
  assert_int_equal(adamw.step, 0);
  cov_adamw_destroy(&adamw);
  assert_ok(cov_adamw_create(&good, SPAN + 16, COV_SPACE_HOST, &adamw));
  assert_status(cov_adamw_step(&adamw, &params, cov_ops_ref(), &host, theta, grad, 1e-3, 1.0), COV_EBUG);
  cov_adamw_destroy(&adamw);
  cov_params_destroy(&params);
}

static void the_norm_covers_all_tensors_without_overflow(void **state) {
  (void)state;
  cov_params params;
  float grad[SPAN];
  double norm, want = 0.0;
  make_params(&params);
  fill(&params, grad, 4);
  for (int i = 0; i < SPAN; i++) want += (double)grad[i] * (double)grad[i];
  assert_ok(cov_grad_norm(&params, cov_ops_ref(), &host, grad, &norm));
  assert_true(fabs(norm - sqrt(want)) < 1e-12);
  grad[SPAN - 1] = 1e6f; /* padding is nobody's gradient */
  assert_ok(cov_grad_norm(&params, cov_ops_ref(), &host, grad, &norm));
  assert_true(fabs(norm - sqrt(want)) < 1e-12);
  grad[0] = 3e38f; /* its square is beyond float */
  assert_ok(cov_grad_norm(&params, cov_ops_ref(), &host, grad, &norm));
  assert_true(fabs(norm / (double)grad[0] - 1.0) < 1e-12);
  assert_ok(cov_grad_norm(&params, cov_ops_cpu(), &host, grad, &norm));
  assert_true(fabs(norm / (double)grad[0] - 1.0) < 1e-12);
  cov_params_destroy(&params);
}

static void the_clip_factor_is_torchs(void **state) {
  (void)state;
  assert_true(cov_clip_factor(0.5, 1.0) == 1.0);
  assert_true(cov_clip_factor(0.0, 1.0) == 1.0);
  assert_true(cov_clip_factor(4.0, 1.0) == 1.0 / (4.0 + 1e-6));
  assert_true(cov_clip_factor(1.0, 1.0) == 1.0 / (1.0 + 1e-6)); /* the 1e-6 bites at the limit itself */
  assert_true(cov_clip_factor(4.0, 0.0) == 1.0);
}

static void numbers_that_are_none_stop_the_run(void **state) {
  (void)state;
  static const float bad[] = {NAN, INFINITY, -INFINITY};
  cov_params params;
  float x[SPAN];
  double norm;
  make_params(&params);
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  for (int k = 0; k < 2; k++) {
    for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
      fill(&params, x, 5);
      assert_ok(cov_loss_verify(&params, tables[k], &host, x, 3.5, 9));
      assert_status(cov_loss_verify(&params, tables[k], &host, x, (double)bad[b], 9), COV_ENUMERIC);
      assert_non_null(strstr(cov_error_text(), "step 9"));
      assert_non_null(strstr(cov_error_text(), "every weight is finite"));
      x[params.item[1].offset + 2] = bad[b];
      assert_status(cov_grad_norm(&params, tables[k], &host, x, &norm), COV_ENUMERIC);
      assert_non_null(strstr(cov_error_text(), "gradient of gain"));
      assert_status(cov_loss_verify(&params, tables[k], &host, x, NAN, 9), COV_ENUMERIC);
      assert_non_null(strstr(cov_error_text(), "weights of gain"));
      x[20] = bad[b];
      assert_status(cov_grad_norm(&params, tables[k], &host, x, &norm), COV_ENUMERIC);
      assert_non_null(strstr(cov_error_text(), "gradient of matrix"));
    }
  }
  cov_params_destroy(&params);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(steps_follow_the_formula),
      cmocka_unit_test(vectors_can_be_exempt_from_decay),
      cmocka_unit_test(a_tensor_of_the_table_can_be_exempt),
      cmocka_unit_test(moments_are_accounted),
      cmocka_unit_test(bad_settings_are_refused),
      cmocka_unit_test(the_norm_covers_all_tensors_without_overflow),
      cmocka_unit_test(the_clip_factor_is_torchs),
      cmocka_unit_test(numbers_that_are_none_stop_the_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
