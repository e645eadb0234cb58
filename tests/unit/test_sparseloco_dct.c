/* The cosine transform of a chunk: against its formula, orthonormal, invertible, and the same bits everywhere. */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "sparseloco/dct.h"
#include "support.h"

enum { EDGE = 64 };

static cov_dct dct;
static float x[EDGE * EDGE], y[EDGE * EDGE], z[EDGE * EDGE];

static int set_up(void **state) {
  (void)state;
  return cov_dct_create(EDGE, &dct) != COV_OK;
}

static int tear_down(void **state) {
  (void)state;
  cov_dct_destroy(&dct);
  return 0;
}

static void fill(int n, uint64_t seed) {
  for (int i = 0; i < n; i++) x[i] = test_random(seed, (uint64_t)i);
}

static double formula(int n, int b, int i) {
  return sqrt((b == 0 ? 1.0 : 2.0) / n) * cos(M_PI * (2 * i + 1) * b / (2.0 * n));
}

static const int shapes[][2] = {{1, 1}, {1, 64}, {2, 3}, {5, 7}, {16, 24}, {61, 64}, {64, 64}, {48, 1}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void coefficients_are_those_of_the_formula(void **state) {
  (void)state;
  for (int s = 0; s < N_SHAPES; s++) {
    int h = shapes[s][0], w = shapes[s][1];
    fill(h * w, (uint64_t)s);
    cov_dct_forward(&dct, h, w, x, y);
    for (int b = 0; b < h; b += 1 + h / 5) {
      for (int d = 0; d < w; d += 1 + w / 5) {
        double want = 0;
        for (int i = 0; i < h; i++) {
          for (int j = 0; j < w; j++) want += (double)x[i * w + j] * formula(h, b, i) * formula(w, d, j);
        }
        assert_float_equal(y[b * w + d], want, 2e-6 * sqrt((double)(h * w)));
      }
    }
  }
}

static void the_inverse_brings_the_chunk_back(void **state) {
  (void)state;
  for (int s = 0; s < N_SHAPES; s++) {
    int n = shapes[s][0] * shapes[s][1];
    double before = 0, after = 0;
    fill(n, 100 + (uint64_t)s);
    cov_dct_forward(&dct, shapes[s][0], shapes[s][1], x, y);
    cov_dct_inverse(&dct, shapes[s][0], shapes[s][1], y, z);
    for (int i = 0; i < n; i++) {
      assert_float_equal(z[i], x[i], 4e-6);
      before += (double)x[i] * (double)x[i];
      after += (double)y[i] * (double)y[i];
    }
    assert_float_equal(after / before, 1.0, 1e-5); /* orthonormal: norms stay */
  }
}

/* A constant chunk has one coefficient, a single one spreads over all. */
static void known_chunks(void **state) {
  (void)state;
  for (int i = 0; i < 8 * 8; i++) x[i] = 0.5f;
  cov_dct_forward(&dct, 8, 8, x, y);
  assert_float_equal(y[0], 4.0, 1e-6);
  for (int i = 1; i < 64; i++) assert_float_equal(y[i], 0.0, 1e-6);
  memset(x, 0, sizeof x);
  x[0] = 1;
  cov_dct_inverse(&dct, 8, 8, x, y);
  for (int i = 0; i < 64; i++) assert_float_equal(y[i], 0.125, 1e-7);
}

/* All bases and one transform there and back: the digest of GCC 12 and Clang 14 at -O0 and -O3. */
static void bits_are_those_of_every_compiler(void **state) {
  (void)state;
  uint8_t digest[32];
  char text[65];
  fill(EDGE * EDGE, 7);
  cov_dct_forward(&dct, EDGE, EDGE, x, y);
  cov_dct_inverse(&dct, EDGE, EDGE, y, z);
  cov_blake2b hash;
  cov_blake2b_open(&hash, sizeof digest);
  cov_blake2b_add(&hash, dct.basis, sizeof(float) * EDGE * (EDGE + 1) * (2 * EDGE + 1) / 6);
  cov_blake2b_add(&hash, y, sizeof y);
  cov_blake2b_add(&hash, z, sizeof z);
  cov_blake2b_close(&hash, digest);
  cov_hex(digest, sizeof digest, text);
  assert_string_equal(text, "0d7aef79d690f65ba180b6f0b31c0b113b41bc6429f928da7609312d44db1cd7");
}

static void edges_out_of_range_are_refused(void **state) {
  (void)state;
  cov_dct none;
  assert_status(cov_dct_create(0, &none), COV_EUSAGE);
  assert_status(cov_dct_create(65, &none), COV_EUSAGE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(coefficients_are_those_of_the_formula),
      cmocka_unit_test(the_inverse_brings_the_chunk_back),
      cmocka_unit_test(known_chunks),
      cmocka_unit_test(bits_are_those_of_every_compiler),
      cmocka_unit_test(edges_out_of_range_are_refused),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
