#include "common/need.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/loop_settings.h"
#include "common/outer.h"
#include "evaluate/heldout.h"
#include "fsdp/mpi.h"

int cov_need_ranks(const cov_config *cfg, cov_program program) {
  switch (program) {
  case COV_PROGRAM_TRAIN:
    return (int)cfg->run.ranks_per_peer;
  case COV_PROGRAM_SYNC:
    return (int)cfg->run.sync_ranks;
  default:
    return (int)cfg->run.eval_ranks;
  }
}

/* ---- one rank ---- */

static cov_status take(cov_mem_tag tag, int64_t bytes, void **out) {
  return cov_mem_alloc(COV_SPACE_HOST, tag, bytes > 0 ? (size_t)bytes : 0, out);
}

/* A checkpoint in mid-run copies the moments; the one at the end does not. */
static int copies_moments(const cov_config *c) {
  return c->checkpoint.every_rounds > 0 && c->checkpoint.every_rounds < c->run.rounds;
}

static cov_status plan_train(const cov_need_of *of, int shard) {
  cov_inner_params p;
  cov_inner *inner;
  void *copy = NULL;
  const cov_fsdp_ops ranks = {.rank = shard, .size = (int)of->cfg->run.ranks_per_peer};
  cov_inner_params_of(of->cfg, 0, &p);
  if (ranks.size > 1) p.ranks = &ranks;
  COV_TRY(cov_train_dtype(of->cfg, &p.dtype, NULL));
  COV_TRY(cov_inner_create(&p, of->llama, of->params, NULL, cov_backend_ops(of->cfg), &inner));
  if (ranks.size > 1) cov_fsdp_mpi_account(ranks.size, cov_inner_layout(inner)->count_max);
  cov_status st = COV_OK;
  if (copies_moments(of->cfg)) {
    st = take(COV_MEM_CHECKPOINT, cov_inner_optimizer(inner)->state_elems * (int64_t)sizeof(float), &copy);
  }
  cov_mem_free(copy);
  cov_inner_destroy(&inner);
  return st;
}

/* Payloads of all peers: at the gateway those of several rounds, at the other ranks those of one. */
static cov_status plan_payloads(const cov_need_of *of, const cov_outer *outer) {
  int64_t rounds = outer->shard != 0 ? 1 : COV_GATEWAY_ROUNDS;
  void *all;
  if (rounds > of->cfg->run.rounds) rounds = of->cfg->run.rounds;
  COV_TRY(take(COV_MEM_PAYLOAD, (int64_t)outer->payload_bytes_max * of->cfg->run.peers * rounds, &all));
  cov_mem_free(all);
  return COV_OK;
}

static cov_status plan_sync(const cov_need_of *of, int shard) {
  cov_app *app = calloc(1, sizeof *app);
  cov_outer *outer = calloc(1, sizeof *outer);
  const cov_wait how = {0};
  cov_segment_params segment;
  cov_status st = app && outer ? COV_OK : COV_FAIL(COV_ENOMEM, "no memory for a plan");
  if (st == COV_OK) {
    app->cfg = *of->cfg;
    app->params = *of->params; /* borrowed: not destroyed here */
    app->shard = shard;
    cov_app_segment_params(app, &segment);
    if (shard == 0) st = cov_segment_account(&segment);
    if (st == COV_OK) st = cov_outer_create(app, NULL, &how, outer);
    if (st == COV_OK) st = plan_payloads(of, outer);
    cov_outer_destroy(outer);
  }
  free(app);
  free(outer);
  return st;
}

static cov_status plan_eval(const cov_need_of *of, int shard) {
  const cov_heldout_params params = {.batch_seqs = of->cfg->eval.batch_seqs,
                                     .n_tokens = of->cfg->eval.tokens,
                                     .rank = shard,
                                     .n_ranks = (int)of->cfg->run.eval_ranks};
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  cov_heldout *heldout;
  void *theta = NULL;
  COV_TRY(cov_heldout_create(of->llama, of->params, &params, cov_backend_ops(of->cfg), &place, &heldout));
  cov_status st = take(COV_MEM_PARAMS, of->params->span * (int64_t)sizeof(float), &theta);
  cov_mem_free(theta);
  cov_heldout_destroy(&heldout);
  return st;
}

cov_status cov_need_rank(const cov_need_of *of, cov_program program, int shard, cov_mem_plan *plan) {
  cov_mem_plan_begin(plan);
  cov_status st = program == COV_PROGRAM_TRAIN  ? plan_train(of, shard)
                  : program == COV_PROGRAM_SYNC ? plan_sync(of, shard)
                                                : plan_eval(of, shard);
  cov_mem_plan_end();
  return st;
}

/* ---- a host ---- */

static cov_status add_ranks(const cov_need_of *of, cov_program program, int n, int times, int64_t *bytes,
                            int *n_ranks) {
  for (int shard = 0; shard < n; shard++) {
    cov_mem_plan plan;
    COV_TRY(cov_need_rank(of, program, shard, &plan));
    *bytes += times * ((int64_t)plan.peak_total + COV_NEED_SPARE_BYTES);
    *n_ranks += times;
  }
  return COV_OK;
}

cov_status cov_need_on_host(const cov_need_of *of, const cov_need_host *host, int64_t *bytes, int *n_ranks) {
  *bytes = 0;
  *n_ranks = 0;
  if (host->peers > 0) {
    COV_TRY(add_ranks(of, COV_PROGRAM_TRAIN, (int)of->cfg->run.ranks_per_peer, host->peers, bytes, n_ranks));
    COV_TRY(add_ranks(of, COV_PROGRAM_SYNC, (int)of->cfg->run.sync_ranks, host->peers, bytes, n_ranks));
  }
  return add_ranks(of, COV_PROGRAM_EVAL, host->evals, 1, bytes, n_ranks);
}

/* ---- what would help ---- */

/* Settings that save memory; each is tried alone, those of a line together. */
static const char *const changes[][2] = {
    {"train.dtype=bf16", NULL},      {"data.micro_batch_seqs=1", NULL},
    {"train.recompute=layer", NULL}, {"data.micro_batch_seqs=1", "train.recompute=layer"},
    {"eval.batch_seqs=1", NULL},     {"checkpoint.every_rounds=0", NULL},
};

/* The settings with a change; false if a part of it is so already, or this program does not know it. */
static bool change(cov_config *cfg, const char *const words[2]) {
  for (int i = 0; i < 2 && words[i]; i++) {
    char key[64], was[COV_CONFIG_TEXT_BYTES];
    const char *value = strchr(words[i], '=') + 1;
    snprintf(key, sizeof key, "%.*s", (int)(value - 1 - words[i]), words[i]);
    if (cov_config_get_text(cfg, key, was, sizeof was) != COV_OK) return false;
    if (strcmp(was, value) == 0 || cov_config_set(cfg, key, value, "a plan") != COV_OK) return false;
  }
  return cov_config_check(cfg) == COV_OK;
}

void cov_need_advice(const cov_need_of *of, const cov_need_host *host, char *text, size_t size) {
  int64_t now, then;
  int n_ranks;
  size_t at = 0;
  cov_config *cfg = malloc(sizeof *cfg);
  text[0] = '\0';
  if (!cfg || cov_need_on_host(of, host, &now, &n_ranks) != COV_OK) {
    free(cfg);
    return;
  }
  for (size_t i = 0; i < sizeof changes / sizeof *changes && at < size; i++) {
    const char *const *words = changes[i];
    const cov_need_of other = {.cfg = cfg, .llama = of->llama, .params = of->params};
    *cfg = *of->cfg;
    if (!change(cfg, words) || cov_need_on_host(&other, host, &then, &n_ranks) != COV_OK) continue;
    if (then > now - now / 100) continue;
    at += (size_t)snprintf(text + at, size - at, "%s%s%s%s: %.2f GiB", at ? "; " : "", words[0], words[1] ? " " : "",
                           words[1] ? words[1] : "", (double)then / 1073741824.0);
  }
  free(cfg);
}
