/* One-dimensional arrays of 16- or 32-bit unsigned little-endian integers in numpy's .npy format, version 1.0:
 * numpy.load opens what is written here. The reader maps the file and refuses what it does not know: any other
 * version, type, order or number of dimensions, and a length that does not match the header. All Local. */
#ifndef COVENANT_DATA_NPY_H
#define COVENANT_DATA_NPY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef enum { COV_NPY_U16 = 2, COV_NPY_U32 = 4 } cov_npy_type; /* value = bytes an element */

/* Read side: fields are for reading only. */
typedef struct {
  const uint8_t *data; /* [n] elements, little-endian, inside the mapping */
  cov_npy_type type;
  int64_t n;
  void *map;
  size_t map_bytes;
} cov_npy;

/** Map `path`. COV_EIO if it cannot be opened, COV_EDATA with the reason if it is not such an array. */
cov_status cov_npy_open(const char *path, cov_npy *a);
/** Fine on a zeroed or closed one. */
void cov_npy_close(cov_npy *a);
/** Elements first .. first + n - 1, which must exist (COV_ASSERT), widened into `out` [n]. */
void cov_npy_read(const cov_npy *a, int64_t first, int64_t n, uint32_t *out);

/* Write side: the file is `path`.part until cov_npy_writer_close publishes it by a rename. */
typedef struct {
  FILE *file;
  char *path;
  cov_npy_type type;
  int64_t n;
} cov_npy_writer;

cov_status cov_npy_writer_open(const char *path, cov_npy_type type, cov_npy_writer *w);
/** Append `values` [n]; one that does not fit the type is COV_EBUG. */
cov_status cov_npy_writer_write(cov_npy_writer *w, const uint32_t *values, int64_t n);
/** Write the header, sync, rename. After a failure the .part file is gone and `w` is closed. */
cov_status cov_npy_writer_close(cov_npy_writer *w);
/** Give up: remove the .part file. Fine on a zeroed or closed writer. */
void cov_npy_writer_drop(cov_npy_writer *w);

#endif
