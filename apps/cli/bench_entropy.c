#include "cli/bench_entropy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEVELS = 9 };
static const double prior = 2; /* entries that a factor of 1 is worth at the beginning */

/* What has been seen of a tensor. */
typedef struct {
  int64_t *row, *col; /* entries so far in each row and column of the matrix; owned */
  double expected[LEVELS][LEVELS], found[LEVELS][LEVELS];
  double rate; /* entries a place, over all */
} model;

static cov_status open_model(const cov_grid_tensor *gt, model *m) {
  memset(m, 0, sizeof *m);
  m->row = calloc((size_t)(gt->elems / gt->cols), sizeof *m->row);
  m->col = calloc((size_t)gt->cols, sizeof *m->col);
  m->rate = (double)gt->k / gt->chunk_elems;
  return m->row && m->col ? COV_OK : COV_FAIL(COV_ENOMEM, "no memory for counts of rows and columns");
}

static void close_model(model *m) {
  free(m->row);
  free(m->col);
}

/* 0: too few places to tell; else how `count` entries compare with what the rate lets one expect. */
static int level_of(int64_t count, double expected) {
  static const double step[LEVELS - 2] = {0.25, 0.5, 0.75, 1, 4.0 / 3, 2, 4};
  int level = 1;
  if (expected < 0.5) return 0;
  while (level < LEVELS - 1 && (double)count > step[level - 1] * expected) level++;
  return level;
}

/* Nats of one answer, which the factors learn from. */
static double answer(model *m, int64_t r, int64_t c, double base, int yes) {
  int i = level_of(m->row[r], m->rate * (double)c), j = level_of(m->col[c], m->rate * (double)r);
  double p = base * (m->found[i][j] + prior) / (m->expected[i][j] + prior);
  if (p > 0.999) p = 0.999;
  m->expected[i][j] += base;
  m->found[i][j] += yes;
  return yes ? -log(p) : -log1p(-p);
}

/* Nats of the k ascending indices of chunk y. */
static double chunk_nats(const cov_grid_tensor *gt, model *m, int64_t y, const uint16_t *index) {
  double nats = 0;
  int have = 0;
  for (int i = 0; i < gt->chunk_elems && have < gt->k; i++) {
    int left = gt->k - have, places = gt->chunk_elems - i, yes = index[have] == i;
    int64_t elem = cov_grid_elem(gt, y, i), r = elem / gt->cols, c = elem % gt->cols;
    if (left < places) nats += answer(m, r, c, (double)left / places, yes);
    m->row[r] += yes;
    m->col[c] += yes;
    have += yes;
  }
  return nats;
}

cov_status bench_entropy_indices(const cov_grid *grid, const uint16_t *index, double *bits) {
  double nats = 0;
  *bits = 0;
  for (int t = 0; t < grid->n; t++) {
    const cov_grid_tensor *gt = &grid->tensor[t];
    model m;
    cov_status st = open_model(gt, &m);
    for (int64_t y = 0; y < gt->n_chunks && st == COV_OK; y++) {
      nats += chunk_nats(gt, &m, y, index + gt->kept_first + y * gt->k);
    }
    close_model(&m);
    COV_TRY(st);
  }
  *bits = nats / log(2);
  return COV_OK;
}
