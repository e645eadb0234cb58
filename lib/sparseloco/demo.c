#include "sparseloco/demo.h"

#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "sparseloco/fixed.h"
#include "sparseloco/float_env.h"
#include "sparseloco/state_hash.h"

cov_status cov_demo_create(const cov_shard *shard, int sign, int threads, cov_demo *demo) {
  void *p;
  *demo = (cov_demo){.shard = shard, .sign = sign, .threads = threads};
  COV_TRY(cov_dct_create(shard->grid->edge, &demo->dct));
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_OUTER, (size_t)shard->elems, sizeof(float), &p));
  demo->zero = p;
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_OUTER, (size_t)shard->elems, sizeof(float), &p));
  demo->coefficients = p;
  memset(demo->zero, 0, (size_t)shard->elems * sizeof(float));
  return COV_OK;
}

void cov_demo_destroy(cov_demo *demo) {
  cov_dct_destroy(&demo->dct);
  cov_mem_free(demo->zero);
  cov_mem_free(demo->coefficients);
  *demo = (cov_demo){0};
}

/* ---- chunk after chunk ---- */

/* One pass over the shard: theta and theta_end to coefficients, or coefficients and theta to `out`. */
typedef struct {
  cov_demo *demo;
  float alpha;
  const float *theta, *theta_end;
  float *out;
} pass;

/* A chunk, given by its first elements in the space and in the coefficients. Rows are gt->cols apart in both. */
typedef void chunk_work(const pass *p, const cov_grid_tensor *gt, int64_t space_at, int64_t packed_at);

static void project_chunk(const pass *p, const cov_grid_tensor *gt, int64_t space_at, int64_t packed_at) {
  float moved[COV_CHUNK_ELEMS_MAX], transformed[COV_CHUNK_ELEMS_MAX];
  for (int i = 0; i < gt->h; i++) {
    const float *start = p->theta + space_at + i * gt->cols, *end = p->theta_end + space_at + i * gt->cols;
    for (int j = 0; j < gt->w; j++) moved[i * gt->w + j] = end[j] - start[j];
  }
  cov_dct_forward(&p->demo->dct, gt->h, gt->w, moved, transformed);
  for (int i = 0; i < gt->h; i++) {
    memcpy(p->demo->coefficients + packed_at + i * gt->cols, transformed + i * gt->w, (size_t)gt->w * sizeof(float));
  }
}

static float sign_of(float x) {
  return (float)((x > 0) - (x < 0));
}

static void step_chunk(const pass *p, const cov_grid_tensor *gt, int64_t space_at, int64_t packed_at) {
  float aggregate[COV_CHUNK_ELEMS_MAX], step[COV_CHUNK_ELEMS_MAX];
  for (int i = 0; i < gt->h; i++) {
    memcpy(aggregate + i * gt->w, p->demo->coefficients + packed_at + i * gt->cols, (size_t)gt->w * sizeof(float));
  }
  cov_dct_inverse(&p->demo->dct, gt->h, gt->w, aggregate, step);
  for (int i = 0; i < gt->h; i++) {
    const float *theta = p->theta + space_at + i * gt->cols;
    float *out = p->out + space_at + i * gt->cols;
    for (int j = 0; j < gt->w; j++) {
      float d = step[i * gt->w + j];
      float scaled = p->alpha * (p->demo->sign ? sign_of(d) : d);
      out[j] = theta[j] - scaled;
    }
  }
}

typedef struct {
  const pass *pass;
  chunk_work *work;
} sweep;

/* Threads share out the bands of each tensor. */
static void run_slot(void *context, int slot, int parts) {
  const sweep *s = context;
  const cov_shard *shard = s->pass->demo->shard;
  cov_float_env env;
  cov_float_env_enter(&env);
  for (int t = 0; t < shard->grid->n; t++) {
    const cov_grid_tensor *gt = &shard->grid->tensor[t];
    const int64_t space = cov_shard_offset(shard, COV_LAYOUT_SPAN, t);
    const int64_t packed = cov_shard_offset(shard, COV_LAYOUT_SHARD, t), n = shard->part[t].n_bands;
    for (int64_t band = n * slot / parts; band < n * (slot + 1) / parts; band++) {
      for (int64_t x = 0; x < gt->X; x++) {
        const int64_t at = band * gt->band_elems + x * gt->w;
        s->work(s->pass, gt, space + at, packed + at);
      }
    }
  }
  cov_float_env_leave(&env);
}

static void run(const pass *p, chunk_work *work) {
  sweep s = {.pass = p, .work = work};
  cov_parallel_run(p->demo->threads, run_slot, &s);
}

/* ---- the two ways ---- */

void cov_demo_project(cov_demo *demo, const float *theta, const float *theta_end) {
  const pass p = {.demo = demo, .theta = theta, .theta_end = theta_end};
  run(&p, project_chunk);
}

/* Coefficients are at most COV_VALUE_MAX, so |D| < 2^24 and |alpha D| < 2^38: below 2^127 theta stays finite. */
static cov_status verify_theta(const cov_shard *shard, const float *theta) {
  const uint32_t limit = cov_float_bits(0x1p127f);
  for (int t = 0; t < shard->grid->n; t++) {
    const int64_t first = cov_shard_offset(shard, COV_LAYOUT_SPAN, t);
    uint32_t largest = 0;
    for (int64_t i = first; i < first + shard->part[t].elems; i++) {
      uint32_t magnitude = cov_float_bits(theta[i]) & COV_MAGNITUDE_MASK;
      if (magnitude > largest) largest = magnitude;
    }
    if (largest < limit) continue;
    return COV_FAIL(COV_ENUMERIC,
                    "%s holds a value that is not finite or 2^127 and more; the outer step was not taken. Restart from "
                    "a checkpoint",
                    shard->grid->params->item[t].name);
  }
  return COV_OK;
}

cov_status cov_demo_apply(cov_demo *demo, const cov_payload_view *const *set, int n_set, const cov_outer_params *params,
                          const float *theta, float *out, uint8_t *leaves) {
  COV_ASSERT(params->momentum == 0);
  cov_outer_params mean = *params;
  mean.alpha = -1; /* 0 - (-1 D) */
  COV_TRY(verify_theta(demo->shard, theta));
  COV_TRY(cov_outer_apply(demo->shard, set, n_set, &mean, demo->zero, demo->coefficients, COV_LAYOUT_SHARD, NULL));
  const pass p = {.demo = demo, .alpha = params->alpha, .theta = theta, .out = out};
  run(&p, step_chunk);
  if (leaves) cov_shard_leaves(demo->shard, out, COV_LAYOUT_SPAN, leaves);
  return COV_OK;
}
