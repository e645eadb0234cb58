/* covenant-test: timeout=300
 * Two of four peers hear the last greeting when the others have trained the first round and sent their payloads. Those
 * count all the same: no round is finished without a peer. One that sends many more costs nobody else the relay. */
#include <stdio.h>
#include <stdlib.h>

#include "run.h"
#include "support.h"

static test_run run;

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  test_run_replace_sync(&run, "covenant-sync-late");
  return 0;
}

static void payloads_before_the_start_count(void **state) {
  (void)state;
  assert_int_equal(setenv("COVTEST_LATE", "01:2", 1), 0);
  test_run_start(&run, "early", (const char *const[]){"exchange.round_timeout=10s", "run.eval_ranks=0", NULL});
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  for (int64_t row = 0; row < 6; row++) assert_true(test_run_metric(&run, row, "peers_in") == 4);
  (void)test_run_common_hash(&run, 4);
}

/* Peer 2 sends its first payload eight times through the relay, before two of the others have started. */
static void a_flood_before_the_start_costs_its_sender_and_not_the_relay(void **state) {
  (void)state;
  char file[64];
  assert_int_equal(setenv("COVTEST_LATE", "01:9", 1), 0);
  assert_int_equal(setenv("COVTEST_FAULT", "flood:2:0", 1), 0);
  test_run_start(&run, "flood",
                 (const char *const[]){"exchange.round_timeout=10s", "run.eval_ranks=0", "exchange.topology=relay",
                                       "exchange.relays=1", NULL});
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  for (int64_t row = 0; row < 6; row++) assert_true(test_run_metric(&run, row, "peers_in") == 4); /* its first counts */
  (void)test_run_common_hash(&run, 4);
  for (int peer = 0; peer < 4; peer++) {
    snprintf(file, sizeof file, "logs/peer-%d-sync-0.log", peer);
    assert_int_equal(test_run_lines(&run, file, "is gone", ""), 0);
    assert_int_equal(test_run_lines(&run, file, "payload of peer 2 for round 0 refused: ", "before the start"),
                     peer < 2);
    snprintf(file, sizeof file, "events/peer-%d-sync.jsonl", peer);
    assert_int_equal(test_run_lines(&run, file, "\"payload_refused\"", "\"sender\":2"), peer < 2);
    assert_int_equal(test_run_lines(&run, file, "\"payload_refused\"", ""), peer < 2);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(payloads_before_the_start_count),
      cmocka_unit_test(a_flood_before_the_start_costs_its_sender_and_not_the_relay),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
