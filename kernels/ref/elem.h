/* One element of an array of the place's dtype, for loops that compute in double. */
#ifndef COVENANT_KERNELS_REF_ELEM_H
#define COVENANT_KERNELS_REF_ELEM_H

#include "bf16.h"
#include "types.h"

static inline double get(cov_dtype dtype, const void *x, int64_t i) {
  return (double)(dtype == COV_F32 ? ((const float *)x)[i] : covi_bf16_widen(((const uint16_t *)x)[i]));
}

/* bf16 is rounded from f32, as every implementation does it. */
static inline void put(cov_dtype dtype, void *x, int64_t i, double value) {
  if (dtype == COV_F32) {
    ((float *)x)[i] = (float)value;
  } else {
    ((uint16_t *)x)[i] = covi_bf16_round((float)value);
  }
}

#endif
