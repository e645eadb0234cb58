/* State hash: its definition, its sensitivity, its independence of shards. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "sparse_cases.h"
#include "sparseloco/state_hash.h"
#include "support.h"

/* docs/numerics.md, section 6, written down again, in the opposite order. */
static uint64_t mix(uint64_t s, uint64_t i) {
  uint64_t z = s + (i + 1) * 0x9E3779B97F4A7C15u;
  z ^= z >> 30, z *= 0xBF58476D1CE4E5B9u;
  z ^= z >> 27, z *= 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

static void leaf_by_definition(const float *x, int64_t n, uint8_t leaf[16]) {
  static const uint64_t seeds[2][2] = {{0x636F76656E616E74u, 0x6F75746572206131u},
                                       {0x7374617465206861u, 0x7368206C616E6531u}};
  for (int lane = 0; lane < 2; lane++) {
    uint64_t sum = 0;
    for (int64_t i = n - 1; i >= 0; i--) {
      uint32_t bits;
      memcpy(&bits, &x[i], 4);
      sum += (mix(seeds[lane][1], (uint64_t)i / 4096) | 1) * ((mix(seeds[lane][0], (uint64_t)i % 4096) | 1) * bits);
    }
    for (int b = 0; b < 8; b++) leaf[8 * lane + b] = (uint8_t)(sum >> 8 * b);
  }
}

static void leaves_follow_their_definition(void **state) {
  (void)state;
  static const int64_t sizes[] = {0, 1, 2, 63, 4095, 4096, 4097, 12289};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int64_t n = sizes[s];
    float *x = malloc((size_t)n * sizeof *x + 4);
    uint8_t want[16], got[16];
    for (int64_t i = 0; i < n; i++) x[i] = test_random(3, (uint64_t)i);
    leaf_by_definition(x, n, want);
    cov_leaf_compute(x, n, got);
    assert_memory_equal(got, want, 16);
    for (int64_t i = 0; i < n; i += 1 + n / 97) { /* any single bit shows in both lanes */
      for (int bit = 0; bit < 32; bit++) {
        uint32_t bits, old;
        memcpy(&old, &x[i], 4);
        bits = old ^ (uint32_t)1 << bit;
        memcpy(&x[i], &bits, 4);
        cov_leaf_compute(x, n, got);
        assert_memory_not_equal(got, want, 8);
        assert_memory_not_equal(got + 8, want + 8, 8);
        memcpy(&x[i], &old, 4);
      }
      if (n > 64) break;
    }
    if (n >= 2) { /* the order counts */
      float swapped = x[0];
      x[0] = x[n - 1], x[n - 1] = swapped;
      cov_leaf_compute(x, n, got);
      assert_memory_not_equal(got, want, 16);
    }
    free(x);
  }
}

static void hash_of(const cov_grid *grid, const float *theta, int G, uint8_t *leaves, uint8_t hash[32]) {
  uint8_t *gathered = malloc((size_t)grid->n_bands * COV_LEAF_BYTES), *at = gathered;
  for (int g = 0; g < G; g++) {
    cov_shard shard;
    assert_ok(cov_shard_create(grid, g, G, &shard));
    if (g % 2) { /* from a buffer of the shard's own, too */
      float *own = malloc((size_t)shard.elems * sizeof *own + 4);
      cov_shard_copy(&shard, own, COV_LAYOUT_SHARD, theta, COV_LAYOUT_SPAN);
      cov_shard_leaves(&shard, own, COV_LAYOUT_SHARD, at);
      free(own);
    } else {
      cov_shard_leaves(&shard, theta, COV_LAYOUT_SPAN, at);
    }
    at += shard.n_bands * COV_LEAF_BYTES;
    cov_shard_destroy(&shard);
  }
  size_t bytes = (size_t)(at - gathered);
  assert_ok(cov_leaves_assemble(grid, G, gathered, bytes, leaves));
  assert_status(cov_leaves_assemble(grid, G, gathered, bytes - 16, leaves), COV_EBUG);
  cov_state_hash(grid, leaves, hash);
  free(gathered);
}

static void a_difference_names_its_tensor(void **state) {
  (void)state;
  cov_params params;
  cov_grid grid;
  sparse_params(&params, sparse_mixed, sparse_n_mixed);
  assert_ok(cov_grid_create(&params, 16, 24, &grid));
  size_t bytes = (size_t)grid.n_bands * COV_LEAF_BYTES;
  uint8_t *leaves = malloc(bytes), *other = malloc(bytes), want[32], got[32];
  float *theta = sparse_random(&params, 1, 1, 2);
  hash_of(&grid, theta, 1, leaves, want);
  for (int G = 2; G <= 8; G++) {
    hash_of(&grid, theta, G, other, got);
    assert_memory_equal(got, want, 32);
    assert_memory_equal(other, leaves, bytes);
  }
  for (int t = 0; t < grid.n; t++) {
    float *at = &theta[params.item[t].offset + params.item[t].elems - 1], old = *at;
    *at = *at == 0.5f ? 0.25f : 0.5f;
    hash_of(&grid, theta, 3, other, got);
    assert_memory_not_equal(got, want, 32);
    for (int u = 0; u < grid.n; u++) {
      uint8_t a[16], b[16];
      cov_tensor_hash(&grid, leaves, u, a);
      cov_tensor_hash(&grid, other, u, b);
      assert_int_equal(memcmp(a, b, 16) != 0, u == t);
    }
    *at = old;
  }
  params.item[0].name[0] = 'E'; /* names and shapes count */
  cov_state_hash(&grid, leaves, got);
  assert_memory_not_equal(got, want, 32);
  free(leaves), free(other), free(theta);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

/* A pinned value: a change of the definition is a change of format. */
static void the_hash_is_pinned(void **state) {
  (void)state;
  static const sparse_shape one = {"norm.weight", 0, 4};
  cov_params params;
  cov_grid grid;
  sparse_params(&params, &one, 1);
  assert_ok(cov_grid_create(&params, 64, 64, &grid));
  static const float theta[16] = {1.0f, -2.0f, 0.5f, 0.0f};
  uint8_t leaves[16], leaf[16], hash[32], record[128], want[32];
  hash_of(&grid, theta, 1, leaves, hash);
  leaf_by_definition(theta, 4, leaf);
  assert_memory_equal(leaves, leaf, 16);
  size_t n = 0;
  static const uint8_t before_leaves[] = "covenant state 1"
                                         "\x01\0\0\0"
                                         "\x0b\0\0\0"
                                         "norm.weight"
                                         "\x01\0\0\0"
                                         "\x01\0\0\0\0\0\0\0"
                                         "\x04\0\0\0\0\0\0\0"
                                         "\x01\0\0\0"
                                         "\x04\0\0\0"
                                         "\x01\0\0\0\0\0\0\0";
  memcpy(record, before_leaves, sizeof before_leaves - 1), n += sizeof before_leaves - 1;
  memcpy(record + n, leaf, 16), n += 16;
  cov_hash(record, n, 32, want);
  assert_memory_equal(hash, want, 32);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(leaves_follow_their_definition),
      cmocka_unit_test(a_difference_names_its_tensor),
      cmocka_unit_test(the_hash_is_pinned),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
