#include "report/state.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"

static const char *const names[] = {
#define NAME(name, text, doc) text,
    COV_RUN_STATE_LIST(NAME)};
enum { N_STATES = sizeof names / sizeof *names, STATE_FILE_LIMIT = 4096, STATE_PATH_BYTES = 4096 };

const char *cov_state_name(cov_run_state state) {
  COV_ASSERT((int)state >= 0 && (int)state < N_STATES);
  return names[state];
}

cov_status cov_state_write(const char *run_dir, cov_run_state state, const char *reason) {
  char path[STATE_PATH_BYTES], line[COV_STATE_REASON_BYTES], stamp[32] = "", text[STATE_FILE_LIMIT];
  COV_TRY(cov_path(path, sizeof path, "%s/STATE", run_dir));
  snprintf(line, sizeof line, "%s", reason);
  for (unsigned char *p = (unsigned char *)line; *p; p++) {
    if (*p < 0x20 || *p == 0x7f) *p = ' ';
  }
  struct tm utc;
  time_t now = time(NULL);
  if (gmtime_r(&now, &utc)) strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &utc);
  int n = snprintf(text, sizeof text, "%s\n%s\n%s\n", cov_state_name(state), line, stamp);
  COV_ASSERT(n > 0 && (size_t)n < sizeof text);
  return cov_file_write(path, text, (size_t)n);
}

cov_status cov_state_read(const char *run_dir, cov_run_state *state, char reason[COV_STATE_REASON_BYTES]) {
  cov_status st = COV_OK;
  char path[STATE_PATH_BYTES], *text;
  size_t bytes;
  COV_TRY(cov_path(path, sizeof path, "%s/STATE", run_dir));
  COV_TRY(cov_file_read(path, STATE_FILE_LIMIT, &text, &bytes));
  size_t n = strcspn(text, "\n");
  int found = -1;
  for (int i = 0; i < N_STATES; i++) {
    if (strlen(names[i]) == n && memcmp(names[i], text, n) == 0) found = i;
  }
  if (found < 0 || text[n] != '\n' || strlen(text) != bytes) {
    COV_FAIL_DONE(COV_EDATA, "%s does not begin with a known state; it was not written by covenant", path);
  }
  const char *second = text + n + 1;
  snprintf(reason, COV_STATE_REASON_BYTES, "%.*s", (int)strcspn(second, "\n"), second);
  *state = (cov_run_state)found;
done:
  free(text);
  return st;
}

void cov_state_writer_open(cov_state_writer *w, const char *run_dir) {
  *w = (cov_state_writer){.run_dir = run_dir};
  pthread_mutex_init(&w->lock, NULL); /* without attributes it cannot fail */
}

cov_status cov_state_tell(cov_state_writer *w, cov_run_state state, const char *reason) {
  cov_status st = COV_OK;
  pthread_mutex_lock(&w->lock);
  if (!w->ended) {
    st = cov_state_write(w->run_dir, state, reason);
    w->ended = st == COV_OK && state != COV_RUN_RUNNING;
  }
  pthread_mutex_unlock(&w->lock);
  return st;
}
