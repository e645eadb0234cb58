/* The verdict of the handshake on tables of ranks, without MPI: also what one machine cannot show (several hosts). */
#include <string.h>

#include "comm/handshake_table.h"
#include "support.h"

enum { PEERS = 2, TRAINS = 2, SYNCS = 1, N = PEERS * (TRAINS + SYNCS) + 1 };

static void put(cov_presence *t, cov_program program, int peer, int shard, int shards) {
  cov_rank_identity me = {program, peer, PEERS, shard, shards, COV_PROTOCOL_VERSION, {1, 2, 3}};
  cov_presence_make(&me, t);
  snprintf(t->host.host, sizeof t->host.host, "node%d", peer);
}

/* Two peers of two train and one sync rank on a node each, one eval rank with peer 0. */
static void good(cov_presence *t) {
  int n = 0;
  for (int p = 0; p < PEERS; p++) {
    put(&t[n++], COV_PROGRAM_TRAIN, p, 1, TRAINS);
    put(&t[n++], COV_PROGRAM_SYNC, p, 0, SYNCS);
    put(&t[n++], COV_PROGRAM_TRAIN, p, 0, TRAINS);
  }
  put(&t[n++], COV_PROGRAM_EVAL, 0, 0, 1);
  assert_int_equal(n, N);
}

static void a_good_table_passes(void **state) {
  (void)state;
  cov_presence t[N];
  int rank[N];
  good(t);
  assert_ok(cov_presence_check(t, N));
  assert_int_equal(cov_presence_ranks(t, N, COV_PROGRAM_TRAIN, 1, rank), 2);
  assert_int_equal(rank[0], 5);
  assert_int_equal(rank[1], 3);
  assert_int_equal(cov_presence_ranks(t, N, COV_PROGRAM_SYNC, 0, rank), 1);
  assert_int_equal(rank[0], 1);
}

static void half_a_run_passes(void **state) {
  (void)state;
  cov_presence t[N], half[N];
  good(t);
  for (int program = 0; program < COV_PROGRAM_COUNT; program++) {
    int n = 0;
    for (int r = 0; r < N; r++) {
      if (t[r].program == program) half[n++] = t[r];
    }
    assert_ok(cov_presence_check(half, n));
  }
}

static void expect(cov_presence *t, int n, cov_status want, const char *text) {
  assert_status(cov_presence_check(t, n), want);
  if (!strstr(cov_error_text(), text)) fail_msg("'%s' does not say '%s'", cov_error_text(), text);
}

static void each_fault_is_named(void **state) {
  (void)state;
  cov_presence t[N];
  good(t);
  t[4].config_digest[31] = 9;
  expect(t, N, COV_EMISMATCH, "rank 4 (sync, peer 1)");
  good(t);
  t[2].protocol_version++;
  expect(t, N, COV_EMISMATCH, "rank 2 (train)");
  good(t);
  t[3].peers = 3;
  expect(t, N, COV_EMISMATCH, "rank 3 (train, peer 1) of 3");
  good(t);
  t[0].program = 7;
  expect(t, N, COV_EUSAGE, "rank 0 is of no known program");
  good(t);
  t[5].peer = 2;
  expect(t, N, COV_EUSAGE, "rank 5 (train) was told to be peer 2");
  good(t);
  t[5].peer = -1;
  expect(t, N, COV_EUSAGE, "peer -1");
  good(t);
  t[5].shard = 2;
  expect(t, N, COV_EUSAGE, "shard 2 of 2");
  good(t);
  t[0].shard = 0;
  expect(t, N, COV_EMISMATCH, "ranks 0 and 2 are both train shard 0 of peer 0");
}

static void a_missing_rank_is_named(void **state) {
  (void)state;
  cov_presence t[N];
  good(t);
  t[5] = t[6]; /* train 0 of peer 1 becomes the eval rank */
  expect(t, N - 1, COV_EMISMATCH, "no rank is train shard 0 of peer 1");
  good(t);
  t[1].shards = t[4].shards = 1000000;
  expect(t, N, COV_EMISMATCH, "need 2000000 ranks");
  good(t);
  for (int r = 0; r < N; r++) t[r].peers = COV_HANDSHAKE_PEERS_MAX + 1;
  expect(t, N, COV_EUSAGE, "4097 peers");
  good(t);
  t[3].shards = 3;
  expect(t, N, COV_EMISMATCH, "rank 3 (train, peer 1) was told of 3 shards");
}

static void a_peer_across_hosts_is_refused(void **state) {
  (void)state;
  cov_presence t[N];
  good(t);
  strcpy(t[4].host.host, "node9");
  expect(t, N, COV_EMISMATCH, "peer 1 is torn apart");
  good(t);
  strcpy(t[2].host.pidns, "pid:[1]");
  expect(t, N, COV_EMISMATCH, "peer 0 is torn apart");
  good(t);
  memset(t[6].host.boot, 'x', sizeof t[6].host.boot); /* no end of string */
  expect(t, N, COV_EMISMATCH, "rank 6 (eval 0)");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_good_table_passes),
      cmocka_unit_test(half_a_run_passes),
      cmocka_unit_test(each_fault_is_named),
      cmocka_unit_test(a_missing_rank_is_named),
      cmocka_unit_test(a_peer_across_hosts_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
