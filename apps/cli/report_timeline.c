/* Where the time of each peer went: a bar a round, and the sums. */
#include <inttypes.h>
#include <math.h>

#include "report/plot.h"
#include "cli/report_page.h"

enum { ROUNDS = 40, WIDTH = 720, LEFT = 64, RIGHT = 16, ROW = 26, TOP = 34, BAR = 18, TRAINING_BAR = 10, THIN_BAR = 6 };

enum { INNER, ENCODING, WAITING, EXCHANGE, OUTER, PARTS };

/* [1]: with sync.delay, where training and exchange run beside each other. Training's waiting is then what counts, and
 * the exchange is drawn as one piece. */
static const char *const part_name[2][PARTS] = {
    {"inner steps", "encoding", "waiting", "exchange", "outer step"},
    {"inner steps", "encoding", "training waits", "exchange", "outer step"}};

static double positive(double v) {
  return isfinite(v) && v > 0 ? v : 0;
}

/* A new start of the programs: training waited for them to find each other, which is no part of a round. */
static bool is_first(const view_peer *p, int64_t r) {
  return r == 0 || p->round[r - 1].t <= 0 || p->round[r - 1].start_t != p->round[r].start_t;
}

/* exchange_s counts from the own payload to the agreed set and contains the waiting of the exchange. */
static void parts_of(const view_peer *p, int64_t i, bool delayed, double part[PARTS]) {
  const view_round *r = &p->round[i];
  double exchange = positive(r->exchange_s), wait = fmin(positive(r->wait_s), exchange);
  part[INNER] = positive(r->compute_s);
  part[ENCODING] = positive(r->encode_s);
  part[WAITING] = !delayed ? wait : is_first(p, i) ? 0 : positive(r->idle_s);
  part[EXCHANGE] = delayed ? exchange : exchange - wait;
  part[OUTER] = positive(r->apply_s);
}

/* With sync.delay, when the inner steps of round r began: behind round r - 1, so that it was encoded as soon as it was
 * trained, or as soon as the payload of r - 1 was under way. */
static double training_begin(const view_peer *p, int64_t r) {
  static const double clock_s = 1e-3; /* events tell milliseconds */
  double part[PARTS];
  parts_of(p, r, true, part);
  double begin = p->round[r].t - part[OUTER] - part[EXCHANGE] - part[ENCODING] - part[INNER];
  if (is_first(p, r) || begin >= p->round[r - 1].t - clock_s) return begin;
  parts_of(p, r - 1, true, part);
  return p->round[r - 1].t - part[OUTER] - part[EXCHANGE];
}

/* When each part of a round began, and its seconds. */
static void place_parts(const view_peer *p, int64_t r, bool delayed, double begin[PARTS], double part[PARTS]) {
  static const int together[] = {INNER, ENCODING, WAITING, EXCHANGE, OUTER}, beside[] = {ENCODING, EXCHANGE, OUTER};
  const int *order = delayed ? beside : together, n = delayed ? 3 : PARTS;
  double at = p->round[r].t;
  parts_of(p, r, delayed, part);
  for (int k = n - 1; k >= 0; k--) begin[order[k]] = at -= part[order[k]];
  if (!delayed) return;
  begin[INNER] = training_begin(p, r);
  begin[WAITING] = begin[INNER] - part[WAITING];
}

/* Rounds first .. last on the axis: wall clock from `begin` to `end`, less the time in which the run was not running
 * between two starts, which may be days. */
typedef struct {
  bool delayed; /* sync.delay */
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
    double at[PARTS], part[PARTS];
    if (r >= p->n || p->round[r].t <= 0) continue;
    place_parts(p, r, v->cfg.sync.delay > 0, at, part);
    for (int k = 0; k < PARTS; k++) *begin = fmin(*begin, at[k]);
    *end = fmax(*end, p->round[r].t);
    *start = fmin(*start, p->round[r].start_t);
  }
  return *begin <= *end;
}

static bool find_axis(const run_view *v, axis *a) {
  a->delayed = v->cfg.sync.delay > 0;
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

static bool is_thin(const axis *a, int part) {
  return a->delayed && part != INNER && part != WAITING;
}

static int height_of(const axis *a, int part) {
  return !a->delayed ? BAR : is_thin(a, part) ? THIN_BAR : TRAINING_BAR;
}

static void write_bars(const view_peer *p, int64_t row, const axis *a, double scale, FILE *out) {
  for (int64_t r = a->first; r <= a->last && r < p->n; r++) {
    double begin[PARTS], part[PARTS];
    if (p->round[r].t <= 0) continue;
    place_parts(p, r, a->delayed, begin, part);
    for (int k = 0; k < PARTS; k++) {
      double x = LEFT + place(a, begin[k]) * scale, width = part[k] * scale;
      int height = height_of(a, k);
      if (width < 0.05) continue;
      fprintf(out,
              "<rect class=\"p%d\" x=\"%.2f\" y=\"%" PRId64 "\" width=\"%.2f\" height=\"%d\"><title>round %" PRId64
              ", %s: %.3g s</title></rect>",
              k, x, TOP + row * ROW + (is_thin(a, k) ? BAR - height : 0), width, height, r, part_name[a->delayed][k],
              part[k]);
    }
  }
  fputc('\n', out);
}

static void write_legend(const axis *a, FILE *out) {
  int x = LEFT;
  for (int k = 0; k < PARTS; k++) {
    int height = a->delayed ? height_of(a, k) : 12;
    fprintf(out, "<rect class=\"p%d\" x=\"%d\" y=\"%d\" width=\"12\" height=\"%d\"/>", k, x, 14 - height / 2, height);
    fprintf(out, "<text class=\"label\" x=\"%d\" y=\"18\">%s</text>", x + 17, part_name[a->delayed][k]);
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
  if (a->delayed) {
    fprintf(out,
            " With sync.delay a peer has two bars: the high one is training, the thin one below is the exchange of "
            "the same rounds, which runs beside the inner steps of the next.");
  }
  fprintf(out, "</p>\n");
}

/* With sync.delay, the time of training in round r: its wait in front, its steps, and behind the last round of a start
 * the wait for the end. */
static double time_of_training(const view_peer *p, int64_t r, double part[PARTS]) {
  bool last = r + 1 == p->n || is_first(p, r + 1);
  if (last) part[WAITING] += p->round[r].t - training_begin(p, r) - part[INNER];
  return part[WAITING] + part[INNER];
}

/* Shares of all rounds, a row a peer. With sync.delay they are of the time of training: those of the exchange, which
 * ran beside it, come on top. */
static void write_sums(const run_view *v, bool delayed, FILE *out) {
  fprintf(out, "<table><tr><th>peer</th><th>rounds</th>");
  for (int k = 0; k < PARTS; k++) fprintf(out, "<th>%s</th>", part_name[delayed][k]);
  fprintf(out, "<th>%s</th></tr>\n", delayed ? "training" : "in rounds");
  for (int64_t i = 0; i < v->cfg.run.peers; i++) {
    double sum[PARTS] = {0}, part[PARTS], all = 0;
    int64_t n = 0;
    for (int64_t r = 0; r < v->peer[i].n; r++) {
      if (v->peer[i].round[r].t <= 0) continue;
      parts_of(&v->peer[i], r, delayed, part);
      n++;
      if (delayed) all += time_of_training(&v->peer[i], r, part);
      for (int k = 0; k < PARTS; k++) {
        sum[k] += part[k];
        if (!delayed) all += part[k];
      }
    }
    fprintf(out, "<tr><td>%" PRId64 "</td><td>%" PRId64 "</td>", i, n);
    for (int k = 0; k < PARTS; k++) fprintf(out, "<td>%.1f %%</td>", all > 0 ? 100 * sum[k] / all : 0.0);
    fprintf(out, "<td>%.1f s</td></tr>\n", all);
  }
  fprintf(out, "</table>\n");
  if (delayed) {
    fprintf(out, "<p>Shares of the time of training, which is its inner steps and waits. Encoding, exchange and outer "
                 "step ran beside them.</p>\n");
  }
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
  write_legend(&a, out);
  for (int64_t i = 0; i < v->cfg.run.peers; i++) {
    fprintf(out, "<text class=\"label\" x=\"%d\" y=\"%" PRId64 "\" text-anchor=\"end\">peer %" PRId64 "</text>",
            LEFT - 6, TOP + i * ROW + 13, i);
    write_bars(&v->peer[i], i, &a, scale, out);
  }
  write_axis(&a, scale, bottom + 12, out);
  fprintf(out, "</svg>\n");
  write_sums(v, a.delayed, out);
}
