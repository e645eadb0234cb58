#include "cli/bench_machine.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void bench_cpu_model(char *text, size_t size) {
  char line[512];
  snprintf(text, size, "unknown");
  FILE *f = fopen("/proc/cpuinfo", "r");
  if (!f) return;
  while (fgets(line, sizeof line, f)) {
    const char *value = strchr(line, ':');
    if (!value || strncmp(line, "model name", 10) != 0) continue;
    value += 1 + strspn(value + 1, " \t");
    snprintf(text, size, "%.*s", (int)strcspn(value, "\n"), value);
    break;
  }
  fclose(f);
}

int64_t bench_l3_bytes(void) {
  enum { FALLBACK_BYTES = 32 << 20 };
  long long kib = 0;
  FILE *f = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
  if (f) {
    if (fscanf(f, "%lldK", &kib) != 1) kib = 0;
    fclose(f);
  }
  return kib > 0 && kib < (1LL << 32) ? kib * 1024 : FALLBACK_BYTES;
}

double bench_cpu_s(void) {
  struct timespec t = {0};
  (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* cannot fail on Linux: the clock exists */
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int64_t bench_cpus(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? n : 1;
}
