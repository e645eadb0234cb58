/* Quantisers of kept values: a table of values a tensor and a code a value (docs/numerics.md, 4).
 *
 * A quantiser works in passes over the kept values of a shard with an integer reduction over the shards after each, so
 * that its result does not depend on the number of shards:
 *   pass 1  (common)  largest magnitude bits of the tensor, which fixes the fixed-point unit
 *   pass 2  moments   n_moments words a tensor, summed
 *   fit               statistics from the totals
 *   codes             one code a value
 *   pass 3  (common)  count and sum of q a bin, summed; the payload's coder needs the counts too
 *   table             decoded value of each code
 * All functions are Local. */
#ifndef COVENANT_SPARSELOCO_QUANTISE_H
#define COVENANT_SPARSELOCO_QUANTISE_H

#include <stdint.h>

#include "base/status.h"

enum { COV_BINS_MAX = 256, COV_MOMENTS_MAX = 3 };
#define COV_VALUE_MAX 65536.0f /* largest |value| that may travel: anything beyond is a diverged run or an attack */

/* Numbers as on the wire (docs/payload.md); never reuse one. */
typedef enum { COV_QUANT_REFERENCE = 1, COV_QUANT_SIGN1 = 2, COV_QUANT_NONE = 3, COV_QUANT_SIGN2 = 4 } cov_quant_id;

typedef struct {
  cov_quant_id id;
  int bins;    /* reference: 2..256 (4 in production); sign1: 2; sign2: 4; none: 0 */
  float range; /* reference: width of the grid in standard deviations, > 0 (6 in production); others: ignored */
} cov_quant_params;

typedef struct {
  int64_t n;    /* kept values of the tensor, all shards */
  int exponent; /* E of the fixed point */
  float shift;  /* reference: mean; others: 0 */
  float scale; /* reference: bin width; sign1: the magnitude; sign2: the mean magnitude, which parts small from large */
} cov_quant_stats;

typedef struct {
  const char *name;
  cov_quant_id id;
  int n_moments; /* words a tensor in pass 2 */
  /** words[n_moments] += sums over v[n]. NULL if n_moments is 0. */
  void (*moments)(const float *v, int64_t n, int exponent, int64_t *words);
  /** stats->n and ->exponent are set; fills shift and scale. */
  void (*fit)(const cov_quant_params *params, const int64_t *words, cov_quant_stats *stats);
  /** code[i] of v[i]. */
  void (*codes)(const cov_quant_params *params, const cov_quant_stats *stats, const float *v, int64_t n, uint8_t *code);
  /** table[bins] from counts[bins] and sums[bins] of pass 3. */
  void (*table)(const cov_quant_params *params, const cov_quant_stats *stats, const int64_t *counts,
                const int64_t *sums, float *table);
} cov_quantiser;

/** The quantiser with this number; NULL if there is none. COV_QUANT_NONE has no functions: values travel as they are.
 */
const cov_quantiser *cov_quantiser_get(int id);
/** Check params: COV_EUSAGE with the range that was left. */
cov_status cov_quant_verify(const cov_quant_params *params);
/** Bins of a quantiser, where `configured` is what the reference has. */
int cov_quant_bins(int id, int configured);
/** Bits a value on the wire, uncoded: ceil(log2(bins)), 32 for none. */
int cov_quant_code_bits(int id, int bins);
/** counts[bins], sums[bins] += over v[n] with its codes (pass 3). */
void cov_quant_count(const float *v, const uint8_t *code, int64_t n, int exponent, int bins, int64_t *counts,
                     int64_t *sums);

#endif
