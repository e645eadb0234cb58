/* Time. Durations come from the monotonic clock, stamps for people from the wall clock. All Local. */
#ifndef COVENANT_BASE_CLOCK_H
#define COVENANT_BASE_CLOCK_H

#include <stdint.h>

/** Seconds since an arbitrary moment; never goes back. */
double cov_clock_s(void);
/** Seconds since 1970-01-01 UTC. */
double cov_wall_s(void);
/** Sleep about `s` seconds; a signal ends it early. */
void cov_sleep_s(double s);

#endif
