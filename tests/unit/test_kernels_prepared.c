/* covenant-test: timeout=120
 * Linear maps with prepared weights: both tables against the reference's f32 products of the same (rounded) operands,
 * in each dtype that this processor runs. */
#include "cpu/cpu.h"
#include "kernels_check.h"

static const cov_ops *tested; /* the table under test */

enum { SLACK = 3 }; /* elements behind each row that must stay as they are */

typedef struct {
  cov_dtype dtype;
  int64_t R, n, k;
  int threads;
  int with_scratch; /* 0: the library keeps its own */
} map;

static size_t size_of(cov_dtype dtype) {
  return dtype == COV_BF16 ? 2 : 4;
}

/* Its own rounding, written as the definition is: the nearer of the two neighbours, the even one in a tie. */
static uint16_t round_bf16(float x) {
  uint32_t bits, rest;
  memcpy(&bits, &x, sizeof bits);
  rest = bits & 0xFFFFu;
  uint32_t high = bits >> 16;
  if (rest > 0x8000u || (rest == 0x8000u && (high & 1u))) high++;
  return (uint16_t)high;
}

static float widen_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

static float element(cov_dtype dtype, const void *x, int64_t i) {
  return dtype == COV_BF16 ? widen_bf16(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

/* A fenced matrix in `dtype` and the values that it holds. */
typedef struct {
  cov_dtype dtype;
  int64_t elems;
  void *data;
  float *value;
} matrix;

static matrix matrix_create(cov_dtype dtype, int64_t elems, uint64_t seed) {
  matrix x = {.dtype = dtype, .elems = elems, .data = test_fenced((size_t)elems * size_of(dtype))};
  x.value = buffer_random(elems, seed);
  for (int64_t i = 0; i < elems; i++) {
    if (dtype == COV_BF16) {
      ((uint16_t *)x.data)[i] = round_bf16(x.value[i]);
      x.value[i] = widen_bf16(((uint16_t *)x.data)[i]);
    } else {
      ((float *)x.data)[i] = x.value[i];
    }
  }
  return x;
}

static void matrix_destroy(matrix *x) {
  assert_false(test_fence_broken(x->data));
  test_fenced_free(x->data);
  buffer_release(x->value);
}

/* 4 (k+1) 2^-24 for the sum of k products below 1, as for plain products; and one rounding of the result to bf16. */
static void check_matrix(const char *what, const matrix *got, int64_t rows, int64_t width, int64_t ld, int64_t k) {
  const double sums = 4.0 * (double)(k + 1) * 0x1p-24, rounding = got->dtype == COV_BF16 ? 0x1p-8 : 0.0;
  for (int64_t i = 0; i < rows * ld; i++) {
    const double x = (double)element(got->dtype, got->data, i), want = (double)got->value[i];
    const double scale = fabs(want) > 1.0 ? fabs(want) : 1.0;
    const double bound = i % ld < width ? sums * scale + rounding * fabs(want) : 0.0;
    if (!(fabs(x - want) <= bound)) {
      fail_msg("%s: row %lld, column %lld of %lld is %.9g, want %.9g within %.3g", what, (long long)(i / ld),
               (long long)(i % ld), (long long)width, x, want, bound);
    }
  }
}

static void *prepare(const cov_place *p, cov_linear_use use, const matrix *w, int64_t n, int64_t k, void **owned) {
  const cov_ops *ops = tested;
  int64_t bytes = ops->linear_bytes(p, use, n, k);
  assert_true(bytes >= 0 && bytes % 64 == 0);
  *owned = bytes > 0 ? test_fenced((size_t)bytes) : NULL;
  assert_int_equal(ops->linear_prepare(p, use, *owned, w->data, n, k), 0);
  return *owned ? *owned : w->data;
}

/* What the prepared copy stands for: the weights rounded to the dtype. */
static float *rounded_weights(const map *x, const matrix *w) {
  float *r = buffer_copy(w->value, w->elems);
  for (int64_t i = 0; x->dtype == COV_BF16 && i < w->elems; i++) r[i] = widen_bf16(round_bf16(r[i]));
  return r;
}

static void check_forward(const map *x, const cov_place *p, const matrix *w, const float *rounded, cov_dtype out) {
  const cov_place plain = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  const int64_t ldx = x->k + SLACK, ldy = x->n + SLACK;
  matrix in = matrix_create(x->dtype, x->R * ldx, 1), y = matrix_create(out, x->R * ldy, 2);
  void *owned, *prepared = prepare(p, COV_LINEAR_FORWARD, w, x->n, x->k, &owned);
  assert_int_equal(
      cov_ops_ref()->matmul(&plain, 0, 1, x->R, x->n, x->k, 1.0f, in.value, ldx, rounded, x->k, 0.0f, y.value, ldy), 0);
  assert_int_equal(tested->linear_forward(p, y.data, ldy, out, in.data, ldx, prepared, x->R, x->n, x->k), 0);
  check_matrix("forward", &y, x->R, x->n, ldy, x->k);
  matrix_destroy(&in);
  matrix_destroy(&y);
  if (owned) assert_false(test_fence_broken(owned));
  if (owned) test_fenced_free(owned);
}

static void check_input_gradient(const map *x, const cov_place *p, const matrix *w, const float *rounded, int add) {
  const cov_place plain = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  const int64_t ldx = x->k + SLACK, ldy = x->n + SLACK;
  matrix dy = matrix_create(x->dtype, x->R * ldy, 3), dx = matrix_create(x->dtype, x->R * ldx, 4);
  void *owned, *prepared = prepare(p, COV_LINEAR_INPUT_GRADIENT, w, x->n, x->k, &owned);
  assert_int_equal(cov_ops_ref()->matmul(&plain, 0, 0, x->R, x->k, x->n, 1.0f, dy.value, ldy, rounded, x->k,
                                         add ? 1.0f : 0.0f, dx.value, ldx),
                   0);
  assert_int_equal(tested->linear_input_gradient(p, dx.data, ldx, add, dy.data, ldy, prepared, x->R, x->n, x->k), 0);
  check_matrix(add ? "input gradient, added" : "input gradient", &dx, x->R, x->k, ldx, x->n);
  matrix_destroy(&dy);
  matrix_destroy(&dx);
  if (owned) assert_false(test_fence_broken(owned));
  if (owned) test_fenced_free(owned);
}

static void check_weight_gradient(const map *x, const cov_place *p) {
  const cov_place plain = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  const int64_t ldx = x->k + SLACK, ldy = x->n + SLACK;
  matrix dy = matrix_create(x->dtype, x->R * ldy, 5), in = matrix_create(x->dtype, x->R * ldx, 6);
  matrix dw = matrix_create(COV_F32, x->n * x->k, 7);
  assert_int_equal(
      cov_ops_ref()->matmul(&plain, 1, 0, x->n, x->k, x->R, 1.0f, dy.value, ldy, in.value, ldx, 1.0f, dw.value, x->k),
      0);
  assert_int_equal(tested->linear_weight_gradient(p, (float *)dw.data, dy.data, ldy, in.data, ldx, x->R, x->n, x->k),
                   0);
  check_matrix("weight gradient", &dw, x->n, x->k, x->k, x->R);
  matrix_destroy(&dy);
  matrix_destroy(&in);
  matrix_destroy(&dw);
}

static void check_map(const map *x) {
  cov_place p = {.space = COV_SPACE_HOST, .dtype = x->dtype, .threads = x->threads};
  /* What the table asks for is for dense rows; rows with slack may need a little more, and then it must say so by not
   * touching what it was not given. */
  const int64_t bytes = tested->linear_scratch_bytes(&p, COV_F32, 1, x->R, x->n, x->k);
  assert_true(bytes >= 0);
  if (x->with_scratch) {
    p.scratch = test_fenced((size_t)bytes);
    p.scratch_bytes = bytes;
  }
  matrix w = matrix_create(COV_F32, x->n * x->k, 8);
  float *rounded = rounded_weights(x, &w);
  check_forward(x, &p, &w, rounded, x->dtype);
  check_forward(x, &p, &w, rounded, COV_F32);
  check_input_gradient(x, &p, &w, rounded, 0);
  check_input_gradient(x, &p, &w, rounded, 1);
  check_weight_gradient(x, &p);
  buffer_release(rounded);
  matrix_destroy(&w);
  if (p.scratch) assert_false(test_fence_broken(p.scratch));
  if (p.scratch) test_fenced_free(p.scratch);
}

static void check_maps(cov_dtype dtype) {
  static const int64_t sizes[][3] = {{1, 1, 1},     {1, 33, 31},  {7, 1, 33},     {33, 31, 1},  {64, 64, 64},
                                     {5, 200, 129}, {65, 96, 63}, {127, 129, 33}, {256, 65, 48}};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    for (int how = 0; how < 4; how++) {
      const map x = {dtype, sizes[i][0], sizes[i][1], sizes[i][2], 1 + (how & 1), how >> 1};
      check_map(&x);
    }
  }
}

static void test_ref(void **state) {
  (void)state;
  tested = cov_ops_ref();
  check_maps(COV_F32);
  check_maps(COV_BF16);
}

static void test_f32(void **state) {
  (void)state;
  tested = cov_ops_cpu();
  check_maps(COV_F32);
}

static void test_bf16(void **state) {
  (void)state;
  const char *why = cov_ops_cpu_refuses(COV_BF16);
  if (why) {
    printf("not run: %s\n", why);
    skip();
  }
  tested = cov_ops_cpu();
  check_maps(COV_BF16);
}

/* More shapes than are kept, twice over: the second time each one is made again. */
static void test_many_shapes(void **state) {
  (void)state;
  tested = cov_ops_cpu();
  for (int round = 0; round < 2; round++) {
    for (int64_t n = 1; n <= 24; n++) {
      const map x = {COV_F32, 3, n, 4, 1, 0};
      check_map(&x);
    }
  }
}

/* No rows: nothing is read or written. A width beyond the row length, a dtype or a place that it cannot run: -1. */
static void test_refusals(void **state) {
  (void)state;
  float a[4] = {1, 2, 3, 4}, b[4] = {0}, c[4] = {5, 6, 7, 8};
  const cov_place good = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  const cov_place bad[] = {{.space = COV_SPACE_DEVICE, .dtype = COV_F32, .threads = 1},
                           {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 0}};
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  for (int t = 0; t < 2; t++) {
    const cov_ops *ops = tables[t];
    assert_int_equal(ops->linear_forward(&good, c, 2, COV_F32, a, 2, b, 0, 2, 2), 0);
    assert_int_equal(ops->linear_input_gradient(&good, c, 2, 0, a, 2, b, 0, 2, 2), 0);
    assert_int_equal(ops->linear_weight_gradient(&good, c, a, 2, b, 2, 0, 2, 2), 0);
    assert_int_equal(ops->linear_forward(&good, c, 1, COV_F32, a, 2, b, 2, 2, 2), -1);
    assert_int_equal(ops->linear_input_gradient(&good, c, 2, 0, a, 1, b, 2, 2, 2), -1);
    assert_int_equal(ops->linear_weight_gradient(&good, c, a, 2, b, 1, 2, 2, 2), -1);
    assert_int_equal(ops->linear_forward(&good, c, 2, COV_BF16, a, 2, b, 2, 2, 2), -1);
    for (int i = 0; i < 2; i++) {
      assert_int_equal(ops->linear_bytes(&bad[i], COV_LINEAR_FORWARD, 2, 2), -1);
      assert_int_equal(ops->linear_prepare(&bad[i], COV_LINEAR_FORWARD, c, a, 2, 2), -1);
      assert_int_equal(ops->linear_forward(&bad[i], c, 2, COV_F32, a, 2, b, 2, 2, 2), -1);
      assert_int_equal(ops->linear_scratch_bytes(&bad[i], COV_F32, 1, 2, 2, 2), -1);
    }
    for (int i = 0; i < 4; i++) assert_true(c[i] == (float)(5 + i));
  }
}

/* Left to itself a run takes bf16 where that is faster, which is not wherever there are instructions for it. */
static void test_what_is_avoided(void **state) {
  (void)state;
  assert_null(covi_bf16_avoided(1, 1));
  assert_null(covi_bf16_avoided(1, 0));
  assert_null(covi_bf16_avoided(0, 0));
  assert_non_null(strstr(covi_bf16_avoided(0, 1), "without AMX"));
  assert_null(cov_ops_cpu_avoids(COV_F32));
  if (cov_ops_cpu_refuses(COV_BF16)) assert_string_equal(cov_ops_cpu_avoids(COV_BF16), cov_ops_cpu_refuses(COV_BF16));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ref),         cmocka_unit_test(test_f32),      cmocka_unit_test(test_bf16),
      cmocka_unit_test(test_many_shapes), cmocka_unit_test(test_refusals), cmocka_unit_test(test_what_is_avoided),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
