#include "cli/bench_wan.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { FILE_BYTES_MAX = 64 << 20, VALUES_A_HOST = 5, VALUES_MAX = 2 + VALUES_A_HOST * BENCH_WAN_HOSTS_MAX };

cov_status bench_wan_times_read(const char *path, const char *what, bench_wan_times *out) {
  char *text, *rest, name[32];
  size_t bytes;
  double begin, end;
  bool complete = false;
  COV_TRY(cov_file_read(path, FILE_BYTES_MAX, &text, &bytes));
  out->n = 0;
  for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    complete = strcmp(line, "end") == 0;
    if (sscanf(line, "%31s %lf %lf", name, &begin, &end) != 3 || strcmp(name, what) != 0) continue;
    if (out->n == BENCH_WAN_REPS_MAX || !(end > begin)) break;
    out->begin_s[out->n] = begin;
    out->end_s[out->n++] = end;
  }
  free(text);
  return complete ? COV_OK : COV_FAIL(COV_EDATA, "%s: it does not end as it should", path);
}

cov_status bench_wan_text_read(const char *path, const char *what, char *out, size_t size) {
  char *text, *rest;
  size_t bytes, n = strlen(what);
  bool found = false;
  COV_TRY(cov_file_read(path, FILE_BYTES_MAX, &text, &bytes));
  for (char *line = strtok_r(text, "\n", &rest); line && !found; line = strtok_r(NULL, "\n", &rest)) {
    found = strncmp(line, what, n) == 0 && line[n] == ' ';
    if (found) snprintf(out, size, "%s", line + n + 1);
  }
  free(text);
  return found ? COV_OK : COV_FAIL(COV_EDATA, "%s: there is no line '%s'", path, what);
}

/* The numbers of a line; how many. */
static int numbers(const char *line, double *value) {
  int n = 0;
  for (char *end; n < VALUES_MAX; line = end) {
    value[n] = strtod(line, &end);
    if (end == line) break;
    n++;
  }
  return n;
}

cov_status bench_wan_traffic_add(const char *path, int hosts, double begin_s, double end_s, bench_wan_traffic *sum,
                                 double *load) {
  char *text, *rest;
  size_t bytes;
  double row[VALUES_MAX], first[VALUES_MAX], last[VALUES_MAX];
  int found = 0, wanted = 2 + VALUES_A_HOST * hosts;
  COV_TRY(cov_file_read(path, FILE_BYTES_MAX, &text, &bytes));
  for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    if (numbers(line, row) != wanted || row[0] < begin_s || row[0] > end_s) continue; /* a cut line at the end too */
    memcpy(found++ ? last : first, row, sizeof row);
  }
  free(text);
  if (found < 2) return COV_FAIL(COV_EDATA, "%s: the router wrote nothing during the exchange", path);
  *load = (last[1] - first[1]) / (last[0] - first[0]);
  for (int i = 0; i < hosts; i++) {
    const double *a = first + 2 + VALUES_A_HOST * i, *b = last + 2 + VALUES_A_HOST * i;
    sum->sent[i] += b[0] - a[0];
    sum->received[i] += b[1] - a[1];
    sum->lost_queue += b[2] - a[2];
    sum->lost_random += b[3] - a[3];
  }
  return COV_OK;
}
