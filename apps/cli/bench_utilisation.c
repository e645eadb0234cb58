/* covenant bench utilisation: a whole run (covenant launch, with everything that a round has) between hosts with slow
 * links, all of them on this machine. How much of the time of training are inner steps, against what the links allow.
 *
 * With c seconds of inner steps a round and b the bound of topology.h for the payloads that were really sent:
 *   allowed = c / (c + b)         sync.delay=0: the exchange stands between two rounds
 *   allowed = c / max(c, b)       sync.delay=1: it runs beside the next one
 * Inner steps are made as long as train.round_time says. The 72B run's ratio of compute to bytes is 1,200 s on links of
 * 110 Mbit/s to 1.17 GB (docs/performance.md); compute_of_72b is that of this run over it. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/bench.h"
#include "cli/bench_lab.h"
#include "report/metrics.h"

enum { WORD_BYTES = 4096, TEXT_LINES = 2000, WORDS_A_LINE = 9 };
static const double prepare_s = 60, start_s = 180, end_s = 60;
static const double ratio_of_72b = 1200.0 * (110e6 / 8) / 1.17e9;

typedef struct {
  const bench_request *q;
  bench_lab lab;
  char text[300], data[300], settings[300], run[300];
} utilisation;

/* ---- what the run is made from ---- */

/* Words in an order that a generator chooses; what is learned does not matter here. */
static cov_status write_text(const utilisation *u) {
  static const char *const words[] = {"slow", "links", "carry", "what", "peers", "learned", "from", "their", "text"};
  uint64_t x = 1;
  FILE *f = fopen(u->text, "w");
  if (!f) return COV_FAIL(COV_EIO, "%s cannot be written", u->text);
  for (int line = 0; line < TEXT_LINES; line++) {
    for (int i = 0; i < WORDS_A_LINE; i++) {
      x = x * 6364136223846793005U + 1442695040888963407U;
      fprintf(f, "%s ", words[(x >> 33) % (sizeof words / sizeof *words)]);
    }
    fprintf(f, "%d.\n", line);
  }
  return fclose(f) == 0 ? COV_OK : COV_FAIL(COV_EIO, "%s cannot be written", u->text);
}

static cov_status prepare_data(const utilisation *u) {
  bench_command c = {.n = 0};
  if (u->q->data) return COV_OK;
  cov_status st = write_text(u);
  const char *const words[] = {"data",  "prepare",     "--input", u->text,      "--out",
                               u->data, "--tokenizer", "bytes",   "--document", "line"};
  if (st == COV_OK) st = bench_command_add(&c, "%s/covenant", u->lab.bin);
  for (size_t i = 0; i < sizeof words / sizeof *words && st == COV_OK; i++) st = bench_command_add(&c, "%s", words[i]);
  if (st == COV_OK) st = bench_lab_run(&u->lab, &c, prepare_s);
  bench_command_close(&c);
  return st;
}

static cov_status write_settings(const utilisation *u) {
  FILE *f = fopen(u->settings, "w");
  if (!f) return COV_FAIL(COV_EIO, "%s cannot be written", u->settings);
  cov_config_write_yaml(&u->q->cfg, f);
  return fclose(f) == 0 ? COV_OK : COV_FAIL(COV_EIO, "%s cannot be written", u->settings);
}

/* ---- the command ---- */

static void list_hosts(int first, int n, char *out, size_t size) {
  out[0] = '\0';
  for (int i = 0, used = 0; i < n && used < (int)size; i++) {
    used += snprintf(out + used, size - (size_t)used, "%s10.88.0.%d", i ? "," : "", first + i + 1);
  }
}

static cov_status add_launch(const utilisation *u, bench_command *c) {
  char hosts[WORD_BYTES - 64], relays[WORD_BYTES - 64];
  list_hosts(0, u->lab.peers, hosts, sizeof hosts);
  list_hosts(u->lab.peers, u->lab.relays, relays, sizeof relays);
  COV_TRY(bench_command_add(c, "%s/covenant", u->lab.bin));
  COV_TRY(bench_command_add(c, "launch"));
  COV_TRY(bench_command_add(c, "-c"));
  COV_TRY(bench_command_add(c, "%s", u->settings));
  COV_TRY(bench_command_add(c, "run.dir=%s", u->run));
  COV_TRY(bench_command_add(c, "run.hosts=%s", hosts));
  COV_TRY(bench_command_add(c, "run.eval_ranks=0"));
  COV_TRY(bench_command_add(c, "data.dir=%s", u->q->data ? u->q->data : u->data));
  COV_TRY(bench_command_add(c, "exchange.topology=%s", cov_topology_name(u->lab.topology)));
  COV_TRY(bench_command_add(c, "exchange.relays=%d", u->lab.relays));
  return u->lab.relays > 0 ? bench_command_add(c, "exchange.relay_hosts=%s", relays) : COV_OK;
}

static double bound_of(const utilisation *u, double payload_bytes, const char **by) {
  const cov_cost_params cost = {u->lab.peers, u->lab.relays, u->lab.rate, payload_bytes};
  cov_cost bound = cov_topology_cost(&cost, u->lab.topology);
  *by = bound.what;
  return bound.s;
}

/* Ten times as long as rounds should take, and more than any payload of the model needs. */
static double limit_s(const utilisation *u) {
  const cov_config *cfg = &u->q->cfg;
  return start_s + end_s + (double)cfg->run.rounds * (10 * cfg->train.round_time + cfg->exchange.round_timeout);
}

/* ---- the answer ---- */

static cov_status sum_of(const cov_csv *csv, const char *name, double *out) {
  double value;
  int column = cov_csv_column(csv, name);
  *out = 0;
  /* Before the first round training waits for the start of all programs, not for an exchange. */
  for (int64_t row = 1; row < csv->n_rows; row++) {
    COV_TRY(cov_csv_number(csv, row, column, &value));
    *out += value;
  }
  return COV_OK;
}

static cov_status put_figures(const utilisation *u, const cov_csv *csv, bench_report *report) {
  static const char *const names[] = {"compute_s", "idle_s", "payload_bytes", "encode_s", "exchange_s", "apply_s"};
  double sum[6], n = (double)csv->n_rows - 1, full = 0;
  const char *by;
  for (int k = 0; k < 6; k++) COV_TRY(sum_of(csv, names[k], &sum[k]));
  for (int64_t row = 0; row < csv->n_rows; row++) {
    double peers_in;
    COV_TRY(cov_csv_number(csv, row, cov_csv_column(csv, "peers_in"), &peers_in));
    full += peers_in == u->lab.peers;
  }
  if (full < (double)csv->n_rows) return COV_FAIL(COV_ECOMM, "a round ended without the payloads of all peers");
  double compute = sum[0] / n, bytes = sum[2] / n, bound = bound_of(u, bytes, &by);
  bool delay = u->q->cfg.sync.delay > 0;
  double allowed = delay ? compute / (compute > bound ? compute : bound) : compute / (compute + bound);
  double reached = sum[0] / (sum[0] + sum[1]);
  bench_put_count(report, "rounds", csv->n_rows);
  bench_put_count(report, "delay", u->q->cfg.sync.delay);
  for (int k = 0; k < 6; k++) bench_put_number(report, names[k], sum[k] / n);
  bench_put_number(report, "bound_s", bound);
  bench_put_text(report, "bound_by", by);
  bench_put_number(report, "bound_of_compute", bound / compute);
  bench_put_number(report, "compute_of_72b", compute * (double)u->q->up_mbit * 1e6 / 8 / bytes / ratio_of_72b);
  bench_put_number(report, "allowed", allowed);
  bench_put_number(report, "utilisation", reached);
  bench_put_number(report, "of_allowed", reached / allowed);
  return COV_OK;
}

static cov_status put_results(const utilisation *u, bench_report *report) {
  char path[400];
  cov_csv csv;
  COV_TRY(cov_path(path, sizeof path, "%s/metrics.csv", u->run));
  cov_status st = cov_csv_read(path, &csv);
  if (st == COV_OK && csv.n_rows != u->q->cfg.run.rounds) {
    st = COV_FAIL(COV_ECOMM, "%s: %lld rounds where %lld were asked for", path, (long long)csv.n_rows,
                  (long long)u->q->cfg.run.rounds);
  }
  bench_put_count(report, "peers", u->lab.peers);
  bench_put_count(report, "relays", u->lab.relays);
  bench_put_text(report, "topology", cov_topology_name(u->lab.topology));
  bench_put_count(report, "up_mbit", u->lab.up_mbit);
  bench_put_count(report, "down_mbit", u->lab.down_mbit);
  bench_put_count(report, "rtt_ms", u->lab.rtt_ms);
  bench_put_number(report, "loss_percent_per_link", u->lab.loss);
  if (st == COV_OK) st = put_figures(u, &csv, report);
  cov_csv_close(&csv);
  return st;
}

/* ---- the bench ---- */

static cov_status open_run(const bench_request *q, utilisation *u) {
  *u = (utilisation){.q = q};
  if (q->cfg.run.rounds < 2 || !(q->cfg.train.round_time > 0)) {
    return COV_FAIL(COV_EUSAGE, "bench utilisation needs run.rounds of at least 2, and train.round_time; "
                                "configs/presets/bench-utilisation.yaml has both");
  }
  COV_TRY(bench_lab_open(q, &u->lab));
  COV_TRY(cov_path(u->text, sizeof u->text, "%s/text", u->lab.folder));
  COV_TRY(cov_path(u->data, sizeof u->data, "%s/data", u->lab.folder));
  COV_TRY(cov_path(u->settings, sizeof u->settings, "%s/settings.yaml", u->lab.folder));
  return cov_path(u->run, sizeof u->run, "%s/run", u->lab.folder);
}

cov_status bench_utilisation(const bench_request *q, bench_report *report) {
  static utilisation u;
  bench_command c = {.n = 0};
  cov_status st = open_run(q, &u);
  if (st == COV_OK) st = prepare_data(&u);
  if (st == COV_OK) st = write_settings(&u);
  if (st == COV_OK) st = bench_lab_command(&u.lab, NULL, &c);
  if (st == COV_OK) st = add_launch(&u, &c);
  if (st == COV_OK) st = bench_lab_run(&u.lab, &c, limit_s(&u));
  if (st == COV_OK) st = put_results(&u, report);
  bench_command_close(&c);
  bench_lab_close(&u.lab);
  return st;
}
