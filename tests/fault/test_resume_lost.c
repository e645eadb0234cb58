/* covenant-test: timeout=300
 * A run that lost a peer is resumed: that peer is told that the others went on without it, and they go on. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/metrics.h"
#include "run.h"
#include "support.h"

static test_run run;

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  return 0;
}

static void a_lost_peer_stays_out_and_the_others_go_on(void **state) {
  (void)state;
  static const char *const first[] = {"run.rounds=12",      "run.stop_after=8",          "sync.inner_steps=60",
                                      "data.batch_seqs=16", "data.micro_batch_seqs=16",  "exchange.link_timeout=8s",
                                      "run.eval_ranks=0",   "checkpoint.every_rounds=2", NULL};
  static const char *const second[] = {"run.rounds=12",
                                       "sync.inner_steps=60",
                                       "data.batch_seqs=16",
                                       "data.micro_batch_seqs=16",
                                       "exchange.link_timeout=8s",
                                       "run.eval_ranks=0",
                                       "checkpoint.every_rounds=2",
                                       NULL};
  char command[900];
  test_run_start(&run, "lost", first);
  assert_true(test_run_reach(&run, 2));
  assert_int_equal(kill(test_run_pid(&run, 2, "train"), SIGKILL), 0);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "stopped");
  assert_true(test_run_metric(&run, -1, "peers_in") == 3);
  test_run_start(&run, "lost", second);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_true(test_run_metric(&run, -1, "peers_in") == 3);
  snprintf(command, sizeof command, "grep -q 'went on without peer 2 before round 8' '%s'/logs/peer-2-sync-0.log",
           run.dir);
  assert_int_equal(system(command), 0);
  assert_string_equal(test_run_final_hash(&run, 1), test_run_final_hash(&run, 0));
  assert_string_equal(test_run_final_hash(&run, 3), test_run_final_hash(&run, 0));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_lost_peer_stays_out_and_the_others_go_on),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
