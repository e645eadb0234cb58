#include "comm/beside.h"

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

/* A status with its text, on the way to another thread. */
typedef struct {
  cov_status status;
  cov_error error;
} outcome;

typedef struct {
  cov_beside_work *work;
  void *arg;
  pthread_mutex_t lock;
  pthread_cond_t changed; /* one of the members below */
  bool ended;
  outcome of_work, of_call;
  cov_beside_work *call; /* asked for and not done yet; NULL: nothing */
  void *call_arg;
} beside;

static _Thread_local beside *mine; /* in the thread of the work */

static void run(cov_beside_work *work, void *arg, outcome *out) {
  out->status = work(arg);
  if (out->status != COV_OK) cov_error_save(&out->error);
}

static cov_status raise_again(const outcome *out) {
  if (out->status != COV_OK) cov_error_restore(&out->error);
  return out->status;
}

static void *run_thread(void *argument) {
  beside *b = argument;
  outcome out;
  mine = b;
  run(b->work, b->arg, &out);
  pthread_mutex_lock(&b->lock);
  b->of_work = out;
  b->ended = true;
  pthread_cond_signal(&b->changed);
  pthread_mutex_unlock(&b->lock);
  return NULL;
}

/* With the lock held: until something has changed, a millisecond at most. */
static void nap(beside *b) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += 1000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_nsec -= 1000000000;
    until.tv_sec++;
  }
  (void)pthread_cond_timedwait(&b->changed, &b->lock, &until);
}

/* With the lock held, which the call does without. */
static void do_call(beside *b) {
  outcome out;
  pthread_mutex_unlock(&b->lock);
  run(b->call, b->call_arg, &out);
  pthread_mutex_lock(&b->lock);
  b->of_call = out;
  b->call = NULL;
  pthread_cond_signal(&b->changed);
}

static void attend(beside *b, const cov_wait *how, outcome *polled) {
  polled->status = COV_OK;
  pthread_mutex_lock(&b->lock);
  while (!b->ended) {
    if (b->call) {
      do_call(b);
      continue;
    }
    pthread_mutex_unlock(&b->lock);
    if (polled->status == COV_OK) run(how->poll, how->arg, polled);
    pthread_mutex_lock(&b->lock);
    if (!b->ended && !b->call) nap(b);
  }
  pthread_mutex_unlock(&b->lock);
}

cov_status cov_beside_run(cov_beside_work *work, void *arg, const cov_wait *how) {
  beside b = {.work = work, .arg = arg};
  pthread_condattr_t attributes;
  pthread_t thread;
  outcome polled;
  if (!how || !how->poll) return work(arg);
  pthread_mutex_init(&b.lock, NULL);
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&b.changed, &attributes);
  pthread_condattr_destroy(&attributes);
  bool started = pthread_create(&thread, NULL, run_thread, &b) == 0;
  if (started) {
    attend(&b, how, &polled);
    (void)pthread_join(thread, NULL);
  }
  pthread_cond_destroy(&b.changed);
  pthread_mutex_destroy(&b.lock);
  if (!started) return work(arg);
  return b.of_work.status != COV_OK ? raise_again(&b.of_work) : raise_again(&polled);
}

cov_status cov_beside_call(cov_beside_work *call, void *arg) {
  beside *b = mine;
  if (!b) return call(arg);
  pthread_mutex_lock(&b->lock);
  b->call = call;
  b->call_arg = arg;
  pthread_cond_signal(&b->changed);
  while (b->call) pthread_cond_wait(&b->changed, &b->lock);
  pthread_mutex_unlock(&b->lock);
  return raise_again(&b->of_call);
}
