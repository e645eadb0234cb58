/* libFuzzer entry for the payload parser: whatever arrives is refused or decodes to something lawful.
 *
 * Byte 0 chooses the quantiser (low two bits), the index coder (bit 4), a tensor large enough for every way of coding
 * (bit 5), whether chunks are sent whole (bit 3: what the dense strategies do, with
 * 256 bins in place of 4), sign2 in place of all those quantisers (bit 6), another strategy (bit 7), and how the rest
 * is used: as the payload itself, or (bit 2) as edits of a valid one, three bytes each (offset low, offset high,
 * value), with the digest made good afterwards, so that the fuzzer gets behind the checksum. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "sparseloco/encoder.h"
#include "sparseloco/fixed.h"
#include "sparseloco/outer.h"
#include "sparseloco/payload_reader.h"
#include "sparseloco/payload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_TENSORS = 3, SPAN = 96 + 16 + 16, WIDE = 64 * 4096, MOST_KEPT = 4096 };

static cov_param items[N_TENSORS] = {
    {.name = "matrix", .dims = 2, .rows = 8, .cols = 12, .elems = 96},
    {.name = "gain", .dims = 1, .rows = 1, .cols = 10, .elems = 10, .offset = 96},
    {.name = "prime", .dims = 1, .rows = 1, .cols = 7, .elems = 7, .offset = 112},
};
static const cov_params params = {.item = items, .n = N_TENSORS, .elems = 113, .span = SPAN};
static cov_param wide_item = {.name = "wide", .dims = 2, .rows = 64, .cols = 4096, .elems = WIDE};
static const cov_params wide_params = {.item = &wide_item, .n = 1, .elems = WIDE, .span = WIDE}; /* as a real tensor */
static const cov_quant_params quants[4] = {{.id = COV_QUANT_REFERENCE, .bins = 4, .range = 6},
                                           {.id = COV_QUANT_REFERENCE, .bins = 5, .range = 6},
                                           {.id = COV_QUANT_SIGN1, .bins = 2},
                                           {.id = COV_QUANT_NONE}};
static const cov_quant_params int8 = {.id = COV_QUANT_REFERENCE, .bins = 256, .range = 6};
static const cov_quant_params sign2 = {.id = COV_QUANT_SIGN2, .bins = 4};
static const uint8_t zeros[32];

static void must(int condition) {
  if (!condition) abort();
}

/* A valid payload to start from. Code 1 is rare in the wide one, so that codes are entropy coded there. */
static uint8_t *valid_payload(const cov_grid *grid, const cov_quant_params *quant, cov_index_coder coder,
                              cov_strategy_id strategy, size_t *bytes) {
  static uint16_t indices[MOST_KEPT];
  static uint8_t codes[MOST_KEPT];
  static float values[MOST_KEPT], tables[N_TENSORS * 256];
  int at = 0;
  for (int t = 0; t < grid->n; t++) {
    const cov_grid_tensor *gt = &grid->tensor[t];
    for (int64_t c = 0; c < gt->n_chunks; c++) {
      for (int i = 0; i < gt->k; i++, at++) {
        indices[at] = (uint16_t)(gt->chunk_elems > 1000 ? i * 61 + (i * 7 + (int)c) % 50 : i);
        codes[at] = (uint8_t)(gt->chunk_elems > 1000 ? at % 9 == 0 : at % 2);
        values[at] = (float)(at - 20);
      }
    }
  }
  for (int i = 0; i < N_TENSORS * 256; i++) tables[i] = (float)(i - 7);
  int quantised = quant->id != COV_QUANT_NONE;
  cov_piece content = {.tables = quantised ? tables : NULL,
                       .indices = indices,
                       .codes = quantised ? codes : NULL,
                       .values = quantised ? NULL : values,
                       .index_coder = coder};
  cov_payload_head head = {.strategy = strategy};
  cov_shard shard;
  must(cov_shard_create(grid, 0, 1, &shard) == COV_OK);
  size_t piece_bytes = cov_piece_bytes_max(&shard, quant);
  uint8_t *piece = malloc(piece_bytes);
  must(cov_piece_write(&shard, quant, &content, piece, &piece_bytes) == COV_OK);
  *bytes = cov_payload_bytes_max(grid, quant);
  uint8_t *payload = malloc(*bytes);
  must(cov_payload_write(grid, quant, &head, 1, piece, piece_bytes, payload, bytes) == COV_OK);
  free(piece);
  cov_shard_destroy(&shard);
  return payload;
}

static void edit(uint8_t *payload, size_t bytes, const uint8_t *data, size_t size) {
  size_t covered = bytes - COV_PAYLOAD_DIGEST_BYTES - COV_PAYLOAD_SIGNATURE_BYTES;
  for (; size >= 3; data += 3, size -= 3) payload[((size_t)data[0] | (size_t)data[1] << 8) % covered] = data[2];
  cov_hash(payload, covered, COV_PAYLOAD_DIGEST_BYTES, payload + covered);
}

/* Everything that was accepted is in bounds, and an outer step can be taken with it. */
static void use(const cov_grid *grid, const cov_payload_view *view) {
  for (int t = 0; t < grid->n; t++) {
    const cov_grid_tensor *gt = &grid->tensor[t];
    cov_payload_reader reader;
    cov_payload_reader_open(&reader, view, t, 0);
    for (int64_t c = 0; c < gt->n_chunks; c++) {
      uint16_t index[64];
      float value[64];
      cov_payload_reader_values(&reader, index, value);
      for (int i = 0; i < gt->k; i++) {
        must(index[i] < gt->chunk_elems && (i == 0 || index[i - 1] < index[i]));
        must((cov_float_bits(value[i]) & COV_MAGNITUDE_MASK) <= cov_float_bits(COV_VALUE_MAX));
      }
    }
  }
  cov_shard shard;
  static float theta[WIDE]; /* the wider of the spans; what it holds does not matter */
  cov_outer_params outer = {.alpha = 0.7f, .clip = 1};
  must(cov_shard_create(grid, 0, 1, &shard) == COV_OK);
  must(cov_outer_apply(&shard, &view, 1, &outer, theta, theta, COV_LAYOUT_SPAN, NULL) == COV_OK);
  cov_shard_destroy(&shard);
}

/* In two pieces, the second of which is not there when the first is looked at: the same verdict. */
static void check_as_it_comes(const uint8_t *payload, size_t bytes, const cov_payload_expect *expect,
                              cov_status whole) {
  size_t first = bytes / 3;
  uint8_t *copy = malloc(bytes + 1);
  cov_payload_stream *stream;
  cov_payload_view view;
  memset(copy, 0xA5, bytes + 1);
  memcpy(copy, payload, first);
  cov_status st = cov_payload_stream_open(copy, bytes, expect, &stream);
  if (st == COV_OK) st = cov_payload_stream_advance(stream, first);
  memcpy(copy, payload, bytes);
  if (st == COV_OK) {
    st = cov_payload_stream_end(&stream, &view);
    cov_payload_close(&view);
  }
  cov_payload_stream_close(&stream);
  must(st == whole);
  free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static cov_grid grids[3];
  if (!grids[0].tensor) must(cov_grid_create(&params, 8, 6, &grids[0]) == COV_OK);
  if (!grids[1].tensor) must(cov_grid_create(&params, 8, COV_CHUNK_ELEMS_MAX, &grids[1]) == COV_OK);
  if (!grids[2].tensor) must(cov_grid_create(&wide_params, 64, 64, &grids[2]) == COV_OK);
  if (size < 1) return 0;
  int whole = data[0] >> 3 & 1;
  const cov_grid *grid = &grids[data[0] & 32 ? 2 : whole];
  const cov_quant_params *quant = whole && (data[0] & 3) == 0 ? &int8 : &quants[data[0] & 3];
  if (data[0] & 64) quant = &sign2;
  cov_strategy_id strategy = !(data[0] & 128) ? COV_STRATEGY_SPARSELOCO
                             : whole          ? COV_STRATEGY_DENSE
                                              : COV_STRATEGY_DEMO;
  cov_index_coder coder = data[0] & 16 ? COV_INDEX_SPLIT : COV_INDEX_RICE;
  cov_payload_expect expect = {
      .grid = grid, .quant = *quant, .strategy = strategy, .run_id = zeros, .params_digest = zeros, .peer = -1};
  size_t bytes = size - 1;
  uint8_t *payload;
  if (data[0] & 4) {
    payload = valid_payload(grid, quant, coder, strategy, &bytes);
    edit(payload, bytes, data + 1, size - 1);
  } else {
    payload = malloc(bytes + 1);
    memcpy(payload, data + 1, bytes);
  }
  cov_payload_view view;
  cov_payload_head head;
  cov_status peeked = cov_payload_peek(payload, bytes, &head);
  cov_status st = cov_payload_check(payload, bytes, &expect, &view);
  must(st == COV_OK || st == COV_EREMOTE);
  must(st != COV_OK || peeked == COV_OK);
  if (st == COV_OK) use(grid, &view);
  cov_payload_close(&view);
  check_as_it_comes(payload, bytes, &expect, st);
  free(payload);
  return 0;
}
