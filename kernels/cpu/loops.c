#include "cpu/loops.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

extern const covi_loops covi_loops_baseline;
#ifdef COVENANT_X86
extern const covi_loops covi_loops_avx2, covi_loops_avx512, covi_loops_avx512bf16;
#endif

enum { WIDTHS = 4 };

/* The tables that this processor can run, widest first. */
static int list_usable(const covi_loops *usable[WIDTHS]) {
  int n = 0;
#ifdef COVENANT_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    if (__builtin_cpu_supports("avx512bf16")) usable[n++] = &covi_loops_avx512bf16;
    usable[n++] = &covi_loops_avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) usable[n++] = &covi_loops_avx2;
#endif
  usable[n++] = &covi_loops_baseline;
  return n;
}

static _Atomic(const covi_loops *) chosen;

const covi_loops *covi_loops_get(void) {
  const covi_loops *loops = atomic_load_explicit(&chosen, memory_order_acquire);
  if (loops) return loops;
  const covi_loops *usable[WIDTHS];
  list_usable(usable);
  /* Two threads that both come here store the same pointer. */
  atomic_store_explicit(&chosen, usable[0], memory_order_release);
  return usable[0];
}

int covi_loops_choose(const char *name) {
  const covi_loops *usable[WIDTHS];
  int n = list_usable(usable);
  for (int i = 0; i < n; i++) {
    if (name == NULL || strcmp(name, usable[i]->name) == 0) {
      atomic_store_explicit(&chosen, usable[i], memory_order_release);
      return 0;
    }
  }
  return -1;
}
