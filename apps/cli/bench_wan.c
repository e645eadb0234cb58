/* covenant bench wan: the exchange of one round between hosts with slow links, all of them on this machine, against
 * what the links allow and against plain sockets in the same run. covenant-wanlab makes the hosts, covenant-wan on them
 * exchanges; here is what is asked of them and what is made of their answers. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/bench.h"
#include "cli/bench_lab.h"
#include "cli/bench_wan.h"
#include "exchange/topology.h"

enum { WORD_BYTES = 4096 };
static const double start_s = 120; /* for the lab, mpirun, and the first connections */

typedef struct {
  const bench_request *q;
  bench_lab lab;
  int64_t payload_bytes;
  cov_cost bound;
  char out[300], stats[300];
} wan;

static int hosts_of(const wan *w) {
  return w->lab.peers + w->lab.relays;
}

/* ---- the command ---- */

/* One rank a host, on UCX, as `covenant launch` starts runs of several hosts. */
static cov_status add_mpirun(const wan *w, bench_command *c) {
  static const char *const words[] = {"mpirun",
                                      "--map-by",
                                      "node",
                                      "--bind-to",
                                      "none",
                                      "--mca",
                                      "pml",
                                      "ucx",
                                      "--mca",
                                      "opal_common_ucx_tls",
                                      "any",
                                      "--mca",
                                      "opal_common_ucx_devices",
                                      "any",
                                      "--mca",
                                      "btl",
                                      "self",
                                      "-x",
                                      "UCX_TLS",
                                      "-x",
                                      "UCX_NET_DEVICES",
                                      "--host",
                                      NULL};
  char hosts[WORD_BYTES] = "";
  for (int i = 0, used = 0; i < hosts_of(w); i++) {
    used += snprintf(hosts + used, sizeof hosts - (size_t)used, "%s10.88.0.%d:1", i ? "," : "", i + 1);
  }
  for (int i = 0; words[i]; i++) COV_TRY(bench_command_add(c, "%s", words[i]));
  COV_TRY(bench_command_add(c, "%s", hosts));
  COV_TRY(bench_command_add(c, "-np"));
  return bench_command_add(c, "%d", hosts_of(w));
}

static double timeout_s(const wan *w) {
  return 60 + 6 * w->bound.s;
}

static cov_status add_program(const wan *w, bench_command *c) {
  COV_TRY(bench_command_add(c, "%s/covenant-wan", w->lab.bin));
  COV_TRY(bench_command_add(c, "--relays=%d", w->lab.relays));
  COV_TRY(bench_command_add(c, "--topology=%s", cov_topology_name(w->lab.topology)));
  COV_TRY(bench_command_add(c, "--bytes=%lld", (long long)w->payload_bytes));
  COV_TRY(bench_command_add(c, "--part=%lld", (long long)w->q->cfg.exchange.segment_bytes));
  COV_TRY(bench_command_add(c, "--reps=%lld", (long long)w->q->reps));
  COV_TRY(bench_command_add(c, "--timeout=%g", timeout_s(w)));
  COV_TRY(bench_command_add(c, "--sockets=10.77.0."));
  return bench_command_add(c, "--out=%s", w->out);
}

/* ---- the answers ---- */

static cov_status put_router(const wan *w, bench_report *report, const bench_wan_times *t) {
  bench_wan_traffic traffic = {0};
  double load[BENCH_WAN_REPS_MAX];
  for (int64_t i = 0; i < t->n; i++) {
    COV_TRY(bench_wan_traffic_add(w->stats, hosts_of(w), t->begin_s[i], t->end_s[i], &traffic, &load[i]));
  }
  double total_s = 0;
  for (int64_t i = 0; i < t->n; i++) total_s += t->end_s[i] - t->begin_s[i];
  bench_put_samples(report, "router_load", load, t->n);
  bench_list_open(report, "links");
  for (int i = 0; i < hosts_of(w); i++) {
    bench_row_open(report);
    bench_put_text(report, "host", i < w->lab.peers ? "peer" : "relay");
    bench_put_number(report, "up_bytes_per_s", w->lab.rate[i].up);
    bench_put_number(report, "down_bytes_per_s", w->lab.rate[i].down);
    bench_put_number(report, "sent_bytes", traffic.sent[i] / (double)t->n);
    bench_put_number(report, "received_bytes", traffic.received[i] / (double)t->n);
    bench_put_number(report, "up_load", traffic.sent[i] / total_s / w->lab.rate[i].up);
    bench_put_number(report, "down_load", traffic.received[i] / total_s / w->lab.rate[i].down);
    bench_row_close(report);
  }
  bench_list_close(report);
  bench_put_number(report, "lost_packets_queue", traffic.lost_queue / (double)t->n);
  bench_put_number(report, "lost_packets_random", traffic.lost_random / (double)t->n);
  return COV_OK;
}

static cov_status put_results(const wan *w, bench_report *report) {
  bench_wan_times exchange, sockets;
  double samples[BENCH_WAN_REPS_MAX];
  char probe[400];
  COV_TRY(bench_wan_text_read(w->out, "probe", probe, sizeof probe));
  COV_TRY(bench_wan_times_read(w->out, "exchange", &exchange));
  COV_TRY(bench_wan_times_read(w->out, "sockets", &sockets));
  if (exchange.n != w->q->reps || sockets.n != w->q->reps) {
    return COV_FAIL(COV_EDATA, "%s: %lld exchanges where %lld were asked for", w->out, (long long)exchange.n,
                    (long long)w->q->reps);
  }
  bench_put_count(report, "peers", w->lab.peers);
  bench_put_count(report, "relays", w->lab.relays);
  bench_put_text(report, "topology", cov_topology_name(w->lab.topology));
  bench_put_text(report, "probe", probe);
  bench_put_count(report, "payload_bytes", w->payload_bytes);
  bench_put_count(report, "part_bytes", w->q->cfg.exchange.segment_bytes);
  bench_put_count(report, "rtt_ms", w->lab.rtt_ms);
  bench_put_number(report, "loss_percent_per_link", w->lab.loss);
  bench_put_number(report, "bound_s", w->bound.s);
  bench_put_text(report, "bound_by", w->bound.what);
  for (int64_t i = 0; i < exchange.n; i++) samples[i] = exchange.end_s[i] - exchange.begin_s[i];
  double exchange_s = bench_put_samples(report, "exchange_s", samples, exchange.n);
  for (int64_t i = 0; i < sockets.n; i++) samples[i] = sockets.end_s[i] - sockets.begin_s[i];
  double sockets_s = bench_put_samples(report, "sockets_s", samples, sockets.n);
  bench_put_number(report, "of_bound", exchange_s / w->bound.s);
  bench_put_number(report, "utilisation", w->bound.s / exchange_s);
  bench_put_number(report, "sockets_of_bound", sockets_s / w->bound.s);
  return put_router(w, report, &exchange);
}

/* ---- the bench ---- */

static cov_status open_wan(const bench_request *q, wan *w) {
  *w = (wan){.q = q, .payload_bytes = q->bytes ? q->bytes : 20000000};
  COV_TRY(bench_lab_open(q, &w->lab));
  const cov_cost_params cost = {w->lab.peers, w->lab.relays, w->lab.rate, (double)w->payload_bytes};
  w->bound = cov_topology_cost(&cost, w->lab.topology);
  COV_TRY(cov_path(w->out, sizeof w->out, "%s/times", w->lab.folder));
  return cov_path(w->stats, sizeof w->stats, "%s/router", w->lab.folder);
}

cov_status bench_wan(const bench_request *q, bench_report *report) {
  static wan w;
  bench_command c = {.n = 0};
  cov_status st = open_wan(q, &w);
  if (st == COV_OK) st = bench_lab_command(&w.lab, w.stats, &c);
  if (st == COV_OK) st = add_mpirun(&w, &c);
  if (st == COV_OK) st = add_program(&w, &c);
  if (st == COV_OK) st = bench_lab_run(&w.lab, &c, start_s + 2 * (double)q->reps * timeout_s(&w));
  if (st == COV_OK) st = put_results(&w, report);
  bench_command_close(&c);
  bench_lab_close(&w.lab);
  return st;
}
