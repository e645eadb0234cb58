/* Llama: a pre-norm decoder with grouped-query attention, rotary positions and a gated feed-forward (protocol 1.1),
 *
 *   h = x + wo·attention(rmsnorm(x)),   y = h + w2·(silu(w1·n) * w3·n) with n = rmsnorm(h),   logits =
 * output·rmsnorm(y)
 *
 * over the canonical parameter space of model/params.h. The model holds no weights: every call gets the flat space.
 * It does no arithmetic of its own, only calls of a cov_ops table, so the reference, CPU and GPU tables share it.
 *
 * Shape letters as in ops.h: B sequences, T positions, R = B*T rows, D model width, H query heads, K key/value heads,
 * E head width, F feed-forward width, V vocabulary, L layers. All functions are Local. */
#ifndef COVENANT_MODEL_LLAMA_H
#define COVENANT_MODEL_LLAMA_H

#include <stdint.h>

#include "base/status.h"
#include "model/params.h"
#include "ops.h"

typedef struct {
  int64_t vocab;    /* V, 2 .. 2^24 */
  int64_t dim;      /* D, 1 .. 2^20 */
  int64_t layers;   /* L, 1 .. 4096 */
  int64_t heads;    /* H; dim % heads == 0 unless head_dim is given */
  int64_t kv_heads; /* K; heads % kv_heads == 0. 0: as heads */
  int64_t head_dim; /* E, even. 0: dim / heads */
  int64_t ffn;      /* F, 1 .. 2^22; cov_llama_ffn_width gives the usual rule */
  int64_t seq_len;  /* longest T, 1 .. 2^24 */
  double rope_theta;
  double norm_eps;
  int tied;              /* 1: the output projection is the embedding table */
  int depth_init;        /* 1: wo, w2, w3 of layer l start with init_std / sqrt(2 (l + 1)) (protocol 1.3) */
  double init_std;       /* 0.02 */
  double init_embed_std; /* 0: 0.02 if tied, 1 if not (protocol 1.3 has N(0,1)) */
} cov_llama_config;

/** RoPE theta 500000, eps 1e-5, tied, depth_init, init_std 0.02, seq_len 2048 (protocol 1.1 to 1.3, presets); the
 *  sizes stay 0 and must be set. */
void cov_llama_config_default(cov_llama_config *config);
/** COV_EUSAGE with the field, its value and what it must be. Fills nothing in. */
cov_status cov_llama_config_verify(const cov_llama_config *config);

/** Width rule of protocol 1.1: w = int(8 dim / 3); if multiplier > 0, w = int(multiplier * w); rounded up to
 *  multiple_of (>= 1). */
int64_t cov_llama_ffn_width(int64_t dim, double multiplier, int64_t multiple_of);
/** Parameters of the model, the table counted once if tied. `config` must be valid. */
int64_t cov_llama_param_count(const cov_llama_config *config);
/** Floating-point operations of one training step per token at length T: 6 N + 6 L T H E, where N leaves out the
 *  input table (a lookup) and has the output projection; causal attention counts half of the T x T scores. */
double cov_llama_flop_per_token(const cov_llama_config *config, int64_t T);

/** Append the tensors to the empty table `params`, in the order tok_embeddings; for each layer attention.{wq, wk, wv,
 *  wo}, feed_forward.{w1, w2, w3}, attention_norm, ffn_norm; norm; output (untied only), all with ".weight"
 *  (protocol 1.4). Matrices are [out, in]. Rows of wq and wk are in interleaved-pair RoPE order. Every tensor has
 *  decay = 1 (protocol 2.1). The caller owns `params` and destroys it, also after an error. */
cov_status cov_llama_params(const cov_llama_config *config, cov_params *params);

/* ---- the model object ---- */

typedef struct {
  int64_t batch;     /* largest B */
  int64_t seq_len;   /* largest T; <= config.seq_len */
  int64_t head_rows; /* rows of logits alive at a time, >= 1; 0: 256 */
  int evaluate_only; /* 1: no buffers for gradients, activations of one layer only */
  int sharded;       /* 1: prepared weights of one layer and the head exist at a time, since the replica is shared out
                        over ranks; 0: of all units, prepared once for each version of the weights */
  int recompute;     /* 1: keep only each layer's input and run its forward pass again in the backward pass: 1/3 more
                        matrix work, activations of one layer instead of L */
} cov_llama_shape;

/* One micro-batch. B * T is at most batch * seq_len of the shape, T at most its seq_len. Both arrays are [B, T] in the
 * memory space of the place and borrowed for the call. */
typedef struct {
  const int32_t *tokens;  /* in [0, V) */
  const int32_t *targets; /* in [0, V), or -1: this position is not counted. NULL where no loss is asked for */
  int64_t B, T;
} cov_llama_batch;

typedef struct {
  double loss_sum; /* nats */
  int64_t count;   /* positions counted */
} cov_llama_loss;

typedef struct cov_llama cov_llama;

/* Where a pass finds weights and leaves gradients. The space is cut into *units*, each contiguous: unit 0 is the
 * embedding table, units 1 .. L the layers, unit L + 1 the final norm and, untied, the output projection. A pass opens
 * a unit when it needs it and closes it behind that, so that a replica may be shared out over ranks: opening gathers,
 * closing reduces. One unit is open at a time. Order: 0, 1 .. L, L + 1 forward; then, with gradients,
 * the unit of the output projection, L + 1, L .. 1, 0. */
typedef struct {
  int64_t unit;
  int64_t first, elems; /* elements of the flat space; padding behind the last tensor included */
  const float *theta;   /* [elems], valid while the unit is open */
  float *grad;          /* [elems], added to; NULL without gradients */
} cov_llama_unit;

typedef struct {
  /* Fill in theta, and grad if `with_grad`; unit, first and elems are set. */
  cov_status (*open)(void *arg, int with_grad, cov_llama_unit *unit);
  /* What was added to unit->grad since it was opened is complete. */
  cov_status (*close)(void *arg, const cov_llama_unit *unit);
  void *arg;
} cov_llama_source;

/** Units of the model: L + 2. */
int64_t cov_llama_n_units(const cov_llama_config *config);
/** Sets unit, first and elems of unit `index`; the pointers become NULL. `params` is the table of `config`. */
void cov_llama_unit_of(const cov_llama_config *config, const cov_params *params, int64_t index, cov_llama_unit *unit);

/** Allocates every buffer once, in one block a tag (COV_MEM_ACTIVATIONS, COV_MEM_PREPARED, COV_MEM_SCRATCH), and has
 * the table make the code of its products; later calls allocate nothing. Activations and their gradients are in the
 * place's dtype, f32 or bf16; weights come, and their gradients leave, in f32, as do norm gains, logits and losses.
 * `ops` is borrowed until destroy, `place` is copied; its scratch field is ignored (the model has its own). `params` is
 * borrowed until destroy and must be the table that cov_llama_params made from `config`. COV_EUSAGE if the model cannot
 * run in the place's dtype or space. Whether it runs fast there is for the caller to ask (cov_ops_cpu_avoids). */
cov_status cov_llama_create(const cov_llama_config *config, const cov_params *params, const cov_llama_shape *shape,
                            const cov_ops *ops, const cov_place *place, cov_llama **model);
/** Sets *model to NULL. */
void cov_llama_destroy(cov_llama **model);

/* What cov_llama_create allocates, by tag. */
typedef struct {
  int64_t activations, prepared, scratch;
} cov_llama_bytes;

/** What cov_llama_create would allocate with these arguments (without the small struct itself), so that `plan` can
 *  predict it. */
cov_status cov_llama_measure(const cov_llama_config *config, const cov_llama_shape *shape, const cov_ops *ops,
                             const cov_place *place, cov_llama_bytes *bytes);

/** Promise that until the next call of this function the weights handed to the model are those of `version`, whatever
 *  number that is: what was prepared of a version is used again. 0, as at first: no promise, every call prepares anew.
 *  Whoever changes weights calls this with a number that was not used before. */
void cov_llama_set_version(cov_llama *model, int64_t version);

/** Positions with a target, over all B*T. The gradient of protocol 2.2 (mean over the counted positions of the
 *  micro-batch, divided by the accumulation count) is grad_scale = 1 / (count * accumulation). */
int64_t cov_llama_count_targets(const cov_llama_batch *batch);

/** Forward and backward pass. theta[span] f32 weights; grad[span] f32 += grad_scale * d(loss sum)/d(theta). The padding
 *  of grad is left alone. *loss is overwritten. One call for both passes, because the head's gradient is made while
 *  its block of logits exists: logits of more than head_rows rows never do.
 *  COV_EDATA: a token or target is out of range (named; nothing was computed). COV_EUSAGE: the batch is larger than
 *  the model's buffers, or the model only evaluates. COV_EBUG: an operation refused. A non-finite loss is the caller's
 *  to judge (optim/clip.h). */
cov_status cov_llama_grad(cov_llama *model, const float *theta, const cov_llama_batch *batch, float grad_scale,
                          float *grad, cov_llama_loss *loss);
/** The same over units. Collective over whatever the source is collective over; a failure of the source is passed up
 *  and leaves units open. */
cov_status cov_llama_grad_units(cov_llama *model, const cov_llama_source *source, const cov_llama_batch *batch,
                                float grad_scale, cov_llama_loss *loss);
/** Forward pass only. `row_nats`, if not NULL, is double[B*T] on the host and gets the loss of every position (0 where
 *  it is not counted). Errors as above. */
cov_status cov_llama_evaluate(cov_llama *model, const float *theta, const cov_llama_batch *batch, double *row_nats,
                              cov_llama_loss *loss);
/** Logits of rows first_row .. first_row + n_rows - 1 (row b*T + t is position t of sequence b) into
 *  logits[n_rows, V]. Targets are not read. For tests and generation; a whole batch of a large vocabulary is large. */
cov_status cov_llama_logits(cov_llama *model, const float *theta, const cov_llama_batch *batch, int64_t first_row,
                            int64_t n_rows, float *logits);

#endif
