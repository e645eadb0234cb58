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
static int64_t layer_offset(const cov_llama *m, int tensor) {
  return m->params->item[1 + tensor].offset - m->params->item[1].offset;
}

static int64_t output_offset(const cov_llama *m) {
  const cov_param *norm = &m->params->item[1 + m->config.layers * LAYER_TENSORS];
  return m->config.tied ? 0 : m->params->item[m->params->n - 1].offset - norm->offset;
}

/* ---- a linear map y[R, n] = x[R, k] · weight[n, k]^T ---- */

static cov_status linear(const cov_llama *m, float *y, int64_t ldy, const float *x, const float *weight, int64_t R,
                         int64_t n, int64_t k) {
  RUN(m, matmul, 0, 1, R, n, k, 1.0f, x, k, weight, k, 0.0f, y, ldy);
  return COV_OK;
}

/* dx[R, k] = beta dx + dy · weight */
static cov_status linear_input_gradient(const cov_llama *m, float *dx, float beta, const float *dy, int64_t ldy,
                                        const float *weight, int64_t R, int64_t n, int64_t k) {
  RUN(m, matmul, 0, 0, R, k, n, 1.0f, dy, ldy, weight, k, beta, dx, k);
  return COV_OK;
}

/* dweight[n, k] += dy^T · x */
static cov_status linear_weight_gradient(const cov_llama *m, float *dweight, const float *dy, int64_t ldy,
                                         const float *x, int64_t R, int64_t n, int64_t k) {
  RUN(m, matmul, 1, 0, n, k, R, 1.0f, dy, ldy, x, k, 1.0f, dweight, k);
  return COV_OK;
}

/* ---- forward ---- */

static cov_status attention_forward(const covi_pass *p, const cov_llama_unit *u, covi_layer_state *s, float *x) {
  const cov_llama *m = p->m;
  const cov_llama_config *c = &m->config;
  const int64_t B = p->batch->B, T = p->batch->T, E = c->head_dim, W = m->qkv_width, D = c->dim;
  RUN(m, rmsnorm_forward, s->attention_input, s->attention_rstd, x, NULL, u->theta + layer_offset(m, ATTENTION_NORM),
      p->R, D, (float)c->norm_eps);
  for (int i = 0; i < m->n_qkv; i++) {
    const covi_qkv_part *part = &m->qkv[i];
    COV_TRY(linear(m, s->qkv + part->column, W, s->attention_input, u->theta + layer_offset(m, part->tensor), p->R,
                   part->rows, D));
  }
  /* q and k lie side by side: one rotation covers the heads of both. */
  RUN(m, rope, s->qkv, m->rope, B, T, c->heads + c->kv_heads, E, W, 1);
  const float *k = s->qkv + c->heads * E, *v = k + c->kv_heads * E;
  RUN(m, attention_forward, s->attention_out, s->lse, s->qkv, k, v, B, T, c->heads, c->kv_heads, E, W, W, W);
  COV_TRY(linear(m, s->middle, D, s->attention_out, u->theta + layer_offset(m, WO), p->R, D, c->heads * E));
  RUN(m, add, s->middle, x, p->R * D);
  return COV_OK;
}

/* Up to silu(gate) * up: what the backward pass needs of the feed-forward half. */
static cov_status hidden_forward(const covi_pass *p, const cov_llama_unit *u, covi_layer_state *s) {
  const cov_llama *m = p->m;
  const int64_t D = m->config.dim, F = m->config.ffn;
  RUN(m, rmsnorm_forward, s->ffn_input, s->ffn_rstd, s->middle, NULL, u->theta + layer_offset(m, FFN_NORM), p->R, D,
      (float)m->config.norm_eps);
  COV_TRY(linear(m, s->gate, F, s->ffn_input, u->theta + layer_offset(m, W1), p->R, F, D));
  COV_TRY(linear(m, s->up, F, s->ffn_input, u->theta + layer_offset(m, W3), p->R, F, D));
  RUN(m, swiglu_forward, s->hidden, s->gate, s->up, p->R * F);
  return COV_OK;
}

/* `out` may be the layer's input: nothing reads that any more. */
static cov_status layer_output(const covi_pass *p, const cov_llama_unit *u, const covi_layer_state *s, float *out) {
  const cov_llama *m = p->m;
  const int64_t D = m->config.dim;
  COV_TRY(linear(m, out, D, s->hidden, u->theta + layer_offset(m, W2), p->R, D, m->config.ffn));
  RUN(m, add, out, s->middle, p->R * D);
  return COV_OK;
}

static covi_layer_state *state_of(const cov_llama *m, int64_t l, int keep) {
  return &m->state[keep && m->n_state > 1 ? l : 0];
}

static cov_status final_norm_forward(const covi_pass *p, float *x) {
  const cov_llama *m = p->m;
  cov_llama_unit u;
  COV_TRY(open_unit(p, final_unit(m), 0, &u));
  RUN(m, rmsnorm_forward, m->final_norm, m->final_rstd, x, NULL, u.theta, p->R, m->config.dim,
      (float)m->config.norm_eps);
  return close_unit(p, &u);
}

static cov_status embed(const covi_pass *p) {
  const cov_llama *m = p->m;
  cov_llama_unit u;
  COV_TRY(open_unit(p, 0, 0, &u));
  RUN(m, embed_forward, m->x[0], p->batch->tokens, u.theta, p->R, m->config.dim);
  return close_unit(p, &u);
}

cov_status covi_llama_forward(const covi_pass *p, int keep) {
  const cov_llama *m = p->m;
  COV_TRY(embed(p));
  for (int64_t l = 0; l < m->config.layers; l++) {
    covi_layer_state *s = state_of(m, l, keep);
    cov_llama_unit u;
    COV_TRY(open_unit(p, 1 + l, 0, &u));
    COV_TRY(attention_forward(p, &u, s, m->x[keep ? l : 0]));
    COV_TRY(hidden_forward(p, &u, s));
    COV_TRY(layer_output(p, &u, s, m->x[keep ? l + 1 : 0]));
    COV_TRY(close_unit(p, &u));
  }
  return final_norm_forward(p, m->x[keep ? m->config.layers : 0]);
}

/* ---- head ---- */

static cov_status project(const covi_pass *p, const cov_llama_unit *u, int64_t first, int64_t n, float *out) {
  const cov_llama *m = p->m;
  const int64_t D = m->config.dim, V = m->config.vocab;
  return linear(m, out, V, m->final_norm + first * D, u->theta + output_offset(m), n, V, D);
}

cov_status covi_llama_project(const covi_pass *p, int64_t first, int64_t n, float *out) {
  cov_llama_unit u;
  COV_TRY(open_unit(p, output_unit(p->m), 0, &u));
  COV_TRY(project(p, &u, first, n, out));
  return close_unit(p, &u);
}

static cov_status block_loss(const covi_pass *p, int64_t first, int64_t n, double *row_nats, cov_llama_loss *loss) {
  const cov_llama *m = p->m;
  const int64_t V = m->config.vocab;
  const int32_t *targets = p->batch->targets + first;
  float *gradient = p->with_grad ? m->logits : NULL; /* in place */
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
  const cov_llama *m = p->m;
  const int64_t D = m->config.dim, V = m->config.vocab, output = output_offset(m);
  cov_llama_unit u;
  *loss = (cov_llama_loss){0};
  COV_TRY(open_unit(p, output_unit(m), p->with_grad, &u));
  for (int64_t first = 0; first < p->R; first += m->shape.head_rows) {
    int64_t n = p->R - first < m->shape.head_rows ? p->R - first : m->shape.head_rows;
    COV_TRY(project(p, &u, first, n, m->logits));
    COV_TRY(block_loss(p, first, n, row_nats, loss));
    if (!p->with_grad) continue;
    const float *d_logits = m->logits; /* cross_entropy has put the gradient there */
    COV_TRY(linear_weight_gradient(m, u.grad + output, d_logits, V, m->final_norm + first * D, n, V, D));
    COV_TRY(linear_input_gradient(m, m->d_norm + first * D, 0.0f, d_logits, V, u.theta + output, n, V, D));
  }
  return close_unit(p, &u);
}

/* ---- backward ---- */

/* m->d_x holds the gradient of the layer's output and leaves with that of its middle. */
static cov_status ffn_backward(const covi_pass *p, const cov_llama_unit *u, covi_layer_state *s) {
  const cov_llama *m = p->m;
  const int64_t R = p->R, D = m->config.dim, F = m->config.ffn;
  const int64_t w1 = layer_offset(m, W1), w2 = layer_offset(m, W2), w3 = layer_offset(m, W3);
  const int64_t gain = layer_offset(m, FFN_NORM);
  COV_TRY(linear_weight_gradient(m, u->grad + w2, m->d_x, D, s->hidden, R, D, F));
  COV_TRY(linear_input_gradient(m, m->d_hidden, 0.0f, m->d_x, D, u->theta + w2, R, D, F));
  RUN(m, swiglu_backward, s->gate, s->up, m->d_hidden, s->gate, s->up, R * F);
  COV_TRY(linear_weight_gradient(m, u->grad + w1, s->gate, F, s->ffn_input, R, F, D));
  COV_TRY(linear_weight_gradient(m, u->grad + w3, s->up, F, s->ffn_input, R, F, D));
  COV_TRY(linear_input_gradient(m, m->d_norm, 0.0f, s->gate, F, u->theta + w1, R, F, D));
  COV_TRY(linear_input_gradient(m, m->d_norm, 1.0f, s->up, F, u->theta + w3, R, F, D));
  RUN(m, rmsnorm_backward, m->d_x, u->grad + gain, m->d_norm, s->middle, u->theta + gain, s->ffn_rstd, R, D);
  return COV_OK;
}

/* From the gradient of the layer's middle to that of its input. */
static cov_status attention_backward(const covi_pass *p, const cov_llama_unit *u, covi_layer_state *s, const float *x) {
  const cov_llama *m = p->m;
  const cov_llama_config *c = &m->config;
  const int64_t R = p->R, B = p->batch->B, T = p->batch->T, D = c->dim, E = c->head_dim, W = m->qkv_width;
  const int64_t wo = layer_offset(m, WO), gain = layer_offset(m, ATTENTION_NORM);
  const int64_t k = c->heads * E, v = k + c->kv_heads * E; /* columns */
  COV_TRY(linear_weight_gradient(m, u->grad + wo, m->d_x, D, s->attention_out, R, D, c->heads * E));
  COV_TRY(linear_input_gradient(m, m->d_attention, 0.0f, m->d_x, D, u->theta + wo, R, D, c->heads * E));
  RUN(m, attention_backward, m->d_qkv, m->d_qkv + k, m->d_qkv + v, m->d_attention, s->qkv, s->qkv + k, s->qkv + v,
      s->attention_out, s->lse, B, T, c->heads, c->kv_heads, E, W, W, W);
  RUN(m, rope, m->d_qkv, m->rope, B, T, c->heads + c->kv_heads, E, W, -1);
  for (int i = 0; i < m->n_qkv; i++) {
    const covi_qkv_part *part = &m->qkv[i];
    const int64_t w = layer_offset(m, part->tensor);
    const float *d = m->d_qkv + part->column;
    COV_TRY(linear_weight_gradient(m, u->grad + w, d, W, s->attention_input, R, part->rows, D));
    COV_TRY(linear_input_gradient(m, m->d_norm, i > 0 ? 1.0f : 0.0f, d, W, u->theta + w, R, part->rows, D));
  }
  RUN(m, rmsnorm_backward, m->d_x, u->grad + gain, m->d_norm, x, u->theta + gain, s->attention_rstd, R, D);
  return COV_OK;
}

/* m->d_x becomes the gradient of the last layer's output. */
static cov_status final_norm_backward(const covi_pass *p) {
  const cov_llama *m = p->m;
  cov_llama_unit u;
  COV_TRY(open_unit(p, final_unit(m), 1, &u));
  memset(m->d_x, 0, (size_t)(p->R * m->config.dim) * sizeof *m->d_x);
  RUN(m, rmsnorm_backward, m->d_x, u.grad, m->d_norm, m->x[m->config.layers], u.theta, m->final_rstd, p->R,
      m->config.dim);
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
  const cov_llama *m = p->m;
  const int64_t L = m->config.layers;
  const int one_state = m->n_state == 1;
  COV_TRY(final_norm_backward(p));
  for (int64_t l = L - 1; l >= 0; l--) {
    covi_layer_state *s = state_of(m, l, 1);
    cov_llama_unit u;
    COV_TRY(open_unit(p, 1 + l, 1, &u));
    if (one_state && l < L - 1) { /* the last layer's state is still there */
      COV_TRY(attention_forward(p, &u, s, m->x[l]));
      COV_TRY(hidden_forward(p, &u, s));
    }
    COV_TRY(ffn_backward(p, &u, s));
    COV_TRY(attention_backward(p, &u, s, m->x[l]));
    COV_TRY(close_unit(p, &u));
  }
  return embed_backward(p);
}
