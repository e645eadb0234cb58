#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local cov_error last;

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
  return last.text;
}

const char *cov_error_where(void) {
  return last.where;
}

void cov_error_second_hand_set(void) {
  last.second_hand = 1;
}

int cov_error_second_hand(void) {
  return last.second_hand;
}

void cov_error_save(cov_error *out) {
  *out = last;
}

void cov_error_restore(const cov_error *error) {
  last = *error;
}

cov_status cov_fail(const char *file, int line, cov_status s, const char *format, ...) {
  va_list args;
  char text[sizeof last.text]; /* an argument may be cov_error_text() itself */
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  snprintf(last.text, sizeof last.text, "%s", text);
  snprintf(last.where, sizeof last.where, "%s:%d", file, line);
  last.second_hand = 0;
  return s;
}

_Noreturn void cov_assert_failed(const char *file, int line, const char *cond) {
  fprintf(stderr, "internal error at %s:%d: expected %s; please report this\n", file, line, cond);
  abort();
}
