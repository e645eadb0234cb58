/* The canonical parameter space: a table of tensors in a fixed order with names that do not depend on compiler,
 * sharding or backend (DESIGN: Parameters). Everything that travels or rests (payload, checkpoint, state hash) is
 * defined on this table. All functions are Local. */
#ifndef COVENANT_MODEL_PARAMS_H
#define COVENANT_MODEL_PARAMS_H

#include <stdint.h>

#include "base/status.h"

enum { COV_PARAM_NAME_MAX = 64, COV_PARAM_ALIGN_ELEMS = 16 };

typedef enum { COV_INIT_ZERO, COV_INIT_ONE, COV_INIT_NORMAL } cov_init;

typedef struct {
  char name[COV_PARAM_NAME_MAX]; /* "layers.3.attention.wq.weight" */
  int dims;                      /* 1 or 2 */
  int64_t rows, cols;            /* a vector of n elements has rows = 1, cols = n */
  int64_t elems;                 /* rows * cols */
  int64_t offset;                /* first element in the flat space; a multiple of COV_PARAM_ALIGN_ELEMS */
  int decay;                     /* 1: weight decay applies */
  cov_init init;
  float init_std;   /* standard deviation for COV_INIT_NORMAL */
  float init_bound; /* values beyond +-bound are drawn again; 0: no bound */
} cov_param;

typedef struct {
  cov_param *item; /* [n], owned */
  int n;
  int64_t elems; /* parameters of the model, without padding */
  int64_t span;  /* elements of the flat space: the padding between tensors is zero and never changes */
} cov_params;

/** An empty table. */
void cov_params_create(cov_params *params);
/** Append a tensor; offset, elems and span follow. dims 1: rows must be 1. Names must differ. */
cov_status cov_params_add(cov_params *params, const cov_param *tensor);
void cov_params_destroy(cov_params *params);
/** Index of `name`, or -1. */
int cov_params_find(const cov_params *params, const char *name);
/** BLAKE2b-256 over names, shapes and order: two programs with the same digest mean the same space. */
void cov_params_digest(const cov_params *params, uint8_t digest[32]);

/** theta[span]: initial values from `seed`, one counter-based stream a tensor (keyed by its name's hash). The same
 *  bits on every machine and compiler: integer generator, no libm. Padding becomes zero. */
cov_status cov_params_init(const cov_params *params, uint64_t seed, float *theta);

#endif
