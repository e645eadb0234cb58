/* Work beside the calling thread (comm/beside.h): it is polled meanwhile, calls come back to it, texts of failures
 * cross from thread to thread. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "comm/beside.h"
#include "support.h"

static const double patience_s = 30; /* far more than anything here takes */

typedef struct {
  pthread_t caller;
  atomic_int polls;
  int fails_at; /* this poll fails; 0: none */
  int calls;
  cov_status of_work, of_call;
} scene;

static cov_status poll_scene(void *arg) {
  scene *s = arg;
  assert_true(pthread_equal(pthread_self(), s->caller));
  if (atomic_fetch_add(&s->polls, 1) + 1 != s->fails_at) return COV_OK;
  return COV_FAIL(COV_EREMOTE, "poll %d fails", s->fails_at);
}

static cov_wait how_of(scene *s) {
  return (cov_wait){.timeout_s = patience_s, .poll = poll_scene, .arg = s};
}

static int polled_by(const scene *s, int n) {
  double end = cov_clock_s() + patience_s;
  while (atomic_load(&s->polls) < n && cov_clock_s() < end) cov_sleep_s(1e-4);
  return atomic_load(&s->polls) >= n;
}

static cov_status wait_for_polls(void *arg) {
  scene *s = arg;
  if (pthread_equal(pthread_self(), s->caller)) return COV_FAIL(COV_EBUG, "not in a thread of its own");
  return polled_by(s, 3) ? COV_OK : COV_FAIL(COV_EBUG, "nobody polls");
}

static void it_is_polled_while_the_work_runs(void **state) {
  (void)state;
  scene s = {.caller = pthread_self()};
  const cov_wait how = how_of(&s);
  assert_ok(cov_beside_run(wait_for_polls, &s, &how));
}

static cov_status note_caller(void *arg) {
  scene *s = arg;
  s->caller = pthread_self();
  return COV_FAIL(COV_EIO, "here");
}

static void without_a_poll_it_runs_here(void **state) {
  (void)state;
  const cov_wait silent = {.timeout_s = patience_s};
  for (int i = 0; i < 2; i++) {
    scene s = {0};
    assert_status(cov_beside_run(note_caller, &s, i ? &silent : NULL), COV_EIO);
    assert_true(pthread_equal(s.caller, pthread_self()));
    assert_string_equal(cov_error_text(), "here");
  }
}

static cov_status answer(void *arg) {
  scene *s = arg;
  assert_true(pthread_equal(pthread_self(), s->caller));
  s->calls++;
  if (s->of_call == COV_OK) return COV_OK;
  cov_status st = COV_FAIL(s->of_call, "call %d fails", s->calls);
  cov_error_second_hand_set();
  return st;
}

static cov_status call_five_times(void *arg) {
  scene *s = arg;
  for (int i = 0; i < 4; i++) COV_TRY(cov_beside_call(answer, s));
  s->of_call = s->of_work;
  return cov_beside_call(answer, s);
}

static void calls_run_in_the_calling_thread(void **state) {
  (void)state;
  scene s = {.caller = pthread_self()};
  const cov_wait how = how_of(&s);
  assert_ok(cov_beside_run(call_five_times, &s, &how));
  assert_int_equal(s.calls, 5);
  assert_ok(cov_beside_call(answer, &s)); /* from no work: here */
  s = (scene){.caller = pthread_self(), .of_work = COV_ECOMM};
  assert_status(cov_beside_run(call_five_times, &s, &how), COV_ECOMM);
  assert_string_equal(cov_error_text(), "call 5 fails");
  assert_true(cov_error_second_hand());
  assert_non_null(strstr(cov_error_where(), "test_beside.c"));
}

static cov_status end_after_polls(void *arg) {
  scene *s = arg;
  polled_by(s, s->fails_at);
  cov_sleep_s(5e-3); /* another poll would come within this time */
  return s->of_work == COV_OK ? COV_OK : COV_FAIL(s->of_work, "the work fails");
}

static void a_poll_fails_once_and_the_work_comes_first(void **state) {
  (void)state;
  scene s = {.caller = pthread_self(), .fails_at = 2};
  cov_wait how = how_of(&s);
  assert_status(cov_beside_run(end_after_polls, &s, &how), COV_EREMOTE);
  assert_string_equal(cov_error_text(), "poll 2 fails");
  assert_int_equal(atomic_load(&s.polls), 2);
  s = (scene){.caller = pthread_self(), .fails_at = 2, .of_work = COV_ENUMERIC};
  assert_status(cov_beside_run(end_after_polls, &s, &how), COV_ENUMERIC);
  assert_string_equal(cov_error_text(), "the work fails");
}

/* A poll that has long work of its own, once. */
static cov_status poll_with_work(void *arg) {
  scene *s = arg;
  const cov_wait how = how_of(s);
  return s->calls++ == 0 ? cov_beside_run(wait_for_polls, s, &how) : COV_OK;
}

static void a_poll_may_run_work_too(void **state) {
  (void)state;
  scene s = {.caller = pthread_self()};
  const cov_wait how = {.timeout_s = patience_s, .poll = poll_with_work, .arg = &s};
  assert_ok(cov_beside_run(wait_for_polls, &s, &how));
  assert_true(s.calls >= 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_is_polled_while_the_work_runs), cmocka_unit_test(without_a_poll_it_runs_here),
      cmocka_unit_test(calls_run_in_the_calling_thread),  cmocka_unit_test(a_poll_fails_once_and_the_work_comes_first),
      cmocka_unit_test(a_poll_may_run_work_too),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
