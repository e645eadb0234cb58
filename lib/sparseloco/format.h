/* The bytes of a payload, shared by its writer and its reader (docs/payload.md). Each field is named once, here.
 * Not part of the public interface. */
#ifndef COVENANT_SPARSELOCO_FORMAT_H
#define COVENANT_SPARSELOCO_FORMAT_H

#include <stdint.h>

#include "sparseloco/payload.h"

#define COVI_MAGIC "COVPAYLD" /* 8 bytes, without the NUL */

/* clang-format off */
/*    kind  field of cov_payload_head  offset  bytes */
#define COVI_HEAD_FIELDS(X)           \
  X(RAW,  run_id,         16, 16)     \
  X(INT,  peer,           32,  4)     \
  X(INT,  flags,          36,  4)     \
  X(RAW,  key_hash,       40, 32)     \
  X(INT,  round,          72,  8)     \
  X(RAW,  base_hash,      80, 32)     \
  X(RAW,  params_digest, 112, 32)     \
  X(INT,  inner_steps,   144,  8)     \
  X(INT,  tokens,        152,  8)     \
  X(RAW,  sample_digest, 160, 16)     \
  X(F32,  train_loss,    176,  4)     \
  X(INT,  strategy,      180,  2)     \
  X(INT,  quantiser,     182,  2)     \
  X(INT,  bins,          184,  2)     \
  X(INT,  topk,          186,  2)     \
  X(INT,  edge,          188,  2)
/* clang-format on */

enum { /* offsets of what a payload says about its own shape */
       COVI_AT_VERSION = 8,
       COVI_AT_HEADER_BYTES = 12,
       COVI_AT_CODE_BITS = 190,
       COVI_AT_N_TENSORS = 192,
       COVI_AT_RESERVED_1 = 196, /* 4 bytes, zero */
       COVI_AT_N_KEPT = 200,
       COVI_AT_PAYLOAD_BYTES = 208,
       COVI_AT_RESERVED_2 = 216 /* 40 bytes, zero */
};

enum { COVI_TRAILER_BYTES = COV_PAYLOAD_DIGEST_BYTES + COV_PAYLOAD_SIGNATURE_BYTES, COVI_SECTION_ALIGN_BYTES = 8 };

/* Shape of the section of one tensor, all of it a consequence of grid and quantiser. */
typedef struct {
  uint64_t bytes; /* all of the section, padding included */
  uint32_t tensor;
  uint16_t bins;
  uint8_t code_bits;
  uint8_t index_coder;
  uint64_t n_kept;
  uint32_t k;
  uint32_t table_bytes;
  uint64_t index_bytes, code_bytes; /* not on the wire */
} covi_section;

covi_section covi_section_describe(const cov_grid *grid, const cov_quant_params *quant, int t);
void covi_section_write(const covi_section *s, uint8_t head[COV_PAYLOAD_SECTION_HEAD_BYTES]);

static inline uint64_t covi_get(const uint8_t *at, int bytes) {
  uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; i--) value = value << 8 | at[i];
  return value;
}
static inline void covi_put(uint8_t *at, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> 8 * i);
}

/* Code `at` of a stream of codes of `bits` bits. */
static inline unsigned covi_get_code(const uint8_t *packed, int64_t at, int bits) {
  int64_t bit = at * bits;
  int shift = (int)(bit % 8);
  unsigned value = (unsigned)packed[bit / 8] >> shift;
  if (shift + bits > 8) value |= (unsigned)packed[bit / 8 + 1] << (8 - shift);
  return value & ((1u << bits) - 1u);
}

#endif
