/* The weights of a checkpoint, with everything needed to run the model on them, without MPI. All functions are Local.
 */
#ifndef COVENANT_APPS_EVAL_WEIGHTS_H
#define COVENANT_APPS_EVAL_WEIGHTS_H

#include "common/context.h"

typedef struct {
  cov_config cfg; /* as the checkpoint has it, then the overrides */
  char folder[4096];
  int64_t round, peer;
  cov_dataset *data; /* owned */
  cov_llama_config llama;
  cov_params params; /* owned */
  float *theta;      /* [params.span], owned */
} eval_weights;

/** `dir` is a checkpoint, a folder of checkpoints (the newest good one is taken, damaged ones are warned about), or a
 *  run directory (those of its lowest peer that has one). overrides[n]: "key=value". The data folder must be the one
 *  that the run was trained on (COV_EMISMATCH), for its tokenizer. COV_EIO: no checkpoint there. */
cov_status eval_weights_open(const char *dir, const char *const *overrides, int n, eval_weights *w);
void eval_weights_close(eval_weights *w);

#endif
