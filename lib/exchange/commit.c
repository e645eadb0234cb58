#include "exchange/commit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "exchange/commit_internal.h"

/* ---- small things the roles share ---- */

int32_t covi_index(const cov_commit *c, int32_t peer) {
  for (int32_t i = 0; i < c->n_members; i++) {
    if (c->members[i].peer == peer) return i;
  }
  return -1;
}

bool covi_holds(const cov_commit *c, const cov_set_entry *e) {
  int32_t i = covi_index(c, e->peer);
  return i >= 0 && c->mine[i].ready && memcmp(c->mine[i].payload.entry.hash, e->hash, COV_HASH_BYTES) == 0;
}

int32_t covi_weight(const cov_commit *c, const bool *flags) {
  int32_t weight = 0;
  for (int32_t i = 0; i < c->n_members; i++) weight += flags[i] ? cov_commit_weight(i) : 0;
  return weight;
}

/* A value that we have read before, so that its signature need not be checked again; or NULL. */
static const covi_value *known_value(const cov_commit *c, const uint8_t *data, size_t bytes) {
  const covi_value *known[] = {&c->decided, &c->pending, &c->accepted, &c->proposal};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (known[i]->present && known[i]->bytes == bytes && memcmp(known[i]->data, data, bytes) == 0) return known[i];
  }
  return NULL;
}

/* NULL, or why the round of `r` cannot be what this epoch's members agree on. */
static const char *round_fault(const cov_commit *c, const cov_record *r) {
  if (r->type != COV_RECORD_ROUND) return "it is no round record";
  const cov_round *p = &r->round;
  if (p->round != c->params.round || p->epoch != c->params.epoch) return "it is of another round";
  if (memcmp(r->previous, c->previous, COV_HASH_BYTES) != 0) return "it continues another chain";
  if (cov_ballot_owner(p->ballot, c->members, c->n_members) != p->proposer) return "its ballot is not its proposer's";
  for (int32_t i = 0; i < p->n_set; i++) {
    if (covi_index(c, p->set[i].peer) < 0) return "its set has a payload of a stranger";
  }
  for (int32_t i = 0; i < p->n_members; i++) {
    int32_t at = covi_index(c, p->members[i].peer);
    if (at < 0) return "it makes a stranger a member";
    if (memcmp(c->members[at].key, p->members[i].key, COV_KEY_BYTES) != 0) return "it changes a member's key";
  }
  if (!cov_record_signed_by(r, c->members[covi_index(c, p->proposer)].key))
    return "its signature is not its proposer's";
  return NULL;
}

cov_status covi_value_read(const cov_commit *c, const uint8_t *data, size_t bytes, uint64_t ballot, covi_value *v) {
  const covi_value *known = known_value(c, data, bytes);
  covi_value fresh;
  if (!known) {
    cov_status st = cov_record_decode(data, bytes, &fresh.record);
    if (st != COV_OK) return COV_FAIL(COV_EREMOTE, "a record under agreement is damaged: %s", cov_error_text());
    const char *fault = round_fault(c, &fresh.record);
    if (fault)
      return COV_FAIL(COV_EREMOTE, "a record cannot be agreed for round %" PRId64 ": %s", c->params.round, fault);
    fresh.present = true;
    fresh.bytes = bytes;
    memcpy(fresh.data, data, bytes);
    known = &fresh;
  }
  if (known->record.round.ballot > ballot) {
    return COV_FAIL(COV_EREMOTE, "a record first proposed with ballot %" PRIu64 " comes with the lower ballot %" PRIu64,
                    known->record.round.ballot, ballot);
  }
  if (known != v) *v = *known;
  return COV_OK;
}

void covi_decide(cov_commit *c, const covi_value *v) {
  c->decided = *v;
  c->knows[c->self_index] = true;
  c->phase = COVI_IDLE;
  c->pending.present = false;
  c->resent_s = c->now_s;
}

/* ---- life ---- */

static const char *params_fault(const cov_commit_params *p) {
  if (!p->identity || !p->members || !p->base_state_hash || !p->previous) return "a pointer is missing";
  if (p->n_members < 1 || p->n_members > COV_LEDGER_MAX_MEMBERS) return "the number of members is out of range";
  for (int32_t i = 0; i < p->n_members; i++) {
    if (p->members[i].peer < 0 || p->members[i].peer > COV_LEDGER_MAX_PEER) return "a peer number is out of range";
    if (i && p->members[i].peer <= p->members[i - 1].peer) return "the members do not ascend";
  }
  const cov_epoch_member *self = cov_epoch_member_find(p->members, p->n_members, p->self);
  if (!self) return "this peer is not a member of the epoch";
  if (memcmp(self->key, p->identity->public_key, COV_KEY_BYTES) != 0) return "this peer's key is not its member's key";
  if (p->epoch < 0 || p->round < 0) return "the epoch or round is negative";
  if (!(p->propose_wait_s >= 0) || !(p->takeover_s > 0) || !(p->resend_s > 0)) return "a time is out of range";
  return NULL;
}

cov_status cov_commit_create(const cov_commit_params *p, double now_s, cov_commit **out) {
  *out = NULL;
  const char *fault = params_fault(p);
  if (fault) return COV_FAIL(COV_EUSAGE, "cannot start the agreement on round %" PRId64 ": %s", p->round, fault);
  cov_commit *c = calloc(1, sizeof *c);
  size_t n = (size_t)p->n_members;
  if (c) c->held = calloc(n * n, sizeof *c->held);
  if (!c || !c->held) {
    free(c);
    return COV_FAIL(COV_ENOMEM, "no memory for the agreement of %d members", (int)p->n_members);
  }
  c->params = *p;
  memcpy(c->members, p->members, n * sizeof *p->members);
  c->n_members = p->n_members;
  memcpy(c->base_state_hash, p->base_state_hash, COV_HASH_BYTES);
  memcpy(c->previous, p->previous, COV_HASH_BYTES);
  c->params.members = c->members;
  c->params.base_state_hash = c->base_state_hash;
  c->params.previous = c->previous;
  c->self_index = covi_index(c, p->self);
  for (size_t i = 0; i < n; i++) c->alive[i] = true;
  c->now_s = c->resent_s = now_s;
  c->own_ready_s = c->can_propose_s = c->other_s = c->died_s = -1;
  cov_status st = covi_send_have(c, -1); /* a late peer is answered with the decision at once */
  if (st != COV_OK) cov_commit_destroy(&c);
  *out = c;
  return st;
}

void cov_commit_destroy(cov_commit **commit) {
  cov_commit *c = *commit;
  if (!c) return;
  covi_outgoing_free(c);
  free(c->held);
  free(c);
  *commit = NULL;
}

/* ---- inputs ---- */

static void set_time(cov_commit *c, double now_s) {
  if (now_s > c->now_s) c->now_s = now_s;
}

/* The record that decides which of two different payloads of one peer is worth keeping, or NULL. */
static const covi_value *value_in_question(const cov_commit *c) {
  if (c->decided.present) return &c->decided;
  if (c->pending.present) return &c->pending;
  return NULL;
}

cov_status cov_commit_payload_ready(cov_commit *c, const cov_commit_payload *p, double now_s) {
  set_time(c, now_s);
  int32_t i = covi_index(c, p->entry.peer);
  if (i < 0) return COV_FAIL(COV_EUSAGE, "peer %d has a payload and is not a member", (int)p->entry.peer);
  if (c->mine[i].ready) {
    const covi_value *v = value_in_question(c);
    const cov_set_entry *e = v ? cov_round_find(&v->record.round, p->entry.peer) : NULL;
    if (!e || memcmp(e->hash, p->entry.hash, COV_HASH_BYTES) != 0 || covi_holds(c, e)) return COV_OK;
  }
  c->mine[i].ready = true;
  c->mine[i].payload = *p;
  if (i == c->self_index && c->own_ready_s < 0) c->own_ready_s = c->now_s;
  if (c->decided.present) return COV_OK;
  COV_TRY(covi_send_have(c, -1));
  return covi_lead_advance(c);
}

cov_status cov_commit_peer_alive(cov_commit *c, int32_t peer, bool alive, double now_s) {
  set_time(c, now_s);
  int32_t i = covi_index(c, peer);
  if (i < 0) return COV_FAIL(COV_EUSAGE, "peer %d is not a member", (int)peer);
  if (i == c->self_index) return COV_OK;
  if (c->alive[i] && !alive) c->died_s = c->now_s;
  c->alive[i] = alive;
  return covi_lead_advance(c);
}

cov_status cov_commit_request_stop(cov_commit *c, double now_s) {
  set_time(c, now_s);
  if (c->wants_stop[c->self_index]) return COV_OK;
  c->wants_stop[c->self_index] = true;
  return c->decided.present ? COV_OK : covi_send_have(c, -1);
}

/* ---- messages ---- */

static bool is_question(covi_type type) {
  return type == COVI_HAVE || type == COVI_PREPARE || type == COVI_PROPOSE;
}

/* A peer is still busy with an earlier round: give it that round's record. */
static cov_status answer_past(cov_commit *c, int32_t from, const covi_message *m) {
  covi_message reply = {.type = COVI_COMMIT, .epoch = m->epoch, .round = m->round};
  cov_record r;
  if (!is_question(m->type) || !c->params.past_record) return COV_OK;
  if (!c->params.past_record(c->params.context, m->round, &reply.record, &reply.record_bytes)) return COV_OK;
  COV_TRY(cov_record_decode(reply.record, reply.record_bytes, &r));
  if (r.type != COV_RECORD_ROUND || r.round.round != m->round) {
    return COV_FAIL(COV_EBUG, "past_record gave another record than that of round %" PRId64, m->round);
  }
  if (memcmp(r.previous, m->previous, COV_HASH_BYTES) != 0 || r.round.epoch != m->epoch) {
    return COV_FAIL(COV_EMISMATCH, "peer %d is at round %" PRId64 " of another chain than ours", (int)from, m->round);
  }
  memcpy(reply.previous, r.previous, COV_HASH_BYTES);
  reply.wants_stop = c->wants_stop[c->self_index];
  return covi_send_as_is(c, from, &reply);
}

static cov_status on_have(cov_commit *c, int32_t from, const covi_message *m) {
  size_t row = (size_t)covi_index(c, from) * (size_t)c->n_members;
  int32_t senders[COV_LEDGER_MAX_MEMBERS];
  for (int32_t k = 0; k < m->n_have; k++) {
    const uint8_t *e = m->have + (size_t)k * COVI_HAVE_ENTRY_BYTES;
    senders[k] = covi_index(c, (int32_t)(e[0] | e[1] << 8)); /* decode has checked that it is at most 65535 */
    if (senders[k] < 0) return COV_FAIL(COV_EREMOTE, "peer %d says it has a payload of a stranger", (int)from);
  }
  for (int32_t i = 0; i < c->n_members; i++) c->held[row + (size_t)i].known = false;
  for (int32_t k = 0; k < m->n_have; k++) {
    c->held[row + (size_t)senders[k]].known = true;
    memcpy(c->held[row + (size_t)senders[k]].hash, m->have + (size_t)k * COVI_HAVE_ENTRY_BYTES + 4, COV_HASH_BYTES);
  }
  return COV_OK;
}

static cov_status send_known(cov_commit *c, int32_t to) {
  covi_message m = {.type = COVI_KNOWN};
  memcpy(m.hash, c->decided.record.hash, COV_HASH_BYTES);
  return to < 0 ? covi_send_all(c, m) : covi_send(c, to, m);
}

static cov_status forked(const cov_commit *c, int32_t from) {
  return COV_FAIL(COV_EMISMATCH,
                  "peer %d has another decision for round %" PRId64 " than this peer: compare the ledgers", (int)from,
                  c->params.round);
}

static cov_status on_commit(cov_commit *c, int32_t from, const covi_message *m) {
  covi_value v;
  COV_TRY(covi_value_read(c, m->record, m->record_bytes, UINT64_MAX, &v));
  if (!c->decided.present) {
    covi_decide(c, &v);
    c->knows[covi_index(c, from)] = true;
    return send_known(c, -1);
  }
  if (memcmp(v.record.hash, c->decided.record.hash, COV_HASH_BYTES) != 0) return forked(c, from);
  c->knows[covi_index(c, from)] = true;
  return send_known(c, from);
}

static cov_status on_known(cov_commit *c, int32_t from, const covi_message *m) {
  if (!c->decided.present) return covi_send_have(c, from); /* it will answer with the decision */
  if (memcmp(m->hash, c->decided.record.hash, COV_HASH_BYTES) != 0) return forked(c, from);
  c->knows[covi_index(c, from)] = true;
  return COV_OK;
}

static cov_status on_undecided(cov_commit *c, int32_t from, const covi_message *m) {
  switch (m->type) {
  case COVI_HAVE:
    return on_have(c, from, m);
  case COVI_PREPARE:
    return covi_vote_on_prepare(c, from, m);
  case COVI_PROMISE:
    return covi_lead_on_promise(c, from, m);
  case COVI_PROPOSE:
    return covi_vote_on_propose(c, from, m);
  case COVI_ACK:
    return covi_lead_on_ack(c, from, m);
  case COVI_NACK:
    return covi_lead_on_nack(c, m);
  default:
    return COV_FAIL(COV_EBUG, "message type %d has no handler", (int)m->type);
  }
}

/* After the decision HAVE still tells who can be asked for a missing payload; the rest only shows who does not know. */
static cov_status on_decided(cov_commit *c, int32_t from, const covi_message *m) {
  if (m->type == COVI_HAVE) COV_TRY(on_have(c, from, m));
  if (!is_question(m->type)) return COV_OK;
  covi_message reply = {.type = COVI_COMMIT, .record = c->decided.data, .record_bytes = c->decided.bytes};
  return covi_send(c, from, reply);
}

cov_status cov_commit_message(cov_commit *c, int32_t from, const uint8_t *data, size_t bytes, double now_s) {
  covi_message m;
  set_time(c, now_s);
  COV_TRY(covi_message_decode(data, bytes, &m));
  if (m.round < c->params.round) return answer_past(c, from, &m);
  if (m.round > c->params.round) return COV_OK; /* we are behind; our next HAVE is answered */
  int32_t i = covi_index(c, from);
  if (i < 0 || i == c->self_index) return COV_FAIL(COV_EREMOTE, "peer %d is no other member of this epoch", (int)from);
  if (m.epoch != c->params.epoch || memcmp(m.previous, c->previous, COV_HASH_BYTES) != 0) {
    return COV_FAIL(COV_EMISMATCH, "peer %d is at round %" PRId64 " of another chain than ours: compare the ledgers",
                    (int)from, m.round);
  }
  if (m.wants_stop) c->wants_stop[i] = true;
  if (m.type == COVI_COMMIT) return on_commit(c, from, &m);
  if (m.type == COVI_KNOWN) return on_known(c, from, &m);
  if (c->decided.present) return on_decided(c, from, &m);
  COV_TRY(on_undecided(c, from, &m));
  return covi_lead_advance(c);
}

/* ---- time ---- */

static cov_status resend(cov_commit *c) {
  if (!c->decided.present) {
    COV_TRY(covi_send_have(c, -1));
    return covi_lead_resend(c);
  }
  covi_message m = {.type = COVI_COMMIT, .record = c->decided.data, .record_bytes = c->decided.bytes};
  for (int32_t i = 0; i < c->n_members; i++) {
    if (c->alive[i] && !c->knows[i]) COV_TRY(covi_send(c, c->members[i].peer, m));
  }
  return COV_OK;
}

cov_status cov_commit_tick(cov_commit *c, double now_s) {
  set_time(c, now_s);
  if (c->now_s - c->resent_s >= c->params.resend_s) {
    c->resent_s = c->now_s;
    COV_TRY(resend(c));
  }
  return covi_lead_advance(c);
}
