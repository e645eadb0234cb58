#include "comm/stop.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t requested;   /* first signal of any kind */
static volatile sig_atomic_t interrupted; /* a SIGINT or SIGTERM has come */

static void on_signal(int signal) {
  if (signal == SIGINT || signal == SIGTERM) {
    if (interrupted) _exit(128 + signal);
    interrupted = 1;
  }
  if (!requested) requested = signal;
}

static cov_status set_handlers(void (*handler)(int)) {
  static const int signals[] = {SIGINT, SIGTERM, SIGUSR1};
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaddset(&action.sa_mask, signals[i]);
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
    if (sigaction(signals[i], &action, NULL) != 0) {
      return COV_FAIL(COV_EBUG, "cannot handle signal %d: %s", signals[i], strerror(errno));
    }
  }
  return COV_OK;
}

cov_status cov_stop_install(void) {
  return set_handlers(on_signal);
}

int cov_stop_requested(void) {
  return requested;
}

void cov_stop_request(int signal) {
  if (!requested) requested = signal;
}

void cov_stop_reset(void) {
  (void)set_handlers(SIG_DFL);
  requested = 0;
  interrupted = 0;
}
