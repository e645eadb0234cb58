/* What both host tables ask of a place before they run. */
#ifndef COVENANT_KERNELS_PLACE_H
#define COVENANT_KERNELS_PLACE_H

#include <stddef.h>

#include "ops.h"

/** 1 if the host tables can run on `p`: f32 in host memory, at least one thread. bf16 will come behind this line. */
static inline int covi_place_ok(const cov_place *p) {
  return p != NULL && p->space == COV_SPACE_HOST && p->dtype == COV_F32 && p->threads >= 1;
}

#endif
