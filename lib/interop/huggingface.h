/* Weights between Hugging Face's Llama layout and ours: names, and the row order of wq and wk. Theirs rotates the two
 * halves of a head against each other, ours neighbouring pairs, so rows of a head go (0, E/2, 1, E/2+1, ...) on the way
 * in (the inverse of protocol 1.5). All functions are Local. */
#ifndef COVENANT_INTEROP_HUGGINGFACE_H
#define COVENANT_INTEROP_HUGGINGFACE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "interop/safetensors.h"
#include "model/llama.h"
#include "model/params.h"

/** "layers.0.attention.wq.weight" -> "model.layers.0.self_attn.q_proj.weight". COV_EUSAGE: no tensor of a Llama. */
cov_status cov_hf_name(const char *canonical, char *name, size_t name_bytes);
/** Heads whose rows change order in this tensor: H for wq, K for wk, 0 for the others. */
int64_t cov_hf_permuted_heads(const char *canonical, const cov_llama_config *config);
/** out = in[rows, cols] with the rows of each of `heads` heads brought from half-split to interleaved order; rows is a
 *  multiple of 2 * heads; in and out do not overlap. */
void cov_hf_rows_import(float *out, const float *in, int64_t rows, int64_t cols, int64_t heads);
/** The inverse (protocol 1.5). */
void cov_hf_rows_export(float *out, const float *in, int64_t rows, int64_t cols, int64_t heads);

/** Fill theta[span] from one file. Every tensor of `params` must be there with its shape; a tied model may have
 *  lm_head.weight, which is not read. Other tensors than ours in the file are an error, except rotary
 *  "*.inv_freq" buffers. Padding of theta becomes zero. COV_EDATA names the tensor; theta is then undefined. */
cov_status cov_hf_import(const cov_safetensors *st, const cov_llama_config *config, const cov_params *params,
                         float *theta);

#endif
