/* Matrix products without a library. B is read in panels of PANEL_K x PANEL_N elements that stay in the first-level
 * cache; every row of A passes over a panel before the next one is opened. */
#include <stddef.h>

#include "cpu/isa/isa.h"

enum { PANEL_K = 32, PANEL_N = 128, WIDE = 64, NARROW = 16 };

typedef struct {
  int64_t row_step, col_step; /* element (i, j) is at data[i * row_step + j * col_step] */
  const float *data;
} view;

static void copy_panel(float *panel, const view *b, int64_t k0, int64_t nk, int64_t j0, int64_t nj) {
  for (int64_t l = 0; l < nk; l++) {
    const float *from = b->data + (k0 + l) * b->row_step + j0 * b->col_step;
    float *to = panel + l * PANEL_N;
    for (int64_t j = 0; j < nj; j++) to[j] = from[j * b->col_step];
  }
}

/* c[0..width) += alpha * a_row[0..nk) * panel; with `width` a constant the sums stay in registers. */
static inline void add_strip(float *c, const float *a, int64_t a_step, const float *panel, int64_t nk, int width,
                             float alpha) {
  float sum[WIDE] = {0};
  for (int64_t l = 0; l < nk; l++) {
    float x = a[l * a_step];
#pragma omp simd
    for (int s = 0; s < width; s++) sum[s] += x * panel[l * PANEL_N + s];
  }
#pragma omp simd
  for (int s = 0; s < width; s++) c[s] += alpha * sum[s];
}

static void add_product(float *c, const float *a, int64_t a_step, const float *panel, int64_t nk, int64_t nj,
                        float alpha) {
  int64_t j = 0;
  for (; j + WIDE <= nj; j += WIDE) add_strip(c + j, a, a_step, panel + j, nk, WIDE, alpha);
  for (; j + NARROW <= nj; j += NARROW) add_strip(c + j, a, a_step, panel + j, nk, NARROW, alpha);
  for (; j < nj; j++) add_strip(c + j, a, a_step, panel + j, nk, 1, alpha);
}

void COVI_NAME(covi_matmul)(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                            const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
  float panel[PANEL_K * PANEL_N];
  view va = {ta ? 1 : lda, ta ? lda : 1, a}, vb = {tb ? 1 : ldb, tb ? ldb : 1, b};
  for (int64_t i = 0; i < m; i++) {
    /* As in BLAS: with beta = 0 the old C is not read. */
    for (int64_t j = 0; j < n; j++) c[i * ldc + j] = beta == 0.0f ? 0.0f : beta * c[i * ldc + j];
  }
  for (int64_t k0 = 0; k0 < k; k0 += PANEL_K) {
    int64_t nk = k - k0 < PANEL_K ? k - k0 : PANEL_K;
    for (int64_t j0 = 0; j0 < n; j0 += PANEL_N) {
      int64_t nj = n - j0 < PANEL_N ? n - j0 : PANEL_N;
      copy_panel(panel, &vb, k0, nk, j0, nj);
      for (int64_t i = 0; i < m; i++) {
        add_product(c + i * ldc + j0, va.data + i * va.row_step + k0 * va.col_step, va.col_step, panel, nk, nj, alpha);
      }
    }
  }
}
