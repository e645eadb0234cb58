/* The JSON header of a safetensors file. Local. */
#ifndef COVENANT_INTEROP_SAFETENSORS_INTERNAL_H
#define COVENANT_INTEROP_SAFETENSORS_INTERNAL_H

#include <stddef.h>

#include "interop/safetensors.h"

/** Parse `bytes` bytes at `text` (no NUL needed): one object of tensors {"dtype", "shape", "data_offsets"} and perhaps
 *  "__metadata__", an object of strings, which is read over. *item[*n] is the caller's to free(). Fields may come in
 * any order; a field that is missing, unknown or there twice is COV_EDATA with its place in the text. Offsets are not
 *  compared with each other here. */
cov_status covi_safetensors_parse(const char *path, const char *text, size_t bytes, cov_safetensors_item **item,
                                  int *n);

#endif
