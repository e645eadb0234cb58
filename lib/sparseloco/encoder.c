#include "sparseloco/encoder.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "sparseloco/fixed.h"
#include "sparseloco/float_env.h"
#include "sparseloco/select.h"

struct cov_encoder {
  const cov_shard *shard;
  cov_encoder_params params;
  const cov_quantiser *quantiser;
  uint16_t *index;        /* [n_kept] */
  float *value;           /* [n_kept] before quantisation */
  uint8_t *code;          /* [n_kept]; unused without a quantiser */
  float *table;           /* [n * bins] */
  cov_quant_stats *stats; /* [n] */
  int64_t *words;         /* [n * most words of a pass + 1] for the reductions */
};

/* The three arrays of one encode, so that helpers take one argument. */
typedef struct {
  const float *theta, *theta_end;
  float *feedback;
} round_data;

static size_t most_words(const cov_encoder *e) {
  size_t words = COV_MOMENTS_MAX, n_bins = 2 * (size_t)e->params.quant.bins;
  if (e->quantiser->uses_bins && n_bins > words) words = n_bins;
  return words * (size_t)e->shard->grid->n + 1;
}

cov_status cov_encoder_create(const cov_shard *shard, const cov_encoder_params *params, cov_encoder **encoder) {
  cov_status st = COV_OK;
  *encoder = NULL;
  COV_TRY(cov_quant_verify(&params->quant));
  if (!(params->beta >= 0 && params->beta <= 1))
    return COV_FAIL(COV_EUSAGE, "error feedback decay %g is outside [0, 1]", (double)params->beta);
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
  e->words = calloc(most_words(e), sizeof *e->words);
  if (!e->table || !e->stats || !e->words) COV_FAIL_DONE(COV_ENOMEM, "encoder statistics of %zu tensors", n);
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
  free(e->stats);
  free(e->words);
  free(e);
  *encoder = NULL;
}

/* e' of n consecutive elements (docs/numerics.md, 2). */
static inline void next_feedback(float *out, const float *feedback, const float *theta, const float *theta_end,
                                 float beta, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    float delta = theta[i] - theta_end[i];
    float decayed = beta * feedback[i];
    out[i] = decayed + delta;
  }
}

/* Gather e' of one chunk in in-chunk order; returns the largest magnitude bits. `start` is the chunk's first element in
 * the theta buffers, `feedback_start` in the feedback buffer; both have rows of `row_elems`. */
static uint32_t chunk_feedback(const cov_encoder *e, const cov_grid_tensor *gt, const round_data *d, int64_t start,
                               int64_t feedback_start, float *value, uint32_t *magnitude) {
  int64_t row_elems = gt->X * gt->w;
  for (int r = 0; r < gt->h; r++) {
    int64_t at = start + r * row_elems;
    next_feedback(value + r * gt->w, d->feedback + feedback_start + r * row_elems, d->theta + at, d->theta_end + at,
                  e->params.beta, gt->w);
  }
  int n = gt->chunk_elems;
  int32_t largest = 0; /* magnitudes have 31 bits, and signed maxima vectorise on every CPU */
  for (int i = 0; i < n; i++) {
    magnitude[i] = cov_float_bits(value[i]) & COV_MAGNITUDE_MASK;
    int32_t m = (int32_t)magnitude[i];
    largest = m > largest ? m : largest;
  }
  return (uint32_t)largest;
}

/* Pass 1 of tensor t: keep the top-k of every own chunk. Returns the largest magnitude bits of the tensor, infinite or
 * NaN included. Reads e, writes only what is kept. */
static uint32_t select_tensor(cov_encoder *e, const round_data *d, int t) {
  const cov_grid_tensor *gt = &e->shard->grid->tensor[t];
  const cov_shard_part *part = &e->shard->part[t];
  float value[COV_CHUNK_ELEMS_MAX];
  uint32_t magnitude[COV_CHUNK_ELEMS_MAX], hint = 0, largest = 0;
  int64_t theta_at = cov_shard_offset(e->shard, e->params.theta_layout, t) - part->elem;
  int64_t feedback_at = cov_shard_offset(e->shard, e->params.feedback_layout, t) - part->elem;
  for (int64_t c = 0; c < part->n_chunks; c++) {
    int64_t first = cov_grid_elem(gt, part->chunk + c, 0);
    uint32_t m = chunk_feedback(e, gt, d, theta_at + first, feedback_at + first, value, magnitude);
    if (m > largest) largest = m;
    if (m >= COV_MAGNITUDE_INF) continue;
    uint16_t *index = e->index + part->kept + c * gt->k;
    float *kept = e->value + part->kept + c * gt->k;
    cov_select_topk(magnitude, gt->chunk_elems, gt->k, &hint, index);
    for (int i = 0; i < gt->k; i++) kept[i] = value[index[i]];
  }
  return largest;
}

static cov_status reduce_words(const cov_reducer *reducer, int64_t *words, size_t n, cov_reduce_op op) {
  return reducer ? reducer->reduce(reducer->context, words, n, op) : COV_OK;
}

/* Pass 1 over all tensors, and the verdict on the magnitudes, which is the same on every shard. */
static cov_status pass_select(cov_encoder *e, const round_data *d, const cov_reducer *reducer) {
  const cov_grid *grid = e->shard->grid;
  for (int t = 0; t < grid->n; t++) e->words[t] = select_tensor(e, d, t);
  COV_TRY(reduce_words(reducer, e->words, (size_t)grid->n, COV_REDUCE_MAX));
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
    e->stats[t] = (cov_quant_stats){.n = grid->tensor[t].n_kept, .exponent = cov_fixed_exponent(largest)};
  }
  return COV_OK;
}

/* Pass 2: moments, then shift and scale of every tensor. */
static cov_status pass_moments(cov_encoder *e, const cov_reducer *reducer) {
  const cov_grid *grid = e->shard->grid;
  const cov_quantiser *q = e->quantiser;
  size_t n_words = (size_t)grid->n * (size_t)q->n_moments;
  memset(e->words, 0, n_words * sizeof *e->words);
  for (int t = 0; t < grid->n; t++) {
    const cov_shard_part *part = &e->shard->part[t];
    q->moments(e->value + part->kept, part->n_kept, e->stats[t].exponent, e->words + t * q->n_moments);
  }
  COV_TRY(reduce_words(reducer, e->words, n_words, COV_REDUCE_SUM));
  for (int t = 0; t < grid->n; t++) q->fit(&e->params.quant, e->words + t * q->n_moments, &e->stats[t]);
  return COV_OK;
}

/* Pass 3: codes, and the table from the bins' counts and sums. */
static cov_status pass_codes(cov_encoder *e, const cov_reducer *reducer) {
  const cov_grid *grid = e->shard->grid;
  const cov_quantiser *q = e->quantiser;
  int bins = e->params.quant.bins;
  size_t n_words = 2 * (size_t)grid->n * (size_t)bins;
  if (q->uses_bins) memset(e->words, 0, n_words * sizeof *e->words);
  for (int t = 0; t < grid->n; t++) {
    const cov_shard_part *part = &e->shard->part[t];
    const float *value = e->value + part->kept;
    uint8_t *code = e->code + part->kept;
    int64_t *counts = e->words + 2 * t * bins;
    q->codes(&e->params.quant, &e->stats[t], value, part->n_kept, code);
    if (q->uses_bins) cov_quant_count(value, code, part->n_kept, e->stats[t].exponent, counts, counts + bins);
  }
  if (q->uses_bins) COV_TRY(reduce_words(reducer, e->words, n_words, COV_REDUCE_SUM));
  for (int t = 0; t < grid->n; t++) {
    const int64_t *counts = q->uses_bins ? e->words + 2 * t * bins : NULL;
    q->table(&e->params.quant, &e->stats[t], counts, counts ? counts + bins : NULL, e->table + t * bins);
  }
  return COV_OK;
}

/* The only writer of e: e' everywhere, minus what is sent where something is sent. */
static void store_residual(const cov_encoder *e, const round_data *d) {
  const cov_grid *grid = e->shard->grid;
  int bins = e->params.quant.bins;
  for (int t = 0; t < grid->n; t++) {
    const cov_grid_tensor *gt = &grid->tensor[t];
    const cov_shard_part *part = &e->shard->part[t];
    int64_t theta_at = cov_shard_offset(e->shard, e->params.theta_layout, t);
    float *feedback = d->feedback + cov_shard_offset(e->shard, e->params.feedback_layout, t);
    next_feedback(feedback, feedback, d->theta + theta_at, d->theta_end + theta_at, e->params.beta, part->elems);
    for (int64_t j = 0; j < part->n_kept; j++) {
      int64_t at = part->kept + j;
      int64_t elem = cov_grid_elem(gt, part->chunk + j / gt->k, e->index[at]) - part->elem;
      float sent = bins > 0 ? e->table[t * bins + e->code[at]] : e->value[at];
      feedback[elem] = feedback[elem] - sent;
    }
  }
}

static cov_status encode(cov_encoder *e, const round_data *d, const cov_reducer *reducer) {
  COV_TRY(pass_select(e, d, reducer));
  if (e->params.quant.id != COV_QUANT_NONE) {
    COV_TRY(pass_moments(e, reducer));
    COV_TRY(pass_codes(e, reducer));
  }
  store_residual(e, d);
  return COV_OK;
}

cov_status cov_encoder_encode(cov_encoder *encoder, const float *theta, const float *theta_end, float *feedback,
                              const cov_reducer *reducer) {
  if (!reducer && encoder->shard->G > 1)
    return COV_FAIL(COV_EBUG, "shard %d of %d encodes without a reduction over the shards", encoder->shard->g,
                    encoder->shard->G);
  round_data d = {.theta = theta, .theta_end = theta_end, .feedback = feedback};
  cov_float_env env;
  cov_float_env_enter(&env);
  cov_status st = encode(encoder, &d, reducer);
  cov_float_env_leave(&env);
  return st;
}

const cov_quant_stats *cov_encoder_stats(const cov_encoder *encoder, int t) {
  return &encoder->stats[t];
}

size_t cov_encoder_piece(const cov_encoder *encoder, uint8_t *piece) {
  int quantised = encoder->params.quant.id != COV_QUANT_NONE;
  cov_piece content = {.tables = quantised ? encoder->table : NULL,
                       .indices = encoder->index,
                       .codes = quantised ? encoder->code : NULL,
                       .values = quantised ? NULL : encoder->value};
  return cov_piece_write(encoder->shard, &encoder->params.quant, &content, piece);
}
