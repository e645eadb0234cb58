#include <math.h>

#include "cpu/isa/exp.h"
#include "cpu/isa/isa.h"

void COVI_NAME(covi_scale)(float *x, int64_t n, float factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

void COVI_NAME(covi_exp)(float *y, const float *x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = exp_f32(x[i]);
}

double COVI_NAME(covi_sum_squares)(const float *x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
  return sum;
}

void COVI_NAME(covi_adamw)(float *w, float *m, float *v, const float *g, int64_t n, const covi_adamw_step *step) {
  const covi_adamw_step s = *step;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    float grad = s.grad_scale * g[i];
    float mean = s.b1 * m[i] + s.one_minus_b1 * grad;
    float square = s.b2 * v[i] + s.one_minus_b2 * grad * grad;
    m[i] = mean;
    v[i] = square;
    w[i] = s.keep * w[i] - s.step_size * mean / (sqrtf(square) * s.inv_sqrt_c2 + s.eps);
  }
}

void COVI_NAME(covi_momentum)(float *m, float *g, int64_t n, float beta, int nesterov, float grad_scale) {
  const float toward = 1.0f - beta;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    float grad = grad_scale * g[i];
    float mean = m[i] + toward * (grad - m[i]);
    m[i] = mean;
    g[i] = nesterov ? grad + beta * (mean - grad) : mean;
  }
}

void COVI_NAME(covi_blend)(float *y, const float *x, int64_t n, float keep, float rate) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = keep * y[i] + rate * x[i];
}
