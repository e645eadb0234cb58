/* covenant-test: timeout=120
 * Watching a run: which states are due, the end of a run, peers that die. Peers are child processes that own a segment
 * and do one thing per order, so nothing here depends on time. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "comm/member.h"
#include "comm/stop.h"
#include "evaluate/watch.h"
#include "support.h"

enum { SPAN = 100, MAX_PEERS = 2 };
static const double LONG_S = 60;

typedef struct {
  pid_t pid;
  int orders, answers; /* our ends of the pipes */
} peer;

static const char *run_dir;
static peer peers[MAX_PEERS];
static float theta[SPAN];

static cov_segment_params segment_params(int number) {
  return (cov_segment_params){.peer = number, .n_members = {1, 1, 1}, .span = SPAN};
}

/* --- the child --- */

static void publish(cov_segment *s, int64_t round) {
  cov_segment_theta_lock(s);
  for (int i = 0; i < SPAN; i++) cov_segment_theta(s)[i] = (float)round;
  cov_segment_theta_unlock(s, round);
  cov_doorbell_ring(cov_segment_theta_bell(s), (uint32_t)round + 1);
}

/* p: publish the next state; e: the next state is the final one; o: the peers have parted, two are lost; s: has a stop
 * been asked for; m: round in the eval mailbox; l: leave. The answer is a number. */
static int64_t obey(char order, cov_segment *s, cov_member **m, int64_t *next) {
  cov_eval_report mail;
  switch (order) {
  case 'p':
    publish(s, (*next)++);
    return 0;
  case 'e':
    cov_doorbell_ring(cov_segment_end_bell(s), (uint32_t)*next);
    return 0;
  case 'o':
    cov_segment_over_set(s, 2);
    return 0;
  case 's':
    return cov_doorbell_reached(cov_segment_stop_bell(s), 1);
  case 'm':
    return cov_segment_eval_read(s, &mail) ? mail.round : -1;
  default:
    cov_member_leave(m);
    return 0;
  }
}

static void be_peer(int number, int orders, int answers) {
  char path[512], order = 'l';
  cov_segment_params params = segment_params(number);
  const cov_member_params member = {.program = COV_PROGRAM_SYNC, .member_timeout_s = 30};
  cov_segment *s;
  cov_member *m;
  int64_t next = 0, answer = 0;
  alarm(100);
  snprintf(path, sizeof path, "%s/peers/%d", run_dir, number);
  if (cov_dir_make(path) != COV_OK) _exit(1);
  snprintf(path, sizeof path, "%s/peers/%d/segment", run_dir, number);
  if (cov_segment_create(path, &params, &s) != COV_OK) _exit(2);
  if (cov_member_join(s, &member, &m) != COV_OK) _exit(3);
  do {
    if (write(answers, &answer, sizeof answer) != sizeof answer) _exit(4);
    if (read(orders, &order, 1) != 1) _exit(5);
    answer = obey(order, s, &m, &next);
  } while (order != 'l');
  cov_segment_destroy(&s);
  (void)!write(answers, &answer, sizeof answer);
  _exit(0);
}

/* --- the parent --- */

static int64_t answer_of(int number) {
  int64_t answer = -1;
  assert_int_equal(read(peers[number].answers, &answer, sizeof answer), sizeof answer);
  return answer;
}

static void send_order(int number, char order) {
  assert_int_equal(write(peers[number].orders, &order, 1), 1);
}

static int64_t order(int number, char what) {
  send_order(number, what);
  return answer_of(number);
}

static void orders(int number, const char *what) {
  for (; *what; what++) (void)order(number, *what);
}

static void start_peer(int number) {
  int there[2], back[2];
  assert_int_equal(pipe(there), 0);
  assert_int_equal(pipe(back), 0);
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    close(there[1]);
    close(back[0]);
    be_peer(number, there[0], back[1]);
  }
  close(there[0]);
  close(back[1]);
  peers[number] = (peer){.pid = pid, .orders = there[1], .answers = back[0]};
  (void)answer_of(number); /* its segment is there */
}

static void end_peer(int number) {
  if (!peers[number].pid) return;
  kill(peers[number].pid, SIGKILL);
  waitpid(peers[number].pid, NULL, 0);
  close(peers[number].orders);
  close(peers[number].answers);
  peers[number].pid = 0;
}

static int fresh_run(void **state) {
  (void)state;
  run_dir = test_folder();
  cov_stop_reset();
  return 0;
}

static int end_run(void **state) {
  (void)state;
  for (int i = 0; i < MAX_PEERS; i++) end_peer(i);
  cov_stop_reset();
  return 0;
}

static cov_watch *watch(int64_t every_rounds) {
  cov_watch *w;
  const cov_watch_params p = {.run_dir = run_dir,
                              .segment = segment_params(0),
                              .n_peers = MAX_PEERS,
                              .every_rounds = every_rounds,
                              .member_timeout_s = 30,
                              .start_timeout_s = LONG_S,
                              .other_timeout_s = 0.2,
                              .copy_timeout_s = LONG_S};
  assert_ok(cov_watch_open(&p, &w));
  return w;
}

static void assert_state(cov_watch *w, double timeout_s, int64_t round) {
  cov_watch_news news;
  memset(theta, 0xA5, sizeof theta);
  assert_ok(cov_watch_next(w, timeout_s, theta, &news));
  assert_int_equal(news.kind, COV_WATCH_STATE);
  assert_int_equal(news.round, round);
  for (int i = 0; i < SPAN; i++) assert_true(theta[i] == (float)round);
}

static void assert_news(cov_watch *w, double timeout_s, cov_watch_kind kind) {
  cov_watch_news news;
  assert_ok(cov_watch_next(w, timeout_s, theta, &news));
  assert_int_equal(news.kind, kind);
}

static void due_rounds_are_multiples(void **state) {
  (void)state;
  assert_int_equal(cov_watch_due(-1, 8), 0);
  assert_int_equal(cov_watch_due(0, 8), 8);
  assert_int_equal(cov_watch_due(7, 8), 8);
  assert_int_equal(cov_watch_due(8, 8), 16);
  assert_int_equal(cov_watch_due(11, 8), 16);
  assert_int_equal(cov_watch_due(4, 1), 5);
  assert_true(cov_watch_due(-1, 0) == INT64_MAX && cov_watch_due(5, 0) == INT64_MAX);
}

static void states_are_handed_out_when_due(void **state) {
  (void)state;
  start_peer(0);
  cov_watch *w = watch(4);
  assert_news(w, 0, COV_WATCH_NOTHING);
  send_order(0, 'p'); /* comes while we sleep or before */
  assert_state(w, LONG_S, 0);
  (void)answer_of(0);
  orders(0, "ppp"); /* 1 to 3 */
  assert_news(w, 0, COV_WATCH_NOTHING);
  orders(0, "ppp"); /* 4 to 6: the evaluation was slow, the newest counts */
  assert_state(w, 0, 6);
  orders(0, "p");
  assert_news(w, 0, COV_WATCH_NOTHING);
  orders(0, "p"); /* 8 */
  assert_state(w, 0, 8);
  orders(0, "e"); /* 9 will be the last, but is not there yet */
  assert_news(w, 0, COV_WATCH_NOTHING);
  orders(0, "p");
  assert_state(w, 0, 9);
  assert_news(w, 0, COV_WATCH_NOTHING); /* the peers have not parted yet */
  orders(0, "o");
  assert_news(w, 0, COV_WATCH_OVER);
  assert_news(w, LONG_S, COV_WATCH_OVER);
  assert_int_equal(cov_watch_lost_peers(w), 2);
  cov_watch_close(&w);
  assert_null(w);
}

static void the_end_wakes_the_sleeper(void **state) {
  (void)state;
  start_peer(0);
  cov_watch *w = watch(0); /* only the final state */
  orders(0, "pppe");
  assert_news(w, 0, COV_WATCH_NOTHING);
  send_order(0, 'p');
  assert_state(w, LONG_S, 3);
  (void)answer_of(0);
  orders(0, "o");
  assert_news(w, 0, COV_WATCH_OVER);
  cov_watch_close(&w);
}

/* sync may be gone before the last evaluation begins: the memory stays. */
static void a_final_state_outlives_its_peer(void **state) {
  (void)state;
  for (int killed = 0; killed < 2; killed++) {
    start_peer(0);
    cov_watch *w = watch(8);
    orders(0, "p");
    assert_state(w, 0, 0);
    orders(0, "ppep");
    if (!killed) orders(0, "l");
    end_peer(0);
    assert_state(w, LONG_S, 3);
    assert_news(w, LONG_S, COV_WATCH_OVER);
    assert_news(w, LONG_S, COV_WATCH_OVER);
    assert_int_equal(cov_watch_lost_peers(w), killed);
    cov_watch_close(&w);
  }
}

static void a_peer_that_leaves_early_is_evaluated_once_more(void **state) {
  (void)state;
  start_peer(0);
  cov_watch *w = watch(8);
  orders(0, "p");
  assert_state(w, 0, 0);
  orders(0, "ppl");
  assert_state(w, LONG_S, 2);
  assert_news(w, LONG_S, COV_WATCH_OVER);
  cov_watch_close(&w);
}

static void another_peer_takes_over(void **state) {
  (void)state;
  cov_watch_news news;
  start_peer(0);
  start_peer(1);
  cov_watch *w = watch(2);
  orders(0, "p");
  orders(1, "p");
  assert_state(w, 0, 0);
  assert_int_equal(cov_watch_lost_peers(w), 0);
  orders(0, "p"); /* dies before 2 is due: only the other one can have it */
  end_peer(0);
  send_order(1, 'p');
  send_order(1, 'p');
  assert_state(w, LONG_S, 2);
  (void)answer_of(1);
  (void)answer_of(1);
  assert_int_equal(cov_watch_peer(w), 1);
  assert_int_equal(cov_watch_lost_peers(w), 1);
  cov_eval_report mail = {.round = 2};
  cov_watch_post(w, &mail);
  assert_int_equal(order(1, 'm'), 2);
  orders(1, "pep"); /* 3, and 4 is the final one */
  assert_state(w, 0, 4);
  end_peer(1);
  assert_ok(cov_watch_next(w, LONG_S, theta, &news));
  assert_int_equal(news.kind, COV_WATCH_OVER);
  cov_watch_close(&w);
}

static void without_any_peer_the_watch_ends(void **state) {
  (void)state;
  cov_watch_news news;
  start_peer(0);
  start_peer(1);
  cov_watch *w = watch(2);
  orders(0, "p");
  assert_state(w, 0, 0);
  end_peer(0);
  end_peer(1);
  assert_status(cov_watch_next(w, LONG_S, theta, &news), COV_EREMOTE);
  assert_non_null(strstr(cov_error_text(), "was lost"));
  assert_in_range(cov_watch_lost_peers(w), 1, 2);
  cov_watch_close(&w);
}

static void a_stop_signal_reaches_the_peer(void **state) {
  (void)state;
  start_peer(0);
  cov_watch *w = watch(8);
  assert_news(w, 0, COV_WATCH_NOTHING);
  assert_int_equal(order(0, 's'), 0);
  cov_stop_request(SIGTERM);
  assert_news(w, 0, COV_WATCH_NOTHING);
  assert_int_equal(order(0, 's'), 1);
  orders(0, "pepo"); /* a stopped run ends with a final state, too */
  assert_state(w, 0, 1);
  assert_news(w, 0, COV_WATCH_OVER);
  cov_watch_close(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(due_rounds_are_multiples),
      cmocka_unit_test_setup_teardown(states_are_handed_out_when_due, fresh_run, end_run),
      cmocka_unit_test_setup_teardown(the_end_wakes_the_sleeper, fresh_run, end_run),
      cmocka_unit_test_setup_teardown(a_final_state_outlives_its_peer, fresh_run, end_run),
      cmocka_unit_test_setup_teardown(a_peer_that_leaves_early_is_evaluated_once_more, fresh_run, end_run),
      cmocka_unit_test_setup_teardown(another_peer_takes_over, fresh_run, end_run),
      cmocka_unit_test_setup_teardown(without_any_peer_the_watch_ends, fresh_run, end_run),
      cmocka_unit_test_setup_teardown(a_stop_signal_reaches_the_peer, fresh_run, end_run),
  };
  return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
