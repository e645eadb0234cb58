/* Threads for the CPU table, behind one function: OpenMP where the build has it, otherwise the calling thread. */
#ifndef COVENANT_KERNELS_CPU_PARALLEL_H
#define COVENANT_KERNELS_CPU_PARALLEL_H

#include <stdint.h>

/** A piece of work: items [begin, end) of n. `slot` in [0, threads) is this thread's, for its part of the scratch. */
typedef void covi_work(void *context, int64_t begin, int64_t end, int slot);

/** Run `work` over items [0, n), cut into at most `threads` contiguous parts of at least `grain` items, and wait. The
 *  cut depends on `threads`: work whose items do not share sums gives the same bits for any cut. */
void covi_parallel(int threads, int64_t n, int64_t grain, covi_work *work, void *context);

/** Threads that the library below (oneDNN through OpenMP, OpenBLAS) uses from now on. Does nothing inside `work`: call
 * it before covi_parallel. Without OpenMP and OpenBLAS a no-op: then the library's own environment variable decides. */
void covi_library_threads(int threads);

#endif
