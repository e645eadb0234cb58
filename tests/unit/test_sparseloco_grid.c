/* The chunk grid: splits, k, the two maps between elements and chunks, shards that partition the space. */
#include <stdlib.h>
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/select.h"
#include "support.h"

static void small_chunks_keep_what_they_can(void **state) {
  (void)state;
  static const int cases[][3] = {{64, 4096, 64}, {64, 1, 1}, {64, 2, 2}, {64, 3, 2},     {64, 63, 62},
                                 {1, 64, 2},     {7, 64, 6}, {5, 5, 4},  {4096, 64, 64}, {1, 1, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    assert_int_equal(cov_grid_topk(cases[i][0], cases[i][1]), cases[i][2]);
}

static void every_element_is_in_one_chunk(void **state) {
  (void)state;
  static const int edges[] = {1, 5, 8, 64};
  cov_params params;
  sparse_params(&params, sparse_mixed, sparse_n_mixed);
  for (size_t e = 0; e < sizeof edges / sizeof *edges; e++) {
    cov_grid grid;
    assert_ok(cov_grid_create(&params, edges[e], 64, &grid));
    for (int t = 0; t < grid.n; t++) {
      const cov_grid_tensor *gt = &grid.tensor[t];
      unsigned char *seen = calloc((size_t)gt->elems, 1);
      assert_int_equal(gt->n_chunks * gt->chunk_elems, gt->elems);
      assert_int_equal(gt->n_bands * gt->band_elems, gt->elems);
      for (int64_t c = 0; c < gt->n_chunks; c++) {
        for (int i = 0; i < gt->chunk_elems; i++) {
          int64_t elem = cov_grid_elem(gt, c, i), back_c;
          int back_i;
          assert_in_range(elem, 0, gt->elems - 1);
          assert_int_equal(seen[elem]++, 0);
          assert_int_equal(elem / gt->band_elems, c / gt->X); /* chunks of a band lie in it */
          cov_grid_locate(gt, elem, &back_c, &back_i);
          assert_int_equal(back_c, c);
          assert_int_equal(back_i, i);
        }
      }
      free(seen);
    }
    cov_grid_destroy(&grid);
  }
  sparse_params_free(&params);
}

static void shards_partition_the_space(void **state) {
  (void)state;
  cov_params params;
  cov_grid grid;
  sparse_params(&params, sparse_mixed, sparse_n_mixed);
  assert_ok(cov_grid_create(&params, 16, 32, &grid));
  for (int G = 1; G <= 9; G++) {
    int64_t bands = 0, kept = 0, *next = calloc((size_t)grid.n, sizeof *next);
    for (int g = 0; g < G; g++) {
      cov_shard shard;
      assert_ok(cov_shard_create(&grid, g, G, &shard));
      int64_t own_kept = 0;
      for (int t = 0; t < grid.n; t++) {
        const cov_shard_part *part = &shard.part[t];
        assert_int_equal(part->elem, next[t]);
        assert_int_equal(part->packed % COV_PARAM_ALIGN_ELEMS, 0);
        assert_true(part->packed + part->elems <= shard.elems);
        assert_int_equal(part->kept, own_kept);
        next[t] += part->elems;
        own_kept += part->n_kept;
      }
      assert_int_equal(own_kept, shard.n_kept);
      bands += shard.n_bands;
      kept += shard.n_kept;
      cov_shard_destroy(&shard);
    }
    assert_int_equal(bands, grid.n_bands);
    assert_int_equal(kept, grid.n_kept);
    for (int t = 0; t < grid.n; t++) assert_int_equal(next[t], grid.tensor[t].elems);
    free(next);
  }
  cov_shard shard;
  assert_status(cov_shard_create(&grid, 2, 2, &shard), COV_EUSAGE);
  cov_grid_destroy(&grid);
  assert_status(cov_grid_create(&params, 65, 64, &grid), COV_EUSAGE);
  assert_status(cov_grid_create(&params, 64, 0, &grid), COV_EUSAGE);
  sparse_params_free(&params);
  static const sparse_shape huge = {"huge", 1 << 20, 1 << 20}; /* keeps all: 2^40 values */
  sparse_params(&params, &huge, 1);
  assert_status(cov_grid_create(&params, 8, 64, &grid), COV_EUSAGE);
  sparse_params_free(&params);
}

/* Reference selection: an element is kept if fewer than k others beat it. */
static void select_slowly(const uint32_t *m, int n, int k, uint16_t *index) {
  for (int i = 0, kept = 0; i < n; i++) {
    int better = 0;
    for (int j = 0; j < n; j++) better += m[j] > m[i] || (m[j] == m[i] && j < i);
    if (better < k) index[kept++] = (uint16_t)i;
  }
}

static void selection_is_exact_for_any_hint(void **state) {
  (void)state;
  static const int sizes[] = {1, 2, 3, 31, 64, 257, 1000, 4096};
  static const uint32_t hints[] = {0, 1, 0x3F000000u, 0x3F7FFFFFu, 0x7F7FFFFFu, 0xFFFFFFFFu};
  uint32_t m[4096];
  uint16_t want[4096], got[4097];
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int n = sizes[s];
    for (int kind = 0; kind < 4; kind++) {
      for (int i = 0; i < n; i++) {
        float r = test_random(17 + (uint64_t)kind, (uint64_t)(n * 5000 + i));
        if (kind == 0) memcpy(&m[i], &r, 4);                     /* spread */
        if (kind == 1) m[i] = (uint32_t)(8 * (r + 1));           /* many ties */
        if (kind == 2) m[i] = 0;                                 /* nothing but ties */
        if (kind == 3) m[i] = i % 2 ? 0x7F7FFFFFu : (uint32_t)i; /* the largest that occurs, and subnormals */
        m[i] &= 0x7FFFFFFFu;
      }
      static const int wanted[] = {1, 2, 64, 4095};
      for (size_t w = 0; w < 4; w++) {
        int k = wanted[w] < n ? wanted[w] : n;
        select_slowly(m, n, k, want);
        for (size_t h = 0; h < sizeof hints / sizeof *hints; h++) {
          uint32_t hint = hints[h];
          got[k] = 0xBEEF;
          cov_select_topk(m, n, k, &hint, got);
          assert_memory_equal(got, want, (size_t)k * sizeof *got);
          assert_int_equal(got[k], 0xBEEF);
          cov_select_topk(m, n, k, &hint, got); /* with the hint it left */
          assert_memory_equal(got, want, (size_t)k * sizeof *got);
        }
      }
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_chunks_keep_what_they_can),
      cmocka_unit_test(every_element_is_in_one_chunk),
      cmocka_unit_test(shards_partition_the_space),
      cmocka_unit_test(selection_is_exact_for_any_hint),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
