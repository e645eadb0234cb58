#include "report/plot.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 720, HEIGHT = 320, LEFT = 64, RIGHT = 16, TOP = 40, BOTTOM = 48 };

/* From data to the drawing. */
typedef struct {
  double x0, x1, y0, y1;
} frame;

void cov_plot_escape(const char *text, FILE *out) {
  for (const char *c = text; *c; c++) {
    switch (*c) {
    case '&':
      fputs("&amp;", out);
      break;
    case '<':
      fputs("&lt;", out);
      break;
    case '>':
      fputs("&gt;", out);
      break;
    case '"':
      fputs("&quot;", out);
      break;
    case '\'':
      fputs("&#39;", out);
      break;
    default:
      fputc((unsigned char)*c < 0x20 && *c != '\n' ? ' ' : *c, out);
    }
  }
}

void cov_plot_ticks(double low, double high, double tick[COV_PLOT_TICKS_MAX], int *n) {
  if (!(high > low)) {
    double pad = low != 0 ? fabs(low) * 0.1 : 1;
    low -= pad;
    high += pad;
  }
  double rough = (high - low) / 6, power = pow(10, floor(log10(rough))), step = power;
  static const double nice[] = {1, 2, 5, 10};
  for (int i = 0; i < 4; i++) {
    step = nice[i] * power;
    if (step >= rough * 0.999) break;
  }
  double first = floor(low / step + 1e-9);
  *n = 0;
  while (*n < COV_PLOT_TICKS_MAX) {
    double t = (first + *n) * step;
    tick[(*n)++] = fabs(t) < step * 1e-9 ? 0 : t;
    if (t >= high - step * 1e-9) break;
  }
}

void cov_plot_number(double v, char out[32]) {
  static const char *const unit[] = {"", "k", "M", "G", "T"};
  int u = 0;
  if (fabs(v) >= 10000) {
    for (; fabs(v) >= 1000 && u < 4; u++) v /= 1000;
  }
  snprintf(out, 32, "%.6g%s", v, unit[u]);
}

void cov_plot_grouped(int64_t n, char out[32]) {
  char digits[24];
  int length = snprintf(digits, sizeof digits, "%" PRId64, n);
  for (int i = 0; i < length; i++) {
    if (i && (length - i) % 3 == 0 && digits[i - 1] != '-') *out++ = ',';
    *out++ = digits[i];
  }
  *out = '\0';
}

static double at_x(const frame *f, double x) {
  return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const frame *f, double y) {
  return HEIGHT - BOTTOM - (y - f->y0) / (f->y1 - f->y0) * (HEIGHT - TOP - BOTTOM);
}

/* Smallest and largest of all points and floors; false if there is no point. */
static bool find_range(const cov_plot *p, double *x0, double *x1, double *y0, double *y1) {
  *x0 = *y0 = INFINITY;
  *x1 = *y1 = -INFINITY;
  for (int s = 0; s < p->n_series; s++) {
    for (int64_t i = 0; i < p->series[s].n; i++) {
      double x = p->series[s].x[i], y = p->series[s].y[i];
      if (!isfinite(x) || !isfinite(y)) continue;
      *x0 = fmin(*x0, x);
      *x1 = fmax(*x1, x);
      *y0 = fmin(*y0, y);
      *y1 = fmax(*y1, y);
    }
  }
  if (!(*x0 <= *x1)) return false;
  for (int i = 0; i < p->n_floors; i++) {
    if (!isfinite(p->floors[i].y)) continue;
    *y0 = fmin(*y0, p->floors[i].y);
    *y1 = fmax(*y1, p->floors[i].y);
  }
  return true;
}

static void write_axes(const cov_plot *p, frame *f, FILE *out) {
  double tick[COV_PLOT_TICKS_MAX];
  char text[32];
  int n;
  cov_plot_ticks(f->y0, f->y1, tick, &n);
  f->y0 = fmin(f->y0, tick[0]);
  f->y1 = fmax(f->y1, tick[n - 1]);
  for (int i = 0; i < n; i++) {
    cov_plot_number(tick[i], text);
    fprintf(out, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT,
            at_y(f, tick[i]), at_y(f, tick[i]));
    fprintf(out, "<text class=\"label\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", LEFT - 6,
            at_y(f, tick[i]) + 4, text);
  }
  cov_plot_ticks(f->x0, f->x1, tick, &n);
  f->x0 = fmin(f->x0, tick[0]);
  f->x1 = fmax(f->x1, tick[n - 1]);
  for (int i = 0; i < n; i++) {
    cov_plot_number(tick[i], text);
    fprintf(out, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", at_x(f, tick[i]),
            at_x(f, tick[i]), HEIGHT - BOTTOM, HEIGHT - BOTTOM + 5);
    fprintf(out, "<text class=\"label\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", at_x(f, tick[i]),
            HEIGHT - BOTTOM + 19, text);
  }
  fprintf(out, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM,
          HEIGHT - BOTTOM);
  fprintf(out, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (LEFT + WIDTH - RIGHT) / 2,
          HEIGHT - 10);
  cov_plot_escape(p->x_label, out);
  fprintf(out, "</text>\n<text class=\"label\" x=\"%d\" y=\"%d\">", 8, TOP - 12);
  cov_plot_escape(p->y_label, out);
  fprintf(out, "</text>\n");
}

static void write_point(const frame *f, const cov_plot_series *s, int64_t i, FILE *out) {
  if (isfinite(s->x[i]) && isfinite(s->y[i])) fprintf(out, "%.1f,%.1f ", at_x(f, s->x[i]), at_y(f, s->y[i]));
}

/* A long series as the smallest and largest point of each of some hundred stretches: no peak is lost. */
static void write_line(const frame *f, const cov_plot_series *s, int number, FILE *out) {
  int64_t stride = s->n <= COV_PLOT_POINTS_MAX ? 1 : (2 * s->n + COV_PLOT_POINTS_MAX - 1) / COV_PLOT_POINTS_MAX;
  fprintf(out, "<polyline class=\"line s%d\" points=\"", number);
  for (int64_t i = 0; i < s->n; i += stride) {
    int64_t low = i, high = i;
    for (int64_t j = i; j < s->n && j < i + stride; j++) {
      if (!isfinite(s->y[j])) continue;
      if (!isfinite(s->y[low]) || s->y[j] < s->y[low]) low = j;
      if (!isfinite(s->y[high]) || s->y[j] > s->y[high]) high = j;
    }
    write_point(f, s, low < high ? low : high, out);
    if (low != high) write_point(f, s, low < high ? high : low, out);
  }
  if (stride > 1) write_point(f, s, s->n - 1, out);
  fprintf(out, "\"/>\n");
  for (int64_t i = 0; s->dots && i < s->n && s->n <= COV_PLOT_POINTS_MAX; i++) {
    if (!isfinite(s->x[i]) || !isfinite(s->y[i])) continue;
    fprintf(out, "<circle class=\"dot s%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>%.6g, %.6g</title></circle>\n",
            number, at_x(f, s->x[i]), at_y(f, s->y[i]), s->x[i], s->y[i]);
  }
}

static void write_floors(const cov_plot *p, const frame *f, FILE *out) {
  for (int i = 0; i < p->n_floors; i++) {
    if (!isfinite(p->floors[i].y)) continue;
    double y = at_y(f, p->floors[i].y);
    fprintf(out, "<line class=\"floor\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT, y, y);
    fprintf(out, "<text class=\"label\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", WIDTH - RIGHT, y - 4);
    cov_plot_escape(p->floors[i].name, out);
    fprintf(out, " %.3f</text>\n", p->floors[i].y);
  }
}

static void write_legend(const cov_plot *p, FILE *out) {
  double x = WIDTH - RIGHT;
  for (int s = p->n_series - 1; s >= 0; s--) {
    x -= 7.0 * (double)strlen(p->series[s].name) + 34;
    fprintf(out, "<line class=\"line s%d\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%d\" y2=\"%d\"/>", s, x, x + 20, TOP - 16,
            TOP - 16);
    fprintf(out, "<text class=\"label\" x=\"%.0f\" y=\"%d\">", x + 25, TOP - 12);
    cov_plot_escape(p->series[s].name, out);
    fprintf(out, "</text>\n");
  }
}

void cov_plot_write(const cov_plot *p, FILE *out) {
  frame f;
  fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
  cov_plot_escape(p->title, out);
  fprintf(out, "\">\n");
  if (find_range(p, &f.x0, &f.x1, &f.y0, &f.y1)) {
    write_axes(p, &f, out);
    write_floors(p, &f, out);
    for (int s = 0; s < p->n_series; s++) write_line(&f, &p->series[s], s, out);
    write_legend(p, out);
  } else {
    fprintf(out, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">nothing to show yet</text>\n",
            WIDTH / 2, HEIGHT / 2);
  }
  fprintf(out, "</svg>\n");
}
