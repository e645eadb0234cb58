/* The entropy of indices that `bench codec` measures: even entries cost what the grid says, uneven rows or columns
 * less, whole chunks nothing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_entropy.h"
#include "sparse_cases.h"
#include "support.h"

enum { EDGE = 64, SIDE = 512, K = 64 };

static cov_params params;
static cov_grid grid;

static int set_up(void **state) {
  (void)state;
  static const sparse_shape shapes[] = {{"matrix", SIDE, SIDE}, {"gain", 0, 64}};
  sparse_params(&params, shapes, 2);
  return cov_grid_create(&params, EDGE, K, &grid) != COV_OK;
}

static int tear_down(void **state) {
  (void)state;
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
  return 0;
}

/* As evenly drawn as can be, but where a row, or column, of the matrix is one of `loud` in 16, `times` as likely. Bits
 * a value of the matrix; the gain is sent whole. */
static double bits_of(int by_column, int loud, double times) {
  uint16_t *index = calloc((size_t)grid.n_kept, sizeof *index);
  const cov_grid_tensor *gt = &grid.tensor[0];
  uint64_t drawn = 0;
  double bits;
  for (int64_t c = 0; c < gt->n_chunks; c++) {
    char taken[EDGE * EDGE] = {0};
    for (int have = 0; have < K;) {
      int i = (int)((test_random(1, drawn++) + 1) * 0.5 * EDGE * EDGE) % (EDGE * EDGE);
      int64_t elem = cov_grid_elem(gt, c, i), line = by_column ? elem % SIDE : elem / SIDE;
      double accept = line % 16 < loud ? 1 : 1 / times;
      if (taken[i] || (test_random(2, drawn) + 1) * 0.5 > accept) continue;
      taken[i] = 1;
      have++;
    }
    for (int i = 0, n = 0; i < EDGE * EDGE; i++) {
      if (taken[i]) index[gt->kept_first + c * K + n++] = (uint16_t)i;
    }
  }
  for (int i = 0; i < 64; i++) index[grid.tensor[1].kept_first + i] = (uint16_t)i;
  assert_ok(bench_entropy_indices(&grid, index, &bits));
  free(index);
  return bits / (double)gt->n_kept;
}

static void even_entries_cost_what_the_grid_says(void **state) {
  (void)state;
  double n = EDGE * EDGE, bound = (lgamma(n + 1) - lgamma(K + 1.0) - lgamma(n - K + 1)) / log(2) / K;
  assert_float_equal(bound, 7.364, 0.001);
  double bits = bits_of(0, 16, 1);
  print_message("even: %.3f bits, bound %.3f\n", bits, bound);
  assert_true(bits > 0.995 * bound && bits < 1.02 * bound);
}

/* One line of 16 has half of the entries, which is worth 0.5·log2 8 + 0.5·log2(8/15) = 1.05 bits an index, or four
 * have, worth 0.21. What it costs to learn that is paid out of it. */
static void uneven_lines_cost_less(void **state) {
  (void)state;
  double even = bits_of(0, 16, 1);
  for (int by_column = 0; by_column < 2; by_column++) {
    double bits = bits_of(by_column, 1, 15), some = bits_of(by_column, 4, 3);
    print_message("%s: %.3f bits, a little uneven %.3f\n", by_column ? "columns" : "rows", bits, some);
    assert_true(bits < even - 0.8);
    assert_true(some < even - 0.05 && some > bits);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(even_entries_cost_what_the_grid_says),
      cmocka_unit_test(uneven_lines_cost_less),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
