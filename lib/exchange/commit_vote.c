/* The member as a voter. Its two votes are the promise to refuse lower ballots and the ack of a record; both are stored
 * before they are sent, and an ack waits until every payload of the record is in hand. */
#include "exchange/commit_internal.h"

#include <inttypes.h>
#include <string.h>

#include "ledger/bytes.h"

static const char vote_magic[] = "COVVOTE1";
enum { VOTE_MAX_BYTES = 8 + 4 + 8 + COV_HASH_BYTES + 8 + 8 + 4 + COV_RECORD_MAX_BYTES + COV_HASH_BYTES };

static cov_status save(cov_commit *c) {
  if (!c->params.save_vote) return COV_OK;
  uint8_t vote[VOTE_MAX_BYTES], hash[COV_HASH_BYTES];
  cov_byte_writer w = {.data = vote, .room = sizeof vote};
  cov_bytes_write(&w, vote_magic, 8);
  cov_bytes_write_uint(&w, 4, (uint64_t)c->params.epoch);
  cov_bytes_write_uint(&w, 8, (uint64_t)c->params.round);
  cov_bytes_write(&w, c->previous, COV_HASH_BYTES);
  cov_bytes_write_uint(&w, 8, c->promised);
  cov_bytes_write_uint(&w, 8, c->accepted_ballot);
  cov_bytes_write_uint(&w, 4, c->accepted.present ? c->accepted.bytes : 0);
  if (c->accepted.present) cov_bytes_write(&w, c->accepted.data, c->accepted.bytes);
  cov_hash(vote, w.used, COV_HASH_BYTES, hash);
  cov_bytes_write(&w, hash, COV_HASH_BYTES);
  COV_ASSERT(!w.failed);
  return c->params.save_vote(c->params.context, vote, w.used);
}

/* Restore the part after the round is known to be ours. */
static cov_status restore_ballots(cov_commit *c, cov_byte_reader *r) {
  uint64_t promised = cov_bytes_read_uint(r, 8);
  uint64_t accepted_ballot = cov_bytes_read_uint(r, 8);
  size_t record_bytes = (size_t)cov_bytes_read_count(r, 4, COV_RECORD_MAX_BYTES);
  const uint8_t *record = cov_bytes_take(r, record_bytes);
  if (r->failed || r->left || accepted_ballot > promised) return COV_FAIL(COV_EDATA, "the stored vote is damaged");
  if (record_bytes) {
    COV_TRY(covi_value_read(c, record, record_bytes, accepted_ballot, &c->accepted));
    c->accepted_ballot = accepted_ballot;
  }
  c->promised = promised;
  c->max_ballot = promised;
  return COV_OK;
}

cov_status cov_commit_restore(cov_commit *c, const uint8_t *vote, size_t bytes) {
  uint8_t hash[COV_HASH_BYTES], previous[COV_HASH_BYTES];
  if (bytes < 8 + COV_HASH_BYTES || memcmp(vote, vote_magic, 8) != 0) {
    return COV_FAIL(COV_EDATA, "the stored vote has %zu bytes and is not one", bytes);
  }
  cov_hash(vote, bytes - COV_HASH_BYTES, COV_HASH_BYTES, hash);
  if (memcmp(hash, vote + bytes - COV_HASH_BYTES, COV_HASH_BYTES) != 0) {
    return COV_FAIL(COV_EDATA, "the stored vote is damaged: restart as an observer");
  }
  cov_byte_reader r = {.data = vote + 8, .left = bytes - 8 - COV_HASH_BYTES};
  int32_t epoch = (int32_t)cov_bytes_read_count(&r, 4, INT32_MAX - 1);
  int64_t round = cov_bytes_read_count(&r, 8, INT64_C(1) << 56);
  cov_bytes_read(&r, previous, COV_HASH_BYTES);
  if (r.failed) return COV_FAIL(COV_EDATA, "the stored vote is damaged");
  if (round < c->params.round) return COV_OK;
  if (round > c->params.round || epoch != c->params.epoch || memcmp(previous, c->previous, COV_HASH_BYTES) != 0) {
    return COV_FAIL(COV_EMISMATCH,
                    "the stored vote is of round %" PRId64 " and the ledger stands before round %" PRId64
                    ", or before another one: the ledger was rolled back or replaced",
                    round, c->params.round);
  }
  cov_status st = restore_ballots(c, &r);
  return st == COV_EREMOTE ? COV_FAIL(COV_EDATA, "in the stored vote: %s", cov_error_text()) : st;
}

cov_status covi_vote_promise(cov_commit *c, uint64_t ballot) {
  uint64_t before = c->promised;
  c->promised = ballot;
  cov_status st = save(c);
  if (st != COV_OK) {
    c->promised = before;
    return st;
  }
  if (ballot > c->max_ballot) c->max_ballot = ballot;
  if (c->pending.present && c->pending_ballot < ballot) c->pending.present = false;
  return COV_OK;
}

/* True if every payload of `v` is in hand and is what the record says it is. */
static bool holds_all(const cov_commit *c, const covi_value *v) {
  const cov_round *r = &v->record.round;
  for (int32_t i = 0; i < r->n_set; i++) {
    if (!covi_holds(c, &r->set[i])) return false;
    const cov_commit_payload *p = &c->mine[covi_index(c, r->set[i].peer)].payload;
    if (p->entry.payload_bytes != r->set[i].payload_bytes || p->entry.inner_steps != r->set[i].inner_steps ||
        p->entry.tokens != r->set[i].tokens || memcmp(p->base_state_hash, r->base_state_hash, COV_HASH_BYTES) != 0) {
      return false;
    }
  }
  return true;
}

static cov_status send_ack(cov_commit *c) {
  int32_t owner = cov_ballot_owner(c->accepted_ballot, c->members, c->n_members);
  if (owner == c->params.self) {
    if (c->phase == COVI_PROPOSING && c->ballot == c->accepted_ballot) c->acks[c->self_index] = true;
    return COV_OK;
  }
  covi_message m = {.type = COVI_ACK, .ballot = c->accepted_ballot};
  memcpy(m.hash, c->accepted.record.hash, COV_HASH_BYTES);
  return covi_send(c, owner, m);
}

cov_status covi_vote_advance(cov_commit *c) {
  if (c->params.observe || c->decided.present || !c->pending.present || !holds_all(c, &c->pending)) return COV_OK;
  COV_ASSERT(c->pending_ballot >= c->promised);
  covi_value before = c->accepted;
  uint64_t ballot_before = c->accepted_ballot;
  c->accepted = c->pending;
  c->accepted_ballot = c->pending_ballot;
  cov_status st = save(c);
  if (st != COV_OK) {
    c->accepted = before;
    c->accepted_ballot = ballot_before;
    return st;
  }
  c->pending.present = false;
  return send_ack(c);
}

static cov_status refuse(cov_commit *c, int32_t from, uint64_t ballot) {
  return covi_send(c, from, (covi_message){.type = COVI_NACK, .ballot = ballot, .other_ballot = c->promised});
}

/* A proposer is at work: give it time, and step back if its ballot is above ours. Only the first message of an attempt
 * counts, or one that is stuck and says so again and again would keep everyone waiting. */
static void note_proposer(cov_commit *c, int32_t from, uint64_t ballot) {
  if (c->other_s < 0 || ballot > c->other_ballot) {
    c->other_s = c->now_s;
    c->other_ballot = ballot;
    c->other_index = covi_index(c, from);
  }
  covi_lead_yield(c, ballot);
}

cov_status covi_vote_on_prepare(cov_commit *c, int32_t from, const covi_message *m) {
  if (m->ballot == 0 || cov_ballot_owner(m->ballot, c->members, c->n_members) != from) {
    return COV_FAIL(COV_EREMOTE, "peer %d prepares ballot %" PRIu64 ", which is not its own", (int)from, m->ballot);
  }
  if (c->params.observe) return COV_OK;
  if (m->ballot < c->promised) return refuse(c, from, m->ballot);
  if (m->ballot > c->promised) COV_TRY(covi_vote_promise(c, m->ballot));
  note_proposer(c, from, m->ballot);
  covi_message reply = {.type = COVI_PROMISE, .ballot = m->ballot};
  if (c->accepted.present) {
    reply.other_ballot = c->accepted_ballot;
    reply.record = c->accepted.data;
    reply.record_bytes = c->accepted.bytes;
  }
  return covi_send(c, from, reply);
}

/* One ballot, one record: its owner broke that, or lost its memory. */
static cov_status check_same(const covi_value *known, uint64_t known_ballot, const covi_message *m, int32_t from) {
  if (!known->present || known_ballot != m->ballot) return COV_OK;
  if (known->bytes == m->record_bytes && memcmp(known->data, m->record, m->record_bytes) == 0) return COV_OK;
  return COV_FAIL(COV_EMISMATCH,
                  "peer %d proposes two records with ballot %" PRIu64 ": it was restarted without its vote", (int)from,
                  m->ballot);
}

cov_status covi_vote_on_propose(cov_commit *c, int32_t from, const covi_message *m) {
  if (cov_ballot_owner(m->ballot, c->members, c->n_members) != from) {
    return COV_FAIL(COV_EREMOTE, "peer %d proposes with ballot %" PRIu64 ", which is not its own", (int)from,
                    m->ballot);
  }
  if (m->ballot < c->promised) return c->params.observe ? COV_OK : refuse(c, from, m->ballot);
  COV_TRY(check_same(&c->accepted, c->accepted_ballot, m, from));
  COV_TRY(check_same(&c->pending, c->pending_ballot, m, from));
  bool accepted = c->accepted.present && c->accepted_ballot == m->ballot;
  bool pending = c->pending.present && c->pending_ballot == m->ballot;
  if (!accepted && !pending) {
    COV_TRY(covi_value_read(c, m->record, m->record_bytes, m->ballot, &c->pending));
    c->pending_ballot = m->ballot;
    /* Not stored yet: nobody was told. It is, with the ack. */
    c->promised = m->ballot;
    if (m->ballot > c->max_ballot) c->max_ballot = m->ballot;
  }
  note_proposer(c, from, m->ballot);
  return accepted ? send_ack(c) : COV_OK;
}
