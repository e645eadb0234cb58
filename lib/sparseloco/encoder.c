#include "sparseloco/encoder.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "sparseloco/fixed.h"
#include "sparseloco/float_env.h"
#include "sparseloco/sweep.h"

struct cov_encoder {
  const cov_shard *shard;
  cov_encoder_params params;
  const cov_quantiser *quantiser;
  uint16_t *index;        /* [n_kept] */
  float *value;           /* [n_kept] before quantisation; in the next select what is left of them */
  uint8_t *code;          /* [n_kept]; unused without a quantiser */
  float *table;           /* [n * bins] */
  int64_t *count;         /* [n * bins] entries a code, all shards */
  cov_quant_stats *stats; /* [n] */
  size_t n_words;         /* most words of a pass */
  int64_t *words;         /* [(threads + 1) * n_words]: for the reductions, and behind them one block a thread */
  int64_t *chunk_first;   /* [n] own chunks of all tensors before this one */
  covi_sweep sweep;       /* its arrays are owned, or the ones above */
  int owing;              /* sweep.feedback still holds what the last encode sent */
};

static size_t most_words(const cov_encoder *e) {
  size_t words = COV_MOMENTS_MAX, n_bins = 2 * (size_t)e->params.quant.bins;
  if (n_bins > words) words = n_bins;
  return words * (size_t)e->shard->grid->n + 1;
}

/* Whatever the sweeps need besides the round's arrays. */
static cov_status create_sweep(cov_encoder *e, int threads) {
  const cov_shard *shard = e->shard;
  size_t n = (size_t)shard->grid->n;
  int64_t n_chunks = 0;
  void *candidates, *floors, *owed;
  e->chunk_first = calloc(n + 1, sizeof *e->chunk_first);
  uint32_t *largest = calloc((size_t)threads * n + 1, sizeof *largest);
  e->sweep = (covi_sweep){.shard = shard,
                          .theta_layout = e->params.theta_layout,
                          .feedback_layout = e->params.feedback_layout,
                          .beta = e->params.beta,
                          .threads = threads,
                          .index = e->index,
                          .value = e->value,
                          .chunk_first = e->chunk_first,
                          .largest = largest};
  if (!e->chunk_first || !largest) return COV_FAIL(COV_ENOMEM, "encoder of %zu tensors", n);
  e->sweep.tile_chunks = 8;
  for (size_t t = 0; t < n; t++) {
    e->chunk_first[t] = n_chunks;
    n_chunks += shard->part[t].n_chunks;
    if (shard->grid->tensor[t].X > e->sweep.tile_chunks) e->sweep.tile_chunks = shard->grid->tensor[t].X;
  }
  if (e->sweep.tile_chunks > COVI_TILE_CHUNKS_MAX) e->sweep.tile_chunks = COVI_TILE_CHUNKS_MAX;
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_PAYLOAD, (size_t)n_chunks, sizeof(uint32_t), &floors));
  e->sweep.floor = floors;
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_SCRATCH, (size_t)threads * (size_t)e->sweep.tile_chunks,
                        sizeof(covi_candidates), &candidates));
  e->sweep.candidates = candidates;
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_SCRATCH, (size_t)threads * (size_t)e->sweep.tile_chunks,
                        sizeof(covi_owed), &owed));
  e->sweep.owed = owed;
  return COV_OK;
}

cov_status cov_encoder_create(const cov_shard *shard, const cov_encoder_params *params, cov_encoder **encoder) {
  cov_status st = COV_OK;
  *encoder = NULL;
  COV_TRY(cov_quant_verify(&params->quant));
  if (!(params->beta >= 0 && params->beta <= 1))
    return COV_FAIL(COV_EUSAGE, "error feedback decay %g is outside [0, 1]", (double)params->beta);
  if (params->threads < 0 || params->threads > COV_THREADS_MAX)
    return COV_FAIL(COV_EUSAGE, "%d threads for the codec; 1 .. %d are possible", params->threads, COV_THREADS_MAX);
  int threads = params->threads > 0 ? params->threads : 1;
  cov_encoder *e = calloc(1, sizeof *e);
  if (!e) return COV_FAIL(COV_ENOMEM, "encoder");
  e->shard = shard;
  e->params = *params;
  e->quantiser = cov_quantiser_get((int)params->quant.id);
  size_t kept = (size_t)shard->n_kept, n = (size_t)shard->grid->n;
  COV_TRY_DONE(cov_mem_array(COV_SPACE_HOST, COV_MEM_PAYLOAD, kept, sizeof *e->index, (void **)&e->index));
  COV_TRY_DONE(cov_mem_array(COV_SPACE_HOST, COV_MEM_PAYLOAD, kept, sizeof *e->value, (void **)&e->value));
  COV_TRY_DONE(cov_mem_array(COV_SPACE_HOST, COV_MEM_PAYLOAD, kept, sizeof *e->code, (void **)&e->code));
  e->table = calloc(n * (size_t)params->quant.bins + 1, sizeof *e->table);
  e->stats = calloc(n + 1, sizeof *e->stats);
  e->count = calloc(n * (size_t)params->quant.bins + 1, sizeof *e->count);
  e->n_words = most_words(e);
  e->words = calloc(((size_t)threads + 1) * e->n_words, sizeof *e->words);
  if (!e->table || !e->count || !e->stats || !e->words)
    COV_FAIL_DONE(COV_ENOMEM, "encoder statistics of %zu tensors", n);
  COV_TRY_DONE(create_sweep(e, threads));
done:
  if (st != COV_OK) cov_encoder_destroy(&e);
  *encoder = e;
  return st;
}

void cov_encoder_destroy(cov_encoder **encoder) {
  cov_encoder *e = *encoder;
  if (!e) return;
  cov_mem_free(e->index);
  cov_mem_free(e->value);
  cov_mem_free(e->code);
  free(e->table);
  free(e->count);
  free(e->stats);
  free(e->words);
  free(e->chunk_first);
  free(e->sweep.largest);
  cov_mem_free(e->sweep.floor);
  cov_mem_free(e->sweep.candidates);
  cov_mem_free(e->sweep.owed);
  free(e);
  *encoder = NULL;
}

static cov_status reduce_words(const cov_reducer *reducer, int64_t *words, size_t n, cov_reduce_op op) {
  return reducer ? reducer->reduce(reducer->context, words, n, op) : COV_OK;
}

/* The same on every shard: words[n] are largest magnitude bits over all of them. */
static cov_status judge_magnitudes(const cov_encoder *e) {
  const cov_grid *grid = e->shard->grid;
  for (int t = 0; t < grid->n; t++) {
    const char *name = grid->params->item[t].name;
    uint32_t largest = (uint32_t)e->words[t];
    if (largest >= COV_MAGNITUDE_INF)
      return COV_FAIL(COV_ENUMERIC,
                      "pseudo-gradient or error feedback of %s is not finite; the inner loop has diverged, lower the "
                      "learning rate or restart from a checkpoint",
                      name);
    if (largest > cov_float_bits(COV_VALUE_MAX))
      return COV_FAIL(COV_ENUMERIC, "pseudo-gradient of %s reaches %g, more than the %g a payload may carry", name,
                      (double)cov_float_from_bits(largest), (double)COV_VALUE_MAX);
  }
  return COV_OK;
}

static covi_sent sent_of(const cov_encoder *e) {
  return (covi_sent){
      .table = e->table, .code = e->code, .bins = e->params.quant.id == COV_QUANT_NONE ? 0 : e->params.quant.bins};
}

static cov_status pass_select(cov_encoder *e, const cov_reducer *reducer) {
  const cov_grid *grid = e->shard->grid;
  const covi_sent sent = sent_of(e);
  covi_sweep_select(&e->sweep, e->owing ? &sent : NULL, e->words);
  e->owing = 0;
  COV_TRY(reduce_words(reducer, e->words, (size_t)grid->n, COV_REDUCE_MAX));
  COV_TRY(judge_magnitudes(e));
  for (int t = 0; t < grid->n; t++)
    e->stats[t] = (cov_quant_stats){.n = grid->tensor[t].n_kept, .exponent = cov_fixed_exponent((uint32_t)e->words[t])};
  return COV_OK;
}

/* A pass over the kept entries: each thread sums into words of its own. */
typedef struct {
  cov_encoder *e;
  void (*entries)(cov_encoder *e, int t, int64_t first, int64_t n, int64_t *words);
  size_t words_each; /* a tensor */
} kept_pass;

static void run_kept_slot(void *context, int slot, int parts) {
  const kept_pass *p = context;
  cov_encoder *e = p->e;
  int64_t *words = e->words + ((size_t)slot + 1) * e->n_words;
  cov_float_env env;
  cov_float_env_enter(&env);
  for (int t = 0; t < e->shard->grid->n; t++) {
    const cov_shard_part *part = &e->shard->part[t];
    int64_t first = part->n_kept * slot / parts, end = part->n_kept * (slot + 1) / parts;
    p->entries(e, t, part->kept + first, end - first, words + (size_t)t * p->words_each);
  }
  cov_float_env_leave(&env);
}

/* Sums of all threads to words[n * words_each]. Integers: any order. */
static void run_kept_pass(kept_pass *p) {
  cov_encoder *e = p->e;
  size_t n = (size_t)e->shard->grid->n * p->words_each;
  memset(e->words, 0, ((size_t)e->sweep.threads + 1) * e->n_words * sizeof *e->words);
  cov_parallel_run(e->sweep.threads, run_kept_slot, p);
  for (int slot = 0; slot < e->sweep.threads; slot++) {
    const int64_t *own = e->words + ((size_t)slot + 1) * e->n_words;
    for (size_t i = 0; i < n; i++) e->words[i] += own[i];
  }
}

static void sum_moments(cov_encoder *e, int t, int64_t first, int64_t n, int64_t *words) {
  e->quantiser->moments(e->value + first, n, e->stats[t].exponent, words);
}

/* Moments, then shift and scale of every tensor. */
static cov_status pass_moments(cov_encoder *e, const cov_reducer *reducer) {
  const cov_grid *grid = e->shard->grid;
  const cov_quantiser *q = e->quantiser;
  kept_pass pass = {.e = e, .entries = sum_moments, .words_each = (size_t)q->n_moments};
  run_kept_pass(&pass);
  COV_TRY(reduce_words(reducer, e->words, (size_t)grid->n * pass.words_each, COV_REDUCE_SUM));
  for (int t = 0; t < grid->n; t++) q->fit(&e->params.quant, e->words + t * q->n_moments, &e->stats[t]);
  return COV_OK;
}

static void make_codes(cov_encoder *e, int t, int64_t first, int64_t n, int64_t *words) {
  const cov_quantiser *q = e->quantiser;
  const float *value = e->value + first;
  uint8_t *code = e->code + first;
  q->codes(&e->params.quant, &e->stats[t], value, n, code);
  cov_quant_count(value, code, n, e->stats[t].exponent, e->params.quant.bins, words, words + e->params.quant.bins);
}

/* Codes, and the table from the bins' counts and sums. */
static cov_status pass_codes(cov_encoder *e, const cov_reducer *reducer) {
  const cov_grid *grid = e->shard->grid;
  const cov_quantiser *q = e->quantiser;
  int bins = e->params.quant.bins;
  kept_pass pass = {.e = e, .entries = make_codes, .words_each = 2 * (size_t)bins};
  run_kept_pass(&pass);
  COV_TRY(reduce_words(reducer, e->words, (size_t)grid->n * pass.words_each, COV_REDUCE_SUM));
  for (int t = 0; t < grid->n; t++) {
    const int64_t *counts = e->words + 2 * t * bins;
    memcpy(e->count + t * bins, counts, (size_t)bins * sizeof *counts);
    q->table(&e->params.quant, &e->stats[t], counts, counts + bins, e->table + t * bins);
  }
  return COV_OK;
}

static cov_status take_values(cov_encoder *e, const cov_reducer *reducer) {
  COV_TRY(pass_select(e, reducer));
  if (e->params.quant.id == COV_QUANT_NONE) return COV_OK;
  COV_TRY(pass_moments(e, reducer));
  return pass_codes(e, reducer);
}

static cov_status encode(cov_encoder *e, const cov_reducer *reducer) {
  cov_status st = take_values(e, reducer);
  if (st == COV_OK) e->owing = 1;
  else covi_sweep_undo(&e->sweep);
  return st;
}

void cov_encoder_settle(cov_encoder *encoder) {
  const covi_sent sent = sent_of(encoder);
  if (encoder->owing) covi_sweep_subtract(&encoder->sweep, &sent);
  encoder->owing = 0;
}

void cov_encoder_forget(cov_encoder *encoder) {
  encoder->owing = 0;
}

cov_status cov_encoder_encode(cov_encoder *encoder, const float *theta, const float *theta_end, float *feedback,
                              const cov_reducer *reducer) {
  if (!reducer && encoder->shard->G > 1)
    return COV_FAIL(COV_EBUG, "shard %d of %d encodes without a reduction over the shards", encoder->shard->g,
                    encoder->shard->G);
  if (encoder->owing && encoder->sweep.feedback != feedback)
    return COV_FAIL(COV_EBUG, "the error feedback of the last encode is not settled, and this one brings another");
  encoder->sweep.theta = theta;
  encoder->sweep.theta_end = theta_end;
  encoder->sweep.feedback = feedback;
  cov_float_env env;
  cov_float_env_enter(&env);
  cov_status st = encode(encoder, reducer);
  cov_float_env_leave(&env);
  if (!encoder->params.owes) cov_encoder_settle(encoder);
  return st;
}

const cov_quant_stats *cov_encoder_stats(const cov_encoder *encoder, int t) {
  return &encoder->stats[t];
}

cov_status cov_encoder_piece(const cov_encoder *encoder, uint8_t *piece, size_t *bytes) {
  int quantised = encoder->params.quant.id != COV_QUANT_NONE;
  cov_piece content = {.tables = quantised ? encoder->table : NULL,
                       .counts = quantised ? encoder->count : NULL,
                       .indices = encoder->index,
                       .codes = quantised ? encoder->code : NULL,
                       .values = quantised ? NULL : encoder->value,
                       .index_coder = encoder->params.index_coder,
                       .threads = encoder->sweep.threads};
  return cov_piece_write(encoder->shard, &encoder->params.quant, &content, piece, bytes);
}
