/* Reading number arrays of shared/vectors and comparing with an absolute tolerance. */
#ifndef COVENANT_TESTS_KERNELS_VECTORS_H
#define COVENANT_TESTS_KERNELS_VECTORS_H

#include <math.h>

#include "../unit/kernels_check.h"

#ifdef COVENANT_HAVE_JANSSON
#include <jansson.h>

/* The numbers of an array, or of an array of arrays, in order. */
static inline int64_t floats_append(const json_t *from, float *to, int64_t at) {
  if (json_is_array(from)) {
    for (size_t i = 0; i < json_array_size(from); i++) at = floats_append(json_array_get(from, i), to, at);
    return at;
  }
  assert_true(json_is_number(from));
  if (to) to[at] = (float)json_number_value(from);
  return at + 1;
}

/** item[key] as floats (malloc, the caller's) and their number. */
static inline float *floats_read(const json_t *item, const char *key, int64_t *n) {
  const json_t *array = json_object_get(item, key);
  if (!json_is_array(array)) fail_msg("a case has no array \"%s\"", key);
  *n = floats_append(array, NULL, 0);
  float *x = malloc((size_t)(*n + 1) * sizeof *x);
  if (!x) abort();
  floats_append(array, x, 0);
  return x;
}

static inline void check_absolute(const char *what, const cov_ops *ops, const float *got, const float *want, int64_t n,
                                  double tol) {
  for (int64_t i = 0; i < n; i++) {
    double error = fabs((double)got[i] - (double)want[i]);
    if (!(error <= tol)) {
      fail_msg("%s (%s, %s): element %lld is %.9g, want %.9g, tolerance %.3g", what, ops->name, covi_loops_get()->name,
               (long long)i, (double)got[i], (double)want[i], tol);
    }
  }
}
#endif

#endif
