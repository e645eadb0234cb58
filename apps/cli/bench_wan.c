/* covenant bench wan: the exchange of one round between hosts with slow links, all of them on this machine, against
 * what the links allow and against plain sockets in the same run. covenant-wanlab makes the hosts, covenant-wan on them
 * exchanges; here is what is asked of them and what is made of their answers. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/bench.h"
#include "cli/bench_wan.h"
#include "exchange/topology.h"

enum { HOSTS_MAX = 64, WORDS_MAX = 96, WORD_BYTES = 4096, NO_LAB = 77 };
static const double relay_mbit = 500; /* a relay is a host of its own, on a better link */
static const double start_s = 120;    /* for the lab, mpirun, and the first connections */

typedef struct {
  const bench_request *q;
  int hosts;
  cov_topology topology;
  double loss; /* percent */
  int64_t payload_bytes;
  cov_link_rate rate[HOSTS_MAX];
  cov_cost bound;
  char bin[WORD_BYTES], folder[256], out[300], stats[300];
} wan;

/* ---- the command ---- */

typedef struct {
  char *word[WORDS_MAX + 1];
  int n;
} command;

__attribute__((format(printf, 2, 3))) static cov_status add(command *c, const char *format, ...) {
  char text[WORD_BYTES];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  char *copy = strdup(text);
  if (!copy || c->n == WORDS_MAX) {
    free(copy);
    return COV_FAIL(COV_ENOMEM, "no memory for the lab's command");
  }
  c->word[c->n++] = copy;
  return COV_OK;
}

static cov_status add_lab(const wan *w, command *c) {
  COV_TRY(add(c, "%s/covenant-wanlab", w->bin));
  COV_TRY(add(c, "--hosts=%d", w->hosts));
  COV_TRY(add(c, "--up=%lld", (long long)w->q->up_mbit));
  COV_TRY(add(c, "--down=%lld", (long long)w->q->down_mbit));
  COV_TRY(add(c, "--rtt=%lld", (long long)w->q->rtt_ms));
  COV_TRY(add(c, "--loss=%g", w->loss));
  COV_TRY(add(c, "--stats=%s", w->stats));
  for (int i = (int)w->q->cfg.run.peers; i < w->hosts; i++) {
    COV_TRY(add(c, "--link=%d:up=%g,down=%g", i, relay_mbit, relay_mbit));
  }
  return add(c, "--");
}

/* One rank a host, on UCX over the shaped interface, as `covenant launch` starts runs of several hosts. */
static cov_status add_mpirun(const wan *w, command *c) {
  static const char *const words[] = {"--map-by",
                                      "node",
                                      "--bind-to",
                                      "none",
                                      "--mca",
                                      "oob_tcp_if_include",
                                      "10.88.0.0/24",
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
                                      "UCX_TLS=tcp,self",
                                      "-x",
                                      "UCX_NET_DEVICES=wan0",
                                      "--mca",
                                      "plm_rsh_agent",
                                      NULL};
  char hosts[WORD_BYTES] = "";
  for (int i = 0, used = 0; i < w->hosts; i++) {
    used += snprintf(hosts + used, sizeof hosts - (size_t)used, "%s10.88.0.%d:1", i ? "," : "", i + 1);
  }
  COV_TRY(add(c, "mpirun"));
  for (int i = 0; words[i]; i++) COV_TRY(add(c, "%s", words[i]));
  COV_TRY(add(c, "%s/covenant-wanlab agent", w->bin));
  COV_TRY(add(c, "--host"));
  COV_TRY(add(c, "%s", hosts));
  COV_TRY(add(c, "-np"));
  return add(c, "%d", w->hosts);
}

static double timeout_s(const wan *w) {
  return 60 + 6 * w->bound.s;
}

static cov_status add_program(const wan *w, command *c) {
  COV_TRY(add(c, "%s/covenant-wan", w->bin));
  COV_TRY(add(c, "--relays=%lld", (long long)w->q->relays));
  COV_TRY(add(c, "--topology=%s", cov_topology_name(w->topology)));
  COV_TRY(add(c, "--bytes=%lld", (long long)w->payload_bytes));
  COV_TRY(add(c, "--part=%lld", (long long)w->q->cfg.exchange.segment_bytes));
  COV_TRY(add(c, "--reps=%lld", (long long)w->q->reps));
  COV_TRY(add(c, "--timeout=%g", timeout_s(w)));
  COV_TRY(add(c, "--sockets=10.77.0."));
  return add(c, "--out=%s", w->out);
}

static _Noreturn void become(const command *c) {
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  setenv("PRTE_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  dup2(STDERR_FILENO, STDOUT_FILENO); /* the report alone goes to stdout */
  execv(c->word[0], c->word);
  fprintf(stderr, "%s: %s\n", c->word[0], strerror(errno));
  _exit(127);
}

/* Bounded: each exchange has its own limit too, which says more. */
static cov_status run_lab(const command *c, double limit_s) {
  int status;
  pid_t child = fork();
  if (child < 0) return COV_FAIL(COV_EIO, "cannot start %s: %s", c->word[0], strerror(errno));
  if (child == 0) become(c);
  for (double end = cov_clock_s() + limit_s; waitpid(child, &status, WNOHANG) == 0; cov_sleep_s(0.1)) {
    if (cov_clock_s() < end) continue;
    kill(child, SIGKILL); /* takes the lab along */
    (void)waitpid(child, &status, 0);
    return COV_FAIL(COV_ECOMM, "the exchanges were not done after %.0f s", limit_s);
  }
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (code == 0) return COV_OK;
  if (code == NO_LAB) return COV_FAIL(COV_EUSAGE, "no WAN can be made here; the line above says why");
  return COV_FAIL(COV_ECOMM, "the exchange on the WAN failed with exit code %d; the lines above say why", code);
}

/* ---- the answers ---- */

static cov_status put_router(const wan *w, bench_report *report, const bench_wan_times *t) {
  bench_wan_traffic traffic = {0};
  double load[BENCH_WAN_REPS_MAX];
  for (int64_t i = 0; i < t->n; i++) {
    COV_TRY(bench_wan_traffic_add(w->stats, w->hosts, t->begin_s[i], t->end_s[i], &traffic, &load[i]));
  }
  double total_s = 0;
  for (int64_t i = 0; i < t->n; i++) total_s += t->end_s[i] - t->begin_s[i];
  bench_put_samples(report, "router_load", load, t->n);
  bench_list_open(report, "links");
  for (int i = 0; i < w->hosts; i++) {
    bench_row_open(report);
    bench_put_text(report, "host", i < w->q->cfg.run.peers ? "peer" : "relay");
    bench_put_number(report, "up_bytes_per_s", w->rate[i].up);
    bench_put_number(report, "down_bytes_per_s", w->rate[i].down);
    bench_put_number(report, "sent_bytes", traffic.sent[i] / (double)t->n);
    bench_put_number(report, "received_bytes", traffic.received[i] / (double)t->n);
    bench_put_number(report, "up_load", traffic.sent[i] / total_s / w->rate[i].up);
    bench_put_number(report, "down_load", traffic.received[i] / total_s / w->rate[i].down);
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
  bench_put_count(report, "peers", w->q->cfg.run.peers);
  bench_put_count(report, "relays", w->q->relays);
  bench_put_text(report, "topology", cov_topology_name(w->topology));
  bench_put_text(report, "probe", probe);
  bench_put_count(report, "payload_bytes", w->payload_bytes);
  bench_put_count(report, "part_bytes", w->q->cfg.exchange.segment_bytes);
  bench_put_count(report, "rtt_ms", w->q->rtt_ms);
  bench_put_number(report, "loss_percent_per_link", w->loss);
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

static cov_status plan(const bench_request *q, wan *w) {
  char *end = NULL;
  *w = (wan){.q = q, .hosts = (int)(q->cfg.run.peers + q->relays), .payload_bytes = q->bytes ? q->bytes : 20000000};
  if (q->cfg.run.peers < 2 || w->hosts > HOSTS_MAX) {
    return COV_FAIL(COV_EUSAGE, "run.peers is %lld: 2 .. %d hosts are possible, relays included",
                    (long long)q->cfg.run.peers, HOSTS_MAX);
  }
  w->loss = strtod(q->loss, &end);
  if (end == q->loss || *end || !(w->loss >= 0 && w->loss < 50)) {
    return COV_FAIL(COV_EUSAGE, "command line: --loss is '%.64s'; percent, below 50", q->loss);
  }
  for (int i = 0; i < w->hosts; i++) {
    bool relay = i >= q->cfg.run.peers;
    w->rate[i] = (cov_link_rate){.up = (relay ? relay_mbit : (double)q->up_mbit) * 1e6 / 8,
                                 .down = (relay ? relay_mbit : (double)q->down_mbit) * 1e6 / 8};
  }
  const cov_cost_params cost = {(int)q->cfg.run.peers, (int)q->relays, w->rate, (double)w->payload_bytes};
  w->topology = q->relays > 0 ? COV_TOPOLOGY_RELAY : COV_TOPOLOGY_MESH;
  w->bound = cov_topology_cost(&cost, w->topology);
  ssize_t n = readlink("/proc/self/exe", w->bin, sizeof w->bin - 1);
  if (n <= 0) return COV_FAIL(COV_EIO, "cannot find out where this program lies: %s", strerror(errno));
  *strrchr(w->bin, '/') = '\0';
  return COV_OK;
}

static cov_status open_folder(wan *w) {
  const char *parent = getenv("TMPDIR");
  COV_TRY(cov_path(w->folder, sizeof w->folder, "%s/covenant-wan.XXXXXX", parent && *parent ? parent : "/tmp"));
  if (!mkdtemp(w->folder)) return COV_FAIL(COV_EIO, "cannot make %s: %s", w->folder, strerror(errno));
  COV_TRY(cov_path(w->out, sizeof w->out, "%s/times", w->folder));
  return cov_path(w->stats, sizeof w->stats, "%s/router", w->folder);
}

static void remove_folder(const wan *w) {
  if (!w->folder[0]) return;
  if (w->out[0]) (void)unlink(w->out);
  if (w->stats[0]) (void)unlink(w->stats);
  (void)rmdir(w->folder);
}

cov_status bench_wan(const bench_request *q, bench_report *report) {
  static wan w;
  command c = {.n = 0};
  COV_TRY(plan(q, &w));
  cov_status st = open_folder(&w);
  if (st == COV_OK) st = add_lab(&w, &c);
  if (st == COV_OK) st = add_mpirun(&w, &c);
  if (st == COV_OK) st = add_program(&w, &c);
  if (st == COV_OK) st = run_lab(&c, start_s + 2 * (double)q->reps * timeout_s(&w));
  if (st == COV_OK) st = put_results(&w, report);
  for (int i = 0; i < c.n; i++) free(c.word[i]);
  remove_folder(&w);
  return st;
}
