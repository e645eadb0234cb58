/* Words shared by kernels and library: number formats and memory spaces. */
#ifndef COVENANT_KERNELS_TYPES_H
#define COVENANT_KERNELS_TYPES_H

typedef enum { COV_F32, COV_BF16 } cov_dtype;
typedef enum { COV_SPACE_HOST, COV_SPACE_PINNED, COV_SPACE_DEVICE, COV_SPACE_COUNT } cov_space;

#endif
