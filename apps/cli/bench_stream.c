/* covenant bench stream, and the bandwidth that other benches hold their figures against. */
#include "cli/bench_stream.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "cli/bench.h"
#include "cli/bench_machine.h"

enum { THREADS_MAX = 1024, ALIGN_BYTES = 2 << 20 };

/* ---- kernels, over elements begin .. end - 1 ---- */

typedef void stream_kernel(const bench_arrays *x, int64_t begin, int64_t end);

static void fill(const bench_arrays *x, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    x->a[i] = 1.0f;
    x->b[i] = 2.0f;
    x->c[i] = 3.0f;
  }
}

static void copy(const bench_arrays *x, int64_t begin, int64_t end) {
  memcpy(x->c + begin, x->a + begin, (size_t)(end - begin) * sizeof *x->c);
}

static void triad(const bench_arrays *x, int64_t begin, int64_t end) {
  float *restrict a = x->a;
  const float *restrict b = x->b, *restrict c = x->c;
  for (int64_t i = begin; i < end; i++) a[i] = b[i] + 0.5f * c[i];
}

static void sweep(const bench_arrays *x, int64_t begin, int64_t end) {
  const float *restrict a = x->a, *restrict b = x->b;
  float *restrict c = x->c;
  for (int64_t i = begin; i < end; i++) c[i] = 0.5f * c[i] + (a[i] - b[i]);
}

/* ---- threads ---- */

typedef struct {
  const bench_arrays *arrays;
  stream_kernel *kernel;
  int slot;
} stream_part;

static void *run_part(void *context) {
  const stream_part *p = context;
  int64_t n = p->arrays->n, threads = p->arrays->threads;
  p->kernel(p->arrays, n * p->slot / threads, n * (p->slot + 1) / threads);
  return NULL;
}

/* The last part runs here. Starting a thread takes some 20 us, a pass over arrays of four caches many milliseconds. */
static cov_status run_kernel(const bench_arrays *arrays, stream_kernel *kernel, double *seconds) {
  pthread_t thread[THREADS_MAX];
  stream_part part[THREADS_MAX];
  int started = 0, error = 0;
  const double start = cov_clock_s();
  for (int i = 0; i < arrays->threads; i++) part[i] = (stream_part){arrays, kernel, i};
  for (; started < arrays->threads - 1 && error == 0; started += error == 0) {
    error = pthread_create(&thread[started], NULL, run_part, &part[started]);
  }
  if (error == 0) run_part(&part[arrays->threads - 1]);
  for (int i = 0; i < started; i++) (void)pthread_join(thread[i], NULL);
  *seconds = cov_clock_s() - start;
  if (error != 0) return COV_FAIL(COV_ENOMEM, "cannot start %d threads: %s", arrays->threads, strerror(error));
  return COV_OK;
}

/* ---- arrays ---- */

/* Not through base/memory.h: that one clears memory in the calling thread, which would put all of it there. */
cov_status bench_arrays_create(int64_t bytes, int threads, bench_arrays *arrays) {
  double seconds;
  if (threads < 1 || threads > THREADS_MAX) return COV_FAIL(COV_EUSAGE, "%d threads; 1 .. 1024 are possible", threads);
  if (bytes == 0) bytes = 4 * bench_l3_bytes();
  size_t room = ((size_t)bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
  *arrays = (bench_arrays){.a = aligned_alloc(ALIGN_BYTES, room),
                           .b = aligned_alloc(ALIGN_BYTES, room),
                           .c = aligned_alloc(ALIGN_BYTES, room),
                           .n = bytes / (int64_t)sizeof(float),
                           .threads = threads};
  cov_status st = COV_OK;
  if (!arrays->a || !arrays->b || !arrays->c) {
    st = COV_FAIL(COV_ENOMEM, "no memory for three arrays of %lld bytes; --bytes makes them smaller", (long long)bytes);
  }
#ifdef MADV_HUGEPAGE
  float *const array[] = {arrays->a, arrays->b, arrays->c};
  for (int i = 0; st == COV_OK && i < 3; i++) (void)madvise(array[i], room, MADV_HUGEPAGE); /* as cov_mem_alloc does */
#endif
  if (st == COV_OK) st = run_kernel(arrays, fill, &seconds);
  if (st != COV_OK) bench_arrays_destroy(arrays);
  return st;
}

void bench_arrays_destroy(bench_arrays *arrays) {
  free(arrays->a);
  free(arrays->b);
  free(arrays->c);
  *arrays = (bench_arrays){0};
}

cov_status bench_bandwidth_measure(bench_arrays *arrays, bench_bandwidth *out) {
  const struct {
    stream_kernel *kernel;
    double bytes; /* an element */
    double *rate;
  } kernels[] = {{copy, 8.0, &out->copy}, {triad, 12.0, &out->triad}, {sweep, 16.0, &out->sweep}};
  out->best_cpu = 0.0;
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
    double seconds, cpu_s = -bench_cpu_s();
    COV_TRY(run_kernel(arrays, kernels[i].kernel, &seconds));
    cpu_s += bench_cpu_s();
    double bytes = kernels[i].bytes * (double)arrays->n;
    *kernels[i].rate = bytes / seconds;
    if (bytes / cpu_s > out->best_cpu) out->best_cpu = bytes / cpu_s;
  }
  return COV_OK;
}

double bench_bandwidth_best(const bench_bandwidth *b) {
  double best = b->copy > b->triad ? b->copy : b->triad;
  return b->sweep > best ? b->sweep : best;
}

/* ---- the bench ---- */

static cov_status measure(const bench_request *q, bench_arrays *arrays, double *copy_rate, double *triad_rate,
                          double *sweep_rate) {
  bench_bandwidth bandwidth;
  for (int64_t i = -1; i < q->reps; i++) { /* the first one warms up */
    COV_TRY(bench_bandwidth_measure(arrays, &bandwidth));
    if (i < 0) continue;
    copy_rate[i] = bandwidth.copy;
    triad_rate[i] = bandwidth.triad;
    sweep_rate[i] = bandwidth.sweep;
    fprintf(stderr, "stream: %lld/%lld\n", (long long)i + 1, (long long)q->reps);
  }
  return COV_OK;
}

cov_status bench_stream(const bench_request *q, bench_report *report) {
  bench_arrays arrays;
  COV_TRY(bench_arrays_create(q->bytes, (int)q->cfg.train.threads, &arrays));
  double *rates = calloc(3 * (size_t)q->reps, sizeof *rates);
  double *of_copy = rates, *of_triad = rates + q->reps, *of_sweep = rates + 2 * q->reps;
  cov_status st = rates ? measure(q, &arrays, of_copy, of_triad, of_sweep)
                        : COV_FAIL(COV_ENOMEM, "no memory for %lld repetitions", (long long)q->reps);
  if (st == COV_OK) {
    int64_t bytes = arrays.n * (int64_t)sizeof(float);
    if (bytes < 4 * bench_l3_bytes()) fprintf(stderr, "note: arrays below four times the last-level cache\n");
    bench_put_count(report, "array_bytes", bytes);
    bench_put_samples(report, "copy_bytes_per_s", of_copy, q->reps);
    bench_put_samples(report, "triad_bytes_per_s", of_triad, q->reps);
    bench_put_samples(report, "sweep_bytes_per_s", of_sweep, q->reps);
  }
  free(rates);
  bench_arrays_destroy(&arrays);
  return st;
}
