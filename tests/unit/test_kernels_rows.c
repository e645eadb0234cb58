/* covenant-test: timeout=60
 * RMSNorm, rotary positions and cross-entropy: cpu against ref. */
#include "kernels_check.h"

static const int64_t WIDTHS[] = {1, 2, 15, 31, 32, 33, 64, 127, 1025};
enum { N_WIDTHS = sizeof WIDTHS / sizeof WIDTHS[0] };

/* Bounds: a sum of D squares in lanes is good to about 1e-6; dg sums R rows of size about 1 in f32. */
static void check_rmsnorm(void) {
  enum { R = 37 };
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  cov_place p = place_create(cpu, 1, 1, 1, 2), q = place_create(cpu, 3, 1, 1, 2);
  for (int s = 0; s < N_WIDTHS; s++) {
    int64_t D = WIDTHS[s], n = R * D;
    float *x = buffer_random(n, 1), *g = buffer_random(D, 2), *y = buffer_random(n, 3), *want = buffer_random(n, 4);
    float *rstd = buffer_random(R, 5), *want_rstd = buffer_random(R, 6), *dy = buffer_random(n, 7);
    memset(x, 0, (size_t)D * sizeof *x); /* a row of zeros: eps keeps it finite */
    assert_int_equal(cpu->rmsnorm_forward(&p, y, rstd, x, NULL, NULL, g, R, D, 1e-5f), 0);
    assert_int_equal(ref->rmsnorm_forward(&p, want, want_rstd, x, NULL, NULL, g, R, D, 1e-5f), 0);
    check_close("rmsnorm_forward y", y, want, n, 1.0, 1e-6);
    check_close("rmsnorm_forward rstd", rstd, want_rstd, R, 1e-3, 1e-6);
    float *sum = buffer_copy(x, n), *want_sum = buffer_copy(x, n); /* and with a residual, dy here, in the same sweep */
    assert_int_equal(cpu->rmsnorm_forward(&q, y, rstd, sum, dy, NULL, g, R, D, 1e-5f), 0);
    assert_int_equal(ref->rmsnorm_forward(&p, want, rstd, want_sum, dy, NULL, g, R, D, 1e-5f), 0);
    check_same("rmsnorm_forward x + r", sum, want_sum, n);
    check_close("rmsnorm_forward y of x + r", y, want, n, 1.0, 1e-6);
    buffer_release(sum);
    buffer_release(want_sum);
    float *dx = buffer_random(n, 8), *dg = buffer_random(D, 9), *want_dx = buffer_copy(dx, n);
    float *want_dg = buffer_copy(dg, D), *dx3 = buffer_copy(dx, n), *dg3 = buffer_copy(dg, D);
    assert_int_equal(cpu->rmsnorm_backward(&p, dx, NULL, dg, dy, x, g, want_rstd, R, D), 0);
    assert_int_equal(cpu->rmsnorm_backward(&q, dx3, NULL, dg3, dy, x, g, want_rstd, R, D), 0);
    assert_int_equal(ref->rmsnorm_backward(&p, want_dx, NULL, want_dg, dy, x, g, want_rstd, R, D), 0);
    /* The two terms of dx nearly cancel where D is small; their size is rstd * |g dy|, up to 316 for the zero row. */
    double size = 1.0;
    for (int r = 0; r < R; r++) size = fmax(size, (double)want_rstd[r]);
    check_close("rmsnorm_backward dx", dx, want_dx, n, size, 2e-6);
    check_close("rmsnorm_backward dg", dg, want_dg, D, 1.0, 1e-5);
    check_same("rmsnorm_backward dx, threads", dx3, dx, n);
    check_same("rmsnorm_backward dg, threads", dg3, dg, D);
    float *all[] = {x, g, y, want, rstd, want_rstd, dy, dx, dg, want_dx, want_dg, dx3, dg3};
    for (int i = 0; i < 13; i++) buffer_release(all[i]);
  }
  place_destroy(&p);
  place_destroy(&q);
}

static void test_rmsnorm(void **state) {
  (void)state;
  each_width(check_rmsnorm);
}

/* Bound: two products and a sum of values below 1, 3 * 2^-24; inverted, twice that. */
static void check_rope(void) {
  static const int64_t widths[] = {2, 6, 30, 32, 34, 64, 128};
  enum { B = 2, T = 9, HEADS = 3, EXTRA = 5 };
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  cov_place p = place_create(cpu, 2, T, 1, 2);
  for (int s = 0; s < 7; s++) {
    int64_t E = widths[s], ld = HEADS * E + EXTRA, n = B * T * ld;
    float *table = buffer_random(T * E, 1), *x = buffer_random(n, 2), *old = buffer_copy(x, n),
          *want = buffer_copy(x, n);
    cov_rope_table(table, T, E, 10000.0);
    assert_int_equal(cpu->rope(&p, x, table, B, T, HEADS, E, ld, 1), 0);
    assert_int_equal(ref->rope(&p, want, table, B, T, HEADS, E, ld, 1), 0);
    check_close("rope", x, want, n, 1.0, 4 * 0x1p-24);
    for (int64_t r = 0; r < B * T; r++)
      check_same("rope, beyond", x + r * ld + HEADS * E, old + r * ld + HEADS * E, EXTRA);
    for (int64_t e = 0; e < HEADS * E; e++) assert_true(x[e] == old[e]); /* position 0 turns by 0 */
    const cov_ops *tables[] = {ref, cpu};
    float *turned[] = {want, x};
    for (int i = 0; i < 2; i++) {
      assert_int_equal(tables[i]->rope(&p, turned[i], table, B, T, HEADS, E, ld, -1), 0);
      check_close("rope inverted", turned[i], old, n, 1.0, 8 * 0x1p-24);
    }
    float *all[] = {table, x, old, want};
    for (int i = 0; i < 4; i++) buffer_release(all[i]);
  }
  place_destroy(&p);
}

static void test_rope(void **state) {
  (void)state;
  each_width(check_rope);
}

typedef struct {
  int64_t R, V;
  float spread;
  float grad_scale;
  int ignore_every; /* rows with r % ignore_every == 0 have no target */
} loss_case;

/* Bounds: the logit differences are exact to 2^-24 of the spread, exp turns that into a relative error. */
static void check_loss(const loss_case *c) {
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  cov_place p = place_create(cpu, 1, 1, 1, 2), q = place_create(cpu, 3, 1, 1, 2);
  int64_t n = c->R * c->V;
  float *x = buffer_random(n, 1);
  for (int64_t i = 0; i < n; i++) x[i] *= c->spread;
  float *want = buffer_copy(x, n), *three = buffer_copy(x, n);
  int32_t *targets = test_fenced((size_t)c->R * sizeof *targets);
  int64_t counted = 0;
  for (int64_t r = 0; r < c->R; r++) {
    int ignored = c->ignore_every && r % c->ignore_every == 0;
    targets[r] = ignored ? (r % 2 ? -1 : -100) : (int32_t)(r * 7919 % c->V);
    counted += !ignored;
  }
  double loss = 1.5, want_loss = 1.5, loss3 = 1.5;
  int64_t count = 10, want_count = 10, count3 = 10;
  assert_int_equal(cpu->cross_entropy(&p, x, x, targets, c->R, c->V, c->grad_scale, &loss, &count), 0);
  assert_int_equal(ref->cross_entropy(&p, want, want, targets, c->R, c->V, c->grad_scale, &want_loss, &want_count), 0);
  assert_int_equal(cpu->cross_entropy(&q, three, three, targets, c->R, c->V, c->grad_scale, &loss3, &count3), 0);
  double bound = 2e-6 * (1 + (double)c->spread);
  check_close("cross_entropy gradient", x, want, n, 1e-2 * (double)c->grad_scale, bound);
  check_same("cross_entropy gradient, threads", three, x, n);
  if (!(fabs(loss - want_loss) <= bound * fmax(1.0, (double)counted)))
    fail_msg("loss %.12g, want %.12g", loss, want_loss);
  assert_true(loss == loss3 && count == count3);
  assert_int_equal(count, 10 + counted);
  assert_int_equal(want_count, 10 + counted);
  for (int64_t r = 0; r < c->R; r++) {
    for (int64_t j = 0; targets[r] < 0 && j < c->V; j++)
      assert_true(x[r * c->V + j] == 0.0f && want[r * c->V + j] == 0.0f);
  }
  float *all[] = {x, want, three};
  for (int i = 0; i < 3; i++) buffer_release(all[i]);
  assert_false(test_fence_broken(targets));
  test_fenced_free(targets);
  place_destroy(&p);
  place_destroy(&q);
}

static void check_cross_entropy(void) {
  for (int s = 0; s < N_WIDTHS; s++) {
    loss_case c = {67, WIDTHS[s], 5.0f, 0.25f, 3};
    check_loss(&c);
  }
  loss_case others[] = {{3, 262144, 4.0f, 1.0f, 3}, {5, 4097, 1000.0f, 1.0f, 0}, {4, 33, 1.0f, 1.0f, 1}};
  for (int i = 0; i < 3; i++) check_loss(&others[i]);
  /* A target outside the vocabulary is refused before anything is written. */
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  for (int i = 0; i < 2; i++) {
    cov_place p = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
    float x[4] = {1, 2, 3, 4};
    int32_t targets[2] = {0, 2};
    double loss = 0;
    int64_t count = 0;
    assert_int_equal(tables[i]->cross_entropy(&p, x, x, targets, 2, 2, 1, &loss, &count), -1);
    assert_true(x[0] == 1 && loss == 0 && count == 0);
  }
}

static void test_cross_entropy(void **state) {
  (void)state;
  each_width(check_cross_entropy);
}

/* A broken model must show: a NaN logit makes the loss NaN in both tables. */
static void check_nan(void) {
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  for (int i = 0; i < 2; i++) {
    cov_place p = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
    float x[40] = {0};
    int32_t target = 3;
    double loss = 0;
    int64_t count = 0;
    x[37] = NAN;
    assert_int_equal(tables[i]->cross_entropy(&p, x, x, &target, 1, 40, 1, &loss, &count), 0);
    assert_true(isnan(loss));
  }
}

static void test_cross_entropy_nan(void **state) {
  (void)state;
  each_width(check_nan);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rmsnorm),
      cmocka_unit_test(test_rope),
      cmocka_unit_test(test_cross_entropy),
      cmocka_unit_test(test_cross_entropy_nan),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
