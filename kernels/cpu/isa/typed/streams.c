/* Element by element: addition, conversion, SwiGLU. */
#include "cpu/isa/typed/elem.h"
#include "cpu/isa/vec.h"

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

/* SwiGLU goes through chunks of f32 in the first-level cache: one conversion for both types, and whole vectors at the
 * end of an array too. */
enum { CHUNK = 256 };

static void widen_chunk(float *to, const elem *x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) to[i] = wide(x[i]);
}

static void narrow_chunk(elem *y, const float *from, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = narrow(from[i]);
}

/* 1 / (1 + exp(-z)). Below z = -87 the exponential stays at 2^126, so that its inverse is finite. */
static inline vec sigmoid(vec z) {
  vec t = vec_exp2(vec_min(vec_set(126.0f), vec_mul(z, vec_set(-0x1.715476p+0f))));
  return vec_inverse(vec_add(vec_set(1.0f), t));
}

void COVI_TYPED(covi_swiglu_forward)(void *y_, const void *gate_, const void *up_, int64_t n) {
  elem *y = y_;
  const elem *gate = gate_, *up = up_;
  float z[CHUNK] = {0}, u[CHUNK] = {0};
  for (int64_t begin = 0; begin < n; begin += CHUNK) {
    const int64_t m = n - begin < CHUNK ? n - begin : CHUNK;
    widen_chunk(z, gate + begin, m);
    widen_chunk(u, up + begin, m);
    for (int64_t i = 0; i < m; i += LANES) {
      vec g = vec_load(z + i);
      vec_store(z + i, vec_mul(vec_mul(g, sigmoid(g)), vec_load(u + i)));
    }
    narrow_chunk(y + begin, z, m);
  }
}

/* silu'(z) = s (1 + z (1 - s)). y by the operations of the forward pass, in their order. */
void COVI_TYPED(covi_swiglu_backward)(void *dgate_, void *dup_, void *y_, const void *dy_, const void *gate_,
                                      const void *up_, int64_t n) {
  elem *dgate = dgate_, *dup = dup_, *y = y_;
  const elem *dy = dy_, *gate = gate_, *up = up_;
  float z[CHUNK] = {0}, u[CHUNK] = {0}, d[CHUNK] = {0};
  for (int64_t begin = 0; begin < n; begin += CHUNK) {
    const int64_t m = n - begin < CHUNK ? n - begin : CHUNK;
    widen_chunk(z, gate + begin, m);
    widen_chunk(u, up + begin, m);
    widen_chunk(d, dy + begin, m);
    for (int64_t i = 0; i < m; i += LANES) {
      const vec one = vec_set(1.0f), g = vec_load(z + i), s = sigmoid(g), ds = vec_mul(vec_load(d + i), s);
      vec_store(d + i, vec_mul(vec_mul(g, s), vec_load(u + i)));
      vec_store(z + i, vec_mul(vec_mul(ds, vec_load(u + i)), vec_fma(g, vec_sub(one, s), one)));
      vec_store(u + i, vec_mul(ds, g));
    }
    narrow_chunk(dgate + begin, z, m);
    narrow_chunk(dup + begin, u, m);
    narrow_chunk(y + begin, d, m);
  }
}
