#include "fsdp/layout.h"

#include <stdlib.h>
#include <string.h>

/* Kept entries are of no interest here: the fewest, so that no tensor is too large for the grid. */
enum { GRID_TOPK = 2 };

int64_t cov_fsdp_ranks_most(const cov_grid *grid) {
  int64_t most = 0;
  for (int t = 0; t < grid->n; t++) {
    if (grid->tensor[t].n_bands > most) most = grid->tensor[t].n_bands;
  }
  return most;
}

static int64_t aligned(int64_t elems) {
  return (elems + COV_PARAM_ALIGN_ELEMS - 1) / COV_PARAM_ALIGN_ELEMS * COV_PARAM_ALIGN_ELEMS;
}

/* Part of tensor `t` that shard g of G owns: *first relative to the tensor; returns the elements. */
static int64_t part_of(const cov_grid_tensor *t, int g, int G, int64_t *first) {
  int64_t band, n;
  cov_shard_bands(t->n_bands, g, G, &band, &n);
  *first = band * t->band_elems;
  return n * t->band_elems;
}

static int64_t run_of(const cov_fsdp_layout *l, const cov_fsdp_unit *u, int g) {
  int64_t first, elems = 0;
  for (int i = 0; i < u->n_tensors; i++) {
    elems += aligned(part_of(&l->grid.tensor[u->first_tensor + i], g, l->shard.G, &first));
  }
  return elems;
}

/* Own parts as a table of tensors. */
static cov_status make_table(cov_fsdp_layout *l) {
  const cov_params *whole = l->grid.params;
  l->table.item = calloc(whole->n > 0 ? (size_t)whole->n : 1, sizeof *l->table.item);
  if (!l->table.item) return COV_FAIL(COV_ENOMEM, "table of %d parts", whole->n);
  for (int t = 0; t < whole->n; t++) {
    const cov_shard_part *part = &l->shard.part[t];
    cov_param *own = &l->table.item[l->table.n++];
    *own = whole->item[t];
    own->rows = own->dims == 1 ? 1 : part->elems / own->cols;
    if (own->dims == 1) own->cols = part->elems;
    own->elems = part->elems;
    own->offset = part->packed;
    l->table.elems += part->elems;
  }
  l->table.span = l->shard.elems;
  return COV_OK;
}

static void measure_unit(cov_fsdp_layout *l, const cov_llama_config *llama, int64_t index) {
  cov_fsdp_unit *u = &l->unit[index];
  cov_llama_unit flat;
  cov_llama_unit_of(llama, l->grid.params, index, &flat);
  *u = (cov_fsdp_unit){.first = flat.first, .elems = flat.elems, .first_tensor = -1};
  for (int t = 0; t < l->grid.n; t++) {
    if (l->grid.tensor[t].offset < flat.first || l->grid.tensor[t].offset >= flat.first + flat.elems) continue;
    if (u->first_tensor < 0) u->first_tensor = t;
    u->n_tensors++;
  }
  u->mine = l->shard.part[u->first_tensor].packed;
  u->mine_elems = run_of(l, u, l->shard.g);
  int64_t shortest = u->mine_elems;
  for (int g = 0; g < l->shard.G; g++) {
    int64_t run = run_of(l, u, g);
    if (run > u->count) u->count = run;
    if (run < shortest) shortest = run;
  }
  /* Equal runs of one tensor without padding between them. */
  u->direct =
      u->n_tensors == 1 && shortest == u->count && u->count * l->shard.G == l->grid.tensor[u->first_tensor].elems;
  if (u->mine + u->count > l->shard_elems) l->shard_elems = u->mine + u->count;
  if (u->count > l->count_max) l->count_max = u->count;
  if (u->elems > l->widest) l->widest = u->elems;
  if (u->count * l->shard.G > l->widest) l->widest = u->count * l->shard.G;
}

cov_status cov_fsdp_layout_create(const cov_llama_config *llama, const cov_params *params, int edge, int rank, int size,
                                  cov_fsdp_layout *layout) {
  cov_status st = COV_OK;
  memset(layout, 0, sizeof *layout);
  COV_TRY_DONE(cov_grid_create(params, edge, GRID_TOPK, &layout->grid));
  const int64_t most = cov_fsdp_ranks_most(&layout->grid);
  if (size > most) {
    COV_FAIL_DONE(
        COV_EUSAGE,
        "%d ranks are to share a replica, but its largest tensor has only %lld bands (rows of chunks), so that "
        "some would own nothing; take at most %lld (run.ranks_per_peer), or a smaller sync.chunk",
        size, (long long)most, (long long)most);
  }
  COV_TRY_DONE(cov_shard_create(&layout->grid, rank, size, &layout->shard));
  COV_TRY_DONE(make_table(layout));
  layout->n_units = cov_llama_n_units(llama);
  layout->shard_elems = layout->shard.elems;
  layout->unit = calloc((size_t)layout->n_units, sizeof *layout->unit);
  if (!layout->unit) COV_FAIL_DONE(COV_ENOMEM, "table of %lld units", (long long)layout->n_units);
  for (int64_t u = 0; u < layout->n_units; u++) measure_unit(layout, llama, u);
done:
  if (st != COV_OK) cov_fsdp_layout_destroy(layout);
  return st;
}

void cov_fsdp_layout_destroy(cov_fsdp_layout *layout) {
  free(layout->unit);
  free(layout->table.item);
  cov_shard_destroy(&layout->shard);
  cov_grid_destroy(&layout->grid);
  memset(layout, 0, sizeof *layout);
}

/* One walk for both directions: f(flat part, rank-major part, bytes). */
static void copy_parts(const cov_fsdp_layout *l, int64_t unit, float *flat, float *all, int to_flat) {
  const cov_fsdp_unit *u = &l->unit[unit];
  for (int g = 0; g < l->shard.G; g++) {
    float *run = all + g * u->count;
    for (int i = 0; i < u->n_tensors; i++) {
      const cov_grid_tensor *t = &l->grid.tensor[u->first_tensor + i];
      int64_t first, elems = part_of(t, g, l->shard.G, &first);
      float *part = flat + (t->offset - u->first) + first;
      if (elems > 0) memcpy(to_flat ? part : run, to_flat ? run : part, (size_t)elems * sizeof *flat);
      run += aligned(elems);
    }
  }
}

void cov_fsdp_to_flat(const cov_fsdp_layout *layout, int64_t unit, const float *all, float *flat) {
  copy_parts(layout, unit, flat, (float *)all, 1); /* only read */
}

void cov_fsdp_to_ranks(const cov_fsdp_layout *layout, int64_t unit, const float *flat, float *all) {
  copy_parts(layout, unit, (float *)flat, all, 0); /* only read */
}
