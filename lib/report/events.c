#include "report/events.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "report/fields.h"
#include "report/metrics.h"
#include "report/state.h"

#define EVENT_TABLE(KIND, kind, doc) COVI_FIELD_TABLE(kind##_fields, COV_FIELDS_##KIND, cov_event_##kind);
COV_EVENT_LIST(EVENT_TABLE)
COVI_FIELD_TABLE(metrics_fields, COV_FIELDS_METRICS, cov_metrics_row);

static const struct {
  const char *name;
  const char *doc;
  const covi_field *fields;
  int n_fields;
} kinds[] = {
#define EVENT_KIND(KIND, kind, doc) {#kind, doc, kind##_fields, (int)(sizeof kind##_fields / sizeof *kind##_fields)},
    COV_EVENT_LIST(EVENT_KIND)};

struct cov_events {
  int fd;
  int peer;
  char program[32];
  char path[1024];
};

covi_value covi_field_value(const void *record, int i) {
  covi_value v;
  memcpy(&v, (const char *)record + (size_t)i * sizeof v, sizeof v);
  return v;
}

/* A line under construction. `room` keeps space for the closing brace and newline; what does not fit is left out. */
typedef struct {
  char text[COV_EVENT_LINE_BYTES];
  size_t used;
} json_line;

enum { LINE_TAIL = 4, TEXT_LIMIT = 600 };

static void put(json_line *line, const char *format, ...) {
  va_list args;
  va_start(args, format);
  size_t room = sizeof line->text - LINE_TAIL - line->used;
  int n = vsnprintf(line->text + line->used, room, format, args);
  va_end(args);
  COV_ASSERT(n >= 0 && (size_t)n < room); /* TEXT_LIMIT x texts of an event stay below the line: see write_text */
  line->used += (size_t)n;
}

/* Length of the UTF-8 sequence at `p`, 0 if it is not one (overlong forms and surrogates are left to the reader). */
static size_t utf8_length(const unsigned char *p) {
  size_t n = *p < 0x80                 ? 1
             : *p >= 0xc2 && *p < 0xe0 ? 2
             : *p >= 0xe0 && *p < 0xf0 ? 3
             : *p >= 0xf0 && *p < 0xf5 ? 4
                                       : 0;
  for (size_t i = 1; i < n; i++) {
    if ((p[i] & 0xc0) != 0x80) return 0;
  }
  if (*p == 0xe0 && p[1] < 0xa0) return 0; /* overlong */
  if (*p == 0xed && p[1] > 0x9f) return 0; /* surrogate */
  if (*p == 0xf0 && p[1] < 0x90) return 0; /* overlong */
  if (*p == 0xf4 && p[1] > 0x8f) return 0; /* above U+10FFFF */
  return n;
}

/* A JSON string. Texts may hold a peer's bytes: what is not UTF-8 becomes U+FFFD, so that every line stays valid. */
static void put_text(json_line *line, const char *text) {
  if (!text) {
    put(line, "null");
    return;
  }
  put(line, "\"");
  size_t start = line->used;
  for (const unsigned char *p = (const unsigned char *)text; *p && line->used - start < TEXT_LIMIT;) {
    size_t n = utf8_length(p);
    if (n == 0) put(line, "\\ufffd");
    else if (*p == '"' || *p == '\\') put(line, "\\%c", *p);
    else if (*p < 0x20) put(line, "\\u%04x", *p);
    else put(line, "%.*s", (int)n, (const char *)p);
    p += n ? n : 1;
  }
  put(line, "\"");
}

static void put_field(json_line *line, const covi_field *f, covi_value v) {
  put(line, ",\"%s\":", f->name);
  switch (f->type) {
  case COVI_FIELD_INT:
    put(line, "%" PRId64, v.whole);
    break;
  case COVI_FIELD_FLOAT:
    if (isfinite(v.real)) put(line, "%.9g", v.real);
    else put(line, "null");
    break;
  case COVI_FIELD_TEXT:
    put_text(line, v.text);
    break;
  }
}

/* One write a line: O_APPEND makes lines of several writers follow each other whole. */
static cov_status flush_line(const cov_events *e, json_line *line) {
  line->text[line->used++] = '}';
  line->text[line->used++] = '\n';
  ssize_t n = write(e->fd, line->text, line->used);
  if (n == (ssize_t)line->used) return COV_OK;
  return COV_FAIL(COV_EIO, "cannot append to %s: %s", e->path, n < 0 ? strerror(errno) : "the disk is full");
}

static void put_frame(json_line *line, const cov_events *e, const char *kind) {
  put(line, "{\"ev\":\"%s\",\"t\":%.3f,\"mono\":%.6f,\"peer\":%d,\"program\":", kind, cov_wall_s(), cov_clock_s(),
      e->peer);
  put_text(line, e->program);
}

cov_status cov_events_open(const char *path, const char *program, int peer, cov_events **out) {
  cov_status st = COV_OK;
  *out = NULL;
  cov_events *e = calloc(1, sizeof *e);
  if (!e) return COV_FAIL(COV_ENOMEM, "no memory for the event file %s", path);
  e->peer = peer;
  snprintf(e->program, sizeof e->program, "%s", program);
  snprintf(e->path, sizeof e->path, "%s", path);
  struct stat s;
  e->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (e->fd < 0 || fstat(e->fd, &s) != 0) {
    COV_FAIL_DONE(COV_EIO, "cannot open the event file %s: %s", path, strerror(errno));
  }
  COV_TRY_DONE(covi_cut_torn_line(e->fd, path, &s.st_size));
  if (s.st_size == 0) {
    json_line line = {.used = 0};
    put_frame(&line, e, "schema");
    put(&line, ",\"schema\":%d", COV_EVENTS_SCHEMA);
    COV_TRY_DONE(flush_line(e, &line));
  }
  *out = e;
  e = NULL;
done:
  cov_events_close(&e);
  return st;
}

void cov_events_close(cov_events **e) {
  if (!*e) return;
  if ((*e)->fd >= 0) close((*e)->fd);
  free(*e);
  *e = NULL;
}

cov_status cov_events_write(cov_events *e, cov_event_kind kind, const void *record) {
  if (!e) return COV_OK;
  COV_ASSERT((int)kind >= 0 && kind < COV_EVENT_KINDS);
  json_line line = {.used = 0};
  put_frame(&line, e, kinds[kind].name);
  for (int i = 0; i < kinds[kind].n_fields; i++) put_field(&line, &kinds[kind].fields[i], covi_field_value(record, i));
  return flush_line(e, &line);
}

static void write_field_rows(const covi_field *fields, int n, FILE *out) {
  static const char *const types[] = {"integer", "number", "text"};
  for (int i = 0; i < n; i++) {
    fprintf(out, "| `%s` | %s | %s | %s |\n", fields[i].name, types[fields[i].type], fields[i].unit, fields[i].doc);
  }
}

void cov_events_write_reference(FILE *out) {
  static const char table_head[] = "\n| field | type | unit | meaning |\n|---|---|---|---|\n";
  fprintf(
      out,
      "# Events, metrics, STATE\n\n"
      "<!-- Generated by 'covenant config events' from lib/report; do not edit. -->\n\n"
      "## Events (`events/*.jsonl`)\n\n"
      "One JSON object a line. The first line of a file has `\"ev\":\"schema\"` and `\"schema\":%d`. Every line has\n"
      "`ev` (kind), `t` (wall clock, seconds since 1970), `mono` (monotonic seconds of that host), `peer` (number)\n"
      "and `program` (train, sync, eval), then the fields of its kind. A number or text that does not exist is null.\n"
      "Readers ignore kinds and fields they do not know.\n",
      COV_EVENTS_SCHEMA);
  for (int k = 0; k < COV_EVENT_KINDS; k++) {
    fprintf(out, "\n### %s\n\n%s\n%s", kinds[k].name, kinds[k].doc, table_head);
    write_field_rows(kinds[k].fields, kinds[k].n_fields, out);
  }
  fprintf(out,
          "\n## `metrics.csv`\n\n"
          "One row a round under a header line; a value that does not exist is an empty cell; no quotes.\n%s",
          table_head);
  write_field_rows(metrics_fields, (int)(sizeof metrics_fields / sizeof *metrics_fields), out);
  fputs("\n## `eval.csv`\n\n"
        "One row a held-out evaluation, with the fields of the event `eval` as columns; otherwise as `metrics.csv`.\n"
        "A run that is continued evaluates the state it starts from again.\n"
        "\n## `STATE`\n\n"
        "Line 1 is the state, line 2 the reason, line 3 the UTC time. Replaced atomically.\n\n"
        "| state | meaning |\n|---|---|\n",
        out);
#define STATE_ROW(name, text, doc) fprintf(out, "| `%s` | %s |\n", text, doc);
  COV_RUN_STATE_LIST(STATE_ROW)
}
