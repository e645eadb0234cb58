/* The parameter table and its initial values: generator, distribution, the fixed bits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "model/deviate.h"
#include "model/params.h"
#include "support.h"

static cov_param tensor(const char *name, int64_t rows, int64_t cols, cov_init init, float std, float bound) {
  cov_param t = {.dims = rows == 1 ? 1 : 2, .rows = rows, .cols = cols, .decay = 1, .init = init};
  snprintf(t.name, sizeof t.name, "%s", name);
  t.init_std = std;
  t.init_bound = bound;
  return t;
}

static void add(cov_params *params, const char *name, int64_t rows, int64_t cols, cov_init init, float std,
                float bound) {
  cov_param t = tensor(name, rows, cols, init, std, bound);
  assert_ok(cov_params_add(params, &t));
}

static void philox_matches_its_published_vectors(void **state) {
  (void)state;
  /* Random123 1.09, kat_vectors, philox4x32 with 10 rounds. */
  static const struct {
    uint32_t counter[4], key[2], out[4];
  } cases[] = {{{0, 0, 0, 0}, {0, 0}, {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}},
               {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}},
               {{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u},
                {0xa4093822u, 0x299f31d0u},
                {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint32_t out[4];
    cov_philox(cases[i].counter, cases[i].key, out);
    assert_memory_equal(out, cases[i].out, sizeof out);
  }
}

static void the_quantile_inverts_the_distribution(void **state) {
  (void)state;
  assert_true(cov_normal_quantile(0.5) == 0.0);
  /* Phi(x) = erfc(-x / sqrt 2) / 2 of the C library; relative in the lower tail, where it is accurate. */
  for (int i = 0; i <= 8200; i++) {
    double x = -8.2 + 0.001 * i, p = 0.5 * erfc(-x / sqrt(2.0));
    double slope = exp(-0.5 * x * x) / sqrt(2.0 * acos(-1.0));
    double bound = 4e-16 * p / slope + 4e-15 * (1.0 + fabs(x)); /* of p's own rounding and of the approximation */
    if (fabs(cov_normal_quantile(p) - x) > bound)
      fail_msg("quantile of %g: %.17g, want %.17g", p, cov_normal_quantile(p), x);
  }
  for (double p = 0.001; p < 0.5; p += 0.001) {
    assert_true(fabs(cov_normal_quantile(p) + cov_normal_quantile(1.0 - p)) < 1e-13);
  }
  /* Percentage points given by Wichura (AS 241) for checking. */
  assert_true(fabs(cov_normal_quantile(0.25) - -0.6744897501960817) < 1e-15);
  assert_true(fabs(cov_normal_quantile(0.001) - -3.090232306167814) < 1e-14);
  assert_true(fabs(cov_normal_quantile(1e-20) - -9.262340089798408) < 1e-13);
}

static void moments_are_those_of_a_normal_variable(void **state) {
  (void)state;
  enum { N = 1000000 };
  double sum[5] = {0};
  int64_t beyond2 = 0;
  for (uint64_t i = 0; i < N; i++) {
    double x = cov_normal_deviate(7, i, 0), power = 1.0;
    for (int k = 1; k <= 4; k++) sum[k] += power *= x;
    beyond2 += fabs(x) > 2.0;
  }
  /* Five standard errors each: sqrt(1, 2, 15, 96 / N). */
  assert_true(fabs(sum[1] / N) < 5.0 * sqrt(1.0 / N));
  assert_true(fabs(sum[2] / N - 1.0) < 5.0 * sqrt(2.0 / N));
  assert_true(fabs(sum[3] / N) < 5.0 * sqrt(15.0 / N));
  assert_true(fabs(sum[4] / N - 3.0) < 5.0 * sqrt(96.0 / N));
  double tail = erfc(sqrt(2.0));
  assert_true(fabs((double)beyond2 / N - tail) < 5.0 * sqrt(tail * (1.0 - tail) / N));
  /* Neighbours, and the same element of another stream, are independent. */
  double next = 0.0, other = 0.0;
  for (uint64_t i = 0; i < N; i++) {
    next += cov_normal_deviate(7, i, 0) * cov_normal_deviate(7, i + 1, 0);
    other += cov_normal_deviate(7, i, 0) * cov_normal_deviate(8, i, 0);
  }
  assert_true(fabs(next / N) < 5.0 * sqrt(1.0 / N));
  assert_true(fabs(other / N) < 5.0 * sqrt(1.0 / N));
}

/* A space with every kind of initial value and with padding. */
static void make_space(cov_params *params) {
  cov_params_create(params);
  add(params, "tok_embeddings.weight", 301, 33, COV_INIT_NORMAL, 1.0f, 0.0f);
  add(params, "layers.0.attention.wq.weight", 33, 33, COV_INIT_NORMAL, 0.02f, 2.0f);
  add(params, "layers.0.attention_norm.weight", 1, 33, COV_INIT_ONE, 0.0f, 0.0f);
  add(params, "bias", 1, 5, COV_INIT_ZERO, 0.0f, 0.0f);
  add(params, "output.weight", 301, 33, COV_INIT_NORMAL, 0.17f, 0.2f);
}

static void initial_values_have_fixed_bits(void **state) {
  (void)state;
  cov_params params;
  make_space(&params);
  float *theta = malloc((size_t)params.span * sizeof *theta);
  assert_non_null(theta);
  assert_ok(cov_params_init(&params, 42, theta));
  uint8_t digest[32], *bytes = malloc((size_t)params.span * 4);
  assert_non_null(bytes);
  for (int64_t i = 0; i < params.span; i++) { /* little-endian, whatever the machine */
    uint32_t bits;
    memcpy(&bits, &theta[i], 4);
    for (int b = 0; b < 4; b++) bytes[4 * i + b] = (uint8_t)(bits >> (8 * b));
  }
  char text[65];
  cov_hash(bytes, (size_t)params.span * 4, 32, digest);
  cov_hex(digest, 32, text);
  /* The same from an independent Python model (hashlib, statistics.NormalDist) and from this code with gcc 12 and
   * clang 14 at -O0 and -O3; every run of every peer starts from these bits. */
  assert_string_equal(text, "b92fe9fbd29c2bfe0f92bfe4e239de4dd0c549f2ceedf2163d7dd8c66c2be309");
  free(bytes);
  free(theta);
  cov_params_destroy(&params);
}

static void values_obey_deviation_bound_and_padding(void **state) {
  (void)state;
  cov_params params;
  make_space(&params);
  float *theta = malloc((size_t)params.span * sizeof *theta);
  assert_non_null(theta);
  memset(theta, 0xA5, (size_t)params.span * sizeof *theta);
  assert_ok(cov_params_init(&params, 1, theta));
  for (int i = 0; i < params.n; i++) {
    const cov_param *t = &params.item[i];
    int64_t end = i + 1 < params.n ? params.item[i + 1].offset : params.span;
    for (int64_t e = t->offset + t->elems; e < end; e++) assert_true(theta[e] == 0.0f);
    double squares = 0.0, largest = 0.0;
    for (int64_t e = 0; e < t->elems; e++) {
      double x = (double)theta[t->offset + e];
      squares += x * x;
      if (fabs(x) > largest) largest = fabs(x);
    }
    double rms = sqrt(squares / (double)t->elems);
    if (t->init == COV_INIT_ONE) assert_true(rms == 1.0);
    if (t->init == COV_INIT_ZERO) assert_true(rms == 0.0);
    if (t->init != COV_INIT_NORMAL) continue;
    double a = t->init_bound > 0.0f ? (double)t->init_bound / (double)t->init_std : 40.0;
    /* Variance of a normal variable cut at +-a deviations. */
    double density = exp(-0.5 * a * a) / sqrt(2.0 * acos(-1.0)), inside = erf(a / sqrt(2.0));
    double want = (double)t->init_std * sqrt(1.0 - 2.0 * a * density / inside);
    assert_true(fabs(rms / want - 1.0) < 5.0 / sqrt(2.0 * (double)t->elems));
    if (t->init_bound > 0.0f) assert_true(largest <= (double)t->init_bound);
    if (a < 2.0) assert_true(largest > 0.98 * (double)t->init_bound);
  }
  free(theta);
  cov_params_destroy(&params);
}

static void streams_depend_on_seed_and_name_alone(void **state) {
  (void)state;
  cov_params one, two;
  cov_params_create(&one);
  cov_params_create(&two);
  add(&one, "a", 4, 8, COV_INIT_NORMAL, 1.0f, 0.0f);
  add(&two, "b", 2, 8, COV_INIT_NORMAL, 1.0f, 0.0f);
  add(&two, "a", 4, 8, COV_INIT_NORMAL, 1.0f, 0.0f);
  float x[32], y[48], z[32];
  assert_ok(cov_params_init(&one, 5, x));
  assert_ok(cov_params_init(&two, 5, y));
  assert_ok(cov_params_init(&one, 6, z));
  assert_memory_equal(x, y + 16, sizeof x);
  for (int i = 0; i < 16; i++) assert_true(x[i] != y[i]);
  for (int i = 0; i < 32; i++) assert_true(x[i] != z[i]);
  cov_params_destroy(&one);
  cov_params_destroy(&two);
}

static void the_table_lays_tensors_out(void **state) {
  (void)state;
  cov_params params;
  make_space(&params);
  assert_int_equal(params.n, 5);
  assert_int_equal(params.elems, 301 * 33 * 2 + 33 * 33 + 33 + 5);
  assert_int_equal(params.item[1].offset, (301 * 33 + 15) / 16 * 16);
  for (int i = 0; i < params.n; i++) assert_int_equal(params.item[i].offset % COV_PARAM_ALIGN_ELEMS, 0);
  assert_int_equal(params.item[4].offset - params.item[3].offset, 16);
  assert_int_equal(params.span % COV_PARAM_ALIGN_ELEMS, 0);
  assert_int_equal(cov_params_find(&params, "bias"), 3);
  assert_int_equal(cov_params_find(&params, "bia"), -1);
  cov_params_destroy(&params);
  assert_int_equal(params.n, 0);
}

static void the_table_refuses_bad_tensors(void **state) {
  (void)state;
  cov_params params;
  cov_params_create(&params);
  add(&params, "a", 2, 2, COV_INIT_ZERO, 0.0f, 0.0f);
  cov_param bad[] = {tensor("a", 2, 2, COV_INIT_ZERO, 0.0f, 0.0f),
                     tensor("", 2, 2, COV_INIT_ZERO, 0.0f, 0.0f),
                     tensor("b", 0, 2, COV_INIT_ZERO, 0.0f, 0.0f),
                     tensor("b", 2, -1, COV_INIT_ZERO, 0.0f, 0.0f),
                     tensor("b", (int64_t)1 << 40, (int64_t)1 << 40, COV_INIT_ZERO, 0.0f, 0.0f),
                     tensor("b", 2, (int64_t)1 << 55, COV_INIT_ZERO, 0.0f, 0.0f),
                     tensor("b", 2, 2, COV_INIT_NORMAL, NAN, 0.0f),
                     tensor("b", 2, 2, COV_INIT_NORMAL, 1.0f, 0.4f),
                     tensor("b", 2, 2, COV_INIT_NORMAL, 1.0f, NAN)};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_status(cov_params_add(&params, &bad[i]), COV_EUSAGE);
  cov_param unended = tensor("b", 2, 2, COV_INIT_ZERO, 0.0f, 0.0f), flat = unended;
  memset(unended.name, 'x', sizeof unended.name);
  assert_status(cov_params_add(&params, &unended), COV_EUSAGE);
  flat.dims = 1;
  assert_status(cov_params_add(&params, &flat), COV_EUSAGE);
  assert_int_equal(params.n, 1);
  cov_params_destroy(&params);
}

static void the_digest_names_the_space(void **state) {
  (void)state;
  struct {
    const char *names[2];
    int64_t rows, cols;
  } spaces[] = {{{"a", "b"}, 2, 3}, {{"b", "a"}, 2, 3}, {{"a", "bb"}, 2, 3}, {{"a", "b"}, 3, 2}, {{"aa", "b"}, 2, 3}};
  enum { N = sizeof spaces / sizeof *spaces };
  uint8_t digest[N][32], again[32];
  for (int s = 0; s < N; s++) {
    cov_params params;
    cov_params_create(&params);
    for (int i = 0; i < 2; i++) add(&params, spaces[s].names[i], spaces[s].rows, spaces[s].cols, COV_INIT_ZERO, 0, 0);
    cov_params_digest(&params, digest[s]);
    cov_params_digest(&params, again);
    assert_memory_equal(digest[s], again, 32);
    for (int o = 0; o < s; o++) assert_memory_not_equal(digest[s], digest[o], 32);
    cov_params_destroy(&params);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(philox_matches_its_published_vectors),
      cmocka_unit_test(the_quantile_inverts_the_distribution),
      cmocka_unit_test(moments_are_those_of_a_normal_variable),
      cmocka_unit_test(initial_values_have_fixed_bits),
      cmocka_unit_test(values_obey_deviation_bound_and_padding),
      cmocka_unit_test(streams_depend_on_seed_and_name_alone),
      cmocka_unit_test(the_table_lays_tensors_out),
      cmocka_unit_test(the_table_refuses_bad_tensors),
      cmocka_unit_test(the_digest_names_the_space),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
