/* Matrix products of oneDNN with packed weights: the only header between us and its primitives. What differs between
 * oneDNN 2.x and 3.x is in onednn.c alone, which compiles against both.
 *
 * A *job* is one primitive for one shape, with the objects that a run needs, so that running it makes nothing new but
 * what the library makes for itself. A job belongs to one thread at a time. All functions return 0, or -1 if the
 * library refuses. */
#ifndef COVENANT_KERNELS_CPU_ONEDNN_H
#define COVENANT_KERNELS_CPU_ONEDNN_H

#include <stdint.h>

#include "types.h"

/* COVI_PRODUCT: C[m,n] = A[m,k] B[k,n], added to C if `add`; sums in f32.
 * COVI_PACKING: the f32 matrix B[k,n] into the layout, and the dtype, that products with packed_b read. */
typedef enum { COVI_PRODUCT, COVI_PACKING } covi_job_kind;

typedef struct {
  covi_job_kind kind;
  cov_dtype in;         /* of A and B in a product; of the packed matrix */
  cov_dtype out;        /* of C */
  int64_t m, n, k;      /* m is 0 in a packing: the packed layout is the same for every m */
  int64_t a_row, a_col; /* strides of A in elements, one of them 1 */
  int packed_b;         /* 1: B was packed by a COVI_PACKING of the same in, n, k, threads; b_row, b_col are 0 */
  int64_t b_row, b_col; /* strides of B */
  int64_t c_row;        /* row length of C */
  int add;
  int threads; /* that run it */
} covi_job_shape;

typedef struct covi_job covi_job;

/** `own_scratch` 1: the library keeps the scratch memory itself, allocated here; 0: each run brings it. */
int covi_job_create(const covi_job_shape *shape, int own_scratch, covi_job **job);
void covi_job_destroy(covi_job *job);
/** Bytes that a run must bring, 64-byte aligned; 0 with own_scratch. */
int64_t covi_job_scratch_bytes(const covi_job *job);
/** Of the packed matrix. */
int64_t covi_job_packed_bytes(const covi_job *job);
/** Product: c from a and b. Packing: c from b; a is NULL. b, c 64-byte aligned where packed. */
int covi_job_run(covi_job *job, const void *a, const void *b, void *c, void *scratch);

/** 1 if the library multiplies bf16 here with instructions made for it, rather than by emulation, which is slower than
 *  f32: AVX512-BF16 or AMX, and no ONEDNN_MAX_CPU_ISA that forbids them. */
int covi_onednn_has_bf16(void);
/** 1 if that is with AMX. */
int covi_onednn_has_amx(void);

#endif
