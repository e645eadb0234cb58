/* Text from a set of weights, token by token. Each token is a forward pass over all tokens before it: no cache of keys
 * and values, so a text of n tokens costs n times a pass; meant for looking at a model, not for serving one. All
 * functions are Local. */
#ifndef COVENANT_EVALUATE_GENERATE_H
#define COVENANT_EVALUATE_GENERATE_H

#include <stdint.h>

#include "base/status.h"
#include "data/pcg64.h"
#include "data/tokenizer.h"
#include "model/llama.h"

typedef struct {
  double temperature; /* > 0: divides the logits; 0: greedy, the most likely token each time */
  int64_t top_k;      /* only the k most likely; 0: all */
  double top_p;       /* only the most likely that together reach this probability, in (0, 1]; 1: all */
} cov_sampling;

/** COV_EUSAGE names what is out of range. */
cov_status cov_sampling_verify(const cov_sampling *sampling);
/** One token of logits[V] (changed). Equal logits: the lower id first. Draws once from `random` unless greedy.
 *  COV_ENUMERIC if a logit is not finite. */
cov_status cov_sample_token(float *logits, int64_t V, const cov_sampling *sampling, cov_pcg64 *random, uint32_t *token);

typedef struct cov_generator cov_generator;

/** Only ids below `choices` (1 .. vocab) are chosen: a model may have more rows than its tokenizer has pieces
 *  (model.vocab). `params`, `ops` are borrowed until destroy. `*out` is owned. */
cov_status cov_generator_create(const cov_llama_config *config, const cov_params *params, int64_t choices,
                                const cov_ops *ops, const cov_place *place, cov_generator **out);
void cov_generator_destroy(cov_generator **g); /* NULL is fine */

/** Append up to max_tokens to `list`, which holds the beginning (at least one token): until `eos` (not appended), or
 *  the context of the model is full. COV_EUSAGE if the beginning fills it already. */
cov_status cov_generate(cov_generator *g, const float *theta, const cov_sampling *sampling, cov_pcg64 *random,
                        uint32_t eos, int64_t max_tokens, cov_token_list *list);

#endif
