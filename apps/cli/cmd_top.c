/* covenant top RUN: a run as it stands, from the files it writes; works over ssh, needs no daemon. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/run_view.h"
#include "common/version.h"
#include "config/args.h"

enum { LAST_NOTES = 6 };

/* ---- words ---- */

/* 1234567 -> "1.23 MB" */
static const char *bytes_text(double bytes, char out[32]) {
  static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
  int u = 0;
  if (!isfinite(bytes)) return strcpy(out, "-");
  for (; bytes >= 1000 && u < 4; u++) bytes /= 1000;
  snprintf(out, 32, u == 0 ? "%.0f %s" : "%.3g %s", bytes, unit[u]);
  return out;
}

static const char *time_text(double s, char out[32]) {
  if (!isfinite(s) || s < 0 || s > 1e9) return strcpy(out, "-");
  int64_t n = (int64_t)(s + 0.5);
  if (n < 3600) snprintf(out, 32, "%" PRId64 ":%02" PRId64, n / 60, n % 60);
  else snprintf(out, 32, "%" PRId64 ":%02" PRId64 ":%02" PRId64, n / 3600, n / 60 % 60, n % 60);
  return out;
}

static const char *number_text(double v, const char *format, char out[32]) {
  if (!isfinite(v)) return strcpy(out, "-");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  snprintf(out, 32, format, v);
#pragma GCC diagnostic pop
  return out;
}

/* ---- the view ---- */

/* Seconds until the last round, from the rounds of the last while; NaN unless it runs. */
static double time_left(const run_view *v) {
  const view_peer *best = NULL;
  for (int64_t i = 0; i < v->cfg.run.peers; i++) {
    if (!best || v->peer[i].n > best->n) best = &v->peer[i];
  }
  if (!best || best->n < 2 || !v->has_state || v->state != COV_RUN_RUNNING) return NAN;
  int64_t last = best->n - 1, first = last > 20 ? last - 20 : 0;
  while (first < last && best->round[first].t <= 0) first++;
  if (first == last) return NAN;
  return (best->round[last].t - best->round[first].t) / (double)(last - first) * (double)(v->cfg.run.rounds - best->n);
}

static void write_head(const run_view *v, FILE *out) {
  char a[32], b[32], c[32];
  double done = run_view_number(&v->metrics, -1, "round") + 1, tokens = run_view_number(&v->metrics, -1, "tokens");
  fprintf(out, "%s: %s%s%s\n", v->dir, v->has_state ? cov_state_name(v->state) : "not started",
          v->has_state && *v->reason ? ", " : "", v->has_state ? v->reason : "");
  fprintf(out, "round     %.0f of %" PRId64, isfinite(done) ? done : 0.0, v->cfg.run.rounds);
  if (isfinite(time_left(v))) fprintf(out, "   %s left", time_text(time_left(v), a));
  fprintf(out, "   %s tokens, %s a second\n", number_text(tokens, "%.0f", a),
          number_text(run_view_number(&v->metrics, -1, "tokens_per_s"), "%.0f", b));
  fprintf(out, "loss      %s", number_text(run_view_number(&v->metrics, -1, "loss"), "%.4f", a));
  if (v->eval.n_rows > 0) {
    fprintf(out, "   held-out %s after round %s (%s bits a byte)",
            number_text(run_view_number(&v->eval, -1, "heldout_loss"), "%.4f", a),
            number_text(run_view_number(&v->eval, -1, "round"), "%.0f", b),
            number_text(run_view_number(&v->eval, -1, "bits_per_byte"), "%.3f", c));
  }
  fprintf(out, "\npayload   %s, %s times smaller than fp32\n",
          bytes_text(run_view_number(&v->metrics, -1, "payload_bytes"), a),
          number_text(run_view_number(&v->metrics, -1, "ratio_fp32"), "%.1f", b));
}

static void write_peers(const run_view *v, double now, FILE *out) {
  char a[32], b[32], c[32], d[32], e[32], f[32], g[32];
  fprintf(out, "\npeer  state     rounds     loss  compute  waiting      sent  received  saved at  silent for\n");
  for (int64_t i = 0; i < v->cfg.run.peers; i++) {
    const view_peer *p = &v->peer[i];
    const view_round none = {.loss = NAN, .compute_s = NAN, .wait_s = NAN};
    const view_round *r = p->n > 0 ? &p->round[p->n - 1] : &none;
    snprintf(g, sizeof g, p->saved_round > 0 ? "%" PRId64 : "-", p->saved_round);
    fprintf(out, "%4" PRId64 "  %-8s  %6" PRId64 "  %7s  %5s s  %5s s  %8s  %8s  %8s  %10s\n", i, run_view_condition(p),
            p->n, number_text(r->loss, "%.3f", a), number_text(r->compute_s, "%.2f", b),
            number_text(r->wait_s, "%.2f", c), bytes_text(p->n > 0 ? (double)r->sent_bytes : NAN, d),
            bytes_text(p->n > 0 ? (double)r->received_bytes : NAN, e), g,
            time_text(p->heard_t > 0 ? fmax(0, now - p->heard_t) : NAN, f));
  }
}

static void write_notes(const run_view *v, FILE *out) {
  if (v->n_notes > 0) fprintf(out, "\n");
  for (int i = v->n_notes > LAST_NOTES ? v->n_notes - LAST_NOTES : 0; i < v->n_notes; i++) {
    const view_note *n = &v->note[i];
    time_t t = (time_t)n->t;
    struct tm local;
    char clock[16] = "";
    if (localtime_r(&t, &local)) strftime(clock, sizeof clock, "%H:%M:%S", &local);
    fprintf(out, "%s  peer %d %s\n", clock, n->peer, n->text);
  }
  if (v->bad_lines > 0)
    fprintf(out, "note: %" PRId64 " lines of the event files are damaged and left out\n", v->bad_lines);
}

/* Print text line by line, at most `columns` characters each (0: all), nothing that could steer the terminal. */
static void print_lines(const char *text, int columns, bool clear) {
  int used = 0;
  if (clear) fputs("\033[H", stdout);
  for (const char *c = text; *c; c++) {
    if (*c == '\n') {
      fputs(clear ? "\033[K\n" : "\n", stdout);
      used = 0;
      continue;
    }
    bool begins = ((unsigned char)*c & 0xC0) != 0x80; /* of a UTF-8 sequence */
    used += begins;
    if (columns > 0 && used > columns) continue;
    fputc((unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c, stdout);
  }
  if (clear) fputs("\033[J", stdout);
  fflush(stdout);
}

static cov_status show(const run_view *v, bool clear) {
  char *text = NULL;
  size_t bytes = 0;
  struct winsize window = {0};
  FILE *out = open_memstream(&text, &bytes);
  if (!out) return COV_FAIL(COV_ENOMEM, "no memory for the view");
  write_head(v, out);
  write_peers(v, cov_wall_s(), out);
  write_notes(v, out);
  if (fclose(out) != 0) return COV_FAIL(COV_ENOMEM, "no memory for the view");
  if (clear && ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0) window.ws_col = 0;
  print_lines(text, window.ws_col, clear);
  free(text);
  return COV_OK;
}

/* Until the run is over; Ctrl-C ends it like any program, the terminal was never changed. */
static cov_status follow(run_view *v, int64_t interval_s) {
  fputs("\033[2J", stdout);
  for (;;) {
    bool over = v->has_state && v->state != COV_RUN_RUNNING;
    COV_TRY(show(v, true));
    if (over) return COV_OK;
    cov_sleep_s((double)interval_s);
    COV_TRY(run_view_update(v));
  }
}

int cmd_top(int argc, char **argv) {
  static run_view view;
  bool once = false;
  int64_t interval_s = 2;
  const cov_flag flags[] = {
      {"--once", NULL, COV_FLAG_SWITCH, &once, "one look; the default where stdout is no terminal"},
      {"--interval", "SECONDS", COV_FLAG_INT, &interval_s, "between two looks (2)"},
  };
  const cov_args_program program = {
      .name = "covenant top",
      .purpose = "How a run stands: rounds, losses, bytes and waits of each peer, and what happened last. Reads the\n"
                 "files of the run directory and nothing else. Ends with the run.",
      .usage = "RUN [flag]...",
      .examples = "  covenant top runs/quickstart-1\n"
                  "  ssh cluster covenant top --once /shared/runs/k32\n",
      .flags = flags,
      .n_flags = sizeof flags / sizeof *flags,
      .max_words = 1,
      .version = cov_version_write,
  };
  cov_args args;
  bool answered = false;
  cov_status st = cov_args_parse(&program, argc, argv, &args);
  if (st == COV_OK) st = cov_args_answer(&program, &args, stdout, &answered);
  if (st == COV_OK && !answered) {
    if (args.n_words != 1) {
      st = COV_FAIL(COV_EUSAGE, "name one run directory; 'covenant top --help'");
    } else if (interval_s < 1 || interval_s > 3600) {
      st = COV_FAIL(COV_EUSAGE, "--interval %" PRId64 " is outside 1..3600 seconds", interval_s);
    } else {
      st = run_view_open(args.words[0], &view);
    }
    if (st == COV_OK) st = once || !isatty(STDOUT_FILENO) ? show(&view, false) : follow(&view, interval_s);
  }
  run_view_close(&view);
  cov_args_close(&args);
  return cli_failed(st);
}
