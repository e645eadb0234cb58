/* Inside of the model object, shared by llama.c (buffers, entry points) and llama_pass.c (the two passes).
 * Letters as in llama.h. R stands for the largest number of rows, W = (H + 2K) E for the width of q, k and v side by
 * side. All Local. */
#ifndef COVENANT_MODEL_LLAMA_INTERNAL_H
#define COVENANT_MODEL_LLAMA_INTERNAL_H

#include "model/llama.h"

/* Tensors of a layer in table order. */
enum { WQ, WK, WV, WO, W1, W2, W3, ATTENTION_NORM, FFN_NORM, LAYER_TENSORS };

/* What a layer's backward pass needs of its forward pass, besides the layer's input. */
typedef struct {
  float *attention_rstd, *ffn_rstd;   /* [R] */
  float *attention_input, *ffn_input; /* [R, D] after the norm */
  float *qkv;                         /* [R, W], q and k rotated */
  float *attention_out;               /* [R, H E] */
  float *lse;                         /* [B, H, T] */
  float *middle;                      /* [R, D] x + wo·attention */
  float *gate, *up;                   /* [R, F]; the backward pass overwrites them with their gradients */
  float *hidden;                      /* [R, F] silu(gate) * up */
} covi_layer_state;

/* Rows `first` .. of the qkv activations come from one matrix product with `rows` output columns. */
typedef struct {
  int tensor;     /* WQ, WK or WV: the first tensor of the product */
  int64_t column; /* in the qkv buffer */
  int64_t rows;   /* of the weight matrix */
} covi_qkv_part;

struct cov_llama {
  cov_llama_config config; /* with kv_heads and head_dim filled in */
  cov_llama_shape shape;   /* with head_rows filled in */
  const cov_params *params;
  const cov_ops *ops;
  cov_place place;
  int64_t rows;         /* largest R */
  int64_t qkv_width;    /* W */
  covi_qkv_part qkv[3]; /* one part if wq, wk, wv lie in the space without a gap, else three */
  int n_qkv;

  float *rope;             /* [seq_len, E/2, 2] */
  float **x;               /* [n_x] residual stream in front of each layer and behind the last, [R, D] each */
  int64_t n_x;             /* L + 1, or 1 if nothing is kept */
  covi_layer_state *state; /* [n_state] */
  int64_t n_state;         /* L, or 1 */
  float *final_rstd;       /* [R] */
  float *final_norm;       /* [R, D] */
  float *logits;           /* [head_rows, V] */
  float *d_x;              /* [R, D] gradient of the residual stream */
  float *d_norm;           /* [R, D] gradient behind a norm */
  float *d_hidden;         /* [R, F] */
  float *d_attention;      /* [R, H E] */
  float *d_qkv;            /* [R, W] */

  void **owned; /* every buffer above, [n_owned] */
  int64_t n_owned, owned_room;
  int64_t bytes; /* of all of them */
};

/* One call's arguments. */
typedef struct {
  cov_llama *m;
  const cov_llama_source *source;
  int with_grad; /* 0: forward only */
  float grad_scale;
  const cov_llama_batch *batch;
  int64_t R; /* batch->B * batch->T */
} covi_pass;

/** Embedding, all layers and the final norm: fills m->final_norm. `keep`: the states that the backward pass needs
 *  stay; otherwise only x[0] and state[0] are used. */
cov_status covi_llama_forward(const covi_pass *pass, int keep);
/** Loss in blocks of rows; with pass->grad also the gradient of the head and m->d_norm. row_nats may be NULL. */
cov_status covi_llama_head(const covi_pass *pass, double *row_nats, cov_llama_loss *loss);
/** From m->d_norm back to the embedding. */
cov_status covi_llama_backward(const covi_pass *pass);
/** Logits of `n` rows from `first` on of m->final_norm into out[n, V]. */
cov_status covi_llama_project(const covi_pass *pass, int64_t first, int64_t n, float *out);

#endif
