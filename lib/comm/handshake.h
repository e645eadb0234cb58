/* The first thing the ranks of an mpirun do together: say who they are, check that the whole makes sense, and build the
 * communicators of the run. Which process belongs to which peer and shard is told to each on its command line; nothing
 * is guessed from rank numbers. */
#ifndef COVENANT_COMM_HANDSHAKE_H
#define COVENANT_COMM_HANDSHAKE_H

#include <mpi.h>
#include <stdint.h>

#include "base/status.h"
#include "comm/program.h"
#include "comm/wait.h"

enum { COV_PROTOCOL_VERSION = 1, COV_HANDSHAKE_PEERS_MAX = 4096 };

typedef struct {
  cov_program program;
  int peer;                  /* 0 .. peers-1; eval ranks: the peer whose segment they read; relays: 0 */
  int peers;                 /* of the run; must be the same everywhere */
  int shard;                 /* 0 .. shards-1 within (program, peer); eval, relay: among all of them */
  int shards;                /* of this program in each peer (G or S); eval, relay: all of them */
  uint32_t protocol_version; /* COV_PROTOCOL_VERSION */
  uint8_t config_digest[32]; /* identity digest of the resolved configuration */
} cov_rank_identity;

typedef struct {
  MPI_Comm outer; /* duplicate of the world, for the carrier only: point-to-point, never a collective */
  MPI_Comm sync;  /* my peer's sync ranks by shard, or MPI_COMM_NULL if I am not one */
  MPI_Comm train; /* my peer's train ranks by shard, likewise */
  MPI_Comm eval;  /* all eval ranks by shard, likewise */
  MPI_Comm relay; /* all relays by shard, likewise */
  int world_rank;
  int n_peers;
  int *gateway_rank; /* [n_peers] world rank of each peer's sync shard 0; -1 if this mpirun has no sync ranks. Owned */
  int *relay_rank;   /* [n_relays] world rank of each relay. Owned */
  int n_relays;
  int has_train, has_sync, has_eval; /* which programs this mpirun holds */
  int refused;  /* after a failure: 1 if the ranks were all heard and every one has the same verdict */
  int odd_rank; /* then: first world rank whose config digest is not that of rank 0, or -1 */
} cov_comms;

/** Collective over `world`; polled, `how` may be NULL. Every rank sends `me` with its host name, boot and pid-namespace
 * id and pid. Checked: same protocol version, config digest and `peers` everywhere; for train and sync, if present at
 * all, exactly shards 0..n-1 once for each peer 0..peers-1; all ranks of one peer on one host (they share memory). A
 * program that is absent (two mpiruns) is not checked here but through the segment. Every rank gets the same verdict:
 *  COV_OK, or COV_EMISMATCH / COV_EUSAGE with a text that names what is wrong and the ranks. COV_ECOMM at the deadline.
 *  On COV_OK `*out` is owned: cov_comms_destroy. On failure it is empty but for world_rank, refused and odd_rank. */
cov_status cov_handshake(MPI_Comm world, const cov_rank_identity *me, const cov_wait *how, cov_comms *out);
/** Release the table and the sub-communicators (Collective over each: only after a clean end; `outer` is left to
 *  MPI_Finalize). With clean = 0 it is Local and frees only memory. */
void cov_comms_destroy(cov_comms *comms, int clean);

#endif
