/* covenant-test: timeout=60
 * Element-wise operations, the exponential, and the table's refusals: cpu against ref. */
#include "kernels_check.h"

static const int64_t SIZES[] = {0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, 40001};
enum { N_SIZES = sizeof SIZES / sizeof SIZES[0] };

/* exp.h promises 1.5 ulp = 1.5 * 2^-23 relative at worst (an ulp is 2^-23 relative just above a power of two). */
static void check_exp(void) {
  enum { N = 4096 };
  static float x[N], y[N];
  double worst = 0;
  for (int64_t base = 0; base < 256; base++) {
    for (int i = 0; i < N; i++) x[i] = (float)(-86.64 + (88.72 + 86.64) * ((double)(base * N + i) / (256.0 * N)));
    covi_loops_get()->exp(y, x, N);
    for (int i = 0; i < N; i++) {
      double want = exp((double)x[i]);
      int exponent;
      frexp(want, &exponent);
      worst = fmax(worst, fabs((double)y[i] - want) / ldexp(1.0, exponent - 24));
    }
  }
  printf("exp (%s): %.3f ulp at worst\n", covi_loops_get()->name, worst);
  assert_true(worst <= 1.5);
  static const float edges[] = {0.0f, -0.0f, -86.65f, -100.0f, -1e30f, -INFINITY, 88.73f, 1e30f, INFINITY, NAN};
  float out[10];
  covi_loops_get()->exp(out, edges, 10);
  assert_true(out[0] == 1.0f && out[1] == 1.0f);
  for (int i = 2; i < 6; i++) assert_true(out[i] == 0.0f);
  for (int i = 6; i < 9; i++) assert_true(isinf(out[i]) && out[i] > 0);
  assert_true(isnan(out[9]));
}

static void test_exp(void **state) {
  (void)state;
  each_width(check_exp);
}

/* Bounds: silu and its derivative are a handful of roundings and one exp each: 8 * 2^-23 of the largest term. */
static void check_swiglu(void) {
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  cov_place p = place_create(cpu, 1, 1, 1, 2);
  for (int s = 0; s < N_SIZES; s++) {
    int64_t n = SIZES[s];
    float *gate = buffer_random(n, 1), *up = buffer_random(n, 2), *dy = buffer_random(n, 3);
    for (int64_t i = 0; i < n; i++) gate[i] *= i % 5 == 0 ? 100.0f : 8.0f;
    float *y = buffer_random(n, 4), *want = buffer_random(n, 5);
    assert_int_equal(cpu->swiglu_forward(&p, y, gate, up, n), 0);
    assert_int_equal(ref->swiglu_forward(&p, want, gate, up, n), 0);
    check_close("swiglu_forward", y, want, n, 1.0, 1e-6);
    float *dgate = buffer_copy(gate, n), *dup = buffer_copy(up, n), *want_up = buffer_random(n, 6);
    float *again = buffer_copy(dy, n), *want_y = buffer_random(n, 7);
    assert_int_equal(cpu->swiglu_backward(&p, dgate, dup, again, again, dgate, dup, n), 0); /* in place */
    check_same("swiglu_backward y", again, y, n);
    assert_int_equal(ref->swiglu_backward(&p, want, want_up, want_y, dy, gate, up, n), 0);
    check_close("swiglu_backward y", again, want_y, n, 1.0, 1e-6);
    check_close("swiglu_backward gate", dgate, want, n, 1.0, 2e-6);
    check_close("swiglu_backward up", dup, want_up, n, 1.0, 1e-6);
    float *all[] = {gate, up, dy, y, want, dgate, dup, want_up, again, want_y};
    for (int i = 0; i < 10; i++) buffer_release(all[i]);
  }
  place_destroy(&p);
}

static void test_swiglu(void **state) {
  (void)state;
  each_width(check_swiglu);
}

static void check_sums(void) {
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  cov_place p = place_create(cpu, 1, 1, 1, 2);
  for (int s = 0; s < N_SIZES; s++) {
    int64_t n = SIZES[s];
    float *x = buffer_random(n, 1), *y = buffer_random(n, 2), *want = buffer_copy(y, n);
    assert_int_equal(cpu->add(&p, y, x, n), 0);
    assert_int_equal(ref->add(&p, want, x, n), 0);
    check_same("add", y, want, n);
    double sum = -1, want_sum = -1, again = -1;
    assert_int_equal(cpu->sum_squares(&p, x, n, &sum), 0);
    assert_int_equal(ref->sum_squares(&p, x, n, &want_sum), 0);
    if (!(fabs(sum - want_sum) <= 1e-13 * want_sum))
      fail_msg("sum_squares of %d: %.17g, want %.17g", (int)n, sum, want_sum);
    p.threads = 3;
    assert_int_equal(cpu->sum_squares(&p, x, n, &again), 0);
    p.threads = 1;
    assert_true(sum == again);
    float *all[] = {x, y, want};
    for (int i = 0; i < 3; i++) buffer_release(all[i]);
  }
  place_destroy(&p);
}

static void test_sums(void **state) {
  (void)state;
  each_width(check_sums);
}

/* Bounds: m and v are three roundings of sums of positive-size terms (4 * 2^-24 of their size); w moves by at most
 * about lr per step, of which a few roundings, and is itself rounded once a step. */
static void check_adamw(void) {
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  cov_place p = place_create(cpu, 1, 1, 1, 2);
  for (int s = 0; s < N_SIZES; s++) {
    int64_t n = SIZES[s];
    float *w = buffer_random(n, 1), *m = buffer_random(n, 2), *v = buffer_random(n, 3);
    for (int64_t i = 0; i < n; i++) m[i] = v[i] = 0.0f;
    float *w2 = buffer_copy(w, n), *m2 = buffer_copy(m, n), *v2 = buffer_copy(v, n);
    for (int64_t step = 1; step <= 5; step++) {
      float *g = buffer_random(n, 10 + (uint64_t)step);
      assert_int_equal(cpu->adamw(&p, w, m, v, g, n, 1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.5f, step), 0);
      assert_int_equal(ref->adamw(&p, w2, m2, v2, g, n, 1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.5f, step), 0);
      buffer_release(g);
    }
    check_close("adamw w", w, w2, n, 1.0, 1e-6);
    check_close("adamw m", m, m2, n, 0.5, 1e-6);
    check_close("adamw v", v, v2, n, 1e-3, 1e-6);
    float *all[] = {w, m, v, w2, m2, v2};
    for (int i = 0; i < 6; i++) buffer_release(all[i]);
  }
  float one = 1;
  assert_int_equal(cpu->adamw(&p, &one, &one, &one, &one, 1, 1, 0.9f, 0.9f, 1, 0, 1, 0), -1); /* steps start at 1 */
  place_destroy(&p);
}

static void test_adamw(void **state) {
  (void)state;
  each_width(check_adamw);
}

/* Bounds: three roundings of values below 2 a step, decaying. Without nesterov g is exactly the new m. */
static void check_momentum(void) {
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  cov_place p = place_create(cpu, 1, 1, 1, 2);
  for (int s = 0; s < N_SIZES; s++) {
    int64_t n = SIZES[s];
    float *w = buffer_random(n, 1), *m = buffer_random(n, 2);
    float *w2 = buffer_copy(w, n), *m2 = buffer_copy(m, n);
    for (int step = 0; step < 5; step++) {
      const int nesterov = step != 3;
      float *g = buffer_random(n, 10 + (uint64_t)step), *g2 = buffer_copy(g, n);
      p.threads = 1 + step % 3;
      assert_int_equal(cpu->momentum(&p, m, g, n, 0.95f, nesterov, 0.5f), 0);
      assert_int_equal(ref->momentum(&p, m2, g2, n, 0.95f, nesterov, 0.5f), 0);
      check_close("momentum g", g, g2, n, 1.0, 1e-6);
      if (!nesterov) check_same("momentum g is m", g, m, n);
      assert_int_equal(cpu->blend(&p, w, g, n, 0.999f, -0.1f), 0);
      assert_int_equal(ref->blend(&p, w2, g2, n, 0.999f, -0.1f), 0);
      assert_int_equal(cpu->blend(&p, w, NULL, n, 0.5f, NAN), 0);
      assert_int_equal(ref->blend(&p, w2, NULL, n, 0.5f, NAN), 0);
      buffer_release(g);
      buffer_release(g2);
    }
    check_close("momentum m", m, m2, n, 1.0, 1e-6);
    check_close("blend", w, w2, n, 1.0, 1e-6);
    float *all[] = {w, m, w2, m2};
    for (int i = 0; i < 4; i++) buffer_release(all[i]);
  }
  p.threads = 1;
  place_destroy(&p);
}

static void test_momentum(void **state) {
  (void)state;
  each_width(check_momentum);
}

/* What the tables cannot do yet they refuse, and they touch nothing. */
static void test_refusals(void **state) {
  (void)state;
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  for (int i = 0; i < 2; i++) {
    float x[4] = {1, 2, 3, 4}, y[4] = {5, 6, 7, 8};
    const cov_ops *ops = tables[i];
    cov_place good = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
    cov_place bad[3] = {good, good, good};
    bad[0].space = COV_SPACE_DEVICE;
    bad[1].dtype = (cov_dtype)7;
    bad[2].threads = 0;
    for (int j = 0; j < 3; j++) {
      assert_int_equal(ops->add(&bad[j], y, x, 4), -1);
      assert_int_equal(ops->swiglu_forward(&bad[j], y, x, x, 4), -1);
      assert_int_equal(ops->matmul(&bad[j], 0, 0, 2, 2, 1, 1, x, 1, x, 2, 0, y, 2), -1);
      assert_int_equal(ops->cross_entropy(&bad[j], y, y, NULL, 0, 4, 1, NULL, NULL), -1);
    }
    assert_int_equal(ops->matmul(&good, 0, 0, 2, 2, 2, 1, x, 1, x, 2, 0, y, 2), -1);            /* lda < k */
    assert_int_equal(ops->rope(&good, y, x, 1, 1, 1, 3, 3, 1), -1);                             /* odd head width */
    assert_int_equal(ops->attention_forward(&good, y, y, x, x, x, 1, 1, 1, 1, 2, 2, 2, 2), -1); /* no scratch */
    int32_t id = -1;
    assert_int_equal(ops->embed_forward(&good, y, &id, x, 1, 2), -1);
    assert_true(y[0] == 5 && y[1] == 6 && y[2] == 7 && y[3] == 8);
  }
  assert_int_equal(covi_loops_choose("no such width"), -1);
  assert_true(strlen(cov_ops_cpu_matmul_name()) > 3);
  printf("matrix products: %s; widest loops: %s\n", cov_ops_cpu_matmul_name(), covi_loops_get()->name);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_exp),   cmocka_unit_test(test_swiglu),   cmocka_unit_test(test_sums),
      cmocka_unit_test(test_adamw), cmocka_unit_test(test_momentum), cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
