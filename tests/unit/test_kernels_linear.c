/* covenant-test: timeout=60
 * Matrix products (library and plain loops) and embedding: cpu against ref. */
#include "kernels_check.h"

typedef struct {
  int ta, tb;
  int64_t m, n, k;
  float alpha, beta;
} product;

/* 4 k 2^-24: k roundings of partial sums of size about 1. */
static double product_bound(int64_t k) {
  return 4.0 * (double)(k + 1) * 0x1p-24;
}

static void check_product(const product *x, int plain) {
  const cov_ops *ref = cov_ops_ref();
  cov_place p = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  /* Longer rows than the matrices need, each by another amount. */
  int64_t lda = (x->ta ? x->m : x->k) + 3, ldb = (x->tb ? x->k : x->n) + 5, ldc = x->n + 7;
  int64_t rows_a = x->ta ? x->k : x->m, rows_b = x->tb ? x->n : x->k;
  float *a = buffer_random(rows_a * lda, 1), *b = buffer_random(rows_b * ldb, 2), *c = buffer_random(x->m * ldc, 3);
  /* With beta = 0 the old content must not be read. */
  for (int64_t i = 0; x->beta == 0 && i < x->m * ldc; i++) c[i] = i % ldc < x->n ? NAN : c[i];
  float *want = buffer_copy(c, x->m * ldc);
  if (plain) {
    covi_loops_get()->matmul(x->ta, x->tb, x->m, x->n, x->k, x->alpha, a, lda, b, ldb, x->beta, c, ldc);
  } else {
    assert_int_equal(
        cov_ops_cpu()->matmul(&p, x->ta, x->tb, x->m, x->n, x->k, x->alpha, a, lda, b, ldb, x->beta, c, ldc), 0);
  }
  assert_int_equal(ref->matmul(&p, x->ta, x->tb, x->m, x->n, x->k, x->alpha, a, lda, b, ldb, x->beta, want, ldc), 0);
  for (int64_t i = 0; i < x->m; i++) {
    check_close("matmul", c + i * ldc, want + i * ldc, x->n, 1.0, product_bound(x->k));
    check_same("matmul, beyond the row", c + i * ldc + x->n, want + i * ldc + x->n, ldc - x->n);
  }
  float *all[] = {a, b, c, want};
  for (int i = 0; i < 4; i++) buffer_release(all[i]);
}

static void check_products(int plain) {
  static const int64_t dims[][3] = {{1, 1, 1},     {1, 33, 31},  {31, 1, 33},    {33, 31, 1},
                                    {32, 32, 32},  {64, 65, 63}, {127, 129, 33}, {5, 200, 129},
                                    {65, 128, 64}, {33, 63, 32}, {3, 127, 17}};
  static const float alphas[] = {1.0f, 0.5f, 1.0f}, betas[] = {0.0f, 1.0f, -0.5f};
  for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
    for (int form = 0; form < 4; form++) {
      for (int f = 0; f < 3; f++) {
        product x = {form & 1, form >> 1, dims[d][0], dims[d][1], dims[d][2], alphas[f], betas[f]};
        check_product(&x, plain);
      }
    }
  }
}

static void test_matmul(void **state) {
  (void)state;
  check_products(0);
}

static void check_plain(void) {
  check_products(1);
}

static void test_matmul_plain(void **state) {
  (void)state;
  each_width(check_plain);
}

static void test_matmul_empty(void **state) {
  (void)state;
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  for (int i = 0; i < 2; i++) {
    cov_place p = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
    float x[2] = {1, 2}, c[2] = {3, NAN};
    assert_int_equal(tables[i]->matmul(&p, 0, 0, 1, 1, 0, 1, x, 1, x, 1, 0.5f, c, 1), 0);
    assert_true(c[0] == 1.5f && isnan(c[1]));
    assert_int_equal(tables[i]->matmul(&p, 0, 0, 0, 1, 1, 1, x, 1, x, 1, 0, c, 1), 0);
    assert_true(c[0] == 1.5f);
    assert_int_equal(tables[i]->matmul(&p, 0, 0, 1, 1, 0, 1, x, 1, x, 1, 0, c + 1, 1), 0);
    assert_true(c[1] == 0.0f);
  }
}

/* The order of the sum is part of the contract, so the tables agree exactly, for any number of threads. */
static void check_embed(void) {
  static const int64_t widths[] = {1, 31, 32, 33, 257};
  enum { V = 7, R = 301 };
  const cov_ops *ref = cov_ops_ref(), *cpu = cov_ops_cpu();
  int32_t ids[R];
  for (int r = 0; r < R; r++) ids[r] = (int32_t)((test_random(9, (uint64_t)r) + 1.0f) * 0.5f * V);
  for (int threads = 1; threads <= 3; threads++) {
    cov_place p = place_create(cpu, threads, 1, 1, 2);
    for (int s = 0; s < 5; s++) {
      int64_t D = widths[s];
      float *table = buffer_random(V * D, 1), *x = buffer_random(R * D, 2), *want = buffer_random(R * D, 3);
      assert_int_equal(cpu->embed_forward(&p, x, ids, table, R, D), 0);
      assert_int_equal(ref->embed_forward(&p, want, ids, table, R, D), 0);
      check_same("embed_forward", x, want, R * D);
      float *dx = buffer_random(R * D, 4), *dtable = buffer_copy(table, V * D);
      assert_int_equal(cpu->embed_backward(&p, dtable, ids, dx, R, D), 0);
      assert_int_equal(ref->embed_backward(&p, table, ids, dx, R, D), 0);
      check_same("embed_backward", dtable, table, V * D);
      float *all[] = {table, x, want, dx, dtable};
      for (int i = 0; i < 5; i++) buffer_release(all[i]);
    }
    place_destroy(&p);
  }
}

static void test_embed(void **state) {
  (void)state;
  each_width(check_embed);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_matmul),
      cmocka_unit_test(test_matmul_plain),
      cmocka_unit_test(test_matmul_empty),
      cmocka_unit_test(test_embed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
