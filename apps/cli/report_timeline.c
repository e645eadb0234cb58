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

/* Wall clock at the beginning and the end of rounds first .. last over all peers. */
static bool find_span(const run_view *v, int64_t first, int64_t last, double *begin, double *end) {
  *begin = INFINITY;
  *end = -INFINITY;
  for (int64_t i = 0; i < v->cfg.run.peers; i++) {
    const view_peer *p = &v->peer[i];
    for (int64_t r = first; r <= last && r < p->n; r++) {
      if (p->round[r].t <= 0) continue;
      *begin = fmin(*begin, p->round[r].t - length_of(&p->round[r]));
      *end = fmax(*end, p->round[r].t);
    }
  }
  return *begin < *end;
}

static void write_bars(const view_peer *p, int64_t row, int64_t first, int64_t last, double begin, double scale,
                       FILE *out) {
  for (int64_t r = first; r <= last && r < p->n; r++) {
    const view_round *round = &p->round[r];
    double part[PARTS], at = round->t - length_of(round);
    if (round->t <= 0) continue;
    parts_of(round, part);
    for (int k = 0; k < PARTS; k++) {
      double x = LEFT + (at - begin) * scale, width = part[k] * scale;
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

static void write_axis(double begin, double end, double scale, int y, FILE *out) {
  double tick[COV_PLOT_TICKS_MAX];
  char text[32];
  int n;
  cov_plot_ticks(0, end - begin, tick, &n);
  for (int i = 0; i < n && tick[i] <= end - begin; i++) {
    cov_plot_number(tick[i], text);
    fprintf(out, "<text class=\"label\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", LEFT + tick[i] * scale,
            y, text);
  }
  fprintf(out, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">seconds</text>\n", WIDTH / 2, y + 18);
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
  int64_t last = -1;
  double begin, end;
  for (int64_t i = 0; i < v->cfg.run.peers; i++) last = v->peer[i].n - 1 > last ? v->peer[i].n - 1 : last;
  int64_t first = last - ROUNDS + 1 > 0 ? last - ROUNDS + 1 : 0;
  if (!find_span(v, first, last, &begin, &end)) {
    fprintf(out, "<p>No round is done yet.</p>\n");
    return;
  }
  double scale = (WIDTH - LEFT - RIGHT) / (end - begin);
  int bottom = TOP + (int)v->cfg.run.peers * ROW;
  fprintf(out, "<p>Rounds %" PRId64 " to %" PRId64 " of each peer, side by side in time.</p>\n", first, last);
  fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"time of each peer\">\n", WIDTH, bottom + 40);
  write_legend(out);
  for (int64_t i = 0; i < v->cfg.run.peers; i++) {
    fprintf(out, "<text class=\"label\" x=\"%d\" y=\"%" PRId64 "\" text-anchor=\"end\">peer %" PRId64 "</text>",
            LEFT - 6, TOP + i * ROW + 13, i);
    write_bars(&v->peer[i], i, first, last, begin, scale, out);
  }
  write_axis(begin, end, scale, bottom + 12, out);
  fprintf(out, "</svg>\n");
  write_sums(v, out);
}
