#include "cli/report_page.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "report/plot.h"

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1b1f24;--soft:#667;--rule:#d8dce2;--page:#fff;--a:#1f6fb4;--b:#c4481c;"
    "--c:#2c8a4b;--d:#8a56b8;--e:#a8871d}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa3ae;--rule:#3a414b;--page:#15181c;--a:#6cb2f0;"
    "--b:#f08a5c;--c:#6fce8f;--d:#c39bea;--e:#dbbd5a}}"
    "body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:760px;margin:2rem auto;"
    "padding:0 1rem}h1{font-size:1.5rem;margin-bottom:.2rem;overflow-wrap:anywhere}h2{font-size:1.15rem;"
    "margin-top:2.2rem}p.state{color:var(--soft);margin-top:0}svg{width:100%;height:auto;display:block;margin:.5rem 0}"
    "table{border-collapse:collapse;font-size:.85rem;display:block;overflow-x:auto}th,td{padding:.2rem .7rem .2rem 0;"
    "text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}table.text th,table.text td{"
    "text-align:left;white-space:normal;overflow-wrap:anywhere}tr.chosen{font-weight:600}pre{font-size:.8rem;"
    "overflow-x:auto}dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:.6rem 1.2rem;"
    "margin:1.2rem 0}dt{color:var(--soft);font-size:.85rem}dd{margin:0;font-size:1.15rem;font-weight:600}"
    ".bad{color:var(--b);font-weight:600}.grid{stroke:var(--rule)}.axis{stroke:var(--soft)}.label{fill:var(--soft);"
    "font:12px system-ui,sans-serif}.floor{stroke:var(--soft);stroke-dasharray:5 4}.line{fill:none;stroke-width:2}"
    ".s0{stroke:var(--a)}.s1{stroke:var(--b)}.s2{stroke:var(--c)}.s3{stroke:var(--d)}.dot{fill:var(--page);"
    "stroke-width:2}.p0{fill:var(--a)}.p1{fill:var(--c)}.p2{fill:var(--rule)}.p3{fill:var(--b)}.p4{fill:var(--d)}"
    "@media print{body{max-width:none;margin:0}h2{break-after:avoid}svg{break-inside:avoid}}";

/* Columns that the curves need, row by row of metrics.csv and eval.csv. */
typedef struct {
  int64_t n, n_eval;
  double *tokens, *sent, *loss;                /* [n]; sent: of one peer, summed up */
  double *eval_tokens, *eval_sent, *eval_loss; /* [n_eval] */
} curves;

/* Tokens and bytes before the round whose start was evaluated. */
static void place_evaluations(const run_view *v, curves *c) {
  for (int64_t i = 0; i < c->n_eval; i++) {
    double round = run_view_number(&v->eval, i, "round");
    int64_t before = -1;
    for (int64_t r = 0; r < c->n && run_view_number(&v->metrics, r, "round") < round; r++) before = r;
    c->eval_tokens[i] = before < 0 ? 0 : c->tokens[before];
    c->eval_sent[i] = before < 0 ? 0 : c->sent[before];
    c->eval_loss[i] = run_view_number(&v->eval, i, "heldout_loss");
  }
}

static bool open_curves(const run_view *v, curves *c) {
  *c = (curves){.n = v->metrics.n_rows, .n_eval = v->eval.n_rows};
  double *all = calloc((size_t)(3 * c->n + 3 * c->n_eval + 1), sizeof *all), sent = 0;
  if (!all) return false;
  c->tokens = all;
  c->sent = all + c->n;
  c->loss = all + 2 * c->n;
  c->eval_tokens = all + 3 * c->n;
  c->eval_sent = c->eval_tokens + c->n_eval;
  c->eval_loss = c->eval_sent + c->n_eval;
  for (int64_t i = 0; i < c->n; i++) {
    double bytes = run_view_number(&v->metrics, i, "sent_bytes");
    sent += isfinite(bytes) ? bytes : 0;
    c->tokens[i] = run_view_number(&v->metrics, i, "tokens");
    c->sent[i] = sent;
    c->loss[i] = run_view_number(&v->metrics, i, "loss");
  }
  place_evaluations(v, c);
  return true;
}

static void write_curve(const curves *c, bool by_bytes, const report_floors *floors, FILE *out) {
  const cov_plot_series series[] = {{.name = "training", .x = by_bytes ? c->sent : c->tokens, .y = c->loss, .n = c->n},
                                    {.name = "held-out",
                                     .x = by_bytes ? c->eval_sent : c->eval_tokens,
                                     .y = c->eval_loss,
                                     .n = c->n_eval,
                                     .dots = true}};
  const cov_plot_floor floor[] = {{"unigram entropy", floors->unigram}, {"bigram entropy", floors->bigram}};
  const cov_plot p = {.title = by_bytes ? "loss against bytes sent" : "loss against tokens",
                      .x_label = by_bytes ? "bytes that one peer has sent" : "tokens trained on, all peers",
                      .y_label = "loss, nats a token",
                      .series = series,
                      .n_series = 2,
                      .floors = floor,
                      .n_floors = 2};
  cov_plot_write(&p, out);
}

static void write_figure(const char *name, const char *value, FILE *out) {
  fprintf(out, "<div><dt>%s</dt><dd>", name);
  cov_plot_escape(value, out);
  fprintf(out, "</dd></div>\n");
}

static void write_number(const char *name, double v, const char *unit, FILE *out) {
  char number[32], text[64];
  if (!isfinite(v)) return;
  cov_plot_number(v, number);
  snprintf(text, sizeof text, "%s%s", number, unit);
  write_figure(name, text, out);
}

static void write_count(const char *name, double n, FILE *out) {
  char text[32];
  if (!isfinite(n) || !(n > 0)) return;
  cov_plot_grouped((int64_t)n, text);
  write_figure(name, text, out);
}

/* 1451560 -> "1.45 MB" */
static void write_bytes(const char *name, double v, FILE *out) {
  static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
  char text[64];
  int u = 0;
  if (!isfinite(v)) return;
  for (; v >= 1000 && u < 4; u++) v /= 1000;
  snprintf(text, sizeof text, "%.4g %s", v, unit[u]);
  write_figure(name, text, out);
}

static double round_to(double v, double step) {
  return isfinite(v) ? nearbyint(v / step) * step : v;
}

static void write_figures(const run_view *v, const curves *c, FILE *out) {
  char text[64];
  double done = run_view_number(&v->metrics, -1, "round") + 1;
  fprintf(out, "<dl>\n");
  snprintf(text, sizeof text, "%.0f of %" PRId64, isfinite(done) ? done : 0.0, v->cfg.run.rounds);
  write_figure("rounds", text, out);
  snprintf(text, sizeof text, "%" PRId64, v->cfg.run.peers);
  write_figure("peers", text, out);
  write_count("parameters", (double)v->params, out);
  write_count("tokens", run_view_number(&v->metrics, -1, "tokens"), out);
  write_number("training loss", round_to(run_view_number(&v->metrics, -1, "loss"), 1e-4), " nats", out);
  write_number("held-out loss", round_to(run_view_number(&v->eval, -1, "heldout_loss"), 1e-4), " nats", out);
  write_number("bits a byte", round_to(run_view_number(&v->eval, -1, "bits_per_byte"), 1e-4), "", out);
  write_bytes("payload", run_view_number(&v->metrics, -1, "payload_bytes"), out);
  write_number("smaller than fp32", round_to(run_view_number(&v->metrics, -1, "ratio_fp32"), 0.1), " times", out);
  write_bytes("sent by one peer", c->n > 0 ? c->sent[c->n - 1] : NAN, out);
  fprintf(out, "</dl>\n");
}

static void write_notes(const run_view *v, FILE *out) {
  fprintf(out, "<h2>What happened</h2>\n");
  if (v->n_notes == 0) {
    fprintf(out, "<p>Nothing yet.</p>\n");
    return;
  }
  fprintf(out, "<table class=\"text\"><tr><th>time (UTC)</th><th>peer</th><th></th></tr>\n");
  for (int i = 0; i < v->n_notes; i++) {
    time_t t = (time_t)v->note[i].t;
    struct tm utc;
    char clock[32] = "";
    if (gmtime_r(&t, &utc)) strftime(clock, sizeof clock, "%Y-%m-%d %H:%M:%S", &utc);
    fprintf(out, "<tr><td>%s</td><td>%d</td><td>", clock, v->note[i].peer);
    cov_plot_escape(v->note[i].text, out);
    fprintf(out, "</td></tr>\n");
  }
  fprintf(out, "</table>\n");
}

static void write_title(const run_view *v, FILE *out) {
  fprintf(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
               "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>");
  cov_plot_escape(v->dir, out);
  fprintf(out, "</title>\n<style>%s</style>\n</head>\n<body>\n<h1>", style);
  cov_plot_escape(v->dir, out);
  fprintf(out, "</h1>\n<p class=\"state\">");
  cov_plot_escape(v->has_state ? cov_state_name(v->state) : "not started", out);
  if (v->has_state && *v->reason) {
    fprintf(out, ", ");
    cov_plot_escape(v->reason, out);
  }
  fprintf(out, "</p>\n");
}

void report_page_write(const run_view *v, const report_floors *floors, FILE *out) {
  curves c;
  write_title(v, out);
  if (open_curves(v, &c)) {
    write_figures(v, &c, out);
    fprintf(out, "<h2>Loss against tokens</h2>\n");
    write_curve(&c, false, floors, out);
    fprintf(out, "<h2>Loss against bytes</h2>\n");
    write_curve(&c, true, floors, out);
    free(c.tokens);
  }
  fprintf(out, "<h2>Where the time went</h2>\n");
  report_timeline_write(v, out);
  fprintf(out, "<h2>Agreement</h2>\n");
  report_agreement_write(v, out);
  write_notes(v, out);
  report_settings_write(v, out);
  fprintf(out, "</body>\n</html>\n");
}
