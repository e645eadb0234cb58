/* The agreement on one round: which payloads are applied, who is a member afterwards, whether the run ends.
 * A deterministic state machine without I/O and without a clock: inputs go in (with the time), messages come out.
 * All Local.
 *
 * WHY. The outer step is exact only if every peer applies the same set. Links are slow and peers die, so peers see
 * different sets arrive. The set is therefore agreed first and applied after, and what was agreed is one signed record
 * of the ledger (ledger/record.h), the same bytes at every peer.
 *
 * HOW. One instance of single-decree Paxos a round. The value agreed upon is the encoded record itself.
 *
 *   message   from -> to               says
 *   HAVE      all -> all               the payloads I hold (validated), and I am not done with this round yet
 *   PREPARE   proposer -> all          may I propose with ballot b? (not needed for ballot 0)
 *   PROMISE   member -> proposer       yes: I'll refuse lower ballots; here is what I accepted before, if anything
 *   PROPOSE   proposer -> all          accept this record with ballot b
 *   ACK       member -> proposer       accepted: I hold every payload of that record
 *   NACK      member -> proposer       too late, I promised a higher ballot
 *   COMMIT    who knows -> all         decided: this record
 *   KNOWN     who learned -> all       I know the decision (so nobody need tell me)
 *
 * Every message carries epoch, round and the hash of the record before (only peers on the same chain talk), and whether
 * its sender was asked to stop. Ballot 0 belongs to the lowest member and needs no PREPARE, so an undisturbed round
 * costs PROPOSE, ACK, COMMIT. Anyone may take over with a higher ballot (attempt * 65536 + its peer number).
 *
 * QUORUM. Each member of the epoch weighs 2, the lowest 3; a quorum is more than half of the sum. Any two quorums share
 * a member. Of two peers the lower can go on alone; of four any three, or the lowest with one other.
 *
 * WHY THERE IS NO FORK. (1) A member votes (PROMISE, ACK) only for ballots not below its promise. (2) A ballot has one
 * owner, who proposes one record with it. (3) A proposer with ballot b > 0 first hears a quorum; if any of them
 * accepted something it must propose the one with the highest ballot. Suppose record v was acked by a quorum at ballot
 * b. Every later proposer's quorum shares a member with that one, learns v, and proposes v. Time appears in none of
 * these rules: timers and liveness only decide when to try. (4) Votes survive a restart: `save_vote` is called before a
 * vote is sent, and cov_commit_restore gives it back; without it a restarted peer must `observe` until the round is
 * decided.
 *
 * WHY THE SET CAN ALWAYS BE APPLIED. A member acks only a set of which it holds every payload. So each payload of a
 * decided set was held by a quorum; a proposer's death cannot take the only copy with it. A peer that lacks one asks
 * cov_commit_missing what and cov_commit_holders whom; the transfer is the caller's. A peer that sends different bytes
 * to different peers never gets a quorum of holders, and so is not in the set.
 *
 * WHO PROPOSES WHEN. The lowest live member, as soon as the payload of every live member is held by itself and a
 * quorum; or, once `propose_wait_s` has passed since its own payload was ready, with what a quorum holds by then. The
 * next lowest tries when the lower ones are dead or have been silent for `takeover_s` each; colliding proposers back
 * off by their order and attempt.
 *
 * WHAT IT PROPOSES. The payloads that start from the base state hash with the largest weight among live members'
 * payloads (tie: its own hash). Members afterwards: the members whose links are alive in its eyes. A live peer that was
 * too late stays a member, only its payload is missing; a dead one is removed, and the epoch grows by one. The proposer
 * itself is alive by definition. stop = anyone whose wish it knows of asked for it.
 *
 * WHAT IT DOES NOT DO. Members may crash, stall, restart and garble bytes; a member that lies within the protocol (a
 * COMMIT of what was not decided) can mislead others, but not without its signature, and ledgers then differ visibly.
 */
#ifndef COVENANT_EXCHANGE_COMMIT_H
#define COVENANT_EXCHANGE_COMMIT_H

#include "ledger/record.h"

typedef struct cov_commit cov_commit;

/** Called before a vote leaves: store `bytes` durably (cov_file_write), replacing the last. If it fails, the vote is
 * not cast and the error goes to whoever called in. */
typedef cov_status (*cov_commit_save_vote)(void *context, const uint8_t *vote, size_t bytes);
/** The record of an earlier round from the ledger, for a peer that is behind; false if unknown. */
typedef bool (*cov_commit_past_record)(void *context, int64_t round, const uint8_t **record, size_t *bytes);

typedef struct {
  int32_t self;                    /* own peer number; must be a member */
  const cov_identity *identity;    /* signs proposals; borrowed until destroy */
  const cov_epoch_member *members; /* of this epoch, ascending (cov_ledger_head); copied */
  int32_t n_members;               /* 1 .. COV_LEDGER_MAX_MEMBERS */
  int32_t epoch;
  int64_t round;
  const uint8_t *base_state_hash;     /* [32] own theta_t; copied */
  const uint8_t *previous;            /* [32] hash of the ledger's last record; copied */
  double propose_wait_s;              /* round timeout, counted from own payload ready; >= 0 */
  double takeover_s;                  /* silence after which the next member tries; > 0, several round trips */
  double resend_s;                    /* unanswered messages go out again this often; > 0 */
  bool observe;                       /* learn only, never vote or propose: restarted without its vote */
  cov_commit_save_vote save_vote;     /* NULL: votes are not kept */
  cov_commit_past_record past_record; /* NULL: peers behind are not answered */
  void *context;                      /* for both */
} cov_commit_params;

/** A validated payload in hand. `base_state_hash` is what its header says; it may differ from ours. */
typedef struct {
  cov_set_entry entry;
  uint8_t base_state_hash[COV_HASH_BYTES];
} cov_commit_payload;

/** Start the agreement on params->round at time `now_s`; all members count as alive until told otherwise.
 *  COV_EUSAGE: a parameter out of its range, self not a member, members not ascending. */
cov_status cov_commit_create(const cov_commit_params *params, double now_s, cov_commit **out);
/** NULL is fine. */
void cov_commit_destroy(cov_commit **commit);
/** Give back a vote that save_vote stored before a restart; call directly after create. A vote of an earlier round is
 *  ignored. COV_EDATA: damaged. COV_EMISMATCH: a vote of a later round or another chain (the ledger was rolled back).
 */
cov_status cov_commit_restore(cov_commit *commit, const uint8_t *vote, size_t bytes);

/* ---- inputs. `now_s` is monotonic seconds of any origin, the same for all calls; it never goes back. ---- */

/** A validated payload of member `payload->entry.peer` (own ones too) is stored and ready to be applied. The first of a
 *  peer counts; another one replaces it only if the set under agreement names it. COV_EUSAGE: not a member. */
cov_status cov_commit_payload_ready(cov_commit *commit, const cov_commit_payload *payload, double now_s);
/** State of the link to a member, from heartbeats. COV_EUSAGE: not a member. Self is always alive. */
cov_status cov_commit_peer_alive(cov_commit *commit, int32_t peer, bool alive, double now_s);
/** This peer was asked to stop: the wish goes to the others with every message; if a proposer knows it in time the
 *  record has stop = 1, else ask again in the next round. */
cov_status cov_commit_request_stop(cov_commit *commit, double now_s);
/** A message of peer `from` (the link it came by says who that is). Messages of other rounds are answered from
 * past_record or dropped. COV_EREMOTE: malformed or against the protocol; state is unchanged, drop the link.
 * COV_EMISMATCH: two records for one round: this chain and the sender's have forked, which only a lie or a lost disk
 * can do. */
cov_status cov_commit_message(cov_commit *commit, int32_t from, const uint8_t *data, size_t bytes, double now_s);
/** Let time pass: resend, propose after a timeout, take over. Call at least every resend_s / 2. */
cov_status cov_commit_tick(cov_commit *commit, double now_s);

/* ---- outputs ---- */

/** Next message to send, oldest first: true and (`*to`, `*data`, `*bytes`), borrowed until the next call with this
 *  `commit`; false: none. Loss is tolerated; if nobody fetches them old ones are dropped. */
bool cov_commit_send_next(cov_commit *commit, int32_t *to, const uint8_t **data, size_t *bytes);
/** Upper bound of a message's bytes: what a receiver needs room for. */
size_t cov_commit_message_max_bytes(void);

/** The decided record, for cov_ledger_append, once known; false before. Borrowed until destroy. */
bool cov_commit_decided(const cov_commit *commit, const uint8_t **record, size_t *bytes);
/** The decided round as a struct, or NULL. Borrowed until destroy. */
const cov_round *cov_commit_round(const cov_commit *commit);
/** Payloads of the decided set (before a decision: of the set proposed to us) that were not reported ready: fetch them.
 *  Writes at most `room` entries, returns how many there are. */
int32_t cov_commit_missing(const cov_commit *commit, cov_set_entry *out, int32_t room);
/** Live members other than self that hold the payload (`peer`, `hash`), ascending: those that said so, and its sender
 *  and the proposer. Writes at most `room`, returns how many there are. */
int32_t cov_commit_holders(const cov_commit *commit, int32_t peer, const uint8_t hash[COV_HASH_BYTES], int32_t *out,
                           int32_t room);
/** After the decision: own theta_t is not the one the set starts from. The caller must not apply it: COV_EMISMATCH. */
bool cov_commit_state_differs(const cov_commit *commit);
/** After the decision: this peer is not among the members any more; it has to join anew. */
bool cov_commit_removed(const cov_commit *commit);
/** After the decision: every live member is known to know it, so this peer may go away without leaving anyone behind.
 */
bool cov_commit_settled(const cov_commit *commit);
/** True if the members that are alive in our eyes (self included) are a quorum. */
bool cov_commit_has_quorum(const cov_commit *commit);
/** Why there is no decision yet, in one sentence, e.g. "2 of 4 members alive, weight 4 of 9: no majority". */
void cov_commit_reason(const cov_commit *commit, char *text, size_t size);

/** Weight of member `index` of an epoch: 3 for the lowest, 2 for the others. */
static inline int32_t cov_commit_weight(int32_t index) {
  return index == 0 ? 3 : 2;
}
/** True if `weight` is more than half of what `n_members` members weigh together. */
static inline bool cov_commit_is_quorum(int32_t weight, int32_t n_members) {
  return 2 * weight > 2 * n_members + 1;
}

#endif
