#include "ledger/chain.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool same_hash(const uint8_t *a, const uint8_t *b) {
  return memcmp(a, b, COV_HASH_BYTES) == 0;
}

/* Room for `n` more seen members, so that recording them cannot fail half way. */
static cov_status reserve_seen(cov_chain *c, int32_t n) {
  if (c->seen_room - c->n_seen >= n) return COV_OK;
  int32_t room = 2 * (c->n_seen + n);
  cov_epoch_member *more = realloc(c->seen, (size_t)room * sizeof *more);
  if (!more) return COV_FAIL(COV_ENOMEM, "no memory for the %d members of a ledger", (int)room);
  c->seen = more;
  c->seen_room = room;
  return COV_OK;
}

static void remember_members(cov_chain *c, const cov_epoch_member *members, int32_t n_members) {
  for (int32_t i = 0; i < n_members; i++) {
    if (!cov_epoch_member_find(c->seen, c->n_seen, members[i].peer)) c->seen[c->n_seen++] = members[i];
  }
}

static cov_status step_genesis(cov_chain *c, const cov_record *r) {
  const cov_genesis *g = &r->genesis;
  if (c->started) return COV_FAIL(COV_EMISMATCH, "a second genesis record");
  COV_TRY(reserve_seen(c, g->n_members));
  remember_members(c, g->members, g->n_members);
  c->started = true;
  memcpy(c->first_state_hash, g->state_hash, COV_HASH_BYTES);
  memcpy(c->head.last_hash, r->hash, COV_HASH_BYTES);
  memcpy(c->head.members, g->members, sizeof g->members);
  c->head.n_members = g->n_members;
  return COV_OK;
}

static cov_status check_place(const cov_chain *c, const cov_record *r) {
  const cov_round *p = &r->round;
  if (p->round != c->head.next_round) {
    return COV_FAIL(COV_EMISMATCH, "the record is of round %" PRId64 " where round %" PRId64 " comes next", p->round,
                    c->head.next_round);
  }
  if (p->epoch != c->head.epoch) {
    return COV_FAIL(COV_EMISMATCH, "round %" PRId64 " is of epoch %" PRId32 " where epoch %" PRId32 " is", p->round,
                    p->epoch, c->head.epoch);
  }
  if (p->round == 0 && !same_hash(p->base_state_hash, c->first_state_hash)) {
    return COV_FAIL(COV_EMISMATCH, "round 0 does not start from the state of the genesis record");
  }
  return COV_OK;
}

static cov_status check_people(const cov_chain *c, const cov_record *r) {
  const cov_round *p = &r->round;
  const cov_ledger_head *h = &c->head;
  const cov_epoch_member *proposer = cov_epoch_member_find(h->members, h->n_members, p->proposer);
  if (!proposer) return COV_FAIL(COV_EDATA, "round %" PRId64 ": proposer %d is no member", p->round, (int)p->proposer);
  if (cov_ballot_owner(p->ballot, h->members, h->n_members) != p->proposer) {
    return COV_FAIL(COV_EDATA, "round %" PRId64 ": ballot %" PRIu64 " is not peer %d's", p->round, p->ballot,
                    (int)p->proposer);
  }
  for (int32_t i = 0; i < p->n_set; i++) {
    if (!cov_epoch_member_find(h->members, h->n_members, p->set[i].peer)) {
      return COV_FAIL(COV_EDATA, "round %" PRId64 ": peer %d is in the set and no member", p->round,
                      (int)p->set[i].peer);
    }
  }
  for (int32_t i = 0; i < p->n_members; i++) {
    const cov_epoch_member *known = cov_epoch_member_find(c->seen, c->n_seen, p->members[i].peer);
    if (known && memcmp(known->key, p->members[i].key, COV_KEY_BYTES) != 0) {
      return COV_FAIL(COV_EDATA, "round %" PRId64 ": peer %d changes its key", p->round, (int)p->members[i].peer);
    }
  }
  if (!cov_record_signed_by(r, proposer->key)) {
    return COV_FAIL(COV_EDATA, "round %" PRId64 ": the signature is not that of proposer %d", p->round,
                    (int)p->proposer);
  }
  return COV_OK;
}

static cov_status step_round(cov_chain *c, const cov_record *r) {
  const cov_round *p = &r->round;
  cov_ledger_head *h = &c->head;
  COV_TRY(check_place(c, r));
  COV_TRY(check_people(c, r));
  COV_TRY(reserve_seen(c, p->n_members));
  remember_members(c, p->members, p->n_members);
  if (!cov_epoch_members_equal(h->members, h->n_members, p->members, p->n_members)) h->epoch++;
  memcpy(h->members, p->members, sizeof p->members);
  h->n_members = p->n_members;
  h->next_round++;
  h->stopped = p->stop;
  memcpy(h->last_hash, r->hash, COV_HASH_BYTES);
  c->closed = false;
  return COV_OK;
}

static cov_status step_close(cov_chain *c, const cov_record *r) {
  if (c->closed) return COV_FAIL(COV_EMISMATCH, "a second close record without a round between them");
  if (r->close.n_rounds != c->head.next_round) {
    return COV_FAIL(COV_EMISMATCH, "the close record counts %" PRId64 " rounds where %" PRId64 " are there",
                    r->close.n_rounds, c->head.next_round);
  }
  if (c->head.next_round == 0 && !same_hash(r->close.state_hash, c->first_state_hash)) {
    return COV_FAIL(COV_EMISMATCH,
                    "the close record has another state than the genesis record, without a round between");
  }
  memcpy(c->closed_state_hash, r->close.state_hash, COV_HASH_BYTES);
  c->closed = true;
  return COV_OK;
}

cov_status cov_chain_step(cov_chain *c, const cov_record *r) {
  if (r->type == COV_RECORD_GENESIS) return step_genesis(c, r);
  if (!c->started) return COV_FAIL(COV_EMISMATCH, "the first record is not a genesis record");
  if (!same_hash(r->previous, c->head.last_hash)) {
    return COV_FAIL(COV_EMISMATCH, "the record does not name the hash of the record before it");
  }
  /* What a close record recorded as the state is where the round after it starts. */
  if (r->type == COV_RECORD_ROUND && c->closed && !same_hash(r->round.base_state_hash, c->closed_state_hash)) {
    return COV_FAIL(COV_EMISMATCH, "round %" PRId64 " does not start from the state of the close record before it",
                    r->round.round);
  }
  return r->type == COV_RECORD_ROUND ? step_round(c, r) : step_close(c, r);
}

void cov_chain_close(cov_chain *c) {
  free(c->seen);
  memset(c, 0, sizeof *c);
}
