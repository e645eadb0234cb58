/* The orthonormal DCT-II of a chunk along both of its axes and its inverse, for strategy DeMo (protocol 3.4, optional
 * there): coefficient (b, d) = sum_ij x_ij F_h[b, i] F_w[d, j] with
 *
 *   F_n[b, i] = s_b cos(pi (2 i + 1) b / (2 n)),   s_0 = sqrt(1 / n), else sqrt(2 / n).
 *
 * It is part of the outer path, so it gives the same bits everywhere (docs/numerics.md): cosines come from + - * / and
 * sqrt alone, each sum is taken in ascending order, every operation rounded to fp32 on its own. A chunk is never cut,
 * so shards cannot matter. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_DCT_H
#define COVENANT_SPARSELOCO_DCT_H

#include "base/status.h"

enum { COV_DCT_EDGE_MAX = 64 };

/* F_n for every n up to the largest edge of a grid. */
typedef struct {
  int edge;     /* largest n */
  float *basis; /* owned: F_1, F_2 .. one after the other, row-major [n, n] */
} cov_dct;

/** Tables up to `edge` (1 .. COV_DCT_EDGE_MAX, else COV_EUSAGE), 4 edge^3 / 3 bytes. */
cov_status cov_dct_create(int edge, cov_dct *dct);
void cov_dct_destroy(cov_dct *dct);

/** out[h, w] <- the transform of x[h, w]; h, w <= edge. Rows are dense. x and out must not overlap. */
void cov_dct_forward(const cov_dct *dct, int h, int w, const float *x, float *out);
/** The inverse: x from its coefficients, up to rounding. */
void cov_dct_inverse(const cov_dct *dct, int h, int w, const float *x, float *out);

#endif
