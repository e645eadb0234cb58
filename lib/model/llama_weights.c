/* Weights as the products read them: which linear maps the model has, and their prepared copies (ops.h). */
#include "model/llama_internal.h"

/* ---- maps ---- */

void covi_llama_plan_maps(cov_llama *m) {
  const cov_llama_config *c = &m->config;
  const int64_t D = c->dim, wide = c->heads * c->head_dim, narrow = c->kv_heads * c->head_dim;
  for (int i = 0; i < LAYER_MAPS; i++) m->map[i] = (covi_map){0};
  m->map[WQ] = (covi_map){wide, D};
  m->map[WK] = (covi_map){narrow, D};
  m->map[WV] = (covi_map){narrow, D};
  m->map[WO] = (covi_map){D, wide};
  m->map[W1] = (covi_map){c->ffn, D};
  m->map[W2] = (covi_map){D, c->ffn};
  m->map[W3] = (covi_map){c->ffn, D};
  m->head = (covi_map){c->vocab, D};
  m->n_qkv = 3;
  m->qkv[0] = (covi_qkv_part){WQ, 0};
  m->qkv[1] = (covi_qkv_part){WK, wide};
  m->qkv[2] = (covi_qkv_part){WV, wide + narrow};
  /* One product for q, k and v where the three matrices lie in the space without a gap. */
  if (wide * D % COV_PARAM_ALIGN_ELEMS != 0 || narrow * D % COV_PARAM_ALIGN_ELEMS != 0) return;
  m->map[WQ].n = m->qkv_width;
  m->map[WK].n = m->map[WV].n = 0;
  m->n_qkv = 1;
}

/* Most bytes of scratch that `map` needs at `rows` rows; -1 if the table cannot run it. */
static cov_status map_scratch(const cov_llama *m, covi_map map, cov_dtype out, int64_t rows, int64_t *most) {
  if (map.n == 0 || rows == 0) return COV_OK;
  int64_t bytes = m->ops->linear_scratch_bytes(&m->place, out, !m->shape.evaluate_only, rows, map.n, map.k);
  if (bytes < 0) {
    return COV_FAIL(COV_EBUG, "table '%s' refuses a linear map of %lld x %lld at %lld rows", m->ops->name,
                    (long long)map.n, (long long)map.k, (long long)rows);
  }
  if (bytes > *most) *most = bytes;
  return COV_OK;
}

cov_status covi_llama_maps_scratch(const cov_llama *m, int64_t *most) {
  for (int i = 0; i < LAYER_MAPS; i++) COV_TRY(map_scratch(m, m->map[i], m->place.dtype, m->rows, most));
  COV_TRY(map_scratch(m, m->head, COV_F32, m->shape.head_rows, most));
  return map_scratch(m, m->head, COV_F32, m->rows % m->shape.head_rows, most);
}

cov_status covi_llama_map_bytes(const cov_llama *m, covi_map map, cov_linear_use use, int64_t *bytes) {
  *bytes = 0;
  if (map.n == 0 || (use == COV_LINEAR_INPUT_GRADIENT && m->shape.evaluate_only)) return COV_OK;
  *bytes = m->ops->linear_bytes(&m->place, use, map.n, map.k);
  if (*bytes >= 0) return COV_OK;
  return COV_FAIL(COV_EBUG, "table '%s' refuses weights of %lld x %lld", m->ops->name, (long long)map.n,
                  (long long)map.k);
}

/* ---- copies ---- */

static cov_status prepare(const cov_llama *m, covi_map map, cov_linear_use use, void *copy, const float *weight) {
  if (!copy) return COV_OK; /* the products read the weights themselves */
  if (m->ops->linear_prepare(&m->place, use, copy, weight, map.n, map.k) == 0) return COV_OK;
  return COV_FAIL(COV_EBUG, "table '%s' could not prepare weights of %lld x %lld", m->ops->name, (long long)map.n,
                  (long long)map.k);
}

/* 1 if the copies of `use` in `slot` are not those of `unit` as it is now; they will be once this returns. */
static int is_stale(const cov_llama *m, covi_slot *slot, int64_t unit, cov_linear_use use) {
  if (m->version != 0 && slot->unit[use] == unit && slot->version[use] == m->version) return 0;
  slot->unit[use] = unit;
  slot->version[use] = m->version;
  return 1;
}

covi_slot *covi_llama_slot(const cov_llama *m, int64_t layer) {
  return &m->slot[m->n_slots > 1 ? layer : 0];
}

cov_status covi_llama_prepare_layer(cov_llama *m, const cov_llama_unit *u, cov_linear_use use) {
  covi_slot *slot = covi_llama_slot(m, u->unit - 1);
  if (!is_stale(m, slot, u->unit, use)) return COV_OK;
  for (int i = 0; i < LAYER_MAPS; i++) {
    cov_status st = prepare(m, m->map[i], use, slot->copy[i][use], u->theta + covi_llama_layer_offset(m, i));
    if (st == COV_OK) continue;
    slot->version[use] = 0;
    return st;
  }
  return COV_OK;
}

cov_status covi_llama_prepare_head(cov_llama *m, const cov_llama_unit *u, cov_linear_use use) {
  if (!is_stale(m, &m->head_slot, u->unit, use)) return COV_OK;
  cov_status st = prepare(m, m->head, use, m->head_slot.copy[0][use], u->theta + covi_llama_output_offset(m));
  if (st != COV_OK) m->head_slot.version[use] = 0;
  return st;
}
