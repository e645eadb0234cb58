#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "cli/bench_model.h"
#include "cli/plan.h"
#include "common/loop_settings.h"
#include "sparseloco/payload.h"

/* Messages that a round sends over each link besides payloads: commands, proposals, acknowledgements, commits, signs
 * of life. Measured with the quickstart (docs/performance.md): 87,763 B less three payloads of 27,552 B. */
static const double messages_bytes = 1700;
static const double unlimited = 1e30; /* bit/s */

static cov_status largest_payload(const cov_need_of *of, double *bytes) {
  cov_outer_settings set;
  cov_grid grid;
  cov_outer_settings_of(of->cfg, &set);
  COV_TRY(cov_grid_create(of->params, (int)of->cfg->sync.chunk, set.topk, &grid));
  *bytes = (double)cov_payload_bytes_max(&grid, &set.quant);
  cov_grid_destroy(&grid);
  return COV_OK;
}

static const char *bound_name(const cov_cost *cost, int peers) {
  if (cost->host < peers) return cost->what[0] == 'u' ? "a peer's uplink" : "a peer's downlink";
  return cost->what[0] == 'u' ? "a relay's uplink" : "a relay's downlink";
}

static cov_topology choose_topology(const cov_config *c, const cov_cost_params *cost) {
  char why[512];
  if (c->exchange.relays == 0 || c->exchange.topology == COV_CFG_TOPOLOGY_MESH) return COV_TOPOLOGY_MESH;
  if (c->exchange.topology == COV_CFG_TOPOLOGY_RELAY) return COV_TOPOLOGY_RELAY;
  return cost->rate ? cov_topology_choose(cost, why, sizeof why) : COV_TOPOLOGY_MESH;
}

/* Without rates there is a topology, and no time. */
static cov_status set_exchange(const cov_config *c, const plan_rates *rates, plan_round *r) {
  const int peers = (int)c->run.peers, relays = (int)c->exchange.relays;
  cov_cost_params cost = {.peers = peers, .relays = relays, .payload_bytes = r->payload_bytes + messages_bytes};
  r->topology = choose_topology(c, &cost);
  if (peers < 2 || rates->uplink <= 0 || rates->downlink <= 0) return COV_OK;
  cov_link_rate *rate = calloc((size_t)(peers + relays), sizeof *rate);
  if (!rate) return COV_FAIL(COV_ENOMEM, "no memory for the rates of %d hosts", peers + relays);
  for (int i = 0; i < peers + relays; i++) {
    const double relay = rates->relay > 0 ? rates->relay : unlimited;
    rate[i].up = (i < peers ? rates->uplink : relay) / 8;
    rate[i].down = (i < peers ? rates->downlink : relay) / 8;
  }
  cost.rate = rate;
  r->topology = choose_topology(c, &cost);
  const cov_cost least = cov_topology_cost(&cost, r->topology);
  free(rate);
  /* A payload, then propose, acknowledge, commit: four ways, two round trips. */
  r->exchange_s = least.s + 2 * rates->rtt_s;
  r->bound = bound_name(&least, peers);
  return COV_OK;
}

/* The outer step runs beside the next round's training with sync.delay, else behind this one's. */
static void set_times(const cov_need_of *of, const plan_rates *rates, plan_round *r) {
  const cov_config *c = of->cfg;
  const double steps = (double)c->sync.inner_steps, ranks = (double)c->run.ranks_per_peer;
  r->compute_s = steps * (r->step_flop + r->recomputed_flop) / (rates->flops * ranks);
  r->encode_s = r->apply_s =
      (double)of->params->elems / (rates->outer_per_s * (double)(c->run.sync_ranks * c->sync.threads));
  const double outer = r->encode_s + r->exchange_s + r->apply_s;
  r->round_s = c->sync.delay > 0 ? fmax(r->compute_s, outer) : r->compute_s + outer;
  r->utilisation = r->compute_s / r->round_s;
}

cov_status plan_round_make(const cov_need_of *of, const plan_rates *rates, plan_round *r) {
  const cov_config *c = of->cfg;
  *r = (plan_round){.bound = ""};
  r->tokens_per_step = c->data.batch_seqs * of->llama->seq_len;
  r->flop_per_token = cov_llama_flop_per_token(of->llama, of->llama->seq_len);
  r->step_flop = r->flop_per_token * (double)r->tokens_per_step;
  if (c->train.recompute == COV_CFG_RECOMPUTE_LAYER) { /* the layers' forward passes again: a third of their work */
    const double head = 6.0 * (double)(of->llama->vocab * of->llama->dim) * (double)r->tokens_per_step;
    r->recomputed_flop = (r->step_flop - head) / 3;
  }
  COV_TRY(largest_payload(of, &r->payload_bytes));
  COV_TRY(set_exchange(c, rates, r));
  const double others = (double)(c->run.peers - 1),
               copies = r->topology == COV_TOPOLOGY_RELAY && others > 0 ? 1 : others;
  r->sent_bytes = copies * r->payload_bytes + others * messages_bytes;
  r->received_bytes = others * (r->payload_bytes + messages_bytes);
  if (rates->flops > 0) set_times(of, rates, r);
  return COV_OK;
}

/* ---- measured ---- */

static cov_status take_steps(cov_inner *inner, float *theta, double seconds, double *step_s) {
  cov_inner_report report;
  COV_TRY(cov_inner_round(inner, 0, theta, &report)); /* warm */
  int64_t steps = 0;
  const double start = cov_clock_s();
  do {
    COV_TRY(cov_inner_round(inner, ++steps, theta, &report));
  } while (cov_clock_s() - start < seconds);
  *step_s = (cov_clock_s() - start) / (double)steps;
  return COV_OK;
}

/* One rank's part of a step: as many sequences as one of the peer's ranks trains on. */
cov_status plan_measure(const cov_config *cfg, double seconds, double *flops) {
  bench_request q = {.cfg = *cfg};
  bench_model model;
  cov_inner *inner = NULL;
  cov_inner_params p;
  float *theta = NULL;
  double step_s;
  q.cfg.data.batch_seqs = cfg->data.batch_seqs / cfg->run.ranks_per_peer;
  q.cfg.run.ranks_per_peer = 1;
  COV_TRY(bench_model_open(&q, q.cfg.data.batch_seqs > 64 ? q.cfg.data.batch_seqs : 64, &model));
  cov_inner_params_of(&q.cfg, 0, &p);
  p.inner_steps = 1;
  p.pool_samples = 0;
  p.dtype = model.place.dtype;
  cov_status st = bench_theta_create(&q, &model, &theta);
  if (st == COV_OK) st = cov_inner_create(&p, &model.llama, &model.params, model.data, model.ops, &inner);
  if (st == COV_OK) st = take_steps(inner, theta, seconds, &step_s);
  if (st == COV_OK) {
    const double tokens = (double)(q.cfg.data.batch_seqs * model.llama.seq_len);
    *flops = cov_llama_flop_per_token(&model.llama, model.llama.seq_len) * tokens / step_s;
  }
  cov_inner_destroy(&inner);
  cov_mem_free(theta);
  bench_model_close(&model);
  return st;
}
