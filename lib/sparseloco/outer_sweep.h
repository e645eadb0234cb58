/* The outer step over a shard's bands: decode, sum, step and hash, chunk after chunk, while each is in the caches.
 * Bands are shared out to threads; nothing crosses them but the leaves' places, so their number never shows in a
 * result. Not part of the public interface. */
#ifndef COVENANT_SPARSELOCO_OUTER_SWEEP_H
#define COVENANT_SPARSELOCO_OUTER_SWEEP_H

#include "sparseloco/outer.h"

/* All borrowed; one step. */
typedef struct {
  const cov_shard *shard;
  const cov_outer_params *params;
  const cov_payload_view *const *set; /* [n_set], ascending peer number */
  int n_set;
  const float *theta;
  float *out;
  cov_layout layout;
  uint8_t *leaves; /* NULL: none */
  int threads;
} covi_outer_sweep;

/** The step; largest[n]: of each tensor the largest magnitude bits that theta had, over the own bands. COV_ENOMEM
 * before anything is written. */
cov_status covi_outer_step(const covi_outer_sweep *sweep, uint32_t *largest);

/** Clip factors of tensor t; inside cov_float_env_enter. */
void covi_clip_describe(const cov_payload_view *const *set, int n_set, int t, int clip, cov_clip *out);

#endif
