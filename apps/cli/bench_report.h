/* Results of a bench, as one line of JSON or as a table for people. Keys carry units: `_s`, `_bytes`, `_per_s`.
 * Nothing is printed before bench_report_close, so a bench that fails prints no half a result. All Local. */
#ifndef COVENANT_CLI_BENCH_REPORT_H
#define COVENANT_CLI_BENCH_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef struct {
  bool json;
  FILE *stream; /* into `text` */
  char *text;   /* owned */
  size_t bytes;
  bool first; /* no key yet at this level */
  int depth;  /* 0; 1 inside a list; 2 inside a row of it */
  cov_status status;
} bench_report;

cov_status bench_report_open(bool json, bench_report *report);
/** End the report and write it to `out`. COV_EBUG if a number was not finite, COV_EIO if it could not be written. */
cov_status bench_report_close(bench_report *report, FILE *out);
/** Free without writing. Fine on a closed one. */
void bench_report_drop(bench_report *report);

void bench_put_text(bench_report *report, const char *key, const char *text);
void bench_put_count(bench_report *report, const char *key, int64_t value);
void bench_put_number(bench_report *report, const char *key, double value);
/** KEY, KEY_min, KEY_max: median and extremes of samples[n], n >= 1; `samples` is sorted. Returns the median. */
double bench_put_samples(bench_report *report, const char *key, double *samples, int64_t n);

/** A list of rows, each with keys of its own: list_open { row_open put... row_close }... list_close. */
void bench_list_open(bench_report *report, const char *key);
void bench_row_open(bench_report *report);
void bench_row_close(bench_report *report);
void bench_list_close(bench_report *report);

/** Sorts samples[n]; the middle one, or the mean of the middle two. */
double bench_median(double *samples, int64_t n);

#endif
