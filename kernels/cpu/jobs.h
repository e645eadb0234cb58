/* Jobs of oneDNN by shape, made at the first use and kept: making one means generating machine code, some
 * milliseconds. At most COVI_JOBS_MAX are kept; the one unused for longest makes room. Thread-safe. */
#ifndef COVENANT_KERNELS_CPU_JOBS_H
#define COVENANT_KERNELS_CPU_JOBS_H

#include "cpu/onednn.h"

/* A step of a Llama has about twenty shapes: four linear maps and a head, each with three products, some with and some
 * without adding. */
enum { COVI_JOBS_MAX = 96 };

/** The job for `shape`, the caller's alone until covi_jobs_give. It needs at most `room_bytes` of scratch: where that
 * is too little, the library keeps the scratch itself. NULL: the library refuses the shape, or all places are in use.
 */
covi_job *covi_jobs_take(const covi_job_shape *shape, int64_t room_bytes);
void covi_jobs_give(covi_job *job);

#endif
