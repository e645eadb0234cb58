#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_BYTES = 1600 };

static cov_log_level log_level = COV_LOG_INFO;
static char log_who[64];
static FILE *log_stream;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void cov_log_open(cov_log_level level, const char *who) {
  log_level = level;
  snprintf(log_who, sizeof log_who, "%s", who);
}

cov_status cov_log_file(const char *path) {
  FILE *f = fopen(path, "a");
  if (!f) return COV_FAIL(COV_EIO, "cannot open the log file %s: %s", path, strerror(errno));
  if (log_stream) fclose(log_stream);
  log_stream = f;
  return COV_OK;
}

cov_status cov_log_level_parse(const char *text, cov_log_level *level) {
  for (int i = 0; i < 4; i++) {
    if (strcmp(text, level_names[i]) == 0) {
      *level = (cov_log_level)i;
      return COV_OK;
    }
  }
  return COV_FAIL(COV_EUSAGE, "log level '%s' is not one of error, warn, info, debug", text);
}

/* One write a line, so that lines of several ranks on one terminal do not mix. */
static void print(cov_log_level level, const char *text) {
  char line[1800];
  const char *sep = log_who[0] ? ": " : "";
  int n = level <= COV_LOG_WARN ? snprintf(line, sizeof line, "%s%s%s: %s\n", log_who, sep, level_names[level], text)
                                : snprintf(line, sizeof line, "%s%s%s\n", log_who, sep, text);
  if (n < 0) return;
  if ((size_t)n >= sizeof line) n = (int)sizeof line - 1;
  FILE *out = level <= COV_LOG_WARN ? stderr : stdout;
  fflush(out);
  if (write(fileno(out), line, (size_t)n) < 0) return; /* a closed terminal must not end a run */
}

static void append(cov_log_level level, const char *text) {
  struct timespec now;
  struct tm utc;
  char stamp[32] = "";
  if (!log_stream) return;
  clock_gettime(CLOCK_REALTIME, &now);
  if (gmtime_r(&now.tv_sec, &utc)) strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
  fprintf(log_stream, "%s.%03ldZ %s %s\n", stamp, now.tv_nsec / 1000000, level_names[level], text);
  fflush(log_stream);
}

void cov_log(cov_log_level level, const char *format, ...) {
  if (level > log_level) return;
  char text[TEXT_BYTES];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  print(level, text);
  append(level, text);
}

void cov_log_note(cov_log_level level, const char *format, ...) {
  char text[TEXT_BYTES];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  append(level, text);
}

void cov_log_failure(cov_status s) {
  if (cov_error_second_hand()) {
    cov_log_note(COV_LOG_ERROR, "%s (%s)", cov_error_text(), cov_status_text(s));
  } else {
    cov_log_error("%s (%s)", cov_error_text(), cov_status_text(s));
  }
  cov_log_debug("raised at %s", cov_error_where());
}
