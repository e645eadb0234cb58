/* covenant-test: timeout=60
 * The backward passes of the reference against difference quotients of its forward passes. The loss is a weighted sum
 * of the outputs, taken in double. Quotient: five points, step 1/32; its truncation error is below 1e-6 for these
 * functions, the f32 rounding of the outputs adds about 2e-5 (2^-24 sqrt(n) 1.5 / step). Bound: 2e-4. */
#include "kernels_check.h"

static const double BOUND = 2e-4, STEP = 1.0 / 32;

typedef double loss_of(void *context);

static double slope(loss_of *loss, void *context, float *x) {
  static const double offset[] = {-2, -1, 1, 2}, weight[] = {1, -8, 8, -1};
  float old = *x;
  double sum = 0;
  for (int i = 0; i < 4; i++) {
    *x = (float)((double)old + offset[i] * STEP);
    sum += weight[i] * loss(context);
  }
  *x = old;
  return sum / (12 * STEP);
}

static void check_slopes(const char *what, loss_of *loss, void *context, float *x, const float *grad, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    double want = slope(loss, context, x + i);
    if (!(fabs((double)grad[i] - want) <= BOUND * fmax(1.0, fabs(want)))) {
      fail_msg("%s: gradient %lld is %.9g, quotient %.9g", what, (long long)i, (double)grad[i], want);
    }
  }
}

static double weighted(const float *y, const float *weight, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (double)y[i] * (double)weight[i];
  return sum;
}

enum { R = 3, D = 7 };

typedef struct {
  cov_place p;
  float *x, *g, *y, *dy, *rstd;
} norm;

static double norm_loss(void *context) {
  norm *c = context;
  assert_int_equal(cov_ops_ref()->rmsnorm_forward(&c->p, c->y, c->rstd, c->x, NULL, NULL, c->g, R, D, 1e-5f), 0);
  return weighted(c->y, c->dy, R * D);
}

static void test_rmsnorm(void **state) {
  (void)state;
  norm c = {.p = place_create(cov_ops_ref(), 1, 1, 1, 2), .x = buffer_random(R * D, 1), .g = buffer_random(D, 2)};
  c.y = buffer_random(R * D, 3);
  c.dy = buffer_random(R * D, 4);
  c.rstd = buffer_random(R, 5);
  for (int i = 0; i < R * D; i++) c.x[i] += c.x[i] < 0 ? -1.0f : 1.0f; /* away from the kink of tiny rows */
  float *dx = buffer_random(R * D, 6), *dg = buffer_random(D, 7);
  memset(dx, 0, R * D * sizeof *dx);
  memset(dg, 0, D * sizeof *dg);
  norm_loss(&c);
  assert_int_equal(cov_ops_ref()->rmsnorm_backward(&c.p, dx, NULL, dg, c.dy, c.x, c.g, c.rstd, R, D), 0);
  check_slopes("rmsnorm dx", norm_loss, &c, c.x, dx, R * D);
  check_slopes("rmsnorm dg", norm_loss, &c, c.g, dg, D);
  float *all[] = {c.x, c.g, c.y, c.dy, c.rstd, dx, dg};
  for (int i = 0; i < 7; i++) buffer_release(all[i]);
  place_destroy(&c.p);
}

enum { N = 40 };

typedef struct {
  cov_place p;
  float *gate, *up, *y, *dy;
} glu;

static double glu_loss(void *context) {
  glu *c = context;
  assert_int_equal(cov_ops_ref()->swiglu_forward(&c->p, c->y, c->gate, c->up, N), 0);
  return weighted(c->y, c->dy, N);
}

static void test_swiglu(void **state) {
  (void)state;
  glu c = {.p = place_create(cov_ops_ref(), 1, 1, 1, 2), .gate = buffer_random(N, 1), .up = buffer_random(N, 2)};
  c.y = buffer_random(N, 3);
  c.dy = buffer_random(N, 4);
  for (int i = 0; i < N; i++) c.gate[i] *= 4.0f;
  float *dgate = buffer_random(N, 5), *dup = buffer_random(N, 6), *y = buffer_random(N, 7);
  assert_int_equal(cov_ops_ref()->swiglu_backward(&c.p, dgate, dup, y, c.dy, c.gate, c.up, N), 0);
  check_slopes("swiglu dgate", glu_loss, &c, c.gate, dgate, N);
  check_slopes("swiglu dup", glu_loss, &c, c.up, dup, N);
  float *all[] = {c.gate, c.up, c.y, c.dy, dgate, dup, y};
  for (int i = 0; i < 7; i++) buffer_release(all[i]);
  place_destroy(&c.p);
}

enum { V = 9 };

typedef struct {
  cov_place p;
  float *logits, *work;
  int32_t targets[R];
} entropy;

static double entropy_loss(void *context) {
  entropy *c = context;
  double loss = 0;
  int64_t count = 0;
  memcpy(c->work, c->logits, R * V * sizeof(float));
  assert_int_equal(cov_ops_ref()->cross_entropy(&c->p, c->work, c->work, c->targets, R, V, 0.5f, &loss, &count), 0);
  return 0.5 * loss;
}

static void test_cross_entropy(void **state) {
  (void)state;
  entropy c = {.p = place_create(cov_ops_ref(), 1, 1, 1, 2), .logits = buffer_random(R * V, 1), .targets = {4, -1, 8}};
  c.work = buffer_random(R * V, 2);
  entropy_loss(&c);
  float *grad = buffer_copy(c.work, R * V);
  check_slopes("cross_entropy", entropy_loss, &c, c.logits, grad, R * V);
  float *all[] = {c.logits, c.work, grad};
  for (int i = 0; i < 3; i++) buffer_release(all[i]);
  place_destroy(&c.p);
}

enum { B = 2, T = 5, H = 4, K = 2, E = 6, LDQ = H * E + 1, LDK = K * E + 2, LDV = K * E + 3 };

typedef struct {
  cov_place p;
  float *q, *k, *v, *out, *lse, *dout;
} heads;

static double heads_loss(void *context) {
  heads *c = context;
  assert_int_equal(
      cov_ops_ref()->attention_forward(&c->p, c->out, c->lse, c->q, c->k, c->v, B, T, H, K, E, LDQ, LDK, LDV), 0);
  return weighted(c->out, c->dout, B * T * H * E);
}

static void test_attention(void **state) {
  (void)state;
  heads c = {.p = place_create(cov_ops_ref(), 1, T, H * E, E), .q = buffer_random(B * T * LDQ, 1)};
  c.k = buffer_random(B * T * LDK, 2);
  c.v = buffer_random(B * T * LDV, 3);
  c.out = buffer_random(B * T * H * E, 4);
  c.lse = buffer_random(B * H * T, 5);
  c.dout = buffer_random(B * T * H * E, 6);
  float *dq = buffer_random(B * T * LDQ, 7), *dk = buffer_random(B * T * LDK, 8), *dv = buffer_random(B * T * LDV, 9);
  heads_loss(&c);
  assert_int_equal(cov_ops_ref()->attention_backward(&c.p, dq, dk, dv, c.dout, c.q, c.k, c.v, c.out, c.lse, B, T, H, K,
                                                     E, LDQ, LDK, LDV),
                   0);
  for (int r = 0; r < B * T; r++) {
    check_slopes("attention dq", heads_loss, &c, c.q + r * LDQ, dq + r * LDQ, H * E);
    check_slopes("attention dk", heads_loss, &c, c.k + r * LDK, dk + r * LDK, K * E);
    check_slopes("attention dv", heads_loss, &c, c.v + r * LDV, dv + r * LDV, K * E);
  }
  float *all[] = {c.q, c.k, c.v, c.out, c.lse, c.dout, dq, dk, dv};
  for (int i = 0; i < 9; i++) buffer_release(all[i]);
  place_destroy(&c.p);
}

/* Linear operations: the backward pass is the adjoint, <forward(x), w> = <x, backward(w)>, here to 1e-5. */
static void test_adjoints(void **state) {
  (void)state;
  const cov_ops *ref = cov_ops_ref();
  cov_place p = place_create(ref, 1, T, 1, E);
  float *x = buffer_random(T * E, 1), *w = buffer_random(T * E, 2), *y = buffer_copy(x, T * E);
  float *table = buffer_random(T * E, 3), *back = buffer_copy(w, T * E);
  cov_rope_table(table, T, E, 100.0);
  assert_int_equal(ref->rope(&p, y, table, 1, T, 1, E, E, 1), 0);
  assert_int_equal(ref->rope(&p, back, table, 1, T, 1, E, E, -1), 0);
  assert_true(fabs(weighted(y, w, T * E) - weighted(x, back, T * E)) < 1e-5);
  int32_t ids[T] = {2, 0, 2, 1, 2};
  memset(back, 0, T * E * sizeof *back);
  assert_int_equal(ref->embed_forward(&p, y, ids, x, T, E), 0);
  assert_int_equal(ref->embed_backward(&p, back, ids, w, T, E), 0);
  assert_true(fabs(weighted(y, w, T * E) - weighted(x, back, T * E)) < 1e-5);
  float *all[] = {x, w, y, table, back};
  for (int i = 0; i < 5; i++) buffer_release(all[i]);
  place_destroy(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rmsnorm),   cmocka_unit_test(test_swiglu),   cmocka_unit_test(test_cross_entropy),
      cmocka_unit_test(test_attention), cmocka_unit_test(test_adjoints),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
