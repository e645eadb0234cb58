/* covenant-test: timeout=60
 * The generator and the assignment of samples against protocol.md V17, V18, V19 and the sampler rows of section 9. */
#include <stdlib.h>
#include <string.h>

#include "data/assign.h"
#include "data/pcg64.h"
#include "support.h"

static void doubles_and_bounded_integers_are_numpys(void **state) {
  (void)state;
  cov_pcg64 g;
  cov_pcg64_open(&g, 42);
  assert_true(cov_pcg64_double(&g) == .7739560485559633);
  cov_pcg64_open(&g, 0);
  assert_true(cov_pcg64_double(&g) == .6369616873214543);
  static const uint32_t want[10] = {0, 7, 6, 4, 4, 8, 0, 6, 2, 0};
  cov_pcg64_open(&g, 42);
  for (int i = 0; i < 10; i++) assert_int_equal(cov_pcg64_upto(&g, 9), want[i]);
}

static void halves_come_low_first(void **state) {
  (void)state;
  cov_pcg64 a, b;
  cov_pcg64_open(&a, 7);
  cov_pcg64_open(&b, 7);
  uint64_t x = cov_pcg64_next64(&a);
  assert_int_equal(cov_pcg64_next32(&b), (uint32_t)x);
  assert_int_equal(cov_pcg64_next64(&b), cov_pcg64_next64(&a)); /* the buffered half stays where it is */
  assert_int_equal(cov_pcg64_next32(&b), (uint32_t)(x >> 32));
  cov_pcg64 before = a;
  assert_int_equal(cov_pcg64_upto(&a, 0), 0);
  assert_memory_equal(&a, &before, sizeof a); /* no draw */
  assert_int_equal(cov_pcg64_upto(&a, UINT32_MAX), (uint32_t)cov_pcg64_next64(&before));
}

typedef struct {
  uint64_t peer, round;
  int64_t n, k;
  uint32_t seed;
  int64_t first[8], last, sum; /* last, sum: -1 where the source gives none */
  const char *digest;
} assignment;

static const assignment v18[] = {
    {42,
     0,
     10000,
     160,
     42000126,
     {3489, 2028, 2295, 696, 2253, 7087, 1110, 8246},
     7996,
     829288,
     "8654472931c5b3e3e74c7a5dc397c002"},
    {7,
     100,
     52428800,
     30720,
     6999985,
     {4282090, 8720039, 34169233, 1536054, 29156191, 41260303, 49891453, 15046998},
     42704986,
     807516472345,
     "c023aded31f63b684b8f6410cae561db"},
    {7,
     100,
     1000000,
     30720,
     6999985,
     {917708, 938926, 899610, 479985, 346189, 839958, 260605, 353038},
     782060,
     15406851774,
     "7ae2abbdc55cab2f1cf8e955763c4851"},
    {1, 57000, 50, 8, 1023211, {6, 1, 18, 33, 35, 7, 30, 25}, 25, -1, "6629c253e8f700e9e25be5bf4aebd9a7"},
};

static void assignments_are_the_original_ones(void **state) {
  (void)state;
  for (size_t v = 0; v < sizeof v18 / sizeof *v18; v++) {
    const assignment *a = &v18[v];
    cov_assign_params p = {a->n, a->k, 1};
    char digest[COV_DIGEST_TEXT];
    int64_t sum = 0;
    int64_t *pool = test_fenced((size_t)a->k * sizeof *pool);
    assert_int_equal(cov_assign_seed(a->peer, a->round), a->seed);
    assert_ok(cov_assign_pool(&p, a->peer, a->round, pool));
    for (int i = 0; i < 8; i++) assert_int_equal(pool[i], a->first[i]);
    for (int64_t i = 0; i < a->k; i++) sum += pool[i];
    assert_int_equal(pool[a->k - 1], a->last);
    if (a->sum >= 0) assert_int_equal(sum, a->sum);
    assert_ok(cov_assign_digest(pool, a->k, digest));
    assert_string_equal(digest, a->digest);
    assert_false(test_fence_broken(pool));
    test_fenced_free(pool);
  }
}

/* Both methods: k different numbers below n, also for k = n. */
static void a_choice_is_without_repetition(void **state) {
  (void)state;
  static const int64_t sizes[][2] = {{1, 1},       {2, 2},       {50, 50},      {10000, 10000},
                                     {10001, 200}, {10001, 201}, {10001, 10001}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int64_t n = sizes[s][0], k = sizes[s][1];
    int64_t *ids = test_fenced((size_t)k * sizeof *ids);
    char *seen = calloc(1, (size_t)n);
    assert_non_null(seen);
    assert_ok(cov_assign_choose(n, k, 12345, ids));
    for (int64_t i = 0; i < k; i++) {
      assert_in_range(ids[i], 0, n - 1);
      assert_int_equal(seen[ids[i]]++, 0);
    }
    assert_false(test_fence_broken(ids));
    test_fenced_free(ids);
    free(seen);
  }
}

static void ranks_share_the_consumed_part(void **state) {
  (void)state;
  cov_assign_params p = {5000, 320, 192};
  int64_t pool[320], ids[192];
  assert_ok(cov_assign_pool(&p, 3, 9, pool));
  for (int n_ranks = 1; n_ranks <= 7; n_ranks++) {
    int64_t total = 0;
    for (int r = 0; r < n_ranks; r++) {
      int64_t n = cov_assign_share(&p, r, n_ranks);
      cov_assign_slice(&p, pool, r, n_ranks, ids);
      for (int64_t i = 0; i < n; i++) assert_int_equal(ids[i], pool[r + i * n_ranks]);
      total += n;
      if (n > 0) assert_in_range(r + (n - 1) * n_ranks, 0, 191);
    }
    assert_int_equal(total, 192);
  }
  assert_int_equal(cov_assign_share(&(cov_assign_params){10, 10, 2}, 3, 4), 0);
}

static void an_evaluation_is_part_of_the_pool(void **state) {
  (void)state;
  cov_assign_params p = {5000, 160, 160};
  int64_t pool[160], ids[8], again[8];
  assert_ok(cov_assign_pool(&p, 5, 2, pool));
  uint32_t seed = cov_assign_subset_seed(5, 2, 1700000000123456789u);
  assert_int_equal(seed, (5 * 0x9E3779B1u ^ 2u ^ (uint32_t)1700000000123456789u));
  assert_ok(cov_assign_subset(pool, 160, 8, seed, ids));
  assert_ok(cov_assign_subset(pool, 160, 8, seed, again));
  assert_memory_equal(ids, again, sizeof ids);
  for (int i = 0; i < 8; i++) {
    int found = 0;
    for (int j = 0; j < 160; j++) found += pool[j] == ids[i];
    assert_int_equal(found, 1);
    for (int j = 0; j < i; j++) assert_int_not_equal(ids[i], ids[j]);
  }
  assert_status(cov_assign_subset(pool, 7, 8, seed, ids), COV_EUSAGE);
}

static void impossible_sizes_are_refused(void **state) {
  (void)state;
  int64_t ids[4] = {1, -2, 3, 4};
  char digest[COV_DIGEST_TEXT];
  assert_status(cov_assign_pool(&(cov_assign_params){100, 101, 1}, 0, 0, ids), COV_EUSAGE);
  assert_non_null(strstr(cov_error_text(), "Training pool larger than dataset"));
  assert_status(cov_assign_verify(&(cov_assign_params){100, 50, 51}), COV_EUSAGE);
  assert_non_null(strstr(cov_error_text(), "Window needs 51"));
  assert_status(cov_assign_verify(&(cov_assign_params){0, 0, 0}), COV_EUSAGE);
  assert_status(cov_assign_verify(&(cov_assign_params){((int64_t)1 << 32) + 1, 4, 4}), COV_EUSAGE);
  assert_status(cov_assign_choose(3, 4, 0, ids), COV_EUSAGE);
  assert_status(cov_assign_choose(-1, 0, 0, ids), COV_EUSAGE);
  assert_status(cov_assign_digest(ids, 4, digest), COV_EUSAGE);
}

static void the_digest_does_not_depend_on_order(void **state) {
  (void)state;
  char a[COV_DIGEST_TEXT], b[COV_DIGEST_TEXT];
  assert_ok(cov_assign_digest((int64_t[]){5, 1, 1000000007}, 3, a));
  assert_ok(cov_assign_digest((int64_t[]){1000000007, 5, 1}, 3, b));
  assert_string_equal(a, b);
  assert_ok(cov_assign_digest((int64_t[]){1000000007, 5, 2}, 3, b));
  assert_string_not_equal(a, b);
}

static void shards_rotate_as_in_v19(void **state) {
  (void)state;
  static const int64_t rows[][5] = {/* step, per shard, reset, epoch, index */
                                    {25, 10, -1, 0, 2},     {20, 10, 30, 0, 2},     {35, 10, 30, 1, 0},
                                    {50, 10, 30, 1, 2},     {30, 10, 30, 1, 0},     {29, 10, 30, 0, 2},
                                    {99, 0, -1, 0, 0},      {99, -5, 30, 0, 0},     {0, 455, 4040, 0, 0},
                                    {455, 455, 4040, 0, 1}, {4039, 455, 4040, 0, 8}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    int epoch = -1;
    int64_t index = -1;
    cov_assign_rotation(rows[i][0], rows[i][1], rows[i][2], &epoch, &index);
    assert_int_equal(epoch, rows[i][3]);
    assert_int_equal(index, rows[i][4]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(doubles_and_bounded_integers_are_numpys),
      cmocka_unit_test(halves_come_low_first),
      cmocka_unit_test(assignments_are_the_original_ones),
      cmocka_unit_test(a_choice_is_without_repetition),
      cmocka_unit_test(ranks_share_the_consumed_part),
      cmocka_unit_test(an_evaluation_is_part_of_the_pool),
      cmocka_unit_test(impossible_sizes_are_refused),
      cmocka_unit_test(the_digest_does_not_depend_on_order),
      cmocka_unit_test(shards_rotate_as_in_v19),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
