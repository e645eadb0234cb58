/* covenant-test: np=1,2,4 timeout=60
 * The handshake on real ranks. Which program a rank is, is only what it says: one executable plays all. */
#include <string.h>

#include "comm/collective.h"
#include "comm/handshake.h"
#include "support.h"

static int rank, size;

static cov_rank_identity who(cov_program program, int peer, int peers, int shard, int shards) {
  return (cov_rank_identity){program, peer, peers, shard, shards, COV_PROTOCOL_VERSION, {42}};
}

/* size 1: one sync. 2: a peer of train and sync. 4: two peers of train and sync, in mixed order. */
static cov_rank_identity part_of_a_run(void) {
  if (size == 1) return who(COV_PROGRAM_SYNC, 0, 1, 0, 1);
  if (size == 2) return who(rank == 0 ? COV_PROGRAM_TRAIN : COV_PROGRAM_SYNC, 0, 1, 0, 1);
  static const int peer[] = {1, 0, 0, 1};
  return who(rank < 2 ? COV_PROGRAM_SYNC : COV_PROGRAM_TRAIN, peer[rank], 2, 0, 1);
}

static void a_run_gets_its_communicators(void **state) {
  (void)state;
  cov_comms c;
  cov_rank_identity me = part_of_a_run();
  assert_ok(cov_handshake(MPI_COMM_WORLD, &me, NULL, &c));
  assert_int_equal(c.world_rank, rank);
  assert_int_equal(c.n_peers, size == 4 ? 2 : 1);
  assert_int_equal(c.has_sync, 1);
  assert_int_equal(c.has_train, size > 1);
  assert_int_equal(c.has_eval, 0);
  assert_int_equal(c.gateway_rank[0], size == 1 ? 0 : 1);
  if (size == 4) assert_int_equal(c.gateway_rank[1], 0);
  int compared, n;
  MPI_Comm_compare(c.outer, MPI_COMM_WORLD, &compared);
  assert_int_equal(compared, MPI_CONGRUENT);
  MPI_Comm mine = me.program == COV_PROGRAM_SYNC ? c.sync : c.train;
  MPI_Comm other = me.program == COV_PROGRAM_SYNC ? c.train : c.sync;
  assert_true(mine != MPI_COMM_NULL && other == MPI_COMM_NULL && c.eval == MPI_COMM_NULL);
  MPI_Comm_size(mine, &n);
  assert_int_equal(n, 1);
  cov_comms_destroy(&c, 1);
  assert_null(c.gateway_rank);
}

/* All ranks are shards of one program: shards in reverse order of ranks. */
static void one_program_alone(cov_program program) {
  cov_comms c;
  cov_rank_identity me = who(program, 0, 1, size - 1 - rank, size);
  assert_ok(cov_handshake(MPI_COMM_WORLD, &me, NULL, &c));
  MPI_Comm mine = program == COV_PROGRAM_TRAIN ? c.train : program == COV_PROGRAM_SYNC ? c.sync : c.eval;
  int r, n;
  MPI_Comm_rank(mine, &r);
  MPI_Comm_size(mine, &n);
  assert_int_equal(r, size - 1 - rank);
  assert_int_equal(n, size);
  assert_int_equal(c.has_train, program == COV_PROGRAM_TRAIN);
  assert_int_equal(c.has_sync, program == COV_PROGRAM_SYNC);
  assert_int_equal(c.gateway_rank[0], program == COV_PROGRAM_SYNC ? size - 1 : -1);
  int64_t sum = 1;
  assert_ok(cov_coll_reduce_i64(mine, COV_COLL_SUM, &sum, 1, NULL));
  assert_int_equal(sum, size);
  cov_comms_destroy(&c, 1);
}

static void two_mpiruns_are_checked_for_what_they_have(void **state) {
  (void)state;
  one_program_alone(COV_PROGRAM_TRAIN);
  one_program_alone(COV_PROGRAM_SYNC);
  one_program_alone(COV_PROGRAM_EVAL);
}

/* The two-mpirun case, side by side: each half of the world is one mpirun. */
static void halves_do_not_disturb_each_other(void **state) {
  (void)state;
  if (size < 4) return;
  MPI_Comm half;
  cov_comms c;
  MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &half);
  cov_rank_identity me = who(rank % 2 ? COV_PROGRAM_TRAIN : COV_PROGRAM_SYNC, rank / 2, 2, 0, 1);
  assert_ok(cov_handshake(half, &me, NULL, &c));
  assert_int_equal(c.has_train, rank % 2);
  assert_int_equal(c.gateway_rank[1], rank % 2 ? -1 : 1);
  cov_comms_destroy(&c, 1);
  MPI_Comm_free(&half);
}

/* Everyone must get the same verdict and the same text. */
static void expect_refusal(cov_rank_identity me, cov_status want, const char *text) {
  cov_comms c;
  char mine[1024] = "", root[1024] = "";
  assert_status(cov_handshake(MPI_COMM_WORLD, &me, NULL, &c), want);
  assert_null(c.gateway_rank);
  assert_true(c.sync == MPI_COMM_NULL && c.train == MPI_COMM_NULL);
  snprintf(mine, sizeof mine, "%s", cov_error_text());
  memcpy(root, mine, sizeof root);
  assert_ok(cov_coll_bcast(MPI_COMM_WORLD, 0, root, sizeof root, NULL));
  assert_string_equal(mine, root);
  if (!strstr(mine, text)) fail_msg("'%s' does not say '%s'", mine, text);
}

static void bad_layouts_are_refused_by_all(void **state) {
  (void)state;
  const int last = rank == size - 1;
  cov_rank_identity me;
  expect_refusal(who(COV_PROGRAM_SYNC, 0, 1, 0, 2 * size), COV_EMISMATCH, "ranks; this mpirun has");
  expect_refusal(who(COV_PROGRAM_SYNC, 1, 1, 0, 1), COV_EUSAGE, "told to be peer 1");
  expect_refusal(who(COV_PROGRAM_TRAIN, 0, 1, -1, 1), COV_EUSAGE, "shard -1");
  if (size == 1) return;
  expect_refusal(who(COV_PROGRAM_SYNC, 0, 1, 0, 1), COV_EMISMATCH, "ranks 0 and 1 are both sync shard 0");
  me = part_of_a_run();
  if (last) me.config_digest[5] = 1;
  expect_refusal(me, COV_EMISMATCH, "different configurations");
  me = part_of_a_run();
  if (last) me.protocol_version++;
  expect_refusal(me, COV_EMISMATCH, "mixed releases");
  me = part_of_a_run();
  if (last) me.peers++;
  expect_refusal(me, COV_EMISMATCH, "was told of");
  if (size == 4) { /* the trains of both peers say they are peer 0's */
    me = part_of_a_run();
    if (me.program == COV_PROGRAM_TRAIN) me.peer = 0;
    expect_refusal(me, COV_EMISMATCH, "ranks 2 and 3 are both train shard 0 of peer 0");
  }
}

static void an_absent_rank_is_an_error_in_time(void **state) {
  (void)state;
  if (size == 1) return;
  MPI_Comm comm;
  cov_comms c;
  cov_wait soon = {0.05, NULL, NULL};
  assert_ok(cov_mpi_comm_dup(MPI_COMM_WORLD, NULL, &comm));
  cov_rank_identity me = part_of_a_run();
  if (rank > 0) assert_status(cov_handshake(comm, &me, &soon, &c), COV_ECOMM);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_run_gets_its_communicators),
      cmocka_unit_test(two_mpiruns_are_checked_for_what_they_have),
      cmocka_unit_test(halves_do_not_disturb_each_other),
      cmocka_unit_test(bad_layouts_are_refused_by_all),
      cmocka_unit_test(an_absent_rank_is_an_error_in_time),
  };
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  MPI_Finalize();
  return failed;
}
