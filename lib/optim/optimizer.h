/* The inner optimiser over the canonical parameter space: AdamW on every tensor, Muon on the matrices and AdamW on the
 * rest, or plain SGD, w <- (1 - lr decay) w - lr g, which has no state. The state is arrays of fp32 laid out as
 * tensors, each under the name that it has in a checkpoint, and the number of steps taken; it is kept across outer
 * steps. All functions are Local. */
#ifndef COVENANT_OPTIM_OPTIMIZER_H
#define COVENANT_OPTIM_OPTIMIZER_H

#include <stdint.h>

#include "base/status.h"
#include "model/params.h"
#include "ops.h"
#include "optim/adamw.h"
#include "optim/muon.h"

typedef enum { COV_OPTIMIZER_ADAMW, COV_OPTIMIZER_MUON, COV_OPTIMIZER_SGD } cov_optimizer_kind;

typedef struct {
  cov_optimizer_kind kind;
  cov_adamw_config adamw; /* of SGD: decay and exempt_vectors only */
  cov_muon_config muon;   /* read with kind MUON only */
} cov_optimizer_config;

/* How whole matrices are had where a rank holds parts of them (fsdp/replica.h). */
typedef struct {
  const cov_params *shapes; /* of the whole tensors, by the same indices; borrowed */
  /* x is laid out as the parts. Every tensor that wants(work_arg, tensor) becomes whole at one rank, where
   * work(work_arg, tensor, whole) changes it, and each rank has its part of that in x afterwards. Collective. */
  cov_status (*apply)(void *arg, float *x, int (*wants)(void *work_arg, int tensor),
                      cov_status (*work)(void *work_arg, int tensor, float *whole), void *work_arg);
  void *arg;
} cov_optimizer_ranks;

/* One array of the state. */
typedef struct {
  const char *group; /* "adamw.m", "adamw.v", "muon.m" */
  int tensor;        /* index in the table; the array is laid out as it */
  int64_t offset;    /* first element in cov_optimizer.state */
} cov_optimizer_part;

typedef struct {
  cov_optimizer_config config;
  const cov_params *params;  /* borrowed */
  cov_optimizer_ranks ranks; /* apply NULL: the tensors here are whole */
  float *state;              /* [state_elems], owned, COV_MEM_MOMENTS, zero at first */
  int64_t state_elems;
  cov_optimizer_part *part; /* [n_parts], owned: first moments in table order, then second ones */
  int n_parts;
  int *second;    /* [params->n], owned: part with the second moment of a tensor; -1: it has none */
  float *scratch; /* Muon's, owned, COV_MEM_SCRATCH */
  int64_t step;   /* steps taken; with `state` all there is to checkpoint */
} cov_optimizer;

/** AdamW as cov_adamw_config_default, Muon as cov_muon_config_default. */
void cov_optimizer_config_default(cov_optimizer_config *config);
/** Zero state for the tensors of `params`, which is borrowed until destroy; `ranks` (copied) if these are parts, else
 *  NULL. COV_EUSAGE names a setting out of range.
 *  cov_optimizer_destroy is due also after an error. */
cov_status cov_optimizer_create(const cov_optimizer_config *config, const cov_params *params,
                                const cov_optimizer_ranks *ranks, cov_space space, cov_optimizer *optimizer);
void cov_optimizer_destroy(cov_optimizer *optimizer);

/** One step: theta[span] and the state move; grad[span] is scaled by grad_scale (the clip factor), and what it holds
 *  afterwards is not a gradient any more. `lr` is that of the matrices with Muon, of all tensors without. The padding
 *  between tensors of theta is not touched. COV_EUSAGE: lr or grad_scale is not finite or negative (nothing moved).
 *  With Muon Collective over the ranks that hold the parts. */
cov_status cov_optimizer_step(cov_optimizer *optimizer, const cov_ops *ops, const cov_place *place, float *theta,
                              float *grad, double lr, double grad_scale);

#endif
