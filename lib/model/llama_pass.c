/* The two passes, as calls of the table of operations and nothing else. */
#include <string.h>

#include "model/llama_internal.h"

#define RUN(m, op, ...)                                                                               \
  do {                                                                                                \
    if ((m)->ops->op(&(m)->place, __VA_ARGS__) != 0) {                                                \
      return COV_FAIL(COV_EBUG, "the operation %s of table '%s' could not run", #op, (m)->ops->name); \
    }                                                                                                 \
  } while (0)

/* ---- units and their tensors ---- */

int64_t cov_llama_n_units(const cov_llama_config *config) {
  return config->layers + 2;
}

void cov_llama_unit_of(const cov_llama_config *config, const cov_params *params, int64_t index, cov_llama_unit *unit) {
  const int64_t behind_layers = 1 + config->layers * LAYER_TENSORS;
  int64_t item = 0, next = 1;
  if (index > 0) {
    item = 1 + (index - 1) * LAYER_TENSORS;
    next = item < behind_layers ? item + LAYER_TENSORS : params->n;
  }
  *unit = (cov_llama_unit){.unit = index, .first = params->item[item].offset};
  unit->elems = (next < params->n ? params->item[next].offset : params->span) - unit->first;
}

static cov_status open_unit(const covi_pass *p, int64_t index, int with_grad, cov_llama_unit *u) {
  cov_llama_unit_of(&p->m->config, p->m->params, index, u);
  return p->source->open(p->source->arg, with_grad, u);
}

static cov_status close_unit(const covi_pass *p, const cov_llama_unit *u) {
  return p->source->close(p->source->arg, u);
}

static int64_t final_unit(const cov_llama *m) {
  return m->config.layers + 1;
}

/* Unit of the output projection; the embedding table if tied. */
static int64_t output_unit(const cov_llama *m) {
  return m->config.tied ? 0 : final_unit(m);
}

/* Offsets within their unit. Layers are alike, so that the first one's hold for all. */
int64_t covi_llama_layer_offset(const cov_llama *m, int tensor) {
  return m->params->item[1 + tensor].offset - m->params->item[1].offset;
}

int64_t covi_llama_output_offset(const cov_llama *m) {
  const cov_param *norm = &m->params->item[1 + m->config.layers * LAYER_TENSORS];
  return m->config.tied ? 0 : m->params->item[m->params->n - 1].offset - norm->offset;
}

/* ---- linear maps ---- */

/* A map and where its weights, as `use` reads them, and their gradient are; `u` is open and prepared. */
typedef struct {
  covi_map map;
  const void *weight;
  float *gradient;
} linear_map;

static linear_map map_at(covi_map map, const void *copy, const cov_llama_unit *u, int64_t offset) {
  linear_map x = {.map = map, .weight = copy ? copy : u->theta + offset};
  if (u->grad) x.gradient = u->grad + offset;
  return x;
}

static linear_map layer_map(const cov_llama *m, const cov_llama_unit *u, int tensor, cov_linear_use use) {
  const void *copy = covi_llama_slot(m, u->unit - 1)->copy[tensor][use];
  return map_at(m->map[tensor], copy, u, covi_llama_layer_offset(m, tensor));
}

/* y[R, n] = x[R, k] · weight[n, k]^T of a layer's tensor */
static cov_status linear(const covi_pass *p, const cov_llama_unit *u, int tensor, void *y, int64_t ldy, const void *x) {
  const cov_llama *m = p->m;
  const linear_map l = layer_map(m, u, tensor, COV_LINEAR_FORWARD);
  RUN(m, linear_forward, y, ldy, m->place.dtype, x, l.map.k, l.weight, p->R, l.map.n, l.map.k);
  return COV_OK;
}

/* dweight[n, k] += dy[R, n]^T · x[R, k] */
static cov_status weight_backward(const covi_pass *p, const cov_llama_unit *u, int tensor, const void *dy, int64_t ldy,
                                  const void *x) {
  const cov_llama *m = p->m;
  const linear_map l = layer_map(m, u, tensor, COV_LINEAR_INPUT_GRADIENT);
  RUN(m, linear_weight_gradient, l.gradient, dy, ldy, x, l.map.k, p->R, l.map.n, l.map.k);
  return COV_OK;
}

/* dx[R, k] = dy[R, n] · weight, or added if `add` */
static cov_status input_backward(const covi_pass *p, const cov_llama_unit *u, int tensor, void *dx, int add,
                                 const void *dy, int64_t ldy) {
  const cov_llama *m = p->m;
  const linear_map l = layer_map(m, u, tensor, COV_LINEAR_INPUT_GRADIENT);
  RUN(m, linear_input_gradient, dx, l.map.k, add, dy, ldy, l.weight, p->R, l.map.n, l.map.k);
  return COV_OK;
}

static cov_status linear_backward(const covi_pass *p, const cov_llama_unit *u, int tensor, void *dx, int add,
                                  const void *dy, int64_t ldy, const void *x) {
  COV_TRY(weight_backward(p, u, tensor, dy, ldy, x));
  return input_backward(p, u, tensor, dx, add, dy, ldy);
}

/* ---- forward ---- */

/* y = the norm of the residual stream x, to which the norm's sweep first adds `more`, unless that is NULL. Where the
 * stream is kept in f32 beside it, it is x that comes as what is to be added, and leaves as the rounded stream. */
static cov_status norm_forward(const covi_pass *p, void *y, float *rstd, void *x, const void *more, const float *gain) {
  const cov_llama *m = p->m;
  const void *branch = m->stream && more ? x : more;
  RUN(m, rmsnorm_forward, y, rstd, x, branch, m->stream, gain, p->R, m->config.dim, (float)m->config.norm_eps);
  return COV_OK;
}

static cov_status stream_begin(const covi_pass *p, const float *table) {
  const cov_llama *m = p->m;
  cov_place f32 = m->place;
  f32.dtype = COV_F32;
  if (m->ops->embed_forward(&f32, m->stream, p->batch->tokens, table, p->R, m->config.dim) == 0) return COV_OK;
  return COV_FAIL(COV_EBUG, "the operation embed_forward of table '%s' could not run in f32", m->ops->name);
}

/* `x` is the layer's input; `more`, if not NULL, what is still to be added to it (norm_forward). */
static cov_status attention_forward(const covi_pass *p, const cov_llama_unit *u, covi_layer_state *s, void *x,
                                    const void *more) {
  const cov_llama *m = p->m;
  const cov_llama_config *c = &m->config;
  const int64_t B = p->batch->B, T = p->batch->T, E = c->head_dim, W = m->qkv_width, D = c->dim;
  const float *gain = u->theta + covi_llama_layer_offset(m, ATTENTION_NORM);
  COV_TRY(norm_forward(p, s->attention_input, s->attention_rstd, x, more, gain));
  for (int i = 0; i < m->n_qkv; i++) {
    COV_TRY(linear(p, u, m->qkv[i].tensor, covi_elem(m, s->qkv, m->qkv[i].column), W, s->attention_input));
  }
  /* q and k lie side by side: one rotation covers the heads of both. */
  RUN(m, rope, s->qkv, m->rope, B, T, c->heads + c->kv_heads, E, W, 1);
  const void *k = covi_elem(m, s->qkv, c->heads * E), *v = covi_elem(m, s->qkv, (c->heads + c->kv_heads) * E);
  RUN(m, attention_forward, s->attention_out, s->lse, s->qkv, k, v, B, T, c->heads, c->kv_heads, E, W, W, W);
  return linear(p, u, WO, s->middle, D, s->attention_out);
}

/* Up to gate and up: what the backward pass needs of the feed-forward half. */
static cov_status gates_forward(const covi_pass *p, const cov_llama_unit *u, covi_layer_state *s, const void *x) {
  const cov_llama *m = p->m;
  const int64_t F = m->config.ffn;
  const float *gain = u->theta + covi_llama_layer_offset(m, FFN_NORM);
  COV_TRY(norm_forward(p, s->ffn_input, s->ffn_rstd, s->middle, x, gain));
  COV_TRY(linear(p, u, W1, s->gate, F, s->ffn_input));
  return linear(p, u, W3, s->up, F, s->ffn_input);
}

/* y[R, D] = the feed-forward half's part of the residual stream */
static cov_status hidden_forward(const covi_pass *p, const cov_llama_unit *u, const covi_layer_state *s, void *y) {
  const cov_llama *m = p->m;
  RUN(m, swiglu_forward, m->hidden, s->gate, s->up, p->R * m->config.ffn);
  return linear(p, u, W2, y, m->config.dim, m->hidden);
}

static covi_layer_state *state_of(const cov_llama *m, int64_t l, int keep) {
  return &m->state[keep && m->n_state > 1 ? l : 0];
}

static cov_status final_norm_forward(const covi_pass *p, void *x, const void *more) {
  const cov_llama *m = p->m;
  cov_llama_unit u;
  COV_TRY(open_unit(p, final_unit(m), 0, &u));
  COV_TRY(norm_forward(p, m->final_norm, m->final_rstd, x, more, u.theta));
  return close_unit(p, &u);
}

static cov_status embed(const covi_pass *p) {
  const cov_llama *m = p->m;
  cov_llama_unit u;
  COV_TRY(open_unit(p, 0, 0, &u));
  RUN(m, embed_forward, m->x[0], p->batch->tokens, u.theta, p->R, m->config.dim);
  if (m->stream) COV_TRY(stream_begin(p, u.theta));
  return close_unit(p, &u);
}

static size_t stream_bytes(const covi_pass *p) {
  return (size_t)(p->R * p->m->config.dim) * sizeof(float);
}

cov_status covi_llama_forward(const covi_pass *p, int keep) {
  cov_llama *m = p->m;
  const void *more = NULL; /* a layer's output is x + more: its last product and its middle */
  COV_TRY(embed(p));
  for (int64_t l = 0; l < m->config.layers; l++) {
    covi_layer_state *s = state_of(m, l, keep);
    void *x = m->x[keep ? l : 0];
    cov_llama_unit u;
    COV_TRY(open_unit(p, 1 + l, 0, &u));
    COV_TRY(covi_llama_prepare_layer(m, &u, COV_LINEAR_FORWARD));
    COV_TRY(attention_forward(p, &u, s, x, more));
    if (keep && m->n_stream_at > 0) memcpy(m->stream_at[l], m->stream, stream_bytes(p));
    COV_TRY(gates_forward(p, &u, s, x));
    COV_TRY(hidden_forward(p, &u, s, m->x[keep ? l + 1 : 0])); /* over the input, if not kept */
    COV_TRY(close_unit(p, &u));
    more = s->middle;
  }
  return final_norm_forward(p, m->x[keep ? m->config.layers : 0], more);
}

/* ---- head ---- */

static cov_status project(const covi_pass *p, const cov_llama_unit *u, int64_t first, int64_t n, float *out) {
  const cov_llama *m = p->m;
  const int64_t D = m->config.dim, V = m->config.vocab;
  const void *copy = m->head_slot.copy[0][COV_LINEAR_FORWARD];
  const linear_map l = map_at(m->head, copy, u, covi_llama_output_offset(m));
  RUN(m, linear_forward, out, V, COV_F32, covi_elem(m, m->final_norm, first * D), D, l.weight, n, V, D);
  return COV_OK;
}

static cov_status project_backward(const covi_pass *p, const cov_llama_unit *u, int64_t first, int64_t n) {
  const cov_llama *m = p->m;
  const int64_t D = m->config.dim, V = m->config.vocab;
  const void *copy = m->head_slot.copy[0][COV_LINEAR_INPUT_GRADIENT];
  const linear_map l = map_at(m->head, copy, u, covi_llama_output_offset(m));
  RUN(m, linear_weight_gradient, l.gradient, m->d_logits, V, covi_elem(m, m->final_norm, first * D), D, n, V, D);
  RUN(m, linear_input_gradient, covi_elem(m, m->d_norm, first * D), D, 0, m->d_logits, V, l.weight, n, V, D);
  return COV_OK;
}

cov_status covi_llama_project(const covi_pass *p, int64_t first, int64_t n, float *out) {
  cov_llama_unit u;
  COV_TRY(open_unit(p, output_unit(p->m), 0, &u));
  COV_TRY(covi_llama_prepare_head(p->m, &u, COV_LINEAR_FORWARD));
  COV_TRY(project(p, &u, first, n, out));
  return close_unit(p, &u);
}

static cov_status block_loss(const covi_pass *p, int64_t first, int64_t n, double *row_nats, cov_llama_loss *loss) {
  const cov_llama *m = p->m;
  const int64_t V = m->config.vocab;
  const int32_t *targets = p->batch->targets + first;
  void *gradient = p->with_grad ? m->d_logits : NULL;
  if (!row_nats) {
    RUN(m, cross_entropy, gradient, m->logits, targets, n, V, p->grad_scale, &loss->loss_sum, &loss->count);
    return COV_OK;
  }
  for (int64_t r = 0; r < n; r++) {
    double nats = 0.0;
    RUN(m, cross_entropy, NULL, m->logits + r * V, targets + r, 1, V, 0.0f, &nats, &loss->count);
    row_nats[first + r] = nats;
    loss->loss_sum += nats;
  }
  return COV_OK;
}

cov_status covi_llama_head(const covi_pass *p, double *row_nats, cov_llama_loss *loss) {
  cov_llama *m = p->m;
  cov_llama_unit u;
  *loss = (cov_llama_loss){0};
  COV_TRY(open_unit(p, output_unit(m), p->with_grad, &u));
  COV_TRY(covi_llama_prepare_head(m, &u, COV_LINEAR_FORWARD));
  if (p->with_grad) COV_TRY(covi_llama_prepare_head(m, &u, COV_LINEAR_INPUT_GRADIENT));
  for (int64_t first = 0; first < p->R; first += m->shape.head_rows) {
    int64_t n = p->R - first < m->shape.head_rows ? p->R - first : m->shape.head_rows;
    COV_TRY(project(p, &u, first, n, m->logits));
    COV_TRY(block_loss(p, first, n, row_nats, loss));
    if (p->with_grad) COV_TRY(project_backward(p, &u, first, n));
  }
  return close_unit(p, &u);
}

/* ---- backward ---- */

/* Back through a norm of `x`: its part of the gradient of the residual stream is added to m->d_x. Each branch's part is
 * small beside the stream's, and a sum in bf16 would round it away time after time (0.8 % of the quickstart's loss), so
 * there the stream's gradient is f32 and m->d_x a rounded copy. */
static cov_status norm_backward(const covi_pass *p, float *d_gain, const void *x, const float *gain,
                                const float *rstd) {
  const cov_llama *m = p->m;
  RUN(m, rmsnorm_backward, m->d_x, m->d_stream, d_gain, m->d_norm, x, gain, rstd, p->R, m->config.dim);
  return COV_OK;
}

/* m->d_x holds the gradient of the layer's output and leaves with that of its middle. */
static cov_status ffn_backward(const covi_pass *p, const cov_llama_unit *u, covi_layer_state *s) {
  const cov_llama *m = p->m;
  const int64_t R = p->R, D = m->config.dim, F = m->config.ffn, gain = covi_llama_layer_offset(m, FFN_NORM);
  COV_TRY(input_backward(p, u, W2, m->hidden, 0, m->d_x, D));
  RUN(m, swiglu_backward, s->gate, s->up, m->hidden, m->hidden, s->gate, s->up, R * F);
  COV_TRY(weight_backward(p, u, W2, m->d_x, D, m->hidden));
  COV_TRY(linear_backward(p, u, W1, m->d_norm, 0, s->gate, F, s->ffn_input));
  COV_TRY(linear_backward(p, u, W3, m->d_norm, 1, s->up, F, s->ffn_input));
  return norm_backward(p, u->grad + gain, s->middle, u->theta + gain, s->ffn_rstd);
}

/* From the gradient of the layer's middle to that of its input. */
static cov_status attention_backward(const covi_pass *p, const cov_llama_unit *u, covi_layer_state *s, const void *x) {
  const cov_llama *m = p->m;
  const cov_llama_config *c = &m->config;
  const int64_t B = p->batch->B, T = p->batch->T, D = c->dim, E = c->head_dim, W = m->qkv_width;
  const int64_t k = c->heads * E, v = k + c->kv_heads * E; /* columns */
  const int64_t gain = covi_llama_layer_offset(m, ATTENTION_NORM);
  COV_TRY(linear_backward(p, u, WO, m->d_attention, 0, m->d_x, D, s->attention_out));
  RUN(m, attention_backward, m->d_qkv, covi_elem(m, m->d_qkv, k), covi_elem(m, m->d_qkv, v), m->d_attention, s->qkv,
      covi_elem(m, s->qkv, k), covi_elem(m, s->qkv, v), s->attention_out, s->lse, B, T, c->heads, c->kv_heads, E, W, W,
      W);
  RUN(m, rope, m->d_qkv, m->rope, B, T, c->heads + c->kv_heads, E, W, -1);
  for (int i = 0; i < m->n_qkv; i++) {
    const covi_qkv_part *part = &m->qkv[i];
    COV_TRY(linear_backward(p, u, part->tensor, m->d_norm, i > 0, covi_elem(m, m->d_qkv, part->column), W,
                            s->attention_input));
  }
  return norm_backward(p, u->grad + gain, x, u->theta + gain, s->attention_rstd);
}

/* m->d_x becomes the gradient of the last layer's output. */
static cov_status final_norm_backward(const covi_pass *p) {
  const cov_llama *m = p->m;
  cov_llama_unit u;
  COV_TRY(open_unit(p, final_unit(m), 1, &u));
  memset(m->d_x, 0, (size_t)(p->R * m->config.dim * m->elem_bytes));
  if (m->d_stream) memset(m->d_stream, 0, (size_t)(p->R * m->config.dim) * sizeof *m->d_stream);
  COV_TRY(norm_backward(p, u.grad, m->x[m->config.layers], u.theta, m->final_rstd));
  return close_unit(p, &u);
}

static cov_status embed_backward(const covi_pass *p) {
  const cov_llama *m = p->m;
  cov_llama_unit u;
  COV_TRY(open_unit(p, 0, 1, &u));
  RUN(m, embed_backward, u.grad, p->batch->tokens, m->d_x, p->R, m->config.dim);
  return close_unit(p, &u);
}

cov_status covi_llama_backward(const covi_pass *p) {
  cov_llama *m = p->m;
  const int64_t L = m->config.layers;
  const int one_state = m->n_state == 1;
  COV_TRY(final_norm_backward(p));
  for (int64_t l = L - 1; l >= 0; l--) {
    covi_layer_state *s = state_of(m, l, 1);
    cov_llama_unit u;
    COV_TRY(open_unit(p, 1 + l, 1, &u));
    if (one_state && l < L - 1) { /* the last layer's state is still there */
      COV_TRY(covi_llama_prepare_layer(m, &u, COV_LINEAR_FORWARD));
      COV_TRY(attention_forward(p, &u, s, m->x[l], NULL)); /* x[l] is complete since the forward pass */
      if (m->stream) memcpy(m->stream, m->stream_at[l], stream_bytes(p));
      COV_TRY(gates_forward(p, &u, s, m->x[l]));
    }
    COV_TRY(covi_llama_prepare_layer(m, &u, COV_LINEAR_INPUT_GRADIENT));
    COV_TRY(ffn_backward(p, &u, s));
    COV_TRY(attention_backward(p, &u, s, m->x[l]));
    COV_TRY(close_unit(p, &u));
  }
  return embed_backward(p);
}
