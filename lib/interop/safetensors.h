/* Strict reader of one safetensors file: 8 bytes little-endian header length, a JSON header, raw little-endian data.
 * The file is hostile: names, dtypes, shapes, offsets, their order and the file's length are checked when it is
 * opened, and a file that passes has no hole, no overlap and no byte too many. All functions are Local. */
#ifndef COVENANT_INTEROP_SAFETENSORS_H
#define COVENANT_INTEROP_SAFETENSORS_H

#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

enum { COV_SAFETENSORS_DIMS_MAX = 8, COV_SAFETENSORS_NAME_MAX = 256 };

typedef enum {
  COV_ST_F32,
  COV_ST_BF16,
  COV_ST_F16,
  COV_ST_OTHER /* a dtype of the format that holds no weights we read (integers, F64, ...) */
} cov_safetensors_dtype;

typedef struct {
  char name[COV_SAFETENSORS_NAME_MAX];
  cov_safetensors_dtype dtype;
  int item_bytes;
  int dims;
  int64_t shape[COV_SAFETENSORS_DIMS_MAX];
  int64_t elems;
  uint64_t begin, end; /* bytes in the data part */
} cov_safetensors_item;

typedef struct {
  FILE *file;                 /* owned */
  char path[1024];            /* for messages */
  uint64_t data_offset;       /* of the data part in the file */
  cov_safetensors_item *item; /* [n], owned, ascending by `begin` */
  int n;
} cov_safetensors;

/** COV_EIO: cannot be read. COV_EDATA: not a sound safetensors file; the text says where and why. `*st` needs no
 *  close after an error. */
cov_status cov_safetensors_open(const char *path, cov_safetensors *st);
void cov_safetensors_close(cov_safetensors *st);
/** Index of `name`, or -1. */
int cov_safetensors_find(const cov_safetensors *st, const char *name);
/** out[elems] of tensor `index` as f32 (F32 bits as they are; BF16 and F16 exactly converted). COV_EDATA: another
 *  dtype. Values are not judged: NaN passes. */
cov_status cov_safetensors_read(const cov_safetensors *st, int index, float *out);

#endif
