/* Line plots as SVG, for `covenant report`: axes with round ticks, a legend, nothing that needs a script. Colours come
 * from CSS classes (s0 .. s5, grid, axis, label, floor) of the page around it. All functions are Local. */
#ifndef COVENANT_REPORT_PLOT_H
#define COVENANT_REPORT_PLOT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { COV_PLOT_SERIES_MAX = 6, COV_PLOT_TICKS_MAX = 12, COV_PLOT_POINTS_MAX = 1200 };

/* x ascending; points whose x or y is not finite are left out. */
typedef struct {
  const char *name;
  const double *x, *y; /* [n], borrowed */
  int64_t n;
  bool dots; /* mark each point: for few of them */
} cov_plot_series;

/* A horizontal line with a name; not drawn if y is not finite. */
typedef struct {
  const char *name;
  double y;
} cov_plot_floor;

typedef struct {
  const char *title, *x_label, *y_label;
  const cov_plot_series *series;
  int n_series;
  const cov_plot_floor *floors;
  int n_floors;
} cov_plot;

/** Ticks at round numbers (1, 2, 5 times a power of ten) that cover low .. high, at most COV_PLOT_TICKS_MAX; *n of
 * them. A range without extent gets one around it. */
void cov_plot_ticks(double low, double high, double tick[COV_PLOT_TICKS_MAX], int *n);
/** "0.25", "1.5k", "20M": short enough for an axis. */
void cov_plot_number(double v, char out[32]);
/** "1,950,720": every digit, for a figure in a text. */
void cov_plot_grouped(int64_t n, char out[32]);
/** One <svg> element; with no point at all it says so. */
void cov_plot_write(const cov_plot *p, FILE *out);
/** Text with & < > " ' and control characters made harmless in HTML and SVG. */
void cov_plot_escape(const char *text, FILE *out);

#endif
