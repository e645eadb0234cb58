/* covenant-test: timeout=120
 * Of two peers the one that is a majority by itself agrees on a round and dies before the other has its payload. The
 * other ends and says why; it does not wait for what cannot come (here exchange.round_timeout alone is 120 s). */
#include <stdlib.h>

#include "run.h"
#include "support.h"

static test_run run;

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  test_run_replace_sync(&run, "covenant-sync-vanishing");
  return 0;
}

static void what_nobody_has_is_not_waited_for(void **state) {
  (void)state;
  assert_int_equal(setenv("COVTEST_VANISH", "2", 1), 0);
  test_run_start(&run, "vanish",
                 (const char *const[]){"run.peers=2", "run.eval_ranks=0", "exchange.link_timeout=8s", NULL});
  assert_true(test_run_wait(&run) != 0);
  assert_int_equal(test_run_lines(&run, "logs/peer-1-sync-0.log",
                                  "round 2 is agreed, but 1 of its payloads had not come",
                                  "this peer stops where it is"),
                   1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_nobody_has_is_not_waited_for),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
