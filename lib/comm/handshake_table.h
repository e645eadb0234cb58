/* The checks of the handshake without MPI: a table of who is there, and whether that is a run. Private to lib/comm and
 * its tests. All Local. */
#ifndef COVENANT_COMM_HANDSHAKE_TABLE_H
#define COVENANT_COMM_HANDSHAKE_TABLE_H

#include <stdint.h>

#include "comm/handshake.h"
#include "comm/process.h"

/* One rank's statement; the same bytes on every rank, in world order. */
typedef struct {
  int32_t program, peer, peers, shard, shards;
  uint32_t protocol_version;
  int64_t pid;
  uint8_t config_digest[32];
  cov_host host;
} cov_presence;

void cov_presence_make(const cov_rank_identity *me, cov_presence *out);

/** Is table[n] a complete run? A pure function, so every rank that has the same table has the same verdict and text.
 *  It terminates the strings of the table. */
cov_status cov_presence_check(cov_presence *table, int n);

/** First rank whose config digest is not that of rank 0; -1 if there is none, or the releases are mixed (a digest of
 *  another release says nothing). */
int cov_presence_odd(const cov_presence *table, int n);
/** World ranks of (program, peer) in the order of shards to rank[n]; returns how many. peer < 0: of all peers. The
 *  table must have passed the check. */
int cov_presence_ranks(const cov_presence *table, int n, cov_program program, int peer, int *rank);

#endif
