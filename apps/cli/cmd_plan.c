/* covenant plan: memory of each rank, operations, bytes and time of a round, from settings and rates. */
#include <inttypes.h>
#include <string.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/plan.h"
#include "common/ranks.h"
#include "common/version.h"
#include "config/args.h"
#include "config/option.h"
#include "data/manifest.h"

enum { PATH_BYTES = 1024, ROWS_MAX = 8 };

typedef struct {
  const char *flops, *uplink, *downlink, *relay, *rtt, *outer, *memory; /* as written; NULL: not given */
  bool json, measure;
  cov_args args;
  cov_config cfg;
  cov_llama_config llama;
  cov_params params;
  plan_rates rates;
  int64_t available;
  plan_memory mem;
  plan_round round;
} planner;

/* ---- what is asked ---- */

static cov_status read_number(const char *flag, const char *text, bool (*parse)(const char *, double *),
                              const char *form, double *out) {
  if (!text) return COV_OK;
  if (parse(text, out) && *out >= 0 && *out < 1e30) return COV_OK;
  return COV_FAIL(COV_EUSAGE, "command line: %s: '%.64s' is not %s", flag, text, form);
}

static cov_status read_rates(planner *p) {
  plan_rates *r = &p->rates;
  /* docs/performance.md: the slower of encoding and of applying 8 payloads, on the slower machine */
  r->outer_per_s = 800e6;
  COV_TRY(
      read_number("--flops", p->flops, cov_value_float, "a number of operations a second such as 300e9", &r->flops));
  COV_TRY(read_number("--uplink", p->uplink, cov_value_rate, "a rate such as 110Mbit", &r->uplink));
  COV_TRY(read_number("--downlink", p->downlink, cov_value_rate, "a rate such as 500Mbit", &r->downlink));
  COV_TRY(read_number("--relay", p->relay, cov_value_rate, "a rate such as 10Gbit", &r->relay));
  COV_TRY(read_number("--rtt", p->rtt, cov_value_duration, "a time such as 80ms", &r->rtt_s));
  COV_TRY(read_number("--outer", p->outer, cov_value_float, "parameters a second such as 800e6", &r->outer_per_s));
  if (r->outer_per_s <= 0) return COV_FAIL(COV_EUSAGE, "command line: --outer must be more than 0");
  if (!p->uplink != !p->downlink) {
    return COV_FAIL(COV_EUSAGE, "command line: --uplink and --downlink go together");
  }
  if (p->memory && (!cov_value_bytes(p->memory, &p->available) || p->available < 1)) {
    return COV_FAIL(COV_EUSAGE, "command line: --memory: '%.64s' is not a size such as 64GiB", p->memory);
  }
  return COV_OK;
}

/* A vocabulary of 0 is that of the data, which need not be there otherwise. */
static cov_status find_vocabulary(planner *p) {
  char path[PATH_BYTES];
  cov_manifest manifest;
  if (p->cfg.model.vocab > 0) return COV_OK;
  COV_TRY(cov_path(path, sizeof path, "%s/" COV_MANIFEST_FILE, p->cfg.data.dir));
  if (!cov_file_exists(path)) {
    return COV_FAIL(COV_EUSAGE,
                    "model.vocab is 0, the data's own, and there are no data in %s; prepare them, or plan with "
                    "model.vocab=N",
                    p->cfg.data.dir);
  }
  COV_TRY(cov_manifest_read(p->cfg.data.dir, &manifest));
  p->cfg.model.vocab = manifest.vocab;
  cov_manifest_free(&manifest);
  return COV_OK;
}

static cov_status make(planner *p) {
  COV_TRY(cov_args_config(&p->args, &p->cfg, NULL));
  COV_TRY(read_rates(p));
  COV_TRY(find_vocabulary(p));
  cov_app_llama(&p->cfg, &p->llama);
  COV_TRY(cov_llama_config_verify(&p->llama));
  COV_TRY(cov_llama_params(&p->llama, &p->params));
  COV_TRY(cov_ranks_verify(&p->cfg, &p->params));
  const cov_need_of of = {.cfg = &p->cfg, .llama = &p->llama, .params = &p->params};
  COV_TRY(plan_memory_open(&of, p->available, &p->mem));
  if (p->measure && plan_memory_fits(&p->mem)) {
    fprintf(stderr, "plan: measuring optimiser steps of this model\n");
    COV_TRY(plan_measure(&p->cfg, 2.0, &p->rates.flops));
  }
  return plan_round_make(&of, &p->rates, &p->round);
}

/* ---- what is answered ---- */

static void put_rank(bench_report *out, const plan_rank *r) {
  char key[64];
  bench_row_open(out);
  bench_put_text(out, "program", cov_program_name(r->program));
  bench_put_count(out, "shard", r->shard);
  for (int t = 0; t < COV_MEM_TAG_COUNT; t++) {
    if (t == COV_MEM_FILES) continue;
    snprintf(key, sizeof key, "%s_bytes", cov_mem_tag_key((cov_mem_tag)t));
    bench_put_count(out, key, r->plan.peak[t]);
  }
  bench_put_count(out, "total_bytes", r->plan.peak_total);
  bench_row_close(out);
}

static cov_status write_json(const planner *p) {
  bench_report out;
  const plan_round *r = &p->round;
  COV_TRY(bench_report_open(true, &out));
  bench_put_text(&out, "commit", cov_git_commit);
  bench_put_count(&out, "params", p->params.elems);
  bench_put_count(&out, "peers", p->cfg.run.peers);
  bench_put_count(&out, "tokens_per_step", r->tokens_per_step);
  bench_put_number(&out, "flop_per_token", r->flop_per_token);
  bench_put_number(&out, "flop_per_step", r->step_flop);
  bench_put_number(&out, "flop_per_round", r->step_flop * (double)p->cfg.sync.inner_steps);
  bench_put_number(&out, "recomputed_flop_per_step", r->recomputed_flop);
  bench_put_count(&out, "payload_bytes", (int64_t)r->payload_bytes);
  bench_put_text(&out, "topology", cov_topology_name(r->topology));
  bench_put_count(&out, "sent_bytes_per_round", (int64_t)r->sent_bytes);
  bench_put_count(&out, "received_bytes_per_round", (int64_t)r->received_bytes);
  bench_list_open(&out, "ranks");
  for (int i = 0; i < p->mem.n; i++) put_rank(&out, &p->mem.rank[i]);
  bench_list_close(&out);
  bench_put_count(&out, "peer_bytes", p->mem.peer_bytes);
  bench_put_count(&out, "eval_bytes", p->mem.eval_bytes);
  bench_put_count(&out, "host_peers", p->mem.host.peers);
  bench_put_count(&out, "host_bytes", p->mem.host_bytes);
  bench_put_count(&out, "available_bytes", p->mem.available);
  bench_put_count(&out, "fits", plan_memory_fits(&p->mem));
  if (r->round_s > 0) {
    bench_put_number(&out, "flops_per_rank_s", p->rates.flops);
    bench_put_number(&out, "compute_s", r->compute_s);
    bench_put_number(&out, "encode_s", r->encode_s);
    bench_put_number(&out, "exchange_s", r->exchange_s);
    bench_put_number(&out, "apply_s", r->apply_s);
    bench_put_number(&out, "round_s", r->round_s);
    bench_put_number(&out, "utilisation", r->utilisation);
  }
  return bench_report_close(&out, stdout);
}

/* A number of bytes in at most eight characters. */
static void write_bytes(double bytes) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  int u = 0;
  while (bytes >= 999.5 && u < 5) {
    bytes /= 1024;
    u++;
  }
  printf(u == 0 ? "%6.0f %-3s" : "%6.2f %-3s", bytes, units[u]);
}

/* Tags that any rank uses are columns. */
static void write_table(const plan_memory *m) {
  bool shown[COV_MEM_TAG_COUNT] = {false};
  for (int i = 0; i < m->n; i++) {
    for (int t = 0; t < COV_MEM_FILES; t++) shown[t] |= m->rank[i].plan.peak[t] > 0;
  }
  printf("%-10s", "rank");
  for (int t = 0; t < COV_MEM_TAG_COUNT; t++) {
    if (shown[t]) printf(" %12s", cov_mem_tag_key((cov_mem_tag)t));
  }
  printf(" %12s\n", "total");
  for (int i = 0; i < m->n; i++) {
    const plan_rank *r = &m->rank[i];
    if (r->shard >= ROWS_MAX) continue;
    printf("%-5s %-4d", cov_program_name(r->program), r->shard);
    for (int t = 0; t < COV_MEM_TAG_COUNT; t++) {
      if (!shown[t]) continue;
      printf("   ");
      write_bytes((double)r->plan.peak[t]);
    }
    printf("   ");
    write_bytes((double)r->plan.peak_total);
    printf("\n");
    if (r->shard == ROWS_MAX - 1 && i + 1 < m->n && m->rank[i + 1].shard == ROWS_MAX)
      printf("%-5s ...    likewise\n", cov_program_name(r->program));
  }
}

static void write_memory(const planner *p) {
  const plan_memory *m = &p->mem;
  printf("\nmemory, most bytes that each rank of a peer holds\n");
  write_table(m);
  printf("a peer ");
  write_bytes((double)m->peer_bytes);
  printf(", evaluation ");
  write_bytes((double)m->eval_bytes);
  printf("; a host with %d peer%s ", m->host.peers, m->host.peers == 1 ? "" : "s");
  write_bytes((double)m->host_bytes);
  printf(" (%d MiB for libraries of each of %d ranks included)", COV_NEED_SPARE_BYTES >> 20, m->host_ranks);
  if (m->available > 0) {
    printf(", of ");
    write_bytes((double)m->available);
  }
  printf("\n");
}

static void write_round(const planner *p) {
  const plan_round *r = &p->round;
  const cov_config *c = &p->cfg;
  printf("%.4g M parameters; a step of a peer: %" PRId64 " tokens, %.4g FLOP each, %.4g TFLOP; a round: %" PRId64
         " steps, %.4g TFLOP\n",
         (double)p->params.elems / 1e6, r->tokens_per_step, r->flop_per_token, r->step_flop / 1e12, c->sync.inner_steps,
         r->step_flop * (double)c->sync.inner_steps / 1e12);
  if (r->recomputed_flop > 0) printf("recomputing adds %.4g TFLOP a step\n", r->recomputed_flop / 1e12);
  printf("a payload is at most %.0f bytes, %.1fx less than fp32; by %s a peer sends %.6g MB and receives %.6g MB a "
         "round\n",
         r->payload_bytes, 4.0 * (double)p->params.elems / r->payload_bytes, cov_topology_name(r->topology),
         r->sent_bytes / 1e6, r->received_bytes / 1e6);
  if (r->round_s <= 0) {
    printf("for times: --flops N or --measure, --uplink R --downlink R\n");
    return;
  }
  printf("at %.4g GFLOP/s a train rank: compute %.4g s, encode %.4g s, exchange %.4g s%s%s, apply %.4g s\n",
         p->rates.flops / 1e9, r->compute_s, r->encode_s, r->exchange_s, *r->bound ? " by " : "", r->bound, r->apply_s);
  printf("a round takes %.4g s%s, of which computing %.2f %%; %" PRId64 " rounds %.4g h, %.4g tokens/s of all peers\n",
         r->round_s, c->sync.delay > 0 ? " (the exchange runs beside the next round)" : "", 100 * r->utilisation,
         c->run.rounds, r->round_s * (double)c->run.rounds / 3600,
         (double)(r->tokens_per_step * c->sync.inner_steps * c->run.peers) / r->round_s);
}

/* The answer is printed in any case; too little memory is an exit code, so that scripts see it. */
static cov_status answer(planner *p) {
  if (p->json) {
    COV_TRY(write_json(p));
  } else {
    write_round(p);
    write_memory(p);
  }
  if (plan_memory_fits(&p->mem)) return COV_OK;
  fflush(stdout);
  return COV_FAIL(
      COV_ENOMEM,
      "not enough memory: the %d ranks of a host will hold %.2f GiB, and it has %.2f GiB. What changes that: "
      "fewer peers a host (run.hosts, run.peers)%s%s",
      p->mem.host_ranks, (double)p->mem.host_bytes / 1073741824.0, (double)p->mem.available / 1073741824.0,
      p->mem.advice[0] ? "; " : "", p->mem.advice);
}

int cmd_plan(int argc, char **argv) {
  planner p = {.json = false};
  bool answered = false;
  const cov_flag flags[] = {
      {"--json", NULL, COV_FLAG_SWITCH, &p.json, "one line of JSON"},
      {"--flops", "N", COV_FLAG_TEXT, &p.flops, "operations a second of one train rank, 300e9"},
      {"--measure", NULL, COV_FLAG_SWITCH, &p.measure, "measure them here: a few optimiser steps of the model"},
      {"--uplink", "RATE", COV_FLAG_TEXT, &p.uplink, "of each peer, 110Mbit"},
      {"--downlink", "RATE", COV_FLAG_TEXT, &p.downlink, "of each peer, 500Mbit"},
      {"--relay", "RATE", COV_FLAG_TEXT, &p.relay, "of each of exchange.relays, both ways (more than is asked of it)"},
      {"--rtt", "TIME", COV_FLAG_TEXT, &p.rtt, "between two peers, 80ms (0)"},
      {"--outer", "N", COV_FLAG_TEXT, &p.outer,
       "parameters a second that a thread of a sync rank encodes, and applies (800e6)"},
      {"--memory", "SIZE", COV_FLAG_TEXT, &p.memory, "of a host (this machine's, what is left of it)"},
  };
  const cov_args_program program = {
      .name = "covenant plan",
      .purpose =
          "Says what a run will take before it is started: memory of each rank by purpose, operations and bytes\n"
          "of a round, and its time at the rates given. Needs no data if model.vocab is set. Ends with 4 if a\n"
          "host has too little memory.",
      .usage = "[-c FILE]... [key=value]... [flag]...",
      .examples = "  covenant plan -c configs/examples/quickstart.yaml model.vocab=1024 --measure\n"
                  "  covenant plan -c my.yaml --flops 300e9 --uplink 110Mbit --downlink 500Mbit --rtt 80ms\n"
                  "  covenant plan -c my.yaml run.ranks_per_peer=8 --memory 512GiB --json\n",
      .flags = flags,
      .n_flags = sizeof flags / sizeof *flags,
      .version = cov_version_write,
  };
  cov_params_create(&p.params);
  cov_status st = cov_args_parse(&program, argc, argv, &p.args);
  if (st == COV_OK) st = cov_args_answer(&program, &p.args, stdout, &answered);
  if (st == COV_OK && !answered) {
    st = make(&p);
    if (st == COV_OK) st = answer(&p);
  }
  plan_memory_close(&p.mem);
  cov_params_destroy(&p.params);
  cov_args_close(&p.args);
  return cli_failed(st);
}
