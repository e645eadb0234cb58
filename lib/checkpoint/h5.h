/* HDF5 as the checkpoint needs it: quiet, without locks, its innermost error in our words. For lib/checkpoint only.
 * HDF5's own error printing is off while we are in here; nothing here is thread-safe. */
#ifndef COVENANT_CHECKPOINT_H5_H
#define COVENANT_CHECKPOINT_H5_H

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/** Before the first call of each public function: HDF5 prints nothing, its errors are kept for covi_h5_fail. */
void covi_h5_quiet(void);
/** Fail with "TEXT: cause", the cause of HDF5's last error. Usage: return COVI_H5_FAIL(COV_EDATA, "cannot open %s",
 * path); */
#define COVI_H5_FAIL(status, ...) covi_h5_fail((status), __FILE__, __LINE__, __VA_ARGS__)
cov_status covi_h5_fail(cov_status st, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/** Create on a file in memory (image.h), or open for reading. Negative on failure. */
hid_t covi_h5_create(const char *path);
hid_t covi_h5_open(const char *path);

/** Make the group if it is not there yet; its members are listed in the order of making. */
cov_status covi_h5_group(hid_t file, const char *name);

/** Shape of a dataset that can hold a tensor: fp32, one or two dimensions, not empty, fewer than 2^48 elements. False
 *  if it is none. shape[1] of a vector is 0. */
bool covi_h5_shape(hid_t set, int *dims, int64_t shape[2]);

/** Attributes of `object`. Reading returns false if it is missing or of another type or size. */
cov_status covi_h5_put_ints(hid_t object, const char *name, const int64_t *values, int n);
cov_status covi_h5_put_bytes(hid_t object, const char *name, const uint8_t *data, size_t bytes);
cov_status covi_h5_put_text(hid_t object, const char *name, const char *text);
bool covi_h5_get_ints(hid_t object, const char *name, int64_t *values, int n);
bool covi_h5_get_bytes(hid_t object, const char *name, uint8_t *data, size_t bytes);
/** Owned by the caller (free); NULL if missing, of another type, or without memory. */
char *covi_h5_get_text(hid_t object, const char *name);

/* The groups of a checkpoint, in the order in which they are listed. */
extern const char *const covi_ckpt_groups[];
enum { COVI_CKPT_GROUPS = 6 };

/** Where a tensor is: "/feedback/NAME"; in the index theta is at the root. COV_EUSAGE: no such group, or a bad name. */
cov_status covi_ckpt_path(const char *group, const char *name, bool in_index, char *out, size_t size);

/* What never was written reads as this: a NaN with a mark of ours in its payload. */
enum { COVI_FILL_BITS = 0x7fc0c0de };
float covi_fill(void);

#endif
