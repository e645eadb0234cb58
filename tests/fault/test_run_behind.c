/* covenant-test: timeout=300
 * A peer whose training stands still misses more rounds than the others keep in memory. They go on without its
 * payloads, but it stays a member; when it goes on, it replays the rounds from payloads that the others have on disk,
 * contributes again, and ends in the same bits. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/metrics.h"
#include "run.h"
#include "support.h"

enum { PEERS = 4, BEHIND = 2, MISSED = 7, ROUNDS = 60 };
static test_run run;
static const char *const settings[] = {"run.rounds=60" /* ROUNDS */, "exchange.round_timeout=1s",
                                       "run.member_timeout=300s", "exchange.keep_rounds=100", NULL};

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  return 0;
}

static void a_peer_that_fell_behind_catches_up(void **state) {
  (void)state;
  char path[400];
  test_run_start(&run, "behind", settings);
  assert_true(test_run_reach(&run, 2));
  pid_t train = test_run_pid(&run, BEHIND, "train");
  assert_int_equal(kill(train, SIGSTOP), 0);
  int reached = test_run_reach(&run, 2 + MISSED + 1); /* one may have been on its way */
  assert_int_equal(kill(train, SIGCONT), 0);
  assert_true(reached);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_true(test_run_metric(&run, 0, "peers_in") == PEERS);
  assert_true(test_run_metric(&run, 2 + MISSED - 1, "peers_in") == PEERS - 1);
  int whole = 0; /* rounds with all of them since: it has caught up. On a busy machine any may miss one by the clock. */
  for (int row = 2 + MISSED; row < ROUNDS; row++) whole += test_run_metric(&run, row, "peers_in") == PEERS;
  assert_true(whole > 0);
  (void)test_run_common_hash(&run, PEERS);
  int from_disk = 0, back[PEERS];
  for (int peer = 0; peer < PEERS; peer++) {
    char log[64];
    snprintf(log, sizeof log, "logs/peer-%d-sync-0.log", peer);
    from_disk += test_run_lines(&run, log, "peer 2 is behind", "");
    back[peer] = test_run_lines(&run, log, "goes back into the error feedback", "");
  }
  assert_true(from_disk > 0);
  assert_true(back[BEHIND] > 0);
  snprintf(path, sizeof path, "%s/peers/0/payloads/0/2", run.dir);
  assert_true(cov_file_exists(path));
}

/* Only so many rounds are kept. */
static void old_payloads_go(void **state) {
  (void)state;
  const char *const short_run[] = {"run.rounds=6", "exchange.keep_rounds=2", NULL};
  char path[400];
  test_run_start(&run, "kept", short_run);
  assert_int_equal(test_run_wait(&run), 0);
  for (int round = 0; round < 6; round++) {
    snprintf(path, sizeof path, "%s/peers/1/payloads/%d/3", run.dir, round);
    assert_int_equal(cov_file_exists(path), round >= 4);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_peer_that_fell_behind_catches_up),
      cmocka_unit_test(old_payloads_go),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
