/* Fixed point, exact statistics, codes at rounding borders, tables. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/fixed.h"
#include "support.h"

static void fixed_point_follows_its_definition(void **state) {
  (void)state;
  static const float values[] = {0.0f, 1.0f, 1.5f, -1.5f, 3.14159f, 0.001f, 1e-20f, FLT_MIN, FLT_TRUE_MIN, -65536.0f};
  for (size_t m = 0; m < sizeof values / sizeof *values; m++) {
    int exponent = cov_fixed_exponent(cov_float_bits(values[m]) & COV_MAGNITUDE_MASK);
    double unit = ldexp(1, exponent - 158);
    assert_true(cov_fixed_unit(exponent) == unit);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
      if (fabsf(values[i]) > fabsf(values[m])) continue;
      double want = trunc((double)values[i] / unit);
      assert_true((double)cov_fixed_value(cov_float_bits(values[i]), exponent) == want);
      assert_true(cov_fixed_magnitude(cov_float_bits(values[i]), exponent) <= 0xFFFFFFFFu);
    }
  }
}

/* The largest tensor with the largest values: no word overflows, and the deviation is still exact. */
static void statistics_hold_at_the_limits(void **state) {
  (void)state;
  int64_t n = INT32_MAX, half = n / 2, q = 0xFFFFFFFFu;
  uint64_t square = (uint64_t)q * (uint64_t)q;
  int64_t hi = n * (int64_t)(square >> 32), lo = n * (int64_t)(square & 0xFFFFFFFFu);
  assert_true(hi > 0 && lo > 0 && n * q > 0);
  assert_true(cov_fixed_deviation(n * q, hi, lo, n, 158) == 0); /* all equal: exactly zero */
  int64_t sum = (half + 1) * q - half * q;                      /* as many minus as plus, but for one */
  double want = sqrt((double)q * (double)q);
  double got = cov_fixed_deviation(sum, hi, lo, n, 158);
  assert_true(fabs(got - want) < 1e-9 * want);
  assert_true(cov_fixed_deviation(-sum, hi, lo, n, 158) == got);
  /* A tiny spread on a large mean, where doubles would cancel to nothing: values a, a+1 alternating. */
  int64_t a = 4000000000, pairs = 1000000;
  uint64_t sa = (uint64_t)a * (uint64_t)a, sb = (uint64_t)(a + 1) * (uint64_t)(a + 1);
  hi = pairs * (int64_t)((sa >> 32) + (sb >> 32));
  lo = pairs * (int64_t)((sa & 0xFFFFFFFFu) + (sb & 0xFFFFFFFFu));
  got = cov_fixed_deviation(pairs * (2 * a + 1), hi, lo, 2 * pairs, 158);
  want = sqrt(0.25 * (2.0 * (double)pairs) / (2.0 * (double)pairs - 1));
  assert_true(fabs(got - want) < 1e-15);
  assert_true(cov_fixed_norm(0, 9, 158) == 3 && cov_fixed_norm(1, 0, 158) == 65536);
  assert_true(cov_fixed_norm(0xFFFFFFFF, 0x100000000, 158) == 4294967296.0); /* a carry into the upper half */
}

static float step_ulps(float x, int ulps) {
  for (; ulps > 0; ulps--) x = nextafterf(x, INFINITY);
  for (; ulps < 0; ulps++) x = nextafterf(x, -INFINITY);
  return x;
}

static void codes_round_half_to_even_at_every_border(void **state) {
  (void)state;
  const cov_quantiser *q = cov_quantiser_get(COV_QUANT_REFERENCE);
  static const int bins_tried[] = {2, 3, 4, 16, 255, 256};
  static const float shifts[] = {0.0f, 0.125f, -0.3f, 1e-30f}, scales[] = {1.0f, 0.0107f, 3e-39f, 4096.0f};
  int halves = 0;
  for (size_t n = 0; n < sizeof bins_tried / sizeof *bins_tried; n++) {
    int bins = bins_tried[n];
    cov_quant_params params = {.id = COV_QUANT_REFERENCE, .bins = bins, .range = 6};
    for (size_t s = 0; s < 16; s++) {
      cov_quant_stats stats = {.n = 1, .exponent = 127, .shift = shifts[s % 4], .scale = scales[s / 4]};
      for (int b = -2; b <= bins + 1; b++) {
        for (int ulps = -3; ulps <= 3; ulps++) {
          float v = step_ulps(stats.shift + ((float)(b - bins / 2) + 0.5f) * stats.scale, ulps);
          float centred = v - stats.shift, steps = centred / stats.scale, t = steps + (float)(bins / 2);
          float want = nearbyintf(t); /* ties to even in the default mode */
          if (want < 0) want = 0;
          if (want > (float)(bins - 1)) want = (float)(bins - 1);
          uint8_t code = 77;
          q->codes(&params, &stats, &v, 1, &code);
          assert_int_equal(code, (int)want);
          halves += t - floorf(t) == 0.5f;
        }
      }
    }
  }
  assert_true(halves > 100); /* the borders were really hit */
}

/* Moments of random tensors against long double, and bins against a direct mean. */
static void reference_table_is_the_mean_of_each_bin(void **state) {
  (void)state;
  enum { N = 5000 };
  const cov_quantiser *q = cov_quantiser_get(COV_QUANT_REFERENCE);
  cov_quant_params params = {.id = COV_QUANT_REFERENCE, .bins = 4, .range = 6};
  float v[N], table[4];
  uint8_t code[N];
  uint32_t largest = 0;
  long double sum = 0, squares = 0;
  for (int i = 0; i < N; i++) {
    v[i] = ldexpf(test_random(5, (uint64_t)i), i % 5) * 0.01f + 0.02f;
    uint32_t m = cov_float_bits(v[i]) & COV_MAGNITUDE_MASK;
    if (m > largest) largest = m;
    sum += v[i];
  }
  for (int i = 0; i < N; i++) squares += (v[i] - sum / N) * (v[i] - sum / N);
  cov_quant_stats stats = {.n = N, .exponent = cov_fixed_exponent(largest)};
  int64_t words[3] = {0, 0, 0}, counts[4] = {0}, sums[4] = {0};
  q->moments(v, 2000, stats.exponent, words);
  q->moments(v + 2000, N - 2000, stats.exponent, words);
  q->fit(&params, words, &stats);
  assert_true(fabsl(stats.shift - sum / N) < 1e-9L);
  assert_true(fabsl(stats.scale - 1.5L * sqrtl(squares / (N - 1))) < 1e-8L);
  q->codes(&params, &stats, v, N, code);
  cov_quant_count(v, code, N, stats.exponent, params.bins, counts, sums);
  q->table(&params, &stats, counts, sums, table);
  for (int b = 0; b < 4; b++) {
    long double of_bin = 0;
    int64_t n = 0;
    for (int i = 0; i < N; i++) {
      if (code[i] == b) of_bin += v[i], n++;
    }
    assert_int_equal(n, counts[b]);
    if (n > 0) assert_true(fabsl(table[b] - of_bin / n) < 1e-8L);
    else assert_true(table[b] == 0);
  }
}

static void degenerate_tensors_have_scale_one(void **state) {
  (void)state;
  const cov_quantiser *q = cov_quantiser_get(COV_QUANT_REFERENCE);
  cov_quant_params params = {.id = COV_QUANT_REFERENCE, .bins = 4, .range = 6};
  static const float one = -3.0f, same[4] = {2.5f, 2.5f, 2.5f, 2.5f};
  cov_quant_stats stats = {.n = 1, .exponent = 128};
  int64_t words[3] = {0, 0, 0};
  q->moments(&one, 1, 128, words);
  q->fit(&params, words, &stats);
  assert_true(stats.shift == -3.0f && stats.scale == 1.0f);
  memset(words, 0, sizeof words);
  stats = (cov_quant_stats){.n = 4, .exponent = 128};
  q->moments(same, 4, 128, words);
  q->fit(&params, words, &stats);
  assert_true(stats.shift == 2.5f && stats.scale == 1.0f);
}

static void sign1_has_one_magnitude(void **state) {
  (void)state;
  const cov_quantiser *q = cov_quantiser_get(COV_QUANT_SIGN1);
  cov_quant_params params = {.id = COV_QUANT_SIGN1, .bins = 2};
  static const float v[6] = {1.0f, -2.0f, 3.0f, -0.0f, 0.0f, -6.0f};
  static const uint8_t want[6] = {1, 0, 1, 0, 1, 0};
  uint8_t code[6];
  float table[2];
  int64_t words = 0;
  cov_quant_stats stats = {.n = 6, .exponent = cov_fixed_exponent(cov_float_bits(6.0f))};
  q->moments(v, 6, stats.exponent, &words);
  q->fit(&params, &words, &stats);
  q->codes(&params, &stats, v, 6, code);
  q->table(&params, &stats, NULL, NULL, table);
  assert_memory_equal(code, want, sizeof want);
  assert_true(table[1] == 2.0f && table[0] == -2.0f);
}

/* Large: above the mean magnitude. The magnitudes are means of their own. */
static void sign2_has_two_magnitudes(void **state) {
  (void)state;
  const cov_quantiser *q = cov_quantiser_get(COV_QUANT_SIGN2);
  cov_quant_params params = {.id = COV_QUANT_SIGN2, .bins = 4};
  static const float v[8] = {1.0f, -2.0f, 3.0f, -0.0f, 0.0f, -6.0f, 4.0f, 8.0f}; /* mean magnitude 3 */
  static const uint8_t want[8] = {2, 1, 2, 1, 2, 0, 3, 3};
  uint8_t code[8];
  float table[4];
  int64_t words = 0, counts[4] = {0}, sums[4] = {0};
  cov_quant_stats stats = {.n = 8, .exponent = cov_fixed_exponent(cov_float_bits(8.0f))};
  q->moments(v, 8, stats.exponent, &words);
  q->fit(&params, &words, &stats);
  assert_true(stats.scale == 3.0f);
  q->codes(&params, &stats, v, 8, code);
  assert_memory_equal(code, want, sizeof want);
  cov_quant_count(v, code, 8, stats.exponent, 4, counts, sums);
  q->table(&params, &stats, counts, sums, table);
  assert_true(table[3] == 6.0f && table[0] == -6.0f); /* 6, 4, 8 */
  assert_true(fabsf(table[2] - 1.2f) < 1e-7f && table[1] == -table[2]);
  memset(counts, 0, sizeof counts), memset(sums, 0, sizeof sums);
  q->table(&params, &stats, counts, sums, table);
  for (int b = 0; b < 4; b++) assert_true(cov_float_bits(table[b]) == 0);
}

static void parameters_are_checked(void **state) {
  (void)state;
  cov_quant_params p = {.id = COV_QUANT_REFERENCE, .bins = 1, .range = 6};
  assert_status(cov_quant_verify(&p), COV_EUSAGE);
  p.bins = 257;
  assert_status(cov_quant_verify(&p), COV_EUSAGE);
  p.bins = 256;
  assert_ok(cov_quant_verify(&p));
  p.range = NAN;
  assert_status(cov_quant_verify(&p), COV_EUSAGE);
  p = (cov_quant_params){.id = (cov_quant_id)9};
  assert_status(cov_quant_verify(&p), COV_EUSAGE);
  assert_int_equal(cov_quant_code_bits(COV_QUANT_SIGN1, 2), 1);
  assert_int_equal(cov_quant_code_bits(COV_QUANT_REFERENCE, 4), 2);
  assert_int_equal(cov_quant_code_bits(COV_QUANT_REFERENCE, 5), 3);
  assert_int_equal(cov_quant_code_bits(COV_QUANT_REFERENCE, 256), 8);
  assert_int_equal(cov_quant_code_bits(COV_QUANT_NONE, 0), 32);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(fixed_point_follows_its_definition),
      cmocka_unit_test(statistics_hold_at_the_limits),
      cmocka_unit_test(codes_round_half_to_even_at_every_border),
      cmocka_unit_test(reference_table_is_the_mean_of_each_bin),
      cmocka_unit_test(degenerate_tensors_have_scale_one),
      cmocka_unit_test(sign1_has_one_magnitude),
      cmocka_unit_test(sign2_has_two_magnitudes),
      cmocka_unit_test(parameters_are_checked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
