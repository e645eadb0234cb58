#include "cli/bench_quantisers.h"

#include <stdlib.h>
#include <string.h>

#include "common/loop_settings.h"
#include "sparseloco/fixed.h"
#include "sparseloco/payload_reader.h"

/* Kept values of the last round, as they are: value[n_kept]. */
static cov_status keep_values(const bench_rounds *r, float *feedback, uint8_t *piece, uint8_t *payload, float *value) {
  cov_outer_settings set;
  cov_outer_settings_of(&r->q->cfg, &set);
  const cov_quant_params none = {.id = COV_QUANT_NONE};
  const cov_encoder_params params = {
      .quant = none, .beta = set.beta, .theta_layout = COV_LAYOUT_SPAN, .feedback_layout = COV_LAYOUT_SPAN};
  cov_payload_head head = {.strategy = r->strategy};
  const cov_payload_expect expect = {.grid = &r->grid,
                                     .quant = none,
                                     .strategy = r->strategy,
                                     .run_id = head.run_id,
                                     .params_digest = head.params_digest,
                                     .peer = -1};
  cov_encoder *encoder;
  cov_payload_view view;
  size_t piece_bytes, bytes;
  COV_TRY(cov_encoder_create(&r->shard, &params, &encoder));
  cov_status st = cov_encoder_encode(encoder, r->theta, r->peer[0].end, feedback, NULL);
  if (st == COV_OK) st = cov_encoder_piece(encoder, piece, &piece_bytes);
  cov_encoder_destroy(&encoder);
  COV_TRY(st);
  COV_TRY(cov_payload_write(&r->grid, &none, &head, 1, piece, piece_bytes, payload, &bytes));
  COV_TRY(cov_payload_check(payload, bytes, &expect, &view));
  for (int t = 0; t < r->grid.n; t++) {
    const cov_grid_tensor *gt = &r->grid.tensor[t];
    uint16_t index[COV_CHUNK_ELEMS_MAX];
    cov_payload_reader reader;
    cov_payload_reader_open(&reader, &view, t, 0);
    for (int64_t c = 0; c < gt->n_chunks; c++)
      cov_payload_reader_values(&reader, index, value + gt->kept_first + c * gt->k);
  }
  cov_payload_close(&view);
  return COV_OK;
}

/* Squared error of one tensor's values v[n] under a quantiser. code[n] is scratch. */
static double tensor_error(const cov_quant_params *params, const float *v, int64_t n, uint8_t *code) {
  const cov_quantiser *q = cov_quantiser_get((int)params->id);
  int64_t words[COV_MOMENTS_MAX] = {0}, counts[COV_BINS_MAX] = {0}, sums[COV_BINS_MAX] = {0};
  float table[COV_BINS_MAX];
  uint32_t largest = 0;
  double error = 0;
  for (int64_t i = 0; i < n; i++) {
    uint32_t magnitude = cov_float_bits(v[i]) & COV_MAGNITUDE_MASK;
    largest = magnitude > largest ? magnitude : largest;
  }
  cov_quant_stats stats = {.n = n, .exponent = cov_fixed_exponent(largest)};
  q->moments(v, n, stats.exponent, words);
  q->fit(params, words, &stats);
  q->codes(params, &stats, v, n, code);
  cov_quant_count(v, code, n, stats.exponent, params->bins, counts, sums);
  q->table(params, &stats, counts, sums, table);
  for (int64_t i = 0; i < n; i++) {
    double lost = (double)v[i] - (double)table[code[i]];
    error += lost * lost;
  }
  return error;
}

static void put_errors(const cov_grid *grid, const float *value, uint8_t *code, bench_report *report) {
  static const cov_quant_params tried[] = {{.id = COV_QUANT_REFERENCE, .bins = 4, .range = 6},
                                           {.id = COV_QUANT_SIGN2, .bins = 4},
                                           {.id = COV_QUANT_SIGN1, .bins = 2}};
  double squares = 0;
  for (int64_t i = 0; i < grid->n_kept; i++) squares += (double)value[i] * (double)value[i];
  for (size_t q = 0; q < sizeof tried / sizeof *tried; q++) {
    double error = 0;
    char key[64];
    for (int t = 0; t < grid->n; t++)
      error += tensor_error(&tried[q], value + grid->tensor[t].kept_first, grid->tensor[t].n_kept, code);
    snprintf(key, sizeof key, "%s_error", cov_quantiser_get((int)tried[q].id)->name);
    bench_put_number(report, key, squares > 0 ? error / squares : 0);
  }
}

cov_status bench_quantisers_measure(const bench_rounds *r, bench_report *report) {
  if (r->strategy != COV_STRATEGY_SPARSELOCO) return COV_OK;
  const cov_quant_params none = {.id = COV_QUANT_NONE};
  cov_status st = COV_OK;
  size_t span_bytes = (size_t)r->model->params.span * sizeof(float), kept = (size_t)r->grid.n_kept;
  float *feedback = malloc(span_bytes), *value = malloc(kept * sizeof *value + 1);
  uint8_t *piece = malloc(cov_piece_bytes_max(&r->shard, &none));
  uint8_t *payload = malloc(cov_payload_bytes_max(&r->grid, &none)), *code = malloc(kept + 1);
  if (!feedback || !value || !piece || !payload || !code) COV_FAIL_DONE(COV_ENOMEM, "no memory for %zu values", kept);
  memcpy(feedback, r->peer[0].feedback, span_bytes);
  COV_TRY_DONE(keep_values(r, feedback, piece, payload, value));
  put_errors(&r->grid, value, code, report);
done:
  free(feedback);
  free(value);
  free(piece);
  free(payload);
  free(code);
  return st;
}
