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
  X(INT,  edge,          188,  2)     \
  X(INT,  index_coder,   190,  2)
/* clang-format on */

enum { /* offsets of what a payload says about its own shape */
       COVI_AT_VERSION = 8,
       COVI_AT_HEADER_BYTES = 12,
       COVI_AT_N_TENSORS = 192,
       COVI_AT_RESERVED_1 = 196, /* 4 bytes, zero */
       COVI_AT_N_KEPT = 200,
       COVI_AT_PAYLOAD_BYTES = 208,
       COVI_AT_RESERVED_2 = 216 /* 40 bytes, zero */
};

enum { COVI_TRAILER_BYTES = COV_PAYLOAD_DIGEST_BYTES + COV_PAYLOAD_SIGNATURE_BYTES };

/* Head of the section of one tensor. All but its length and the coder of its codes follow from grid, quantiser and the
 * payload's index coder. */
typedef struct {
  uint64_t bytes; /* all of the section */
  uint32_t tensor;
  uint16_t bins;
  uint8_t coded; /* 1: codes are entropy coded */
  uint8_t index_coder;
  uint64_t n_kept;
  uint32_t k;
  uint32_t table_bytes; /* values and counts */
} covi_section;

covi_section covi_section_describe(const cov_grid *grid, const cov_quant_params *quant, cov_index_coder coder, int t);
void covi_section_write(const covi_section *s, uint8_t head[COV_PAYLOAD_SECTION_HEAD_BYTES]);

static inline uint64_t covi_get(const uint8_t *at, int bytes) {
  uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; i--) value = value << 8 | at[i];
  return value;
}
static inline void covi_put(uint8_t *at, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> 8 * i);
}

#endif
