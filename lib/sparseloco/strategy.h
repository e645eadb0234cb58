/* How peers combine what they learned: SparseLoCo and the baselines it is compared with, as settings of one outer path.
 *
 *   sparseloco   top-k of each chunk, quantised, with error feedback; plain outer step
 *   dense        every value in fp32; the outer step is plain averaging: SGD on the mean pseudo-gradient
 *   diloco       dense, and Nesterov momentum in the outer step (Douillard et al. 2023)
 *   int8         every value as one of 256 bins around the tensor's mean, without error feedback (as INTELLECT-1 did);
 *                plain averaging
 *
 *   demo         as sparseloco, on the cosine transform of each chunk (sparseloco/demo.h)
 *
 * Dense strategies send whole chunks, so a payload has no indices; everything else (format, checks, agreement, fixed
 * order of summation, state hash) is the same code. All functions are Local. */
#ifndef COVENANT_SPARSELOCO_STRATEGY_H
#define COVENANT_SPARSELOCO_STRATEGY_H

#include "sparseloco/payload.h"

typedef enum {
  COV_COMBINE_SPARSELOCO,
  COV_COMBINE_DENSE,
  COV_COMBINE_DILOCO,
  COV_COMBINE_INT8,
  COV_COMBINE_DEMO
} cov_combine;

/* What the outer path needs to know. Set to what the configuration says, then settled by the strategy. */
typedef struct {
  uint16_t strategy; /* cov_strategy_id on the wire */
  int topk;
  cov_quant_params quant;
  float beta;     /* decay of the error feedback */
  float momentum; /* of the outer step; 0: none is kept */
  int clip;
  cov_index_coder index_coder; /* of what this peer sends */
} cov_outer_settings;

/** Replace what `combine` does not leave to the configuration. */
void cov_strategy_settle(cov_combine combine, cov_outer_settings *settings);

#endif
