/* Shared by the kernel tests: fenced random buffers, places, and running a check at every vector width. */
#ifndef COVENANT_TESTS_KERNELS_CHECK_H
#define COVENANT_TESTS_KERNELS_CHECK_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/loops.h"
#include "ops.h"
#include "support.h"

/** A fenced buffer of n floats, uniform in [-1, 1). */
static inline float *buffer_random(int64_t n, uint64_t seed) {
  float *x = test_fenced((size_t)n * sizeof *x);
  for (int64_t i = 0; i < n; i++) x[i] = test_random(seed, (uint64_t)i);
  return x;
}

/** A fenced buffer with the same content. */
static inline float *buffer_copy(const float *from, int64_t n) {
  float *x = test_fenced((size_t)n * sizeof *x);
  memcpy(x, from, (size_t)n * sizeof *x);
  return x;
}

static inline void buffer_release(float *x) {
  assert_false(test_fence_broken(x));
  test_fenced_free(x);
}

/** Fails unless max |got - want| / max(scale, |want|) <= bound. */
static inline void check_close(const char *what, const float *got, const float *want, int64_t n, double scale,
                               double bound) {
  size_t where = 0;
  double error = test_max_error(got, want, (size_t)n, scale, &where);
  if (!(error <= bound)) {
    fail_msg("%s (%s): element %zu of %lld is %.9g, want %.9g; error %.3g, bound %.3g", what, covi_loops_get()->name,
             where, (long long)n, (double)got[where], (double)want[where], error, bound);
  }
}

static inline void check_same(const char *what, const float *got, const float *want, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    if (memcmp(got + i, want + i, sizeof *got) != 0) {
      fail_msg("%s (%s): element %lld of %lld is %.9g, want exactly %.9g", what, covi_loops_get()->name, (long long)i,
               (long long)n, (double)got[i], (double)want[i]);
    }
  }
}

/** A host place whose scratch is fenced and exactly as large as the table asks for. */
static inline cov_place place_create(const cov_ops *ops, int threads, int64_t T, int64_t D, int64_t E) {
  cov_place p = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = threads};
  p.scratch = test_fenced((size_t)ops->scratch_bytes(threads, T, D, E));
  return p;
}

static inline void place_destroy(cov_place *p) {
  assert_false(test_fence_broken(p->scratch));
  test_fenced_free(p->scratch);
}

/** Run `check` with each vector width that this processor has. */
static inline void each_width(void (*check)(void)) {
  static const char *const widths[] = {"baseline", "avx2", "avx512", "avx512bf16"};
  for (int i = 0; i < 4; i++) {
    if (covi_loops_choose(widths[i]) == 0) {
      check();
    } else {
      printf("not run: this processor or build has no %s\n", widths[i]);
    }
  }
  assert_int_equal(covi_loops_choose(NULL), 0);
}

#endif
