/* A file that is written under a temporary name and appears whole, or not at all. For lib/checkpoint only. */
#ifndef COVENANT_CHECKPOINT_ASIDE_H
#define COVENANT_CHECKPOINT_ASIDE_H

#include <stddef.h>
#include <stdint.h>

#include "checkpoint/checkpoint.h"

typedef struct {
  int fd;                                                    /* -1: closed */
  char path[COV_CKPT_PATH_BYTES], part[COV_CKPT_PATH_BYTES]; /* its name, and the one until it appears */
} covi_aside;

/** Create FOLDER/NAME.tmp, or empty what an interrupted write left there. COV_EIO. Also after a failure, drop it. */
cov_status covi_aside_open(covi_aside *a, const char *folder, const char *name);
/** `data` to where it belongs. COV_EIO (disk full). */
cov_status covi_aside_write(covi_aside *a, const void *data, size_t bytes, int64_t offset);
/** Everything is written: sync, close. The file has exactly `bytes` bytes, zeros where nothing was written. COV_EIO. */
cov_status covi_aside_close(covi_aside *a, int64_t bytes);
/** Give it its name and sync the folder. */
cov_status covi_aside_publish(covi_aside *a, const char *folder);
/** Remove what has not been published. */
void covi_aside_drop(covi_aside *a);

#endif
