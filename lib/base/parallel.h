/* Threads for one pass over an array: cut it, run the parts, wait. No pool and nothing global: starting a thread takes
 * some 20 us, so it is for passes of milliseconds. */
#ifndef COVENANT_BASE_PARALLEL_H
#define COVENANT_BASE_PARALLEL_H

enum { COV_THREADS_MAX = 256 };

/** Part `slot` of `parts` of some work. Parts run at the same time, in any order, each in a thread of its own. */
typedef void cov_parallel_work(void *context, int slot, int parts);

/** Run `work` for slots 0 .. parts-1 and wait for all; the last one runs in the calling thread. Where the system starts
 *  no more threads, the parts left run here one after the other, so the result is the same and only slower. parts in
 *  [1, COV_THREADS_MAX]. Local. */
void cov_parallel_run(int parts, cov_parallel_work *work, void *context);

#endif
