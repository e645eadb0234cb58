/* When a run is over for `covenant launch` (launch_folder_over): STATE says how it ended, and no gateway is at work. */
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/launch_folder.h"
#include "report/state.h"
#include "support.h"

static cov_config cfg;

static int lock_of(int peer) {
  char path[4200];
  snprintf(path, sizeof path, "%s/peers/%d", cfg.run.dir, peer);
  assert_ok(cov_dir_make(path));
  snprintf(path, sizeof path, "%s/peers/%d/ledger", cfg.run.dir, peer);
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  assert_true(fd >= 0);
  assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
  return fd;
}

/* Looked at twice: the first look only learns how long the ledgers are. */
static bool is_over(void) {
  int64_t bytes = -1;
  (void)launch_folder_over(&cfg, &bytes);
  return launch_folder_over(&cfg, &bytes);
}

static void without_a_state_it_is_not(void **state) {
  (void)state;
  assert_false(is_over());
}

static void state_says_that_it_is(void **state) {
  (void)state;
  static const cov_run_state ended[] = {COV_RUN_STOPPED, COV_RUN_REQUEUE, COV_RUN_DONE, COV_RUN_FAILED};
  for (size_t i = 0; i < sizeof ended / sizeof *ended; i++) {
    assert_ok(cov_state_write(cfg.run.dir, COV_RUN_RUNNING, "training"));
    assert_false(is_over());
    assert_ok(cov_state_write(cfg.run.dir, ended[i], "as it may be"));
    assert_true(is_over());
  }
}

/* Peer 0 has failed and said so, peer 3 goes on. */
static void a_peer_that_goes_on_is_waited_for(void **state) {
  (void)state;
  assert_ok(cov_state_write(cfg.run.dir, COV_RUN_FAILED, "COV_ENUMERIC: loss of round 3"));
  close(lock_of(0));
  int ledger = lock_of(3);
  assert_false(is_over());
  close(ledger);
  assert_true(is_over());
}

/* Where locks do not reach other hosts, a ledger that grows says that its peer goes on. */
static void a_ledger_that_grows_is_used(void **state) {
  (void)state;
  int64_t bytes = -1;
  int ledger = lock_of(3);
  assert_int_equal(flock(ledger, LOCK_UN), 0);
  assert_false(launch_folder_over(&cfg, &bytes));
  assert_true(launch_folder_over(&cfg, &bytes));
  assert_int_equal(write(ledger, "round", 5), 5);
  assert_false(launch_folder_over(&cfg, &bytes));
  assert_true(launch_folder_over(&cfg, &bytes));
  close(ledger);
}

/* Something is there and cannot be looked into. */
static void what_cannot_be_known_is_in_use(void **state) {
  (void)state;
  char path[4200];
  snprintf(path, sizeof path, "%s/peers/6", cfg.run.dir);
  assert_int_equal(symlink(path, path), 0); /* to itself: ELOOP */
  assert_false(is_over());
  assert_int_equal(unlink(path), 0);
}

static int open_folder(void **state) {
  (void)state;
  snprintf(cfg.run.dir, sizeof cfg.run.dir, "%s/run", test_folder());
  return cov_dir_make(cfg.run.dir) == COV_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_a_state_it_is_not),         cmocka_unit_test(state_says_that_it_is),
      cmocka_unit_test(a_peer_that_goes_on_is_waited_for), cmocka_unit_test(a_ledger_that_grows_is_used),
      cmocka_unit_test(what_cannot_be_known_is_in_use),
  };
  return cmocka_run_group_tests(tests, open_folder, NULL);
}
