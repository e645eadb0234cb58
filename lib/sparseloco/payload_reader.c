/* The way back from a checked payload to its entries. */
#include "sparseloco/payload_reader.h"

#include "sparseloco/fixed.h"
#include "sparseloco/float_env.h"
#include "sparseloco/format.h"

/* Stand before the band r->band, if there is one. The view was checked: nothing here can fail. */
static void open_band(cov_payload_reader *r) {
  const cov_payload_tensor *tensor = r->tensor;
  r->chunk = 0;
  if (r->band >= r->shape->n_bands) return;
  const uint8_t *band = r->view->bytes + tensor->bands[r->band], *codes = band + tensor->codes[r->band];
  (void)covi_index_open(&r->index, r->shape, tensor->index_coder, band, codes);
  if (tensor->table) (void)covi_code_open(&r->code, tensor->model, r->shape->X * r->shape->k, codes, tensor->end);
  r->values = codes;
}

void cov_payload_reader_open(cov_payload_reader *reader, const cov_payload_view *view, int t, int64_t band) {
  reader->view = view;
  reader->tensor = &view->tensor[t];
  reader->shape = &view->grid->tensor[t];
  reader->band = band;
  open_band(reader);
}

/* Go past the chunk that was read. */
static inline void pass_chunk(cov_payload_reader *r) {
  if (++r->chunk < r->shape->X) return;
  r->band++;
  open_band(r);
}

void cov_payload_reader_codes(cov_payload_reader *r, uint16_t *index, uint8_t *code) {
  (void)covi_index_next(&r->index, index);
  (void)covi_code_next(&r->code, r->shape->k, code);
  pass_chunk(r);
}

void cov_payload_reader_indices(cov_payload_reader *r, uint16_t *index) {
  (void)covi_index_next(&r->index, index);
}

void cov_payload_reader_entries(cov_payload_reader *const *r, int n, covi_chains *chains, float *value) {
  covi_code_reader *codes[COVI_CHAINS_MAX] = {0};
  int k = r[0]->shape->k;
  for (int l = 0; l < n; l++) codes[l] = &r[l]->code;
  if (!covi_code_next_chained(codes, k, chains, value)) {
    for (int l = 0; l < n; l++) {
      uint8_t code[COVI_CHAIN_CODES_MAX];
      (void)covi_code_next(codes[l], k, code);
      for (int i = 0; i < k; i++) value[i * COVI_CHAINS_MAX + l] = chains->value[code[i]][l];
    }
  }
  for (int l = 0; l < n; l++) pass_chunk(r[l]);
}

void cov_payload_reader_values(cov_payload_reader *r, uint16_t *index, float *value) {
  uint8_t code[COV_CHUNK_ELEMS_MAX];
  int k = r->shape->k;
  if (r->tensor->table) {
    cov_payload_reader_codes(r, index, code);
    for (int i = 0; i < k; i++) value[i] = r->tensor->table[code[i]];
    return;
  }
  (void)covi_index_next(&r->index, index);
  for (int i = 0; i < k; i++, r->values += 4) value[i] = cov_float_from_bits((uint32_t)covi_get(r->values, 4));
  pass_chunk(r);
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
      /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): the reader fills k of both */
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
