#include "cli/bench_coders.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_entropy.h"
#include "cli/bench_machine.h"
#include "sparseloco/payload_reader.h"

enum { N_CODERS = 2 };
static const struct {
  cov_index_coder id;
  const char *name;
} coders[N_CODERS] = {{COV_INDEX_RICE, "rice"}, {COV_INDEX_SPLIT, "split"}};

typedef struct {
  const bench_rounds *rounds;
  uint16_t *index; /* [n_kept], like all entries in kept order; owned, like all that follows */
  uint8_t *code;
  uint8_t *piece, *payload;
  double *encode, *decode; /* [reps] values by processor time */
  size_t payload_bytes;
} coder_bench;

static cov_status open_bench(coder_bench *b, const cov_payload_view *view, int64_t reps) {
  const bench_rounds *r = b->rounds;
  size_t kept = (size_t)r->grid.n_kept;
  b->index = calloc(kept + 1, sizeof *b->index);
  b->code = calloc(kept + 1, 1);
  b->piece = calloc(cov_piece_bytes_max(&r->shard, &r->quant), 1); /* touched, so that no page is new when timed */
  b->payload = calloc(r->payload_bytes_max, 1);
  b->encode = calloc((size_t)reps, sizeof *b->encode);
  b->decode = calloc((size_t)reps, sizeof *b->decode);
  if (!b->index || !b->code || !b->piece || !b->payload || !b->encode || !b->decode)
    return COV_FAIL(COV_ENOMEM, "no memory for %zu entries", kept);
  for (int t = 0; t < r->grid.n; t++) {
    const cov_grid_tensor *gt = &r->grid.tensor[t];
    cov_payload_reader reader;
    cov_payload_reader_open(&reader, view, t, 0);
    for (int64_t c = 0, at = gt->kept_first; c < gt->n_chunks; c++, at += gt->k)
      cov_payload_reader_codes(&reader, b->index + at, b->code + at);
  }
  return COV_OK;
}

static void close_bench(coder_bench *b) {
  free(b->index);
  free(b->code);
  free(b->piece);
  free(b->payload);
  free(b->encode);
  free(b->decode);
}

/* Read all entries; what they are is not looked at, so a sum of them keeps the work from being left out. */
static uint64_t read_all(const cov_payload_view *view) {
  uint16_t index[COV_CHUNK_ELEMS_MAX];
  uint8_t code[COV_CHUNK_ELEMS_MAX];
  uint64_t sum = 0;
  for (int t = 0; t < view->grid->n; t++) {
    cov_payload_reader reader;
    cov_payload_reader_open(&reader, view, t, 0);
    for (int64_t c = 0; c < view->grid->tensor[t].n_chunks; c++) {
      cov_payload_reader_codes(&reader, index, code);
      sum += index[0] + code[0];
    }
  }
  return sum;
}

static cov_status once(coder_bench *b, const cov_payload_view *view, int coder, double *encode_s, double *decode_s) {
  const bench_rounds *r = b->rounds;
  const cov_piece content = {.tables = view->tables,
                             .counts = view->counts,
                             .indices = b->index,
                             .codes = b->code,
                             .index_coder = coders[coder].id};
  const cov_payload_expect expect = {.grid = &r->grid,
                                     .quant = r->quant,
                                     .strategy = r->strategy,
                                     .run_id = view->head.run_id,
                                     .params_digest = view->head.params_digest,
                                     .round = view->head.round,
                                     .peer = -1};
  size_t piece_bytes;
  cov_payload_view again;
  double start = bench_cpu_s();
  COV_TRY(cov_piece_write(&r->shard, &r->quant, &content, b->piece, &piece_bytes));
  *encode_s = bench_cpu_s() - start;
  COV_TRY(cov_payload_write(&r->grid, &r->quant, &view->head, 1, b->piece, piece_bytes, b->payload, &b->payload_bytes));
  COV_TRY(cov_payload_check(b->payload, b->payload_bytes, &expect, &again));
  start = bench_cpu_s();
  uint64_t sum = read_all(&again);
  *decode_s = bench_cpu_s() - start;
  cov_status st = COV_OK;
  if (sum != read_all(view)) st = COV_FAIL(COV_EBUG, "%s does not give back what was coded", coders[coder].name);
  cov_payload_close(&again);
  return st;
}

/* Bits a value: log2 of the number of ways to choose k of a chunk, and the entropy of the codes of each tensor. */
static void entropies(const cov_payload_view *view, double *index_bits, double *code_bits) {
  const cov_grid *grid = view->grid;
  *index_bits = *code_bits = 0;
  for (int t = 0; t < grid->n; t++) {
    const cov_grid_tensor *gt = &grid->tensor[t];
    double n = gt->chunk_elems, k = gt->k;
    *index_bits += (double)gt->n_chunks * (lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)) / log(2);
    for (int b = 0; b < view->head.bins; b++) {
      double count = (double)view->tensor[t].counts[b];
      if (count > 0) *code_bits -= count * log2(count / (double)gt->n_kept);
    }
  }
  *index_bits /= (double)grid->n_kept;
  *code_bits /= (double)grid->n_kept;
}

static cov_status measure(coder_bench *b, const cov_payload_view *view, int64_t reps, bench_report *report) {
  const double values = (double)b->rounds->grid.n_kept;
  double bits[N_CODERS], seconds[N_CODERS], index_bits, code_bits, context_bits;
  char key[64];
  entropies(view, &index_bits, &code_bits);
  COV_TRY(bench_entropy_indices(&b->rounds->grid, b->index, &context_bits));
  bench_put_number(report, "index_entropy_bits_per_value", index_bits);
  bench_put_number(report, "index_context_bits_per_value", context_bits / values);
  bench_put_number(report, "code_entropy_bits_per_value", code_bits);
  for (int c = 0; c < N_CODERS; c++) {
    for (int64_t i = -1; i < reps; i++) {
      double encode_s, decode_s;
      COV_TRY(once(b, view, c, &encode_s, &decode_s));
      if (i < 0) continue;
      b->encode[i] = values / encode_s;
      b->decode[i] = values / decode_s;
    }
    bits[c] = 8.0 * (double)b->payload_bytes / values;
    snprintf(key, sizeof key, "%s_bits_per_value", coders[c].name);
    bench_put_number(report, key, bits[c]);
    snprintf(key, sizeof key, "%s_encode_values_per_cpu_s", coders[c].name);
    double encode = bench_put_samples(report, key, b->encode, reps);
    snprintf(key, sizeof key, "%s_decode_values_per_cpu_s", coders[c].name);
    double decode = bench_put_samples(report, key, b->decode, reps);
    seconds[c] = 1 / encode + 2 / decode; /* a receiver decodes to check and to apply */
  }
  double saved = bits[0] - bits[1], more = seconds[1] - seconds[0];
  bench_put_number(report, "split_pays_below_mbit_per_s", more > 0 && saved > 0 ? saved / more / 1e6 : 0);
  return COV_OK;
}

cov_status bench_coders_measure(const bench_rounds *rounds, const cov_payload_view *view, int64_t reps,
                                bench_report *report) {
  if (rounds->quant.id == COV_QUANT_NONE || rounds->grid.topk == COV_CHUNK_ELEMS_MAX) return COV_OK;
  coder_bench b = {.rounds = rounds};
  cov_status st = open_bench(&b, view, reps);
  if (st == COV_OK) st = measure(&b, view, reps, report);
  close_bench(&b);
  return st;
}
