/* Measured with Open MPI 4.1.4, `mpirun --enable-recovery -np 4`, one rank killed with 24 MB in flight on all links:
 *  - MPI_Finalize of the survivors returned after 0.05 s in half of the runs and never in the other half;
 *  - flushing and _exit(0) without MPI_Finalize always worked, and mpirun returned 0;
 *  - without losses MPI_Finalize takes 0.05 s and is wanted: other launchers count an exit without it as a failure.
 * So: nobody lost, MPI_Finalize under a guard; somebody lost, no MPI_Finalize. All processes of the run must decide
 * alike: who finalizes waits for those who do not, until the guard. The gateways agree on the number when they part
 * (apps/sync/gateway_end.h), and the others wait for it at the segment's over_bell. */
#include "comm/finish.h"

#include <mpi.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

static const double finalize_patience_s = 60;

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  pthread_t thread;
  int armed;
  struct timespec deadline;
  double timeout_s;
  int exit_code;
  const char *what;
} guard = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *guard_thread(void *arg) {
  (void)arg;
  int late = 0;
  pthread_mutex_lock(&guard.lock);
  while (guard.armed && !late) late = pthread_cond_timedwait(&guard.changed, &guard.lock, &guard.deadline) != 0;
  int fire = guard.armed;
  pthread_mutex_unlock(&guard.lock);
  if (fire) {
    cov_log_warn("gave up after %.3g s while %s; ending this process", guard.timeout_s, guard.what);
    _exit(guard.exit_code);
  }
  return NULL;
}

void cov_guard_begin(double timeout_s, int exit_code, const char *what) {
  pthread_condattr_t monotonic;
  sigset_t all, before;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&guard.changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  clock_gettime(CLOCK_MONOTONIC, &guard.deadline);
  guard.deadline.tv_sec += (time_t)timeout_s;
  guard.deadline.tv_nsec += (long)((timeout_s - (double)(time_t)timeout_s) * 1e9);
  if (guard.deadline.tv_nsec >= 1000000000L) {
    guard.deadline.tv_sec++;
    guard.deadline.tv_nsec -= 1000000000L;
  }
  guard.timeout_s = timeout_s;
  guard.exit_code = exit_code;
  guard.what = what;
  guard.armed = 1;
  sigfillset(&all); /* signals belong to the main thread */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(&guard.thread, NULL, guard_thread, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failed) { /* no thread to be had: an unguarded call is worse than an early end */
    cov_log_warn("cannot start a guard thread while %s; ending this process", what);
    _exit(exit_code);
  }
}

void cov_guard_end(void) {
  pthread_mutex_lock(&guard.lock);
  guard.armed = 0;
  pthread_cond_signal(&guard.changed);
  pthread_mutex_unlock(&guard.lock);
  pthread_join(guard.thread, NULL);
  pthread_cond_destroy(&guard.changed);
}

void cov_mpi_finish(int lost_peers, int exit_code, double busy_s) {
  fflush(NULL);
  if (lost_peers > 0) _exit(exit_code);
  cov_guard_begin(busy_s + finalize_patience_s, exit_code, "ending MPI (a rank is probably dead)");
  MPI_Finalize();
  cov_guard_end();
}
