/* The strict reader of the event files (report/events.h): one line is one flat JSON object. Files may
 * come from another host, so any bytes are expected. All Local. */
#ifndef COVENANT_REPORT_EVENT_LINE_H
#define COVENANT_REPORT_EVENT_LINE_H

#include <stdint.h>

#include "base/status.h"

enum { COV_EVENT_LINE_MAX_FIELDS = 48 };

/** The fields of one line, in its order. All pointers point into the line. */
typedef struct {
  int n;
  struct {
    const char *name;
    const char *value; /* a text without its quotes, or a number as written; NULL for null */
  } field[COV_EVENT_LINE_MAX_FIELDS];
} cov_event_line;

/** Cut `line` (NUL-terminated, without newline; changed in place, borrowed while *out is used) into fields.
 *  COV_EDATA: not a flat object of texts, numbers and nulls, or more than COV_EVENT_LINE_MAX_FIELDS. A \u escape
 *  becomes '?': names, hashes and numbers have none. */
cov_status cov_event_line_parse(char *line, cov_event_line *out);
/** The value of `name`, or NULL if the field is absent or null. */
const char *cov_event_line_text(const cov_event_line *line, const char *name);
/** The value of `name` as a whole number. COV_EDATA: absent, null, or no such number. */
cov_status cov_event_line_int(const cov_event_line *line, const char *name, int64_t *value);

/** Read the events of `path` in order: `take` gets each line but the schema line; anything but COV_OK ends the
 *  reading and is returned. A last line without its newline, which a crash cut short, is left out. COV_EIO: not
 *  readable; COV_EDATA: a line that is none, with file and line. */
typedef cov_status (*cov_event_taker)(void *context, const cov_event_line *line);
cov_status cov_event_file_read(const char *path, cov_event_taker take, void *context);

#endif
