#include "cli/bench_report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

cov_status bench_report_open(bool json, bench_report *report) {
  *report = (bench_report){.json = json, .first = true};
  report->stream = open_memstream(&report->text, &report->bytes);
  if (!report->stream) return COV_FAIL(COV_ENOMEM, "no memory for a report");
  if (json) fputc('{', report->stream);
  return COV_OK;
}

void bench_report_drop(bench_report *report) {
  if (report->stream) fclose(report->stream);
  free(report->text);
  *report = (bench_report){0};
}

cov_status bench_report_close(bench_report *report, FILE *out) {
  cov_status st = report->status;
  COV_ASSERT(report->depth == 0);
  if (report->json) fputs("}\n", report->stream);
  bool short_write = fclose(report->stream) != 0;
  report->stream = NULL;
  if (st == COV_OK && short_write) st = COV_FAIL(COV_ENOMEM, "no memory for a report");
  if (st == COV_OK && (fputs(report->text, out) == EOF || fflush(out) != 0)) {
    st = COV_FAIL(COV_EIO, "cannot write the report: %s", strerror(errno));
  }
  bench_report_drop(report);
  return st;
}

/* ---- keys and values ---- */

/* In front of a value. */
static void put_key(bench_report *r, const char *key) {
  if (r->json) {
    fprintf(r->stream, "%s\"%s\": ", r->first ? "" : ", ", key);
  } else if (r->depth == 2) {
    fprintf(r->stream, "%s%s ", r->first ? "  " : ", ", key);
  } else {
    fprintf(r->stream, "%-30s ", key);
  }
  r->first = false;
}

static void end_value(bench_report *r) {
  if (!r->json && r->depth == 0) fputc('\n', r->stream);
}

/* Text comes from the system (/proc/cpuinfo) and the command line (paths): what JSON does not take as it is goes out
 * escaped. */
static void put_quoted(FILE *out, const char *text) {
  fputc('"', out);
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    if (*c == '"' || *c == '\\') fprintf(out, "\\%c", *c);
    else if (*c < 0x20 || *c > 0x7e) fprintf(out, "\\u%04x", *c);
    else fputc(*c, out);
  }
  fputc('"', out);
}

void bench_put_text(bench_report *r, const char *key, const char *text) {
  put_key(r, key);
  if (r->json) put_quoted(r->stream, text);
  else fputs(text, r->stream);
  end_value(r);
}

void bench_put_count(bench_report *r, const char *key, int64_t value) {
  put_key(r, key);
  fprintf(r->stream, "%" PRId64, value);
  end_value(r);
}

void bench_put_number(bench_report *r, const char *key, double value) {
  if (!isfinite(value) && r->status == COV_OK) {
    r->status = COV_FAIL(COV_EBUG, "%s came out as %g; too little was measured", key, value);
  }
  put_key(r, key);
  fprintf(r->stream, r->json ? "%.9g" : "%.5g", value);
  end_value(r);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double bench_median(double *samples, int64_t n) {
  COV_ASSERT(n >= 1);
  qsort(samples, (size_t)n, sizeof *samples, compare);
  return n % 2 ? samples[n / 2] : (samples[n / 2 - 1] + samples[n / 2]) / 2.0;
}

double bench_put_samples(bench_report *r, const char *key, double *samples, int64_t n) {
  char name[128];
  double median = bench_median(samples, n);
  bench_put_number(r, key, median);
  snprintf(name, sizeof name, "%s_min", key);
  bench_put_number(r, name, samples[0]);
  snprintf(name, sizeof name, "%s_max", key);
  bench_put_number(r, name, samples[n - 1]);
  return median;
}

/* ---- lists ---- */

void bench_list_open(bench_report *r, const char *key) {
  COV_ASSERT(r->depth == 0);
  put_key(r, key);
  fputc(r->json ? '[' : '\n', r->stream);
  r->depth = 1;
  r->first = true;
}

void bench_row_open(bench_report *r) {
  COV_ASSERT(r->depth == 1);
  if (r->json) fputs(r->first ? "{" : ", {", r->stream);
  r->depth = 2;
  r->first = true;
}

void bench_row_close(bench_report *r) {
  COV_ASSERT(r->depth == 2);
  fputc(r->json ? '}' : '\n', r->stream);
  r->depth = 1;
  r->first = false;
}

void bench_list_close(bench_report *r) {
  COV_ASSERT(r->depth == 1);
  if (r->json) fputc(']', r->stream);
  r->depth = 0;
  r->first = false;
}
