/* Memory accounted by space and tag: every large buffer names where it lives and what it is for, so that
 * --memory-report can print totals and `plan` can predict them. All Local and thread-safe.
 *
 * Prediction runs the code that allocates: between cov_mem_plan_begin and cov_mem_plan_end, blocks of the calling
 * thread are address space without memory behind it, counted apart from the real ones. */
#ifndef COVENANT_BASE_MEMORY_H
#define COVENANT_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"
#include "types.h"

/* clang-format off */
#define COV_MEM_TAG_LIST(X)                                                    \
  X(COV_MEM_PARAMS,      "parameters",                          "parameters")  \
  X(COV_MEM_PREPARED,    "prepared weights",                    "prepared")    \
  X(COV_MEM_GRADS,       "gradients",                           "gradients")   \
  X(COV_MEM_MOMENTS,     "optimizer moments",                   "moments")     \
  X(COV_MEM_ACTIVATIONS, "activations",                         "activations") \
  X(COV_MEM_OUTER,       "outer state (theta, error feedback)", "outer")       \
  X(COV_MEM_PAYLOAD,     "payloads",                            "payloads")    \
  X(COV_MEM_CHECKPOINT,  "checkpoint copies",                   "checkpoint")  \
  X(COV_MEM_DATA,        "data",                                "data")        \
  X(COV_MEM_SCRATCH,     "scratch",                             "scratch")     \
  X(COV_MEM_FILES,       "mapped files, not in the total",      "files")
/* clang-format on */
typedef enum {
#define X(name, text, key) name,
  COV_MEM_TAG_LIST(X)
#undef X
      COV_MEM_TAG_COUNT
} cov_mem_tag;

/** "parameters", as in --memory-report; "parameters" as a key. */
const char *cov_mem_tag_text(cov_mem_tag tag);
const char *cov_mem_tag_key(cov_mem_tag tag);

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
/** Largest sum over all tags but COV_MEM_FILES that `space` ever held: at most the sum of the tags' peaks. */
size_t cov_mem_peak_total_bytes(cov_space space);
/** Calls of cov_mem_alloc so far, of all threads: a loop that should not allocate leaves it alone. */
uint64_t cov_mem_allocations(void);
/** Most memory of this process that was ever resident (VmHWM), libraries and stacks included; 0 if the system does not
 *  say. Unlike getrusage's ru_maxrss it begins with this program, not with the one that started it. */
size_t cov_mem_peak_resident_bytes(void);
/** One line a non-empty (space, tag), used and peak in MiB, then the total and what was resident. */
void cov_mem_report(FILE *out);
/** Peaks in bytes as one line, "parameters=3676160 ... total=21331968 resident=95469568": host memory, tags that were
 *  never used are left out. 512 bytes suffice. */
void cov_mem_line(char *text, size_t size);

/* ---- prediction ---- */

typedef struct {
  ptrdiff_t used[COV_MEM_TAG_COUNT], peak[COV_MEM_TAG_COUNT]; /* host */
  ptrdiff_t used_total, peak_total;                           /* without COV_MEM_FILES */
} cov_mem_plan;

/** From here on this thread's blocks are counted in *plan (zeroed here) and get no memory: they may be written to, page
 *  by page, but code that plans should not. They are freed as others are, before the end. Plans do not nest. */
void cov_mem_plan_begin(cov_mem_plan *plan);
void cov_mem_plan_end(void);
/** 1: a block of cov_mem_alloc (its pointer) without memory behind it. */
int cov_mem_is_planned(const void *block);

/** Memory that this process may still take without being killed or made to swap: the least of what the kernel thinks
 *  available and what the limits of its control groups leave; 0 if nothing can be read. */
size_t cov_mem_available_bytes(void);

#endif
