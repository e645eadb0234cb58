/* AdamW and Muon over the table, clipping, and the stop on numbers that are none. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "optim/clip.h"
#include "optim/optimizer.h"
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
  cov_optimizer_config config;
  cov_optimizer optimizer;
  float theta[SPAN], grad[SPAN];
  double w[SPAN], m[SPAN] = {0}, v[SPAN] = {0};
  make_params(&params);
  fill(&params, theta, 1);
  for (int i = 0; i < SPAN; i++) w[i] = (double)theta[i];
  cov_optimizer_config_default(&config);
  config.adamw.exempt_vectors = exempt;
  assert_ok(cov_optimizer_create(&config, &params, NULL, COV_SPACE_HOST, &optimizer));
  for (int step = 1; step <= 4; step++) {
    fill(&params, grad, (uint64_t)(10 * step));
    assert_ok(cov_optimizer_step(&optimizer, ops, &host, theta, grad, 1e-2, 0.5));
    assert_int_equal(optimizer.step, step);
    for (int i = 0; i < params.n; i++) {
      double decay = exempt && params.item[i].dims == 1 ? 0.0 : 0.1;
      for (int64_t e = params.item[i].offset; e < params.item[i].offset + params.item[i].elems; e++) {
        expected_steps(&w[e], &m[e], &v[e], &grad[e], 0.5, decay, step);
      }
    }
  }
  for (int i = 0; i < SPAN; i++) {
    assert_true(fabs((double)theta[i] - w[i]) < 1e-6);
    assert_true(fabs((double)optimizer.state[i] - m[i]) < 1e-6);
    assert_true(fabs((double)optimizer.state[SPAN + i] - v[i]) < 1e-6);
  }
  cov_optimizer_destroy(&optimizer);
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
  cov_optimizer_config config;
  cov_optimizer optimizer;
  float theta[SPAN], before[SPAN], grad[SPAN] = {0};
  make_params(&params);
  params.item[0].decay = 0;
  fill(&params, theta, 3);
  memcpy(before, theta, sizeof theta);
  cov_optimizer_config_default(&config);
  assert_ok(cov_optimizer_create(&config, &params, NULL, COV_SPACE_HOST, &optimizer));
  assert_ok(cov_optimizer_step(&optimizer, cov_ops_ref(), &host, theta, grad, 0.5, 1.0));
  assert_memory_equal(theta, before, ROWS * COLS * sizeof(float)); /* no gradient, no decay */
  for (int64_t e = params.item[1].offset; e < params.item[1].offset + GAIN; e++) {
    assert_true(fabs((double)theta[e] - 0.95 * (double)before[e]) < 1e-7);
  }
  cov_optimizer_destroy(&optimizer);
  cov_params_destroy(&params);
}

static void moments_are_accounted(void **state) {
  (void)state;
  cov_optimizer_config config;
  cov_optimizer optimizer;
  cov_params params;
  size_t before = cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_MOMENTS);
  make_params(&params);
  cov_optimizer_config_default(&config);
  assert_ok(cov_optimizer_create(&config, &params, NULL, COV_SPACE_HOST, &optimizer));
  assert_int_equal(optimizer.state_elems, 2 * SPAN);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_MOMENTS) - before, 2 * SPAN * sizeof(float));
  for (int i = 0; i < SPAN; i++) assert_true(optimizer.state[i] == 0.0f && optimizer.state[SPAN + i] == 0.0f);
  cov_optimizer_destroy(&optimizer);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_MOMENTS), before);
  cov_params_destroy(&params);
}

static void bad_settings_are_refused(void **state) {
  (void)state;
  cov_optimizer_config good, c;
  cov_optimizer optimizer;
  cov_params params;
  float theta[SPAN] = {0}, grad[SPAN] = {0};
  cov_optimizer_config_default(&good);
  make_params(&params);
#define REFUSED(field, value)                                                                       \
  do {                                                                                              \
    c = good;                                                                                       \
    c.field = (value);                                                                              \
    assert_status(cov_optimizer_create(&c, &params, NULL, COV_SPACE_HOST, &optimizer), COV_EUSAGE); \
    cov_optimizer_destroy(&optimizer);                                                              \
  } while (0)
  REFUSED(adamw.beta1, 1.0);
  REFUSED(adamw.beta1, NAN);
  REFUSED(adamw.beta2, -0.1);
  REFUSED(adamw.eps, 0.0);
  REFUSED(adamw.decay, -1.0);
  good.kind = COV_OPTIMIZER_MUON;
  REFUSED(muon.momentum, 1.0);
  REFUSED(muon.momentum, NAN);
  REFUSED(muon.steps, 0);
  REFUSED(muon.steps, COV_MUON_STEPS_MAX + 1);
  REFUSED(muon.decay, -1.0);
  REFUSED(muon.adamw_lr_ratio, -1.0);
  good.kind = COV_OPTIMIZER_ADAMW;
  c.kind = COV_OPTIMIZER_ADAMW; /* Muon's settings do not matter then */
  assert_ok(cov_optimizer_create(&c, &params, NULL, COV_SPACE_HOST, &optimizer));
  cov_optimizer_destroy(&optimizer);
  assert_ok(cov_optimizer_create(&good, &params, NULL, COV_SPACE_HOST, &optimizer));
  assert_status(cov_optimizer_step(&optimizer, cov_ops_ref(), &host, theta, grad, NAN, 1.0), COV_EUSAGE);
  assert_status(cov_optimizer_step(&optimizer, cov_ops_ref(), &host, theta, grad, -1e-3, 1.0), COV_EUSAGE);
  assert_status(cov_optimizer_step(&optimizer, cov_ops_ref(), &host, theta, grad, 1e-3, INFINITY), COV_EUSAGE);
  assert_int_equal(optimizer.step, 0);
  cov_optimizer_destroy(&optimizer);
  cov_params_destroy(&params);
}

/* Singular values of x[rows, cols], the shorter side n: the eigenvalues of the n x n Gram matrix, by Jacobi rotations
 * in double. */
static void singular_values(const float *x, int rows, int cols, double *out) {
  enum { N_MAX = 8 };
  const int tall = rows > cols, n = tall ? cols : rows, m = tall ? rows : cols;
  double a[N_MAX][N_MAX] = {{0}};
  assert_true(n <= N_MAX);
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < n; j++) {
      for (int k = 0; k < m; k++) {
        a[i][j] +=
            (double)(tall ? x[k * cols + i] : x[i * cols + k]) * (double)(tall ? x[k * cols + j] : x[j * cols + k]);
      }
    }
  }
  for (int sweep = 0; sweep < 30; sweep++) {
    for (int p = 0; p < n; p++) {
      for (int q = p + 1; q < n; q++) {
        double angle = 0.5 * atan2(2 * a[p][q], a[p][p] - a[q][q]), c = cos(angle), s = sin(angle);
        for (int k = 0; k < n; k++) {
          double u = a[k][p], v = a[k][q];
          a[k][p] = c * u + s * v;
          a[k][q] = c * v - s * u;
        }
        for (int k = 0; k < n; k++) {
          double u = a[p][k], v = a[q][k];
          a[p][k] = c * u + s * v;
          a[q][k] = c * v - s * u;
        }
      }
    }
  }
  for (int i = 0; i < n; i++) out[i] = sqrt(fmax(a[i][i], 0.0));
}

/* Both tables, wide and tall, beyond a block of columns; a tall matrix goes the way of its transpose. */
static void newton_schulz_makes_singular_values_one(void **state) {
  (void)state;
  enum { N = 6, M = 1100 };
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  static float wide[N * M], tall[M * N], scratch[2 * N * N + 512 * N];
  assert_int_equal(cov_muon_scratch_elems(M, N), sizeof scratch / sizeof *scratch);
  assert_int_equal(cov_muon_scratch_elems(N, M), sizeof scratch / sizeof *scratch);
  for (int t = 0; t < 2; t++) {
    for (int cols = 1; cols <= M; cols += cols < N ? 1 : 547) {
      double sv[N];
      for (int i = 0; i < N * cols; i++) wide[i] = 1e-3f * test_random(7, (uint64_t)i);
      for (int i = 0; i < N * cols; i++) tall[i % cols * N + i / cols] = wide[i];
      assert_ok(cov_muon_orthogonalise(tables[t], &host, N, cols, 5, wide, scratch));
      assert_ok(cov_muon_orthogonalise(tables[t], &host, cols, N, 5, tall, scratch));
      for (int i = 0; i < N * cols; i++) assert_true(fabsf(tall[i % cols * N + i / cols] - wide[i]) < 2e-5f);
      singular_values(wide, N, cols, sv);
      for (int i = 0; i < (cols < N ? cols : N); i++) {
        if (!(sv[i] > 0.6 && sv[i] < 1.3)) fail_msg("%s, %d columns: singular value %g", tables[t]->name, cols, sv[i]);
      }
    }
    memset(wide, 0, sizeof wide);
    assert_ok(cov_muon_orthogonalise(tables[t], &host, N, M, 5, wide, scratch));
    for (int i = 0; i < N * M; i++) assert_true(wide[i] == 0.0f);
  }
}

/* By the names of the parameter table. */
static void muon_moves_matrices_only(void **state) {
  (void)state;
  cov_muon_config config;
  cov_param t = {.name = "layers.0.feed_forward.w2.weight", .dims = 2};
  cov_muon_config_default(&config);
  assert_int_equal(cov_muon_moves(&config, &t), 1);
  t.dims = 1;
  assert_int_equal(cov_muon_moves(&config, &t), 0);
  t.dims = 2;
  snprintf(t.name, sizeof t.name, "tok_embeddings.weight");
  assert_int_equal(cov_muon_moves(&config, &t), 0);
  snprintf(t.name, sizeof t.name, "output.weight");
  assert_int_equal(cov_muon_moves(&config, &t), 1);
  config.output = 0;
  assert_int_equal(cov_muon_moves(&config, &t), 0);
}

static void muon_keeps_one_moment_of_a_matrix(void **state) {
  (void)state;
  cov_optimizer_config config;
  cov_optimizer optimizer;
  cov_params params;
  float theta[SPAN], grad[SPAN];
  make_params(&params);
  fill(&params, theta, 1);
  fill(&params, grad, 2);
  cov_optimizer_config_default(&config);
  config.kind = COV_OPTIMIZER_MUON;
  assert_ok(cov_optimizer_create(&config, &params, NULL, COV_SPACE_HOST, &optimizer));
  assert_int_equal(optimizer.state_elems, SPAN + 16); /* "matrix" and its padding 32, twice "gain" and its padding 16 */
  assert_int_equal(optimizer.n_parts, 3);
  assert_string_equal(optimizer.part[0].group, "muon.m");
  assert_string_equal(optimizer.part[1].group, "adamw.m");
  assert_string_equal(optimizer.part[2].group, "adamw.v");
  assert_int_equal(optimizer.part[2].tensor, 1);
  assert_ok(cov_optimizer_step(&optimizer, cov_ops_cpu(), &host, theta, grad, 1e-2, 1.0));
  for (int64_t e = ROWS * COLS; e < params.item[1].offset; e++) assert_true(theta[e] == 0.0f);
  for (int64_t e = params.item[1].offset + GAIN; e < SPAN; e++) assert_true(theta[e] == 0.0f);
  cov_optimizer_destroy(&optimizer);
  cov_params_destroy(&params);
}

static void sgd_follows_its_formula_without_any_state(void **state) {
  (void)state;
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  for (int i = 0; i < 2; i++) {
    cov_optimizer_config config;
    cov_optimizer optimizer;
    cov_params params;
    float theta[SPAN], before[SPAN], grad[SPAN];
    make_params(&params);
    fill(&params, theta, 1);
    fill(&params, grad, 2);
    memcpy(before, theta, sizeof before);
    cov_optimizer_config_default(&config);
    config.kind = COV_OPTIMIZER_SGD;
    config.adamw.exempt_vectors = 1;
    assert_ok(cov_optimizer_create(&config, &params, NULL, COV_SPACE_HOST, &optimizer));
    assert_int_equal(optimizer.state_elems, 0);
    assert_int_equal(optimizer.n_parts, 0);
    assert_ok(cov_optimizer_step(&optimizer, tables[i], &host, theta, grad, 0.5, 0.25));
    for (int e = 0; e < SPAN; e++) {
      double keep = e < params.item[1].offset ? 1 - 0.5 * 0.1 : 1; /* the gain is exempt from decay */
      assert_float_equal(theta[e], keep * (double)before[e] - 0.5 * 0.25 * (double)grad[e], 1e-6);
    }
    assert_int_equal(optimizer.step, 1);
    cov_optimizer_destroy(&optimizer);
    cov_params_destroy(&params);
  }
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
      cmocka_unit_test(newton_schulz_makes_singular_values_one),
      cmocka_unit_test(muon_moves_matrices_only),
      cmocka_unit_test(muon_keeps_one_moment_of_a_matrix),
      cmocka_unit_test(sgd_follows_its_formula_without_any_state),
      cmocka_unit_test(the_norm_covers_all_tensors_without_overflow),
      cmocka_unit_test(the_clip_factor_is_torchs),
      cmocka_unit_test(numbers_that_are_none_stop_the_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
