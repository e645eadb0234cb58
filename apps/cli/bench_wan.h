/* What the two programs of `covenant bench wan` write, read back: times of exchanges by covenant-wan (apps/wan), and
 * the router's counters by covenant-wanlab (tests/lab/router.h). Both are on one clock. All Local. */
#ifndef COVENANT_CLI_BENCH_WAN_H
#define COVENANT_CLI_BENCH_WAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { BENCH_WAN_REPS_MAX = 64, BENCH_WAN_HOSTS_MAX = 64 };

typedef struct {
  int64_t n;
  double begin_s[BENCH_WAN_REPS_MAX], end_s[BENCH_WAN_REPS_MAX];
} bench_wan_times;

/** The lines "WHAT BEGIN END" of `path`, which must be complete (last line "end"). COV_EIO, COV_EDATA. */
cov_status bench_wan_times_read(const char *path, const char *what, bench_wan_times *out);

/** The rest of the line "WHAT ...". COV_EIO, COV_EDATA. */
cov_status bench_wan_text_read(const char *path, const char *what, char *out, size_t size);

typedef struct {
  double sent[BENCH_WAN_HOSTS_MAX], received[BENCH_WAN_HOSTS_MAX]; /* bytes, IP headers included */
  double lost_queue, lost_random;                                  /* packets */
} bench_wan_traffic;

/** Add what passed between begin_s and end_s, to a quarter of a second, to *sum. *load: processor time of the router by
 * time. */
cov_status bench_wan_traffic_add(const char *path, int hosts, double begin_s, double end_s, bench_wan_traffic *sum,
                                 double *load);

#endif
