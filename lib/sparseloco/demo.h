/* DeMo (decoupled momentum, Peng et al. 2024; protocol 3.4, 3.10): top-k of the cosine transform of each chunk instead
 * of the chunk itself. The transform is linear and orthonormal, so error feedback is kept in coefficients and all else
 * stays as it is: what goes through the encoder is the transformed pseudo-gradient, what is added up and divided are
 * coefficients, and only the aggregate is transformed back.
 *
 *   c   = transform of theta_end - theta          cov_demo_project: then encode with theta = 0, theta_end = c
 *   D   = inverse transform of the aggregate      cov_demo_apply
 *   theta <- theta - alpha * D, or - alpha * sign(D)
 *
 * Chunks are never cut, sums inside one have a fixed order and every operation is rounded to fp32 on its own: any
 * sharding and any number of threads give the same bits (docs/numerics.md). All functions are Local. */
#ifndef COVENANT_SPARSELOCO_DEMO_H
#define COVENANT_SPARSELOCO_DEMO_H

#include "sparseloco/dct.h"
#include "sparseloco/outer.h"

typedef struct {
  const cov_shard *shard; /* borrowed */
  cov_dct dct;
  int sign;            /* 1: the step takes the sign of D */
  int threads;         /* >= 1 */
  float *zero;         /* [shard->elems] COV_LAYOUT_SHARD, owned */
  float *coefficients; /* likewise */
} cov_demo;

/** Tables and two buffers. cov_demo_destroy is due also after an error. */
cov_status cov_demo_create(const cov_shard *shard, int sign, int threads, cov_demo *demo);
void cov_demo_destroy(cov_demo *demo);

/** demo->coefficients <- transform of theta_end - theta, both [span]. */
void cov_demo_project(cov_demo *demo, const float *theta, const float *theta_end);
/** As cov_outer_apply with COV_LAYOUT_SPAN on payloads that hold coefficients; overwrites demo->coefficients.
 *  params->momentum must be 0. COV_ENUMERIC, naming the tensor, if a |theta| of the shard is 2^127 or more, infinite or
 *  NaN; then nothing has been written to `out`. */
cov_status cov_demo_apply(cov_demo *demo, const cov_payload_view *const *set, int n_set, const cov_outer_params *params,
                          const float *theta, float *out, uint8_t *leaves);

#endif
