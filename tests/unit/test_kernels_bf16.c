/* covenant-test: timeout=120
 * Every operation with bf16 activations. The reference must give what its f32 form gives for the widened inputs,
 * rounded once: the same bits. The fast table may round a value next to a tie the other way: 2^-7 relative, and rarely.
 */
#include "bf16.h"
#include "kernels_check.h"

static uint16_t *half_copy(const float *from, int64_t n) {
  uint16_t *x = test_fenced((size_t)n * sizeof *x);
  for (int64_t i = 0; i < n; i++) x[i] = covi_bf16_round(from[i]);
  return x;
}

/* A random array in both forms: values that bf16 holds exactly. */
typedef struct {
  int64_t n;
  float *wide;
  uint16_t *half, *fast; /* `fast`: of the table under test, where the operation writes */
} array;

static array array_create(int64_t n, uint64_t seed) {
  array a = {.n = n, .wide = buffer_random(n, seed)};
  a.half = half_copy(a.wide, n);
  a.fast = half_copy(a.wide, n);
  for (int64_t i = 0; i < n; i++) a.wide[i] = covi_bf16_widen(a.half[i]);
  return a;
}

static void array_destroy(array *a) {
  buffer_release(a->wide);
  assert_false(test_fence_broken(a->half) || test_fence_broken(a->fast));
  test_fenced_free(a->half);
  test_fenced_free(a->fast);
}

/* `half` is the reference's result, `wide` that of its f32 form, `fast` that of the table under test. `scale` as in
 * check_close: the size of the terms, where the result is a small difference of them. */
static void check_array(const char *what, const array *a, double scale, double bound) {
  int64_t other = 0;
  for (int64_t i = 0; i < a->n; i++) {
    float got = covi_bf16_widen(a->fast[i]), want = covi_bf16_widen(a->half[i]);
    if (a->half[i] != covi_bf16_round(a->wide[i]))
      fail_msg("%s: reference %.9g, from f32 %.9g", what, (double)want, (double)a->wide[i]);
    if (!(fabs((double)got - (double)want) <= fmax(0x1p-7 * fabs((double)want), bound * scale)))
      fail_msg("%s (%s): element %lld of %lld is %.9g, want %.9g", what, covi_loops_get()->name, (long long)i,
               (long long)a->n, (double)got, (double)want);
    other += fabs((double)got - (double)want) > bound * scale;
  }
  if (other > 2 + a->n / 50)
    fail_msg("%s (%s): %lld of %lld elements rounded another way", what, covi_loops_get()->name, (long long)other,
             (long long)a->n);
}

static const int64_t WIDTHS[] = {1, 2, 15, 16, 17, 31, 32, 33, 64, 127, 1025};
enum { N_WIDTHS = sizeof WIDTHS / sizeof WIDTHS[0] };

/* The three calls that check_array compares. */
typedef struct {
  cov_place f32, ref, cpu;
} places;

static places places_create(int threads, int64_t T, int64_t D, int64_t E) {
  places p = {place_create(cov_ops_ref(), 1, T, D, E), place_create(cov_ops_ref(), 1, T, D, E),
              place_create(cov_ops_cpu(), threads, T, D, E)};
  p.ref.dtype = p.cpu.dtype = COV_BF16;
  return p;
}

static void places_destroy(places *p) {
  place_destroy(&p->f32);
  place_destroy(&p->ref);
  place_destroy(&p->cpu);
}

static void test_rounding(void **state) {
  (void)state;
  static const struct {
    float x;
    uint16_t want;
  } cases[] = {{1.0f, 0x3F80},          {-0.0f, 0x8000},           {0x1.01p0f, 0x3F80},  {0x1.03p0f, 0x3F82},
               {0x1.010002p0f, 0x3F81}, {0x1.fffffep127f, 0x7F80}, {INFINITY, 0x7F80},   {-INFINITY, 0xFF80},
               {0x1p-149f, 0x0000},     {0x1.8p-133f, 0x0002},     {0x1.fep127f, 0x7F7F}};
  float in[11];
  uint16_t out[11];
  for (int i = 0; i < 11; i++) in[i] = cases[i].x;
  covi_loops_get()->typed[COV_BF16]->narrow(out, in, 11);
  for (int i = 0; i < 11; i++) {
    assert_int_equal(covi_bf16_round(cases[i].x), cases[i].want);
    assert_int_equal(out[i], cases[i].want);
  }
  /* A NaN whose upper half alone would be an infinity. */
  uint32_t bits = 0x7F800001u;
  float nan;
  memcpy(&nan, &bits, sizeof nan);
  assert_true(isnan(covi_bf16_widen(covi_bf16_round(nan))));
  assert_true(isnan(covi_bf16_widen(covi_bf16_round(-nan))));
}

static void check_streams(void) {
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  static const int64_t sizes[] = {0, 1, 15, 16, 17, 33, 65, 1000, 40001};
  places p = places_create(3, 1, 1, 2);
  for (int s = 0; s < 9; s++) {
    int64_t n = sizes[s];
    array gate = array_create(n, 1), up = array_create(n, 2), dy = array_create(n, 3), y = array_create(n, 4);
    for (int64_t i = 0; i < n; i++) gate.half[i] = gate.fast[i] = covi_bf16_round(gate.wide[i] *= 8.0f);
    assert_int_equal(ref->swiglu_forward(&p.f32, y.wide, gate.wide, up.wide, n), 0);
    assert_int_equal(ref->swiglu_forward(&p.ref, y.half, gate.half, up.half, n), 0);
    assert_int_equal(cpu->swiglu_forward(&p.cpu, y.fast, gate.fast, up.fast, n), 0);
    check_array("swiglu_forward", &y, 1.0, 1e-6);
    assert_int_equal(ref->swiglu_backward(&p.f32, gate.wide, up.wide, dy.wide, dy.wide, gate.wide, up.wide, n), 0);
    assert_int_equal(ref->swiglu_backward(&p.ref, gate.half, up.half, dy.half, dy.half, gate.half, up.half, n), 0);
    assert_int_equal(cpu->swiglu_backward(&p.cpu, gate.fast, up.fast, dy.fast, dy.fast, gate.fast, up.fast, n), 0);
    check_array("swiglu_backward gate", &gate, 1.0, 2e-6);
    check_array("swiglu_backward up", &up, 1.0, 1e-6);
    check_array("swiglu_backward y", &dy, 1.0, 1e-6);
    assert_memory_equal(dy.fast, y.fast, (size_t)n * sizeof *y.fast); /* in place of dy: what the forward pass made */
    array x = array_create(n, 5), to = array_create(n, 6);
    assert_int_equal(ref->add(&p.f32, to.wide, x.wide, n), 0);
    assert_int_equal(ref->add(&p.ref, to.half, x.half, n), 0);
    assert_int_equal(cpu->add(&p.cpu, to.fast, x.fast, n), 0);
    check_array("add", &to, 0.0, 0.0);
    array *all[] = {&gate, &up, &dy, &y, &x, &to};
    for (int i = 0; i < 6; i++) array_destroy(all[i]);
  }
  places_destroy(&p);
}

static void test_streams(void **state) {
  (void)state;
  each_width(check_streams);
}

static void check_norm(void) {
  enum { R = 37 };
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  for (int s = 0; s < N_WIDTHS; s++) {
    int64_t D = WIDTHS[s], n = R * D;
    places p = places_create(3, 1, D, 2);
    array x = array_create(n, 1), r = array_create(n, 2), y = array_create(n, 3), dy = array_create(n, 4);
    float *g = buffer_random(D, 5), *rstd[3], *dg[3];
    for (int i = 0; i < 3; i++) rstd[i] = buffer_random(R, 6), dg[i] = buffer_random(D, 7);
    for (int64_t i = 0; i < n; i++) { /* x + r is exact, so that all three normalise the same values */
      x.half[i] = x.fast[i] = covi_bf16_round(x.wide[i] = x.wide[i] < 0 ? -1.0f : 2.0f);
      r.half[i] = r.fast[i] = covi_bf16_round(r.wide[i] = truncf(r.wide[i] * 4.0f) * 0.25f);
    }
    assert_int_equal(ref->rmsnorm_forward(&p.f32, y.wide, rstd[0], x.wide, r.wide, NULL, g, R, D, 1e-5f), 0);
    assert_int_equal(ref->rmsnorm_forward(&p.ref, y.half, rstd[1], x.half, r.half, NULL, g, R, D, 1e-5f), 0);
    assert_int_equal(cpu->rmsnorm_forward(&p.cpu, y.fast, rstd[2], x.fast, r.fast, NULL, g, R, D, 1e-5f), 0);
    check_array("rmsnorm_forward x", &x, 0.0, 0.0);
    check_array("rmsnorm_forward y", &y, 1.0, 1e-6);
    check_close("rmsnorm_forward rstd", rstd[2], rstd[1], R, 1.0, 1e-6);
    assert_int_equal(ref->rmsnorm_backward(&p.f32, r.wide, NULL, dg[0], dy.wide, x.wide, g, rstd[1], R, D), 0);
    assert_int_equal(ref->rmsnorm_backward(&p.ref, r.half, NULL, dg[1], dy.half, x.half, g, rstd[1], R, D), 0);
    assert_int_equal(cpu->rmsnorm_backward(&p.cpu, r.fast, NULL, dg[2], dy.fast, x.fast, g, rstd[1], R, D), 0);
    check_array("rmsnorm_backward dx", &r, 1.0, 2e-6);
    check_close("rmsnorm_backward dg", dg[2], dg[1], D, 1.0, 1e-5);
    array *all[] = {&x, &r, &y, &dy};
    for (int i = 0; i < 4; i++) array_destroy(all[i]);
    for (int i = 0; i < 3; i++) buffer_release(rstd[i]), buffer_release(dg[i]);
    buffer_release(g);
    places_destroy(&p);
  }
}

/* The residual stream in f32: both tables add the same floats, x and dx are the stream rounded, and the norm is that of
 * the rounded values. Backward sums of D products are good to 2e-6, as above. */
static void check_long_sum(void) {
  enum { R = 37 };
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  for (int s = 0; s < N_WIDTHS; s++) {
    int64_t D = WIDTHS[s], n = R * D;
    places p = places_create(3, 1, D, 2);
    array x = array_create(n, 1), y = array_create(n, 2), dx = array_create(n, 3), again = array_create(n, 4);
    float *g = buffer_random(D, 5), *rstd = buffer_random(R, 6), *dg[2] = {buffer_random(D, 7), buffer_random(D, 7)};
    float *begin = buffer_random(n, 8), *sum[2] = {buffer_copy(begin, n), buffer_copy(begin, n)};
    assert_int_equal(ref->rmsnorm_forward(&p.ref, y.half, rstd, x.half, x.half, sum[0], g, R, D, 1e-5f), 0);
    assert_int_equal(cpu->rmsnorm_forward(&p.cpu, y.fast, rstd, x.fast, x.fast, sum[1], g, R, D, 1e-5f), 0);
    for (int64_t i = 0; i < n; i++) {
      assert_true(sum[0][i] == begin[i] + x.wide[i] && sum[1][i] == sum[0][i]);
      assert_int_equal(x.half[i], covi_bf16_round(sum[0][i]));
      assert_int_equal(x.fast[i], x.half[i]);
    }
    assert_int_equal(ref->rmsnorm_forward(&p.ref, again.half, rstd, x.half, NULL, NULL, g, R, D, 1e-5f), 0);
    assert_memory_equal(again.half, y.half, (size_t)n * sizeof *y.half);
    assert_int_equal(cpu->rmsnorm_forward(&p.cpu, again.fast, rstd, x.fast, NULL, sum[1], g, R, D, 1e-5f), 0);
    assert_memory_equal(again.fast, y.fast, (size_t)n * sizeof *y.fast);
    check_same("a stream to which nothing is added", sum[1], sum[0], n);
    assert_int_equal(ref->rmsnorm_backward(&p.ref, dx.half, sum[0], dg[0], y.half, x.half, g, rstd, R, D), 0);
    assert_int_equal(cpu->rmsnorm_backward(&p.cpu, dx.fast, sum[1], dg[1], y.half, x.half, g, rstd, R, D), 0);
    double size = 1.0;
    for (int r = 0; r < R; r++) size = fmax(size, (double)rstd[r] * (double)rstd[r]);
    check_close("rmsnorm_backward stream", sum[1], sum[0], n, size, 4e-6);
    for (int64_t i = 0; i < n; i++) {
      assert_int_equal(dx.half[i], covi_bf16_round(sum[0][i]));
      assert_int_equal(dx.fast[i], covi_bf16_round(sum[1][i]));
    }
    array *all[] = {&x, &y, &dx, &again};
    for (int i = 0; i < 4; i++) array_destroy(all[i]);
    float *floats[] = {g, rstd, dg[0], dg[1], begin, sum[0], sum[1]};
    for (int i = 0; i < 7; i++) buffer_release(floats[i]);
    places_destroy(&p);
  }
}

static void test_long_sum(void **state) {
  (void)state;
  each_width(check_long_sum);
}

static void test_norm(void **state) {
  (void)state;
  each_width(check_norm);
}

static void check_rope(void) {
  static const int64_t widths[] = {2, 6, 30, 32, 34, 64, 128};
  enum { B = 2, T = 9, HEADS = 3, EXTRA = 5 };
  places p = places_create(2, T, 1, 2);
  for (int s = 0; s < 7; s++) {
    int64_t E = widths[s], ld = HEADS * E + EXTRA;
    float *table = buffer_random(T * E, 1);
    array x = array_create(B * T * ld, 2);
    cov_rope_table(table, T, E, 10000.0);
    for (int sign = 1; sign >= -1; sign -= 2) {
      array y = array_create(B * T * ld, 2);
      assert_int_equal(cov_ops_ref()->rope(&p.f32, y.wide, table, B, T, HEADS, E, ld, sign), 0);
      assert_int_equal(cov_ops_ref()->rope(&p.ref, y.half, table, B, T, HEADS, E, ld, sign), 0);
      assert_int_equal(cov_ops_cpu()->rope(&p.cpu, y.fast, table, B, T, HEADS, E, ld, sign), 0);
      check_array("rope", &y, 1.0, 4 * 0x1p-24);
      for (int64_t i = 0; i < B * T * ld; i++) assert_true(i % ld < HEADS * E || y.fast[i] == x.fast[i]);
      array_destroy(&y);
    }
    array_destroy(&x);
    buffer_release(table);
  }
  places_destroy(&p);
}

static void test_rope(void **state) {
  (void)state;
  each_width(check_rope);
}

static void check_embed(void) {
  enum { V = 7, R = 301 };
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  int32_t ids[R];
  for (int r = 0; r < R; r++) ids[r] = (int32_t)((test_random(9, (uint64_t)r) + 1.0f) * 0.5f * V);
  places p = places_create(3, 1, 1, 2);
  for (int s = 0; s < N_WIDTHS; s++) {
    int64_t D = WIDTHS[s];
    float *table = buffer_random(V * D, 1), *wide[2];
    for (int i = 0; i < 2; i++) wide[i] = buffer_copy(table, V * D);
    array x = array_create(R * D, 2);
    assert_int_equal(ref->embed_forward(&p.f32, x.wide, ids, table, R, D), 0);
    assert_int_equal(ref->embed_forward(&p.ref, x.half, ids, table, R, D), 0);
    assert_int_equal(cpu->embed_forward(&p.cpu, x.fast, ids, table, R, D), 0);
    check_array("embed_forward", &x, 0.0, 0.0);
    assert_int_equal(ref->embed_backward(&p.ref, wide[0], ids, x.half, R, D), 0);
    assert_int_equal(cpu->embed_backward(&p.cpu, wide[1], ids, x.half, R, D), 0);
    check_same("embed_backward", wide[1], wide[0], V * D);
    for (int64_t i = 0; i < R * D; i++) x.wide[i] = covi_bf16_widen(x.half[i]);
    assert_int_equal(ref->embed_backward(&p.f32, table, ids, x.wide, R, D), 0);
    check_same("embed_backward, reference", wide[0], table, V * D);
    float *all[] = {table, wide[0], wide[1]};
    for (int i = 0; i < 3; i++) buffer_release(all[i]);
    array_destroy(&x);
  }
  places_destroy(&p);
}

static void test_embed(void **state) {
  (void)state;
  each_width(check_embed);
}

static void check_loss(int64_t R, int64_t V) {
  places p = places_create(3, 1, 1, 2);
  array d = array_create(R * V, 1);
  float *logits[4];
  int32_t targets[8];
  double loss[4] = {1.5, 1.5, 1.5, 1.5};
  int64_t count[4] = {10, 10, 10, 10};
  assert_true(R <= 8);
  for (int64_t r = 0; r < R; r++) targets[r] = r == 1 ? -1 : (int32_t)(r * 7919 % V);
  for (int i = 0; i < 4; i++) {
    logits[i] = buffer_random(R * V, 2);
    for (int64_t j = 0; j < R * V; j++) logits[i][j] *= 5.0f;
  }
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  assert_int_equal(ref->cross_entropy(&p.f32, d.wide, logits[0], targets, R, V, 0.25f, &loss[0], &count[0]), 0);
  assert_int_equal(ref->cross_entropy(&p.ref, d.half, logits[1], targets, R, V, 0.25f, &loss[1], &count[1]), 0);
  assert_int_equal(cpu->cross_entropy(&p.cpu, d.fast, logits[2], targets, R, V, 0.25f, &loss[2], &count[2]), 0);
  assert_int_equal(cpu->cross_entropy(&p.cpu, NULL, logits[3], targets, R, V, 0.25f, &loss[3], &count[3]), 0);
  check_array("cross_entropy gradient", &d, 0.25e-2, 1.2e-5);
  assert_true(loss[0] == loss[1] && fabs(loss[2] - loss[0]) < 1.2e-5 * (double)R && loss[3] == loss[2]);
  for (int i = 0; i < 4; i++) {
    assert_int_equal(count[i], 10 + R - (R > 1));
    buffer_release(logits[i]);
  }
  array_destroy(&d);
  places_destroy(&p);
}

static void check_losses(void) {
  for (int s = 0; s < N_WIDTHS; s++) check_loss(8, WIDTHS[s]);
  check_loss(1, 4097);
  check_loss(3, 262144);
}

static void test_cross_entropy(void **state) {
  (void)state;
  each_width(check_losses);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rounding),      cmocka_unit_test(test_streams), cmocka_unit_test(test_norm),
      cmocka_unit_test(test_long_sum),      cmocka_unit_test(test_rope),    cmocka_unit_test(test_embed),
      cmocka_unit_test(test_cross_entropy),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
