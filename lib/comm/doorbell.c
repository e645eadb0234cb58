#include "comm/doorbell.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

_Static_assert(sizeof(cov_doorbell) == 4, "a futex word has 32 bits");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "atomics shared between processes must be lock-free");

static int ahead(uint32_t a, uint32_t b) {
  return (int32_t)(a - b) >= 0;
}

void cov_doorbell_ring(cov_doorbell *bell, uint32_t value) {
  uint32_t old = atomic_load_explicit(&bell->value, memory_order_relaxed);
  do {
    if (ahead(old, value)) return;
  } while (
      !atomic_compare_exchange_weak_explicit(&bell->value, &old, value, memory_order_release, memory_order_relaxed));
  syscall(SYS_futex, &bell->value, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

uint32_t cov_doorbell_now(const cov_doorbell *bell) {
  return atomic_load_explicit(&bell->value, memory_order_acquire);
}

int cov_doorbell_reached(const cov_doorbell *bell, uint32_t at_least) {
  return ahead(cov_doorbell_now(bell), at_least);
}

int cov_doorbell_wait(cov_doorbell *bell, uint32_t at_least, double timeout_s, uint32_t *now) {
  const double end = cov_clock_s() + timeout_s;
  for (;;) {
    uint32_t seen = cov_doorbell_now(bell);
    if (now) *now = seen;
    if (ahead(seen, at_least)) return 1;
    double left = end - cov_clock_s();
    if (!(left > 0)) return 0;
    if (left > 3600) left = 3600;
    struct timespec t = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};
    /* Returns at once if the word is no longer `seen`; a wake, a signal or the time limit lead to another look. */
    syscall(SYS_futex, &bell->value, FUTEX_WAIT, seen, &t, NULL, 0);
  }
}

cov_status cov_doorbell_await(cov_doorbell *bell, uint32_t at_least, const cov_wait *how, const char *what) {
  static const cov_wait patient = {COV_WAIT_DEFAULT_S, NULL, NULL};
  if (!how) how = &patient;
  const double slice_s = 0.02;
  const double end = cov_clock_s() + how->timeout_s;
  for (;;) {
    double left = end - cov_clock_s();
    double s = how->poll && left > slice_s ? slice_s : left;
    if (cov_doorbell_wait(bell, at_least, s, NULL)) return COV_OK;
    if (how->poll) COV_TRY(how->poll(how->arg));
    if (cov_clock_s() >= end) {
      return COV_FAIL(COV_ECOMM, "no answer within %.3g s while %s", how->timeout_s, what);
    }
  }
}
