#include "report/event_line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { EVENT_FILE_LIMIT = 512 << 20 };

/* The text that starts behind the quote at *p: unescaped in place, *p moves behind the closing quote. NULL: malformed.
 */
static char *cut_text(char **p) {
  char *start = *p + 1, *to = start;
  for (char *from = start; *from; from++) {
    if (*from == '"') {
      *to = '\0';
      *p = from + 1;
      return start;
    }
    if ((unsigned char)*from < 0x20) return NULL;
    if (*from == '\\') {
      from++;
      if (*from == 'u') {
        if (strspn(from + 1, "0123456789abcdefABCDEF") < 4) return NULL;
        from += 4;
        *to++ = '?';
        continue;
      }
      if (*from != '"' && *from != '\\') return NULL;
    }
    *to++ = *from;
  }
  return NULL;
}

/* Moves *p over a comma or the closing brace and puts a NUL there, which ends the number before it. */
static char cut_separator(char **p) {
  char c = **p;
  if (c != ',' && c != '}') return '\0';
  *(*p)++ = '\0';
  return c;
}

cov_status cov_event_line_parse(char *line, cov_event_line *out) {
  char *p = line, separator = ',';
  out->n = 0;
  if (*p++ != '{') return COV_FAIL(COV_EDATA, "an event line does not begin with a brace");
  while (separator == ',') {
    if (out->n == COV_EVENT_LINE_MAX_FIELDS) return COV_FAIL(COV_EDATA, "an event has more than %d fields", out->n);
    char *name = *p == '"' ? cut_text(&p) : NULL;
    if (!name || *p++ != ':') return COV_FAIL(COV_EDATA, "field %d of an event has no name", out->n);
    char *value = p;
    if (*p == '"') {
      value = cut_text(&p);
    } else {
      p += strspn(p, "+-.0123456789eEnul");
    }
    if (value) separator = cut_separator(&p);
    if (!value || !separator || p == value + 1) {
      return COV_FAIL(COV_EDATA, "field %.40s of an event has no lawful value", name);
    }
    out->field[out->n].name = name;
    out->field[out->n++].value = strcmp(value, "null") == 0 && p == value + 5 ? NULL : value;
  }
  if (*p) return COV_FAIL(COV_EDATA, "something follows the closing brace of an event");
  return COV_OK;
}

const char *cov_event_line_text(const cov_event_line *line, const char *name) {
  for (int i = 0; i < line->n; i++) {
    if (strcmp(line->field[i].name, name) == 0) return line->field[i].value;
  }
  return NULL;
}

cov_status cov_event_line_int(const cov_event_line *line, const char *name, int64_t *value) {
  const char *text = cov_event_line_text(line, name);
  char *end;
  if (!text) return COV_FAIL(COV_EDATA, "an event has no field %s", name);
  errno = 0;
  long long v = strtoll(text, &end, 10);
  if (errno || end == text || *end) return COV_FAIL(COV_EDATA, "%s=%.40s of an event is no whole number", name, text);
  *value = v;
  return COV_OK;
}

/* One line of a file: parsed, named in the failure, handed on. */
static cov_status take_line(const char *path, long long number, char *line, cov_event_taker take, void *context) {
  cov_event_line event;
  cov_status st = cov_event_line_parse(line, &event);
  const char *kind = st == COV_OK ? cov_event_line_text(&event, "ev") : NULL;
  if (st == COV_OK && !kind) st = COV_FAIL(COV_EDATA, "an event has no field ev");
  if (st != COV_OK) {
    char why[200];
    (void)cov_path(why, sizeof why, "%.180s", cov_error_text());
    return COV_FAIL(st, "%s:%lld: %s", path, number, why);
  }
  return strcmp(kind, "schema") == 0 ? COV_OK : take(context, &event);
}

cov_status cov_event_file_read(const char *path, cov_event_taker take, void *context) {
  char *text;
  size_t bytes;
  COV_TRY(cov_file_read(path, EVENT_FILE_LIMIT, &text, &bytes));
  cov_status st = COV_OK;
  long long number = 1;
  char *line = text, *end;
  while (st == COV_OK && (end = memchr(line, '\n', bytes - (size_t)(line - text)))) {
    *end = '\0';
    st = take_line(path, number++, line, take, context);
    line = end + 1;
  }
  free(text);
  return st;
}
