/* covenant-test: timeout=240
 * A run is resumed, and one peer takes longer to look through its checkpoints, and to read one, than a link may be
 * silent: nobody takes it, or the relay, for dead. */
#include <stdlib.h>

#include "run.h"
#include "support.h"

static test_run run;

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  test_run_replace_sync(&run, "covenant-sync-slow");
  return 0;
}

static void start(const char *stop_after) {
  const char *const settings[] = {stop_after,
                                  "run.rounds=4",
                                  "run.eval_ranks=0",
                                  "exchange.link_timeout=8s",
                                  "exchange.topology=relay",
                                  "exchange.relays=1",
                                  "checkpoint.every_rounds=2",
                                  NULL};
  test_run_start(&run, "slow", settings);
  assert_int_equal(test_run_wait(&run), 0);
}

static void a_slow_disk_is_waited_for(void **state) {
  (void)state;
  static const char *const logs[] = {"logs/peer-0-sync-0.log", "logs/peer-1-sync-0.log", "logs/peer-2-sync-0.log",
                                     "logs/peer-3-sync-0.log", "logs/peer-0-relay-0.log"};
  assert_int_equal(setenv("COVTEST_SLOW", "12", 1), 0);
  start("run.stop_after=2");
  assert_string_equal(test_run_state(&run), "stopped");
  start("run.stop_after=0");
  assert_string_equal(test_run_state(&run), "done");
  for (int64_t row = 0; row < 4; row++) assert_true(test_run_metric(&run, row, "peers_in") == 4);
  (void)test_run_common_hash(&run, 4);
  for (size_t i = 0; i < sizeof logs / sizeof *logs; i++) {
    assert_int_equal(test_run_lines(&run, logs[i], "is gone", ""), 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_slow_disk_is_waited_for),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
