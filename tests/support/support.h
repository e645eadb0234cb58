/* Shared by the tests: cmocka with its includes, the shared folder, sentinels around outputs, comparisons. */
#ifndef COVENANT_TESTS_SUPPORT_H
#define COVENANT_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/status.h"

/** Fails the test with the status' message unless `expr` is COV_OK. */
#define assert_ok(expr)                                                                                      \
  do {                                                                                                       \
    cov_status assert_ok_ = (expr);                                                                          \
    if (assert_ok_ != COV_OK) fail_msg("%s: %s (%s)", #expr, cov_error_text(), cov_status_name(assert_ok_)); \
  } while (0)
/** Fails unless `expr` returns exactly `want`. */
#define assert_status(expr, want)                                                                            \
  do {                                                                                                       \
    cov_status assert_status_ = (expr);                                                                      \
    if (assert_status_ != (want))                                                                            \
      fail_msg("%s: got %s, want %s (%s)", #expr, cov_status_name(assert_status_), #want, cov_error_text()); \
  } while (0)

/** Path below the shared folder, or NULL after printing why the test will be skipped. Static buffer. */
const char *test_shared(const char *relative);
/** Path below the source tree (tests/data/...). Static buffer. */
const char *test_source(const char *relative);
/** A fresh folder under $TMPDIR or /tmp; removed at exit. Static buffer, one a call (up to 8). */
const char *test_folder(void);

/** `bytes` of memory filled with 0xA5 with 64 sentinel bytes on both sides. */
void *test_fenced(size_t bytes);
/** 1 if a sentinel was overwritten. */
int test_fence_broken(const void *p);
void test_fenced_free(void *p);

/** Largest |a-b| / max(scale, |b|), NaN counts as infinite; *where gets its index if not NULL. */
double test_max_error(const float *a, const float *b, size_t n, double scale, size_t *where);

/** Uniform in [-1, 1), a pure function of (seed, i). */
float test_random(uint64_t seed, uint64_t i);

#endif
