/* The inner optimiser's moments as this process's part of a checkpoint. Training changes them at once, so a copy is
 * taken while it stands still, and written beside the next round. All functions are Local. */
#ifndef COVENANT_APPS_TRAIN_MOMENTS_H
#define COVENANT_APPS_TRAIN_MOMENTS_H

#include "checkpoint/saver.h"
#include "common/context.h"
#include "train/inner.h"

typedef struct {
  cov_app *app;                  /* borrowed */
  cov_segment *segment;          /* borrowed */
  cov_optimizer *optimizer;      /* borrowed */
  const cov_fsdp_layout *layout; /* borrowed: what this rank owns of each tensor */
  cov_saver *saver;
  float *copy;            /* [state_elems], owned, made at the first save */
  cov_ckpt_piece *pieces; /* one a part of the state, owned */
  double stall_s;         /* of the newest save */
} cov_moments;

/** `inner` is borrowed until close. */
cov_status cov_moments_open(cov_app *app, cov_segment *segment, cov_inner *inner, cov_moments *m);
void cov_moments_close(cov_moments *m);

/** This rank's moments and the step of the checkpoint of `round` (> 0). */
cov_status cov_moments_load(cov_moments *m, int64_t round);
/** If the state at the start of `round` is to be saved (the save word): take the copy, write it beside the work. A
 *  failure is reported in the segment and is no failure of the run. */
cov_status cov_moments_save(cov_moments *m, int64_t round);
/** The same after the last round, without a copy: returns when it is written or has failed. */
cov_status cov_moments_save_final(cov_moments *m, int64_t round);

#endif
