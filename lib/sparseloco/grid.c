#include "sparseloco/grid.h"

#include <stdlib.h>
#include <string.h>

#include "sparseloco/split.h"

int64_t cov_grid_split(int64_t n, int64_t edge) {
  for (int64_t d = edge < n ? edge : n; d > 1; d--) {
    if (n % d == 0) return d;
  }
  return 1;
}

int cov_grid_topk(int topk, int chunk_elems) {
  int k = topk < chunk_elems ? topk : chunk_elems;
  if (topk == COV_CHUNK_ELEMS_MAX) return chunk_elems; /* all of it, odd or not */
  if (k < 2) k = 2;
  k -= k % 2;
  return k < chunk_elems ? k : chunk_elems;
}

static cov_grid_tensor describe_tensor(const cov_param *p, int edge, int topk) {
  cov_grid_tensor t = {.offset = p->offset, .elems = p->elems, .cols = p->cols};
  int64_t rows = p->dims == 2 ? p->rows : 1;
  t.h = (int)cov_grid_split(rows, edge);
  t.w = (int)cov_grid_split(p->cols, edge);
  t.chunk_elems = t.h * t.w;
  t.Y = p->dims == 2 ? rows / t.h : p->cols / t.w;
  t.X = p->dims == 2 ? p->cols / t.w : 1;
  t.k = cov_grid_topk(topk, t.chunk_elems);
  t.n_bands = t.Y;
  t.band_elems = t.X * t.chunk_elems;
  t.n_chunks = t.Y * t.X;
  t.n_kept = t.n_chunks * t.k;
  return t;
}

/* Tensors with the same chunks share their table; the first of them owns it. */
static const cov_grid_tensor *same_chunks(const cov_grid *grid, int t) {
  const cov_grid_tensor *tensor = grid->tensor;
  for (int i = 0; i < t; i++) {
    if (tensor[i].split && tensor[i].k == tensor[t].k && tensor[i].chunk_elems == tensor[t].chunk_elems)
      return &tensor[i];
  }
  return NULL;
}

static cov_status take_split(cov_grid *grid, int t) {
  cov_grid_tensor *gt = &grid->tensor[t];
  if (gt->k < 2 || gt->k >= gt->chunk_elems || gt->k > COVI_SPLIT_K_MAX) return COV_OK;
  const cov_grid_tensor *same = same_chunks(grid, t);
  gt->split = same ? same->split : covi_split_create(gt->chunk_elems, gt->k);
  return gt->split ? COV_OK : COV_FAIL(COV_ENOMEM, "tables of the split coder for %s", grid->params->item[t].name);
}

cov_status cov_grid_create(const cov_params *params, int edge, int topk, cov_grid *grid) {
  memset(grid, 0, sizeof *grid);
  if (edge < 1 || edge > COV_CHUNK_EDGE_MAX)
    return COV_FAIL(COV_EUSAGE, "chunk edge %d is outside [1, %d]", edge, COV_CHUNK_EDGE_MAX);
  if (topk < 1 || topk > COV_CHUNK_ELEMS_MAX)
    return COV_FAIL(COV_EUSAGE, "topk %d is outside [1, %d]", topk, COV_CHUNK_ELEMS_MAX);
  cov_grid_tensor *tensor = calloc(params->n > 0 ? (size_t)params->n : 1, sizeof *tensor);
  if (!tensor) return COV_FAIL(COV_ENOMEM, "chunk grid of %d tensors", params->n);
  *grid = (cov_grid){.params = params, .tensor = tensor, .n = params->n, .edge = edge, .topk = topk};
  for (int t = 0; t < grid->n; t++) {
    const cov_param *p = &params->item[t];
    if (p->dims < 1 || p->dims > 2 || p->rows < 1 || p->cols < 1 || p->elems != p->rows * p->cols ||
        (p->dims == 1 && p->rows != 1)) {
      cov_grid_destroy(grid);
      return COV_FAIL(COV_EUSAGE, "tensor %d (%s) is neither a matrix nor a vector", t, p->name);
    }
    tensor[t] = describe_tensor(p, edge, topk);
    tensor[t].band_first = grid->n_bands;
    tensor[t].kept_first = grid->n_kept;
    if (tensor[t].n_kept > INT32_MAX) {
      long long kept = (long long)tensor[t].n_kept;
      cov_grid_destroy(grid);
      return COV_FAIL(COV_EUSAGE, "tensor %s would keep %lld values, at most 2^31 - 1 are possible; lower topk",
                      p->name, kept);
    }
    cov_status st = take_split(grid, t);
    if (st != COV_OK) {
      cov_grid_destroy(grid);
      return st;
    }
    grid->n_bands += tensor[t].n_bands;
    grid->n_kept += tensor[t].n_kept;
  }
  return COV_OK;
}

void cov_grid_destroy(cov_grid *grid) {
  for (int t = grid->n - 1; grid->tensor && t >= 0; t--) {
    if (!same_chunks(grid, t)) covi_split_destroy(grid->tensor[t].split);
  }
  free(grid->tensor);
  memset(grid, 0, sizeof *grid);
}

int64_t cov_grid_elem(const cov_grid_tensor *t, int64_t c, int i) {
  int64_t y = c / t->X, x = c % t->X;
  return y * t->band_elems + (int64_t)(i / t->w) * (t->X * t->w) + x * t->w + i % t->w;
}

void cov_grid_locate(const cov_grid_tensor *t, int64_t elem, int64_t *c, int *i) {
  int64_t width = t->X * t->w; /* a row of a band: the matrix row, or the run of a vector */
  int64_t y = elem / t->band_elems, in_band = elem % t->band_elems;
  int64_t row = in_band / width, col = in_band % width;
  *c = y * t->X + col / t->w;
  *i = (int)(row * t->w + col % t->w);
}

void cov_shard_bands(int64_t bands, int g, int G, int64_t *first, int64_t *n) {
  *first = g * bands / G;
  *n = (g + 1) * bands / G - *first;
}

cov_status cov_shard_create(const cov_grid *grid, int g, int G, cov_shard *shard) {
  memset(shard, 0, sizeof *shard);
  if (G < 1 || g < 0 || g >= G) return COV_FAIL(COV_EUSAGE, "shard %d of %d does not exist", g, G);
  cov_shard_part *part = calloc(grid->n > 0 ? (size_t)grid->n : 1, sizeof *part);
  if (!part) return COV_FAIL(COV_ENOMEM, "shard of %d tensors", grid->n);
  *shard = (cov_shard){.grid = grid, .part = part, .g = g, .G = G};
  for (int t = 0; t < grid->n; t++) {
    const cov_grid_tensor *gt = &grid->tensor[t];
    int64_t first, n;
    cov_shard_bands(gt->n_bands, g, G, &first, &n);
    part[t] = (cov_shard_part){.band = first,
                               .n_bands = n,
                               .elem = first * gt->band_elems,
                               .elems = n * gt->band_elems,
                               .chunk = first * gt->X,
                               .n_chunks = n * gt->X,
                               .n_kept = n * gt->X * gt->k,
                               .packed = shard->elems,
                               .kept = shard->n_kept,
                               .leaf = shard->n_bands};
    int64_t align = COV_PARAM_ALIGN_ELEMS;
    shard->elems += (part[t].elems + align - 1) / align * align;
    shard->n_bands += part[t].n_bands;
    shard->n_kept += part[t].n_kept;
  }
  return COV_OK;
}

void cov_shard_destroy(cov_shard *shard) {
  free(shard->part);
  memset(shard, 0, sizeof *shard);
}

int64_t cov_shard_offset(const cov_shard *shard, cov_layout layout, int t) {
  if (layout == COV_LAYOUT_SHARD) return shard->part[t].packed;
  return shard->grid->tensor[t].offset + shard->part[t].elem;
}

void cov_shard_copy(const cov_shard *shard, float *to, cov_layout to_layout, const float *from,
                    cov_layout from_layout) {
  for (int t = 0; t < shard->grid->n; t++) {
    size_t bytes = (size_t)shard->part[t].elems * sizeof *to;
    if (bytes > 0)
      memcpy(to + cov_shard_offset(shard, to_layout, t), from + cov_shard_offset(shard, from_layout, t), bytes);
  }
}
