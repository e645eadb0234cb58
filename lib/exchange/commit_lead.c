/* The member as a proposer: when to try, what to propose, counting promises and acks. Nothing here can make two
 * decisions; the voter's rules (commit_vote.c) see to that. What is here decides how soon there is one. */
#include "exchange/commit_internal.h"

#include <inttypes.h>
#include <string.h>

static const uint64_t ballot_limit = UINT64_C(1) << 48;
enum { MAX_BACKOFF = 8 };

/* ---- what to propose ---- */

/* Weight of the live members that hold the payload of member `sender` exactly as we do. */
static int32_t holders_weight(const cov_commit *c, int32_t sender) {
  bool holds[COV_LEDGER_MAX_MEMBERS] = {false};
  for (int32_t i = 0; i < c->n_members; i++) {
    size_t at = (size_t)i * (size_t)c->n_members + (size_t)sender;
    holds[i] = c->alive[i] &&
               (i == c->self_index || (c->held[at].known && memcmp(c->held[at].hash, c->mine[sender].payload.entry.hash,
                                                                   COV_HASH_BYTES) == 0));
  }
  return covi_weight(c, holds);
}

/* The base state hash that the largest weight of live members with a payload in hand starts from; tie: our own, then
 * that of the lowest member. */
static const uint8_t *majority_base(const cov_commit *c) {
  const uint8_t *best = c->base_state_hash;
  int32_t best_weight = 0;
  for (int32_t i = 0; i < c->n_members; i++) {
    const uint8_t *base = c->mine[i].payload.base_state_hash;
    bool same[COV_LEDGER_MAX_MEMBERS] = {false};
    if (!c->mine[i].ready || !c->alive[i]) continue;
    for (int32_t j = 0; j < c->n_members; j++) {
      same[j] =
          c->mine[j].ready && c->alive[j] && memcmp(c->mine[j].payload.base_state_hash, base, COV_HASH_BYTES) == 0;
    }
    int32_t weight = covi_weight(c, same);
    bool own = memcmp(base, c->base_state_hash, COV_HASH_BYTES) == 0;
    if (weight > best_weight || (weight == best_weight && own)) {
      best = base;
      best_weight = weight;
    }
  }
  return best;
}

/* Flags of the payloads that go into a set proposed now; their number. */
static int32_t choose_set(const cov_commit *c, bool chosen[COV_LEDGER_MAX_MEMBERS]) {
  const uint8_t *base = majority_base(c);
  int32_t n = 0;
  for (int32_t i = 0; i < c->n_members; i++) {
    chosen[i] = c->mine[i].ready && memcmp(c->mine[i].payload.base_state_hash, base, COV_HASH_BYTES) == 0 &&
                cov_commit_is_quorum(holders_weight(c, i), c->n_members);
    n += chosen[i];
  }
  return n;
}

/* True if the payload of every live member is here and has a quorum of holders: waiting longer brings nothing. A
 * payload that starts from another state is waited for (it counts in the vote on the base), but not for its holders. */
static bool is_complete(const cov_commit *c, const bool chosen[COV_LEDGER_MAX_MEMBERS]) {
  const uint8_t *base = majority_base(c);
  for (int32_t i = 0; i < c->n_members; i++) {
    if (!c->alive[i]) continue;
    if (!c->mine[i].ready) return false;
    if (!chosen[i] && memcmp(c->mine[i].payload.base_state_hash, base, COV_HASH_BYTES) == 0) return false;
  }
  return true;
}

static bool can_propose(const cov_commit *c) {
  bool chosen[COV_LEDGER_MAX_MEMBERS];
  if (choose_set(c, chosen) == 0 || c->own_ready_s < 0) return false;
  return is_complete(c, chosen) || c->now_s - c->own_ready_s >= c->params.propose_wait_s;
}

/* Make a fresh record for ballot c->ballot in c->proposal. */
static cov_status build_proposal(cov_commit *c) {
  bool chosen[COV_LEDGER_MAX_MEMBERS];
  covi_value *v = &c->proposal;
  cov_round *r = &v->record.round;
  const uint8_t *base = majority_base(c);
  memset(&v->record, 0, sizeof v->record);
  v->record.type = COV_RECORD_ROUND;
  memcpy(v->record.previous, c->previous, COV_HASH_BYTES);
  r->epoch = c->params.epoch;
  r->round = c->params.round;
  r->ballot = c->ballot;
  r->proposer = c->params.self;
  memcpy(r->base_state_hash, base, COV_HASH_BYTES);
  choose_set(c, chosen);
  for (int32_t i = 0; i < c->n_members; i++) {
    if (chosen[i]) r->set[r->n_set++] = c->mine[i].payload.entry;
    if (c->alive[i]) r->members[r->n_members++] = c->members[i];
    if (c->wants_stop[i]) r->stop = true;
  }
  COV_TRY(cov_record_encode(&v->record, c->params.identity, v->data, sizeof v->data, &v->bytes));
  v->present = true;
  return COV_OK;
}

/* ---- when to try ---- */

static double later(double a, double b) {
  return a > b ? a : b;
}

/* True if an attempt should start now. Live members that are lower go first: each gets takeover_s, counted anew when a
 * member dies. After an attempt, ours or another's, everyone leaves time for it to end, the more the higher its number
 * and the oftener it tried, so that two proposers do not stop each other for ever. */
static bool is_time(const cov_commit *c) {
  bool seen = c->accepted.present || c->pending.present || c->other_s >= 0 || c->n_tries > 0;
  if (c->can_propose_s < 0 && !seen) return false;
  int32_t n_before = 0;
  for (int32_t i = 0; i < c->self_index; i++) n_before += c->alive[i];
  double takeover_s = c->params.takeover_s;
  double pause_s = takeover_s * (n_before + 1) * (c->n_tries < MAX_BACKOFF ? c->n_tries + 1 : MAX_BACKOFF);
  if (c->other_s >= 0 && c->alive[c->other_index] && c->now_s < c->other_s + pause_s) return false;
  if (c->n_tries > 0 && c->now_s < c->tried_s + pause_s) return false;
  if (n_before == 0) return true;
  double since_s = later(later(c->can_propose_s, c->other_s), c->died_s);
  return c->now_s >= since_s + n_before * takeover_s;
}

/* ---- attempts ---- */

void covi_lead_yield(cov_commit *c, uint64_t ballot) {
  if (ballot > c->max_ballot) c->max_ballot = ballot;
  if (c->phase == COVI_IDLE || ballot <= c->ballot) return;
  c->phase = COVI_IDLE;
  c->tried_s = c->now_s;
}

static cov_status send_proposal(cov_commit *c, int32_t to) {
  covi_message m = {
      .type = COVI_PROPOSE, .ballot = c->ballot, .record = c->proposal.data, .record_bytes = c->proposal.bytes};
  return to < 0 ? covi_send_all(c, m) : covi_send(c, to, m);
}

/* c->proposal is to be voted on: by ourselves first, so that a restart finds it before anyone else hears of it. */
static cov_status propose(cov_commit *c) {
  c->phase = COVI_PROPOSING;
  memset(c->acks, 0, sizeof c->acks);
  c->pending = c->proposal;
  c->pending_ballot = c->ballot;
  c->promised = c->ballot;
  cov_status st = covi_vote_advance(c);
  if (st != COV_OK) {
    c->phase = COVI_IDLE;
    c->pending.present = false;
    return st;
  }
  return send_proposal(c, -1);
}

static cov_status start_attempt(cov_commit *c) {
  c->tried_s = c->now_s;
  /* Ballot 0: the lowest member's, once, if it never voted. */
  if (c->self_index == 0 && c->n_tries == 0 && c->max_ballot == 0 && !c->accepted.present && !c->pending.present) {
    if (c->can_propose_s < 0) return COV_OK;
    c->n_tries++;
    c->ballot = 0;
    COV_TRY(build_proposal(c));
    return propose(c);
  }
  uint64_t ballot = cov_ballot_make(c->max_ballot / 65536u + 1, c->params.self);
  if (ballot >= ballot_limit) return COV_OK;
  c->n_tries++;
  COV_TRY(covi_vote_promise(c, ballot));
  c->ballot = ballot;
  c->phase = COVI_PREPARING;
  memset(c->promises, 0, sizeof c->promises);
  c->promises[c->self_index] = true;
  c->proposal = c->accepted;
  c->learned_ballot = c->accepted_ballot;
  return covi_send_all(c, (covi_message){.type = COVI_PREPARE, .ballot = ballot});
}

cov_status covi_lead_advance(cov_commit *c) {
  if (c->decided.present) return COV_OK;
  bool can = can_propose(c);
  if (!can) c->can_propose_s = -1;
  if (can && c->can_propose_s < 0) c->can_propose_s = c->now_s;
  if (c->params.observe) return COV_OK;
  if (c->phase == COVI_IDLE && cov_commit_has_quorum(c) && is_time(c)) COV_TRY(start_attempt(c));
  if (c->phase == COVI_PREPARING && cov_commit_is_quorum(covi_weight(c, c->promises), c->n_members)) {
    c->phase = COVI_FREE;
    if (c->proposal.present) COV_TRY(propose(c));
  }
  if (c->phase == COVI_FREE && can) {
    COV_TRY(build_proposal(c));
    COV_TRY(propose(c));
  }
  COV_TRY(covi_vote_advance(c));
  if (c->phase == COVI_PROPOSING && cov_commit_is_quorum(covi_weight(c, c->acks), c->n_members)) {
    covi_decide(c, &c->proposal);
    covi_message m = {.type = COVI_COMMIT, .record = c->decided.data, .record_bytes = c->decided.bytes};
    COV_TRY(covi_send_all(c, m));
  }
  return COV_OK;
}

cov_status covi_lead_on_promise(cov_commit *c, int32_t from, const covi_message *m) {
  if (c->phase != COVI_PREPARING || m->ballot != c->ballot) return COV_OK;
  if (m->record) {
    if (m->other_ballot >= c->ballot) {
      return COV_FAIL(COV_EREMOTE, "peer %d promises ballot %" PRIu64 " and has accepted %" PRIu64 " already",
                      (int)from, m->ballot, m->other_ballot);
    }
    bool newer = !c->proposal.present || m->other_ballot > c->learned_ballot;
    if (newer) {
      COV_TRY(covi_value_read(c, m->record, m->record_bytes, m->other_ballot, &c->proposal));
      c->learned_ballot = m->other_ballot;
    } else if (m->other_ballot == c->learned_ballot &&
               (m->record_bytes != c->proposal.bytes || memcmp(m->record, c->proposal.data, m->record_bytes) != 0)) {
      return COV_FAIL(COV_EMISMATCH, "two records were accepted with ballot %" PRIu64, m->other_ballot);
    }
  }
  c->promises[covi_index(c, from)] = true;
  return COV_OK;
}

cov_status covi_lead_on_ack(cov_commit *c, int32_t from, const covi_message *m) {
  if (c->phase != COVI_PROPOSING || m->ballot != c->ballot) return COV_OK;
  if (memcmp(m->hash, c->proposal.record.hash, COV_HASH_BYTES) != 0) {
    return COV_FAIL(COV_EREMOTE, "peer %d acks another record than ballot %" PRIu64 " proposes", (int)from, m->ballot);
  }
  c->acks[covi_index(c, from)] = true;
  return COV_OK;
}

cov_status covi_lead_on_nack(cov_commit *c, const covi_message *m) {
  if (c->phase != COVI_IDLE && m->ballot == c->ballot) covi_lead_yield(c, m->other_ballot);
  return COV_OK;
}

cov_status covi_lead_resend(cov_commit *c) {
  for (int32_t i = 0; i < c->n_members; i++) {
    int32_t to = c->members[i].peer;
    if (i == c->self_index) continue;
    if (c->phase == COVI_PREPARING && !c->promises[i]) {
      COV_TRY(covi_send(c, to, (covi_message){.type = COVI_PREPARE, .ballot = c->ballot}));
    }
    if (c->phase == COVI_PROPOSING && !c->acks[i]) COV_TRY(send_proposal(c, to));
  }
  return COV_OK;
}
