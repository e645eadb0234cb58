/* covenant-test: timeout=300
 * A file of a checkpoint that changes after its gateway has hashed it: every rank hashes what it reads itself, so none
 * goes on from it. The state hash would only tell of the parameters, not of error feedback and moments. The run stays
 * usable: the next launch goes on from an older one. covenant-sync-rotting damages the files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "support.h"

static test_run run;
static char straight[65];

static void launch(const char *name, const char *stop, const char *state) {
  test_run_start(&run, name, (const char *const[]){"run.peers=2", stop, NULL});
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), state);
}

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  launch("straight", NULL, "done");
  snprintf(straight, sizeof straight, "%s", test_run_common_hash(&run, 2));
  test_run_replace_sync(&run, "covenant-sync-rotting");
  return 0;
}

static void is_not_gone_on_from(const char *name, const char *file) {
  char text[120];
  launch(name, "run.stop_after=2", "stopped");
  launch(name, "run.stop_after=4", "stopped");
  assert_int_equal(setenv("COVTEST_ROT", file, 1), 0);
  test_run_start(&run, name, (const char *const[]){"run.peers=2", NULL});
  int code = test_run_wait(&run);
  assert_int_equal(unsetenv("COVTEST_ROT"), 0);
  assert_int_not_equal(code, 0);
  assert_string_equal(test_run_state(&run), "failed");
  snprintf(text, sizeof text, "000004/%s is damaged: its hash is not the one in SUMS", file);
  assert_true(test_run_count(&run, text) >= 1);
  assert_int_equal(test_run_count(&run, "cannot be used"), 0); /* the gateways had found it good */
  launch(name, NULL, "done");
  assert_true(test_run_count(&run, "000004 cannot be used: ") >= 1);
  assert_string_equal(test_run_common_hash(&run, 2), straight);
}

static void error_feedback_that_changed_is_not_taken(void **state) {
  (void)state;
  is_not_gone_on_from("feedback", "sync-0-of-1.h5");
}

static void moments_that_changed_are_not_taken(void **state) {
  (void)state;
  is_not_gone_on_from("moments", "train-0-of-1.h5");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(error_feedback_that_changed_is_not_taken),
      cmocka_unit_test(moments_that_changed_are_not_taken),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
