/* covenant-test: timeout=600
 * One bit turns over in the parameters of one peer. The others go on without it, and it says which tensor differs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"
#include "support.h"

enum { DRIFTER = 1 };

static test_run run;

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  test_run_replace_sync(&run, "covenant-sync-drifting");
  return 0;
}

static void check_drift(const char *name, int step, const char *rounds) {
  char drift[32], log[64];
  snprintf(drift, sizeof drift, "%d:%d", DRIFTER, step);
  assert_int_equal(setenv("COVTEST_DRIFT", drift, 1), 0);
  test_run_start(&run, name, (const char *const[]){rounds, NULL});
  (void)test_run_wait(&run);
  snprintf(log, sizeof log, "logs/peer-%d-sync-0.log", DRIFTER);
  assert_true(test_run_lines(&run, log, ": 1 of ", " tensors differ, the first is layers.0.") >= 1);
  assert_string_equal(test_run_final_hash(&run, 0), test_run_final_hash(&run, 2)); /* the others ended together */
}

static void a_drifting_peer_names_the_tensor(void **state) {
  (void)state;
  check_drift("between", 1, "run.rounds=5");
}

/* There is no next agreement to find it. */
static void a_drift_in_the_last_step_is_named(void **state) {
  (void)state;
  check_drift("last", 2, "run.rounds=3");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_drifting_peer_names_the_tensor),
      cmocka_unit_test(a_drift_in_the_last_step_is_named),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
