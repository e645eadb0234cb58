#include "sparseloco/band.h"

cov_index_coder covi_index_coder_of(const cov_grid_tensor *shape, cov_index_coder wanted) {
  if (shape->k == shape->chunk_elems) return COV_INDEX_ALL;
  return wanted == COV_INDEX_SPLIT && shape->split ? COV_INDEX_SPLIT : COV_INDEX_RICE;
}

size_t covi_index_bytes_max(const cov_grid_tensor *shape) {
  if (shape->k == shape->chunk_elems) return 0;
  return covi_split_bytes_max(shape->X, shape->k, shape->chunk_elems); /* one byte more than Rice's */
}

size_t covi_index_scratch_bytes(const cov_grid_tensor *shape) {
  return shape->split ? covi_split_scratch_bytes(shape->X, shape->k) : 0;
}

uint8_t *covi_index_write(const cov_grid_tensor *shape, cov_index_coder coder, const uint16_t *index, uint8_t *scratch,
                          uint8_t *out) {
  if (coder == COV_INDEX_ALL) return out;
  if (coder == COV_INDEX_SPLIT) return covi_split_write(shape->split, index, shape->X, scratch, out);
  return covi_rice_write(index, shape->X, shape->k, shape->chunk_elems, out);
}

int covi_index_open(covi_index_reader *r, const cov_grid_tensor *shape, cov_index_coder coder, const uint8_t *at,
                    const uint8_t *end) {
  r->coder = coder;
  r->k = shape->k;
  r->at = at;
  if (coder == COV_INDEX_ALL) return 1;
  if (coder == COV_INDEX_SPLIT) return covi_split_open(&r->of.split, shape->split, shape->X, at, end);
  return covi_rice_open(&r->of.rice, shape->X, shape->k, shape->chunk_elems, at, end);
}

int covi_index_next(covi_index_reader *r, uint16_t *index) {
  if (r->coder == COV_INDEX_RICE) return covi_rice_next(&r->of.rice, index);
  if (r->coder == COV_INDEX_SPLIT) return covi_split_next(&r->of.split, index);
  for (int i = 0; i < r->k; i++) index[i] = (uint16_t)i;
  return 1;
}

const uint8_t *covi_index_close(const covi_index_reader *r) {
  if (r->coder == COV_INDEX_RICE) return covi_rice_close(&r->of.rice);
  if (r->coder == COV_INDEX_SPLIT) return covi_split_close(&r->of.split);
  return r->at;
}
