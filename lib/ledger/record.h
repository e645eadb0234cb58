/* One record of the ledger: its meaning as a struct, its bytes, and the two functions between them. All Local.
 *
 * Bytes (little-endian, docs/ledger.md has every field):
 *
 *   0   u32  body bytes
 *   4   u32  type (1 genesis, 2 round, 3 close)
 *   8   32   hash of the record before it in the chain (genesis: zero)
 *   40  u32  header check: first four bytes of BLAKE2b-256 over bytes 0..39
 *   44  ...  body
 *   ..  32   record hash = BLAKE2b-256(previous hash || type as u32 || body)
 *   ..  64   signature of the record hash by the round's proposer; zero in genesis and close records
 *
 * A record holds nothing that differs between peers, so all peers store the same bytes. In particular the ballot and
 * the proposer of a round are those at which its set was *first* proposed: when another peer has to finish the
 * agreement it passes the signed record on unchanged.
 *
 * Encoding is canonical: bytes that decode encode again to the same bytes. */
#ifndef COVENANT_LEDGER_RECORD_H
#define COVENANT_LEDGER_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "ledger/identity.h"

enum {
  COV_LEDGER_MAX_MEMBERS = 128, /* members of one epoch; a bound for parsers, not a property of the protocol */
  COV_LEDGER_MAX_PEER = 65535,  /* peer numbers are 0 .. this: a ballot holds them in 16 bits */
  COV_RUN_ID_BYTES = 16,
  COV_RECORD_HEADER_BYTES = 44,
  COV_RECORD_TRAILER_BYTES = COV_HASH_BYTES + COV_SIGNATURE_BYTES,
  COV_RECORD_MAX_BYTES = COV_RECORD_HEADER_BYTES + 80 + COV_LEDGER_MAX_MEMBERS * (60 + 36) + COV_RECORD_TRAILER_BYTES
};

typedef enum { COV_RECORD_GENESIS = 1, COV_RECORD_ROUND = 2, COV_RECORD_CLOSE = 3 } cov_record_type;

/** A peer number and the key it is bound to. Lists of members ascend strictly by peer number. */
typedef struct {
  int32_t peer;
  uint8_t key[COV_KEY_BYTES];
} cov_epoch_member;

/** What all peers must share before the first round. */
typedef struct {
  uint8_t run_id[COV_RUN_ID_BYTES];
  uint32_t protocol_version;
  uint8_t config_digest[COV_HASH_BYTES]; /* identity digest of the resolved configuration */
  uint8_t params_digest[COV_HASH_BYTES]; /* names and shapes of the parameter table */
  uint8_t state_hash[COV_HASH_BYTES];    /* of theta_0 */
  int32_t n_members;                     /* 1 .. COV_LEDGER_MAX_MEMBERS */
  cov_epoch_member members[COV_LEDGER_MAX_MEMBERS];
} cov_genesis;

/** One payload of an agreed set. */
typedef struct {
  int32_t peer;
  uint8_t hash[COV_HASH_BYTES]; /* of the payload's bytes */
  int64_t payload_bytes;
  int64_t inner_steps;
  int64_t tokens;
} cov_set_entry;

/** What was agreed for one round. */
typedef struct {
  int32_t epoch; /* the epoch whose members agreed; it grows by one where the members after differ from those before */
  int64_t round;
  uint64_t ballot;                                  /* at which the set was first proposed */
  int32_t proposer;                                 /* who first proposed it, and signed */
  bool stop;                                        /* someone was asked to stop: the run ends after this round */
  uint8_t base_state_hash[COV_HASH_BYTES];          /* of theta_t, from which all payloads of the set start */
  int32_t n_set;                                    /* 1 .. */
  cov_set_entry set[COV_LEDGER_MAX_MEMBERS];        /* ascending by peer number */
  int32_t n_members;                                /* 1 .. */
  cov_epoch_member members[COV_LEDGER_MAX_MEMBERS]; /* after this round, ascending */
} cov_round;

typedef enum {
  COV_CLOSE_FINISHED = 1, /* all rounds of the configuration are done */
  COV_CLOSE_STOPPED = 2   /* someone asked for an end; the run can be resumed */
} cov_close_reason;

/** How a run ended. A leaf: the chain goes on from the record before it (see ledger.h). */
typedef struct {
  int64_t n_rounds;                   /* rounds done */
  uint8_t state_hash[COV_HASH_BYTES]; /* of the state after the last of them */
  uint32_t reason;
} cov_close;

typedef struct {
  cov_record_type type;
  uint8_t previous[COV_HASH_BYTES];
  union {
    cov_genesis genesis;
    cov_round round;
    cov_close close;
  };
  uint8_t hash[COV_HASH_BYTES];           /* set by encode and decode */
  uint8_t signature[COV_SIGNATURE_BYTES]; /* set by encode and decode */
} cov_record;

/** Write `r` to `out` (`room` bytes; COV_RECORD_MAX_BYTES always suffice), `*used` bytes of it. Computes hash and
 *  signature, signing with `signer` (round records only; NULL elsewhere), and stores both in `r`.
 *  Errors: COV_EBUG if `r` breaks a rule that cov_record_decode checks, or `room` is too small. */
cov_status cov_record_encode(cov_record *r, const cov_identity *signer, uint8_t *out, size_t room, size_t *used);

/** Strictly parse one record that fills `data` exactly. Checks lengths, ranges, orders, header check and hash; neither
 *  the chain nor the signature. Errors: COV_EDATA with the reason; `*r` is then undefined. */
cov_status cov_record_decode(const uint8_t *data, size_t bytes, cov_record *r);

/** `*need` = bytes of the record that starts at `data`, from its header alone; it may be more than `bytes`. With fewer
 *  than COV_RECORD_HEADER_BYTES bytes `*need` is that. COV_EDATA: no header that this version can write. */
cov_status cov_record_measure(const uint8_t *data, size_t bytes, size_t *need);

/** True if the signature of a round record is `key`'s; of other records, if it is zero. */
bool cov_record_signed_by(const cov_record *r, const uint8_t key[COV_KEY_BYTES]);

/** Member `peer` of an ascending list, or NULL. */
const cov_epoch_member *cov_epoch_member_find(const cov_epoch_member *members, int32_t n_members, int32_t peer);
/** Entry of `peer` in the set of `r`, or NULL: whether what this peer sent was accepted. */
const cov_set_entry *cov_round_find(const cov_round *r, int32_t peer);
/** True if both lists are the same, keys included. */
bool cov_epoch_members_equal(const cov_epoch_member *a, int32_t n_a, const cov_epoch_member *b, int32_t n_b);

/** Ballots: attempt * 65536 + peer number, so two proposers never share one; 0 belongs to the lowest member. */
static inline uint64_t cov_ballot_make(uint64_t attempt, int32_t peer) {
  return attempt * 65536u + (uint64_t)peer;
}
/** Who may use `ballot` among the ascending `members`: its peer number, or -1 if that is no member. */
int32_t cov_ballot_owner(uint64_t ballot, const cov_epoch_member *members, int32_t n_members);

/** One line of English about record `r`, without a newline: what `covenant ledger show` prints. */
void cov_record_describe(const cov_record *r, char *text, size_t size);

#endif
