#include "data/assign.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "data/pcg64.h"

enum { TAIL_SHUFFLE_ABOVE = 10000 }; /* numpy's choice() uses Floyd's method up to this population */

cov_status cov_assign_verify(const cov_assign_params *p) {
  if (p->n_samples < 1) return COV_FAIL(COV_EUSAGE, "the data set holds no sample: shorter samples or more text");
  if (p->n_samples > (int64_t)UINT32_MAX + 1) {
    return COV_FAIL(COV_EUSAGE, "the data set holds %" PRId64 " samples, more than the 2^32 that can be assigned",
                    p->n_samples);
  }
  if (p->n_pool < 1) return COV_FAIL(COV_EUSAGE, "the training pool must hold at least one sample");
  if (p->n_pool > p->n_samples) {
    return COV_FAIL(COV_EUSAGE,
                    "Training pool larger than dataset: %" PRId64 " samples a round from a data set of %" PRId64
                    "; lower the pool, shorten the samples or prepare more text",
                    p->n_pool, p->n_samples);
  }
  if (p->n_consumed < 1 || p->n_consumed > p->n_pool) {
    return COV_FAIL(COV_EUSAGE,
                    "Window needs %" PRId64 " samples but its pool holds %" PRId64
                    "; raise the pool or lower inner steps times batch size",
                    p->n_consumed, p->n_pool);
  }
  return COV_OK;
}

uint32_t cov_assign_seed(uint64_t peer, uint64_t round) {
  return (uint32_t)(peer * 1000003u ^ round);
}

uint32_t cov_assign_subset_seed(uint64_t peer, uint64_t round, uint64_t time_ns) {
  return (uint32_t)(peer * 0x9E3779B1u ^ round ^ time_ns);
}

static void swap_ids(int64_t *a, int64_t *b) {
  int64_t t = *a;
  *a = *b;
  *b = t;
}

/* A large share of a large population: shuffle the end of 0 .. n-1 and take it. */
static cov_status choose_by_tail_shuffle(cov_pcg64 *g, int64_t n, int64_t k, int64_t *ids) {
  int64_t *all = malloc((size_t)n * sizeof *all);
  if (!all) return COV_FAIL(COV_ENOMEM, "no memory to draw from %" PRId64 " samples", n);
  for (int64_t i = 0; i < n; i++) all[i] = i;
  int64_t stop = n - k > 1 ? n - k : 1;
  for (int64_t i = n - 1; i >= stop; i--) swap_ids(&all[i], &all[cov_pcg64_upto(g, (uint32_t)i)]);
  memcpy(ids, all + (n - k), (size_t)k * sizeof *ids);
  free(all);
  return COV_OK;
}

/* Adds v to an open-addressing set of ids + 1 (0 is free); returns 1 if it was there already. */
static int set_add(uint64_t *set, size_t mask, int64_t v) {
  size_t at = (size_t)((uint64_t)v * 0x9E3779B97F4A7C15u >> 32) & mask;
  while (set[at]) {
    if (set[at] == (uint64_t)v + 1) return 1;
    at = (at + 1) & mask;
  }
  set[at] = (uint64_t)v + 1;
  return 0;
}

/* Floyd's method, then a shuffle, because its order is not uniform. */
static cov_status choose_by_floyd(cov_pcg64 *g, int64_t n, int64_t k, int64_t *ids) {
  size_t room = 16;
  while (room < 2 * (size_t)k) room *= 2;
  uint64_t *set = calloc(room, sizeof *set);
  if (!set) return COV_FAIL(COV_ENOMEM, "no memory to draw %" PRId64 " samples", k);
  for (int64_t j = n - k, i = 0; j < n; j++, i++) {
    int64_t v = cov_pcg64_upto(g, (uint32_t)j);
    if (set_add(set, room - 1, v)) {
      v = j;
      (void)set_add(set, room - 1, j);
    }
    ids[i] = v;
  }
  for (int64_t i = k - 1; i >= 1; i--) swap_ids(&ids[i], &ids[cov_pcg64_upto(g, (uint32_t)i)]);
  free(set);
  return COV_OK;
}

cov_status cov_assign_choose(int64_t n, int64_t k, uint32_t seed, int64_t *ids) {
  if (n < 0 || n > (int64_t)UINT32_MAX + 1 || k < 0 || k > n) {
    return COV_FAIL(COV_EUSAGE, "cannot choose %" PRId64 " different samples of %" PRId64, k, n);
  }
  if (k == 0) return COV_OK;
  cov_pcg64 g;
  cov_pcg64_open(&g, seed);
  if (n > TAIL_SHUFFLE_ABOVE && k > n / 50) return choose_by_tail_shuffle(&g, n, k, ids);
  return choose_by_floyd(&g, n, k, ids);
}

cov_status cov_assign_pool(const cov_assign_params *p, uint64_t peer, uint64_t round, int64_t *pool) {
  COV_TRY(cov_assign_verify(p));
  return cov_assign_choose(p->n_samples, p->n_pool, cov_assign_seed(peer, round), pool);
}

int64_t cov_assign_share(const cov_assign_params *p, int rank, int n_ranks) {
  COV_ASSERT(n_ranks > 0 && rank >= 0 && rank < n_ranks);
  return rank < p->n_consumed ? (p->n_consumed - rank + n_ranks - 1) / n_ranks : 0;
}

void cov_assign_slice(const cov_assign_params *p, const int64_t *pool, int rank, int n_ranks, int64_t *ids) {
  int64_t n = cov_assign_share(p, rank, n_ranks);
  for (int64_t i = 0; i < n; i++) ids[i] = pool[rank + i * n_ranks];
}

cov_status cov_assign_subset(const int64_t *pool, int64_t n_pool, int64_t count, uint32_t seed, int64_t *ids) {
  if (count > n_pool) {
    return COV_FAIL(COV_EUSAGE, "an evaluation of %" PRId64 " samples does not fit a pool of %" PRId64, count, n_pool);
  }
  COV_TRY(cov_assign_choose(n_pool, count, seed, ids));
  for (int64_t i = 0; i < count; i++) ids[i] = pool[ids[i]];
  return COV_OK;
}

static int compare_ids(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

cov_status cov_assign_digest(const int64_t *ids, int64_t n, char text[COV_DIGEST_TEXT]) {
  uint8_t word[8], digest[16];
  cov_blake2b h;
  if (n < 0) return COV_FAIL(COV_EUSAGE, "a digest of %" PRId64 " samples", n);
  int64_t *sorted = malloc((size_t)(n ? n : 1) * sizeof *sorted);
  if (!sorted) return COV_FAIL(COV_ENOMEM, "no memory to sort %" PRId64 " sample ids", n);
  if (n) memcpy(sorted, ids, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, compare_ids);
  int64_t lowest = n ? sorted[0] : 0;
  cov_blake2b_open(&h, sizeof digest);
  for (int64_t i = 0; i < n; i++) {
    for (int b = 0; b < 8; b++) word[b] = (uint8_t)((uint64_t)sorted[i] >> 8 * b);
    cov_blake2b_add(&h, word, sizeof word);
  }
  cov_blake2b_close(&h, digest);
  free(sorted);
  if (lowest < 0) return COV_FAIL(COV_EUSAGE, "sample id %" PRId64 " is negative", lowest);
  cov_hex(digest, sizeof digest, text);
  return COV_OK;
}

void cov_assign_rotation(int64_t step, int64_t per_shard, int64_t reset, int *epoch, int64_t *index) {
  int after = reset >= 0 && step >= reset;
  *epoch = per_shard > 0 ? after : 0;
  *index = per_shard > 0 ? (after ? step - reset : step) / per_shard : 0;
}
