/* Inside of the model object, shared by llama.c (buffers, entry points), llama_weights.c (linear maps and their
 * weights) and llama_pass.c (the two passes).
 * Letters as in llama.h. R stands for the largest number of rows, W = (H + 2K) E for the width of q, k and v side by
 * side. Buffers of type void * are in the dtype of the place, the others f32. All Local. */
#ifndef COVENANT_MODEL_LLAMA_INTERNAL_H
#define COVENANT_MODEL_LLAMA_INTERNAL_H

#include "base/arena.h"
#include "model/llama.h"

enum { LLAMA_ARENAS = 3 }; /* one for each tag of cov_llama_bytes */

/* Tensors of a layer in table order. */
enum { WQ, WK, WV, WO, W1, W2, W3, ATTENTION_NORM, FFN_NORM, LAYER_TENSORS, LAYER_MAPS = ATTENTION_NORM };

/* What a layer's backward pass needs of its forward pass, besides the layer's input. */
typedef struct {
  float *attention_rstd, *ffn_rstd;  /* [R] */
  void *attention_input, *ffn_input; /* [R, D] after the norm */
  void *qkv;                         /* [R, W], q and k rotated */
  void *attention_out;               /* [R, H E] */
  float *lse;                        /* [B, H, T] */
  void *middle;                      /* [R, D] x + wo·attention */
  void *gate, *up;                   /* [R, F]; the backward pass overwrites them with their gradients */
} covi_layer_state;

/* A linear map with weights [n, k]; n = 0: part of another. */
typedef struct {
  int64_t n, k;
} covi_map;

/* Rows `column` .. of the qkv activations come from one matrix product. */
typedef struct {
  int tensor;     /* WQ, WK or WV: the first tensor of the product */
  int64_t column; /* in the qkv buffer */
} covi_qkv_part;

/* Prepared weights of one unit. A copy is NULL where products read the weights themselves. */
typedef struct {
  void *copy[LAYER_MAPS][2];   /* by tensor and cov_linear_use; the head's are [0] */
  int64_t unit[2], version[2]; /* what the copies of each use were made from */
} covi_slot;

struct cov_llama {
  cov_llama_config config; /* with kv_heads and head_dim filled in */
  cov_llama_shape shape;   /* with head_rows filled in */
  const cov_params *params;
  const cov_ops *ops;
  cov_place place;
  int64_t elem_bytes;   /* of the place's dtype */
  int64_t rows;         /* largest R */
  int64_t qkv_width;    /* W */
  covi_qkv_part qkv[3]; /* one part if wq, wk, wv lie in the space without a gap, else three */
  int n_qkv;
  covi_map map[LAYER_MAPS], head;

  int64_t version; /* of the weights that calls bring; 0: unknown */
  covi_slot *slot; /* [n_slots] of the layers */
  int64_t n_slots; /* L, or 1 */
  covi_slot head_slot;

  float *rope;   /* [seq_len, E/2, 2] */
  float *stream; /* [R, D] residual stream as it is summed, of which x and middle are rounded copies; and what
                    it was in front of each layer, [n_stream_at], where layers are run again. Not in f32 */
  float **stream_at;
  int64_t n_stream_at;
  void **x;                /* [n_x] residual stream in front of each layer and behind the last, [R, D] each */
  int64_t n_x;             /* L + 1, or 1 if nothing is kept */
  covi_layer_state *state; /* [n_state] */
  int64_t n_state;         /* L, or 1 */
  float *final_rstd;       /* [R] */
  void *final_norm;        /* [R, D] */
  float *logits;           /* [head_rows, V] */
  void *d_logits;          /* [head_rows, V]; in f32 the logits themselves */
  void *d_x;               /* [R, D] gradient of the residual stream */
  float *d_stream;         /* [R, D] the same in f32, of which d_x is a rounded copy. Not in f32 */
  void *d_norm;            /* [R, D] gradient behind a norm */
  void *hidden;      /* [R, F] silu(gate) * up of one layer; in the backward pass its gradient, then itself again */
  void *d_attention; /* [R, H E] */
  void *d_qkv;       /* [R, W] */

  cov_arena arena[LLAMA_ARENAS]; /* every buffer above; closed while the model only counts */
  cov_llama_bytes bytes;         /* of all of them, and what the arenas need for them */
};

/** Element `i` of an activation. */
static inline void *covi_elem(const cov_llama *m, void *x, int64_t i) {
  return (char *)x + i * m->elem_bytes;
}

/* ---- linear maps and their weights (llama_weights.c) ---- */

/** Fills in map, head, qkv and n_qkv from the configuration. */
void covi_llama_plan_maps(cov_llama *m);
/** *most = the larger of itself and what any map needs; makes the code of their products. */
cov_status covi_llama_maps_scratch(const cov_llama *m, int64_t *most);
/** Bytes of a prepared copy: 0 where none is needed. */
cov_status covi_llama_map_bytes(const cov_llama *m, covi_map map, cov_linear_use use, int64_t *bytes);
covi_slot *covi_llama_slot(const cov_llama *m, int64_t layer);
/** Make the copies of an open unit that `use` needs, unless they are there. */
cov_status covi_llama_prepare_layer(cov_llama *m, const cov_llama_unit *u, cov_linear_use use);
cov_status covi_llama_prepare_head(cov_llama *m, const cov_llama_unit *u, cov_linear_use use);

/* ---- passes (llama_pass.c) ---- */

/** Where a layer's tensor lies in its unit, and the output projection in its. */
int64_t covi_llama_layer_offset(const cov_llama *m, int tensor);
int64_t covi_llama_output_offset(const cov_llama *m);

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
