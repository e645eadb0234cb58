#include "sparseloco/payload.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "sparseloco/band.h"
#include "sparseloco/fixed.h"
#include "sparseloco/format.h"
#include "sparseloco/piece.h"

_Static_assert(sizeof(size_t) >= 8, "payloads may exceed 4 GiB");

covi_section covi_section_describe(const cov_grid *grid, const cov_quant_params *quant, cov_index_coder coder, int t) {
  const cov_grid_tensor *gt = &grid->tensor[t];
  return (covi_section){.tensor = (uint32_t)t,
                        .bins = (uint16_t)quant->bins,
                        .index_coder = (uint8_t)covi_index_coder_of(gt, coder),
                        .n_kept = (uint64_t)gt->n_kept,
                        .k = (uint32_t)gt->k,
                        .table_bytes = 8 * (uint32_t)quant->bins};
}

void covi_section_write(const covi_section *s, uint8_t head[COV_PAYLOAD_SECTION_HEAD_BYTES]) {
  covi_put(head, s->bytes, 8);
  covi_put(head + 8, s->tensor, 4);
  covi_put(head + 12, s->bins, 2);
  covi_put(head + 14, s->coded, 1);
  covi_put(head + 15, s->index_coder, 1);
  covi_put(head + 16, s->n_kept, 8);
  covi_put(head + 24, s->k, 4);
  covi_put(head + 28, s->table_bytes, 4);
}

size_t cov_payload_bytes_max(const cov_grid *grid, const cov_quant_params *quant) {
  size_t bytes = COV_PAYLOAD_HEADER_BYTES + COVI_TRAILER_BYTES;
  int code_bits = cov_quant_code_bits((int)quant->id, quant->bins);
  for (int t = 0; t < grid->n; t++) {
    const cov_grid_tensor *gt = &grid->tensor[t];
    bytes += COV_PAYLOAD_SECTION_HEAD_BYTES + 8 * (size_t)quant->bins;
    bytes += (size_t)gt->n_bands * covi_index_bytes_max(gt);
    bytes += covi_code_bytes_max(quant->bins, code_bits, gt->n_bands, gt->X * gt->k);
  }
  return bytes;
}

const uint8_t *cov_payload_digest(const uint8_t *payload, size_t bytes) {
  return payload + bytes - COVI_TRAILER_BYTES;
}

uint8_t *cov_payload_signature(uint8_t *payload, size_t bytes) {
  return payload + bytes - COV_PAYLOAD_SIGNATURE_BYTES;
}

static void write_head(const cov_grid *grid, const cov_quant_params *quant, const cov_payload_head *given, size_t bytes,
                       uint8_t *out) {
  cov_payload_head copy = *given, *head = &copy;
  head->quantiser = (uint16_t)quant->id;
  head->bins = (uint16_t)quant->bins;
  head->topk = (uint16_t)grid->topk;
  head->edge = (uint16_t)grid->edge;
  memset(out, 0, COV_PAYLOAD_HEADER_BYTES);
  memcpy(out, COVI_MAGIC, 8);
#define PUT_RAW(field, offset, size) memcpy(out + offset, head->field, size);
#define PUT_INT(field, offset, size) covi_put(out + offset, head->field, size);
#define PUT_F32(field, offset, size) covi_put(out + offset, cov_float_bits(head->field), size);
#define X(kind, field, offset, size) PUT_##kind(field, offset, size)
  COVI_HEAD_FIELDS(X)
#undef X
  covi_put(out + COVI_AT_VERSION, COV_PAYLOAD_VERSION, 4);
  covi_put(out + COVI_AT_HEADER_BYTES, COV_PAYLOAD_HEADER_BYTES, 4);
  covi_put(out + COVI_AT_N_TENSORS, (uint64_t)grid->n, 4);
  covi_put(out + COVI_AT_N_KEPT, (uint64_t)grid->n_kept, 8);
  covi_put(out + COVI_AT_PAYLOAD_BYTES, bytes, 8);
}

/* A shard's piece, and where the next tensor's part of it begins. */
typedef struct {
  const uint8_t *tables, *counts, *lengths, *part, *end;
  int32_t index_coder;
} piece_view;

/* Check a piece's head and go past it. */
static cov_status open_piece(const cov_grid *grid, const cov_quant_params *quant, int g, int G, const uint8_t **at,
                             size_t *bytes_left, piece_view *view) {
  covi_piece_head head;
  size_t n_bins = (size_t)grid->n * (size_t)quant->bins, least = sizeof head + covi_piece_table_bytes(grid, quant);
  if (*bytes_left < least)
    return COV_FAIL(COV_EBUG, "piece of shard %d has %zu bytes, at least %zu are needed", g, *bytes_left, least);
  memcpy(&head, *at, sizeof head);
  if (head.magic != COVI_PIECE_MAGIC || head.g != g || head.G != G || head.quantiser != (int32_t)quant->id ||
      head.bins != quant->bins || head.n_tensors != grid->n || head.bytes < least || head.bytes > *bytes_left)
    return COV_FAIL(COV_EBUG, "piece %d of %d does not belong to this grid and quantiser, or is out of order", g, G);
  view->tables = *at + sizeof head;
  view->counts = view->tables + n_bins * sizeof(float);
  view->lengths = view->counts + n_bins * sizeof(int64_t);
  view->part = view->lengths + (size_t)grid->n * sizeof(uint64_t);
  view->end = *at + head.bytes;
  view->index_coder = head.index_coder;
  *at += head.bytes;
  *bytes_left -= head.bytes;
  return COV_OK;
}

/* Every shard brings values and counts of all codes; they must be the same bits. */
static cov_status open_pieces(const cov_grid *grid, const cov_quant_params *quant, int G, const uint8_t *pieces,
                              size_t bytes, piece_view *view) {
  size_t n_bins = (size_t)grid->n * (size_t)quant->bins;
  for (int g = 0; g < G; g++) {
    COV_TRY(open_piece(grid, quant, g, G, &pieces, &bytes, &view[g]));
    if (view[g].index_coder != view[0].index_coder)
      return COV_FAIL(COV_EBUG, "shards 0 and %d used different coders for the indices", g);
    if (memcmp(view[g].tables, view[0].tables, n_bins * sizeof(float)) != 0 ||
        memcmp(view[g].counts, view[0].counts, n_bins * sizeof(int64_t)) != 0)
      return COV_FAIL(COV_EBUG, "shards 0 and %d computed different tables: a reduction over shards is wrong", g);
  }
  return bytes == 0 ? COV_OK : COV_FAIL(COV_EBUG, "%zu bytes are left after the pieces of %d shards", bytes, G);
}

/* Values and counts of the codes of tensor t. */
static cov_status write_table(const cov_grid *grid, const cov_quant_params *quant, int t, const piece_view *view,
                              covi_section *s, uint8_t *out) {
  const int bins = quant->bins;
  const cov_grid_tensor *gt = &grid->tensor[t];
  int64_t counts[COV_BINS_MAX], sum = 0;
  covi_code_model model;
  size_t first = (size_t)t * (size_t)bins;
  memcpy(counts, view->counts + first * sizeof *counts, (size_t)bins * sizeof *counts);
  for (int b = 0; b < bins; b++) {
    uint32_t bits;
    memcpy(&bits, view->tables + (first + (size_t)b) * sizeof bits, sizeof bits);
    covi_put(out + 4 * b, bits, 4);
    covi_put(out + 4 * bins + 4 * b, (uint64_t)counts[b], 4);
    sum += counts[b];
  }
  if (bins > 0 && sum != gt->n_kept)
    return COV_FAIL(COV_EBUG, "%s: %lld codes counted, %lld kept", grid->params->item[t].name, (long long)sum,
                    (long long)gt->n_kept);
  covi_code_model_fit(counts, bins, cov_quant_code_bits((int)quant->id, bins), gt->n_bands, gt->X * gt->k, &model);
  s->coded = (uint8_t)model.coded;
  return COV_OK;
}

/* The sections, from the parts of all shards. `end`: of the room for them. */
static cov_status write_sections(const cov_grid *grid, const cov_quant_params *quant, int G, piece_view *view,
                                 uint8_t *out, const uint8_t *end, size_t *bytes) {
  uint8_t *first = out;
  for (int t = 0; t < grid->n; t++) {
    covi_section s = covi_section_describe(grid, quant, (cov_index_coder)view[0].index_coder, t);
    uint8_t *head = out;
    COV_TRY(write_table(grid, quant, t, view, &s, head + COV_PAYLOAD_SECTION_HEAD_BYTES));
    out += COV_PAYLOAD_SECTION_HEAD_BYTES + s.table_bytes;
    for (int g = 0; g < G; g++) {
      uint64_t length;
      memcpy(&length, view[g].lengths + (size_t)t * sizeof length, sizeof length);
      if (length > (uint64_t)(view[g].end - view[g].part) || length > (uint64_t)(end - out))
        return COV_FAIL(COV_EBUG, "the part of %s in piece %d does not fit", grid->params->item[t].name, g);
      memcpy(out, view[g].part, length);
      view[g].part += length;
      out += length;
    }
    s.bytes = (uint64_t)(out - head);
    covi_section_write(&s, head);
  }
  *bytes = (size_t)(out - first);
  return COV_OK;
}

static cov_status write_payload(const cov_grid *grid, const cov_quant_params *quant, const cov_payload_head *given,
                                int G, piece_view *view, uint8_t *payload, size_t *n_bytes) {
  size_t sections, room = cov_payload_bytes_max(grid, quant) - COVI_TRAILER_BYTES;
  cov_payload_head head = *given;
  head.index_coder = (uint16_t)view[0].index_coder;
  COV_TRY(write_sections(grid, quant, G, view, payload + COV_PAYLOAD_HEADER_BYTES, payload + room, &sections));
  *n_bytes = COV_PAYLOAD_HEADER_BYTES + sections + COVI_TRAILER_BYTES;
  write_head(grid, quant, &head, *n_bytes, payload);
  uint8_t *trailer = payload + COV_PAYLOAD_HEADER_BYTES + sections;
  memset(trailer, 0, COVI_TRAILER_BYTES);
  cov_hash(payload, *n_bytes - COVI_TRAILER_BYTES, COV_PAYLOAD_DIGEST_BYTES, trailer);
  return COV_OK;
}

cov_status cov_payload_write(const cov_grid *grid, const cov_quant_params *quant, const cov_payload_head *head, int G,
                             const uint8_t *pieces, size_t pieces_bytes, uint8_t *payload, size_t *bytes) {
  if (head->flags != 0) return COV_FAIL(COV_EBUG, "payload version 1 has no flags, got %x", (unsigned)head->flags);
  if ((cov_float_bits(head->train_loss) & COV_MAGNITUDE_MASK) >= COV_MAGNITUDE_INF)
    return COV_FAIL(COV_ENUMERIC, "the train loss to be reported is not finite");
  if (G < 1) return COV_FAIL(COV_EBUG, "a payload of %d shards", G);
  piece_view *view = calloc((size_t)G, sizeof *view);
  if (!view) return COV_FAIL(COV_ENOMEM, "pieces of %d shards", G);
  cov_status st = open_pieces(grid, quant, G, pieces, pieces_bytes, view);
  if (st == COV_OK) st = write_payload(grid, quant, head, G, view, payload, bytes);
  free(view);
  return st;
}
