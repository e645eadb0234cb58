/* covenant-test: timeout=120
 * Causal attention: cpu against ref at awkward lengths, head widths, grouped heads and row lengths. */
#include "kernels_check.h"

typedef struct {
  int64_t B, T, H, K, E, extra; /* row lengths are this much longer than the heads need */
} shape;

typedef struct {
  float *out, *lse, *dq, *dk, *dv;
} results;

typedef struct {
  shape s;
  int64_t ldq, ldk, ldv;
  float *q, *k, *v, *dout;
} inputs;

static inputs inputs_create(const shape *s) {
  inputs x = {.s = *s, .ldq = s->H * s->E + s->extra, .ldk = s->K * s->E + 2 * s->extra};
  x.ldv = s->K * s->E + 3 * s->extra;
  int64_t rows = s->B * s->T;
  x.q = buffer_random(rows * x.ldq, 1);
  x.k = buffer_random(rows * x.ldk, 2);
  x.v = buffer_random(rows * x.ldv, 3);
  x.dout = buffer_random(rows * s->H * s->E, 4);
  for (int64_t i = 0; i < rows * x.ldq; i++) x.q[i] *= 6.0f; /* scores far enough apart for softmax to matter */
  return x;
}

static void inputs_destroy(inputs *x) {
  float *all[] = {x->q, x->k, x->v, x->dout};
  for (int i = 0; i < 4; i++) buffer_release(all[i]);
}

static results run(const cov_ops *ops, int threads, const inputs *x) {
  const shape *s = &x->s;
  int64_t rows = s->B * s->T;
  cov_place p = place_create(ops, threads, s->T, s->H * s->E, s->E);
  results r = {.out = buffer_random(rows * s->H * s->E, 11), .lse = buffer_random(rows * s->H, 12)};
  r.dq = buffer_random(rows * x->ldq, 13);
  r.dk = buffer_random(rows * x->ldk, 14);
  r.dv = buffer_random(rows * x->ldv, 15);
  /* Outputs that are overwritten must not be read. */
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < s->H * s->E; j++) r.dq[i * x->ldq + j] = NAN;
    for (int64_t j = 0; j < s->K * s->E; j++) r.dk[i * x->ldk + j] = r.dv[i * x->ldv + j] = NAN;
  }
  assert_int_equal(
      ops->attention_forward(&p, r.out, r.lse, x->q, x->k, x->v, s->B, s->T, s->H, s->K, s->E, x->ldq, x->ldk, x->ldv),
      0);
  assert_int_equal(ops->attention_backward(&p, r.dq, r.dk, r.dv, x->dout, x->q, x->k, x->v, r.out, r.lse, s->B, s->T,
                                           s->H, s->K, s->E, x->ldq, x->ldk, x->ldv),
                   0);
  place_destroy(&p);
  return r;
}

static void results_destroy(results *r) {
  float *all[] = {r->out, r->lse, r->dq, r->dk, r->dv};
  for (int i = 0; i < 5; i++) buffer_release(all[i]);
}

/* Bounds: scores are good to 1e-6 of their size (below 20 here), so probabilities to 2e-5 relative; outputs are means
 * of values below 1, gradients sums of up to T such terms, mostly cancelling. Between elements of the heads the row
 * paddings must keep what they held. */
static void check_results(const inputs *x, const results *got, const results *want) {
  const shape *s = &x->s;
  int64_t rows = s->B * s->T, wide = s->H * s->E, narrow = s->K * s->E;
  check_close("attention out", got->out, want->out, rows * wide, 1.0, 5e-6);
  check_close("attention lse", got->lse, want->lse, rows * s->H, 1.0, 5e-6);
  for (int64_t i = 0; i < rows; i++) {
    check_close("attention dq", got->dq + i * x->ldq, want->dq + i * x->ldq, wide, 1.0, 2e-5);
    check_close("attention dk", got->dk + i * x->ldk, want->dk + i * x->ldk, narrow, 1.0, 5e-5);
    check_close("attention dv", got->dv + i * x->ldv, want->dv + i * x->ldv, narrow, 1.0, 5e-5);
    check_same("beyond dq", got->dq + i * x->ldq + wide, want->dq + i * x->ldq + wide, x->ldq - wide);
    check_same("beyond dk", got->dk + i * x->ldk + narrow, want->dk + i * x->ldk + narrow, x->ldk - narrow);
    check_same("beyond dv", got->dv + i * x->ldv + narrow, want->dv + i * x->ldv + narrow, x->ldv - narrow);
  }
}

static void check_shape(const shape *s) {
  inputs x = inputs_create(s);
  results want = run(cov_ops_ref(), 1, &x), one = run(cov_ops_cpu(), 1, &x), two = run(cov_ops_cpu(), 2, &x);
  check_results(&x, &one, &want);
  check_results(&x, &two, &want);
  results again = run(cov_ops_cpu(), 2, &x);
  check_same("attention twice, out", again.out, two.out, s->B * s->T * s->H * s->E);
  check_same("attention twice, dk", again.dk, two.dk, s->B * s->T * x.ldk);
  check_same("attention twice, dv", again.dv, two.dv, s->B * s->T * x.ldv);
  results *all[] = {&want, &one, &two, &again};
  for (int i = 0; i < 4; i++) results_destroy(all[i]);
  inputs_destroy(&x);
}

static void check_shapes(void) {
  static const shape shapes[] = {
      {1, 1, 1, 1, 2, 0},   {2, 1, 2, 1, 8, 3},  {1, 31, 2, 2, 16, 0}, {2, 32, 4, 2, 32, 1}, {1, 33, 4, 1, 32, 5},
      {1, 63, 2, 2, 34, 2}, {2, 64, 2, 1, 8, 0}, {1, 65, 4, 4, 32, 7}, {1, 129, 8, 2, 6, 4}, {1, 130, 2, 1, 64, 1},
  };
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) check_shape(&shapes[i]);
}

static void test_attention(void **state) {
  (void)state;
  each_width(check_shapes);
}

/* A position must not depend on later ones: changing them changes no bit of its output. */
static void test_attention_causal(void **state) {
  (void)state;
  shape s = {1, 70, 2, 1, 16, 0};
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  for (int i = 0; i < 2; i++) {
    inputs x = inputs_create(&s);
    results before = run(tables[i], 1, &x);
    for (int64_t j = 50 * x.ldk; j < s.T * x.ldk; j++) x.k[j] = x.v[j] = 1e4f;
    results after = run(tables[i], 1, &x);
    check_same("attention before the change", after.out, before.out, 50 * s.H * s.E);
    assert_true(memcmp(after.out + 50 * s.H * s.E, before.out + 50 * s.H * s.E, sizeof(float)) != 0);
    results_destroy(&before);
    results_destroy(&after);
    inputs_destroy(&x);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention), cmocka_unit_test(test_attention_causal)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
