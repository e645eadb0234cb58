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

static void shell(const char *command) {
  if (system(command) != 0) fail_msg("failed: %s", command);
}

/* A folder of programs whose covenant-sync is the drifting one. launch takes the programs beside its own file. */
static int prepare(void **state) {
  (void)state;
  char command[16384], folder[300];
  const char *bin = getenv("COVENANT_BIN");
  assert_non_null(bin);
  test_run_prepare(&run);
  snprintf(folder, sizeof folder, "%s/bin", run.folder);
  snprintf(command, sizeof command,
           "mkdir '%s' && cp '%s/covenant' '%s/' && ln -s '%s/covenant-train' '%s/covenant-eval' '%s/' && "
           "ln -s '%s/../tests/covenant-sync-drifting' '%s/covenant-sync'",
           folder, bin, folder, bin, bin, folder, bin, folder);
  shell(command);
  return setenv("COVENANT_BIN", folder, 1);
}

/* Lines of the drifter's log that have both texts. */
static int count_lines(const char *a, const char *b) {
  char path[400], line[4096];
  int n = 0;
  snprintf(path, sizeof path, "%s/logs/peer-%d-sync-0.log", run.dir, DRIFTER);
  FILE *f = fopen(path, "r");
  assert_non_null(f);
  while (fgets(line, sizeof line, f)) n += strstr(line, a) && strstr(line, b);
  fclose(f);
  return n;
}

static void check_drift(const char *name, int step, const char *rounds) {
  char drift[32];
  snprintf(drift, sizeof drift, "%d:%d", DRIFTER, step);
  assert_int_equal(setenv("COVTEST_DRIFT", drift, 1), 0);
  test_run_start(&run, name, (const char *const[]){rounds, NULL});
  (void)test_run_wait(&run);
  assert_true(count_lines(": 1 of ", " tensors differ, the first is layers.0.") >= 1);
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
