/* Signals: the first asks, a second SIGINT or SIGTERM ends. Each case in a child of its own. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/stop.h"
#include "support.h"

/* Raise the signals one after the other; exit code 10 + what cov_stop_requested() says after the last. */
static int raise_in_child(const int *signals, int n) {
  pid_t child = fork();
  if (child == 0) {
    if (cov_stop_install() != COV_OK || cov_stop_requested() != 0) _exit(1);
    for (int i = 0; i < n; i++) raise(signals[i]);
    _exit(10 + cov_stop_requested());
  }
  int status;
  if (waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

#define RAISE(...) raise_in_child((const int[]){__VA_ARGS__}, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)))

static void the_first_signal_only_asks(void **state) {
  (void)state;
  assert_int_equal(RAISE(SIGINT), 10 + SIGINT);
  assert_int_equal(RAISE(SIGTERM), 10 + SIGTERM);
  assert_int_equal(RAISE(SIGUSR1), 10 + SIGUSR1);
}

static void warnings_do_not_count(void **state) {
  (void)state;
  assert_int_equal(RAISE(SIGUSR1, SIGUSR1, SIGUSR1), 10 + SIGUSR1);
  assert_int_equal(RAISE(SIGUSR1, SIGTERM), 10 + SIGUSR1);
  assert_int_equal(RAISE(SIGINT, SIGUSR1), 10 + SIGINT);
}

static void the_second_ends_at_once(void **state) {
  (void)state;
  assert_int_equal(RAISE(SIGINT, SIGINT), 128 + SIGINT);
  assert_int_equal(RAISE(SIGINT, SIGTERM), 128 + SIGTERM);
  assert_int_equal(RAISE(SIGTERM, SIGINT), 128 + SIGINT);
  assert_int_equal(RAISE(SIGUSR1, SIGTERM, SIGTERM), 128 + SIGTERM);
}

static void programs_can_ask_too(void **state) {
  (void)state;
  assert_int_equal(cov_stop_requested(), 0);
  cov_stop_request(SIGTERM);
  cov_stop_request(SIGINT);
  assert_int_equal(cov_stop_requested(), SIGTERM);
  cov_stop_reset();
  assert_int_equal(cov_stop_requested(), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_first_signal_only_asks),
      cmocka_unit_test(warnings_do_not_count),
      cmocka_unit_test(the_second_ends_at_once),
      cmocka_unit_test(programs_can_ask_too),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
