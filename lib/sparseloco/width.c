#include "sparseloco/width.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

enum { WIDTHS = 4 };

/* The tables that this processor can run, widest first. */
static int list_usable(const covi_width *usable[WIDTHS]) {
  int n = 0;
#ifdef COVI_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("popcnt")) {
    if (__builtin_cpu_supports("avx512vbmi2")) usable[n++] = &covi_width_vbmi2;
    usable[n++] = &covi_width_avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("popcnt"))
    usable[n++] = &covi_width_avx2;
#endif
  usable[n++] = &covi_width_plain;
  return n;
}

static _Atomic(const covi_width *) chosen;

const covi_width *covi_width_get(void) {
  const covi_width *width = atomic_load_explicit(&chosen, memory_order_acquire);
  if (width) return width;
  const covi_width *usable[WIDTHS];
  list_usable(usable);
  /* Two threads that both come here store the same pointer. */
  atomic_store_explicit(&chosen, usable[0], memory_order_release);
  return usable[0];
}

int covi_width_choose(const char *name) {
  const covi_width *usable[WIDTHS];
  int n = list_usable(usable);
  for (int i = 0; i < n; i++) {
    if (name == NULL || strcmp(name, usable[i]->name) == 0) {
      atomic_store_explicit(&chosen, usable[i], memory_order_release);
      return 0;
    }
  }
  return -1;
}
