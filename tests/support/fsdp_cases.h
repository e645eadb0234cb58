/* What must hold of a shared-out replica over any implementation of fsdp/ops.h and any number of ranks. Each case is
 * called by every rank and returns COV_OK, or COV_EMISMATCH with what differs: they run in threads too, where a cmocka
 * assertion must not fail. */
#ifndef COVENANT_TESTS_FSDP_CASES_H
#define COVENANT_TESTS_FSDP_CASES_H

#include "data/shards.h"
#include "fsdp/replica.h"
#include "train/inner.h"

typedef struct {
  cov_llama_config llama;
  cov_params params;
  int weights_shared;
  float *flat; /* [span] if weights_shared: one for all ranks, owned by the caller */
} fsdp_model;

/** Awkward sizes: widths that 64 does not divide, tensors of one band. vocab = 96 and tied = 0 or 1. */
void fsdp_model_create(int tied, fsdp_model *m);
void fsdp_model_destroy(fsdp_model *m);

/** Passes that only open and close units, in two different orders, with whole-number gradients: weights as put in,
 *  sums exact, padding untouched. */
cov_status fsdp_case_units(const fsdp_model *m, const cov_fsdp_ops *ops);
/** The model's gradient over micro-batches shared out over ranks is that of one rank, up to rounding. */
cov_status fsdp_case_gradient(const fsdp_model *m, const cov_fsdp_ops *ops);

/* Two rounds of the inner loop. */
typedef struct {
  const fsdp_model *model;
  const cov_dataset *data;
  int64_t batch_seqs, micro_batch_seqs;
  cov_dtype dtype;
  int muon;    /* 1: Muon moves the matrices, for which they must be put together */
  float *work; /* [span] of this rank, or of all if weights_shared */
  cov_inner_report report;
  double norm; /* of the last step */
} fsdp_rounds;

/** Train; on return r->work holds the bands of all ranks only if weights_shared, else this rank's own. */
cov_status fsdp_case_rounds(fsdp_rounds *r, const cov_fsdp_ops *ops);

#endif
