/* Reading a checked payload in order: chunk after chunk of one tensor, from the start of any band. This is the fast way
 * to the entries and the only one whose cost does not depend on where they are; sweeps over theta hold one reader a
 * payload. All functions are Local; readers of one view may be used by different threads. */
#ifndef COVENANT_SPARSELOCO_PAYLOAD_READER_H
#define COVENANT_SPARSELOCO_PAYLOAD_READER_H

#include "sparseloco/band.h"
#include "sparseloco/payload.h"

/* Where a reader is. A plain value: copy it to come back to a place. Nothing to close. */
typedef struct {
  const cov_payload_view *view;     /* borrowed */
  const cov_payload_tensor *tensor; /* borrowed */
  const cov_grid_tensor *shape;     /* borrowed */
  int64_t band, chunk;              /* of the next chunk: its band, and its place in the band */
  covi_index_reader index;
  covi_code_reader code;
  const uint8_t *values; /* none: of the next chunk */
} cov_payload_reader;

/** Stand before the first chunk of `band` of tensor t; band = its number of bands: at the end. */
void cov_payload_reader_open(cov_payload_reader *reader, const cov_payload_view *view, int t, int64_t band);
/** The next chunk: index[k] ascending, code[k]. Not for COV_QUANT_NONE. Chunks follow each other in the order of the
 *  tensor, across bands; reading past the last one is a mistake of the caller. */
void cov_payload_reader_codes(cov_payload_reader *reader, uint16_t *index, uint8_t *code);
/** The first half of the same for readers side by side: the indices alone. */
void cov_payload_reader_indices(cov_payload_reader *reader, uint16_t *index);
/** The second half, for n <= 16 readers of the same tensor, each of whose models is a chain (covi_code_chain) of
 * `chains`: value[16 i + l] of entry i of reader l, i < k. Faster than one reader after the other. */
void cov_payload_reader_entries(cov_payload_reader *const *reader, int n, covi_chains *chains, float *value);
/** The next chunk with decoded values instead of codes; for every quantiser. */
void cov_payload_reader_values(cov_payload_reader *reader, uint16_t *index, float *value);

#endif
