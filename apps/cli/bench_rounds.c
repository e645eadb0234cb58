#include "cli/bench_rounds.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "cli/bench_run.h"
#include "common/loop_settings.h"
#include "sparseloco/state_hash.h"

/* ---- creation ---- */

static cov_status take(cov_mem_tag tag, size_t bytes, void *out) {
  void *p;
  COV_TRY(cov_mem_alloc(COV_SPACE_HOST, tag, bytes, &p));
  memcpy(out, &p, sizeof p);
  return COV_OK;
}

static cov_status open_peers(bench_rounds *r) {
  const size_t bytes = (size_t)r->model->params.span * sizeof(float);
  r->peer = calloc((size_t)r->peers, sizeof *r->peer);
  if (!r->peer) return COV_FAIL(COV_ENOMEM, "no memory for %d peers", r->peers);
  for (int i = 0; i < r->peers; i++) {
    cov_inner_params inner;
    bench_peer *p = &r->peer[i];
    cov_inner_params_of(&r->q->cfg, i, &inner);
    inner.dtype = r->model->place.dtype;
    COV_TRY(cov_inner_create(&inner, &r->model->llama, &r->model->params, r->model->data, r->model->ops, &p->inner));
    COV_TRY(take(COV_MEM_OUTER, bytes, &p->end));
    COV_TRY(take(COV_MEM_OUTER, bytes, &p->feedback));
    COV_TRY(take(COV_MEM_PAYLOAD, r->payload_bytes_max, &p->payload));
  }
  return COV_OK;
}

static cov_status open_rounds(bench_rounds *r) {
  const cov_config *cfg = &r->q->cfg;
  const cov_params *params = &r->model->params;
  cov_outer_settings set;
  cov_outer_settings_of(cfg, &set);
  if (set.strategy == COV_STRATEGY_DEMO) {
    return COV_FAIL(COV_EUSAGE,
                    "the codec is measured without the transform of strategy demo; leave sync.strategy out");
  }
  r->strategy = set.strategy;
  r->quant = set.quant;
  cov_outer_params_of(cfg, &r->step);
  r->step.threads = (int)cfg->train.threads; /* a bench has one number of threads */
  COV_TRY(cov_grid_create(params, (int)cfg->sync.chunk, set.topk, &r->grid));
  COV_TRY(cov_shard_create(&r->grid, 0, 1, &r->shard));
  r->encoding = (cov_encoder_params){.quant = r->quant,
                                     .beta = set.beta,
                                     .index_coder = set.index_coder,
                                     .theta_layout = COV_LAYOUT_SPAN,
                                     .feedback_layout = COV_LAYOUT_SPAN,
                                     .threads = r->step.threads};
  COV_TRY(cov_encoder_create(&r->shard, &r->encoding, &r->encoder));
  cov_params_digest(params, r->params_digest);
  r->payload_bytes_max = cov_payload_bytes_max(&r->grid, &r->quant);
  COV_TRY(take(COV_MEM_PAYLOAD, cov_piece_bytes_max(&r->shard, &r->quant), &r->piece));
  COV_TRY(take(COV_MEM_SCRATCH, (size_t)r->grid.n_bands * COV_LEAF_BYTES, &r->leaves));
  COV_TRY(bench_theta_create(r->q, r->model, &r->theta));
  if (r->step.momentum > 0.0f) {
    COV_TRY(take(COV_MEM_OUTER, (size_t)r->shard.elems * sizeof *r->velocity, &r->velocity));
  }
  return open_peers(r);
}

void bench_rounds_close(bench_rounds *r) {
  for (int i = 0; r->peer && i < r->peers; i++) {
    cov_inner_destroy(&r->peer[i].inner);
    cov_mem_free(r->peer[i].end);
    cov_mem_free(r->peer[i].feedback);
    cov_mem_free(r->peer[i].payload);
  }
  free(r->peer);
  cov_mem_free(r->theta);
  cov_mem_free(r->velocity);
  cov_mem_free(r->piece);
  cov_mem_free(r->leaves);
  cov_encoder_destroy(&r->encoder);
  cov_shard_destroy(&r->shard);
  cov_grid_destroy(&r->grid);
  *r = (bench_rounds){0};
}

/* ---- the parts of a round ---- */

cov_status bench_rounds_encoder(const bench_rounds *r, cov_encoder **encoder) {
  cov_encoder_params params = r->encoding;
  params.owes = 1;
  return cov_encoder_create(&r->shard, &params, encoder);
}

cov_status bench_rounds_encode(bench_rounds *r, cov_encoder *encoder, int peer, const float *theta, const float *end,
                               float *feedback, uint8_t *payload, size_t *bytes) {
  const cov_config *cfg = &r->q->cfg;
  cov_payload_head head = {.peer = (uint32_t)peer,
                           .round = (uint64_t)r->last,
                           .inner_steps = (uint64_t)cfg->sync.inner_steps,
                           .tokens = (uint64_t)(cfg->sync.inner_steps * cfg->data.batch_seqs * cfg->model.seq_len),
                           .strategy = r->strategy};
  memcpy(head.params_digest, r->params_digest, sizeof head.params_digest);
  COV_TRY(cov_encoder_encode(encoder, theta, end, feedback, NULL));
  size_t piece_bytes;
  COV_TRY(cov_encoder_piece(encoder, r->piece, &piece_bytes));
  const double start = cov_clock_s();
  cov_status st = cov_payload_write(&r->grid, &r->quant, &head, 1, r->piece, piece_bytes, payload, bytes);
  r->payload_s += cov_clock_s() - start;
  return st;
}

cov_status bench_rounds_check(const bench_rounds *r, cov_payload_view *views) {
  const cov_payload_expect expect = {.grid = &r->grid,
                                     .quant = r->quant,
                                     .strategy = r->strategy,
                                     .run_id = r->run_id,
                                     .params_digest = r->params_digest,
                                     .round = (uint64_t)r->last,
                                     .peer = -1};
  for (int i = 0; i < r->peers; i++) {
    COV_TRY(cov_payload_check(r->peer[i].payload, r->peer[i].payload_bytes, &expect, &views[i]));
  }
  return COV_OK;
}

void bench_rounds_close_views(const bench_rounds *r, cov_payload_view *views) {
  for (int i = 0; i < r->peers; i++) cov_payload_close(&views[i]);
}

cov_status bench_rounds_apply(bench_rounds *r, const cov_payload_view *views, float *theta, float *velocity) {
  uint8_t hash[COV_STATE_HASH_BYTES];
  const cov_payload_view **set = calloc((size_t)r->peers, sizeof *set);
  if (!set) return COV_FAIL(COV_ENOMEM, "no memory for a set of %d payloads", r->peers);
  cov_outer_params step = r->step;
  step.velocity = velocity;
  for (int i = 0; i < r->peers; i++) set[i] = &views[i];
  cov_status st = cov_outer_apply(&r->shard, set, r->peers, &step, theta, theta, COV_LAYOUT_SPAN, r->leaves);
  if (st == COV_OK) cov_state_hash(&r->grid, r->leaves, hash); /* one shard: its leaves are in the order of the space */
  free(set);
  return st;
}

/* ---- rounds ---- */

static cov_status apply_round(bench_rounds *r) {
  cov_payload_view *views = calloc((size_t)r->peers, sizeof *views);
  if (!views) return COV_FAIL(COV_ENOMEM, "no memory for %d payloads", r->peers);
  cov_status st = bench_rounds_check(r, views);
  if (st == COV_OK) st = bench_rounds_apply(r, views, r->theta, r->velocity);
  bench_rounds_close_views(r, views);
  free(views);
  return st;
}

static cov_status train_peers(bench_rounds *r, int64_t round) {
  r->train_loss = 0.0;
  for (int i = 0; i < r->peers; i++) {
    bench_peer *p = &r->peer[i];
    cov_inner_report report;
    memcpy(p->end, r->theta, (size_t)r->model->params.span * sizeof *p->end);
    COV_TRY(cov_inner_round(p->inner, round, p->end, &report));
    r->train_loss += report.loss / (double)r->peers;
  }
  return COV_OK;
}

/* In the last round the error feedback stays as it was before, so that the round can be encoded again and again. */
static cov_status encode_peers(bench_rounds *r, int last) {
  const size_t bytes = (size_t)r->model->params.span * sizeof(float);
  float *spare = NULL;
  cov_status st = COV_OK;
  if (last) COV_TRY(take(COV_MEM_OUTER, bytes, &spare));
  for (int i = 0; i < r->peers && st == COV_OK; i++) {
    bench_peer *p = &r->peer[i];
    if (last) memcpy(spare, p->feedback, bytes);
    st = bench_rounds_encode(r, r->encoder, i, r->theta, p->end, last ? spare : p->feedback, p->payload,
                             &p->payload_bytes);
  }
  cov_mem_free(spare);
  return st;
}

cov_status bench_rounds_run(const bench_request *q, const bench_model *model, bench_rounds *r) {
  const int64_t first = q->run ? q->round : 0;
  *r = (bench_rounds){.q = q, .model = model, .peers = (int)q->cfg.run.peers, .last = first + q->rounds - 1};
  COV_TRY(open_rounds(r));
  if (q->run) COV_TRY(bench_run_load(q->run, q->round, r));
  for (int64_t round = first; round <= r->last; round++) {
    COV_TRY(train_peers(r, round));
    COV_TRY(encode_peers(r, round == r->last));
    if (round < r->last) COV_TRY(apply_round(r));
    fprintf(stderr, "codec: round %lld trained, %lld/%lld, loss %.4f\n", (long long)round,
            (long long)(round - first + 1), (long long)q->rounds, r->train_loss);
  }
  for (int i = 0; i < r->peers; i++) cov_inner_destroy(&r->peer[i].inner);
  return COV_OK;
}
