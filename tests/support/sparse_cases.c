#include "sparse_cases.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "sparseloco/outer.h"
#include "sparseloco/state_hash.h"
#include "support.h"

const sparse_shape sparse_mixed[] = {
    {"embedding", 128, 64}, {"wide", 24, 200}, {"prime", 67, 31}, {"one", 0, 1},
    {"gain", 0, 192},       {"vector", 0, 97}, {"thin", 1, 60},   {"odd", 9, 15},
};
const int sparse_n_mixed = sizeof sparse_mixed / sizeof *sparse_mixed;

static void *must(void *p) {
  if (!p) abort();
  return p;
}

void sparse_params(cov_params *params, const sparse_shape *shapes, int n) {
  memset(params, 0, sizeof *params);
  params->item = must(calloc((size_t)n, sizeof *params->item));
  params->n = n;
  for (int t = 0; t < n; t++) {
    cov_param *p = &params->item[t];
    snprintf(p->name, sizeof p->name, "%s", shapes[t].name);
    p->dims = shapes[t].rows > 0 ? 2 : 1;
    p->rows = shapes[t].rows > 0 ? shapes[t].rows : 1;
    p->cols = shapes[t].cols;
    p->elems = p->rows * p->cols;
    p->offset = params->span;
    params->elems += p->elems;
    params->span += (p->elems + COV_PARAM_ALIGN_ELEMS - 1) / COV_PARAM_ALIGN_ELEMS * COV_PARAM_ALIGN_ELEMS;
  }
}

void sparse_params_free(cov_params *params) {
  free(params->item);
  memset(params, 0, sizeof *params);
}

float *sparse_random(const cov_params *params, uint64_t seed, float scale, int binades) {
  float *x = must(calloc((size_t)params->span, sizeof *x));
  for (int t = 0; t < params->n; t++) {
    const cov_param *p = &params->item[t];
    for (int64_t i = p->offset; i < p->offset + p->elems; i++) {
      int shift = (int)((test_random(seed + 1000, (uint64_t)i) + 1) * 0.5f * (float)(binades + 1)) - binades / 2;
      x[i] = scale * ldexpf(test_random(seed, (uint64_t)i), shift);
    }
  }
  return x;
}

float *sparse_copy(const float *x, int64_t n) {
  float *copy = must(malloc((size_t)n * sizeof *x));
  memcpy(copy, x, (size_t)n * sizeof *x);
  return copy;
}

cov_encoder_params sparse_params_of(cov_quant_id id) {
  cov_encoder_params p = {.quant = {.id = id}, .beta = 0.95f};
  if (id == COV_QUANT_REFERENCE) p.quant.bins = 4, p.quant.range = 6;
  if (id == COV_QUANT_SIGN1) p.quant.bins = 2;
  if (id == COV_QUANT_SIGN2) p.quant.bins = 4;
  return p;
}

static const uint8_t run_id[16] = "test run";
static const uint8_t digest[32] = "test table";

cov_payload_head sparse_head(uint32_t peer) {
  cov_payload_head head = {.peer = peer,
                           .round = 7,
                           .inner_steps = 15,
                           .tokens = 30720,
                           .train_loss = 3.25f,
                           .strategy = COV_STRATEGY_SPARSELOCO};
  memcpy(head.run_id, run_id, sizeof run_id);
  memcpy(head.params_digest, digest, sizeof digest);
  memset(head.base_hash, 0xBA, sizeof head.base_hash);
  memset(head.key_hash, 0x4B, sizeof head.key_hash);
  memset(head.sample_digest, 0x5D, sizeof head.sample_digest);
  return head;
}

cov_payload_expect sparse_expect(const cov_grid *grid, const cov_quant_params *quant) {
  return (cov_payload_expect){.grid = grid,
                              .quant = *quant,
                              .strategy = COV_STRATEGY_SPARSELOCO,
                              .run_id = run_id,
                              .params_digest = digest,
                              .round = 7,
                              .peer = -1};
}

/* An allreduce over threads: everyone adds, everyone waits, everyone copies, everyone waits. */
typedef struct {
  pthread_barrier_t barrier;
  pthread_mutex_t lock;
  int64_t *total;
  size_t n;
  int arrived;
} reduction;

static cov_status reduce_threads(void *context, int64_t *values, size_t n, cov_reduce_op op) {
  reduction *r = context;
  pthread_mutex_lock(&r->lock);
  if (r->arrived++ == 0) {
    r->total = must(realloc(r->total, (n + 1) * sizeof *values));
    r->n = n;
    if (n > 0) memcpy(r->total, values, n * sizeof *values);
  } else {
    if (r->n != n) abort(); /* the shards must call with the same n */
    for (size_t i = 0; i < n; i++) {
      if (op == COV_REDUCE_SUM) r->total[i] += values[i];
      else if (values[i] > r->total[i]) r->total[i] = values[i];
    }
  }
  pthread_mutex_unlock(&r->lock);
  pthread_barrier_wait(&r->barrier);
  if (n > 0) memcpy(values, r->total, n * sizeof *values);
  if (pthread_barrier_wait(&r->barrier) == PTHREAD_BARRIER_SERIAL_THREAD) r->arrived = 0;
  pthread_barrier_wait(&r->barrier);
  return COV_OK;
}

typedef struct {
  const cov_grid *grid;
  const cov_encoder_params *params;
  const float *theta, *theta_end;
  float *feedback; /* span */
  int g, G;
  reduction *reduction;
  uint8_t *piece;
  size_t piece_bytes;
  cov_status status;
  char text[512];
} shard_job;

static cov_status run_shard(shard_job *job) {
  cov_status st = COV_OK;
  cov_shard shard;
  cov_encoder *encoder = NULL;
  float *own = job->feedback;
  COV_TRY(cov_shard_create(job->grid, job->g, job->G, &shard));
  if (job->params->feedback_layout == COV_LAYOUT_SHARD) {
    own = test_fenced((size_t)shard.elems * sizeof *own);
    cov_shard_copy(&shard, own, COV_LAYOUT_SHARD, job->feedback, COV_LAYOUT_SPAN);
  }
  COV_TRY_DONE(cov_encoder_create(&shard, job->params, &encoder));
  cov_reducer reducer = {.reduce = reduce_threads, .context = job->reduction};
  COV_TRY_DONE(cov_encoder_encode(encoder, job->theta, job->theta_end, own, job->G > 1 ? &reducer : NULL));
  job->piece = must(malloc(cov_piece_bytes_max(&shard, &job->params->quant)));
  COV_TRY_DONE(cov_encoder_piece(encoder, job->piece, &job->piece_bytes));
done:
  if (own != job->feedback) {
    cov_shard_copy(&shard, job->feedback, COV_LAYOUT_SPAN, own, COV_LAYOUT_SHARD);
    if (test_fence_broken(own)) abort();
    test_fenced_free(own);
  }
  cov_encoder_destroy(&encoder);
  cov_shard_destroy(&shard);
  return st;
}

static void *shard_thread(void *argument) {
  shard_job *job = argument;
  job->status = run_shard(job);
  if (job->status != COV_OK) snprintf(job->text, sizeof job->text, "%s", cov_error_text());
  return NULL;
}

static char failure[512];

const char *sparse_failure(void) {
  return failure;
}

static cov_status assemble(const cov_grid *grid, const cov_encoder_params *params, int G, const shard_job *jobs,
                           const cov_payload_head *head, uint8_t **payload, size_t *bytes) {
  size_t all = 0, at = 0;
  for (int g = 0; g < G; g++) all += jobs[g].piece_bytes;
  uint8_t *pieces = must(malloc(all));
  for (int g = 0; g < G; g++) {
    memcpy(pieces + at, jobs[g].piece, jobs[g].piece_bytes);
    at += jobs[g].piece_bytes;
  }
  *payload = must(malloc(cov_payload_bytes_max(grid, &params->quant)));
  cov_status st = cov_payload_write(grid, &params->quant, head, G, pieces, all, *payload, bytes);
  free(pieces);
  return st;
}

cov_status sparse_encode(const cov_grid *grid, const cov_encoder_params *params, int G, const float *theta,
                         const float *theta_end, float *feedback, const cov_payload_head *head, uint8_t **payload,
                         size_t *bytes) {
  reduction r = {.total = NULL};
  shard_job jobs[16];
  pthread_t threads[16];
  cov_status st = COV_OK;
  *payload = NULL;
  *bytes = 0;
  failure[0] = 0;
  if (G > 16 || pthread_barrier_init(&r.barrier, NULL, (unsigned)G) != 0 || pthread_mutex_init(&r.lock, NULL) != 0)
    abort();
  for (int g = 0; g < G; g++) {
    jobs[g] = (shard_job){.grid = grid,
                          .params = params,
                          .theta = theta,
                          .theta_end = theta_end,
                          .feedback = feedback,
                          .g = g,
                          .G = G,
                          .reduction = &r};
    if (pthread_create(&threads[g], NULL, shard_thread, &jobs[g]) != 0) abort();
  }
  for (int g = 0; g < G; g++) {
    pthread_join(threads[g], NULL);
    if (jobs[g].status != COV_OK && !failure[0]) memcpy(failure, jobs[g].text, sizeof failure);
    if (jobs[g].status > st) st = jobs[g].status;
  }
  if (st == COV_OK) st = assemble(grid, params, G, jobs, head, payload, bytes);
  for (int g = 0; g < G; g++) free(jobs[g].piece);
  free(r.total);
  pthread_barrier_destroy(&r.barrier);
  pthread_mutex_destroy(&r.lock);
  return st;
}

uint8_t *sparse_by_hand(const cov_grid *grid, const cov_quant_params *quant, const cov_payload_head *head,
                        const cov_piece *content, size_t *bytes) {
  cov_shard shard;
  assert_ok(cov_shard_create(grid, 0, 1, &shard));
  uint8_t *piece = must(malloc(cov_piece_bytes_max(&shard, quant)));
  size_t piece_bytes;
  assert_ok(cov_piece_write(&shard, quant, content, piece, &piece_bytes));
  uint8_t *payload = must(malloc(cov_payload_bytes_max(grid, quant)));
  assert_ok(cov_payload_write(grid, quant, head, 1, piece, piece_bytes, payload, bytes));
  free(piece);
  cov_shard_destroy(&shard);
  return payload;
}

void sparse_redigest(uint8_t *payload, size_t bytes) {
  size_t covered = bytes - COV_PAYLOAD_DIGEST_BYTES - COV_PAYLOAD_SIGNATURE_BYTES;
  cov_hash(payload, covered, COV_PAYLOAD_DIGEST_BYTES, payload + covered);
}

cov_status sparse_step(const cov_grid *grid, int G, const cov_payload_view *const *set, int n_set, float alpha,
                       int mean, int clip, const float *theta, float *out, uint8_t hash[32]) {
  cov_outer_params params = {.alpha = alpha, .mean = (cov_mean)mean, .clip = clip, .threads = 1 + n_set % 3};
  size_t bytes = (size_t)grid->n_bands * COV_LEAF_BYTES;
  uint8_t *gathered = must(malloc(bytes)), *leaves = must(malloc(bytes)), *at = gathered;
  cov_status st = COV_OK;
  for (int g = 0; g < G && st == COV_OK; g++) {
    cov_shard shard;
    COV_TRY_DONE(cov_shard_create(grid, g, G, &shard));
    st = cov_outer_apply(&shard, set, n_set, &params, theta, out, COV_LAYOUT_SPAN, at);
    at += shard.n_bands * COV_LEAF_BYTES;
    cov_shard_destroy(&shard);
  }
  if (st == COV_OK) st = cov_leaves_assemble(grid, G, gathered, bytes, leaves);
  if (st == COV_OK) cov_state_hash(grid, leaves, hash);
done:
  free(gathered);
  free(leaves);
  return st;
}
