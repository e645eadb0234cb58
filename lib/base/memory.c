#include "base/memory.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* In front of every block, padded to keep the user's pointer on a 64-byte boundary. */
typedef struct {
  uint64_t magic;
  size_t bytes;
  size_t mapped_bytes; /* of a planned block; 0: of malloc */
  cov_space space;
  cov_mem_tag tag;
} block_head;

enum { HEAD_BYTES = 64, PAGE_BYTES = 2 << 20, LARGE_BYTES = 32 << 20 }; /* a page: a large one */
_Static_assert(sizeof(block_head) <= HEAD_BYTES, "the head fits");
static const uint64_t block_magic = 0x434f564d454d3031u; /* "COVMEM01" */

static atomic_ptrdiff_t used[COV_SPACE_COUNT][COV_MEM_TAG_COUNT];
static atomic_ptrdiff_t peak[COV_SPACE_COUNT][COV_MEM_TAG_COUNT];
static atomic_ptrdiff_t used_total[COV_SPACE_COUNT], peak_total[COV_SPACE_COUNT];
static _Atomic uint64_t allocations;

static _Thread_local cov_mem_plan *planning;

#define TEXT(name, text, key) text,
#define KEY(name, text, key)  key,
const char *cov_mem_tag_text(cov_mem_tag tag) {
  static const char *const texts[] = {COV_MEM_TAG_LIST(TEXT)};
  return texts[tag];
}

const char *cov_mem_tag_key(cov_mem_tag tag) {
  static const char *const keys[] = {COV_MEM_TAG_LIST(KEY)};
  return keys[tag];
}

/* ---- accounting ---- */

static void add(atomic_ptrdiff_t *sum, atomic_ptrdiff_t *most, ptrdiff_t bytes) {
  ptrdiff_t now = atomic_fetch_add(sum, bytes) + bytes;
  ptrdiff_t top = atomic_load(most);
  while (now > top && !atomic_compare_exchange_weak(most, &top, now)) {
  }
}

static void add_planned(ptrdiff_t *sum, ptrdiff_t *most, ptrdiff_t bytes) {
  *sum += bytes;
  if (*sum > *most) *most = *sum;
}

void cov_mem_account(cov_space space, cov_mem_tag tag, ptrdiff_t bytes) {
  if (planning) {
    add_planned(&planning->used[tag], &planning->peak[tag], bytes);
    if (tag != COV_MEM_FILES) add_planned(&planning->used_total, &planning->peak_total, bytes);
    return;
  }
  add(&used[space][tag], &peak[space][tag], bytes);
  if (tag != COV_MEM_FILES) add(&used_total[space], &peak_total[space], bytes);
}

void cov_mem_plan_begin(cov_mem_plan *plan) {
  COV_ASSERT(!planning);
  memset(plan, 0, sizeof *plan);
  planning = plan;
}

void cov_mem_plan_end(void) {
  COV_ASSERT(planning);
  planning = NULL;
}

/* ---- blocks ---- */

/* Zero pages that no memory stands behind until they are written. */
static char *map_nothing(size_t whole) {
  void *p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

cov_status cov_mem_alloc(cov_space space, cov_mem_tag tag, size_t bytes, void **out) {
  *out = NULL;
  if (space != COV_SPACE_HOST) {
    return COV_FAIL(COV_EUSAGE, "pinned and device memory need a CUDA build (cmake --preset cuda)");
  }
  if (bytes > PTRDIFF_MAX - 2 * HEAD_BYTES) {
    return COV_FAIL(COV_ENOMEM, "%zu bytes for %s are more than an address space holds", bytes, cov_mem_tag_text(tag));
  }
  const size_t align = bytes < LARGE_BYTES ? 64 : PAGE_BYTES, whole = (bytes + HEAD_BYTES + align - 1) / align * align;
  char *raw = planning ? map_nothing(whole) : aligned_alloc(align, whole);
  if (!raw) {
    return COV_FAIL(COV_ENOMEM, "no memory for %.1f MiB of %s; use a smaller model or batch, or a larger machine",
                    (double)bytes / 1048576.0, cov_mem_tag_text(tag));
  }
#ifdef MADV_HUGEPAGE
  /* A wish. Sweeps over blocks of many pages spend a quarter of their time on finding pages otherwise. */
  if (!planning && align == PAGE_BYTES) (void)madvise(raw, whole, MADV_HUGEPAGE);
#endif
  if (!planning) memset(raw, 0, whole);
  block_head head = {block_magic, bytes, planning ? whole : 0, space, tag};
  memcpy(raw, &head, sizeof head);
  cov_mem_account(space, tag, (ptrdiff_t)bytes);
  atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
  *out = raw + HEAD_BYTES;
  return COV_OK;
}

int cov_mem_is_planned(const void *block) {
  block_head head;
  memcpy(&head, (const char *)block - HEAD_BYTES, sizeof head);
  COV_ASSERT(head.magic == block_magic);
  return head.mapped_bytes != 0;
}

cov_status cov_mem_array(cov_space space, cov_mem_tag tag, size_t count, size_t item_bytes, void **out) {
  *out = NULL;
  if (item_bytes && count > SIZE_MAX / item_bytes) {
    return COV_FAIL(COV_ENOMEM, "%zu items of %zu bytes for %s overflow", count, item_bytes, cov_mem_tag_text(tag));
  }
  return cov_mem_alloc(space, tag, count * item_bytes, out);
}

void cov_mem_free(void *p) {
  if (!p) return;
  char *raw = (char *)p - HEAD_BYTES;
  block_head head;
  memcpy(&head, raw, sizeof head);
  COV_ASSERT(head.magic == block_magic);
  COV_ASSERT(!head.mapped_bytes == !planning); /* planned blocks live between begin and end, others outlive it */
  cov_mem_account(head.space, head.tag, -(ptrdiff_t)head.bytes);
  memset(raw, 0, sizeof head); /* a second free is caught by the assert above */
  if (head.mapped_bytes) {
    (void)munmap(raw, head.mapped_bytes);
  } else {
    free(raw);
  }
}

/* ---- totals ---- */

size_t cov_mem_used_bytes(cov_space space, cov_mem_tag tag) {
  return (size_t)atomic_load(&used[space][tag]);
}

size_t cov_mem_peak_bytes(cov_space space, cov_mem_tag tag) {
  return (size_t)atomic_load(&peak[space][tag]);
}

size_t cov_mem_peak_total_bytes(cov_space space) {
  return (size_t)atomic_load(&peak_total[space]);
}

uint64_t cov_mem_allocations(void) {
  return atomic_load_explicit(&allocations, memory_order_relaxed);
}

static const char *const space_name[COV_SPACE_COUNT] = {"host", "pinned", "device"};

static void report_line(FILE *out, const char *space, const char *what, double now, double top) {
  fprintf(out, "%-7s %-38s %12.2f %12.2f\n", space, what, now / 1048576.0, top / 1048576.0);
}

void cov_mem_report(FILE *out) {
  fprintf(out, "%-7s %-38s %12s %12s\n", "space", "what", "used MiB", "peak MiB");
  for (int s = 0; s < COV_SPACE_COUNT; s++) {
    for (int t = 0; t < COV_MEM_TAG_COUNT; t++) {
      size_t top = cov_mem_peak_bytes((cov_space)s, (cov_mem_tag)t);
      if (!top) continue;
      size_t now = cov_mem_used_bytes((cov_space)s, (cov_mem_tag)t);
      report_line(out, space_name[s], cov_mem_tag_text((cov_mem_tag)t), (double)now, (double)top);
    }
    size_t top = cov_mem_peak_total_bytes((cov_space)s);
    if (top) report_line(out, space_name[s], "total", (double)atomic_load(&used_total[s]), (double)top);
  }
  fprintf(out, "resident at most %.2f MiB, with libraries and the shared memory of the peer\n",
          (double)cov_mem_peak_resident_bytes() / 1048576.0);
}

void cov_mem_line(char *text, size_t size) {
  size_t at = 0;
  for (int t = 0; t < COV_MEM_TAG_COUNT && at < size; t++) {
    size_t top = cov_mem_peak_bytes(COV_SPACE_HOST, (cov_mem_tag)t);
    if (top) at += (size_t)snprintf(text + at, size - at, "%s=%zu ", cov_mem_tag_key((cov_mem_tag)t), top);
  }
  if (at >= size) return;
  snprintf(text + at, size - at, "total=%zu resident=%zu", cov_mem_peak_total_bytes(COV_SPACE_HOST),
           cov_mem_peak_resident_bytes());
}
