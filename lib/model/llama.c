/* The model object: its buffers and the entry points. */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "model/llama_internal.h"

enum { HEAD_ROWS_DEFAULT = 256 };

/* ---- buffers ---- */

/* One buffer of `bytes` into *out. A model with closed arenas only counts. */
static void take(cov_llama *m, cov_mem_tag tag, int64_t bytes, void **out) {
  int64_t *sum = tag == COV_MEM_PREPARED  ? &m->bytes.prepared
                 : tag == COV_MEM_SCRATCH ? &m->bytes.scratch
                                          : &m->bytes.activations;
  cov_arena *arena = &m->arena[tag == COV_MEM_PREPARED ? 1 : tag == COV_MEM_SCRATCH ? 2 : 0];
  *sum += (int64_t)cov_arena_room((size_t)bytes);
  if (arena->base) *out = cov_arena_take(arena, (size_t)bytes);
}

/* In the dtype of the place. */
static void take_elems(cov_llama *m, int64_t elems, void **out) {
  take(m, COV_MEM_ACTIVATIONS, elems * m->elem_bytes, out);
}

static void take_floats(cov_llama *m, int64_t elems, float **out) {
  void *p = NULL;
  take(m, COV_MEM_ACTIVATIONS, elems * (int64_t)sizeof(float), &p);
  *out = p;
}

static void take_state(cov_llama *m, covi_layer_state *s) {
  const cov_llama_config *c = &m->config;
  const int64_t R = m->rows, D = c->dim, F = c->ffn, wide = c->heads * c->head_dim;
  take_floats(m, R, &s->attention_rstd);
  take_floats(m, R, &s->ffn_rstd);
  take_elems(m, R * D, &s->attention_input);
  take_elems(m, R * D, &s->ffn_input);
  take_elems(m, R * m->qkv_width, &s->qkv);
  take_elems(m, R * wide, &s->attention_out);
  take_floats(m, R * c->heads, &s->lse);
  take_elems(m, R * D, &s->middle);
  take_elems(m, R * F, &s->gate);
  take_elems(m, R * F, &s->up);
}

static void take_gradients(cov_llama *m) {
  const cov_llama_config *c = &m->config;
  const int64_t R = m->rows;
  take_elems(m, R * c->dim, &m->d_x);
  take_elems(m, R * c->dim, &m->d_norm);
  if (m->place.dtype != COV_F32) take_floats(m, R * c->dim, &m->d_stream);
  take_elems(m, R * c->heads * c->head_dim, &m->d_attention);
  take_elems(m, R * m->qkv_width, &m->d_qkv);
  if (m->place.dtype == COV_F32) {
    m->d_logits = m->logits;
  } else {
    take_elems(m, m->shape.head_rows * c->vocab, &m->d_logits);
  }
}

static cov_status take_copies(cov_llama *m, covi_map map, void *copy[2]) {
  for (int use = 0; use < 2; use++) {
    int64_t bytes;
    COV_TRY(covi_llama_map_bytes(m, map, (cov_linear_use)use, &bytes));
    if (bytes > 0) take(m, COV_MEM_PREPARED, bytes, &copy[use]);
  }
  return COV_OK;
}

static cov_status take_weights(cov_llama *m) {
  covi_slot nowhere = {0};
  for (int64_t i = 0; i < m->n_slots; i++) {
    covi_slot *slot = m->slot ? &m->slot[i] : &nowhere;
    for (int t = 0; t < LAYER_MAPS; t++) COV_TRY(take_copies(m, m->map[t], slot->copy[t]));
  }
  return take_copies(m, m->head, m->head_slot.copy[0]);
}

static cov_status take_scratch(cov_llama *m) {
  const cov_llama_config *c = &m->config;
  int64_t widest = c->dim > c->ffn ? c->dim : c->ffn;
  if (m->qkv_width > widest) widest = m->qkv_width;
  int64_t bytes = m->ops->scratch_bytes(m->place.threads, m->shape.seq_len, widest, c->head_dim);
  COV_TRY(covi_llama_maps_scratch(m, &bytes));
  m->place.scratch_bytes = bytes;
  take(m, COV_MEM_SCRATCH, bytes, &m->place.scratch);
  return COV_OK;
}

static cov_status take_all(cov_llama *m) {
  const cov_llama_config *c = &m->config;
  const int64_t R = m->rows;
  void *unused;
  take_floats(m, m->shape.seq_len * c->head_dim, &m->rope);
  for (int64_t i = 0; i < m->n_x; i++) take_elems(m, R * c->dim, m->x ? &m->x[i] : &unused);
  covi_layer_state nowhere;
  for (int64_t i = 0; i < m->n_state; i++) take_state(m, m->state ? &m->state[i] : &nowhere);
  take_elems(m, R * c->ffn, &m->hidden);
  float *unused_floats;
  if (m->place.dtype != COV_F32) take_floats(m, R * c->dim, &m->stream);
  for (int64_t i = 0; i < m->n_stream_at; i++) {
    take_floats(m, R * c->dim, m->stream_at ? &m->stream_at[i] : &unused_floats);
  }
  take_floats(m, R, &m->final_rstd);
  take_elems(m, R * c->dim, &m->final_norm);
  take_floats(m, m->shape.head_rows * c->vocab, &m->logits);
  if (!m->shape.evaluate_only) take_gradients(m);
  COV_TRY(take_weights(m));
  return take_scratch(m);
}

/* Counted first, so that each tag is one block. */
static cov_status take_memory(cov_llama *m) {
  static const cov_mem_tag tag[LLAMA_ARENAS] = {COV_MEM_ACTIVATIONS, COV_MEM_PREPARED, COV_MEM_SCRATCH};
  COV_TRY(take_all(m));
  const int64_t bytes[LLAMA_ARENAS] = {m->bytes.activations, m->bytes.prepared, m->bytes.scratch};
  for (int a = 0; a < LLAMA_ARENAS; a++) {
    COV_TRY(cov_arena_open(&m->arena[a], m->place.space, tag[a], (size_t)bytes[a]));
  }
  m->bytes = (cov_llama_bytes){0};
  return take_all(m);
}

/* ---- creation ---- */

/* Sizes that follow from the arguments, which are valid. */
static void derive_sizes(cov_llama *m, const cov_llama_config *config, const cov_llama_shape *shape, const cov_ops *ops,
                         const cov_place *place) {
  m->config = *config;
  m->shape = *shape;
  m->ops = ops;
  m->place = *place;
  m->place.scratch = NULL;
  m->place.scratch_bytes = 0;
  m->elem_bytes = place->dtype == COV_BF16 ? 2 : 4;
  if (m->config.kv_heads == 0) m->config.kv_heads = config->heads;
  if (m->config.head_dim == 0) m->config.head_dim = config->dim / config->heads;
  m->rows = shape->batch * shape->seq_len;
  if (m->shape.head_rows == 0) m->shape.head_rows = HEAD_ROWS_DEFAULT;
  if (m->shape.head_rows > m->rows) m->shape.head_rows = m->rows;
  m->qkv_width = (m->config.heads + 2 * m->config.kv_heads) * m->config.head_dim;
  m->n_x = shape->evaluate_only ? 1 : config->layers + 1;
  m->n_state = shape->evaluate_only || shape->recompute ? 1 : config->layers;
  m->n_stream_at = place->dtype != COV_F32 && m->n_state == 1 && !shape->evaluate_only ? config->layers : 0;
  m->n_slots = shape->sharded ? 1 : config->layers;
  covi_llama_plan_maps(m);
}

static cov_status verify_shape(const cov_llama_config *config, const cov_llama_shape *shape) {
  COV_TRY(cov_llama_config_verify(config));
  if (shape->batch < 1 || shape->seq_len < 1 || shape->seq_len > config->seq_len || shape->head_rows < 0 ||
      shape->batch > ((int64_t)1 << 31) / shape->seq_len) {
    return COV_FAIL(
        COV_EUSAGE,
        "model: micro-batch of %lld x %lld with head blocks of %lld rows; the length is 1 .. %lld (seq_len), "
        "at most 2^31 positions together, head_rows is 0 or more",
        (long long)shape->batch, (long long)shape->seq_len, (long long)shape->head_rows, (long long)config->seq_len);
  }
  return COV_OK;
}

/* The table must be the one that the configuration makes: names, shapes, order. */
static cov_status verify_params(const cov_llama_config *config, const cov_params *params) {
  cov_params want;
  uint8_t have_digest[32], want_digest[32];
  cov_params_create(&want);
  cov_status st = cov_llama_params(config, &want);
  if (st == COV_OK) {
    cov_params_digest(params, have_digest);
    cov_params_digest(&want, want_digest);
    for (int i = 0; i < 32 && st == COV_OK; i++) {
      if (have_digest[i] != want_digest[i]) {
        st = COV_FAIL(COV_EUSAGE,
                      "model: a table of %d tensors and %lld parameters is not that of this configuration "
                      "(%d and %lld)",
                      params->n, (long long)params->elems, want.n, (long long)want.elems);
      }
    }
  }
  cov_params_destroy(&want);
  return st;
}

static cov_status verify_place(const cov_place *place) {
  if (place->dtype != COV_F32 && place->dtype != COV_BF16) {
    return COV_FAIL(COV_EUSAGE, "model: dtype %d is neither f32 nor bf16", (int)place->dtype);
  }
  if (place->space != COV_SPACE_HOST) return COV_FAIL(COV_EUSAGE, "model: this build runs it in host memory only");
  if (place->threads < 1) return COV_FAIL(COV_EUSAGE, "model: %d threads; at least 1", place->threads);
  return COV_OK;
}

cov_status cov_llama_create(const cov_llama_config *config, const cov_params *params, const cov_llama_shape *shape,
                            const cov_ops *ops, const cov_place *place, cov_llama **model) {
  cov_status st = COV_OK;
  *model = NULL;
  COV_TRY(verify_shape(config, shape));
  COV_TRY(verify_place(place));
  COV_TRY(verify_params(config, params));
  cov_llama *m = calloc(1, sizeof *m);
  if (!m) return COV_FAIL(COV_ENOMEM, "model object");
  m->params = params;
  derive_sizes(m, config, shape, ops, place);
  m->x = calloc((size_t)m->n_x, sizeof *m->x);
  m->state = calloc((size_t)m->n_state, sizeof *m->state);
  m->slot = calloc((size_t)m->n_slots, sizeof *m->slot);
  m->stream_at = calloc((size_t)m->n_stream_at + 1, sizeof *m->stream_at);
  if (!m->stream_at || !m->x || !m->state || !m->slot)
    COV_FAIL_DONE(COV_ENOMEM, "bookkeeping of %lld layers", (long long)config->layers);
  COV_TRY_DONE(take_memory(m));
  cov_rope_table(m->rope, m->shape.seq_len, m->config.head_dim, m->config.rope_theta);
  *model = m;
  m = NULL;
done:
  cov_llama_destroy(&m);
  return st;
}

void cov_llama_destroy(cov_llama **model) {
  cov_llama *m = *model;
  if (!m) return;
  for (int a = 0; a < LLAMA_ARENAS; a++) cov_arena_close(&m->arena[a]);
  free(m->x);
  free(m->state);
  free(m->slot);
  free(m->stream_at);
  free(m);
  *model = NULL;
}

cov_status cov_llama_measure(const cov_llama_config *config, const cov_llama_shape *shape, const cov_ops *ops,
                             const cov_place *place, cov_llama_bytes *bytes) {
  cov_llama m = {0};
  COV_TRY(verify_shape(config, shape));
  COV_TRY(verify_place(place));
  derive_sizes(&m, config, shape, ops, place);
  COV_TRY(take_all(&m));
  *bytes = m.bytes;
  return COV_OK;
}

void cov_llama_set_version(cov_llama *model, int64_t version) {
  model->version = version;
}

/* ---- calls ---- */

static cov_status verify_ids(const char *what, const int32_t *ids, int64_t R, int64_t T, int64_t vocab, int64_t low) {
  for (int64_t r = 0; r < R; r++) {
    if (ids[r] < low || ids[r] >= vocab) {
      return COV_FAIL(COV_EDATA,
                      "%s %d at position %lld of sequence %lld is outside the vocabulary of %lld; the data was made "
                      "with another tokenizer, or is damaged",
                      what, (int)ids[r], (long long)(r % T), (long long)(r / T), (long long)vocab);
    }
  }
  return COV_OK;
}

static cov_status open_pass(cov_llama *m, const cov_llama_source *source, const cov_llama_batch *batch,
                            int with_targets, covi_pass *pass) {
  if (batch->B < 1 || batch->T < 1 || batch->T > m->shape.seq_len || batch->B > m->rows / batch->T) {
    return COV_FAIL(COV_EUSAGE, "micro-batch of %lld x %lld; this model has buffers for length %lld, %lld positions",
                    (long long)batch->B, (long long)batch->T, (long long)m->shape.seq_len, (long long)m->rows);
  }
  *pass = (covi_pass){.m = m, .source = source, .batch = batch, .R = batch->B * batch->T};
  COV_TRY(verify_ids("token", batch->tokens, pass->R, batch->T, m->config.vocab, 0));
  if (!with_targets) return COV_OK;
  if (!batch->targets) return COV_FAIL(COV_EUSAGE, "a loss was asked for, but the micro-batch has no targets");
  return verify_ids("target", batch->targets, pass->R, batch->T, m->config.vocab, -1);
}

int64_t cov_llama_count_targets(const cov_llama_batch *batch) {
  int64_t count = 0;
  for (int64_t r = 0; r < batch->B * batch->T; r++) count += batch->targets[r] >= 0;
  return count;
}

/* The whole space in memory. */
typedef struct {
  const float *theta;
  float *grad;
} flat_space;

static cov_status flat_open(void *arg, int with_grad, cov_llama_unit *unit) {
  const flat_space *space = arg;
  unit->theta = space->theta + unit->first;
  unit->grad = with_grad ? space->grad + unit->first : NULL;
  return COV_OK;
}

static cov_status flat_close(void *arg, const cov_llama_unit *unit) {
  (void)arg;
  (void)unit;
  return COV_OK;
}

static cov_llama_source flat_source(flat_space *space) {
  return (cov_llama_source){.open = flat_open, .close = flat_close, .arg = space};
}

cov_status cov_llama_grad_units(cov_llama *model, const cov_llama_source *source, const cov_llama_batch *batch,
                                float grad_scale, cov_llama_loss *loss) {
  covi_pass pass;
  if (model->shape.evaluate_only) return COV_FAIL(COV_EUSAGE, "this model was created for evaluation only");
  if (!isfinite(grad_scale)) return COV_FAIL(COV_EUSAGE, "gradient scale %g is not finite", (double)grad_scale);
  COV_TRY(open_pass(model, source, batch, 1, &pass));
  pass.with_grad = 1;
  pass.grad_scale = grad_scale;
  COV_TRY(covi_llama_forward(&pass, 1));
  COV_TRY(covi_llama_head(&pass, NULL, loss));
  return covi_llama_backward(&pass);
}

cov_status cov_llama_grad(cov_llama *model, const float *theta, const cov_llama_batch *batch, float grad_scale,
                          float *grad, cov_llama_loss *loss) {
  flat_space space = {.theta = theta, .grad = grad};
  const cov_llama_source source = flat_source(&space);
  return cov_llama_grad_units(model, &source, batch, grad_scale, loss);
}

cov_status cov_llama_evaluate(cov_llama *model, const float *theta, const cov_llama_batch *batch, double *row_nats,
                              cov_llama_loss *loss) {
  covi_pass pass;
  flat_space space = {.theta = theta};
  const cov_llama_source source = flat_source(&space);
  COV_TRY(open_pass(model, &source, batch, 1, &pass));
  COV_TRY(covi_llama_forward(&pass, 0));
  return covi_llama_head(&pass, row_nats, loss);
}

cov_status cov_llama_logits(cov_llama *model, const float *theta, const cov_llama_batch *batch, int64_t first_row,
                            int64_t n_rows, float *logits) {
  covi_pass pass;
  flat_space space = {.theta = theta};
  const cov_llama_source source = flat_source(&space);
  COV_TRY(open_pass(model, &source, batch, 0, &pass));
  if (first_row < 0 || n_rows < 0 || first_row > pass.R - n_rows) {
    return COV_FAIL(COV_EUSAGE, "logits of %lld rows from %lld on; the micro-batch has %lld", (long long)n_rows,
                    (long long)first_row, (long long)pass.R);
  }
  COV_TRY(covi_llama_forward(&pass, 0));
  return covi_llama_project(&pass, first_row, n_rows, logits);
}
