/* Element by element: addition, conversion, SwiGLU. */
#include "cpu/isa/exp.h"
#include "cpu/isa/typed/elem.h"

void COVI_TYPED(covi_add)(void *y_, const void *x_, int64_t n) {
  elem *y = y_;
  const elem *x = x_;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = narrow(wide(y[i]) + wide(x[i]));
}

void COVI_TYPED(covi_narrow)(void *y_, const float *x, int64_t n) {
  elem *y = y_;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = narrow(x[i]);
}

void COVI_TYPED(covi_add_wide)(float *y, const void *x_, int64_t n) {
  const elem *x = x_;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] += wide(x[i]);
}

void COVI_TYPED(covi_swiglu_forward)(void *y_, const void *gate_, const void *up_, int64_t n) {
  elem *y = y_;
  const elem *gate = gate_, *up = up_;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    float z = wide(gate[i]);
    y[i] = narrow(z / (1.0f + exp_f32(-z)) * wide(up[i]));
  }
}

void COVI_TYPED(covi_swiglu_backward)(void *dgate_, void *dup_, const void *dy_, const void *gate_, const void *up_,
                                      int64_t n) {
  elem *dgate = dgate_, *dup = dup_;
  const elem *dy = dy_, *gate = gate_, *up = up_;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    float z = wide(gate[i]), u = wide(up[i]), d = wide(dy[i]);
    float s = 1.0f / (1.0f + exp_f32(-z));
    dgate[i] = narrow(d * u * (s + z * s * (1.0f - s)));
    dup[i] = narrow(d * z * s);
  }
}
