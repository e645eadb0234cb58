#include "sparseloco/piece.h"

#include <stdlib.h>
#include <string.h>

#include "sparseloco/band.h"
#include "sparseloco/fixed.h"
#include "sparseloco/format.h"

size_t covi_piece_table_bytes(const cov_grid *grid, const cov_quant_params *quant) {
  size_t n = (size_t)grid->n, bins = (size_t)quant->bins;
  return n * (bins * (sizeof(float) + sizeof(int64_t)) + sizeof(uint64_t));
}

size_t cov_piece_bytes_max(const cov_shard *shard, const cov_quant_params *quant) {
  size_t bytes = sizeof(covi_piece_head) + covi_piece_table_bytes(shard->grid, quant);
  int code_bits = cov_quant_code_bits((int)quant->id, quant->bins);
  for (int t = 0; t < shard->grid->n; t++) {
    const cov_grid_tensor *gt = &shard->grid->tensor[t];
    size_t band = covi_index_bytes_max(gt) + covi_code_band_bytes_max(code_bits, gt->X * gt->k);
    bytes += (size_t)shard->part[t].n_bands * band;
  }
  return bytes;
}

/* What writing the parts needs besides their content. */
typedef struct {
  const cov_shard *shard;
  const cov_quant_params *quant;
  const cov_piece *content;
  cov_index_coder coder;
  uint8_t *scratch; /* for a band of any tensor */
} piece_writer;

static uint8_t *write_values(const float *value, int64_t n, uint8_t *out) {
  for (int64_t i = 0; i < n; i++, out += 4) covi_put(out, cov_float_bits(value[i]), 4);
  return out;
}

/* The shard's bands of tensor t; returns the end. */
static uint8_t *write_part(const piece_writer *w, int t, const int64_t *counts, uint8_t *out) {
  const cov_grid_tensor *gt = &w->shard->grid->tensor[t];
  const cov_shard_part *part = &w->shard->part[t];
  cov_index_coder coder = covi_index_coder_of(gt, w->coder);
  int64_t n = gt->X * gt->k;
  covi_code_model model;
  covi_code_model_fit(counts, w->quant->bins, cov_quant_code_bits((int)w->quant->id, w->quant->bins), gt->n_bands, n,
                      gt->k, &model);
  for (int64_t b = 0; b < part->n_bands; b++) {
    int64_t at = part->kept + b * n;
    out = covi_index_write(gt, coder, w->content->indices + at, w->scratch, out);
    out = w->content->values ? write_values(w->content->values + at, n, out)
                             : covi_code_write(&model, w->content->codes + at, n, out);
  }
  return out;
}

/* The writers of bands trust their input; a selection that went wrong must not become a payload. */
static cov_status check_content(const piece_writer *w) {
  const cov_shard *shard = w->shard;
  for (int t = 0; t < shard->grid->n; t++) {
    const cov_grid_tensor *gt = &shard->grid->tensor[t];
    const uint16_t *index = w->content->indices + shard->part[t].kept;
    const uint8_t *code = w->content->codes ? w->content->codes + shard->part[t].kept : NULL;
    int good = 1;
    for (int64_t c = 0; c < shard->part[t].n_chunks; c++, index += gt->k) {
      for (int i = 1; i < gt->k; i++) good &= index[i - 1] < index[i];
      good &= index[gt->k - 1] < gt->chunk_elems;
    }
    for (int64_t j = 0; code && j < shard->part[t].n_kept; j++) good &= code[j] < w->quant->bins;
    if (!good)
      return COV_FAIL(COV_EBUG, "shard %d: indices of %s are not ascending, or a code is not below %d", shard->g,
                      shard->grid->params->item[t].name, w->quant->bins);
  }
  return COV_OK;
}

/* counts[n * bins]: as given, or of the codes, for one shard. */
static void take_counts(const piece_writer *w, int64_t *counts) {
  size_t bins = (size_t)w->quant->bins, n = (size_t)w->shard->grid->n;
  if (w->content->counts) {
    memcpy(counts, w->content->counts, n * bins * sizeof *counts);
    return;
  }
  memset(counts, 0, n * bins * sizeof *counts);
  for (size_t t = 0; t < n && bins > 0; t++) {
    const cov_shard_part *part = &w->shard->part[t];
    for (int64_t j = 0; j < part->n_kept; j++) counts[t * bins + w->content->codes[part->kept + j]]++;
  }
}

static size_t most_scratch_bytes(const cov_grid *grid) {
  size_t most = 1;
  for (int t = 0; t < grid->n; t++) {
    size_t bytes = covi_index_scratch_bytes(&grid->tensor[t]);
    if (bytes > most) most = bytes;
  }
  return most;
}

static uint8_t *append(uint8_t *at, const void *data, size_t bytes) {
  if (bytes > 0) memcpy(at, data, bytes);
  return at + bytes;
}

static void write_piece(const piece_writer *w, int64_t *counts, uint8_t *piece, size_t *bytes) {
  const cov_shard *shard = w->shard;
  size_t n = (size_t)shard->grid->n, n_bins = n * (size_t)w->quant->bins;
  uint8_t *at = piece + sizeof(covi_piece_head);
  take_counts(w, counts);
  if (n_bins > 0) at = append(at, w->content->tables, n_bins * sizeof(float));
  at = append(at, counts, n_bins * sizeof *counts);
  uint8_t *lengths = at;
  at += n * sizeof(uint64_t);
  for (size_t t = 0; t < n; t++) {
    uint8_t *end = write_part(w, (int)t, counts + t * (size_t)w->quant->bins, at);
    uint64_t length = (uint64_t)(end - at);
    lengths = append(lengths, &length, sizeof length);
    at = end;
  }
  *bytes = (size_t)(at - piece);
  covi_piece_head head = {.magic = COVI_PIECE_MAGIC,
                          .quantiser = (int32_t)w->quant->id,
                          .bins = w->quant->bins,
                          .g = shard->g,
                          .G = shard->G,
                          .n_tensors = shard->grid->n,
                          .index_coder = (int32_t)w->coder,
                          .bytes = *bytes,
                          .n_kept = (uint64_t)shard->n_kept};
  memcpy(piece, &head, sizeof head);
}

cov_status cov_piece_write(const cov_shard *shard, const cov_quant_params *quant, const cov_piece *content,
                           uint8_t *piece, size_t *bytes) {
  piece_writer w = {.shard = shard, .quant = quant, .content = content, .coder = content->index_coder};
  cov_status st = COV_OK;
  if (w.coder == COV_INDEX_ALL) w.coder = COV_INDEX_RICE;
  int64_t *counts = calloc((size_t)shard->grid->n * (size_t)quant->bins + 1, sizeof *counts);
  w.scratch = malloc(w.coder == COV_INDEX_SPLIT ? most_scratch_bytes(shard->grid) : 1);
  if (!counts || !w.scratch) COV_FAIL_DONE(COV_ENOMEM, "piece of shard %d", shard->g);
  COV_TRY_DONE(check_content(&w));
  write_piece(&w, counts, piece, bytes);
done:
  free(counts);
  free(w.scratch);
  return st;
}
