/* covenant-test: timeout=300
 * Runs whose exchange runs while the next round computes (sync.delay=1): all peers end in the same bits, whatever the
 * number of sync ranks; with one peer that keeps its payload the delay changes nothing; what was broken off goes on. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "run.h"
#include "support.h"

static test_run run;

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  return 0;
}

static void launch(const char *name, const char *const *settings, const char *state) {
  test_run_start(&run, name, settings);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), state);
}

static void final_hash(char hash[65], int peers) {
  snprintf(hash, 65, "%s", test_run_final_hash(&run, 0));
  for (int peer = 1; peer < peers; peer++) assert_string_equal(test_run_final_hash(&run, peer), hash);
}

#define DELAY "sync.delay=1", "sync.delay_from=0", "run.eval_ranks=0"

/* What the peer keeps is what the outer step will do, so it starts each round from the very parameters it would start
 * from without a delay. */
static void one_peer_that_keeps_its_payload_notices_nothing(void **state) {
  (void)state;
  static const char *const aggregate[] = {"sync.aggregate=senders", "sync.aggregate=paper"};
  char plain[65], delayed[65];
  for (int i = 0; i < 2; i++) {
    launch(i ? "one-paper" : "one",
           (const char *const[]){"run.peers=1", "sync.clip=none", aggregate[i], "run.eval_ranks=0", NULL}, "done");
    final_hash(plain, 1);
    launch(i ? "one-paper-delayed" : "one-delayed",
           (const char *const[]){"run.peers=1", "sync.clip=none", aggregate[i], "sync.delay_keep=payload", DELAY, NULL},
           "done");
    final_hash(delayed, 1);
    assert_string_equal(delayed, plain);
  }
}

/* Four peers, any number of sync ranks; each rule ends in bits of its own, so it was in force. */
static void sync_ranks_do_not_change_the_bits(void **state) {
  (void)state;
  static const char *const keep[] = {"sync.delay_keep=payload", "sync.delay_keep=progress"};
  char plain[65], hash[2][65], again[65];
  launch("plain", (const char *const[]){"run.eval_ranks=0", NULL}, "done");
  final_hash(plain, 4);
  for (int i = 0; i < 2; i++) {
    launch(i ? "progress" : "payload", (const char *const[]){keep[i], DELAY, NULL}, "done");
    final_hash(hash[i], 4);
    launch(i ? "progress-3" : "payload-3", (const char *const[]){keep[i], "run.sync_ranks=3", DELAY, NULL}, "done");
    final_hash(again, 4);
    assert_string_equal(again, hash[i]);
    assert_string_not_equal(hash[i], plain);
  }
  assert_string_not_equal(hash[0], hash[1]);
}

static void a_delay_that_begins_behind_the_last_round_is_none(void **state) {
  (void)state;
  char plain[65], late[65];
  launch("none", (const char *const[]){"run.eval_ranks=0", NULL}, "done");
  final_hash(plain, 4);
  launch("late", (const char *const[]){"sync.delay=1", "sync.delay_from=6", "run.eval_ranks=0", NULL}, "done");
  final_hash(late, 4);
  assert_string_equal(late, plain);
}

/* A checkpoint is the state between two rounds with nothing under way, so a run that goes on from it has the bits of
 * the undisturbed one. */
static void a_resume_is_exact(void **state) {
  (void)state;
  char straight[65], resumed[65];
  launch("straight", (const char *const[]){"checkpoint.every_rounds=3", DELAY, NULL}, "done");
  final_hash(straight, 4);
  launch("halves", (const char *const[]){"checkpoint.every_rounds=3", "run.stop_after=3", DELAY, NULL}, "stopped");
  launch("halves", (const char *const[]){"checkpoint.every_rounds=3", "run.sync_ranks=2", DELAY, NULL}, "done");
  final_hash(resumed, 4);
  assert_string_equal(resumed, straight);
}

/* All peers end with the same round, also those that were in the next one when the stop was agreed. */
static void a_stop_ends_all_peers_with_one_round(void **state) {
  (void)state;
  char hash[65];
  test_run_start(&run, "stop", (const char *const[]){"run.rounds=200", "train.decay_steps=24", DELAY, NULL});
  assert_true(test_run_reach(&run, 2));
  assert_int_equal(kill(run.launch, SIGINT), 0);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "stopped");
  final_hash(hash, 4);
  assert_int_equal(
      test_run_tool(&run, "ledger verify @/peers/0/ledger @/peers/1/ledger @/peers/2/ledger @/peers/3/ledger"), 0);
}

/* The others finish the round without it, in equal bits. */
static void a_peer_that_dies_is_left_behind(void **state) {
  (void)state;
  test_run_start(&run, "kill",
                 (const char *const[]){"run.rounds=30", "train.decay_steps=24", "sync.inner_steps=8",
                                       "exchange.link_timeout=5s", DELAY, NULL});
  assert_true(test_run_reach(&run, 2));
  pid_t train = test_run_pid(&run, 2, "train"), sync = test_run_pid(&run, 2, "sync");
  assert_int_equal(kill(train, SIGKILL), 0);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_true(kill(sync, 0) != 0 && errno == ESRCH); /* the whole peer is gone */
  char hash[65];
  snprintf(hash, sizeof hash, "%s", test_run_final_hash(&run, 0));
  assert_string_equal(test_run_final_hash(&run, 1), hash);
  assert_string_equal(test_run_final_hash(&run, 3), hash);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_peer_that_keeps_its_payload_notices_nothing),
      cmocka_unit_test(sync_ranks_do_not_change_the_bits),
      cmocka_unit_test(a_delay_that_begins_behind_the_last_round_is_none),
      cmocka_unit_test(a_resume_is_exact),
      cmocka_unit_test(a_stop_ends_all_peers_with_one_round),
      cmocka_unit_test(a_peer_that_dies_is_left_behind),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
