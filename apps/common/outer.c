#include "common/outer.h"

#include <string.h>

#include "base/memory.h"
#include "comm/agree.h"
#include "comm/beside.h"
#include "comm/collective.h"
#include "common/loop_settings.h"
#include "ledger/record.h"
#include "sparseloco/keep.h"

/* The gateway has links to look after while it computes. */
static cov_status beside_links(cov_outer *outer, cov_beside_work *work, void *arg) {
  return cov_beside_run(work, arg, outer->shard == 0 ? &outer->how : NULL);
}

typedef struct {
  cov_outer *outer;
  int64_t *values;
  size_t n;
  cov_reduce_op op;
} reduction;

static cov_status reduce(void *arg) {
  const reduction *r = arg;
  const cov_coll_op op = r->op == COV_REDUCE_MAX ? COV_COLL_MAX : COV_COLL_SUM;
  return cov_coll_reduce_i64(r->outer->comm, op, r->values, r->n, &r->outer->how);
}

/* The encoder's thread may not talk to MPI. */
static cov_status reduce_over_shards(void *context, int64_t *values, size_t n, cov_reduce_op op) {
  reduction r = {context, values, n, op};
  return cov_beside_call(reduce, &r);
}

static cov_status buffer(cov_mem_tag tag, size_t bytes, void *out) {
  void *p;
  COV_TRY(cov_mem_alloc(COV_SPACE_HOST, tag, bytes, &p));
  memcpy(out, &p, sizeof p);
  return COV_OK;
}

static size_t recent_bytes(const cov_outer *outer) {
  return COV_STATE_HASH_BYTES + (size_t)outer->grid.n * COV_TENSOR_HASH_BYTES;
}

static cov_status create_buffers(cov_outer *outer) {
  COV_TRY(buffer(COV_MEM_OUTER, (size_t)outer->part.elems * sizeof(float), &outer->feedback));
  if (outer->step.momentum > 0) {
    COV_TRY(buffer(COV_MEM_OUTER, (size_t)outer->part.elems * sizeof(float), &outer->velocity));
    outer->step.velocity = outer->velocity;
  }
  COV_TRY(buffer(COV_MEM_PAYLOAD, cov_piece_bytes_max(&outer->part, &outer->quant), &outer->piece));
  COV_TRY(buffer(COV_MEM_SCRATCH, (size_t)outer->part.n_bands * COV_LEAF_BYTES, &outer->leaves));
  if (outer->shard != 0) return COV_OK;
  outer->pieces_bytes_max = 0;
  for (int g = 0; g < outer->shards; g++) {
    cov_shard other;
    COV_TRY(cov_shard_create(&outer->grid, g, outer->shards, &other));
    outer->pieces_bytes_max += cov_piece_bytes_max(&other, &outer->quant);
    cov_shard_destroy(&other);
  }
  COV_TRY(buffer(COV_MEM_PAYLOAD, outer->pieces_bytes_max, &outer->pieces));
  COV_TRY(buffer(COV_MEM_SCRATCH, (size_t)outer->grid.n_bands * COV_LEAF_BYTES, &outer->all_leaves));
  COV_TRY(buffer(COV_MEM_SCRATCH, COV_OUTER_STATES * recent_bytes(outer), &outer->recent));
  return buffer(COV_MEM_SCRATCH, (size_t)outer->grid.n_bands * COV_LEAF_BYTES, &outer->ordered);
}

static cov_status create_demo(cov_outer *outer, const cov_config *cfg) {
  void *p;
  COV_TRY(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_OUTER, sizeof *outer->demo, &p));
  outer->demo = p;
  return cov_demo_create(&outer->part, cfg->sync.demo_sign, (int)cfg->sync.threads, outer->demo);
}

cov_status cov_outer_create(const cov_app *app, cov_segment *segment, const cov_wait *how, cov_outer *outer) {
  const cov_config *cfg = &app->cfg;
  cov_outer_settings set;
  cov_outer_settings_of(cfg, &set);
  memset(outer, 0, sizeof *outer);
  outer->comm = app->comms.sync;
  outer->shard = (int)app->shard;
  outer->shards = (int)cfg->run.sync_ranks;
  outer->segment = segment;
  outer->how = *how;
  outer->strategy = set.strategy;
  outer->quant = set.quant;
  outer->keeps_errors = set.beta > 0;
  cov_outer_params_of(cfg, &outer->step);
  COV_TRY(cov_grid_create(&app->params, (int)cfg->sync.chunk, set.topk, &outer->grid));
  COV_TRY(cov_shard_create(&outer->grid, outer->shard, outer->shards, &outer->part));
  if (set.strategy == COV_STRATEGY_DEMO) COV_TRY(create_demo(outer, cfg));
  const cov_encoder_params params = {.quant = outer->quant,
                                     .beta = set.beta,
                                     .index_coder = set.index_coder,
                                     .theta_layout = outer->demo ? COV_LAYOUT_SHARD : COV_LAYOUT_SPAN,
                                     .feedback_layout = COV_LAYOUT_SHARD,
                                     .owes = 1,
                                     .threads = (int)cfg->sync.threads};
  COV_TRY(cov_encoder_create(&outer->part, &params, &outer->encoder));
  outer->payload_bytes_max = cov_payload_bytes_max(&outer->grid, &outer->quant);
  return create_buffers(outer);
}

void cov_outer_destroy(cov_outer *outer) {
  cov_encoder_destroy(&outer->encoder);
  if (outer->demo) cov_demo_destroy(outer->demo);
  cov_mem_free(outer->demo);
  cov_shard_destroy(&outer->part);
  cov_grid_destroy(&outer->grid);
  cov_mem_free(outer->feedback);
  cov_mem_free(outer->velocity);
  cov_mem_free(outer->piece);
  cov_mem_free(outer->pieces);
  cov_mem_free(outer->leaves);
  cov_mem_free(outer->all_leaves);
  cov_mem_free(outer->ordered);
  cov_mem_free(outer->recent);
  memset(outer, 0, sizeof *outer);
}

void cov_outer_expect(const cov_outer *outer, const cov_app *app, int64_t round, cov_payload_expect *expect) {
  *expect = (cov_payload_expect){.grid = &outer->grid,
                                 .quant = outer->quant,
                                 .strategy = outer->strategy,
                                 .run_id = app->run_id,
                                 .params_digest = app->params_digest,
                                 .round = (uint64_t)round,
                                 .peer = -1};
}

/* The newest state takes the place of the oldest. */
static void keep_tensor_hashes(cov_outer *outer) {
  uint8_t *at = outer->recent + (size_t)(outer->n_recent++ % COV_OUTER_STATES) * recent_bytes(outer);
  memcpy(at, outer->hash, COV_STATE_HASH_BYTES);
  for (int t = 0; t < outer->grid.n; t++)
    cov_tensor_hash(&outer->grid, outer->ordered, t, at + COV_STATE_HASH_BYTES + (size_t)t * COV_TENSOR_HASH_BYTES);
}

const uint8_t *cov_outer_tensor_hashes(const cov_outer *outer, const uint8_t hash[COV_STATE_HASH_BYTES]) {
  for (int64_t i = 0; i < COV_OUTER_STATES && i < outer->n_recent; i++) {
    const uint8_t *at = outer->recent + (size_t)i * recent_bytes(outer);
    if (memcmp(at, hash, COV_STATE_HASH_BYTES) == 0) return at + COV_STATE_HASH_BYTES;
  }
  return NULL;
}

/* Leaves of all ranks to the gateway, the hash from there to everyone. */
static cov_status hash_state(cov_outer *outer) {
  size_t bytes = (size_t)outer->part.n_bands * COV_LEAF_BYTES, all = (size_t)outer->grid.n_bands * COV_LEAF_BYTES;
  size_t counts[64];
  if (outer->shards > 64) return COV_FAIL(COV_EUSAGE, "run.sync_ranks is %d; at most 64 are supported", outer->shards);
  COV_TRY(cov_coll_gatherv(outer->comm, 0, outer->leaves, bytes, outer->all_leaves, all, counts, &outer->how));
  cov_status st = COV_OK;
  if (outer->shard == 0) {
    st = cov_leaves_assemble(&outer->grid, outer->shards, outer->all_leaves, all, outer->ordered);
    if (st == COV_OK) {
      cov_state_hash(&outer->grid, outer->ordered, outer->hash);
      keep_tensor_hashes(outer);
    }
  }
  COV_TRY(cov_agree(outer->comm, st, &outer->how));
  return cov_coll_bcast(outer->comm, 0, outer->hash, sizeof outer->hash, &outer->how);
}

static cov_status hash_leaves(void *arg) {
  cov_outer *outer = arg;
  cov_shard_leaves(&outer->part, cov_segment_theta(outer->segment), COV_LAYOUT_SPAN, outer->leaves);
  return COV_OK;
}

cov_status cov_outer_hash(cov_outer *outer) {
  COV_TRY(beside_links(outer, hash_leaves, outer));
  return hash_state(outer);
}

cov_status cov_outer_init(cov_outer *outer, uint64_t seed) {
  cov_status st = COV_OK;
  if (outer->shard == 0) {
    cov_segment_theta_lock(outer->segment);
    st = cov_params_init(outer->grid.params, seed, cov_segment_theta(outer->segment));
    cov_segment_theta_unlock(outer->segment, 0);
  }
  COV_TRY(cov_agree(outer->comm, st, &outer->how));
  return cov_outer_hash(outer);
}

/* Our piece, from both ends of the round to its bytes. */
typedef struct {
  cov_outer *outer;
  size_t bytes;
} own_piece;

static cov_status make_piece(void *arg) {
  own_piece *piece = arg;
  cov_outer *outer = piece->outer;
  const cov_reducer reducer = {.reduce = reduce_over_shards, .context = outer};
  const float *from = cov_segment_start(outer->segment), *to = cov_segment_work(outer->segment);
  if (outer->demo) {
    cov_demo_project(outer->demo, from, to);
    from = outer->demo->zero;
    to = outer->demo->coefficients;
  }
  COV_TRY(cov_encoder_encode(outer->encoder, from, to, outer->feedback, &reducer));
  return cov_encoder_piece(outer->encoder, outer->piece, &piece->bytes);
}

/* The pieces of all shards, and the payload that becomes of them (gateway). */
typedef struct {
  cov_outer *outer;
  const cov_payload_head *head;
  size_t pieces_bytes;
  uint8_t *payload;
  size_t *bytes;
} assembly;

static cov_status assemble(void *arg) {
  const assembly *a = arg;
  return cov_payload_write(&a->outer->grid, &a->outer->quant, a->head, a->outer->shards, a->outer->pieces,
                           a->pieces_bytes, a->payload, a->bytes);
}

cov_status cov_outer_encode(cov_outer *outer, const cov_payload_head *head, uint8_t *payload, size_t *bytes) {
  size_t counts[64];
  own_piece piece = {.outer = outer};
  assembly all = {.outer = outer, .head = head, .payload = payload, .bytes = bytes};
  cov_status st = beside_links(outer, make_piece, &piece);
  COV_TRY(cov_agree(outer->comm, st, &outer->how));
  COV_TRY(cov_coll_gatherv(outer->comm, 0, outer->piece, piece.bytes, outer->pieces, outer->pieces_bytes_max, counts,
                           &outer->how));
  if (outer->shard == 0) {
    for (int g = 0; g < outer->shards; g++) all.pieces_bytes += counts[g];
    st = beside_links(outer, assemble, &all);
  }
  return cov_agree(outer->comm, st, &outer->how);
}

static cov_status copy_theta(void *arg) {
  const cov_outer *outer = arg;
  cov_shard_copy(&outer->part, cov_segment_start(outer->segment), COV_LAYOUT_SPAN, cov_segment_theta(outer->segment),
                 COV_LAYOUT_SPAN);
  return COV_OK;
}

cov_status cov_outer_reset(cov_outer *outer) {
  if (cov_segment_start(outer->segment) == cov_segment_theta(outer->segment)) return COV_OK;
  COV_TRY(beside_links(outer, copy_theta, outer));
  return cov_coll_barrier(outer->comm, &outer->how);
}

/* One payload from the gateway to the other ranks, which own the copy. */
static cov_status share_payload(cov_outer *outer, cov_payload_bytes *payload) {
  COV_TRY(cov_coll_bcast(outer->comm, 0, &payload->n, sizeof payload->n, &outer->how));
  cov_status st = outer->shard == 0 ? COV_OK : buffer(COV_MEM_PAYLOAD, payload->n, &payload->bytes);
  COV_TRY(cov_agree(outer->comm, st, &outer->how));
  return cov_coll_bcast(outer->comm, 0, payload->bytes, payload->n, &outer->how);
}

/* A view of a copy of our own payload. */
static cov_status open_own(const cov_outer *outer, const cov_app *app, const cov_payload_bytes *sent,
                           cov_payload_view *view) {
  cov_payload_head head;
  cov_payload_expect expect;
  COV_TRY(cov_payload_peek(sent->bytes, sent->n, &head));
  cov_outer_expect(outer, app, (int64_t)head.round, &expect);
  return cov_payload_check(sent->bytes, sent->n, &expect, view);
}

/* out <- theta - alpha D. */
typedef struct {
  cov_outer *outer;
  const cov_payload_view *const *views;
  int n;
  const cov_outer_params *step;
  float *out;
  uint8_t *leaves;
} outer_step;

static cov_status take_step(void *arg) {
  const outer_step *s = arg;
  cov_outer *outer = s->outer;
  const float *theta = cov_segment_theta(outer->segment);
  if (outer->demo) return cov_demo_apply(outer->demo, s->views, s->n, s->step, theta, s->out, s->leaves);
  return cov_outer_apply(&outer->part, s->views, s->n, s->step, theta, s->out, COV_LAYOUT_SPAN, s->leaves);
}

static cov_status keep_payload(cov_outer *outer, const cov_app *app, const cov_payload_view *own, int n_peers) {
  cov_payload_bytes sent = {0};
  cov_payload_view copy = {0};
  cov_status st = COV_OK;
  int32_t peers = n_peers;
  COV_TRY(cov_coll_bcast(outer->comm, 0, &peers, sizeof peers, &outer->how));
  if (outer->shard == 0) { /* a broadcast takes what it sends as it takes what it receives */
    memcpy(&sent.bytes, &own->bytes, sizeof sent.bytes);
    sent.n = own->n_bytes;
  }
  if (outer->shards > 1) COV_TRY(share_payload(outer, &sent));
  if (outer->shard != 0) {
    st = open_own(outer, app, &sent, &copy);
    own = &copy;
  }
  if (st == COV_OK) {
    const cov_outer_params alone = cov_keep_step(&outer->step, peers);
    outer_step step = {.outer = outer, .views = &own, .n = 1, .step = &alone, .out = cov_segment_start(outer->segment)};
    st = beside_links(outer, take_step, &step);
  }
  cov_payload_close(&copy);
  if (outer->shard != 0) cov_mem_free(sent.bytes);
  return st;
}

static cov_status keep_progress(void *arg) {
  cov_outer *outer = arg;
  cov_keep_progress(&outer->part, cov_segment_theta(outer->segment), cov_segment_work(outer->segment),
                    cov_segment_start(outer->segment));
  return COV_OK;
}

cov_status cov_outer_keep(cov_outer *outer, const cov_app *app, const cov_payload_view *own, int n_peers) {
  cov_status st = COV_OK;
  if (app->cfg.sync.delay_keep == COV_CFG_KEEP_PAYLOAD) {
    st = keep_payload(outer, app, own, n_peers);
  } else {
    st = beside_links(outer, keep_progress, outer);
  }
  return cov_agree(outer->comm, st, &outer->how); /* a barrier too: all parts are written behind it */
}

cov_status cov_outer_share(cov_outer *outer, int *n, cov_payload_bytes *set, cov_payload_bytes *rejected, int *more) {
  int32_t words[3] = {*n, rejected->bytes != NULL, *more};
  if (outer->shards == 1) return COV_OK;
  COV_TRY(cov_coll_bcast(outer->comm, 0, words, sizeof words, &outer->how));
  *n = words[0];
  *more = words[2];
  for (int i = 0; i < words[0] + words[1]; i++) {
    COV_TRY(share_payload(outer, i < words[0] ? &set[i] : rejected));
  }
  return COV_OK;
}

static cov_status settle(void *arg) {
  cov_encoder_settle(arg);
  return COV_OK;
}

cov_status cov_outer_settle(cov_outer *outer) {
  return beside_links(outer, settle, outer->encoder);
}

typedef struct {
  cov_outer *outer;
  const cov_payload_view *payload;
} refused_part;

static cov_status give_back(void *arg) {
  const refused_part *r = arg;
  cov_encoder_settle(r->outer->encoder);
  cov_payload_give_back(r->payload, &r->outer->part, r->outer->feedback, COV_LAYOUT_SHARD);
  return COV_OK;
}

cov_status cov_outer_finish(cov_outer *outer, const cov_payload_view *const *views, int n,
                            const cov_payload_view *rejected, int64_t round) {
  outer_step step = {.outer = outer,
                     .views = views,
                     .n = n,
                     .step = &outer->step,
                     .out = cov_segment_theta(outer->segment),
                     .leaves = outer->leaves};
  if (outer->shard == 0) cov_segment_theta_lock(outer->segment);
  COV_TRY(cov_coll_barrier(outer->comm, &outer->how));
  cov_status st = beside_links(outer, take_step, &step);
  COV_TRY(cov_agree(outer->comm, st, &outer->how));
  if (outer->shard == 0) cov_segment_theta_unlock(outer->segment, round);
  if (rejected) {
    refused_part back = {outer, rejected};
    COV_TRY(beside_links(outer, give_back, &back));
  }
  return hash_state(outer);
}
