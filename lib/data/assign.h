/* Which samples a peer trains on in a round: a pure function of (peer number, round, sizes), so that anyone can
 * check it afterwards. Source: protocol.md section 6.3 (assignment) and 6.4 (rotation of large shards).
 *
 * Letters: N samples in the data set, k the pool drawn for a round, c <= k the samples consumed by it. The original
 * has N = 52,428,800, k = 30,720, c = 5,760; its digest covers the whole pool, not what was trained.
 * Peers draw independently: two peers may hold the same sample. All functions are Local and thread-safe. */
#ifndef COVENANT_DATA_ASSIGN_H
#define COVENANT_DATA_ASSIGN_H

#include <stdint.h>

#include "base/status.h"

typedef struct {
  int64_t n_samples;  /* N, 1 <= N <= 2^32 */
  int64_t n_pool;     /* k, 1 <= k <= N */
  int64_t n_consumed; /* c, 1 <= c <= k: the first c of the pool are trained on */
} cov_assign_params;

/** COV_EUSAGE naming the offending size: pool larger than the data set, a round that needs more than its pool. */
cov_status cov_assign_verify(const cov_assign_params *p);

/** ((peer * 1000003) XOR round) mod 2^32. */
uint32_t cov_assign_seed(uint64_t peer, uint64_t round);

/** numpy's default_rng(seed).choice(n, k, replace=False): k different numbers below n, in numpy's order, into
 *  `ids` [k] (caller's). 0 <= k <= n <= 2^32, else COV_EUSAGE. Needs 8n bytes for a moment when
 *  n > 10000 and k > n/50, else about 16k. */
cov_status cov_assign_choose(int64_t n, int64_t k, uint32_t seed, int64_t *ids);

/** The pool of (peer, round) into `pool` [p->n_pool] (caller's). */
cov_status cov_assign_pool(const cov_assign_params *p, uint64_t peer, uint64_t round, int64_t *pool);

/** What data-parallel rank `rank` of `n_ranks` consumes of `pool`: entries rank, rank + n_ranks, ... below
 *  n_consumed, into `ids` [cov_assign_share(p, rank, n_ranks)]. Shares of all ranks are disjoint, their union is the
 *  first n_consumed entries. */
int64_t cov_assign_share(const cov_assign_params *p, int rank, int n_ranks);
void cov_assign_slice(const cov_assign_params *p, const int64_t *pool, int rank, int n_ranks, int64_t *ids);

/** `count` samples of `pool` [n_pool] for an evaluation, drawn with `seed`, into `ids` [count].
 *  count > n_pool is COV_EUSAGE. The original's seed is cov_assign_subset_seed. */
cov_status cov_assign_subset(const int64_t *pool, int64_t n_pool, int64_t count, uint32_t seed, int64_t *ids);
/** (peer * 0x9E3779B1 XOR round XOR time_ns) mod 2^32. */
uint32_t cov_assign_subset_seed(uint64_t peer, uint64_t round, uint64_t time_ns);

enum { COV_DIGEST_TEXT = 33 }; /* 32 hex digits and the final NUL */
/** BLAKE2b-16, in hex, of the sorted ids as unsigned 64-bit little-endian numbers. Order of `ids` [n] is of no
 *  account; they must not be negative (COV_EUSAGE). */
cov_status cov_assign_digest(const int64_t *ids, int64_t n, char text[COV_DIGEST_TEXT]);

/** Which shard of a rotating set is current at outer step `step`: (0, step / per_shard) before `reset`,
 *  (1, (step - reset) / per_shard) from there on; reset < 0 means never; per_shard <= 0 gives (0, 0). */
void cov_assign_rotation(int64_t step, int64_t per_shard, int64_t reset, int *epoch, int64_t *index);

#endif
