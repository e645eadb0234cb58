/* What the files commit*.c share. commit.h explains the protocol; here is its state.
 *
 *   commit.c        creation, inputs, and which role each message goes to
 *   commit_vote.c   the member as a voter: promises, acks, the vote on disk
 *   commit_lead.c   the member as a proposer: when to try, what to propose, counting promises and acks
 *   commit_wire.c   bytes of messages, the queue of messages to send
 *   commit_query.c  the read-only questions */
#ifndef COVENANT_EXCHANGE_COMMIT_INTERNAL_H
#define COVENANT_EXCHANGE_COMMIT_INTERNAL_H

#include "exchange/commit.h"

/* ---- messages ---- */

typedef enum {
  COVI_HAVE = 1,
  COVI_PREPARE,
  COVI_PROMISE,
  COVI_PROPOSE,
  COVI_ACK,
  COVI_NACK,
  COVI_COMMIT,
  COVI_KNOWN
} covi_type;

enum {
  COVI_HEADER_BYTES = 52,
  COVI_HAVE_ENTRY_BYTES = 4 + COV_HASH_BYTES,
  COVI_MESSAGE_MAX_BYTES = COVI_HEADER_BYTES + 8 + 8 + 4 + COV_RECORD_MAX_BYTES
};

/* A message taken apart; pointers are borrowed from its bytes. Which fields a type has: commit_wire.c. */
typedef struct {
  covi_type type;
  bool wants_stop;
  int32_t epoch;
  int64_t round;
  uint8_t previous[COV_HASH_BYTES];
  uint64_t ballot;       /* PREPARE PROMISE PROPOSE ACK NACK: the ballot it is about */
  uint64_t other_ballot; /* PROMISE: at which `record` was accepted; NACK: the promise in the way */
  uint8_t hash[COV_HASH_BYTES];
  const uint8_t *record; /* NULL in a PROMISE of a member that accepted nothing */
  size_t record_bytes;
  int32_t n_have;
  const uint8_t *have; /* n_have entries of COVI_HAVE_ENTRY_BYTES: peer number, payload hash */
} covi_message;

/** Parse strictly; COV_EREMOTE with the reason. */
cov_status covi_message_decode(const uint8_t *data, size_t bytes, covi_message *m);
/** `out` holds COVI_MESSAGE_MAX_BYTES. */
cov_status covi_message_encode(const covi_message *m, uint8_t *out, size_t *used);

typedef struct covi_outgoing {
  struct covi_outgoing *next;
  int32_t to;
  size_t bytes;
  uint8_t data[];
} covi_outgoing;

/* ---- state ---- */

/* A record in both forms. */
typedef struct {
  bool present;
  size_t bytes;
  uint8_t data[COV_RECORD_MAX_BYTES];
  cov_record record;
} covi_value;

typedef enum {
  COVI_IDLE,      /* proposing nothing */
  COVI_PREPARING, /* PREPARE is out */
  COVI_FREE,      /* a quorum promised and had accepted nothing: any set may be proposed, once there is one */
  COVI_PROPOSING  /* PROPOSE is out */
} covi_phase;

struct cov_commit {
  cov_commit_params params; /* its pointers go to the copies below */
  cov_epoch_member members[COV_LEDGER_MAX_MEMBERS];
  int32_t n_members, self_index;
  uint8_t base_state_hash[COV_HASH_BYTES], previous[COV_HASH_BYTES];

  /* What is known of each member, by index. */
  bool alive[COV_LEDGER_MAX_MEMBERS];
  bool wants_stop[COV_LEDGER_MAX_MEMBERS];
  bool knows[COV_LEDGER_MAX_MEMBERS]; /* knows the decision */
  struct {
    bool ready;
    cov_commit_payload payload;
  } mine[COV_LEDGER_MAX_MEMBERS]; /* payloads in hand here, by sender */
  struct {
    bool known;
    uint8_t hash[COV_HASH_BYTES];
  } * held; /* [reporter * n_members + sender]: what the others say they hold */

  /* Voter. Invariant: promised >= accepted_ballot, promised >= pending_ballot. */
  uint64_t promised;
  covi_value accepted;
  uint64_t accepted_ballot;
  covi_value pending; /* proposed to us, not acked yet because a payload of it is missing */
  uint64_t pending_ballot;

  /* Proposer. */
  covi_phase phase;
  uint64_t ballot;     /* of the last attempt of ours */
  uint64_t max_ballot; /* highest seen anywhere */
  bool promises[COV_LEDGER_MAX_MEMBERS], acks[COV_LEDGER_MAX_MEMBERS];
  covi_value proposal; /* PREPARING: the accepted record with the highest ballot so far; PROPOSING: what is proposed */
  uint64_t learned_ballot;

  covi_value decided;

  /* Times in seconds; negative: not yet. */
  double now_s, resent_s;
  double own_ready_s;   /* own payload */
  double can_propose_s; /* since when a set could be proposed */
  double other_s;       /* when another member's newest attempt was first seen */
  uint64_t other_ballot;
  int32_t other_index;
  double died_s;  /* last death of a member */
  double tried_s; /* start of our last attempt */
  int32_t n_tries;

  covi_outgoing *out_first, *out_last, *out_current;
  int32_t n_out;
};

/* ---- commit.c ---- */

/** Index of a peer among the members, or -1. */
int32_t covi_index(const cov_commit *c, int32_t peer);
/** True if this peer holds the payload of set entry `e`, hash only. */
bool covi_holds(const cov_commit *c, const cov_set_entry *e);
/** Sum of the weights of the members whose flag is set. */
int32_t covi_weight(const cov_commit *c, const bool *flags);
/** Check that `data` is a record of this round that its proposer may propose and signed, and set `*v`. `ballot` is the
 * one it came with: the record's own cannot be higher. COV_EREMOTE otherwise; `*v` is then unchanged. */
cov_status covi_value_read(const cov_commit *c, const uint8_t *data, size_t bytes, uint64_t ballot, covi_value *v);
/** Take `v` as the decision. */
void covi_decide(cov_commit *c, const covi_value *v);

/* ---- commit_vote.c ---- */

cov_status covi_vote_promise(cov_commit *c, uint64_t ballot);
/** Ack what is pending if every payload of it is in hand. */
cov_status covi_vote_advance(cov_commit *c);
cov_status covi_vote_on_prepare(cov_commit *c, int32_t from, const covi_message *m);
cov_status covi_vote_on_propose(cov_commit *c, int32_t from, const covi_message *m);

/* ---- commit_lead.c ---- */

/** Start, go on or finish an attempt, if it is time. */
cov_status covi_lead_advance(cov_commit *c);
cov_status covi_lead_on_promise(cov_commit *c, int32_t from, const covi_message *m);
cov_status covi_lead_on_ack(cov_commit *c, int32_t from, const covi_message *m);
cov_status covi_lead_on_nack(cov_commit *c, const covi_message *m);
/** Another member has a higher ballot: give up the attempt. */
void covi_lead_yield(cov_commit *c, uint64_t ballot);
/** Say again what was not answered. */
cov_status covi_lead_resend(cov_commit *c);

/* ---- commit_wire.c ---- */

/** Fill in what all messages of this round share, and queue `m` for one peer or for all members but self. */
cov_status covi_send(cov_commit *c, int32_t to, covi_message m);
cov_status covi_send_all(cov_commit *c, covi_message m);
/** Queue `m` as it is, header included. */
cov_status covi_send_as_is(cov_commit *c, int32_t to, const covi_message *m);
/** HAVE to one peer, or with to = -1 to all. */
cov_status covi_send_have(cov_commit *c, int32_t to);
void covi_outgoing_free(cov_commit *c);

#endif
