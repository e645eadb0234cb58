/* libFuzzer entry for lines of event files: any bytes are cut into fields or refused, within the line. */
#include <stdlib.h>
#include <string.h>

#include "report/event_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  cov_event_line line;
  int64_t value;
  char *text = malloc(bytes + 1);
  if (!text) return 0;
  memcpy(text, data, bytes);
  text[bytes] = '\0';
  if (cov_event_line_parse(text, &line) == COV_OK) {
    if (line.n < 1 || line.n > COV_EVENT_LINE_MAX_FIELDS) abort();
    for (int i = 0; i < line.n; i++) {
      const char *found = cov_event_line_text(&line, line.field[i].name);
      if (found && (found < text || found + strlen(found) > text + bytes)) abort();
      (void)cov_event_line_int(&line, line.field[i].name, &value);
    }
  }
  free(text);
  return 0;
}
