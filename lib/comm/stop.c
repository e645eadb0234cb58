#include "comm/stop.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static atomic_int requested; /* first signal of any kind */
static atomic_int handled;
static atomic_bool quit;
static bool running;
static pthread_t thread;
static sigset_t before; /* mask of the installing thread */

static void signals_of(sigset_t *set) {
  sigemptyset(set);
  sigaddset(set, SIGINT);
  sigaddset(set, SIGTERM);
  sigaddset(set, SIGUSR1);
}

void cov_stop_request(int signal) {
  int none = 0;
  atomic_compare_exchange_strong(&requested, &none, signal);
}

static void *attend(void *unused) {
  (void)unused;
  bool interrupted = false; /* a SIGINT or SIGTERM has come */
  sigset_t set;
  int signal;
  signals_of(&set);
  while (sigwait(&set, &signal) == 0 && !atomic_load(&quit)) {
    bool interrupt = signal == SIGINT || signal == SIGTERM;
    if (interrupt && interrupted) _exit(128 + signal);
    interrupted |= interrupt;
    cov_stop_request(signal);
    atomic_fetch_add(&handled, 1);
  }
  return NULL;
}

cov_status cov_stop_install(void) {
  sigset_t set, all;
  signals_of(&set);
  sigfillset(&all);
  if (running) return COV_OK;
  int failed = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (failed) return COV_FAIL(COV_EBUG, "cannot block signals: %s", strerror(failed));
  atomic_store(&quit, false);
  failed = pthread_create(&thread, NULL, attend, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failed) return COV_FAIL(COV_ENOMEM, "cannot start the thread that waits for signals: %s", strerror(failed));
  running = true;
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  return COV_OK;
}

int cov_stop_requested(void) {
  return atomic_load(&requested);
}

int cov_stop_count(void) {
  return atomic_load(&handled);
}

void cov_stop_reset(void) {
  if (running) {
    atomic_store(&quit, true);
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    running = false;
  }
  atomic_store(&requested, 0);
  atomic_store(&handled, 0);
}
