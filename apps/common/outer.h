/* The outer state of one peer on one sync rank: theta (in the segment, shared), error feedback, encoder, and the
 * outer step on this rank's bands. Rank 0 of the peer's sync ranks is the gateway; it holds whole payloads.
 *
 *   cov_outer_encode    start, work -> this peer's payload (at the gateway)
 *   cov_outer_reset     what the next round starts from: theta
 *   cov_outer_keep      the same while the outer step is still to come: theta and what this peer did itself
 *   cov_outer_share     the agreed payloads from the gateway to all sync ranks of the peer
 *   cov_outer_finish    apply, give back, hash
 *   cov_outer_settle    before a checkpoint reads the error feedback
 *
 * All but the last are Collective over the peer's sync ranks; a failure on one is a failure on all. The gateway
 * computes in a thread of its own and looks after its links meanwhile (comm/beside.h). */
#ifndef COVENANT_APPS_OUTER_H
#define COVENANT_APPS_OUTER_H

#include "common/context.h"
#include "sparseloco/demo.h"
#include "sparseloco/encoder.h"
#include "sparseloco/outer.h"
#include "sparseloco/payload.h"
#include "sparseloco/state_hash.h"
#include "sparseloco/strategy.h"

/* Rounds whose payloads the gateway keeps: the next, the present, and two more for peers that are behind and fetch
 * them.
 */
enum { COV_GATEWAY_ROUNDS = 4 };

/* A payload as it travels. */
typedef struct {
  uint8_t *bytes;
  size_t n;
} cov_payload_bytes;

enum { COV_OUTER_STATES = 4 }; /* whose tensors' hashes are kept: others may ask about a state we have gone on from */

typedef struct {
  MPI_Comm comm; /* the peer's sync ranks */
  int shard, shards;
  cov_segment *segment; /* borrowed */
  cov_grid grid;
  cov_shard part;
  cov_quant_params quant;
  cov_encoder *encoder;
  cov_outer_params step;
  cov_demo *demo;  /* owned; NULL with any other strategy */
  float *feedback; /* error feedback of the own bands, COV_LAYOUT_SHARD; the encoder may owe it what was sent */
  float *velocity; /* outer momentum, likewise; NULL if the strategy keeps none */
  uint16_t strategy;
  bool keeps_errors;        /* what is not sent comes back in the next round (beta > 0) */
  size_t payload_bytes_max; /* what no payload of this run exceeds */
  uint8_t *piece, *pieces;  /* own piece; all pieces (gateway) */
  size_t pieces_bytes_max;
  uint8_t *leaves, *all_leaves, *ordered; /* state hash leaves: own, gathered, in the order of the space (gateway) */
  uint8_t hash[COV_STATE_HASH_BYTES];     /* of theta as it is now; the same on all ranks */
  uint8_t *recent;                        /* [COV_OUTER_STATES]: state hash, tensors' hashes (gateway) */
  int64_t n_recent;                       /* states hashed so far */
  cov_wait how;                           /* of the collectives; its poll keeps the gateway's links alive */
} cov_outer;

/** Buffers for the run of `app`. `how` is copied. */
cov_status cov_outer_create(const cov_app *app, cov_segment *segment, const cov_wait *how, cov_outer *outer);
void cov_outer_destroy(cov_outer *outer);

/** What every payload of this run and `round` must be, whoever sent it. `expect` borrows from `outer` and `app`. Local.
 */
void cov_outer_expect(const cov_outer *outer, const cov_app *app, int64_t round, cov_payload_expect *expect);

/** theta_0 into the segment (rank 0), its hash everywhere. */
cov_status cov_outer_init(cov_outer *outer, uint64_t seed);
/** Hash of theta as it is now, to outer->hash everywhere. */
cov_status cov_outer_hash(cov_outer *outer);
/** Hashes of all tensors, 16 bytes each, of the state with this hash if it is one of the latest COV_OUTER_STATES; else
 *  NULL. Gateway only. Local. */
const uint8_t *cov_outer_tensor_hashes(const cov_outer *outer, const uint8_t hash[COV_STATE_HASH_BYTES]);
/** payload[payload_bytes_max] at the gateway (elsewhere NULL), of which *bytes are used; `head` is read at the gateway.
 */
cov_status cov_outer_encode(cov_outer *outer, const cov_payload_head *head, uint8_t *payload, size_t *bytes);
/** start <- theta, unless they are the same memory. */
cov_status cov_outer_reset(cov_outer *outer);
/** start <- theta moved by what this peer did in the round that was just encoded (sparseloco/keep.h). `own`: its
 *  payload, at the gateway; n_peers: members of the present epoch, at the gateway. Needs a segment with own_start. */
cov_status cov_outer_keep(cov_outer *outer, const cov_app *app, const cov_payload_view *own, int n_peers);
/** The agreed payloads, set[n] (gateway: in; others: out, allocated here with cov_mem_alloc), and our own where it was
 *  not accepted (`rejected`; bytes NULL: it was), and the word `more` (of the gateway). */
cov_status cov_outer_share(cov_outer *outer, int *n, cov_payload_bytes *set, cov_payload_bytes *rejected, int *more);
/** Apply views[n], give `rejected` back into the error feedback (NULL: nothing), new hash in outer->hash.
 *  `round`: number of rounds done after this. */
cov_status cov_outer_finish(cov_outer *outer, const cov_payload_view *const *views, int n,
                            const cov_payload_view *rejected, int64_t round);
/** What the last round sent is off the error feedback: it may be read, as long as no round is encoded. Fails
 *  only if a link does. Local. */
cov_status cov_outer_settle(cov_outer *outer);

#endif
