#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local char error_text[1024];
static _Thread_local char error_where[160];
static _Thread_local int error_second_hand;

int cov_status_exit_code(cov_status s) {
  switch (s) {
#define X(name, exit_code, retry, text) \
  case name:                            \
    return exit_code;
    COV_STATUS_LIST(X)
#undef X
  }
  return 70;
}

const char *cov_status_text(cov_status s) {
  switch (s) {
#define X(name, exit_code, retry, text) \
  case name:                            \
    return text;
    COV_STATUS_LIST(X)
#undef X
  }
  return "unknown status";
}

const char *cov_status_name(cov_status s) {
  switch (s) {
#define X(name, exit_code, retry, text) \
  case name:                            \
    return #name;
    COV_STATUS_LIST(X)
#undef X
  }
  return "COV_?";
}

const char *cov_error_text(void) {
  return error_text;
}

const char *cov_error_where(void) {
  return error_where;
}

void cov_error_second_hand_set(void) {
  error_second_hand = 1;
}

int cov_error_second_hand(void) {
  return error_second_hand;
}

cov_status cov_fail(const char *file, int line, cov_status s, const char *format, ...) {
  va_list args;
  char text[sizeof error_text]; /* an argument may be cov_error_text() itself */
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  snprintf(error_text, sizeof error_text, "%s", text);
  snprintf(error_where, sizeof error_where, "%s:%d", file, line);
  error_second_hand = 0;
  return s;
}

_Noreturn void cov_assert_failed(const char *file, int line, const char *cond) {
  fprintf(stderr, "internal error at %s:%d: expected %s; please report this\n", file, line, cond);
  abort();
}
