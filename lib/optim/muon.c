#include "optim/muon.h"

#include <math.h>
#include <string.h>

/* Rows or columns of the matrix that are multiplied at a time: enough for the product to run at its full rate, few
 * enough that no second matrix is needed. */
enum { BLOCK = 512 };

void cov_muon_config_default(cov_muon_config *config) {
  *config = (cov_muon_config){.momentum = 0.95,
                              .nesterov = 1,
                              .steps = 5,
                              .decay = 0.01,
                              .scale = COV_MUON_SCALE_RMS,
                              .output = 1,
                              .adamw_lr_ratio = 0.2};
}

cov_status cov_muon_config_verify(const cov_muon_config *c) {
  if (!(c->momentum >= 0.0 && c->momentum < 1.0)) {
    return COV_FAIL(COV_EUSAGE, "Muon: momentum %g is not in [0, 1)", c->momentum);
  }
  if (c->steps < 1 || c->steps > COV_MUON_STEPS_MAX) {
    return COV_FAIL(COV_EUSAGE, "Muon: %d Newton-Schulz iterations; it must be 1 .. %d", c->steps, COV_MUON_STEPS_MAX);
  }
  if (!(c->decay >= 0.0 && c->decay <= 1e3)) {
    return COV_FAIL(COV_EUSAGE, "Muon: weight decay %g is not in [0, 1000]", c->decay);
  }
  if (c->scale != COV_MUON_SCALE_RMS && c->scale != COV_MUON_SCALE_SHAPE) {
    return COV_FAIL(COV_EBUG, "Muon: unknown scale %d", (int)c->scale);
  }
  if (!(c->adamw_lr_ratio >= 0.0 && c->adamw_lr_ratio <= 1e3)) {
    return COV_FAIL(COV_EUSAGE, "Muon: AdamW's part %g of the learning rate is not in [0, 1000]", c->adamw_lr_ratio);
  }
  return COV_OK;
}

int cov_muon_moves(const cov_muon_config *config, const cov_param *tensor) {
  if (tensor->dims != 2 || strstr(tensor->name, "embed") || strstr(tensor->name, "lm_head")) return 0;
  return config->output || strcmp(tensor->name, "output.weight") != 0;
}

const double *cov_muon_coefficients(int i) {
  static const double table[5][3] = {{4.0848, -6.8946, 2.9270},
                                     {3.9505, -6.3029, 2.6377},
                                     {3.7418, -5.5913, 2.3037},
                                     {2.8769, -3.1427, 1.2046},
                                     {2.8366, -3.0525, 1.2012}};
  return table[i < 5 ? i : 4];
}

int64_t cov_muon_scratch_elems(int64_t rows, int64_t cols) {
  const int64_t r = rows < cols ? rows : cols;
  return 2 * r * r + BLOCK * r;
}

/* out[n, n] of row length n = b A + c A A. */
static int polynomial(const cov_ops *ops, const cov_place *p, int64_t n, const double *abc, const float *a,
                      float *out) {
  memcpy(out, a, (size_t)(n * n) * sizeof *out);
  return ops->matmul(p, 0, 0, n, n, n, (float)abc[2], a, n, a, n, (float)abc[1], out, n);
}

static void copy_rows(float *to, int64_t to_ld, const float *from, int64_t from_ld, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; r++) memcpy(to + r * to_ld, from + r * from_ld, (size_t)cols * sizeof *to);
}

/* x <- a x + b x where b multiplies from the left: columns do not mix, so some are done at a time. */
static int multiply_columns(const cov_ops *ops, const cov_place *p, int64_t rows, int64_t cols, float a, const float *b,
                            float *x, float *block) {
  for (int64_t first = 0; first < cols; first += BLOCK) {
    const int64_t n = cols - first < BLOCK ? cols - first : BLOCK;
    copy_rows(block, n, x + first, cols, rows, n);
    if (ops->matmul(p, 0, 0, rows, n, rows, 1.0f, b, rows, x + first, cols, a, block, n) != 0) return -1;
    copy_rows(x + first, cols, block, n, rows, n);
  }
  return 0;
}

/* x <- a x + x b: rows do not mix. */
static int multiply_rows(const cov_ops *ops, const cov_place *p, int64_t rows, int64_t cols, float a, const float *b,
                         float *x, float *block) {
  for (int64_t first = 0; first < rows; first += BLOCK) {
    const int64_t n = rows - first < BLOCK ? rows - first : BLOCK;
    float *at = x + first * cols;
    memcpy(block, at, (size_t)(n * cols) * sizeof *block);
    if (ops->matmul(p, 0, 0, n, cols, cols, 1.0f, at, cols, b, cols, a, block, cols) != 0) return -1;
    memcpy(at, block, (size_t)(n * cols) * sizeof *block);
  }
  return 0;
}

cov_status cov_muon_orthogonalise(const cov_ops *ops, const cov_place *where, int64_t rows, int64_t cols, int steps,
                                  float *x, float *scratch) {
  cov_place f32 = *where;
  const cov_place *place = &f32;
  const int tall = rows > cols;
  const int64_t r = tall ? cols : rows;
  float *gram = scratch, *poly = gram + r * r, *block = poly + r * r;
  double squares;
  f32.dtype = COV_F32; /* whatever the model computes in */
  int bad = ops->sum_squares(place, x, rows * cols, &squares);
  if (!bad) bad = ops->blend(place, x, NULL, rows * cols, (float)(1.0 / (sqrt(squares) + 1e-7)), 0.0f);
  for (int i = 0; i < steps && !bad; i++) {
    const double *abc = cov_muon_coefficients(i);
    bad = ops->matmul(place, tall, !tall, r, r, tall ? rows : cols, 1.0f, x, cols, x, cols, 0.0f, gram, r);
    if (!bad) bad = polynomial(ops, place, r, abc, gram, poly);
    if (bad) break;
    bad = tall ? multiply_rows(ops, place, rows, cols, (float)abc[0], poly, x, block)
               : multiply_columns(ops, place, rows, cols, (float)abc[0], poly, x, block);
  }
  if (!bad) return COV_OK;
  return COV_FAIL(COV_EBUG, "%s: Newton-Schulz of a %lld x %lld matrix was refused", ops->name, (long long)rows,
                  (long long)cols);
}

cov_status cov_muon_direction(const cov_muon_config *config, const cov_param *t, const cov_ops *ops,
                              const cov_place *place, float *m, float *grad, double grad_scale) {
  if (ops->momentum(place, m, grad, t->elems, (float)config->momentum, config->nesterov, (float)grad_scale) == 0) {
    return COV_OK;
  }
  return COV_FAIL(COV_EBUG, "%s: momentum refused %s (%lld elements)", ops->name, t->name, (long long)t->elems);
}

cov_status cov_muon_move(const cov_muon_config *config, const cov_param *whole, const cov_param *t, const cov_ops *ops,
                         const cov_place *place, float *w, const float *x, double lr) {
  const double rows = (double)whole->rows, cols = (double)whole->cols;
  const double scale =
      config->scale == COV_MUON_SCALE_RMS ? 0.2 * sqrt(fmax(rows, cols)) : sqrt(fmax(1.0, rows / cols));
  const double decay = t->decay ? config->decay : 0.0;
  if (ops->blend(place, w, x, t->elems, (float)(1.0 - lr * decay), (float)(-lr * scale)) == 0) return COV_OK;
  return COV_FAIL(COV_EBUG, "%s: blend refused %s (%lld elements)", ops->name, t->name, (long long)t->elems);
}
