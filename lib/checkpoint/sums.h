/* Hashes of a checkpoint's files: SUMS, one line "64 hex digits, two spaces, name" a file. For lib/checkpoint only. */
#ifndef COVENANT_CHECKPOINT_SUMS_H
#define COVENANT_CHECKPOINT_SUMS_H

#include <stdint.h>

#include "base/hash.h"
#include "checkpoint/checkpoint.h"

#define COVI_INDEX "index.h5"
#define COVI_SUMS  "SUMS"

typedef struct {
  char name[COV_CKPT_NAME_BYTES];
  uint8_t hash[COV_HASH_BYTES];
} covi_sum;

/** BLAKE2b-256 and size of a file. COV_EIO. */
cov_status covi_file_hash(const char *path, uint8_t hash[COV_HASH_BYTES], int64_t *bytes);
/** FOLDER/SUMS, atomically. */
cov_status covi_sums_write(const char *folder, const covi_sum *sums, int n);
/** *sums is owned by the caller (free). COV_EDATA names the line that is none. */
cov_status covi_sums_read(const char *folder, covi_sum **sums, int *n);
/** COV_EDATA: no folder can hold a file of this name safely ("..", a slash, a control character). */
cov_status covi_file_name_check(const char *name);
/** fsync of a folder; file systems that refuse that are fine. COV_EIO if it cannot be opened. */
cov_status covi_folder_sync(const char *folder);

#endif
