/* covenant-test: np=1,2,4 timeout=120
 * Polled collectives: results at awkward sizes and beyond one piece (64 MiB), deadlines, poll callbacks. */
#include <stdlib.h>
#include <string.h>

#include "comm/collective.h"
#include "support.h"

static int rank, size;

/* A byte that names its place. */
static uint8_t pattern(int owner, size_t i) {
  return (uint8_t)((i * 2654435761u >> 13) + (size_t)owner * 37);
}

static void fill(uint8_t *data, size_t n, int owner) {
  for (size_t i = 0; i < n; i++) data[i] = pattern(owner, i);
}

static size_t count_wrong(const uint8_t *data, size_t n, int owner) {
  size_t wrong = 0;
  for (size_t i = 0; i < n; i++) wrong += data[i] != pattern(owner, i);
  return wrong;
}

static void barriers_hold(void **state) {
  (void)state;
  for (int i = 0; i < 20; i++) assert_ok(cov_coll_barrier(MPI_COMM_WORLD, NULL));
}

static void broadcast_reaches_everyone(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 4097, ((size_t)64 << 20) + 5}; /* the last: two pieces */
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int root = (int)s % size;
    uint8_t *data = test_fenced(sizes[s]);
    if (rank == root) fill(data, sizes[s], root);
    assert_ok(cov_coll_bcast(MPI_COMM_WORLD, root, data, sizes[s], NULL));
    assert_int_equal(count_wrong(data, sizes[s], root), 0);
    assert_false(test_fence_broken(data));
    test_fenced_free(data);
  }
}

static void integers_are_reduced_exactly(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 3, ((size_t)8 << 20) + 3}; /* the last: two pieces */
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    size_t n = sizes[s];
    int64_t *v = test_fenced(n * 8);
    uint64_t *u = test_fenced(n * 8);
    int64_t wrong = 0;
    for (size_t i = 0; i < n; i++) v[i] = (int64_t)(i + 1) * (rank + 1) * (i % 2 ? -1 : 1) * 1000003;
    for (size_t i = 0; i < n; i++) u[i] = UINT64_MAX - (uint64_t)((rank + (int)(i % 7)) % size);
    assert_ok(cov_coll_reduce_i64(MPI_COMM_WORLD, COV_COLL_SUM, v, n, NULL));
    assert_ok(cov_coll_reduce_u64(MPI_COMM_WORLD, COV_COLL_MAX, u, n, NULL));
    int64_t ranks = (int64_t)size * (size + 1) / 2;
    for (size_t i = 0; i < n; i++) wrong += v[i] != (int64_t)(i + 1) * ranks * (i % 2 ? -1 : 1) * 1000003;
    for (size_t i = 0; i < n; i++) wrong += u[i] != UINT64_MAX;
    assert_int_equal(wrong, 0);
    assert_false(test_fence_broken(v) || test_fence_broken(u));
    test_fenced_free(v);
    test_fenced_free(u);
  }
  int64_t m = -5 - rank;
  uint64_t w = 1;
  assert_ok(cov_coll_reduce_i64(MPI_COMM_WORLD, COV_COLL_MAX, &m, 1, NULL));
  assert_ok(cov_coll_reduce_u64(MPI_COMM_WORLD, COV_COLL_SUM, &w, 1, NULL));
  assert_int_equal(m, -5);
  assert_int_equal(w, size);
}

static void everyone_gathers(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 333, ((size_t)33 << 20) + 1}; /* the last: several pieces from two ranks on */
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    size_t n = sizes[s];
    uint8_t *mine = malloc(n + 1), *all = test_fenced(n * (size_t)size);
    fill(mine, n, rank);
    assert_ok(cov_coll_allgather(MPI_COMM_WORLD, mine, n, all, NULL));
    for (int r = 0; r < size; r++) assert_int_equal(count_wrong(all + (size_t)r * n, n, r), 0);
    assert_false(test_fence_broken(all));
    free(mine);
    test_fenced_free(all);
  }
}

static void pieces_of_any_length_gather_at_the_root(void **state) {
  (void)state;
  for (int root = 0; root < size; root++) {
    size_t n = rank % 2 ? 0 : (rank == 0 ? ((size_t)65 << 20) + 3 : (size_t)1000 + (size_t)root);
    uint8_t *mine = malloc(n + 1);
    size_t room = 0, counts[8] = {0};
    for (int r = 0; r < size; r += 2) room += r == 0 ? ((size_t)65 << 20) + 3 : (size_t)1000 + (size_t)root;
    uint8_t *all = rank == root ? test_fenced(room) : NULL;
    fill(mine, n, rank);
    assert_ok(cov_coll_gatherv(MPI_COMM_WORLD, root, mine, n, all, room, rank == root ? counts : NULL, NULL));
    size_t at = 0;
    for (int r = 0; r < size && rank == root; r++) {
      assert_int_equal(counts[r], r % 2 ? 0 : (r == 0 ? ((size_t)65 << 20) + 3 : (size_t)1000 + (size_t)root));
      assert_int_equal(count_wrong(all + at, counts[r], r), 0);
      at += counts[r];
    }
    if (rank == root) {
      assert_int_equal(at, room);
      assert_false(test_fence_broken(all));
      test_fenced_free(all);
    }
    free(mine);
  }
}

static void what_does_not_fit_fails_everywhere(void **state) {
  (void)state;
  uint8_t mine[10] = {0}, all[4 * 10 - 1];
  size_t counts[8];
  assert_status(cov_coll_gatherv(MPI_COMM_WORLD, 0, mine, 10, all, 10 * (size_t)size - 1, counts, NULL), COV_EBUG);
  assert_ok(cov_coll_barrier(MPI_COMM_WORLD, NULL)); /* the communicator is still good */
}

static cov_status count_polls(void *arg) {
  ++*(int *)arg;
  return COV_OK;
}

static cov_status give_up(void *arg) {
  return ++*(int *)arg < 3 ? COV_OK : COV_FAIL(COV_EUSAGE, "stop requested");
}

static void waits_poll_then_end(void **state) {
  (void)state;
  if (size == 1) return;
  MPI_Comm comm;
  assert_ok(cov_mpi_comm_dup(MPI_COMM_WORLD, NULL, &comm));
  if (rank == 0) return; /* stays away from `comm`, which is lost for the others */
  int polls = 0, calls = 0;
  cov_wait soon = {0.05, count_polls, &polls}, poll = {3600, give_up, &calls};
  assert_status(cov_coll_barrier(comm, &soon), COV_ECOMM);
  assert_true(polls > 8);
  assert_status(cov_coll_barrier(comm, &poll), COV_EUSAGE);
  assert_int_equal(calls, 3);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(barriers_hold),
      cmocka_unit_test(broadcast_reaches_everyone),
      cmocka_unit_test(integers_are_reduced_exactly),
      cmocka_unit_test(everyone_gathers),
      cmocka_unit_test(pieces_of_any_length_gather_at_the_root),
      cmocka_unit_test(what_does_not_fit_fails_everywhere),
      cmocka_unit_test(waits_poll_then_end),
  };
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  MPI_Finalize();
  return failed;
}
