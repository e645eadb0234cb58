#include "sparseloco/payload.h"

#include <string.h>

#include "base/hash.h"
#include "sparseloco/fixed.h"
#include "sparseloco/format.h"
#include "sparseloco/piece.h"

_Static_assert(sizeof(size_t) >= 8, "payloads may exceed 4 GiB");

cov_status cov_pack12(const uint16_t *index, size_t count, uint8_t *out) {
  if (count % 2 != 0) return COV_FAIL(COV_EUSAGE, "12-bit packing needs an even number of indices, not %zu", count);
  for (size_t i = 0; i < count; i++) {
    if (index[i] >= 4096) return COV_FAIL(COV_EUSAGE, "index %d does not fit into 12 bits", index[i]);
  }
  for (size_t i = 0; i < count; i += 2, out += 3) {
    unsigned a = index[i], b = index[i + 1];
    out[0] = (uint8_t)(a & 255u);
    out[1] = (uint8_t)(a >> 8 | (b & 15u) << 4);
    out[2] = (uint8_t)(b >> 4);
  }
  return COV_OK;
}

void cov_unpack12(const uint8_t *packed, int64_t first, int n, uint16_t *index) {
  for (int j = 0; j < n; j++) {
    const uint8_t *pair = packed + (first + j) / 2 * 3;
    unsigned value = (first + j) % 2 == 0 ? pair[0] | (pair[1] & 15u) << 8 : pair[1] >> 4 | (unsigned)pair[2] << 4;
    index[j] = (uint16_t)value;
  }
}

covi_section covi_section_describe(const cov_grid *grid, const cov_quant_params *quant, int t) {
  const cov_grid_tensor *gt = &grid->tensor[t];
  covi_section s = {.tensor = (uint32_t)t,
                    .bins = (uint16_t)quant->bins,
                    .code_bits = (uint8_t)cov_quant_code_bits((int)quant->id, quant->bins),
                    .index_coder = gt->k == gt->chunk_elems ? COV_INDEX_ALL : COV_INDEX_PACK12,
                    .n_kept = (uint64_t)gt->n_kept,
                    .k = (uint32_t)gt->k,
                    .table_bytes = 4 * (uint32_t)quant->bins};
  if (s.index_coder == COV_INDEX_PACK12) s.index_bytes = (s.n_kept + 1) / 2 * 3;
  s.code_bytes = (s.n_kept * s.code_bits + 7) / 8;
  uint64_t align = COVI_SECTION_ALIGN_BYTES;
  s.bytes = COV_PAYLOAD_SECTION_HEAD_BYTES + s.table_bytes + s.index_bytes + s.code_bytes;
  s.bytes = (s.bytes + align - 1) / align * align;
  return s;
}

void covi_section_write(const covi_section *s, uint8_t head[COV_PAYLOAD_SECTION_HEAD_BYTES]) {
  covi_put(head, s->bytes, 8);
  covi_put(head + 8, s->tensor, 4);
  covi_put(head + 12, s->bins, 2);
  covi_put(head + 14, s->code_bits, 1);
  covi_put(head + 15, s->index_coder, 1);
  covi_put(head + 16, s->n_kept, 8);
  covi_put(head + 24, s->k, 4);
  covi_put(head + 28, s->table_bytes, 4);
}

size_t cov_payload_bytes_max(const cov_grid *grid, const cov_quant_params *quant) {
  size_t bytes = COV_PAYLOAD_HEADER_BYTES + COVI_TRAILER_BYTES;
  for (int t = 0; t < grid->n; t++) bytes += covi_section_describe(grid, quant, t).bytes;
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
  covi_put(out + COVI_AT_CODE_BITS, (uint64_t)cov_quant_code_bits((int)quant->id, quant->bins), 2);
  covi_put(out + COVI_AT_N_TENSORS, (uint64_t)grid->n, 4);
  covi_put(out + COVI_AT_N_KEPT, (uint64_t)grid->n_kept, 8);
  covi_put(out + COVI_AT_PAYLOAD_BYTES, bytes, 8);
}

/* Entry `at` of a section from one piece entry; the output was zeroed. */
static void put_index(uint8_t *packed, int64_t at, unsigned index) {
  uint8_t *pair = packed + at / 2 * 3;
  if (at % 2 == 0) {
    pair[0] = (uint8_t)index;
    pair[1] |= (uint8_t)(index >> 8);
  } else {
    pair[1] |= (uint8_t)((index & 15u) << 4);
    pair[2] = (uint8_t)(index >> 4);
  }
}

static void put_code(uint8_t *packed, int64_t at, int bits, unsigned code) {
  int64_t bit = at * bits;
  unsigned shifted = code << bit % 8;
  packed[bit / 8] |= (uint8_t)shifted;
  if (shifted > 255u) packed[bit / 8 + 1] |= (uint8_t)(shifted >> 8);
}

/* Where the arrays of a piece are. */
typedef struct {
  const uint8_t *tables, *indices, *entries;
} piece_view;

/* Check a piece's head and go past it. */
static cov_status open_piece(const cov_shard *shard, const cov_quant_params *quant, const uint8_t **at,
                             size_t *bytes_left, piece_view *view) {
  covi_piece_head head;
  size_t need = cov_piece_bytes_max(shard, quant);
  if (*bytes_left < need)
    return COV_FAIL(COV_EBUG, "piece of shard %d has %zu bytes, %zu are needed", shard->g, *bytes_left, need);
  memcpy(&head, *at, sizeof head);
  if (head.magic != COVI_PIECE_MAGIC || head.bytes != need || head.g != shard->g || head.G != shard->G ||
      head.quantiser != (int32_t)quant->id || head.bins != quant->bins || head.n_tensors != shard->grid->n ||
      head.n_kept != (uint64_t)shard->n_kept)
    return COV_FAIL(COV_EBUG, "piece %d of %d does not belong to this grid and quantiser, or is out of order", shard->g,
                    shard->G);
  view->tables = *at + sizeof head;
  view->indices = view->tables + covi_piece_table_bytes(shard->grid, quant);
  view->entries = view->indices + (size_t)shard->n_kept * sizeof(uint16_t);
  *at += need;
  *bytes_left -= need;
  return COV_OK;
}

/* Copy a shard's entries of one tensor into its section. */
static cov_status write_entries(const cov_shard *shard, const cov_quant_params *quant, const piece_view *view, int t,
                                const covi_section *s, uint8_t *section) {
  const cov_grid_tensor *gt = &shard->grid->tensor[t];
  const cov_shard_part *part = &shard->part[t];
  uint8_t *indices = section + COV_PAYLOAD_SECTION_HEAD_BYTES + s->table_bytes, *codes = indices + s->index_bytes;
  int64_t first = part->chunk * gt->k;
  for (int64_t j = 0; j < part->n_kept; j++) {
    uint16_t index;
    memcpy(&index, view->indices + (size_t)(part->kept + j) * sizeof index, sizeof index);
    if (index >= gt->chunk_elems) return COV_FAIL(COV_EBUG, "piece %d: index %d outside its chunk", shard->g, index);
    if (s->index_coder == COV_INDEX_PACK12) put_index(indices, first + j, index);
    if (quant->id == COV_QUANT_NONE) {
      float value;
      memcpy(&value, view->entries + (size_t)(part->kept + j) * sizeof value, sizeof value);
      covi_put(codes + 4 * (first + j), cov_float_bits(value), 4);
    } else {
      uint8_t code = view->entries[part->kept + j];
      if (code >= quant->bins) return COV_FAIL(COV_EBUG, "piece %d: code %d of %d bins", shard->g, code, quant->bins);
      put_code(codes, first + j, s->code_bits, code);
    }
  }
  return COV_OK;
}

/* Copy one piece into the sections. Every shard brings the tables; they must be the same bits. */
static cov_status write_piece(const cov_shard *shard, const cov_quant_params *quant, const piece_view *view,
                              uint8_t *sections) {
  const cov_grid *grid = shard->grid;
  for (int t = 0; t < grid->n; t++) {
    covi_section s = covi_section_describe(grid, quant, t);
    if (shard->g == 0) covi_section_write(&s, sections);
    for (int b = 0; b < quant->bins; b++) {
      uint32_t bits;
      uint8_t *slot = sections + COV_PAYLOAD_SECTION_HEAD_BYTES + 4 * b;
      memcpy(&bits, view->tables + ((size_t)t * (size_t)quant->bins + (size_t)b) * sizeof bits, sizeof bits);
      if (shard->g == 0) covi_put(slot, bits, 4);
      else if (covi_get(slot, 4) != bits)
        return COV_FAIL(COV_EBUG, "shards 0 and %d computed different tables for %s: a reduction over shards is wrong",
                        shard->g, grid->params->item[t].name);
    }
    COV_TRY(write_entries(shard, quant, view, t, &s, sections));
    sections += s.bytes;
  }
  return COV_OK;
}

cov_status cov_payload_write(const cov_grid *grid, const cov_quant_params *quant, const cov_payload_head *head, int G,
                             const uint8_t *pieces, size_t pieces_bytes, uint8_t *payload, size_t *n_bytes) {
  size_t bytes = cov_payload_bytes_max(grid, quant);
  if (head->flags != 0) return COV_FAIL(COV_EBUG, "payload version 1 has no flags, got %x", (unsigned)head->flags);
  if ((cov_float_bits(head->train_loss) & COV_MAGNITUDE_MASK) >= COV_MAGNITUDE_INF)
    return COV_FAIL(COV_ENUMERIC, "the train loss to be reported is not finite");
  memset(payload, 0, bytes);
  write_head(grid, quant, head, bytes, payload);
  for (int g = 0; g < G; g++) {
    cov_shard shard;
    piece_view view;
    COV_TRY(cov_shard_create(grid, g, G, &shard));
    cov_status st = open_piece(&shard, quant, &pieces, &pieces_bytes, &view);
    if (st == COV_OK) st = write_piece(&shard, quant, &view, payload + COV_PAYLOAD_HEADER_BYTES);
    cov_shard_destroy(&shard);
    if (st != COV_OK) return st;
  }
  if (pieces_bytes != 0) return COV_FAIL(COV_EBUG, "%zu bytes are left after the pieces of %d shards", pieces_bytes, G);
  cov_hash(payload, bytes - COVI_TRAILER_BYTES, COV_PAYLOAD_DIGEST_BYTES, payload + bytes - COVI_TRAILER_BYTES);
  *n_bytes = bytes;
  return COV_OK;
}
