#include "sparseloco/dct.h"

#include <math.h>
#include <stddef.h>

#include "base/memory.h"

/* ---- cosines ---- */

/* sin and cos of an angle in [0, pi/4] by their power series, from the smallest term up: errors below 2^-52. */
static double series_sin(double x) {
  static const double inverse_factorial[] = {1.0,          -1.0 / 6,        1.0 / 120,          -1.0 / 5040,
                                             1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0, -1.0 / 1307674368000.0};
  double square = x * x, sum = 0;
  for (int i = 7; i >= 0; i--) sum = sum * square + inverse_factorial[i];
  return sum * x;
}

static double series_cos(double x) {
  static const double inverse_factorial[] = {1.0,         -1.0 / 2,       1.0 / 24,          -1.0 / 720,
                                             1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600.0, -1.0 / 87178291200.0};
  double square = x * x, sum = 0;
  for (int i = 7; i >= 0; i--) sum = sum * square + inverse_factorial[i];
  return sum;
}

/* cos(pi m / (2 n)), m >= 0; the angle is brought into the first eighth of the circle by integers. */
static double cosine(int m, int n) {
  const double pi = 3.14159265358979323846;
  m %= 4 * n;
  if (m > 2 * n) m = 4 * n - m; /* cos is even */
  double sign = 1;
  if (m > n) { /* cos(pi - x) = -cos x */
    m = 2 * n - m;
    sign = -1;
  }
  double angle = pi * (double)(2 * m <= n ? m : n - m) / (double)(2 * n);
  return sign * (2 * m <= n ? series_cos(angle) : series_sin(angle));
}

static float *basis_of(const cov_dct *dct, int n) {
  return dct->basis + (size_t)(n - 1) * (size_t)n * (size_t)(2 * n - 1) / 6; /* 1 + 4 + .. + (n-1)^2 */
}

static void fill_basis(const cov_dct *dct, int n) {
  float *basis = basis_of(dct, n);
  for (int b = 0; b < n; b++) {
    double scale = sqrt((b == 0 ? 1.0 : 2.0) / (double)n);
    for (int i = 0; i < n; i++) basis[b * n + i] = (float)(scale * cosine((2 * i + 1) * b, n));
  }
}

cov_status cov_dct_create(int edge, cov_dct *dct) {
  *dct = (cov_dct){0};
  if (edge < 1 || edge > COV_DCT_EDGE_MAX) {
    return COV_FAIL(COV_EUSAGE, "a cosine transform over %d elements; 1 to %d are possible", edge, COV_DCT_EDGE_MAX);
  }
  void *p;
  size_t elems = (size_t)edge * (size_t)(edge + 1) * (size_t)(2 * edge + 1) / 6;
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_SCRATCH, elems, sizeof(float), &p));
  dct->edge = edge;
  dct->basis = p;
  for (int n = 1; n <= edge; n++) fill_basis(dct, n);
  return COV_OK;
}

void cov_dct_destroy(cov_dct *dct) {
  cov_mem_free(dct->basis);
  *dct = (cov_dct){0};
}

/* ---- products ---- */

/* out[h, w] = A x with A[h, h] (A^T if `transposed`): rows of x are added in ascending order. */
static void left_product(const float *a, int transposed, int h, int w, const float *x, float *out) {
  for (int b = 0; b < h; b++) {
    float *row = out + (ptrdiff_t)b * w;
    for (int j = 0; j < w; j++) row[j] = 0;
    for (int i = 0; i < h; i++) {
      const float factor = transposed ? a[i * h + b] : a[b * h + i];
      const float *from = x + (ptrdiff_t)i * w;
      for (int j = 0; j < w; j++) {
        float term = factor * from[j];
        row[j] = row[j] + term;
      }
    }
  }
}

/* out[h, w] = x A^T with A[w, w] (x A if `transposed`): columns of x are taken in ascending order. */
static void right_product(const float *a, int transposed, int h, int w, const float *x, float *out) {
  float by_column[COV_DCT_EDGE_MAX * COV_DCT_EDGE_MAX]; /* row j: what x[:, j] is multiplied by */
  for (int j = 0; j < w; j++) {
    for (int d = 0; d < w; d++) by_column[j * w + d] = transposed ? a[j * w + d] : a[d * w + j];
  }
  for (int i = 0; i < h; i++) {
    float *row = out + (ptrdiff_t)i * w;
    for (int d = 0; d < w; d++) row[d] = 0;
    for (int j = 0; j < w; j++) {
      const float factor = x[(ptrdiff_t)i * w + j];
      const float *by = by_column + j * w;
      for (int d = 0; d < w; d++) {
        float term = factor * by[d];
        row[d] = row[d] + term;
      }
    }
  }
}

static void transform(const cov_dct *dct, int inverse, int h, int w, const float *x, float *out) {
  float half[COV_DCT_EDGE_MAX * COV_DCT_EDGE_MAX];
  COV_ASSERT(h >= 1 && w >= 1 && h <= dct->edge && w <= dct->edge);
  left_product(basis_of(dct, h), inverse, h, w, x, half);
  right_product(basis_of(dct, w), inverse, h, w, half, out);
}

void cov_dct_forward(const cov_dct *dct, int h, int w, const float *x, float *out) {
  transform(dct, 0, h, w, x, out);
}

void cov_dct_inverse(const cov_dct *dct, int h, int w, const float *x, float *out) {
  transform(dct, 1, h, w, x, out);
}
