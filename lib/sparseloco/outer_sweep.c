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

/* Two bands of up to eight payloads are read side by side, chunk by chunk: chain j m + l is that of payload l of the
 * m of a group, in the band j behind the present one. */
enum { BANDS = 2, GROUP = COVI_CHAINS_MAX / BANDS, TILE = 16 };

/* What is read ahead of the sums for one group. */
typedef struct {
  covi_chains chains; /* n = 0: read these payloads of the current tensor one by one */
  /* Entry i of chain c of chunk x of the tile, of k: index at (16 x + c) k + i, value at 16 (k x + i) + c. */
  uint16_t index[TILE * COVI_CHAINS_MAX * COVI_CHAIN_CODES_MAX];
  _Alignas(64) float value[TILE * COVI_CHAINS_MAX * COVI_CHAIN_CODES_MAX];
} outer_group;

/* What one thread works with. Sums and counts are zero between chunks. */
typedef struct {
  const covi_outer_sweep *sweep;
  const covi_width *width;
  const uint64_t (*block_key)[2];
  cov_payload_reader *reader; /* [BANDS * n_set]: before the next chunk of the band, of payload i at BANDS i + j */
  cov_clip clip;
  float *entry;       /* [n_set * bins]: clipped tables of the current tensor */
  outer_group *group; /* [n_set / GROUP, rounded up] */
  covi_mean mean;
  uint32_t *largest; /* [n] */
  _Alignas(64) float sum[COV_CHUNK_ELEMS_MAX + COVI_LANES_MAX];
  _Alignas(64) uint16_t count[COV_CHUNK_ELEMS_MAX + COVI_LANES_MAX];
  int n_shared; /* positions of the chunk that several payloads have sent, in any order, each once */
  uint16_t shared[COV_CHUNK_ELEMS_MAX + 1];
} outer_slot;

/* The chunk at hand of a tensor: where the tensor's own bands begin in theta and velocity (or NULL), which own band it
 * is in, the number of that among those read together, and its place there. */
typedef struct {
  int64_t theta;
  float *velocity;
  int64_t band, x;
  int j;
} outer_place;

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
    free(w->group);
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
  w->reader = calloc(BANDS * n, sizeof *w->reader);
  w->clip.norm = calloc(n, sizeof *w->clip.norm);
  w->clip.factor = calloc(n, sizeof *w->clip.factor);
  w->entry = calloc(n * bins + 1, sizeof *w->entry);
  w->group = aligned_alloc(64, (n / GROUP + 1) * sizeof *w->group);
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
    made = w && w->reader && w->clip.norm && w->clip.factor && w->entry && w->group && w->largest;
  }
  if (made) return COV_OK;
  free_pass(p);
  return COV_FAIL(COV_ENOMEM, "outer step with %d payloads on %d threads", s->n_set, s->threads);
}

/* Payloads of group g of tensor t side by side, if there are several and all of them can be. */
static void prepare_group(outer_slot *w, int t, int g) {
  const covi_outer_sweep *s = w->sweep;
  outer_group *group = &w->group[g];
  int first = g * GROUP, left = s->n_set - first, m = left < GROUP ? left : GROUP, bins = s->set[0]->head.bins;
  int possible = m > 1 && bins > 0;
  for (int l = 0; l < m && possible; l++) {
    const covi_code_model *model = s->set[first + l]->tensor[t].model;
    possible = covi_code_chainable(model, s->shard->grid->tensor[t].k);
    for (int j = 0; j < BANDS && possible; j++)
      covi_code_chain(model, w->entry + (first + l) * bins, &group->chains, j * m + l);
  }
  group->chains.n = possible ? m : 0;
}

/* Clip factors of tensor t, factor times value for each bin of each payload. */
static void prepare_tensor(outer_slot *w, int t) {
  const covi_outer_sweep *s = w->sweep;
  covi_clip_describe(s->set, s->n_set, t, s->params->clip, &w->clip);
  for (int i = 0; i < s->n_set; i++) {
    const float *table = s->set[i]->tensor[t].table;
    int bins = s->set[i]->head.bins;
    for (int b = 0; b < bins; b++) w->entry[i * bins + b] = (float)(w->clip.factor[i] * (double)table[b]);
  }
  for (int g = 0; g * GROUP < s->n_set; g++) prepare_group(w, t, g);
}

/* Readers before bands b .. b + bands - 1, counted from the first own one. */
static void open_bands(outer_slot *w, int t, int64_t b, int bands) {
  const covi_outer_sweep *s = w->sweep;
  for (int i = 0; i < s->n_set; i++) {
    for (int j = 0; j < bands; j++)
      cov_payload_reader_open(&w->reader[BANDS * i + j], s->set[i], t, s->shard->part[t].band + b + j);
  }
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

/* Add payload i's next chunk in band j. Its own positions differ, so only payloads, in ascending order, meet in a sum.
 */
static void sum_payload(outer_slot *w, int i, int j, int k) {
  cov_payload_reader *reader = &w->reader[BANDS * i + j];
  int bins = w->sweep->set[i]->head.bins;
  uint16_t index[COV_CHUNK_ELEMS_MAX];
  if (bins == 0) {
    float value[COV_CHUNK_ELEMS_MAX];
    cov_payload_reader_values(reader, index, value);
    for (int e = 0; e < k; e++) {
      float clipped = (float)(w->clip.factor[i] * (double)value[e]);
      add_entry(w, index[e], clipped);
    }
    return;
  }
  const float *entry = w->entry + i * bins;
  uint8_t code[COV_CHUNK_ELEMS_MAX];
  cov_payload_reader_codes(reader, index, code);
  for (int e = 0; e < k; e++) add_entry(w, index[e], entry[code[e]]);
}

/* Nesterov's step: every position moves, also where nothing was sent. `velocity` is laid out as theta. */
static uint32_t step_momentum(const covi_step *s, float *velocity, float mu) {
  uint32_t largest = 0;
  for (int i = 0; i < s->h * s->w; i++) {
    int64_t at = i / s->w * s->row_elems + i % s->w;
    if (i % COVI_LINE_ELEMS == 0) covi_fetch(s->theta + at, s->next);
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

/* Read the next chunk of each of the bands, the one with number x of the tile, of the payloads that can be read side by
 * side. */
static void read_groups(outer_slot *w, int bands, int x, int k) {
  int n_set = w->sweep->n_set;
  for (int g = 0; g * GROUP < n_set; g++) {
    outer_group *group = &w->group[g];
    int first = g * GROUP, m = n_set - first < GROUP ? n_set - first : GROUP;
    cov_payload_reader *reader[COVI_CHAINS_MAX];
    if (group->chains.n == 0) continue;
    group->chains.n = bands * m;
    for (int c = 0; c < bands * m; c++) {
      reader[c] = &w->reader[BANDS * (first + c % m) + c / m];
      cov_payload_reader_indices(reader[c], group->index + (x * COVI_CHAINS_MAX + c) * k);
    }
    cov_payload_reader_entries(reader, bands * m, &group->chains, group->value + x * k * COVI_CHAINS_MAX);
  }
}

/* Sums of the chunk in band j, payload after payload; they are means afterwards, unless the divisor is the same
 * everywhere. */
static void sum_all(outer_slot *w, int j, int x, const covi_step *step, int k) {
  int n_set = w->sweep->n_set;
  w->n_shared = 0;
  for (int i = 0; i < n_set; i++) {
    const outer_group *group = &w->group[i / GROUP];
    int l = i % GROUP, m = n_set - (i - l) < GROUP ? n_set - (i - l) : GROUP, c = j * m + l;
    if (group->chains.n == 0) {
      sum_payload(w, i, j, k);
      continue;
    }
    const uint16_t *index = group->index + (x * COVI_CHAINS_MAX + c) * k;
    const float *value = group->value + x * k * COVI_CHAINS_MAX + c;
    for (int e = 0; e < k; e++) add_entry(w, index[e], value[e * COVI_CHAINS_MAX]);
  }
  if (w->mean.divisor == 0) divide_shared(w, step->h * step->w);
}

/* Chunk x of band b. `next`: elements from it to the chunk that is stepped after it. */
static uint32_t step_chunk(outer_slot *w, int t, const outer_place *at, int64_t next, covi_leaf *leaf) {
  const covi_outer_sweep *s = w->sweep;
  const cov_grid_tensor *gt = &s->shard->grid->tensor[t];
  int64_t elem = at->band * gt->band_elems + at->x * gt->w;
  const covi_step step = {.theta = s->theta + at->theta + elem,
                          .out = s->out + at->theta + elem,
                          .row_elems = gt->X * gt->w,
                          .first = at->x * gt->w,
                          .h = gt->h,
                          .w = gt->w,
                          .sum = w->sum,
                          .count = w->count,
                          .mean = w->mean,
                          .leaf = s->leaves ? leaf : NULL,
                          .next = next};
  sum_all(w, at->j, (int)(at->x % TILE), &step, gt->k);
  return at->velocity ? step_momentum(&step, at->velocity + elem, s->params->momentum) : w->width->step(&step);
}

/* Bands at->band and, if bands is 2, the next: tile by tile the codes of both, then one band's chunks and the other's,
 * so that memory is gone through in runs of rows. */
static uint32_t step_together(outer_slot *w, int t, outer_place at, int bands) {
  const covi_outer_sweep *s = w->sweep;
  const cov_grid_tensor *gt = &s->shard->grid->tensor[t];
  int64_t first = at.band;
  covi_leaf leaf[BANDS];
  uint32_t largest = 0;
  open_bands(w, t, first, bands);
  for (int j = 0; j < bands; j++) covi_leaf_open(&leaf[j], w->block_key);
  for (int64_t tile = 0; tile < gt->X; tile += TILE) {
    int64_t n = gt->X - tile < TILE ? gt->X - tile : TILE;
    for (int x = 0; x < n; x++) read_groups(w, bands, x, gt->k);
    for (at.j = 0; at.j < bands; at.j++) {
      at.band = first + at.j;
      for (at.x = tile; at.x < tile + n; at.x++) {
        int64_t next = gt->w;
        if (at.x + 1 == tile + n && at.j + 1 < bands) next = gt->band_elems - (n - 1) * gt->w;
        else if (at.x + 1 == tile + n && tile + n < gt->X) next = gt->w - (bands - 1) * gt->band_elems;
        else if (at.x + 1 == tile + n) next = gt->band_elems - at.x * gt->w;
        uint32_t m = step_chunk(w, t, &at, next, &leaf[at.j]);
        if (m > largest) largest = m;
      }
    }
  }
  for (int j = 0; s->leaves && j < bands; j++)
    covi_leaf_close(&leaf[j], s->leaves + (s->shard->part[t].leaf + first + j) * COV_LEAF_BYTES);
  return largest;
}

static uint32_t step_bands(outer_slot *w, int t, int64_t first, int64_t end) {
  const covi_outer_sweep *s = w->sweep;
  int64_t at = cov_shard_offset(s->shard, s->layout, t);
  float *velocity = s->params->velocity;
  uint32_t largest = 0;
  if (velocity) velocity += cov_shard_offset(s->shard, COV_LAYOUT_SHARD, t);
  prepare_tensor(w, t);
  for (int64_t b = first; b < end; b += BANDS) {
    const outer_place place = {.theta = at, .velocity = velocity, .band = b};
    uint32_t m = step_together(w, t, place, end - b < BANDS ? (int)(end - b) : BANDS);
    if (m > largest) largest = m;
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
