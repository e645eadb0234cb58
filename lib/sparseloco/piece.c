#include "sparseloco/piece.h"

#include <string.h>

size_t covi_piece_table_bytes(const cov_grid *grid, const cov_quant_params *quant) {
  return (size_t)grid->n * (size_t)quant->bins * sizeof(float);
}

size_t covi_piece_entry_bytes(const cov_quant_params *quant) {
  return quant->id == COV_QUANT_NONE ? sizeof(float) : sizeof(uint8_t);
}

size_t cov_piece_bytes_max(const cov_shard *shard, const cov_quant_params *quant) {
  size_t entry = sizeof(uint16_t) + covi_piece_entry_bytes(quant);
  return sizeof(covi_piece_head) + covi_piece_table_bytes(shard->grid, quant) + (size_t)shard->n_kept * entry;
}

static uint8_t *append(uint8_t *at, const void *data, size_t bytes) {
  if (bytes > 0) memcpy(at, data, bytes);
  return at + bytes;
}

size_t cov_piece_write(const cov_shard *shard, const cov_quant_params *quant, const cov_piece *content,
                       uint8_t *piece) {
  covi_piece_head head = {.magic = COVI_PIECE_MAGIC,
                          .quantiser = (int32_t)quant->id,
                          .bins = quant->bins,
                          .g = shard->g,
                          .G = shard->G,
                          .n_tensors = shard->grid->n,
                          .bytes = cov_piece_bytes_max(shard, quant),
                          .n_kept = (uint64_t)shard->n_kept};
  const void *entries = content->values;
  if (quant->id != COV_QUANT_NONE) entries = content->codes;
  piece = append(piece, &head, sizeof head);
  piece = append(piece, content->tables, covi_piece_table_bytes(shard->grid, quant));
  piece = append(piece, content->indices, (size_t)shard->n_kept * sizeof *content->indices);
  append(piece, entries, (size_t)shard->n_kept * covi_piece_entry_bytes(quant));
  return head.bytes;
}
