#include "sparseloco/outer_sweep.h"

#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "sparseloco/fixed.h"
#include "sparseloco/float_env.h"
#include "sparseloco/leaf.h"
#include "sparseloco/payload_reader.h"
#include "sparseloco/state_hash.h"
#include "sparseloco/width.h"

/* What one thread works with. Sums and counts are zero between chunks. */
typedef struct {
  const covi_outer_sweep *sweep;
  const covi_width *width;
  const uint64_t (*block_key)[2];
  cov_payload_reader *reader; /* [n_set]: before the next chunk of the current tensor */
  cov_clip clip;
  float *entry;        /* [n_set * bins]: clipped tables of the current tensor */
  covi_chains *chains; /* [n_set / 8, rounded up]; n = 0: read those payloads of the current tensor one by one */
  covi_mean mean;
  uint32_t *largest; /* [n] */
  uint16_t index[COVI_CHAINS_MAX][COVI_CHAIN_CODES_MAX];
  _Alignas(64) float value[COVI_CHAIN_CODES_MAX * COVI_CHAINS_MAX]; /* of the same: entry j of payload l at 8 j + l */
  _Alignas(64) float sum[COV_CHUNK_ELEMS_MAX + COVI_LANES_MAX];
  _Alignas(64) uint16_t count[COV_CHUNK_ELEMS_MAX + COVI_LANES_MAX];
  int n_shared; /* positions of the chunk that several payloads have sent, in any order, each once */
  uint16_t shared[COV_CHUNK_ELEMS_MAX + 1];
} outer_slot;

/* What all threads share. */
typedef struct {
  const covi_outer_sweep *sweep;
  outer_slot **slot; /* [threads] */
  uint64_t (*block_key)[2];
} outer_pass;

static void free_pass(outer_pass *p) {
  for (int i = 0; p->slot && i < p->sweep->threads; i++) {
    outer_slot *w = p->slot[i];
    if (!w) continue;
    free(w->reader);
    free(w->clip.norm);
    free(w->clip.factor);
    free(w->entry);
    free(w->chains);
    free(w->largest);
    free(w);
  }
  free(p->slot);
  free(p->block_key);
}

static outer_slot *create_slot(const covi_outer_sweep *s, const uint64_t (*block_key)[2]) {
  size_t n = s->n_set > 0 ? (size_t)s->n_set : 1, bins = s->n_set > 0 ? (size_t)s->set[0]->head.bins : 0;
  outer_slot *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);
  if (!w) return NULL;
  memset(w, 0, sizeof *w);
  w->sweep = s;
  w->width = covi_width_get();
  w->block_key = block_key;
  w->mean = (covi_mean){.alpha = s->params->alpha, .divisor = s->params->mean == COV_MEAN_PAPER ? s->n_set : 0};
  w->reader = calloc(n, sizeof *w->reader);
  w->clip.norm = calloc(n, sizeof *w->clip.norm);
  w->clip.factor = calloc(n, sizeof *w->clip.factor);
  w->entry = calloc(n * bins + 1, sizeof *w->entry);
  w->chains = calloc(n / COVI_CHAINS_MAX + 1, sizeof *w->chains);
  w->largest = calloc((size_t)s->shard->grid->n + 1, sizeof *w->largest);
  return w;
}

static cov_status create_pass(const covi_outer_sweep *s, outer_pass *p) {
  const cov_grid *grid = s->shard->grid;
  int64_t n_blocks = 1;
  *p = (outer_pass){.sweep = s};
  for (int t = 0; t < grid->n; t++) {
    int64_t n = (grid->tensor[t].band_elems + COVI_HASH_BLOCK_ELEMS - 1) / COVI_HASH_BLOCK_ELEMS;
    if (n > n_blocks) n_blocks = n;
  }
  p->slot = calloc((size_t)s->threads, sizeof *p->slot);
  p->block_key = calloc((size_t)n_blocks, sizeof *p->block_key);
  int made = p->slot && p->block_key;
  if (made) covi_block_keys(n_blocks, p->block_key);
  for (int i = 0; made && i < s->threads; i++) {
    outer_slot *w = p->slot[i] = create_slot(s, (const uint64_t(*)[2])p->block_key);
    made = w && w->reader && w->clip.norm && w->clip.factor && w->entry && w->chains && w->largest;
  }
  if (made) return COV_OK;
  free_pass(p);
  return COV_FAIL(COV_ENOMEM, "outer step with %d payloads on %d threads", s->n_set, s->threads);
}

/* Payloads first .. first + 7 of tensor t side by side, if there are several and all of them can be. */
static void prepare_chains(outer_slot *w, int t, int first) {
  const covi_outer_sweep *s = w->sweep;
  covi_chains *chains = w->chains + first / COVI_CHAINS_MAX;
  int left = s->n_set - first, n = left < COVI_CHAINS_MAX ? left : COVI_CHAINS_MAX, bins = s->set[0]->head.bins;
  int possible = n > 1 && bins > 0;
  for (int l = 0; l < n && possible; l++) {
    const covi_code_model *model = s->set[first + l]->tensor[t].model;
    possible = covi_code_chainable(model, s->shard->grid->tensor[t].k);
    if (possible) covi_code_chain(model, w->entry + (first + l) * bins, chains, l);
  }
  chains->n = possible ? n : 0;
}

/* Clip factors of tensor t, factor times value for each bin of each payload, readers before band `first`. */
static void prepare_tensor(outer_slot *w, int t, int64_t first) {
  const covi_outer_sweep *s = w->sweep;
  for (int i = 0; i < s->n_set; i++)
    cov_payload_reader_open(&w->reader[i], s->set[i], t, s->shard->part[t].band + first);
  covi_clip_describe(s->set, s->n_set, t, s->params->clip, &w->clip);
  for (int i = 0; i < s->n_set; i++) {
    const float *table = s->set[i]->tensor[t].table;
    int bins = s->set[i]->head.bins;
    for (int b = 0; b < bins; b++) w->entry[i * bins + b] = (float)(w->clip.factor[i] * (double)table[b]);
  }
  for (int i = 0; i < s->n_set; i += COVI_CHAINS_MAX) prepare_chains(w, t, i);
}

/* One entry more at a position. It is shared from its second one on; until then it is only written where the next one
 * will be, because whether it is would be hard to guess. */
static inline void add_entry(outer_slot *w, int at, float value) {
  uint16_t before = w->count[at];
  w->sum[at] = w->sum[at] + value;
  w->count[at] = (uint16_t)(before + 1);
  w->shared[w->n_shared] = (uint16_t)at;
  w->n_shared += before == 1;
}

/* Sums to means: one payload's entry is its own mean. A chunk most of whose positions are shared is gone through as it
 * lies, which compilers make vectors of. */
static void divide_shared(outer_slot *w, int n) {
  if (w->n_shared > n / 8) {
    for (int i = 0; i < n; i++) w->sum[i] = w->sum[i] / (float)(w->count[i] > 0 ? w->count[i] : 1);
  } else {
    for (int j = 0; j < w->n_shared; j++) {
      int at = w->shared[j];
      w->sum[at] = w->sum[at] / (float)w->count[at];
    }
  }
}

/* Add payload i's next chunk. Its own positions differ, so only payloads, in ascending order, meet in a sum. */
static void sum_payload(outer_slot *w, int i, int k) {
  int bins = w->sweep->set[i]->head.bins;
  uint16_t index[COV_CHUNK_ELEMS_MAX];
  if (bins == 0) {
    float value[COV_CHUNK_ELEMS_MAX];
    cov_payload_reader_values(&w->reader[i], index, value);
    for (int j = 0; j < k; j++) {
      float clipped = (float)(w->clip.factor[i] * (double)value[j]);
      add_entry(w, index[j], clipped);
    }
    return;
  }
  const float *entry = w->entry + i * bins;
  uint8_t code[COV_CHUNK_ELEMS_MAX];
  cov_payload_reader_codes(&w->reader[i], index, code);
  for (int j = 0; j < k; j++) add_entry(w, index[j], entry[code[j]]);
}

/* Nesterov's step: every position moves, also where nothing was sent. `velocity` is laid out as theta. */
static uint32_t step_momentum(const covi_step *s, float *velocity, float mu) {
  uint32_t largest = 0;
  for (int i = 0; i < s->h * s->w; i++) {
    int64_t at = i / s->w * s->row_elems + i % s->w;
    uint32_t magnitude = cov_float_bits(s->theta[at]) & COV_MAGNITUDE_MASK;
    float mean = 0;
    if (s->count[i] > 0) mean = s->mean.divisor > 0 ? s->sum[i] / (float)s->mean.divisor : s->sum[i];
    float kept = mu * velocity[at];
    velocity[at] = kept + mean;
    float ahead = mu * velocity[at];
    float direction = mean + ahead;
    float step = s->mean.alpha * direction;
    s->out[at] = s->theta[at] - step;
    s->sum[i] = 0;
    s->count[i] = 0;
    largest = magnitude > largest ? magnitude : largest;
  }
  for (int r = 0; s->leaf && r < s->h; r++)
    covi_leaf_add(covi_width_get(), s->leaf, s->out + r * s->row_elems, s->first + r * s->row_elems, s->w);
  return largest;
}

/* Add the next chunk of the payloads from `first` on, whose indices have been read. */
static void sum_chains(outer_slot *w, int first, int k) {
  covi_chains *chains = w->chains + first / COVI_CHAINS_MAX;
  cov_payload_reader_entries(&w->reader[first], chains->n, chains, w->value);
  for (int l = 0; l < chains->n; l++) {
    for (int j = 0; j < k; j++) add_entry(w, w->index[l][j], w->value[j * COVI_CHAINS_MAX + l]);
  }
}

/* Ask for rows [from, to) of the chunk that begins `ahead` elements from this one, while this one is decoded. */
static void fetch_rows(const covi_step *s, int64_t ahead, int from, int to) {
  for (int r = from; r < to; r++) {
    for (int i = 0; i < s->w; i += 16) __builtin_prefetch(s->theta + ahead + r * s->row_elems + i, 0, 2);
  }
}

/* The next chunk of every payload; sums are means afterwards, unless the divisor is the same everywhere. */
static void sum_all(outer_slot *w, const covi_step *step, int64_t ahead, int k) {
  int n_set = w->sweep->n_set, chained = 0;
  w->n_shared = 0;
  for (int i = 0; i < n_set; i++) {
    fetch_rows(step, ahead, step->h * i / n_set, step->h * (i + 1) / n_set);
    if (i % COVI_CHAINS_MAX == 0) chained = w->chains[i / COVI_CHAINS_MAX].n;
    if (chained == 0) {
      sum_payload(w, i, k);
      continue;
    }
    int l = i % COVI_CHAINS_MAX;
    cov_payload_reader_indices(&w->reader[i], w->index[l]);
    if (l + 1 == chained) sum_chains(w, i - l, k);
  }
  if (w->mean.divisor == 0) divide_shared(w, step->h * step->w);
}

static uint32_t step_bands(outer_slot *w, int t, int64_t first, int64_t end) {
  const covi_outer_sweep *s = w->sweep;
  const cov_grid_tensor *gt = &s->shard->grid->tensor[t];
  int64_t at = cov_shard_offset(s->shard, s->layout, t);
  float *velocity = s->params->velocity;
  uint32_t largest = 0;
  if (velocity) velocity += cov_shard_offset(s->shard, COV_LAYOUT_SHARD, t);
  prepare_tensor(w, t, first);
  for (int64_t b = first; b < end; b++) {
    covi_leaf leaf;
    covi_leaf_open(&leaf, w->block_key);
    for (int64_t x = 0; x < gt->X; x++) {
      int64_t in_band = x * gt->w, elem = b * gt->band_elems + in_band;
      covi_step step = {.theta = s->theta + at + elem,
                        .out = s->out + at + elem,
                        .row_elems = gt->X * gt->w,
                        .first = in_band,
                        .h = gt->h,
                        .w = gt->w,
                        .sum = w->sum,
                        .count = w->count,
                        .mean = w->mean,
                        .leaf = s->leaves ? &leaf : NULL};
      int64_t ahead = x + 1 < gt->X ? gt->w : gt->band_elems - in_band;
      sum_all(w, &step, ahead, gt->k);
      uint32_t m = velocity ? step_momentum(&step, velocity + elem, s->params->momentum) : w->width->step(&step);
      if (m > largest) largest = m;
    }
    if (s->leaves) covi_leaf_close(&leaf, s->leaves + (s->shard->part[t].leaf + b) * COV_LEAF_BYTES);
  }
  return largest;
}

/* Each thread takes its share of every tensor. */
static void run_slot(void *context, int slot, int parts) {
  const outer_pass *p = context;
  const cov_shard *shard = p->sweep->shard;
  cov_float_env env;
  cov_float_env_enter(&env);
  for (int t = 0; t < shard->grid->n; t++) {
    int64_t n = shard->part[t].n_bands, first = n * slot / parts, end = n * (slot + 1) / parts;
    if (first < end) p->slot[slot]->largest[t] = step_bands(p->slot[slot], t, first, end);
  }
  cov_float_env_leave(&env);
}

cov_status covi_outer_step(const covi_outer_sweep *s, uint32_t *largest) {
  outer_pass p;
  COV_TRY(create_pass(s, &p));
  cov_parallel_run(s->threads, run_slot, &p);
  for (int t = 0; t < s->shard->grid->n; t++) {
    largest[t] = 0;
    for (int i = 0; i < s->threads; i++) {
      if (p.slot[i]->largest[t] > largest[t]) largest[t] = p.slot[i]->largest[t];
    }
  }
  free_pass(&p);
  return COV_OK;
}
