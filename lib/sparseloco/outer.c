#include "sparseloco/outer.h"

#include <stdlib.h>
#include <string.h>

#include "sparseloco/fixed.h"
#include "sparseloco/float_env.h"
#include "sparseloco/payload_reader.h"
#include "sparseloco/state_hash.h"

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double cov_norm_median(const double *norm, int n) {
  double sorted[COV_SET_MAX];
  if (n < 1) return 0;
  COV_ASSERT(n <= COV_SET_MAX);
  memcpy(sorted, norm, (size_t)n * sizeof *norm);
  qsort(sorted, (size_t)n, sizeof *sorted, compare_doubles);
  return sorted[(n - 1) / 2];
}

double cov_norm_factor(double median, double norm) {
  double f = median / (norm + 1e-8);
  return f < 1 ? f : 1;
}

static void describe_clip(const cov_payload_view *const *set, int n_set, int t, int clip, cov_clip *out) {
  for (int i = 0; i < n_set; i++) out->norm[i] = set[i]->tensor[t].norm;
  out->median = cov_norm_median(out->norm, n_set);
  for (int i = 0; i < n_set; i++) out->factor[i] = clip ? cov_norm_factor(out->median, out->norm[i]) : 1;
}

void cov_clip_describe(const cov_payload_view *const *set, int n_set, int t, int clip, cov_clip *out) {
  cov_float_env env;
  cov_float_env_enter(&env);
  describe_clip(set, n_set, t, clip, out);
  cov_float_env_leave(&env);
}

static int compare_peers(const void *a, const void *b) {
  const cov_payload_view *const *x = a, *const *y = b;
  return ((*x)->head.peer > (*y)->head.peer) - ((*x)->head.peer < (*y)->head.peer);
}

cov_status cov_set_sort(const cov_payload_view *const *set, int n_set, const cov_payload_view **order) {
  if (n_set < 0 || n_set > COV_SET_MAX)
    return COV_FAIL(COV_EUSAGE, "a set of %d payloads, at most %d are possible", n_set, COV_SET_MAX);
  for (int i = 0; i < n_set; i++) order[i] = set[i];
  qsort(order, (size_t)n_set, sizeof *order, compare_peers);
  for (int i = 1; i < n_set; i++) {
    if (order[i - 1]->head.peer == order[i]->head.peer)
      return COV_FAIL(COV_EUSAGE, "two payloads of peer %u in one set", (unsigned)order[i]->head.peer);
  }
  return COV_OK;
}

/* Everything an application needs besides theta; owned by cov_outer_apply. */
typedef struct {
  const cov_shard *shard;
  const cov_outer_params *params;
  const cov_payload_view **set; /* ascending peer number */
  int n_set;
  cov_payload_reader *reader; /* [n_set]: before the next chunk of the current tensor */
  cov_clip clip;
  float *entry; /* [n_set * bins]: clipped table of the current tensor */
  /* One chunk's accumulation. count is all zero between chunks. */
  float sum[COV_CHUNK_ELEMS_MAX];
  uint16_t count[COV_CHUNK_ELEMS_MAX], touched[COV_CHUNK_ELEMS_MAX];
} outer_work;

/* 1 if every |x| is below 2^127, so that no step can leave the finite numbers. */
static int all_bounded(const float *x, int64_t n) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; i++) {
    uint32_t magnitude = cov_float_bits(x[i]) & COV_MAGNITUDE_MASK;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest < 0x7F000000u;
}

static cov_status check_theta(const cov_shard *shard, const float *theta, cov_layout layout) {
  for (int t = 0; t < shard->grid->n; t++) {
    if (!all_bounded(theta + cov_shard_offset(shard, layout, t), shard->part[t].elems))
      return COV_FAIL(
          COV_ENUMERIC,
          "%s holds a value that is not finite or 2^127 and more; the outer step was not taken. Restart from "
          "a checkpoint",
          shard->grid->params->item[t].name);
  }
  return COV_OK;
}

/* Clip factors of tensor t, factor times value for each bin of each payload, readers before the first own band. */
static void prepare_tensor(outer_work *w, int t) {
  for (int i = 0; i < w->n_set; i++) cov_payload_reader_open(&w->reader[i], w->set[i], t, w->shard->part[t].band);
  describe_clip(w->set, w->n_set, t, w->params->clip, &w->clip);
  for (int i = 0; i < w->n_set; i++) {
    const float *table = w->set[i]->tensor[t].table;
    int bins = w->set[i]->head.bins;
    for (int b = 0; b < bins; b++) w->entry[i * bins + b] = (float)(w->clip.factor[i] * (double)table[b]);
  }
}

/* Index and clipped value of the next chunk as payload i sent them. */
static void read_entries(const outer_work *w, int i, uint16_t *index, float *value) {
  cov_payload_reader *reader = &w->reader[i];
  int k = reader->shape->k, bins = w->set[i]->head.bins;
  if (bins == 0) {
    cov_payload_reader_values(reader, index, value);
    for (int j = 0; j < k; j++) value[j] = (float)(w->clip.factor[i] * (double)value[j]);
    return;
  }
  uint8_t code[COV_CHUNK_ELEMS_MAX];
  cov_payload_reader_codes(reader, index, code);
  for (int j = 0; j < k; j++) value[j] = w->entry[i * bins + code[j]];
}

/* The chunk's mean, then Nesterov's step: every position moves, also where nothing was sent. */
static void apply_momentum(outer_work *w, const cov_grid_tensor *gt, float *theta, float *velocity, int64_t row_elems) {
  float mu = w->params->momentum;
  for (int at = 0; at < gt->chunk_elems; at++) {
    int64_t to = at / gt->w * row_elems + at % gt->w;
    float mean = 0;
    if (w->count[at]) {
      float divisor = (float)(w->params->mean == COV_MEAN_PAPER ? w->n_set : (int)w->count[at]);
      mean = w->sum[at] / divisor;
    }
    float kept = mu * velocity[to];
    velocity[to] = kept + mean;
    float ahead = mu * velocity[to];
    float direction = mean + ahead;
    float step = w->params->alpha * direction;
    theta[to] = theta[to] - step;
    w->count[at] = 0;
  }
}

/* Sum chunk c over the payloads, then step the positions that were touched. `band` is the chunk's band in the output.
 */
static void apply_chunk(outer_work *w, int t, int64_t c, float *band, float *velocity) {
  const cov_grid_tensor *gt = &w->shard->grid->tensor[t];
  uint16_t index[COV_CHUNK_ELEMS_MAX];
  float value[COV_CHUNK_ELEMS_MAX];
  int n_touched = 0;
  for (int i = 0; i < w->n_set; i++) {
    read_entries(w, i, index, value);
    for (int j = 0; j < gt->k; j++) {
      uint16_t at = index[j];
      if (w->count[at]++ == 0) {
        w->touched[n_touched++] = at;
        w->sum[at] = 0;
      }
      w->sum[at] = w->sum[at] + value[j];
    }
  }
  int64_t row_elems = gt->X * gt->w, x = c % gt->X * gt->w;
  if (velocity) {
    apply_momentum(w, gt, band + x, velocity + x, row_elems);
    return;
  }
  for (int j = 0; j < n_touched; j++) {
    int at = w->touched[j];
    float divisor = (float)(w->params->mean == COV_MEAN_PAPER ? w->n_set : (int)w->count[at]);
    float mean = w->sum[at] / divisor;
    float step = w->params->alpha * mean;
    float *theta = &band[at / gt->w * row_elems + x + at % gt->w];
    *theta = *theta - step;
    w->count[at] = 0;
  }
}

static cov_status apply(outer_work *w, const float *theta, float *out, cov_layout layout, uint8_t *leaves) {
  const cov_shard *shard = w->shard;
  COV_TRY(check_theta(shard, theta, layout));
  if (out != theta) cov_shard_copy(shard, out, layout, theta, layout);
  if (w->n_set == 0) {
    if (leaves) cov_shard_leaves(shard, out, layout, leaves);
    return COV_OK;
  }
  for (int t = 0; t < shard->grid->n; t++) {
    const cov_grid_tensor *gt = &shard->grid->tensor[t];
    const cov_shard_part *part = &shard->part[t];
    float *own = out + cov_shard_offset(shard, layout, t), *velocity = w->params->velocity;
    if (velocity) velocity += cov_shard_offset(shard, COV_LAYOUT_SHARD, t);
    prepare_tensor(w, t);
    for (int64_t b = 0; b < part->n_bands; b++) {
      for (int64_t x = 0; x < gt->X; x++) {
        int64_t at = b * gt->band_elems;
        apply_chunk(w, t, (part->band + b) * gt->X + x, own + at, velocity ? velocity + at : NULL);
      }
    }
  }
  if (leaves) cov_shard_leaves(shard, out, layout, leaves);
  return COV_OK;
}

/* What all payloads of a set must share with the grid; they were checked against it one by one. */
static cov_status check_set(const cov_shard *shard, const cov_payload_view *const *set, int n_set,
                            const cov_outer_params *params) {
  if (!(params->alpha >= -1e4f && params->alpha <= 1e4f))
    return COV_FAIL(COV_EUSAGE, "outer learning rate %g is outside [-1e4, 1e4]", (double)params->alpha);
  if (!(params->momentum >= 0 && params->momentum < 1) || (params->momentum > 0) != (params->velocity != NULL))
    return COV_FAIL(COV_EUSAGE, "outer momentum %g is outside [0, 1), or its velocity is missing or not needed",
                    (double)params->momentum);
  for (int i = 0; i < n_set; i++) {
    if (set[i]->grid != shard->grid || set[i]->head.bins != set[0]->head.bins ||
        set[i]->head.quantiser != set[0]->head.quantiser)
      return COV_FAIL(COV_EBUG, "payload of peer %u was checked against another grid or quantiser",
                      (unsigned)set[i]->head.peer);
  }
  return COV_OK;
}

cov_status cov_outer_apply(const cov_shard *shard, const cov_payload_view *const *set, int n_set,
                           const cov_outer_params *params, const float *theta, float *out, cov_layout layout,
                           uint8_t *leaves) {
  cov_status st = COV_OK;
  COV_TRY(check_set(shard, set, n_set, params));
  size_t n = n_set > 0 ? (size_t)n_set : 1, bins = n_set > 0 ? (size_t)set[0]->head.bins : 0;
  outer_work *w = calloc(1, sizeof *w);
  if (!w) return COV_FAIL(COV_ENOMEM, "outer step");
  w->shard = shard;
  w->params = params;
  w->n_set = n_set;
  w->set = calloc(n, sizeof *w->set);
  w->reader = calloc(n, sizeof *w->reader);
  w->clip.norm = calloc(n, sizeof *w->clip.norm);
  w->clip.factor = calloc(n, sizeof *w->clip.factor);
  w->entry = calloc(n * bins + 1, sizeof *w->entry);
  if (!w->set || !w->reader || !w->clip.norm || !w->clip.factor || !w->entry)
    COV_FAIL_DONE(COV_ENOMEM, "outer step with %d payloads", n_set);
  COV_TRY_DONE(cov_set_sort(set, n_set, w->set));
  cov_float_env env;
  cov_float_env_enter(&env);
  st = apply(w, theta, out, layout, leaves);
  cov_float_env_leave(&env);
done:
  free(w->set);
  free(w->reader);
  free(w->clip.norm);
  free(w->clip.factor);
  free(w->entry);
  free(w);
  return st;
}
