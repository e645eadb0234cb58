/* covenant-test: timeout=60
 * Doorbells between processes: order, wrap-around, time limits, sleeping without a core. */
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/doorbell.h"
#include "support.h"

typedef struct {
  cov_doorbell ping, pong;
  uint32_t letter;
} shared;

static shared *make_shared(void) {
  void *p = mmap(NULL, sizeof(shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  assert_true(p != MAP_FAILED);
  return p;
}

static void a_bell_only_goes_up(void **state) {
  (void)state;
  cov_doorbell b = {0};
  cov_doorbell_ring(&b, 5);
  cov_doorbell_ring(&b, 3);
  assert_int_equal(cov_doorbell_now(&b), 5);
  assert_true(cov_doorbell_reached(&b, 5));
  assert_true(cov_doorbell_reached(&b, 4));
  assert_false(cov_doorbell_reached(&b, 6));
}

static void comparison_survives_the_wrap(void **state) {
  (void)state;
  cov_doorbell b = {0xfffffffeu};
  assert_false(cov_doorbell_reached(&b, 1));
  cov_doorbell_ring(&b, 1);
  assert_int_equal(cov_doorbell_now(&b), 1);
  assert_true(cov_doorbell_reached(&b, 0xffffffffu));
  cov_doorbell_ring(&b, 0xffffffffu); /* behind */
  assert_int_equal(cov_doorbell_now(&b), 1);
}

static void a_wait_ends_at_its_limit(void **state) {
  (void)state;
  cov_doorbell b = {7};
  uint32_t now = 0;
  assert_int_equal(cov_doorbell_wait(&b, 8, 0.01, &now), 0);
  assert_int_equal(now, 7);
  assert_int_equal(cov_doorbell_wait(&b, 7, 0, &now), 1);
  cov_wait how = {0.01, NULL, NULL};
  assert_status(cov_doorbell_await(&b, 8, &how, "testing"), COV_ECOMM);
  assert_non_null(strstr(cov_error_text(), "while testing"));
}

static cov_status stop_polling(void *arg) {
  (void)arg;
  return COV_FAIL(COV_EUSAGE, "enough");
}

static void poll_ends_a_wait(void **state) {
  (void)state;
  cov_doorbell b = {0};
  cov_wait how = {3600, stop_polling, NULL};
  assert_status(cov_doorbell_await(&b, 1, &how, "testing"), COV_EUSAGE);
}

/* Two processes take turns; each letter must be the one written before the bell. */
static void processes_take_turns(void **state) {
  (void)state;
  enum { TURNS = 2000 };
  shared *s = make_shared();
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    for (uint32_t i = 1; i <= TURNS; i++) {
      if (!cov_doorbell_wait(&s->ping, i, 20, NULL) || s->letter != i) _exit(1);
      s->letter = i * 3;
      cov_doorbell_ring(&s->pong, i);
    }
    _exit(0);
  }
  int wrong = 0;
  for (uint32_t i = 1; i <= TURNS && !wrong; i++) {
    s->letter = i;
    cov_doorbell_ring(&s->ping, i);
    wrong = !cov_doorbell_wait(&s->pong, i, 20, NULL) || s->letter != i * 3;
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(wrong, 0);
  assert_int_equal(status, 0);
  munmap(s, sizeof *s);
}

/* The share of a core that a process uses while it waits for a bell: printed only, timing is no pass or fail. */
static void waiting_sleeps(void **state) {
  (void)state;
  struct rusage before, after;
  cov_doorbell b = {0};
  getrusage(RUSAGE_SELF, &before);
  assert_int_equal(cov_doorbell_wait(&b, 1, 1.0, NULL), 0);
  getrusage(RUSAGE_SELF, &after);
  double cpu =
      (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
      1e-6 *
          (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec);
  printf("waiting for a bell: %.3f %% of a core\n", 100 * cpu);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_bell_only_goes_up),      cmocka_unit_test(comparison_survives_the_wrap),
      cmocka_unit_test(a_wait_ends_at_its_limit), cmocka_unit_test(poll_ends_a_wait),
      cmocka_unit_test(processes_take_turns),     cmocka_unit_test(waiting_sleeps),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
