/* The way back from a checked payload to its entries. */
#include "sparseloco/payload_reader.h"

#include "sparseloco/fixed.h"
#include "sparseloco/float_env.h"
#include "sparseloco/format.h"

void cov_payload_reader_open(cov_payload_reader *reader, const cov_payload_view *view, int t, int64_t band) {
  const cov_grid_tensor *gt = &view->grid->tensor[t];
  *reader = (cov_payload_reader){.view = view, .tensor = &view->tensor[t], .shape = gt, .at = band * gt->X * gt->k};
}

static void read_indices(const cov_payload_reader *r, uint16_t *index) {
  if (r->tensor->indices) {
    cov_unpack12(r->tensor->indices, r->at, r->shape->k, index);
  } else {
    for (int i = 0; i < r->shape->k; i++) index[i] = (uint16_t)i;
  }
}

void cov_payload_reader_codes(cov_payload_reader *r, uint16_t *index, uint8_t *code) {
  read_indices(r, index);
  for (int i = 0; i < r->shape->k; i++)
    code[i] = (uint8_t)covi_get_code(r->tensor->codes, r->at + i, r->view->code_bits);
  r->at += r->shape->k;
}

void cov_payload_reader_values(cov_payload_reader *r, uint16_t *index, float *value) {
  uint8_t code[COV_CHUNK_ELEMS_MAX];
  if (r->tensor->table) {
    cov_payload_reader_codes(r, index, code);
    for (int i = 0; i < r->shape->k; i++) value[i] = r->tensor->table[code[i]];
    return;
  }
  read_indices(r, index);
  for (int i = 0; i < r->shape->k; i++)
    value[i] = cov_float_from_bits((uint32_t)covi_get(r->tensor->codes + 4 * (r->at + i), 4));
  r->at += r->shape->k;
}

/* A reader before chunk c. */
static void reader_find(cov_payload_reader *r, const cov_payload_view *view, int t, int64_t c) {
  uint16_t index[COV_CHUNK_ELEMS_MAX];
  float value[COV_CHUNK_ELEMS_MAX];
  int64_t X = view->grid->tensor[t].X;
  cov_payload_reader_open(r, view, t, c / X);
  for (int64_t x = 0; x < c % X; x++) cov_payload_reader_values(r, index, value);
}

void cov_payload_codes(const cov_payload_view *view, int t, int64_t c, uint16_t *index, uint8_t *code) {
  cov_payload_reader r;
  reader_find(&r, view, t, c);
  cov_payload_reader_codes(&r, index, code);
}

void cov_payload_chunk(const cov_payload_view *view, int t, int64_t c, uint16_t *index, float *value) {
  cov_payload_reader r;
  reader_find(&r, view, t, c);
  cov_payload_reader_values(&r, index, value);
}

static void add_back(const cov_payload_view *view, const cov_shard *shard, float *feedback, cov_layout layout) {
  uint16_t index[COV_CHUNK_ELEMS_MAX];
  float value[COV_CHUNK_ELEMS_MAX];
  for (int t = 0; t < shard->grid->n; t++) {
    const cov_grid_tensor *gt = &shard->grid->tensor[t];
    const cov_shard_part *part = &shard->part[t];
    float *own = feedback + cov_shard_offset(shard, layout, t);
    cov_payload_reader r;
    cov_payload_reader_open(&r, view, t, part->band);
    for (int64_t c = part->chunk; c < part->chunk + part->n_chunks; c++) {
      cov_payload_reader_values(&r, index, value);
      for (int i = 0; i < gt->k; i++) own[cov_grid_elem(gt, c, index[i]) - part->elem] += value[i];
    }
  }
}

void cov_payload_give_back(const cov_payload_view *view, const cov_shard *shard, float *feedback, cov_layout layout) {
  cov_float_env env;
  cov_float_env_enter(&env);
  add_back(view, shard, feedback, layout);
  cov_float_env_leave(&env);
}
