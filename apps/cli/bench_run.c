#include "cli/bench_run.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "checkpoint/checkpoint.h"

/* As covenant-sync places them: checkpoint.dir/N, or RUN/peers/N/checkpoints. */
static cov_status parent_of(const cov_config *cfg, const char *run, int64_t peer, char *out, size_t size) {
  if (cfg->checkpoint.dir[0]) return cov_path(out, size, "%s/%lld", cfg->checkpoint.dir, (long long)peer);
  return cov_path(out, size, "%s/peers/%lld/checkpoints", run, (long long)peer);
}

/* Newest complete checkpoint of a peer that is not beyond `most`; -1 if there is none. */
static cov_status newest_of(const char *parent, int64_t most, int64_t *round) {
  cov_ckpt_entry *entries = NULL;
  int n = 0;
  *round = -1;
  COV_TRY(cov_ckpt_list(parent, &entries, &n));
  for (int i = 0; i < n; i++) {
    if (entries[i].complete && entries[i].round <= most && entries[i].round > *round) *round = entries[i].round;
  }
  free(entries);
  return COV_OK;
}

/* Down from the newest of any peer until all have the same. */
cov_status bench_run_newest(const cov_config *cfg, const char *run, int64_t most, int64_t *round) {
  char parent[COV_CKPT_PATH_BYTES];
  int64_t candidate = most < 0 ? INT64_MAX : most;
  for (int64_t peer = 0, agreed = 0; agreed < cfg->run.peers; peer = (peer + 1) % cfg->run.peers) {
    int64_t newest;
    COV_TRY(parent_of(cfg, run, peer, parent, sizeof parent));
    COV_TRY(newest_of(parent, candidate, &newest));
    if (newest < 0) {
      return COV_FAIL(COV_EDATA,
                      "%s: not every peer has a complete checkpoint of one round; runs write them as "
                      "checkpoint.every_rounds says, and at their end",
                      run);
    }
    agreed = newest == candidate ? agreed + 1 : 1;
    candidate = newest;
  }
  *round = candidate;
  return COV_OK;
}

static cov_status read_tensor(cov_ckpt *ckpt, const char *group, const cov_param *p, float *out) {
  const cov_ckpt_piece want = {.group = group,
                               .name = p->name,
                               .dims = p->dims,
                               .shape = {p->dims == 1 ? p->cols : p->rows, p->dims == 1 ? 0 : p->cols},
                               .count = p->dims == 1 ? p->cols : p->rows};
  return cov_ckpt_read(ckpt, &want, out);
}

/* A group of tensors into base[span]; with a shard, into a buffer of COV_LAYOUT_SHARD. */
static cov_status read_group(cov_ckpt *ckpt, const cov_params *params, const cov_shard *shard, const char *group,
                             float *base) {
  for (int t = 0; t < params->n; t++) {
    const cov_param *p = &params->item[t];
    const int64_t offset = shard ? cov_shard_offset(shard, COV_LAYOUT_SHARD, t) : p->offset;
    COV_TRY(read_tensor(ckpt, group, p, base + offset));
  }
  return COV_OK;
}

static cov_status read_optimizer(cov_ckpt *ckpt, cov_optimizer *o) {
  for (int i = 0; i < o->n_parts; i++) {
    const cov_optimizer_part *part = &o->part[i];
    COV_TRY(read_tensor(ckpt, part->group, &o->params->item[part->tensor], o->state + part->offset));
  }
  return COV_OK;
}

static cov_status check_meta(const char *folder, const bench_rounds *r, const cov_ckpt_meta *meta, int peer,
                             uint8_t state_hash[32]) {
  if (memcmp(meta->params_digest, r->params_digest, sizeof r->params_digest) != 0) {
    return COV_FAIL(COV_EMISMATCH, "%s holds another model than the settings describe; name no model of your own",
                    folder);
  }
  if (peer == 0) memcpy(state_hash, meta->state_hash, 32);
  if (memcmp(meta->state_hash, state_hash, 32) == 0) return COV_OK;
  return COV_FAIL(COV_EMISMATCH, "%s has another state hash than that of peer 0", folder);
}

static cov_status load_peer(const char *folder, bench_rounds *r, int peer, uint8_t state_hash[32]) {
  const cov_params *params = &r->model->params;
  cov_optimizer *optimizer = cov_inner_optimizer(r->peer[peer].inner);
  cov_ckpt *ckpt;
  COV_TRY(cov_ckpt_open(folder, COV_CKPT_FULL, &ckpt));
  cov_status st = check_meta(folder, r, cov_ckpt_meta_of(ckpt), peer, state_hash);
  if (st == COV_OK && peer == 0) st = read_group(ckpt, params, NULL, "theta", r->theta);
  if (st == COV_OK && peer == 0 && r->velocity) st = read_group(ckpt, params, &r->shard, "momentum", r->velocity);
  if (st == COV_OK) st = read_group(ckpt, params, NULL, "feedback", r->peer[peer].feedback);
  if (st == COV_OK) st = read_optimizer(ckpt, optimizer);
  if (st == COV_OK) optimizer->step = cov_ckpt_meta_of(ckpt)->step;
  cov_ckpt_close(&ckpt);
  return st;
}

cov_status bench_run_load(const char *run, int64_t round, bench_rounds *r) {
  char parent[COV_CKPT_PATH_BYTES], folder[COV_CKPT_PATH_BYTES];
  uint8_t state_hash[32];
  for (int i = 0; i < r->peers; i++) {
    COV_TRY(parent_of(&r->q->cfg, run, i, parent, sizeof parent));
    COV_TRY(cov_ckpt_folder(parent, round, folder, sizeof folder));
    COV_TRY(load_peer(folder, r, i, state_hash));
  }
  return COV_OK;
}
