/* Memory bandwidth, in the manner of STREAM: arrays far larger than the caches, bytes counted as the program asks for
 * them (a processor that fetches a line before it overwrites it moves more). All Local. */
#ifndef COVENANT_CLI_BENCH_STREAM_H
#define COVENANT_CLI_BENCH_STREAM_H

#include <stdint.h>

#include "base/status.h"

typedef struct {
  float *a, *b, *c; /* [n], owned */
  int64_t n;
  int threads;
} bench_arrays;

/* Bytes a second. */
typedef struct {
  double copy;     /* c = a: 8 bytes an element */
  double triad;    /* a = b + s c: 12 */
  double sweep;    /* c = s c + (a - b), what the encoder's sweep asks of memory: 16 */
  double best_cpu; /* of the best one, by processor time of all threads: bytes a second of it */
} bench_bandwidth;

/** Arrays of `bytes` each, 0: four times the last-level cache. Each thread touches its own part first, so that it lies
 *  in that thread's memory. */
cov_status bench_arrays_create(int64_t bytes, int threads, bench_arrays *arrays);
void bench_arrays_destroy(bench_arrays *arrays);
/** One pass of each kernel, shared out over arrays->threads threads. */
cov_status bench_bandwidth_measure(bench_arrays *arrays, bench_bandwidth *out);
/** The largest of the three: what this memory was seen to give. */
double bench_bandwidth_best(const bench_bandwidth *bandwidth);

#endif
