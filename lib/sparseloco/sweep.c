#include "sparseloco/sweep.h"

#include <string.h>

#include "base/parallel.h"
#include "sparseloco/fixed.h"
#include "sparseloco/float_env.h"

/* What the threads of one pass share, read only. */
typedef struct {
  const covi_sweep *sweep;
  const covi_width *width;
  /** Treat bands first .. end-1 of tensor t, counted from the first own one; returns the largest magnitude bits. */
  uint32_t (*bands)(const void *pass, int slot, int t, int64_t first, int64_t end);
  const covi_sent *sent; /* what is to be taken off e; NULL: nothing */
} sweep_pass;

/* Each thread takes its share of every tensor. */
static void run_slot(void *context, int slot, int parts) {
  const sweep_pass *p = context;
  const cov_shard *shard = p->sweep->shard;
  uint32_t *largest = p->sweep->largest + (int64_t)slot * shard->grid->n;
  cov_float_env env;
  cov_float_env_enter(&env);
  for (int t = 0; t < shard->grid->n; t++) {
    int64_t n = shard->part[t].n_bands;
    largest[t] = p->bands(p, slot, t, n * slot / parts, n * (slot + 1) / parts);
  }
  cov_float_env_leave(&env);
}

static void run_pass(const covi_sweep *s, sweep_pass *p, int64_t *largest) {
  int n = s->shard->grid->n;
  p->sweep = s;
  p->width = covi_width_get();
  cov_parallel_run(s->threads, run_slot, p);
  for (int t = 0; largest && t < n; t++) {
    largest[t] = 0;
    for (int slot = 0; slot < s->threads; slot++) {
      int64_t m = s->largest[(int64_t)slot * n + t];
      if (m > largest[t]) largest[t] = m;
    }
  }
}

/* ---- what was sent ---- */

static inline uint32_t reciprocal_of(int w) {
  return ((1u << 20) + (uint32_t)w - 1) / (uint32_t)w;
}

/* i / w as a product: exact for i < 4096, w <= 64, because the error of the reciprocal, below w / 2^20 of a row, times
 * i stays below one in w. */
static inline int row_of(uint32_t i, uint32_t reciprocal) {
  return (int)(((uint64_t)i * reciprocal) >> 20);
}

/* Where in-chunk index i of a chunk with rows of w lies, from the chunk's first element. */
static inline int64_t place_of(uint32_t i, uint32_t reciprocal, int w, int64_t row_elems) {
  int64_t row = row_of(i, reciprocal);
  return row * row_elems + ((int64_t)i - row * w);
}

/* What is left of entry j (own kept entries of tensor t). */
static inline float rest_of(const sweep_pass *p, int t, int64_t j) {
  const covi_sent *sent = p->sent;
  const float value = p->sweep->value[j];
  return value - (sent->bins > 0 ? sent->table[(int64_t)t * sent->bins + sent->code[j]] : value);
}

/* ---- select ---- */

/* The exact top-k of chunk c (own chunks of tensor t) out of its candidates. `e` is its first element. */
static void finish_chunk(const sweep_pass *p, int t, int64_t c, const float *e, covi_candidates *candidates) {
  const covi_sweep *s = p->sweep;
  const cov_grid_tensor *gt = &s->shard->grid->tensor[t];
  int64_t at = s->shard->part[t].kept + c * gt->k;
  /* The guess was too high: a quarter of a binade lower, then half of one, one ... With 0 everything is a candidate. */
  for (uint32_t step = 1u << 21; candidates->n < gt->k; step *= 2) {
    candidates->floor = candidates->floor > step ? candidates->floor - step : 0;
    p->width->collect(e, gt->X * gt->w, gt->h, gt->w, candidates);
  }
  s->floor[s->chunk_first[t] + c] = p->width->pick(candidates, gt->w, gt->k, s->index + at, s->value + at);
}

/* Bit c of row[r] for each index, which is r w + c. */
static inline void mark_rows(const uint16_t *index, int k, int w, uint64_t *row) {
  const uint32_t reciprocal = reciprocal_of(w);
  for (int j = 0; j < k; j++) {
    int r = row_of(index[j], reciprocal);
    row[r] |= (uint64_t)1 << (index[j] - r * w);
  }
}

/* Ask for what was sent of the k entries from `kept` on. */
static inline void fetch_sent(const sweep_pass *p, int64_t kept, int k) {
  for (int j = 0; j < k; j += COVI_LINE_ELEMS) {
    __builtin_prefetch(p->sweep->value + kept + j);
    __builtin_prefetch(p->sweep->index + kept + j);
    __builtin_prefetch(p->sent->code + kept + j);
  }
}

/* What is owed to a chunk whose entries begin at `kept`: the values become what is left of them, so that they need no
 * memory of their own. */
static void owe(const sweep_pass *p, int t, int64_t kept, covi_owed *owed) {
  const covi_sweep *s = p->sweep;
  const cov_grid_tensor *gt = &s->shard->grid->tensor[t];
  const uint16_t *index = s->index + kept;
  float *value = s->value + kept;
  memset(owed->row, 0, sizeof owed->row);
  if (gt->w == 64) mark_rows(index, gt->k, 64, owed->row); /* the usual width: a shift */
  else mark_rows(index, gt->k, gt->w, owed->row);
  for (int j = 0; j < gt->k; j++) value[j] = rest_of(p, t, kept + j);
  owed->rest = value;
}

/* While the top k of chunk c are found memory is idle: ask for some more of the band that comes next, behind what its
 * first rows have asked for. */
static inline void fetch_next(const covi_tile *tile, int64_t band_elems, int c) {
  enum { LINES = 8 };
  const int64_t at = band_elems + COVI_AHEAD_ELEMS + (int64_t)c * LINES * COVI_LINE_ELEMS;
  for (int i = 0; i < LINES; i++) {
    covi_fetch(tile->theta + at, (int64_t)i * COVI_LINE_ELEMS);
    covi_fetch(tile->theta_end + at, (int64_t)i * COVI_LINE_ELEMS);
    covi_fetch(tile->feedback + at, (int64_t)i * COVI_LINE_ELEMS);
  }
}

/* Tiles of a band from left to right. Where a band is one short row, a tile is some bands: memory goes on just so. */
static uint32_t select_bands(const void *context, int slot, int t, int64_t first, int64_t end) {
  const sweep_pass *p = context;
  const covi_sweep *s = p->sweep;
  const cov_grid_tensor *gt = &s->shard->grid->tensor[t];
  covi_candidates *candidates = s->candidates + slot * s->tile_chunks;
  covi_owed *owed = s->owed + slot * s->tile_chunks;
  const int64_t kept = s->shard->part[t].kept;
  int64_t theta_at = cov_shard_offset(s->shard, s->theta_layout, t);
  float *e = s->feedback + cov_shard_offset(s->shard, s->feedback_layout, t);
  int one_row = gt->X == 1 && gt->h == 1;
  int64_t X = one_row ? end : gt->X, Y = one_row ? 1 : end - first;
  uint32_t largest = 0, guess = 0;
  for (int64_t y = 0; y < Y; y++) {
    for (int64_t x = one_row ? first : 0; x < X; x += s->tile_chunks) {
      int64_t band = one_row ? 0 : first + y, chunk = band * gt->X + x, at = band * gt->band_elems + x * gt->w;
      int n = (int)(X - x < s->tile_chunks ? X - x : s->tile_chunks);
      covi_tile tile = {.theta = s->theta + theta_at + at,
                        .theta_end = s->theta_end + theta_at + at,
                        .feedback = e + at,
                        .row_elems = gt->X * gt->w,
                        .h = gt->h,
                        .w = gt->w,
                        .n_chunks = n,
                        .beta = s->beta,
                        .owed = p->sent ? owed : NULL};
      for (int c = 0; c < n; c++) {
        uint32_t own = s->floor[s->chunk_first[t] + chunk + c];
        candidates[c].floor = gt->k == gt->chunk_elems ? 0 : own > 0 ? own : guess;
      }
      for (int c = 0; p->sent && c < n; c++) {
        owe(p, t, kept + (chunk + c) * gt->k, &owed[c]);
        fetch_sent(p, kept + (chunk + c + n) * gt->k, gt->k); /* of the next tile */
      }
      uint32_t m = p->width->feedback(&tile, candidates);
      if (m > largest) largest = m;
      for (int c = 0; c < n; c++) {
        fetch_next(&tile, gt->band_elems, c);
        finish_chunk(p, t, chunk + c, tile.feedback + c * gt->w, &candidates[c]);
        guess = s->floor[s->chunk_first[t] + chunk + c];
      }
    }
  }
  return largest;
}

void covi_sweep_select(const covi_sweep *s, const covi_sent *owed, int64_t *largest) {
  sweep_pass p = {.bands = select_bands, .sent = owed};
  run_pass(s, &p, largest);
}

/* ---- subtract ---- */

static void subtract_chunk(const sweep_pass *p, int t, int64_t kept, float *e) {
  const cov_grid_tensor *gt = &p->sweep->shard->grid->tensor[t];
  const uint32_t reciprocal = reciprocal_of(gt->w);
  for (int j = 0; j < gt->k; j++) {
    e[place_of(p->sweep->index[kept + j], reciprocal, gt->w, gt->X * gt->w)] = rest_of(p, t, kept + j);
  }
}

/* Ask for the lines of a chunk's entries while the two before it are written. */
static void fetch_chunk(const covi_sweep *s, int t, int64_t kept, const float *e) {
  const cov_grid_tensor *gt = &s->shard->grid->tensor[t];
  const uint32_t reciprocal = reciprocal_of(gt->w);
  for (int j = 0; j < gt->k; j++)
    __builtin_prefetch(e + place_of(s->index[kept + j], reciprocal, gt->w, gt->X * gt->w), 1);
}

static uint32_t subtract_bands(const void *context, int slot, int t, int64_t first, int64_t end) {
  const sweep_pass *p = context;
  const covi_sweep *s = p->sweep;
  const cov_grid_tensor *gt = &s->shard->grid->tensor[t];
  float *e = s->feedback + cov_shard_offset(s->shard, s->feedback_layout, t);
  (void)slot;
  for (int64_t c = first * gt->X; c < end * gt->X; c++) {
    int64_t kept = s->shard->part[t].kept + c * gt->k;
    if (c + 2 < end * gt->X) fetch_chunk(s, t, kept + 2 * gt->k, e + cov_grid_elem(gt, c + 2, 0));
    subtract_chunk(p, t, kept, e + cov_grid_elem(gt, c, 0));
  }
  return 0;
}

void covi_sweep_subtract(const covi_sweep *s, const covi_sent *sent) {
  sweep_pass p = {.bands = subtract_bands, .sent = sent};
  run_pass(s, &p, NULL);
}

/* ---- undo ---- */

static int is_finite(float x) {
  return (cov_float_bits(x) & COV_MAGNITUDE_MASK) < COV_MAGNITUDE_INF;
}

static uint32_t undo_bands(const void *context, int slot, int t, int64_t first, int64_t end) {
  const sweep_pass *p = context;
  const covi_sweep *s = p->sweep;
  int64_t band_elems = s->shard->grid->tensor[t].band_elems, n = (end - first) * band_elems;
  int64_t at = cov_shard_offset(s->shard, s->theta_layout, t) + first * band_elems;
  float *e = s->feedback + cov_shard_offset(s->shard, s->feedback_layout, t) + first * band_elems;
  (void)slot;
  for (int64_t i = 0; i < n; i++) {
    float delta = s->theta[at + i] - s->theta_end[at + i];
    float decayed = e[i] - delta;
    float before = decayed / s->beta;
    e[i] = s->beta > 0 && is_finite(before) ? before : 0.0f; /* with beta 0 no e plays a part */
  }
  return 0;
}

void covi_sweep_undo(const covi_sweep *s) {
  sweep_pass p = {.bands = undo_bands};
  run_pass(s, &p, NULL);
}
