/* How many bits the indices of a payload take if a coder knows where entries have been so far, measured on the data:
 * what is left to gain over `index_entropy_bits_per_value`, which is a number of the grid. Part of `covenant bench
 * codec`. Local. */
#ifndef COVENANT_CLI_BENCH_ENTROPY_H
#define COVENANT_CLI_BENCH_ENTROPY_H

#include <stdint.h>

#include "base/status.h"
#include "sparseloco/grid.h"

/** *bits of index[grid->n_kept] (kept order). Every place of a chunk is a yes or no, coded in order with the
 * probability (entries left / places left of the chunk) times a factor that is learned within the tensor: how much
 * oftener than that the answer was yes where as many entries lay before in the same row and the same column of the
 * matrix. The cost of learning is in, so a coder can reach it. Where entries are spread evenly it is log2 C(N, k) a
 * chunk and a little more. COV_ENOMEM. */
cov_status bench_entropy_indices(const cov_grid *grid, const uint16_t *index, double *bits);

#endif
