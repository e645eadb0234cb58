/* A band of a tensor as it lies in a payload: its indices, then its codes or values, each a whole number of bytes and
 * readable without any other band. Shards write their own bands, a payload is those of all shards in a row, so the
 * bytes do not depend on the number of shards. Not part of the public interface. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_BAND_H
#define COVENANT_SPARSELOCO_BAND_H

#include "sparseloco/code_model.h"
#include "sparseloco/grid.h"
#include "sparseloco/index_coder.h"
#include "sparseloco/rice.h"
#include "sparseloco/split.h"

/** The coder of a tensor when the payload's is `wanted`: ALL if k is the whole chunk, RICE where there is no SPLIT. */
cov_index_coder covi_index_coder_of(const cov_grid_tensor *shape, cov_index_coder wanted);
/** What the indices of a band do not exceed, whatever the coder. */
size_t covi_index_bytes_max(const cov_grid_tensor *shape);
/** Scratch bytes for writing a band of this shape. */
size_t covi_index_scratch_bytes(const cov_grid_tensor *shape);
/** Write the indices of a band; returns the end. */
uint8_t *covi_index_write(const cov_grid_tensor *shape, cov_index_coder coder, const uint16_t *index, uint8_t *scratch,
                          uint8_t *out);

typedef struct {
  cov_index_coder coder;
  int k;
  const uint8_t *at; /* ALL */
  union {
    covi_rice_reader rice;
    covi_split_reader split;
  } of;
} covi_index_reader;

/** Before the first chunk of a band at `at`; 0 if it cannot end before `end`. `coder` is that of the tensor. */
int covi_index_open(covi_index_reader *r, const cov_grid_tensor *shape, cov_index_coder coder, const uint8_t *at,
                    const uint8_t *end);
/** index[k] of the next chunk, strictly ascending and inside it; 0 if these are no such indices. */
int covi_index_next(covi_index_reader *r, uint16_t *index);
/** The end of the band's indices; NULL if no writer makes these bytes. */
const uint8_t *covi_index_close(const covi_index_reader *r);

#endif
