#ifndef COVENANT_KERNELS_CPU_ROW_MAX_H
#define COVENANT_KERNELS_CPU_ROW_MAX_H

#include <math.h>
#include <stdint.h>

/* In explicit lanes: Clang does not vectorise a float max reduction unless NaN may be forgotten. A NaN is lost here and
 * comes back through exp. */
static inline float row_max(const float *x, int64_t n) {
  enum { LANES = 32 };
  float lane[LANES], top = -INFINITY;
  int64_t j = 0;
  for (int l = 0; l < LANES; l++) lane[l] = -INFINITY;
  for (; j + LANES <= n; j += LANES) {
#pragma omp simd
    for (int l = 0; l < LANES; l++) lane[l] = x[j + l] > lane[l] ? x[j + l] : lane[l];
  }
  for (int l = 0; l < LANES; l++) top = lane[l] > top ? lane[l] : top;
  for (; j < n; j++) top = x[j] > top ? x[j] : top;
  return top;
}

#endif
