/* The chunk grid over a parameter table, and how it is divided over the shards of one peer.
 *
 * A matrix [rows, cols] is cut into blocks of h x w, a vector [n] into runs of w (protocol 3.4): h = s(rows),
 * w = s(cols) with s(n) the largest divisor of n that is at most `edge`. A *chunk* has h * w <= 4096 elements, of which
 * k are sent. A *band* is one row of chunks, contiguous in memory: h matrix rows, or one chunk of a vector. Shard g of
 * G holds bands floor(g*n/G) .. floor((g+1)*n/G)-1 of every tensor (n bands), possibly none, so that the same space is
 * divided by any G.
 *
 * Numbering: chunk c of a tensor = y * X + x, row-major over the grid [Y, X], so the chunks of a band are consecutive.
 * The *kept space* of a tensor holds k entries a chunk, in chunk order.
 * All functions are Local and thread-safe on different objects; grids are read-only once created. */
#ifndef COVENANT_SPARSELOCO_GRID_H
#define COVENANT_SPARSELOCO_GRID_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/params.h"

enum { COV_CHUNK_EDGE_MAX = 64, COV_CHUNK_ELEMS_MAX = 4096 };

struct covi_split;

typedef struct {
  int64_t offset;           /* first element in the flat space */
  int64_t elems;            /* rows * cols */
  int64_t cols;             /* row length; a vector is one row */
  int h, w;                 /* chunk height (1 for a vector) and width */
  int64_t Y, X;             /* chunks down and across; a vector has X = 1 and Y runs */
  int chunk_elems;          /* h * w */
  int k;                    /* entries kept a chunk */
  int64_t n_bands;          /* = Y */
  int64_t band_elems;       /* elements of a band */
  int64_t n_chunks;         /* Y * X */
  int64_t n_kept;           /* n_chunks * k, < 2^31 */
  int64_t band_first;       /* bands of all tensors before this one */
  int64_t kept_first;       /* kept entries of all tensors before this one */
  struct covi_split *split; /* probabilities of the split coder for k of chunk_elems, shared by tensors of the same
                                     shape; NULL where it is not used (split.h) */
} cov_grid_tensor;

typedef struct {
  const cov_params *params; /* borrowed, must outlive the grid */
  cov_grid_tensor *tensor;  /* [n], owned */
  int n;
  int edge, topk;          /* as configured */
  int64_t n_bands, n_kept; /* over all tensors */
} cov_grid;

/** Grid of `params`. edge in [1, 64], topk in [1, 4096]. COV_EUSAGE if out of range, or if a tensor would keep more
 *  than 2^31 - 1 values. */
cov_status cov_grid_create(const cov_params *params, int edge, int topk, cov_grid *grid);
void cov_grid_destroy(cov_grid *grid);

/** s(n): the largest divisor of n that is <= edge (protocol 3.4). n, edge >= 1. */
int64_t cov_grid_split(int64_t n, int64_t edge);
/** k' of a chunk (protocol 3.5): min(topk, chunk_elems), at least 2, made even, but never more than chunk_elems. topk
 *  = COV_CHUNK_ELEMS_MAX means the whole chunk, odd or not: what dense strategies send. */
int cov_grid_topk(int topk, int chunk_elems);

/** Element (offset in tensor `t`) of in-chunk index `i` of chunk `c`. */
int64_t cov_grid_elem(const cov_grid_tensor *t, int64_t c, int i);
/** The inverse: chunk and in-chunk index of an element. */
void cov_grid_locate(const cov_grid_tensor *t, int64_t elem, int64_t *c, int *i);

/* Where a buffer over the parameter space keeps the part of a shard. */
typedef enum {
  COV_LAYOUT_SPAN, /* the whole flat space [params->span]; only own bands are touched */
  COV_LAYOUT_SHARD /* own bands only, tensor after tensor, each part starting at a multiple of 16 elements:
                      [cov_shard.elems]; what lies between the parts is never touched */
} cov_layout;

typedef struct {
  int64_t band, n_bands; /* own bands: band .. band + n_bands - 1 */
  int64_t elem, elems;   /* own elements, relative to the tensor */
  int64_t chunk, n_chunks;
  int64_t n_kept;
  int64_t packed; /* offset of the part in COV_LAYOUT_SHARD */
  int64_t kept;   /* offset of its kept entries among the shard's kept entries */
  int64_t leaf;   /* offset of its bands among the shard's bands */
} cov_shard_part;

typedef struct {
  const cov_grid *grid; /* borrowed */
  cov_shard_part *part; /* [grid->n], owned */
  int g, G;
  int64_t elems;           /* of a buffer in COV_LAYOUT_SHARD */
  int64_t n_bands, n_kept; /* own ones, all tensors */
} cov_shard;

/** Own bands of shard g of G of a tensor with `bands` of them: *first .. *first + *n - 1, *n >= 0. */
void cov_shard_bands(int64_t bands, int g, int G, int64_t *first, int64_t *n);
/** Shard g of G, 0 <= g < G (else COV_EUSAGE). */
cov_status cov_shard_create(const cov_grid *grid, int g, int G, cov_shard *shard);
void cov_shard_destroy(cov_shard *shard);
/** First element of the shard's part of tensor t in a buffer of the given layout. */
int64_t cov_shard_offset(const cov_shard *shard, cov_layout layout, int t);
/** Copy own bands between two buffers of any layouts. */
void cov_shard_copy(const cov_shard *shard, float *to, cov_layout to_layout, const float *from, cov_layout from_layout);

#endif
