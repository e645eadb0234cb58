/* Layout of a shard's piece (written by the encoder, read by the payload assembler): head, values and counts of the
 * codes, bytes of each tensor's part, parts. A part is the shard's bands of the tensor as they lie in the payload. It
 * stays inside one peer, so it is in native byte order and is trusted as far as its head goes.
 * Not part of the public interface. */
#ifndef COVENANT_SPARSELOCO_PIECE_H
#define COVENANT_SPARSELOCO_PIECE_H

#include <stdint.h>

#include "sparseloco/encoder.h"

typedef struct {
  uint32_t magic;
  int32_t quantiser, bins, g, G, n_tensors, index_coder, reserved;
  uint64_t bytes; /* of the whole piece */
  uint64_t n_kept;
} covi_piece_head;

#define COVI_PIECE_MAGIC 0x45435057u

/** Bytes between the head and the parts: tables, counts, lengths. */
size_t covi_piece_table_bytes(const cov_grid *grid, const cov_quant_params *quant);

#endif
