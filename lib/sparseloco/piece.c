#include "sparseloco/piece.h"

#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "sparseloco/band.h"
#include "sparseloco/fixed.h"
#include "sparseloco/format.h"

enum { SCRATCH_ALIGN = 64 };

size_t covi_piece_table_bytes(const cov_grid *grid, const cov_quant_params *quant) {
  size_t n = (size_t)grid->n, bins = (size_t)quant->bins;
  return n * (bins * (sizeof(float) + sizeof(int64_t)) + sizeof(uint64_t));
}

/* What a band of the tensor does not exceed. */
static size_t band_bytes_max(const cov_grid_tensor *gt, const cov_quant_params *quant) {
  int code_bits = cov_quant_code_bits((int)quant->id, quant->bins);
  return covi_index_bytes_max(gt) + covi_code_band_bytes_max(code_bits, gt->X * gt->k);
}

size_t cov_piece_bytes_max(const cov_shard *shard, const cov_quant_params *quant) {
  size_t bytes = sizeof(covi_piece_head) + covi_piece_table_bytes(shard->grid, quant);
  for (int t = 0; t < shard->grid->n; t++)
    bytes += (size_t)shard->part[t].n_bands * band_bytes_max(&shard->grid->tensor[t], quant);
  return bytes;
}

/* Each thread writes its share of the bands of every tensor to where it lies if all bands before it are as long as they
 * can be; then the shares are moved together. */
typedef struct {
  const cov_shard *shard;
  const cov_quant_params *quant;
  const cov_piece *content;
  cov_index_coder coder;
  int threads;
  int64_t *counts;          /* [n * bins] */
  uint8_t *parts;           /* of the piece */
  uint64_t *start, *length; /* [n * threads]: in parts, of the share of thread s of tensor t at t threads + s */
  int *bad;                 /* [threads]: 1 + a tensor whose content is none, or 0 */
  size_t index_scratch, slot_scratch; /* bytes: for indices; and in all, of one thread */
  uint8_t *scratch;                   /* [threads * slot_scratch] */
} piece_writer;

static uint8_t *append(uint8_t *at, const void *data, size_t bytes) {
  if (bytes > 0) memcpy(at, data, bytes);
  return at + bytes;
}

static uint8_t *write_values(const float *value, int64_t n, uint8_t *out) {
  for (int64_t i = 0; i < n; i++, out += 4) covi_put(out, cov_float_bits(value[i]), 4);
  return out;
}

/* Own bands first .. end-1 of tensor t; returns the end. */
static uint8_t *write_bands(const piece_writer *w, int t, int64_t first, int64_t end, uint8_t *scratch, uint8_t *out) {
  const cov_grid_tensor *gt = &w->shard->grid->tensor[t];
  const cov_piece *content = w->content;
  cov_index_coder coder = covi_index_coder_of(gt, w->coder);
  int64_t n = gt->X * gt->k, kept = w->shard->part[t].kept;
  covi_code_model model;
  covi_coded coded[COVI_BANDS_AT_ONCE] = {{0}};
  covi_code_model_fit(w->counts + (size_t)t * (size_t)w->quant->bins, w->quant->bins,
                      cov_quant_code_bits((int)w->quant->id, w->quant->bins), gt->n_bands, n, &model);
  for (int64_t b = first; b < end; b += COVI_BANDS_AT_ONCE) {
    int bands = end - b < COVI_BANDS_AT_ONCE ? (int)(end - b) : COVI_BANDS_AT_ONCE;
    int64_t at = kept + b * n;
    if (!content->values)
      covi_code_write_bands(&model, content->codes + at, n, bands, scratch + w->index_scratch, coded);
    for (int j = 0; j < bands; j++, at += n) {
      out = covi_index_write(gt, coder, content->indices + at, scratch, out);
      out = content->values ? write_values(content->values + at, n, out) : append(out, coded[j].at, coded[j].bytes);
    }
  }
  return out;
}

/* The writers of bands trust their input; a selection that went wrong must not become a payload. */
static int is_content(const piece_writer *w, int t, int64_t first, int64_t end) {
  const cov_grid_tensor *gt = &w->shard->grid->tensor[t];
  int64_t at = w->shard->part[t].kept + first * gt->X * gt->k, n = (end - first) * gt->X;
  const uint16_t *index = w->content->indices + at;
  const uint8_t *code = w->content->codes ? w->content->codes + at : NULL;
  int good = 1;
  for (int64_t c = 0; c < n; c++, index += gt->k) {
    for (int i = 1; i < gt->k; i++) good &= index[i - 1] < index[i];
    good &= index[gt->k - 1] < gt->chunk_elems;
  }
  for (int64_t j = 0; code && j < n * gt->k; j++) good &= code[j] < w->quant->bins;
  return good;
}

static void write_shares(void *context, int slot, int parts) {
  const piece_writer *w = context;
  uint8_t *scratch = w->scratch + (size_t)slot * w->slot_scratch;
  uint64_t at = 0;
  for (int t = 0; t < w->shard->grid->n; t++) {
    size_t most = band_bytes_max(&w->shard->grid->tensor[t], w->quant),
           place = (size_t)t * (size_t)parts + (size_t)slot;
    int64_t n = w->shard->part[t].n_bands, first = n * slot / parts, end = n * (slot + 1) / parts;
    if (!is_content(w, t, first, end)) w->bad[slot] = t + 1;
    if (w->bad[slot]) return;
    uint8_t *share = w->parts + at + (uint64_t)first * most;
    w->start[place] = (uint64_t)(share - w->parts);
    w->length[place] = (uint64_t)(write_bands(w, t, first, end, scratch, share) - share);
    at += (uint64_t)n * most;
  }
}

static cov_status judge_shares(const piece_writer *w) {
  for (int s = 0; s < w->threads; s++) {
    if (w->bad[s])
      return COV_FAIL(COV_EBUG, "shard %d: indices of %s are not ascending, or a code is not below %d", w->shard->g,
                      w->shard->grid->params->item[w->bad[s] - 1].name, w->quant->bins);
  }
  return COV_OK;
}

/* Together, towards the front. `lengths`: [n] of the tensors, 8 bytes each. Returns the end. */
static uint8_t *close_ranks(const piece_writer *w, uint8_t *lengths) {
  uint8_t *out = w->parts;
  for (int t = 0; t < w->shard->grid->n; t++) {
    uint64_t length = 0;
    for (int s = 0; s < w->threads; s++) {
      size_t place = (size_t)t * (size_t)w->threads + (size_t)s;
      memmove(out, w->parts + w->start[place], w->length[place]);
      out += w->length[place];
      length += w->length[place];
    }
    lengths = append(lengths, &length, sizeof length);
  }
  return out;
}

/* counts[n * bins]: as given, or of the codes, for one shard. */
static void take_counts(const piece_writer *w) {
  size_t bins = (size_t)w->quant->bins, n = (size_t)w->shard->grid->n;
  if (w->content->counts) {
    memcpy(w->counts, w->content->counts, n * bins * sizeof *w->counts);
    return;
  }
  for (size_t t = 0; t < n && bins > 0; t++) {
    const cov_shard_part *part = &w->shard->part[t];
    for (int64_t j = 0; j < part->n_kept; j++) {
      size_t code = w->content->codes[part->kept + j];
      if (code < bins) w->counts[t * bins + code]++; /* what is not is found when it is to be written */
    }
  }
}

static cov_status write_piece(piece_writer *w, uint8_t *piece, size_t *bytes) {
  const cov_shard *shard = w->shard;
  size_t n = (size_t)shard->grid->n, n_bins = n * (size_t)w->quant->bins;
  uint8_t *at = piece + sizeof(covi_piece_head);
  take_counts(w);
  if (n_bins > 0) at = append(at, w->content->tables, n_bins * sizeof(float));
  at = append(at, w->counts, n_bins * sizeof *w->counts);
  w->parts = at + n * sizeof(uint64_t);
  cov_parallel_run(w->threads, write_shares, w);
  COV_TRY(judge_shares(w));
  *bytes = (size_t)(close_ranks(w, at) - piece);
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
  return COV_OK;
}

/* Scratch for the bands of any tensor. */
static void plan_scratch(piece_writer *w) {
  const cov_grid *grid = w->shard->grid;
  int code_bits = cov_quant_code_bits((int)w->quant->id, w->quant->bins);
  size_t codes = 0;
  for (int t = 0; t < grid->n; t++) {
    const cov_grid_tensor *gt = &grid->tensor[t];
    size_t index = w->coder == COV_INDEX_SPLIT ? covi_index_scratch_bytes(gt) : 0;
    size_t room = w->content->values ? 0 : COVI_BANDS_AT_ONCE * covi_code_band_bytes_max(code_bits, gt->X * gt->k);
    if (index > w->index_scratch) w->index_scratch = index;
    if (room > codes) codes = room;
  }
  w->index_scratch = (w->index_scratch + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
  w->slot_scratch = (w->index_scratch + codes + SCRATCH_ALIGN) / SCRATCH_ALIGN * SCRATCH_ALIGN;
}

cov_status cov_piece_write(const cov_shard *shard, const cov_quant_params *quant, const cov_piece *content,
                           uint8_t *piece, size_t *bytes) {
  piece_writer w = {.shard = shard,
                    .quant = quant,
                    .content = content,
                    .coder = content->index_coder == COV_INDEX_ALL ? COV_INDEX_RICE : content->index_coder,
                    .threads = content->threads > 0 ? content->threads : 1};
  cov_status st = COV_OK;
  size_t n = (size_t)shard->grid->n, places = n * (size_t)w.threads + 1;
  plan_scratch(&w);
  w.counts = calloc(n * (size_t)quant->bins + 1, sizeof *w.counts);
  w.start = calloc(places, sizeof *w.start);
  w.length = calloc(places, sizeof *w.length);
  w.bad = calloc((size_t)w.threads, sizeof *w.bad);
  w.scratch = aligned_alloc(SCRATCH_ALIGN, (size_t)w.threads * w.slot_scratch);
  if (!w.counts || !w.start || !w.length || !w.bad || !w.scratch)
    COV_FAIL_DONE(COV_ENOMEM, "piece of shard %d", shard->g);
  st = write_piece(&w, piece, bytes);
done:
  free(w.counts);
  free(w.start);
  free(w.length);
  free(w.bad);
  free(w.scratch);
  return st;
}
