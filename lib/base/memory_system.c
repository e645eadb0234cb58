/* What the system says about memory: of this process, and what is left. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { LINE_BYTES = 4096 };

/* The number behind `key` in a file of lines "key: number kB", in bytes; 0 if there is none. */
static size_t kib_of(const char *path, const char *key) {
  char line[LINE_BYTES];
  unsigned long long kib = 0;
  const size_t n = strlen(key);
  FILE *f = fopen(path, "r");
  if (!f) return 0;
  while (fgets(line, sizeof line, f)) {
    if (strncmp(line, key, n) != 0) continue;
    kib = strtoull(line + n, NULL, 10);
    break;
  }
  fclose(f);
  return (size_t)kib * 1024;
}

size_t cov_mem_peak_resident_bytes(void) {
  return kib_of("/proc/self/status", "VmHWM:");
}

/* A file that holds one number; false if it is absent or says "max". */
static int number_of(const char *folder, const char *name, size_t *value) {
  char path[LINE_BYTES + 64], text[64];
  if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return 0;
  FILE *f = fopen(path, "r");
  if (!f) return 0;
  int ok = fgets(text, sizeof text, f) != NULL && text[0] >= '0' && text[0] <= '9';
  fclose(f);
  if (ok) *value = (size_t)strtoull(text, NULL, 10);
  return ok;
}

/* What one control group leaves: its limit less what it uses, of which clean file pages can go. */
static size_t left_in(const char *folder, const char *limit_file, const char *usage_file) {
  char stat[LINE_BYTES + 64], line[LINE_BYTES];
  size_t limit, usage, files = 0;
  unsigned long long bytes;
  if (!number_of(folder, limit_file, &limit) || !number_of(folder, usage_file, &usage)) return SIZE_MAX;
  snprintf(stat, sizeof stat, "%s/memory.stat", folder);
  FILE *f = fopen(stat, "r");
  while (f && fgets(line, sizeof line, f)) {
    if (sscanf(line, "inactive_file %llu", &bytes) == 1) files = (size_t)bytes;
  }
  if (f) fclose(f);
  if (usage > files) usage -= files;
  return limit > usage ? limit - usage : 0;
}

/* The group and all above it, up to where they are mounted. */
static size_t left_up_from(const char *root, const char *group, const char *limit_file, const char *usage_file) {
  char folder[LINE_BYTES + LINE_BYTES];
  size_t least = SIZE_MAX;
  snprintf(folder, sizeof folder, "%s%s", root, strcmp(group, "/") == 0 ? "" : group);
  for (;;) {
    size_t left = left_in(folder, limit_file, usage_file);
    if (left < least) least = left;
    char *slash = strrchr(folder, '/');
    if (!slash || strlen(folder) <= strlen(root)) return least;
    *slash = '\0';
  }
}

size_t cov_mem_available_bytes(void) {
  char line[LINE_BYTES], *group;
  size_t least = kib_of("/proc/meminfo", "MemAvailable:");
  if (least == 0) least = SIZE_MAX;
  FILE *f = fopen("/proc/self/cgroup", "r");
  while (f && fgets(line, sizeof line, f)) {
    size_t left = SIZE_MAX;
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "0::", 3) == 0) {
      left = left_up_from("/sys/fs/cgroup", line + 3, "memory.max", "memory.current");
    } else if ((group = strstr(line, ":memory:"))) {
      left = left_up_from("/sys/fs/cgroup/memory", group + 8, "memory.limit_in_bytes", "memory.usage_in_bytes");
    }
    if (left < least) least = left;
  }
  if (f) fclose(f);
  return least == SIZE_MAX ? 0 : least;
}
