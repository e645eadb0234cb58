#include <math.h>

#include "cpu/isa/exp.h"
#include "cpu/isa/typed/elem.h"

/* Sums over a vocabulary are taken in pieces of this many elements, pieces in double, so that 262144 small terms do not
 * lose their low bits. */
enum { PIECE = 4096 };

void COVI_TYPED(covi_rmsnorm_forward)(void *y_, float *rstd, void *x_, const void *r_, const float *g, int64_t rows,
                                      int64_t D, float eps) {
  elem *y = y_, *x = x_;
  const elem *r = r_;
  for (int64_t row = 0; row < rows; row++, x += D, y += D) {
    float sum = 0;
    if (r) {
#pragma omp simd reduction(+ : sum)
      for (int64_t d = 0; d < D; d++) {
        elem both = narrow(wide(x[d]) + wide(r[d]));
        x[d] = both;
        sum += wide(both) * wide(both);
      }
      r += D;
    } else {
#pragma omp simd reduction(+ : sum)
      for (int64_t d = 0; d < D; d++) sum += wide(x[d]) * wide(x[d]);
    }
    float s = 1.0f / sqrtf(sum / (float)D + eps);
    rstd[row] = s;
#pragma omp simd
    for (int64_t d = 0; d < D; d++) y[d] = narrow(wide(x[d]) * s * g[d]);
  }
}

/* The formula is derived in ref/norm.c. */
void COVI_TYPED(covi_rmsnorm_backward_x)(void *dx_, const void *dy_, const void *x_, const float *g, const float *rstd,
                                         int64_t rows, int64_t D) {
  elem *dx = dx_;
  const elem *dy = dy_, *x = x_;
  for (int64_t r = 0; r < rows; r++, x += D, dy += D, dx += D) {
    float s = rstd[r], dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t d = 0; d < D; d++) dot += wide(dy[d]) * g[d] * wide(x[d]);
    float shared = s * s * s / (float)D * dot;
#pragma omp simd
    for (int64_t d = 0; d < D; d++) dx[d] = narrow(wide(dx[d]) + (s * g[d] * wide(dy[d]) - wide(x[d]) * shared));
  }
}

void COVI_TYPED(covi_rmsnorm_backward_g)(float *dg, const void *dy_, const void *x_, const float *rstd, int64_t rows,
                                         int64_t D, int64_t begin, int64_t end) {
  const elem *dy = dy_, *x = x_;
  for (int64_t r = 0; r < rows; r++, x += D, dy += D) {
    float s = rstd[r];
#pragma omp simd
    for (int64_t d = begin; d < end; d++) dg[d] += wide(dy[d]) * wide(x[d]) * s;
  }
}

void COVI_TYPED(covi_rope)(void *x_, const float *turn, int64_t heads, int64_t E, int sign) {
  elem *x = x_;
  float direction = (float)sign;
  for (int64_t h = 0; h < heads; h++, x += E) {
#pragma omp simd
    for (int64_t i = 0; i < E / 2; i++) {
      float c = turn[2 * i], s = direction * turn[2 * i + 1];
      float u = wide(x[2 * i]), v = wide(x[2 * i + 1]);
      x[2 * i] = narrow(u * c - v * s);
      x[2 * i + 1] = narrow(u * s + v * c);
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

double COVI_TYPED(covi_cross_entropy)(void *dx_, float *x, int64_t V, int32_t target, float grad_scale) {
  elem *dx = dx_;
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
  double loss = (double)top + log(sum) - (double)wanted;
  if (!dx) return loss;
  float factor = (float)((double)grad_scale / sum), at_target = x[target] * factor - grad_scale;
#pragma omp simd
  for (int64_t j = 0; j < V; j++) dx[j] = narrow(x[j] * factor);
  dx[target] = narrow(at_target);
  return loss;
}
