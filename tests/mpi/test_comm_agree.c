/* covenant-test: np=1,2,4 timeout=60
 * Ranks fail together: everyone gets the worst status and knows whose it was. */
#include <string.h>

#include "comm/agree.h"
#include "support.h"

static int rank, size;

static void all_well(void **state) {
  (void)state;
  assert_ok(cov_agree(MPI_COMM_WORLD, COV_OK, NULL));
}

static void one_failure_is_everybodys(void **state) {
  (void)state;
  for (int bad = 0; bad < size; bad++) {
    char text[80];
    cov_status mine = COV_OK;
    COV_FAIL(COV_EIO, "something older");
    if (rank == bad) mine = COV_FAIL(COV_EDATA, "shard %d is short", rank);
    assert_status(cov_agree(MPI_COMM_WORLD, mine, NULL), COV_EDATA);
    if (rank == bad) {
      snprintf(text, sizeof text, "shard %d is short", bad);
    } else {
      snprintf(text, sizeof text, "rank %d of %d failed: shard %d is short", bad, size, bad);
    }
    assert_string_equal(cov_error_text(), text);
    assert_int_equal(cov_error_second_hand(), rank != bad);
  }
}

static void the_worst_wins(void **state) {
  (void)state;
  /* Rank r brings status r (COV_OK on 0): the highest rank's is the worst. */
  cov_status mine = rank == 0 ? COV_OK : COV_FAIL((cov_status)rank, "from rank %d", rank);
  cov_status all = cov_agree(MPI_COMM_WORLD, mine, NULL);
  assert_int_equal(all, size - 1);
  if (rank > 0) { /* who failed keeps its own text */
    char text[40];
    snprintf(text, sizeof text, "from rank %d", rank);
    assert_string_equal(cov_error_text(), text);
  }
  /* A tie: the lowest rank explains. */
  if (size > 1) {
    mine = rank >= size - 2 && rank > 0 ? COV_FAIL(COV_EIO, "disk of rank %d", rank) : COV_OK;
    assert_status(cov_agree(MPI_COMM_WORLD, mine, NULL), COV_EIO);
    assert_int_equal(cov_error_second_hand(), rank != (size > 2 ? size - 2 : 1)); /* and is the only one to say so */
    if (mine == COV_OK && size > 2) assert_non_null(strstr(cov_error_text(), "disk of rank 2"));
  }
}

static void an_absent_rank_is_an_error_in_time(void **state) {
  (void)state;
  if (size == 1) return;
  MPI_Comm comm;
  assert_ok(cov_mpi_comm_dup(MPI_COMM_WORLD, NULL, &comm));
  cov_wait soon = {0.05, NULL, NULL};
  if (rank != 0) assert_status(cov_agree(comm, COV_OK, &soon), COV_ECOMM); /* rank 0 never comes */
  /* `comm` is lost now, on purpose */
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_well),
      cmocka_unit_test(one_failure_is_everybodys),
      cmocka_unit_test(the_worst_wins),
      cmocka_unit_test(an_absent_rank_is_an_error_in_time),
  };
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  MPI_Finalize();
  return failed;
}
