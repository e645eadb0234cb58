/* What the files of the writers hold, joined by tensor. For lib/checkpoint only. */
#ifndef COVENANT_CHECKPOINT_SCAN_H
#define COVENANT_CHECKPOINT_SCAN_H

#include "checkpoint/checkpoint.h"

/* Part of a tensor in one file. */
typedef struct {
  int tensor, file;
  int64_t first, count;
} covi_part;

typedef struct {
  cov_ckpt_tensor *tensor; /* [n_tensors], owned; by group, then as first seen */
  covi_part *part;         /* [n_parts], owned; by tensor, then by first row */
  int n_tensors, n_parts;
} covi_scan;

/** Read the tables of files[n] in `folder`. COV_EDATA: one is no such file, two disagree about a tensor's shape, or
 *  the parts of a tensor do not cover it exactly once. */
cov_status covi_scan_files(const char *folder, const char *const *files, int n, covi_scan *out);
void covi_scan_free(covi_scan *scan);

#endif
