/* A doorbell: a 32-bit number in shared memory that only goes up, and processes that sleep until it has. Futex based
 * (Linux), shared between processes: no CPU while waiting, wake-up in microseconds. Comparisons are modulo 2^32 (a is
 * "at least" b if (int32_t)(a - b) >= 0), so the number may wrap. All Local and thread-safe. */
#ifndef COVENANT_COMM_DOORBELL_H
#define COVENANT_COMM_DOORBELL_H

#include <stdatomic.h>
#include <stdint.h>

#include "comm/wait.h"

typedef struct {
  _Atomic uint32_t value;
} cov_doorbell;

/** Publish `value`: everything written before is visible to whoever sees it. A value that is not ahead of the present
 *  one changes nothing. Wakes all waiters. */
void cov_doorbell_ring(cov_doorbell *bell, uint32_t value);
/** The present number. */
uint32_t cov_doorbell_now(const cov_doorbell *bell);
/** 1 if the number is at least `at_least`; never sleeps. */
int cov_doorbell_reached(const cov_doorbell *bell, uint32_t at_least);
/** Sleep until the number is at least `at_least` or `timeout_s` is over. Returns 1 if reached, 0 if not (not an error;
 *  signals do not end the wait). *now (may be NULL) gets the number seen last. */
int cov_doorbell_wait(cov_doorbell *bell, uint32_t at_least, double timeout_s, uint32_t *now);
/** The same with a deadline that is an error (COV_ECOMM "... while WHAT") and how->poll called every 20 ms at least. */
cov_status cov_doorbell_await(cov_doorbell *bell, uint32_t at_least, const cov_wait *how, const char *what);

#endif
