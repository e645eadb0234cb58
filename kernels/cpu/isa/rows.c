#include <math.h>

#include "cpu/isa/exp.h"
#include "cpu/isa/isa.h"

/* Sums over a vocabulary are taken in pieces of this many elements, pieces in double, so that 262144 small terms do not
 * lose their low bits. */
enum { PIECE = 4096 };

void COVI_NAME(covi_rmsnorm_forward)(float *y, float *rstd, const float *x, const float *g, int64_t rows, int64_t D,
                                     float eps) {
  for (int64_t r = 0; r < rows; r++, x += D, y += D) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < D; d++) sum += x[d] * x[d];
    float s = 1.0f / sqrtf(sum / (float)D + eps);
    rstd[r] = s;
#pragma omp simd
    for (int64_t d = 0; d < D; d++) y[d] = x[d] * s * g[d];
  }
}

/* The formula is derived in ref/norm.c. */
void COVI_NAME(covi_rmsnorm_backward_x)(float *dx, const float *dy, const float *x, const float *g, const float *rstd,
                                        int64_t rows, int64_t D) {
  for (int64_t r = 0; r < rows; r++, x += D, dy += D, dx += D) {
    float s = rstd[r], dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t d = 0; d < D; d++) dot += dy[d] * g[d] * x[d];
    float shared = s * s * s / (float)D * dot;
#pragma omp simd
    for (int64_t d = 0; d < D; d++) dx[d] += s * g[d] * dy[d] - x[d] * shared;
  }
}

void COVI_NAME(covi_rmsnorm_backward_g)(float *dg, const float *dy, const float *x, const float *rstd, int64_t rows,
                                        int64_t D, int64_t begin, int64_t end) {
  for (int64_t r = 0; r < rows; r++, x += D, dy += D) {
    float s = rstd[r];
#pragma omp simd
    for (int64_t d = begin; d < end; d++) dg[d] += dy[d] * x[d] * s;
  }
}

void COVI_NAME(covi_rope)(float *x, const float *turn, int64_t heads, int64_t E, int sign) {
  float direction = (float)sign;
  for (int64_t h = 0; h < heads; h++, x += E) {
#pragma omp simd
    for (int64_t i = 0; i < E / 2; i++) {
      float c = turn[2 * i], s = direction * turn[2 * i + 1];
      float u = x[2 * i], v = x[2 * i + 1];
      x[2 * i] = u * c - v * s;
      x[2 * i + 1] = u * s + v * c;
    }
  }
}

/* In explicit lanes: Clang does not vectorise a float max reduction unless NaN may be forgotten. A NaN is lost here and
 * comes back through exp. */
static float row_max(const float *x, int64_t n) {
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

float COVI_NAME(covi_exp_row)(float *x, int64_t n, float *sum) {
  float top = row_max(x, n), total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t j = 0; j < n; j++) {
    float e = exp_f32(x[j] - top);
    x[j] = e;
    total += e;
  }
  *sum = total;
  return top;
}

double COVI_NAME(covi_cross_entropy)(float *x, int64_t V, int32_t target, float grad_scale) {
  float top = row_max(x, V), wanted = x[target];
  double sum = 0;
  for (int64_t begin = 0; begin < V; begin += PIECE) {
    int64_t end = begin + PIECE < V ? begin + PIECE : V;
    float piece = 0;
#pragma omp simd reduction(+ : piece)
    for (int64_t j = begin; j < end; j++) {
      float e = exp_f32(x[j] - top);
      x[j] = e;
      piece += e;
    }
    sum += (double)piece;
  }
  float factor = (float)((double)grad_scale / sum);
#pragma omp simd
  for (int64_t j = 0; j < V; j++) x[j] *= factor;
  x[target] -= grad_scale;
  return (double)top + log(sum) - (double)wanted;
}

void COVI_NAME(covi_attention_grad)(float *p, float *ds, int64_t n, float lse, float own) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    float e = exp_f32(p[j] - lse);
    p[j] = e;
    ds[j] = e * (ds[j] - own);
  }
}
