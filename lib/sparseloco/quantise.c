#include "sparseloco/quantise.h"

#include <math.h>
#include <stddef.h>

#include "sparseloco/fixed.h"
#include "sparseloco/width.h"

static void reference_moments(const float *v, int64_t n, int exponent, int64_t *words) {
  covi_moments m = {0};
  covi_width_get()->moments(v, n, exponent, &m);
  words[0] += m.sum;
  words[1] += m.sq_hi;
  words[2] += m.sq_lo;
}

static void reference_fit(const cov_quant_params *params, const int64_t *words, cov_quant_stats *stats) {
  stats->shift = (float)cov_fixed_mean(words[0], stats->n, stats->exponent);
  stats->scale = 1.0f;
  if (stats->n < 2) return;
  double deviation = cov_fixed_deviation(words[0], words[1], words[2], stats->n, stats->exponent);
  double width = (double)params->range * deviation;
  float scale = (float)(width / (double)params->bins);
  if (scale > 0 && scale <= 3.402823466e38f) stats->scale = scale;
}

static void reference_codes(const cov_quant_params *params, const cov_quant_stats *stats, const float *v, int64_t n,
                            uint8_t *code) {
  const int middle = params->bins / 2;
  const covi_coding coding = {
      .shift = stats->shift, .scale = stats->scale, .middle = (float)middle, .top = params->bins - 1};
  covi_width_get()->codes(v, n, &coding, code);
}

static void reference_table(const cov_quant_params *params, const cov_quant_stats *stats, const int64_t *counts,
                            const int64_t *sums, float *table) {
  for (int b = 0; b < params->bins; b++)
    table[b] = counts[b] > 0 ? (float)cov_fixed_mean(sums[b], counts[b], stats->exponent) : 0.0f;
}

static void sign1_moments(const float *v, int64_t n, int exponent, int64_t *words) {
  covi_moments m = {0};
  covi_width_get()->moments(v, n, exponent, &m);
  words[0] += m.magnitude;
}

static void sign1_fit(const cov_quant_params *params, const int64_t *words, cov_quant_stats *stats) {
  (void)params;
  stats->shift = 0;
  stats->scale = (float)cov_fixed_mean(words[0], stats->n, stats->exponent);
}

static void sign1_codes(const cov_quant_params *params, const cov_quant_stats *stats, const float *v, int64_t n,
                        uint8_t *code) {
  (void)params, (void)stats;
  for (int64_t i = 0; i < n; i++) code[i] = (uint8_t)(1u - (cov_float_bits(v[i]) >> 31));
}

static void sign1_table(const cov_quant_params *params, const cov_quant_stats *stats, const int64_t *counts,
                        const int64_t *sums, float *table) {
  (void)params, (void)counts, (void)sums;
  table[0] = stats->scale > 0 ? -stats->scale : 0.0f;
  table[1] = stats->scale;
}

/* Codes by sign and size: 0 negative and large, 1 negative, 2 positive, 3 positive and large. Moments and threshold are
 * sign1's: the mean magnitude. */
static void sign2_codes(const cov_quant_params *params, const cov_quant_stats *stats, const float *v, int64_t n,
                        uint8_t *code) {
  (void)params;
  uint32_t threshold = cov_float_bits(stats->scale);
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits = cov_float_bits(v[i]), large = (bits & COV_MAGNITUDE_MASK) > threshold;
    code[i] = (uint8_t)(bits >> 31 ? 1 - large : 2 + large);
  }
}

/* Mean magnitude of the entries that have either of two codes, of which `low` is the negative one. */
static float mean_of_pair(const int64_t *counts, const int64_t *sums, int low, int high, int exponent) {
  int64_t n = counts[low] + counts[high];
  return n > 0 ? (float)cov_fixed_mean(sums[high] - sums[low], n, exponent) : 0.0f;
}

static void sign2_table(const cov_quant_params *params, const cov_quant_stats *stats, const int64_t *counts,
                        const int64_t *sums, float *table) {
  (void)params;
  table[2] = mean_of_pair(counts, sums, 1, 2, stats->exponent);
  table[3] = mean_of_pair(counts, sums, 0, 3, stats->exponent);
  table[1] = table[2] > 0 ? -table[2] : 0.0f;
  table[0] = table[3] > 0 ? -table[3] : 0.0f;
}

static const cov_quantiser quantisers[] = {
    {"reference", COV_QUANT_REFERENCE, 3, reference_moments, reference_fit, reference_codes, reference_table},
    {"sign1", COV_QUANT_SIGN1, 1, sign1_moments, sign1_fit, sign1_codes, sign1_table},
    {"sign2", COV_QUANT_SIGN2, 1, sign1_moments, sign1_fit, sign2_codes, sign2_table},
    {"none", COV_QUANT_NONE, 0, NULL, NULL, NULL, NULL},
};

const cov_quantiser *cov_quantiser_get(int id) {
  for (size_t i = 0; i < sizeof quantisers / sizeof *quantisers; i++) {
    if ((int)quantisers[i].id == id) return &quantisers[i];
  }
  return NULL;
}

cov_status cov_quant_verify(const cov_quant_params *params) {
  switch (params->id) {
  case COV_QUANT_REFERENCE:
    if (params->bins < 2 || params->bins > COV_BINS_MAX)
      return COV_FAIL(COV_EUSAGE, "quantiser bins %d is outside [2, %d]", params->bins, COV_BINS_MAX);
    if (!(params->range > 0 && params->range <= 1e6f))
      return COV_FAIL(COV_EUSAGE, "quantiser range %g is outside (0, 1e6]", (double)params->range);
    return COV_OK;
  case COV_QUANT_SIGN1:
    return params->bins == 2 ? COV_OK : COV_FAIL(COV_EUSAGE, "sign1 has 2 bins, not %d", params->bins);
  case COV_QUANT_SIGN2:
    return params->bins == 4 ? COV_OK : COV_FAIL(COV_EUSAGE, "sign2 has 4 bins, not %d", params->bins);
  case COV_QUANT_NONE:
    return params->bins == 0 ? COV_OK : COV_FAIL(COV_EUSAGE, "without a quantiser bins is 0, not %d", params->bins);
  }
  return COV_FAIL(COV_EUSAGE, "there is no quantiser number %d", (int)params->id);
}

int cov_quant_bins(int id, int configured) {
  switch (id) {
  case COV_QUANT_REFERENCE:
    return configured;
  case COV_QUANT_SIGN1:
    return 2;
  case COV_QUANT_SIGN2:
    return 4;
  default:
    return 0;
  }
}

int cov_quant_code_bits(int id, int bins) {
  if (id == COV_QUANT_NONE) return 32;
  int bits = 1;
  while ((1 << bits) < bins) bits++;
  return bits;
}

void cov_quant_count(const float *v, const uint8_t *code, int64_t n, int exponent, int bins, int64_t *counts,
                     int64_t *sums) {
  covi_width_get()->count(v, code, n, exponent, bins, counts, sums);
}
