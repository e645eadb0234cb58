#include "sparseloco/outer.h"

#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "sparseloco/float_env.h"
#include "sparseloco/outer_sweep.h"
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

void covi_clip_describe(const cov_payload_view *const *set, int n_set, int t, int clip, cov_clip *out) {
  for (int i = 0; i < n_set; i++) out->norm[i] = set[i]->tensor[t].norm;
  out->median = cov_norm_median(out->norm, n_set);
  for (int i = 0; i < n_set; i++) out->factor[i] = clip ? cov_norm_factor(out->median, out->norm[i]) : 1;
}

void cov_clip_describe(const cov_payload_view *const *set, int n_set, int t, int clip, cov_clip *out) {
  cov_float_env env;
  cov_float_env_enter(&env);
  covi_clip_describe(set, n_set, t, clip, out);
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

/* No step can leave the finite numbers from below 2^127, so whoever is beyond was so before. */
static cov_status judge_theta(const cov_shard *shard, const uint32_t *largest) {
  for (int t = 0; t < shard->grid->n; t++) {
    if (largest[t] >= 0x7F000000u)
      return COV_FAIL(COV_ENUMERIC,
                      "%s held a value that is not finite or 2^127 and more before the outer step: memory was damaged. "
                      "Restart from a checkpoint",
                      shard->grid->params->item[t].name);
  }
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
  if (params->threads < 0 || params->threads > COV_THREADS_MAX)
    return COV_FAIL(COV_EUSAGE, "%d threads for the codec; 1 .. %d are possible", params->threads, COV_THREADS_MAX);
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
  const cov_payload_view **order = calloc(n_set > 0 ? (size_t)n_set : 1, sizeof *order);
  uint32_t *largest = calloc((size_t)shard->grid->n + 1, sizeof *largest);
  covi_outer_sweep sweep = {.shard = shard,
                            .params = params,
                            .set = order,
                            .n_set = n_set,
                            .theta = theta,
                            .out = out,
                            .layout = layout,
                            .leaves = leaves,
                            .threads = params->threads > 0 ? params->threads : 1};
  if (!order || !largest) COV_FAIL_DONE(COV_ENOMEM, "outer step with %d payloads", n_set);
  COV_TRY_DONE(cov_set_sort(set, n_set, order));
  if (n_set > 0) {
    COV_TRY_DONE(covi_outer_step(&sweep, largest));
    COV_TRY_DONE(judge_theta(shard, largest));
  } else {
    if (out != theta) cov_shard_copy(shard, out, layout, theta, layout);
    if (leaves) cov_shard_leaves(shard, out, layout, leaves);
  }
done:
  free(order);
  free(largest);
  return st;
}
