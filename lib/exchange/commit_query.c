/* The read-only questions to an agreement. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "exchange/commit_internal.h"

bool cov_commit_decided(const cov_commit *c, const uint8_t **record, size_t *bytes) {
  if (!c->decided.present) return false;
  *record = c->decided.data;
  *bytes = c->decided.bytes;
  return true;
}

const cov_round *cov_commit_round(const cov_commit *c) {
  return c->decided.present ? &c->decided.record.round : NULL;
}

/* The record whose payloads matter now, and who brought it; NULL if there is none. */
static const covi_value *value_of_interest(const cov_commit *c, int32_t *from) {
  if (c->decided.present) {
    *from = c->decided.record.round.proposer;
    return &c->decided;
  }
  if (c->pending.present) {
    *from = cov_ballot_owner(c->pending_ballot, c->members, c->n_members);
    return &c->pending;
  }
  return NULL;
}

int32_t cov_commit_missing(const cov_commit *c, cov_set_entry *out, int32_t room) {
  int32_t from, n = 0;
  const covi_value *v = value_of_interest(c, &from);
  for (int32_t i = 0; v && i < v->record.round.n_set; i++) {
    const cov_set_entry *e = &v->record.round.set[i];
    if (covi_holds(c, e)) continue;
    if (n < room) out[n] = *e;
    n++;
  }
  return n;
}

int32_t cov_commit_holders(const cov_commit *c, int32_t peer, const uint8_t hash[COV_HASH_BYTES], int32_t *out,
                           int32_t room) {
  int32_t from = -1, n = 0, sender = covi_index(c, peer);
  if (sender < 0) return 0;
  const covi_value *v = value_of_interest(c, &from);
  const cov_set_entry *e = v ? cov_round_find(&v->record.round, peer) : NULL;
  bool agreed = e && memcmp(e->hash, hash, COV_HASH_BYTES) == 0;
  for (int32_t i = 0; i < c->n_members; i++) {
    size_t at = (size_t)i * (size_t)c->n_members + (size_t)sender;
    bool said = c->held[at].known && memcmp(c->held[at].hash, hash, COV_HASH_BYTES) == 0;
    bool must = i == sender || (agreed && c->members[i].peer == from);
    if (i == c->self_index || !c->alive[i] || (!said && !must)) continue;
    if (n < room) out[n] = c->members[i].peer;
    n++;
  }
  return n;
}

bool cov_commit_state_differs(const cov_commit *c) {
  return c->decided.present && memcmp(c->decided.record.round.base_state_hash, c->base_state_hash, COV_HASH_BYTES) != 0;
}

bool cov_commit_removed(const cov_commit *c) {
  const cov_round *r = &c->decided.record.round;
  return c->decided.present && !cov_epoch_member_find(r->members, r->n_members, c->params.self);
}

bool cov_commit_settled(const cov_commit *c) {
  for (int32_t i = 0; i < c->n_members; i++) {
    if (c->alive[i] && !c->knows[i]) return false;
  }
  return c->decided.present;
}

bool cov_commit_has_quorum(const cov_commit *c) {
  return cov_commit_is_quorum(covi_weight(c, c->alive), c->n_members);
}

static int32_t count(const cov_commit *c, const bool *flags) {
  int32_t n = 0;
  for (int32_t i = 0; i < c->n_members; i++) n += flags[i];
  return n;
}

void cov_commit_reason(const cov_commit *c, char *text, size_t size) {
  int32_t from, total = 2 * c->n_members + 1, weight = covi_weight(c, c->alive);
  int32_t n_missing = cov_commit_missing(c, NULL, 0);
  bool ready[COV_LEDGER_MAX_MEMBERS];
  for (int32_t i = 0; i < c->n_members; i++) ready[i] = c->mine[i].ready;
  if (c->decided.present) {
    snprintf(text, size, "round %" PRId64 " is decided", c->params.round);
  } else if (!cov_commit_has_quorum(c)) {
    snprintf(text, size, "%d of %d members alive, weight %d of %d: no majority", (int)count(c, c->alive),
             (int)c->n_members, (int)weight, (int)total);
  } else if (n_missing > 0 && value_of_interest(c, &from)) {
    snprintf(text, size, "peer %d proposed a set of which %d payloads are missing here", (int)from, (int)n_missing);
  } else if (c->phase == COVI_PREPARING) {
    snprintf(text, size, "taking over with ballot %" PRIu64 ": promised by weight %d of %d", c->ballot,
             (int)covi_weight(c, c->promises), (int)total);
  } else if (c->phase == COVI_PROPOSING) {
    snprintf(text, size, "a set is proposed with ballot %" PRIu64 ": accepted by weight %d of %d", c->ballot,
             (int)covi_weight(c, c->acks), (int)total);
  } else if (c->own_ready_s < 0) {
    snprintf(text, size, "own payload not ready; %d of %d payloads here", (int)count(c, ready), (int)c->n_members);
  } else {
    snprintf(text, size, "%d of %d payloads here; waiting for the others or for a proposal", (int)count(c, ready),
             (int)c->n_members);
  }
}
