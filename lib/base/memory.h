/* Memory accounted by space and tag: every large buffer names where it lives and what it is for, so that
 * --memory-report can print totals and `plan` can predict them. All Local and thread-safe. */
#ifndef COVENANT_BASE_MEMORY_H
#define COVENANT_BASE_MEMORY_H

#include <stddef.h>
#include <stdio.h>

#include "base/status.h"
#include "types.h"

/* clang-format off */
#define COV_MEM_TAG_LIST(X)                                        \
  X(COV_MEM_PARAMS,      "parameters")                             \
  X(COV_MEM_GRADS,       "gradients")                              \
  X(COV_MEM_MOMENTS,     "optimizer moments")                      \
  X(COV_MEM_ACTIVATIONS, "activations")                            \
  X(COV_MEM_OUTER,       "outer state (theta, error feedback)")    \
  X(COV_MEM_PAYLOAD,     "payloads")                               \
  X(COV_MEM_CHECKPOINT,  "checkpoint copies")                      \
  X(COV_MEM_DATA,        "data")                                   \
  X(COV_MEM_SCRATCH,     "scratch")
/* clang-format on */
typedef enum {
#define X(name, text) name,
  COV_MEM_TAG_LIST(X)
#undef X
      COV_MEM_TAG_COUNT
} cov_mem_tag;

/** `bytes` of zeroed memory, aligned to 64 bytes, accounted under (space, tag). `*out` is owned by the caller and
 *  released with cov_mem_free. bytes = 0 gives a valid pointer. COV_ENOMEM names size and tag. DEVICE and PINNED
 *  need a CUDA build, else COV_EUSAGE. */
cov_status cov_mem_alloc(cov_space space, cov_mem_tag tag, size_t bytes, void **out);
/** `count` items of `item_bytes`; an overflowing product is COV_ENOMEM. */
cov_status cov_mem_array(cov_space space, cov_mem_tag tag, size_t count, size_t item_bytes, void **out);
/** NULL is fine. */
void cov_mem_free(void *p);

/** Account memory that was obtained elsewhere (a shared segment, a file mapping): bytes may be negative to release. */
void cov_mem_account(cov_space space, cov_mem_tag tag, ptrdiff_t bytes);

size_t cov_mem_used_bytes(cov_space space, cov_mem_tag tag);
size_t cov_mem_peak_bytes(cov_space space, cov_mem_tag tag);
/** Largest sum over all tags that `space` ever held: at most the sum of the tags' peaks. */
size_t cov_mem_peak_total_bytes(cov_space space);
/** Most memory of this process that was ever resident (VmHWM), libraries and stacks included; 0 if the system does not
 *  say. Unlike getrusage's ru_maxrss it begins with this program, not with the one that started it. */
size_t cov_mem_peak_resident_bytes(void);
/** One line a non-empty (space, tag), used and peak in MiB. */
void cov_mem_report(FILE *out);

#endif
