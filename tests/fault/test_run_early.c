/* covenant-test: timeout=300
 * Two of four peers hear the last greeting when the others have trained the first round and sent their payloads. Those
 * count all the same: no round is finished without a peer. */
#include <stdlib.h>

#include "run.h"
#include "support.h"

static test_run run;

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  test_run_replace_sync(&run, "covenant-sync-late");
  return setenv("COVTEST_LATE", "01", 1);
}

static void payloads_before_the_start_count(void **state) {
  (void)state;
  test_run_start(&run, "early", (const char *const[]){"exchange.round_timeout=10s", "run.eval_ranks=0", NULL});
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  for (int64_t row = 0; row < 6; row++) assert_true(test_run_metric(&run, row, "peers_in") == 4);
  (void)test_run_common_hash(&run, 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(payloads_before_the_start_count)};
  return cmocka_run_group_tests(tests, prepare, NULL);
}
