/* covenant-test: timeout=120
 * A peer ends as a whole: processes that join a segment and are killed, stopped, fail, or leave. The processes are
 * forked; the test reads their exit codes and the lines they logged. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "comm/member.h"
#include "comm/segment_layout.h"
#include "support.h"

enum { N = 4, TRAIN0 = 0, TRAIN1 = 1, SYNC0 = 2, EVAL0 = 3, END_CODE = 6 };
enum { OBSERVER_SAW_LOSS = 42, OBSERVER_SAW_LEAVE = 43 };

static const cov_wait patient = {30, NULL, NULL};
static const struct {
  cov_program program;
  int shard;
} place[N] = {{COV_PROGRAM_TRAIN, 0}, {COV_PROGRAM_TRAIN, 1}, {COV_PROGRAM_SYNC, 0}, {COV_PROGRAM_EVAL, 0}};

typedef struct {
  cov_segment *segment;
  char log[320], ended[320];
  pid_t pid[N];
} peer;

static void write_ended(void *arg, cov_status status, const char *reason) {
  FILE *f = fopen(arg, "a");
  if (!f) return;
  fprintf(f, "%s: %s\n", cov_status_name(status), reason);
  fclose(f);
}

static void watch_as_observer(cov_member *m) {
  while (!cov_member_peer_lost(m) && !cov_member_peer_left(m)) usleep(1000);
  int lost = cov_member_peer_lost(m);
  cov_member_leave(&m);
  _exit(lost ? OBSERVER_SAW_LOSS : OBSERVER_SAW_LEAVE);
}

/* Body of a child: join, wait for all, then do as told through the stop bell (1: leave; 2: train 1 fails, others stay;
 * 3: train 1 leaves, others stay). */
static void be_member(peer *p, int i) {
  int fd = open(p->log, O_WRONLY | O_APPEND | O_CREAT, 0600);
  dup2(fd, 2);
  cov_member_params params = {place[i].program, place[i].shard, i == TRAIN1 ? 60 : 1.5, write_ended, p->ended};
  cov_member *m;
  if (cov_member_join(p->segment, &params, &m) != COV_OK) _exit(100);
  if (cov_member_wait_all(m, &patient) != COV_OK) _exit(101);
  if (place[i].program == COV_PROGRAM_EVAL) watch_as_observer(m);
  cov_doorbell *bell = cov_segment_stop_bell(p->segment);
  uint32_t order = 0;
  if (!cov_doorbell_wait(bell, 1, 60, &order)) _exit(102);
  if (order == 2 && i == TRAIN1) {
    cov_log_error("why train 1 failed");
    cov_member_fail(&m, COV_ENUMERIC);
    _exit(8);
  }
  if ((order == 2 || order == 3) && i != TRAIN1) {
    if (!cov_doorbell_wait(bell, 4, 60, NULL)) _exit(103);
  }
  cov_member_leave(&m);
  _exit(0);
}

static int running(const peer *p) {
  int n = 0;
  for (int i = 0; i < N; i++) {
    n += p->pid[i] && atomic_load(&cov_segment_slots(p->segment)[i].state) == COV_MEMBER_RUNNING;
  }
  return n;
}

/* All heartbeats have moved, so every watchdog has had its look at every slot that was taken before. */
static void wait_for_a_tick(const peer *p) {
  cov_member_slot *slots = cov_segment_slots(p->segment);
  for (int i = 0; i < N; i++) {
    if (!p->pid[i]) continue;
    uint32_t from = atomic_load(&slots[i].heartbeat);
    while (atomic_load(&slots[i].heartbeat) - from < 2) usleep(1000);
  }
}

static void start(peer *p, int with_eval) {
  cov_segment_params params = {.peer = 7, .n_members = {2, 1, 1}, .span = 10};
  char path[320];
  const char *folder = test_folder();
  memset(p, 0, sizeof *p);
  snprintf(path, sizeof path, "%s/segment", folder);
  snprintf(p->log, sizeof p->log, "%s/log", folder);
  snprintf(p->ended, sizeof p->ended, "%s/ended", folder);
  assert_ok(cov_segment_create(path, &params, &p->segment));
  int n = with_eval ? N : N - 1;
  for (int i = 0; i < n; i++) {
    p->pid[i] = fork();
    assert_true(p->pid[i] >= 0);
    if (p->pid[i] == 0) be_member(p, i);
  }
  while (running(p) < n) usleep(1000);
  wait_for_a_tick(p);
}

/* Exit code, or 1000 + signal. */
static int ended_with(peer *p, int i) {
  int status;
  assert_int_equal(waitpid(p->pid[i], &status, 0), p->pid[i]);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int count_in(const char *path, const char *text) {
  char *all;
  size_t n;
  int count = 0;
  if (!cov_file_exists(path)) return 0;
  assert_ok(cov_file_read(path, 1 << 20, &all, &n));
  for (const char *at = all; (at = strstr(at, text)); at++) count++;
  free(all);
  return count;
}

static void a_killed_member_ends_the_peer(void **state) {
  (void)state;
  peer p;
  char line[200];
  start(&p, 0);
  kill(p.pid[TRAIN1], SIGKILL);
  assert_int_equal(ended_with(&p, TRAIN1), 1000 + SIGKILL);
  assert_int_equal(ended_with(&p, TRAIN0), END_CODE);
  assert_int_equal(ended_with(&p, SYNC0), END_CODE);
  snprintf(line, sizeof line, "peer 7 ends as a whole: train 1 (pid %d) died", (int)p.pid[TRAIN1]);
  assert_int_equal(count_in(p.log, line), 1);
  assert_int_equal(count_in(p.log, "\n"), 1); /* one line, from one of them */
  assert_int_equal(count_in(p.ended, line), 2);
  assert_int_equal(count_in(p.ended, "COV_ECOMM: "), 2);
  cov_segment_destroy(&p.segment);
}

static void a_stopped_member_is_killed(void **state) {
  (void)state;
  peer p;
  start(&p, 0);
  kill(p.pid[TRAIN1], SIGSTOP);
  assert_int_equal(ended_with(&p, TRAIN0), END_CODE);
  assert_int_equal(ended_with(&p, SYNC0), END_CODE);
  assert_int_equal(ended_with(&p, TRAIN1), 1000 + SIGKILL);
  assert_int_equal(count_in(p.log, "train 1"), 1);
  assert_int_equal(count_in(p.log, "gave no sign of life"), 1);
  assert_int_equal(count_in(p.log, "\n"), 1);
  cov_segment_destroy(&p.segment);
}

/* One dies while another is stopped: the stopped one must not stay behind. */
static void no_stopped_member_stays_behind(void **state) {
  (void)state;
  peer p;
  int status;
  start(&p, 0);
  kill(p.pid[TRAIN1], SIGSTOP);
  assert_int_equal(waitpid(p.pid[TRAIN1], &status, WUNTRACED), p.pid[TRAIN1]); /* all of its threads stand still */
  assert_true(WIFSTOPPED(status));
  kill(p.pid[SYNC0], SIGKILL);
  assert_int_equal(ended_with(&p, TRAIN0), END_CODE);
  assert_int_equal(ended_with(&p, TRAIN1), 1000 + SIGKILL);
  assert_int_equal(ended_with(&p, SYNC0), 1000 + SIGKILL);
  assert_int_equal(count_in(p.log, "sync 0"), 1);
  cov_segment_destroy(&p.segment);
}

static void a_failed_member_ends_the_peer(void **state) {
  (void)state;
  peer p;
  start(&p, 0);
  cov_doorbell_ring(cov_segment_stop_bell(p.segment), 2);
  assert_int_equal(ended_with(&p, TRAIN1), 8);
  assert_int_equal(ended_with(&p, TRAIN0), END_CODE);
  assert_int_equal(ended_with(&p, SYNC0), END_CODE);
  assert_int_equal(count_in(p.log, "why train 1 failed"), 1);
  assert_int_equal(count_in(p.log, "\n"), 1); /* its own line is the only one */
  assert_int_equal(count_in(p.ended, "train 1 (pid "), 2);
  assert_int_equal(count_in(p.ended, "failed (a loss, norm or weight is not finite)"), 2);
  assert_int_equal(count_in(p.ended, "COV_ENUMERIC: "), 2);
  cov_segment_destroy(&p.segment);
}

static void leaving_disturbs_nobody(void **state) {
  (void)state;
  peer p;
  start(&p, 1);
  cov_doorbell_ring(cov_segment_stop_bell(p.segment), 3);
  assert_int_equal(ended_with(&p, TRAIN1), 0); /* and its process is gone */
  p.pid[TRAIN1] = 0;
  wait_for_a_tick(&p);
  cov_doorbell_ring(cov_segment_stop_bell(p.segment), 4);
  assert_int_equal(ended_with(&p, TRAIN0), 0);
  assert_int_equal(ended_with(&p, SYNC0), 0);
  assert_int_equal(ended_with(&p, EVAL0), OBSERVER_SAW_LEAVE);
  assert_int_equal(count_in(p.log, "\n"), 0);
  assert_false(cov_file_exists(p.ended));
  cov_segment_destroy(&p.segment);
}

static void an_observer_only_observes(void **state) {
  (void)state;
  peer p;
  start(&p, 1);
  kill(p.pid[EVAL0], SIGKILL);
  assert_int_equal(ended_with(&p, EVAL0), 1000 + SIGKILL);
  p.pid[EVAL0] = 0;
  wait_for_a_tick(&p);
  assert_int_equal(running(&p), 3);
  cov_doorbell_ring(cov_segment_stop_bell(p.segment), 1);
  for (int i = 0; i <= SYNC0; i++) assert_int_equal(ended_with(&p, i), 0);
  assert_int_equal(count_in(p.log, "eval 0"), 1); /* a warning, once */
  cov_segment_destroy(&p.segment);

  start(&p, 1);
  kill(p.pid[SYNC0], SIGKILL);
  ended_with(&p, SYNC0);
  assert_int_equal(ended_with(&p, TRAIN0), END_CODE);
  assert_int_equal(ended_with(&p, TRAIN1), END_CODE);
  assert_int_equal(ended_with(&p, EVAL0), OBSERVER_SAW_LOSS);
  cov_segment_destroy(&p.segment);
}

static void joining_is_checked(void **state) {
  (void)state;
  char path[320];
  snprintf(path, sizeof path, "%s/segment", test_folder());
  cov_segment_params sp = {.peer = 1, .n_members = {1, 1, 0}, .span = 1};
  cov_member_params mp = {.program = COV_PROGRAM_TRAIN, .shard = 0, .member_timeout_s = 30};
  cov_segment *s;
  cov_member *m, *again;
  cov_wait soon = {0.02, NULL, NULL};
  assert_ok(cov_segment_create(path, &sp, &s));
  assert_ok(cov_member_join(s, &mp, &m));
  assert_status(cov_member_join(s, &mp, &again), COV_EMISMATCH);
  assert_null(again);
  assert_status(cov_member_wait_all(m, &soon), COV_ECOMM);
  assert_non_null(strstr(cov_error_text(), "sync 0 of peer 1"));
  mp.shard = 1;
  assert_status(cov_member_join(s, &mp, &again), COV_EUSAGE);
  mp.program = COV_PROGRAM_EVAL;
  mp.shard = 0;
  assert_status(cov_member_join(s, &mp, &again), COV_EUSAGE);
  cov_member_leave(&m);
  assert_null(m);
  cov_segment_destroy(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(joining_is_checked),
      cmocka_unit_test(a_killed_member_ends_the_peer),
      cmocka_unit_test(a_stopped_member_is_killed),
      cmocka_unit_test(no_stopped_member_stays_behind),
      cmocka_unit_test(a_failed_member_ends_the_peer),
      cmocka_unit_test(leaving_disturbs_nobody),
      cmocka_unit_test(an_observer_only_observes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
