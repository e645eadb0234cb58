/* covenant-test: timeout=600
 * Processes of a real run are killed with SIGKILL in mid-round: their peer ends as a whole, the others finish the round
 * and the run without it, with equal bits. So do they with a peer whose parameters were changed behind its back. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "comm/segment_layout.h"
#include "model/llama.h"
#include "report/metrics.h"
#include "run.h"
#include "support.h"

static test_run run;
/* Long enough to be hit in the middle, and a link timeout that a busy machine's disk does not reach by itself. */
static const char *const long_run[] = {"run.rounds=14",
                                       "sync.inner_steps=60",
                                       "data.batch_seqs=16",
                                       "data.micro_batch_seqs=16",
                                       "exchange.link_timeout=8s",
                                       NULL};
/* Nobody dies in this one, and it must not come to its end by itself. */
static const char *const endless_run[] = {"run.rounds=2000", "sync.inner_steps=60", "data.batch_seqs=16",
                                          "data.micro_batch_seqs=16", NULL};

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  return 0;
}

static void kill_one(const char *name, int victim, const char *program, const char *const *settings) {
  char gone[40];
  test_run_start(&run, name, settings);
  assert_true(test_run_reach(&run, 2));
  pid_t train = test_run_pid(&run, victim, "train"), sync = test_run_pid(&run, victim, "sync");
  assert_int_equal(kill(strcmp(program, "train") == 0 ? train : sync, SIGKILL), 0);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_true(kill(train, 0) != 0 && errno == ESRCH); /* the whole peer is gone */
  assert_true(kill(sync, 0) != 0 && errno == ESRCH);
  assert_true(test_run_metric(&run, 0, "peers_in") == 4);
  assert_true(test_run_metric(&run, -1, "peers_in") == 3);
  snprintf(gone, sizeof gone, "peer %d is gone: ", victim);
  assert_int_equal(test_run_count(&run, gone), 1); /* one of the three says so */
  const char *hash = NULL;
  for (int peer = 0; peer < 4; peer++) {
    if (peer == victim) continue;
    const char *own = test_run_final_hash(&run, peer);
    if (hash) assert_string_equal(own, hash);
    hash = own;
  }
}

static void a_train_rank_dies(void **state) {
  (void)state;
  kill_one("train", 2, "train", long_run);
  assert_int_equal(test_run_count(&run, "peer 2 is gone: it ended: peer 2 ends as a whole: train 0"), 1);
}

static void a_sync_rank_dies(void **state) {
  (void)state;
  kill_one("sync", 3, "sync", long_run);
}

static void the_proposer_dies(void **state) {
  (void)state;
  kill_one("proposer", 0, "sync", long_run);
}

/* The segment of a peer of the tiny model; `params` is the model as the programs have it, to be destroyed. */
static cov_segment *open_segment(int peer, cov_params *params) {
  cov_llama_config config = {.vocab = 257,
                             .dim = 32,
                             .layers = 1,
                             .heads = 2,
                             .kv_heads = 1,
                             .ffn = 64,
                             .seq_len = 32,
                             .rope_theta = 10000,
                             .norm_eps = 1e-6,
                             .tied = 1,
                             .depth_init = 1,
                             .init_std = 0.02};
  cov_segment *segment;
  char path[400];
  cov_params_create(params);
  assert_ok(cov_llama_params(&config, params));
  cov_segment_params want = {.peer = peer, .span = params->span};
  cov_params_digest(params, want.layout_digest);
  snprintf(path, sizeof path, "%s/peers/%d/segment", run.dir, peer);
  assert_ok(cov_segment_open(path, &want, &(cov_wait){.timeout_s = 10}, &segment));
  return segment;
}

static void flip_a_bit_of_theta(int peer) {
  cov_params params;
  cov_segment *segment = open_segment(peer, &params);
  uint32_t *word = (uint32_t *)cov_segment_theta(segment) + 7;
  *word ^= 1u << 20;
  cov_segment_destroy(&segment);
  cov_params_destroy(&params);
}

/* One of the two ranks of a replica dies while the other waits for its part of a layer. */
static void one_of_two_train_ranks_dies(void **state) {
  (void)state;
  enum { PEER = 1 };
  const char *settings[8] = {"run.ranks_per_peer=2", "train.gather=mpi", "data.micro_batch_seqs=8"};
  int n = 3;
  for (int i = 0; long_run[i]; i++) {
    if (!strstr(long_run[i], "micro_batch_seqs")) settings[n++] = long_run[i];
  }
  cov_params params;
  test_run_start(&run, "half", settings);
  assert_true(test_run_reach(&run, 2));
  cov_segment *segment = open_segment(PEER, &params);
  const cov_member_slot *slot = cov_segment_slots(segment);
  const pid_t first = (pid_t)atomic_load(&slot[0].pid), second = (pid_t)atomic_load(&slot[1].pid);
  const pid_t sync = test_run_pid(&run, PEER, "sync");
  assert_int_equal(first, test_run_pid(&run, PEER, "train"));
  assert_int_equal(kill(second, SIGKILL), 0);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_true(kill(first, 0) != 0 && errno == ESRCH);
  assert_true(kill(second, 0) != 0 && errno == ESRCH);
  assert_true(kill(sync, 0) != 0 && errno == ESRCH);
  assert_true(test_run_metric(&run, 0, "peers_in") == 4);
  assert_true(test_run_metric(&run, -1, "peers_in") == 3);
  assert_string_equal(test_run_final_hash(&run, 0), test_run_final_hash(&run, 2));
  cov_segment_destroy(&segment);
  cov_params_destroy(&params);
}

static pid_t pid_of(cov_segment *segment, cov_program program, int shard) {
  return (pid_t)atomic_load(&cov_segment_slots(segment)[cov_segment_slot_index(segment, program, shard)].pid);
}

/* One of the two ranks that share a peer's outer work dies; the other one may be in a collective with it. */
static void kill_sync_shard(const char *name, int shard) {
  enum { PEER = 1 };
  const char *settings[8] = {"run.sync_ranks=2"};
  for (int i = 0; long_run[i]; i++) settings[i + 1] = long_run[i];
  cov_params params;
  test_run_start(&run, name, settings);
  assert_true(test_run_reach(&run, 2));
  cov_segment *segment = open_segment(PEER, &params);
  const pid_t sync[2] = {pid_of(segment, COV_PROGRAM_SYNC, 0), pid_of(segment, COV_PROGRAM_SYNC, 1)};
  const pid_t train = pid_of(segment, COV_PROGRAM_TRAIN, 0);
  assert_int_equal(sync[0], test_run_pid(&run, PEER, "sync")); /* the gateway */
  assert_int_equal(kill(sync[shard], SIGKILL), 0);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_true(kill(sync[0], 0) != 0 && errno == ESRCH);
  assert_true(kill(sync[1], 0) != 0 && errno == ESRCH);
  assert_true(kill(train, 0) != 0 && errno == ESRCH);
  assert_true(test_run_metric(&run, 0, "peers_in") == 4);
  assert_true(test_run_metric(&run, -1, "peers_in") == 3);
  assert_int_equal(test_run_count(&run, "peer 1 is gone: "), 1);
  assert_string_equal(test_run_final_hash(&run, 0), test_run_final_hash(&run, 2));
  assert_string_equal(test_run_final_hash(&run, 0), test_run_final_hash(&run, 3));
  cov_segment_destroy(&segment);
  cov_params_destroy(&params);
}

static void the_gateway_of_two_sync_ranks_dies(void **state) {
  (void)state;
  kill_sync_shard("gateway", 0);
}

static void the_other_of_two_sync_ranks_dies(void **state) {
  (void)state;
  kill_sync_shard("shard", 1);
  assert_int_equal(test_run_count(&run, "peer 1 is gone: it ended: peer 1 ends as a whole: sync 1"), 1);
}

static void a_flipped_bit_stops_its_peer(void **state) {
  (void)state;
  char path[400], *log;
  size_t bytes;
  test_run_start(&run, "flip", long_run);
  assert_true(test_run_reach(&run, 2));
  flip_a_bit_of_theta(1);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_true(test_run_metric(&run, -1, "peers_in") == 3);
  assert_string_equal(test_run_final_hash(&run, 0), test_run_final_hash(&run, 2));
  assert_string_equal(test_run_final_hash(&run, 0), test_run_final_hash(&run, 3));
  snprintf(path, sizeof path, "%s/logs/peer-1-sync-0.log", run.dir);
  assert_ok(cov_file_read(path, 1 << 20, &log, &bytes));
  assert_non_null(strstr(log, "its state is not to be trusted"));
  free(log);
  assert_int_equal(test_run_count(&run, "peer 1 is gone: it ended: the parameters of peer 1"), 1); /* it said goodbye */
  assert_int_equal(test_run_count(&run, "error: "), 1);
}

/* It writes down that it failed, and why; then the run is the others'. */
static void the_run_goes_on_when_its_speaker_fails(void **state) {
  (void)state;
  int64_t round = 2;
  test_run_start(&run, "speaker", endless_run);
  assert_true(test_run_reach(&run, round));
  flip_a_bit_of_theta(0);
  while (test_run_metric(&run, -1, "peers_in") > 3 && round < 200) assert_true(test_run_reach(&run, ++round));
  assert_true(test_run_metric(&run, -1, "peers_in") == 3);
  assert_string_equal(test_run_state(&run), "running");
  assert_int_equal(kill(run.launch, SIGINT), 0);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "stopped");
  assert_string_equal(test_run_final_hash(&run, 1), test_run_final_hash(&run, 2));
  assert_string_equal(test_run_final_hash(&run, 1), test_run_final_hash(&run, 3));
}

/* Both peers train themselves into numbers that are none. The cause is in STATE and in the exit code, which a scheduler
 * takes for what it is: not to be tried again. */
static void a_run_that_diverges_ends_with_its_cause(void **state) {
  (void)state;
  test_run_start(&run, "diverge",
                 (const char *const[]){"run.peers=2", "train.lr=100", "train.warmup_steps=0", "model.init_embed_std=1",
                                       "train.weight_decay=1", "sync.inner_steps=30", "run.rounds=200", NULL});
  assert_int_equal(test_run_wait(&run), cov_status_exit_code(COV_ENUMERIC));
  assert_string_equal(test_run_state(&run), "failed");
  assert_int_equal(test_run_lines(&run, "STATE", "COV_ENUMERIC: peer ", "ends as a whole: train 0 (pid "), 1);
}

static void ctrl_c_ends_at_a_round_boundary(void **state) {
  (void)state;
  test_run_start(&run, "stop", endless_run);
  assert_true(test_run_reach(&run, 2));
  assert_int_equal(kill(run.launch, SIGINT), 0);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "stopped");
  const char *hash = test_run_final_hash(&run, 0);
  for (int peer = 1; peer < 4; peer++) assert_string_equal(test_run_final_hash(&run, peer), hash);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_train_rank_dies),
      cmocka_unit_test(one_of_two_train_ranks_dies),
      cmocka_unit_test(a_sync_rank_dies),
      cmocka_unit_test(the_gateway_of_two_sync_ranks_dies),
      cmocka_unit_test(the_other_of_two_sync_ranks_dies),
      cmocka_unit_test(the_proposer_dies),
      cmocka_unit_test(a_flipped_bit_stops_its_peer),
      cmocka_unit_test(the_run_goes_on_when_its_speaker_fails),
      cmocka_unit_test(a_run_that_diverges_ends_with_its_cause),
      cmocka_unit_test(ctrl_c_ends_at_a_round_boundary),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
