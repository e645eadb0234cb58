/* covenant-test: timeout=240
 * Causal attention: cpu against ref at awkward lengths, head widths, grouped heads and row lengths, in f32 and bf16. */
#include "bf16.h"
#include "kernels_check.h"

typedef struct {
  int64_t B, T, H, K, E, extra; /* row lengths are this much longer than the heads need */
} shape;

typedef struct {
  float *out, *lse, *dq, *dk, *dv;
} results;

typedef struct {
  shape s;
  cov_dtype dtype;
  int64_t ldq, ldk, ldv;
  float *q, *k, *v, *dout;
} inputs;

static inputs inputs_create(const shape *s, cov_dtype dtype) {
  inputs x = {.s = *s, .dtype = dtype, .ldq = s->H * s->E + s->extra, .ldk = s->K * s->E + 2 * s->extra};
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

/* Floats to the dtype of the call and back, in a fenced buffer. */
static void *pack(cov_dtype dtype, const float *from, int64_t n) {
  if (dtype == COV_F32) return buffer_copy(from, n);
  uint16_t *x = test_fenced((size_t)n * sizeof *x);
  for (int64_t i = 0; i < n; i++) x[i] = covi_bf16_round(from[i]);
  return x;
}

static void unpack(cov_dtype dtype, float *to, void *from, int64_t n) {
  const float *f = from;
  const uint16_t *h = from;
  for (int64_t i = 0; i < n; i++) to[i] = dtype == COV_F32 ? f[i] : covi_bf16_widen(h[i]);
  assert_false(test_fence_broken(from));
  test_fenced_free(from);
}

static void call(const cov_ops *ops, const cov_place *p, const inputs *x, const results *r) {
  const shape *s = &x->s;
  const int64_t rows = s->B * s->T, wide = rows * s->H * s->E;
  void *q = pack(x->dtype, x->q, rows * x->ldq), *k = pack(x->dtype, x->k, rows * x->ldk);
  void *v = pack(x->dtype, x->v, rows * x->ldv), *dout = pack(x->dtype, x->dout, wide);
  void *out = pack(x->dtype, r->out, wide), *dq = pack(x->dtype, r->dq, rows * x->ldq);
  void *dk = pack(x->dtype, r->dk, rows * x->ldk), *dv = pack(x->dtype, r->dv, rows * x->ldv);
  assert_int_equal(
      ops->attention_forward(p, out, r->lse, q, k, v, s->B, s->T, s->H, s->K, s->E, x->ldq, x->ldk, x->ldv), 0);
  assert_int_equal(ops->attention_backward(p, dq, dk, dv, dout, q, k, v, out, r->lse, s->B, s->T, s->H, s->K, s->E,
                                           x->ldq, x->ldk, x->ldv),
                   0);
  unpack(x->dtype, x->q, q, rows * x->ldq);
  unpack(x->dtype, x->k, k, rows * x->ldk);
  unpack(x->dtype, x->v, v, rows * x->ldv);
  unpack(x->dtype, x->dout, dout, wide);
  unpack(x->dtype, r->out, out, wide);
  unpack(x->dtype, r->dq, dq, rows * x->ldq);
  unpack(x->dtype, r->dk, dk, rows * x->ldk);
  unpack(x->dtype, r->dv, dv, rows * x->ldv);
}

static results run(const cov_ops *ops, int threads, const inputs *x) {
  const shape *s = &x->s;
  int64_t rows = s->B * s->T;
  cov_place p = place_create(ops, threads, s->T, s->H * s->E, s->E);
  p.dtype = x->dtype;
  results r = {.out = buffer_random(rows * s->H * s->E, 11), .lse = buffer_random(rows * s->H, 12)};
  r.dq = buffer_random(rows * x->ldq, 13);
  r.dk = buffer_random(rows * x->ldk, 14);
  r.dv = buffer_random(rows * x->ldv, 15);
  /* Outputs that are overwritten must not be read. */
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < s->H * s->E; j++) r.dq[i * x->ldq + j] = NAN;
    for (int64_t j = 0; j < s->K * s->E; j++) r.dk[i * x->ldk + j] = r.dv[i * x->ldv + j] = NAN;
  }
  call(ops, &p, x, &r);
  place_destroy(&p);
  return r;
}

static void results_destroy(results *r) {
  float *all[] = {r->out, r->lse, r->dq, r->dk, r->dv};
  for (int i = 0; i < 5; i++) buffer_release(all[i]);
}

/* Bounds in f32: scores are good to 1e-6 of their size (below 20 here), so probabilities to 2e-5 relative; outputs are
 * means of values below 1, gradients sums of up to T such terms, mostly cancelling. In bf16 probabilities and their
 * gradients are rounded as operands (2^-9 of each), and so is what is stored. */
typedef struct {
  double out, lse, dq, dk, dv;
} bounds;

static bounds bounds_of(cov_dtype dtype) {
  return dtype == COV_F32 ? (bounds){5e-6, 5e-6, 2e-5, 5e-5, 5e-5} : (bounds){6e-3, 5e-6, 5e-3, 2e-2, 1e-2};
}

/* Between elements of the heads the row paddings must keep what they held. */
static void check_results(const inputs *x, const results *got, const results *want) {
  const shape *s = &x->s;
  const bounds b = bounds_of(x->dtype);
  int64_t rows = s->B * s->T, wide = s->H * s->E, narrow = s->K * s->E;
  check_close("attention out", got->out, want->out, rows * wide, 1.0, b.out);
  check_close("attention lse", got->lse, want->lse, rows * s->H, 1.0, b.lse);
  for (int64_t i = 0; i < rows; i++) {
    check_close("attention dq", got->dq + i * x->ldq, want->dq + i * x->ldq, wide, 1.0, b.dq);
    check_close("attention dk", got->dk + i * x->ldk, want->dk + i * x->ldk, narrow, 1.0, b.dk);
    check_close("attention dv", got->dv + i * x->ldv, want->dv + i * x->ldv, narrow, 1.0, b.dv);
    check_same("beyond dq", got->dq + i * x->ldq + wide, want->dq + i * x->ldq + wide, x->ldq - wide);
    check_same("beyond dk", got->dk + i * x->ldk + narrow, want->dk + i * x->ldk + narrow, x->ldk - narrow);
    check_same("beyond dv", got->dv + i * x->ldv + narrow, want->dv + i * x->ldv + narrow, x->ldv - narrow);
  }
}

static void check_shape(const shape *s, cov_dtype dtype) {
  inputs x = inputs_create(s, dtype);
  results want = run(cov_ops_ref(), 1, &x), one = run(cov_ops_cpu(), 1, &x);
  check_results(&x, &one, &want);
  results_destroy(&want);
  results_destroy(&one);
  inputs_destroy(&x);
}

/* The bits do not depend on the number of threads. */
static void check_threads(const shape *s, cov_dtype dtype) {
  inputs x = inputs_create(s, dtype);
  const int64_t rows = s->B * s->T;
  results one = run(cov_ops_cpu(), 1, &x), three = run(cov_ops_cpu(), 3, &x);
  check_same("attention, threads, out", three.out, one.out, rows * s->H * s->E);
  check_same("attention, threads, lse", three.lse, one.lse, rows * s->H);
  check_same("attention, threads, dq", three.dq, one.dq, rows * x.ldq);
  check_same("attention, threads, dk", three.dk, one.dk, rows * x.ldk);
  check_same("attention, threads, dv", three.dv, one.dv, rows * x.ldv);
  results_destroy(&one);
  results_destroy(&three);
  inputs_destroy(&x);
}

static void check_shapes(void) {
  static const shape shapes[] = {
      {1, 1, 1, 1, 2, 0},   {2, 1, 2, 1, 8, 3},  {1, 31, 2, 2, 16, 0},  {2, 32, 4, 2, 32, 1},   {1, 33, 4, 1, 32, 5},
      {1, 63, 2, 2, 34, 2}, {2, 64, 2, 1, 8, 0}, {1, 65, 4, 4, 32, 7},  {1, 129, 8, 2, 6, 4},   {1, 130, 2, 1, 64, 1},
      {3, 7, 3, 1, 33, 1},  {1, 9, 2, 1, 1, 2},  {1, 200, 3, 1, 65, 0}, {1, 193, 1, 1, 128, 3},
  };
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    check_shape(&shapes[i], COV_F32);
    check_shape(&shapes[i], COV_BF16);
  }
  static const shape pairs = {3, 70, 4, 2, 16, 1};
  check_threads(&pairs, COV_F32);
  check_threads(&pairs, COV_BF16);
}

/* The reference in bf16 gives what its f32 form gives for the widened inputs, rounded. */
static void test_attention_reference(void **state) {
  (void)state;
  const shape s = {1, 40, 4, 2, 12, 1};
  inputs half = inputs_create(&s, COV_BF16);
  results got = run(cov_ops_ref(), 1, &half); /* leaves the rounded inputs in `half` */
  inputs wide = half;
  wide.dtype = COV_F32;
  results want = run(cov_ops_ref(), 1, &wide);
  for (int64_t i = 0; i < s.T * s.H * s.E; i++) want.out[i] = covi_bf16_widen(covi_bf16_round(want.out[i]));
  check_same("reference out", got.out, want.out, s.T * s.H * s.E);
  check_same("reference lse", got.lse, want.lse, s.T * s.H);
  /* dv does not depend on the rounded out. */
  for (int64_t i = 0; i < s.T * half.ldv; i++) want.dv[i] = covi_bf16_widen(covi_bf16_round(want.dv[i]));
  check_same("reference dv", got.dv, want.dv, s.T * half.ldv);
  results_destroy(&got);
  results_destroy(&want);
  inputs_destroy(&half);
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
  for (int i = 0; i < 4; i++) {
    inputs x = inputs_create(&s, i < 2 ? COV_F32 : COV_BF16);
    results before = run(tables[i % 2], 1, &x);
    for (int64_t j = 50 * x.ldk; j < s.T * x.ldk; j++) x.k[j] = x.v[j] = 1e4f;
    results after = run(tables[i % 2], 1, &x);
    check_same("attention before the change", after.out, before.out, 50 * s.H * s.E);
    assert_true(memcmp(after.out + 50 * s.H * s.E, before.out + 50 * s.H * s.E, sizeof(float)) != 0);
    results_destroy(&before);
    results_destroy(&after);
    inputs_destroy(&x);
  }
}

/* Scores are never kept: what a pass needs beside its operands grows with T, not with its square. */
static void check_scratch(void) {
  for (int d = 0; d < 2; d++) {
    const covi_typed_loops *loops = covi_loops_get()->typed[d];
    for (int64_t E = 32; E <= 128; E *= 2) {
      const int64_t forward[2] = {loops->attention_forward_bytes(4096, E), loops->attention_forward_bytes(8192, E)};
      const int64_t backward[2] = {loops->attention_backward_bytes(4096, E), loops->attention_backward_bytes(8192, E)};
      assert_true(forward[1] <= 2 * forward[0] && backward[1] <= 2 * backward[0] + 4096);
      assert_true(backward[1] < (int64_t)8192 * 8192); /* a quarter of one head's scores in f32 */
    }
  }
}

static void test_attention_scratch(void **state) {
  (void)state;
  each_width(check_scratch);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention), cmocka_unit_test(test_attention_reference),
                                     cmocka_unit_test(test_attention_causal), cmocka_unit_test(test_attention_scratch)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
