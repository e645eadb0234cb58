#include "base/memory.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* In front of every block, padded to keep the user's pointer on a 64-byte boundary. */
typedef struct {
  uint64_t magic;
  size_t bytes;
  cov_space space;
  cov_mem_tag tag;
} block_head;

enum { HEAD_BYTES = 64 };
static const uint64_t block_magic = 0x434f564d454d3031u; /* "COVMEM01" */

static atomic_ptrdiff_t used[COV_SPACE_COUNT][COV_MEM_TAG_COUNT];
static atomic_ptrdiff_t peak[COV_SPACE_COUNT][COV_MEM_TAG_COUNT];
static atomic_ptrdiff_t used_total[COV_SPACE_COUNT], peak_total[COV_SPACE_COUNT];

static const char *tag_text(cov_mem_tag tag) {
  static const char *const names[] = {
#define X(name, text) text,
      COV_MEM_TAG_LIST(X)
#undef X
  };
  return names[tag];
}

static void add(atomic_ptrdiff_t *sum, atomic_ptrdiff_t *most, ptrdiff_t bytes) {
  ptrdiff_t now = atomic_fetch_add(sum, bytes) + bytes;
  ptrdiff_t top = atomic_load(most);
  while (now > top && !atomic_compare_exchange_weak(most, &top, now)) {
  }
}

void cov_mem_account(cov_space space, cov_mem_tag tag, ptrdiff_t bytes) {
  add(&used[space][tag], &peak[space][tag], bytes);
  add(&used_total[space], &peak_total[space], bytes);
}

cov_status cov_mem_alloc(cov_space space, cov_mem_tag tag, size_t bytes, void **out) {
  *out = NULL;
  if (space != COV_SPACE_HOST) {
    return COV_FAIL(COV_EUSAGE, "pinned and device memory need a CUDA build (cmake --preset cuda)");
  }
  if (bytes > PTRDIFF_MAX - 2 * HEAD_BYTES) {
    return COV_FAIL(COV_ENOMEM, "%zu bytes for %s are more than an address space holds", bytes, tag_text(tag));
  }
  size_t whole = (bytes + HEAD_BYTES + 63) / 64 * 64;
  char *raw = aligned_alloc(64, whole);
  if (!raw) {
    return COV_FAIL(COV_ENOMEM, "no memory for %.1f MiB of %s; use a smaller model or batch, or a larger machine",
                    (double)bytes / 1048576.0, tag_text(tag));
  }
  memset(raw, 0, whole);
  block_head head = {block_magic, bytes, space, tag};
  memcpy(raw, &head, sizeof head);
  cov_mem_account(space, tag, (ptrdiff_t)bytes);
  *out = raw + HEAD_BYTES;
  return COV_OK;
}

cov_status cov_mem_array(cov_space space, cov_mem_tag tag, size_t count, size_t item_bytes, void **out) {
  *out = NULL;
  if (item_bytes && count > SIZE_MAX / item_bytes) {
    return COV_FAIL(COV_ENOMEM, "%zu items of %zu bytes for %s overflow", count, item_bytes, tag_text(tag));
  }
  return cov_mem_alloc(space, tag, count * item_bytes, out);
}

void cov_mem_free(void *p) {
  if (!p) return;
  char *raw = (char *)p - HEAD_BYTES;
  block_head head;
  memcpy(&head, raw, sizeof head);
  COV_ASSERT(head.magic == block_magic);
  cov_mem_account(head.space, head.tag, -(ptrdiff_t)head.bytes);
  memset(raw, 0, sizeof head); /* a second free is caught by the assert above */
  free(raw);
}

size_t cov_mem_used_bytes(cov_space space, cov_mem_tag tag) {
  return (size_t)atomic_load(&used[space][tag]);
}

size_t cov_mem_peak_bytes(cov_space space, cov_mem_tag tag) {
  return (size_t)atomic_load(&peak[space][tag]);
}

size_t cov_mem_peak_total_bytes(cov_space space) {
  return (size_t)atomic_load(&peak_total[space]);
}

size_t cov_mem_peak_resident_bytes(void) {
  char line[256];
  unsigned long long kib = 0;
  FILE *f = fopen("/proc/self/status", "r");
  if (!f) return 0;
  while (fgets(line, sizeof line, f) && sscanf(line, "VmHWM: %llu kB", &kib) != 1) {
  }
  fclose(f);
  return (size_t)kib * 1024;
}

void cov_mem_report(FILE *out) {
  static const char *const spaces[] = {"host", "pinned", "device"};
  fprintf(out, "%-7s %-38s %12s %12s\n", "space", "what", "used MiB", "peak MiB");
  for (int s = 0; s < COV_SPACE_COUNT; s++) {
    for (int t = 0; t < COV_MEM_TAG_COUNT; t++) {
      size_t top = cov_mem_peak_bytes((cov_space)s, (cov_mem_tag)t);
      if (!top) continue;
      size_t now = cov_mem_used_bytes((cov_space)s, (cov_mem_tag)t);
      fprintf(out, "%-7s %-38s %12.2f %12.2f\n", spaces[s], tag_text((cov_mem_tag)t), (double)now / 1048576.0,
              (double)top / 1048576.0);
    }
  }
}
