/* Where the time of each peer went: a bar a round, and the sums. */
#include <inttypes.h>
#include <math.h>

#include "report/plot.h"
#include "cli/report_page.h"

enum { ROUNDS = 40, WIDTH = 720, LEFT = 64, RIGHT = 16, ROW = 26, TOP = 34, PARTS = 5 };

static const char *const part_name[PARTS] = {"inner steps", "encoding", "waiting", "exchange", "outer step"};

static double positive(double v) {
  return isfinite(v) && v > 0 ? v : 0;
}

/* exchange_s counts from the own payload to the agreed set and contains the waiting. */
static void parts_of(const view_round *r, double part[PARTS]) {
  part[0] = positive(r->compute_s);
  part[1] = positive(r->encode_s);
  part[2] = fmin(positive(r->wait_s), positive(r->exchange_s));
  part[3] = positive(r->exchange_s) - part[2];
  part[4] = positive(r->apply_s);
}

static double length_of(const view_round *r) {
  double part[PARTS], sum = 0;
  parts_of(r, part);
  for (int k = 0; k < PARTS; k++) sum += part[k];
  return sum;
}

/* Rounds first .. last on the axis: wall clock from `begin` to `end`, less the time in which the run was not running
 * between two starts, which may be days. */
typedef struct {
  int64_t first, last;
  double begin, end;
  int n_cuts; /* in the order of time; at most one before each round */
  double cut_begin[ROUNDS], cut_end[ROUNDS];
} axis;

/* Wall clock at the begin and the end of round r over all peers, and the earliest start that such a round came of. */
static bool find_round(const run_view *v, int64_t r, double *begin, double *end, double *start) {
  *begin = *start = INFINITY;
  *end = -INFINITY;
  for (int64_t i = 0; i < v->cfg.run.peers; i++) {
    const view_peer *p = &v->peer[i];
    if (r >= p->n || p->round[r].t <= 0) continue;
    *begin = fmin(*begin, p->round[r].t - length_of(&p->round[r]));
    *end = fmax(*end, p->round[r].t);
    *start = fmin(*start, p->round[r].start_t);
  }
  return *begin <= *end;
}

static bool find_axis(const run_view *v, axis *a) {
  a->last = -1;
  for (int64_t i = 0; i < v->cfg.run.peers; i++) a->last = v->peer[i].n - 1 > a->last ? v->peer[i].n - 1 : a->last;
  a->first = a->last - ROUNDS + 1 > 0 ? a->last - ROUNDS + 1 : 0;
  a->begin = INFINITY;
  a->end = -INFINITY;
  a->n_cuts = 0;
  for (int64_t r = a->first; r <= a->last; r++) {
    double begin, end, start;
    if (!find_round(v, r, &begin, &end, &start)) continue;
    if (isfinite(a->end) && start >= a->end && begin > a->end) { /* all before had ended when its programs began */
      a->cut_begin[a->n_cuts] = a->end;
      a->cut_end[a->n_cuts++] = begin;
    }
    a->begin = fmin(a->begin, begin);
    a->end = fmax(a->end, end);
  }
  return a->begin < a->end;
}

/* Seconds from the left end of the axis. */
static double place(const axis *a, double t) {
  double s = t - a->begin;
  for (int i = 0; i < a->n_cuts && t >= a->cut_end[i]; i++) s -= a->cut_end[i] - a->cut_begin[i];
  return s;
}

static void write_bars(const view_peer *p, int64_t row, const axis *a, double scale, FILE *out) {
  for (int64_t r = a->first; r <= a->last && r < p->n; r++) {
    const view_round *round = &p->round[r];
    double part[PARTS], at = place(a, round->t - length_of(round));
    if (round->t <= 0) continue;
    parts_of(round, part);
    for (int k = 0; k < PARTS; k++) {
      double x = LEFT + at * scale, width = part[k] * scale;
      at += part[k];
      if (width < 0.05) continue;
      fprintf(out,
              "<rect class=\"p%d\" x=\"%.2f\" y=\"%" PRId64 "\" width=\"%.2f\" height=\"%d\"><title>round %" PRId64
              ", %s: %.3g s</title></rect>",
              k, x, TOP + row * ROW, width, ROW - 8, r, part_name[k], part[k]);
    }
  }
  fputc('\n', out);
}

static void write_legend(FILE *out) {
  int x = LEFT;
  for (int k = 0; k < PARTS; k++) {
    fprintf(out, "<rect class=\"p%d\" x=\"%d\" y=\"8\" width=\"12\" height=\"12\"/>", k, x);
    fprintf(out, "<text class=\"label\" x=\"%d\" y=\"18\">%s</text>", x + 17, part_name[k]);
    x += 125;
  }
  fputc('\n', out);
}

static void write_axis(const axis *a, double scale, int y, FILE *out) {
  double tick[COV_PLOT_TICKS_MAX];
  char text[32];
  int n;
  cov_plot_ticks(0, place(a, a->end), tick, &n);
  for (int i = 0; i < n && tick[i] <= place(a, a->end); i++) {
    cov_plot_number(tick[i], text);
    fprintf(out, "<text class=\"label\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", LEFT + tick[i] * scale,
            y, text);
  }
  fprintf(out, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">seconds</text>\n", WIDTH / 2, y + 18);
  for (int i = 0; i < a->n_cuts; i++) {
    double x = LEFT + place(a, a->cut_end[i]) * scale;
    fprintf(out, "<line class=\"floor\" x1=\"%.2f\" x2=\"%.2f\" y1=\"%d\" y2=\"%d\"/>\n", x, x, TOP - 6, y - 12);
  }
}

static void write_sentence(const axis *a, FILE *out) {
  fprintf(out, "<p>Rounds %" PRId64 " to %" PRId64 " of each peer, side by side in time.", a->first, a->last);
  if (a->n_cuts > 0) {
    double cut = 0;
    for (int i = 0; i < a->n_cuts; i++) cut += a->cut_end[i] - a->cut_begin[i];
    fprintf(out, " The run was started again at %s: %.0f s in which it did no rounds are left out.",
            a->n_cuts == 1 ? "the dashed line" : "each dashed line", cut);
  }
  fprintf(out, "</p>\n");
}

/* Shares of all rounds, a row a peer. */
static void write_sums(const run_view *v, FILE *out) {
  fprintf(out, "<table><tr><th>peer</th><th>rounds</th>");
  for (int k = 0; k < PARTS; k++) fprintf(out, "<th>%s</th>", part_name[k]);
  fprintf(out, "<th>in rounds</th></tr>\n");
  for (int64_t i = 0; i < v->cfg.run.peers; i++) {
    double sum[PARTS] = {0}, part[PARTS], all = 0;
    int64_t n = 0;
    for (int64_t r = 0; r < v->peer[i].n; r++) {
      if (v->peer[i].round[r].t <= 0) continue;
      parts_of(&v->peer[i].round[r], part);
      n++;
      for (int k = 0; k < PARTS; k++) {
        sum[k] += part[k];
        all += part[k];
      }
    }
    fprintf(out, "<tr><td>%" PRId64 "</td><td>%" PRId64 "</td>", i, n);
    for (int k = 0; k < PARTS; k++) fprintf(out, "<td>%.1f %%</td>", all > 0 ? 100 * sum[k] / all : 0.0);
    fprintf(out, "<td>%.1f s</td></tr>\n", all);
  }
  fprintf(out, "</table>\n");
}

void report_timeline_write(const run_view *v, FILE *out) {
  axis a;
  if (!find_axis(v, &a)) {
    fprintf(out, "<p>No round is done yet.</p>\n");
    return;
  }
  double scale = (WIDTH - LEFT - RIGHT) / place(&a, a.end);
  int bottom = TOP + (int)v->cfg.run.peers * ROW;
  write_sentence(&a, out);
  fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"time of each peer\">\n", WIDTH, bottom + 40);
  write_legend(out);
  for (int64_t i = 0; i < v->cfg.run.peers; i++) {
    fprintf(out, "<text class=\"label\" x=\"%d\" y=\"%" PRId64 "\" text-anchor=\"end\">peer %" PRId64 "</text>",
            LEFT - 6, TOP + i * ROW + 13, i);
    write_bars(&v->peer[i], i, &a, scale, out);
  }
  write_axis(&a, scale, bottom + 12, out);
  fprintf(out, "</svg>\n");
  write_sums(v, out);
}
