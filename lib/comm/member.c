#include "comm/member.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "comm/process.h"
#include "comm/segment_layout.h"

static const double tick_s = 0.25;       /* heartbeat: 4 Hz */
static const double exit_patience_s = 5; /* for the last line and before_exit */

/* What this process knows about another member. */
typedef struct {
  int pidfd; /* -1: none (not seen yet, or no pidfds in this kernel) */
  int seen;  /* it was running once */
  int done;  /* it left, or its end has been dealt with */
  uint32_t heartbeat;
  double changed_s;
} view;

struct cov_member {
  cov_segment *segment;
  cov_member_params params;
  cov_member_slot *slots;
  int n, mine;
  view *view;           /* [n] */
  struct pollfd *watch; /* [n + 1], the last is `wake` */
  int *watched;         /* [n] slot of each pollfd */
  int wake;             /* eventfd: stop the thread */
  pthread_t thread;
  double last_tick_s;
  atomic_int stop, lost;
};

static void program_of(const cov_member *m, int slot, cov_program *program, int *shard) {
  const cov_segment_params *p = cov_segment_params_of(m->segment);
  int i = 0;
  while (i < COV_PROGRAM_COUNT - 1 && slot >= p->n_members[i]) slot -= p->n_members[i++];
  *program = (cov_program)i;
  *shard = slot;
}

static int is_observer(const cov_member *m, int slot) {
  cov_program program;
  int shard;
  program_of(m, slot, &program, &shard);
  return program == COV_PROGRAM_EVAL;
}

/* ---- the end of the peer ---- */

typedef struct {
  cov_member *m;
  int log; /* this process says it on the terminal, the others only note it */
  cov_status status;
  char reason[400];
  atomic_int said;
} last_words;

static void *say_last_words(void *arg) {
  last_words *w = arg;
  if (w->log) {
    cov_log_error("%s", w->reason);
  } else {
    cov_log_note(COV_LOG_ERROR, "%s", w->reason);
  }
  if (w->m->params.before_exit) w->m->params.before_exit(w->m->params.arg, w->status, w->reason);
  atomic_store(&w->said, 1);
  return NULL;
}

static void describe_end(const cov_member *m, int slot, int silent, char *text, size_t size) {
  cov_program program;
  int shard;
  const cov_member_slot *s = &m->slots[slot];
  int peer = cov_segment_params_of(m->segment)->peer;
  program_of(m, slot, &program, &shard);
  char what[160];
  if (atomic_load(&s->state) == COV_MEMBER_FAILED) {
    cov_status status = (cov_status)atomic_load(&s->status);
    snprintf(what, sizeof what, "failed (%s); its log has the cause", cov_status_text(status));
  } else if (silent) {
    snprintf(what, sizeof what, "gave no sign of life for %.3g s (stopped, or its machine is wedged)",
             m->params.member_timeout_s);
  } else {
    snprintf(what, sizeof what, "died without leaving (killed or crashed)");
  }
  snprintf(text, size, "peer %d ends as a whole: %s %d (pid %" PRId64 ") %s", peer, cov_program_name(program), shard,
           atomic_load(&s->pid), what);
}

/* Members that cannot end by themselves: stopped, or silent for too long. */
static void kill_the_stopped(const cov_member *m, double now) {
  for (int i = 0; i < m->n; i++) {
    uint32_t state = atomic_load(&m->slots[i].state);
    if (i == m->mine || is_observer(m, i) || (state != COV_MEMBER_RUNNING && state != COV_MEMBER_FAILED)) continue;
    pid_t pid = (pid_t)atomic_load(&m->slots[i].pid);
    uint64_t start = atomic_load(&m->slots[i].start);
    char letter;
    int same = cov_process_start(pid, &letter) == start;
    int silent = m->view[i].seen && now - m->view[i].changed_s > m->params.member_timeout_s;
    if (same && (silent || letter == 'T' || letter == 't')) cov_process_kill(pid, start);
  }
}

/* Does not return. */
static void end_peer(cov_member *m, int slot, int silent, double now) {
  uint32_t none = 0;
  static last_words words; /* outlives this frame if the helper thread is stuck */
  words.m = m;
  words.log = atomic_compare_exchange_strong(&cov_segment_head_of(m->segment)->verdict, &none, (uint32_t)slot + 1);
  /* Who was beaten to it names the same victim in its own callback. */
  int victim = words.log ? slot : (int)none - 1;
  if (victim < 0 || victim >= m->n) victim = slot;
  describe_end(m, victim, silent && victim == slot, words.reason, sizeof words.reason);
  words.status = COV_ECOMM;
  if (atomic_load(&m->slots[victim].state) == COV_MEMBER_FAILED) { /* it has said so itself */
    words.log = 0;
    words.status = (cov_status)atomic_load(&m->slots[victim].status);
  }
  kill_the_stopped(m, now);
  /* A terminal that takes no output must not keep this process alive. */
  pthread_t helper;
  if (pthread_create(&helper, NULL, say_last_words, &words) == 0) {
    for (double t = 0; t < exit_patience_s && !atomic_load(&words.said); t += 0.002) cov_sleep_s(0.002);
  }
  _exit(cov_status_exit_code(COV_ECOMM));
}

static void member_ended(cov_member *m, int slot, int silent, double now) {
  view *v = &m->view[slot];
  if (v->done) return;
  int observer = is_observer(m, slot);
  if (!observer && m->params.program != COV_PROGRAM_EVAL) end_peer(m, slot, silent, now);
  v->done = 1;
  int known = observer ? (int)atomic_exchange(&m->slots[slot].reported, 1) : atomic_exchange(&m->lost, 1);
  char text[400];
  describe_end(m, slot, silent, text, sizeof text);
  const char *colon = strchr(text, ':'), *what = colon ? colon + 2 : text;
  int peer = cov_segment_params_of(m->segment)->peer;
  if (known || atomic_load(&m->slots[slot].state) == COV_MEMBER_FAILED) { /* somebody has said so */
    cov_log_note(COV_LOG_WARN, "peer %d: %s", peer, what);
  } else {
    cov_log_warn("peer %d: %s", peer, what);
  }
}

/* ---- watching ---- */

static void look_at(cov_member *m, int slot, double now) {
  cov_member_slot *s = &m->slots[slot];
  view *v = &m->view[slot];
  uint32_t state = atomic_load(&s->state);
  if (v->done || state == COV_MEMBER_FREE || state == COV_MEMBER_JOINING) return;
  if (state == COV_MEMBER_LEFT) {
    v->done = 1;
    return;
  }
  if (state == COV_MEMBER_FAILED) {
    member_ended(m, slot, 0, now);
    return;
  }
  pid_t pid = (pid_t)atomic_load(&s->pid);
  uint64_t start = atomic_load(&s->start);
  uint32_t beat = atomic_load(&s->heartbeat);
  int gone = 0;
  if (!v->seen) {
    v->seen = 1;
    v->changed_s = now;
    v->heartbeat = beat;
    v->pidfd = cov_process_pidfd(pid, start);
    gone = v->pidfd < 0 && errno == ESRCH;
  } else if (v->pidfd < 0) { /* a kernel without pidfds */
    char letter;
    gone = cov_process_start(pid, &letter) != start || letter == 'Z';
  }
  if (beat != v->heartbeat) {
    v->heartbeat = beat;
    v->changed_s = now;
  }
  if (gone) {
    if (atomic_load(&s->state) != COV_MEMBER_LEFT) member_ended(m, slot, 0, now);
  } else if (now - v->changed_s > m->params.member_timeout_s) {
    member_ended(m, slot, 1, now);
  }
}

/* If this process itself did not run (it was stopped, or the machine was), nobody's silence means anything. */
static void forgive_own_absence(cov_member *m, double now) {
  if (now - m->last_tick_s > 4 * tick_s) {
    for (int i = 0; i < m->n; i++) m->view[i].changed_s = now;
  }
  m->last_tick_s = now;
}

/* Sleep a tick, or less if a member's process ends. */
static void sleep_on_pidfds(cov_member *m) {
  nfds_t n = 0;
  for (int i = 0; i < m->n; i++) {
    if (m->view[i].pidfd < 0 || m->view[i].done) continue;
    m->watched[n] = i;
    m->watch[n++] = (struct pollfd){m->view[i].pidfd, POLLIN, 0};
  }
  m->watch[n] = (struct pollfd){m->wake, POLLIN, 0};
  if (poll(m->watch, n + 1, (int)(1000 * tick_s)) <= 0) return;
  double now = cov_clock_s();
  for (nfds_t i = 0; i < n; i++) {
    int slot = m->watched[i];
    if (!m->watch[i].revents) continue;
    if (atomic_load(&m->slots[slot].state) == COV_MEMBER_LEFT) {
      m->view[slot].done = 1;
    } else {
      member_ended(m, slot, 0, now);
    }
  }
}

static void *watchdog(void *arg) {
  cov_member *m = arg;
  while (!atomic_load(&m->stop)) {
    double now = cov_clock_s();
    forgive_own_absence(m, now);
    atomic_fetch_add(&m->slots[m->mine].heartbeat, 1);
    for (int i = 0; i < m->n; i++) {
      if (i != m->mine) look_at(m, i, now);
    }
    sleep_on_pidfds(m);
  }
  return NULL;
}

/* ---- joining and leaving ---- */

static void release(cov_member *m) {
  if (m->view) {
    for (int i = 0; i < m->n; i++) {
      if (m->view[i].pidfd >= 0) close(m->view[i].pidfd);
    }
  }
  if (m->wake >= 0) close(m->wake);
  free(m->view);
  free(m->watch);
  free(m->watched);
  free(m);
}

static cov_status take_slot(cov_member *m) {
  cov_member_slot *s = &m->slots[m->mine];
  uint32_t expected = COV_MEMBER_FREE;
  if (!atomic_compare_exchange_strong(&s->state, &expected, COV_MEMBER_JOINING)) {
    return COV_FAIL(COV_EMISMATCH,
                    "%s %d of peer %d is already there (pid %" PRId64 "): is another run using this run directory?",
                    cov_program_name(m->params.program), m->params.shard, cov_segment_params_of(m->segment)->peer,
                    atomic_load(&s->pid));
  }
  atomic_store(&s->pid, getpid());
  atomic_store(&s->start, cov_process_start(getpid(), NULL));
  atomic_store(&s->state, COV_MEMBER_RUNNING);
  return COV_OK;
}

/* Signals belong to the main thread: its sleeps are to be interrupted, not the watchdog's. */
static int start_thread(cov_member *m) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(&m->thread, NULL, watchdog, m);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failed;
}

cov_status cov_member_join(cov_segment *segment, const cov_member_params *params, cov_member **out) {
  cov_status st = COV_OK;
  *out = NULL;
  int mine = cov_segment_slot_index(segment, params->program, params->shard);
  if (mine < 0) {
    return COV_FAIL(COV_EUSAGE, "peer %d has no %s %d", cov_segment_params_of(segment)->peer,
                    cov_program_name(params->program), params->shard);
  }
  if (!(params->member_timeout_s >= 1)) {
    return COV_FAIL(COV_EUSAGE, "a member timeout of %g s is shorter than 1 s", params->member_timeout_s);
  }
  cov_member *m = calloc(1, sizeof *m);
  if (!m) return COV_FAIL(COV_ENOMEM, "no memory for a member");
  m->segment = segment;
  m->params = *params;
  m->slots = cov_segment_slots(segment);
  m->n = cov_segment_slot_count(segment);
  m->mine = mine;
  m->last_tick_s = cov_clock_s();
  m->wake = eventfd(0, EFD_CLOEXEC);
  m->view = calloc((size_t)m->n, sizeof *m->view);
  m->watch = calloc((size_t)m->n + 1, sizeof *m->watch);
  m->watched = calloc((size_t)m->n, sizeof *m->watched);
  if (m->wake < 0 || !m->view || !m->watch || !m->watched) COV_FAIL_DONE(COV_ENOMEM, "no memory for a watchdog");
  for (int i = 0; i < m->n; i++) m->view[i].pidfd = -1;
  COV_TRY_DONE(take_slot(m));
  if (start_thread(m) != 0) {
    atomic_store(&m->slots[mine].state, COV_MEMBER_LEFT);
    COV_FAIL_DONE(COV_ENOMEM, "cannot start the watchdog thread");
  }
  *out = m;
  m = NULL;
done:
  if (m) release(m);
  return st;
}

static void stop_watchdog(cov_member *m, cov_member_state state) {
  atomic_store(&m->slots[m->mine].state, state);
  atomic_store(&m->stop, 1);
  uint64_t one = 1;
  if (write(m->wake, &one, sizeof one) < 0) { /* the next tick sees `stop` anyhow */
  }
  pthread_join(m->thread, NULL);
  release(m);
}

void cov_member_leave(cov_member **member) {
  if (!*member) return;
  stop_watchdog(*member, COV_MEMBER_LEFT);
  *member = NULL;
}

void cov_member_fail(cov_member **member, cov_status status) {
  if (!*member) return;
  atomic_store(&(*member)->slots[(*member)->mine].status, (uint32_t)status);
  stop_watchdog(*member, COV_MEMBER_FAILED);
  *member = NULL;
}

/* ---- questions ---- */

/* First train or sync slot nobody has taken, or -1. */
static int first_absent(const cov_member *m) {
  for (int i = 0; i < m->n; i++) {
    uint32_t state = atomic_load(&m->slots[i].state);
    if (!is_observer(m, i) && (state == COV_MEMBER_FREE || state == COV_MEMBER_JOINING)) return i;
  }
  return -1;
}

cov_status cov_member_wait_all(cov_member *member, const cov_wait *how) {
  static const cov_wait patient = {COV_WAIT_DEFAULT_S, NULL, NULL};
  if (!how) how = &patient;
  const double end = cov_clock_s() + how->timeout_s;
  for (;;) {
    int absent = first_absent(member);
    if (absent < 0) return COV_OK;
    if (how->poll) COV_TRY(how->poll(how->arg));
    if (cov_clock_s() >= end) {
      cov_program program;
      int shard;
      program_of(member, absent, &program, &shard);
      return COV_FAIL(COV_ECOMM, "%s %d of peer %d did not join within %.3g s: was covenant-%s started, on this node?",
                      cov_program_name(program), shard, cov_segment_params_of(member->segment)->peer, how->timeout_s,
                      cov_program_name(program));
    }
    cov_sleep_s(0.005);
  }
}

int cov_member_observed(const cov_member *member) {
  for (int i = 0; i < member->n; i++) {
    uint32_t state = atomic_load(&member->slots[i].state);
    if (is_observer(member, i) && state != COV_MEMBER_FREE && state != COV_MEMBER_JOINING) return 1;
  }
  return 0;
}

int cov_member_peer_lost(const cov_member *member) {
  return atomic_load(&member->lost);
}

int cov_member_peer_left(const cov_member *member) {
  int left = 0;
  for (int i = 0; i < member->n; i++) {
    uint32_t state = atomic_load(&member->slots[i].state);
    if (is_observer(member, i) || state == COV_MEMBER_FREE) continue;
    if (state != COV_MEMBER_LEFT) return 0;
    left++;
  }
  return left > 0;
}
