/* What both host tables ask of a place before they run. */
#ifndef COVENANT_KERNELS_PLACE_H
#define COVENANT_KERNELS_PLACE_H

#include <stddef.h>

#include "ops.h"

/** 1 if the host tables can run on `p`: host memory, a known dtype, at least one thread. */
static inline int covi_place_ok(const cov_place *p) {
  return p != NULL && p->space == COV_SPACE_HOST && (p->dtype == COV_F32 || p->dtype == COV_BF16) && p->threads >= 1;
}

/** The same for an operation that runs in f32 only. */
static inline int covi_place_f32_ok(const cov_place *p) {
  return covi_place_ok(p) && p->dtype == COV_F32;
}

#endif
