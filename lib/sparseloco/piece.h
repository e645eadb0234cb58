/* Layout of a shard's piece (written by the encoder, read by the payload assembler). It stays inside one peer, so it is
 * in native byte order and is trusted as far as its head goes: head, tables, indices, codes or values, nothing between.
 * Not part of the public interface. */
#ifndef COVENANT_SPARSELOCO_PIECE_H
#define COVENANT_SPARSELOCO_PIECE_H

#include <stdint.h>

#include "sparseloco/encoder.h"

typedef struct {
  uint32_t magic;
  int32_t quantiser, bins, g, G, n_tensors;
  uint64_t bytes; /* of the whole piece */
  uint64_t n_kept;
} covi_piece_head;

#define COVI_PIECE_MAGIC 0x45435056u

/** Bytes of the tables, and of one entry's code or value. */
size_t covi_piece_table_bytes(const cov_grid *grid, const cov_quant_params *quant);
size_t covi_piece_entry_bytes(const cov_quant_params *quant);

#endif
