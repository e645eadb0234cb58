/* For the tests of lib/sparseloco: parameter tables without a model, shards as threads, payloads in one call. */
#ifndef COVENANT_TESTS_SPARSE_CASES_H
#define COVENANT_TESTS_SPARSE_CASES_H

#include <stddef.h>
#include <stdint.h>

#include "sparseloco/encoder.h"
#include "sparseloco/payload.h"

typedef struct {
  const char *name;
  int64_t rows, cols; /* rows 0: a vector of cols elements */
} sparse_shape;

/** A table of these tensors; release with sparse_params_free. */
void sparse_params(cov_params *params, const sparse_shape *shapes, int n);
void sparse_params_free(cov_params *params);

/** Shapes that have every corner: whole and odd chunks, prime dimensions, more shards than bands. */
extern const sparse_shape sparse_mixed[];
extern const int sparse_n_mixed;

/** [span] floats, owned by the caller (free): pure functions of (seed, element), magnitudes spread over `binades`
 * factors of two around `scale`; padding stays zero. */
float *sparse_random(const cov_params *params, uint64_t seed, float scale, int binades);
float *sparse_copy(const float *x, int64_t n);

cov_encoder_params sparse_params_of(cov_quant_id id);
cov_payload_head sparse_head(uint32_t peer);
cov_payload_expect sparse_expect(const cov_grid *grid, const cov_quant_params *quant);

/** Encode on G shards, one thread each, theta buffers in span layout, feedback as params says but gathered from and
 *  written back to a span buffer. *payload is owned by the caller (free). The worst status of the shards. */
cov_status sparse_encode(const cov_grid *grid, const cov_encoder_params *params, int G, const float *theta,
                         const float *theta_end, float *feedback, const cov_payload_head *head, uint8_t **payload,
                         size_t *bytes);
/** Text of the first shard that failed in the last sparse_encode. */
const char *sparse_failure(void);

/** Payload from entries given by hand (kept order of the whole space). */
uint8_t *sparse_by_hand(const cov_grid *grid, const cov_quant_params *quant, const cov_payload_head *head,
                        const cov_piece *content, size_t *bytes);

/** Recompute the digest after tampering. */
void sparse_redigest(uint8_t *payload, size_t bytes);

/** Outer step on G shards over span buffers, hash[32] of the result. */
cov_status sparse_step(const cov_grid *grid, int G, const cov_payload_view *const *set, int n_set, float alpha,
                       int mean, int clip, const float *theta, float *out, uint8_t hash[32]);

#endif
