#include "sync/gateway_payloads.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/beside.h"
#include "sync/gateway_messages.h"
#include "sync/gateway_store.h"
#include "sync/notice.h"

static cov_remote *remote_of(cov_gateway *gw, int32_t peer) {
  return peer >= 0 && peer < gw->n_remote ? &gw->remote[peer] : NULL;
}

cov_slot *cov_gateway_slot(cov_gateway *gw, int32_t peer) {
  cov_remote *r = remote_of(gw, peer);
  cov_slot *s = r ? &r->slot[gw->round % COV_GATEWAY_ROUNDS] : NULL;
  return s && s->round == gw->round && s->open ? s : NULL;
}

void cov_gateway_empty(cov_gateway *gw, cov_slot *slot) {
  if (slot->open || slot->checked) cov_payload_close(&slot->view);
  if (slot->bytes && gw->carrier && cov_carrier_in_use(gw->carrier, slot->bytes, slot->n_bytes)) {
    cov_wait_keep(slot->bytes); /* a send on a dropped link may still read it */
  } else {
    cov_mem_free(slot->bytes);
  }
  *slot = (cov_slot){.round = -1};
}

/* Once a round: whoever asks for it again may get the same again. */
void cov_gateway_refuse(cov_gateway *gw, int sender, int64_t meant, int64_t round, cov_status st) {
  char why[1024]; /* telling it may fail too */
  cov_remote *from = remote_of(gw, sender);
  if (from->refused == meant) return;
  from->refused = meant;
  snprintf(why, sizeof why, "%s", cov_error_text());
  cov_notice_give(gw, COV_NOTICE_PAYLOAD, sender, meant, "payload of peer %d for round %" PRId64 " refused: %s", sender,
                  round, why);
  const cov_event_payload_refused event = {
      .round = round, .sender = sender, .status = cov_status_name(st), .reason = why};
  (void)cov_events_payload_refused(gw->app->events, &event); /* the log has it too */
}

static cov_payload_expect expect_of(const cov_gateway *gw, const cov_remote *from, int64_t round) {
  cov_payload_expect expect;
  cov_outer_expect(gw->outer, gw->app, round, &expect);
  expect.key_hash = from->key_hash;
  expect.peer = from->peer;
  return expect;
}

/* A payload that is to be checked. A gigabyte takes seconds, so the slot is a copy: what goes on meanwhile must not see
 * it half checked. */
typedef struct {
  cov_gateway *gw;
  cov_remote *from;
  cov_slot slot;
} payload_check;

/* Everything a payload must satisfy before anybody looks at its values. */
static cov_status check_payload(void *arg) {
  payload_check *c = arg;
  cov_gateway *gw = c->gw;
  const cov_remote *from = c->from;
  cov_slot *slot = &c->slot;
  const cov_payload_expect expect = expect_of(gw, from, slot->round);
  size_t n = slot->n_bytes;
  if (!slot->checked) COV_TRY(cov_payload_check(slot->bytes, n, &expect, &slot->view));
  slot->checked = false;
  if (!cov_identity_verify(from->key, cov_payload_digest(slot->bytes, n), COV_PAYLOAD_DIGEST_BYTES,
                           cov_payload_signature(slot->bytes, n))) {
    cov_payload_close(&slot->view);
    return COV_FAIL(COV_EREMOTE, "its signature is not by the key that peer %d has in the ledger", from->peer);
  }
  slot->open = true;
  return COV_OK;
}

static cov_status open_payload(cov_gateway *gw, cov_remote *from, cov_slot *slot, const cov_wait *meanwhile) {
  payload_check check = {.gw = gw, .from = from, .slot = *slot};
  cov_status st = cov_beside_run(check_payload, &check, slot->checked ? NULL : meanwhile); /* a signature is quick */
  COV_ASSERT(slot->bytes == check.slot.bytes); /* nobody takes it away meanwhile */
  *slot = check.slot;
  return st;
}

/* A checked payload counts in the agreement. */
static cov_status announce(cov_gateway *gw, const cov_remote *from, const cov_slot *slot) {
  const cov_payload_head *head = &slot->view.head;
  cov_commit_payload ready = {.entry = {.peer = from->peer,
                                        .payload_bytes = (int64_t)slot->n_bytes,
                                        .inner_steps = (int64_t)head->inner_steps,
                                        .tokens = (int64_t)head->tokens}};
  memcpy(ready.entry.hash, cov_payload_digest(slot->bytes, slot->n_bytes), COV_HASH_BYTES);
  memcpy(ready.base_state_hash, head->base_hash, COV_HASH_BYTES);
  return cov_commit_payload_ready(gw->commit, &ready, cov_clock_s());
}

cov_status cov_gateway_take(cov_gateway *gw, cov_remote *from, cov_slot *slot, const cov_remote *sender) {
  if (!cov_epoch_member_find(cov_ledger_head_get(gw->ledger)->members, cov_ledger_head_get(gw->ledger)->n_members,
                             from->peer)) {
    cov_gateway_empty(gw, slot);
    return COV_OK; /* a removed peer that does not know yet */
  }
  cov_status st = open_payload(gw, from, slot, &gw->outer->how);
  if (st == COV_EREMOTE) {
    cov_gateway_refuse(gw, sender->peer, slot->round, slot->round, st);
    cov_gateway_empty(gw, slot);
    return COV_OK;
  }
  COV_TRY(st);
  return announce(gw, from, slot);
}

/* ---- sending ---- */

/* The owner that the parts name is the sender: what it sends for somebody else says whose it is inside. */
static cov_status send_bytes(cov_gateway *gw, int64_t round, const uint8_t *bytes, size_t n, int to) {
  const cov_message_head head = {.type = COV_MESSAGE_PAYLOAD,
                                 .epoch = (uint64_t)cov_ledger_head_get(gw->ledger)->epoch,
                                 .round = (uint64_t)round,
                                 .owner = (uint32_t)gw->app->peer};
  cov_status st = cov_transfer_post(gw->carrier, to, &head, bytes, n, (size_t)gw->app->cfg.exchange.segment_bytes);
  return st == COV_EREMOTE ? COV_OK : st; /* a dead link: its DROPPED event tells the rest */
}

static cov_status send_slot(cov_gateway *gw, const cov_slot *slot, int to) {
  return send_bytes(gw, slot->round, slot->bytes, slot->n_bytes, to);
}

/* Our own, to a peer. */
static cov_status send_direct(cov_gateway *gw, const cov_slot *slot, cov_remote *to) {
  to->direct_round = slot->round;
  return send_slot(gw, slot, to->peer);
}

/* The link of the relay that the payloads of `peer` go through, where there are relays. */
static int relay_link(const cov_gateway *gw, int64_t peer) {
  return gw->n_remote + cov_relay_of((int)peer, gw->n_relays);
}

/* The relay that our payloads go through, or -1: none. */
static int own_relay(const cov_gateway *gw) {
  if (gw->topology != COV_TOPOLOGY_RELAY) return -1;
  int number = relay_link(gw, gw->app->peer);
  return cov_carrier_alive(gw->carrier, number) ? number : -1;
}

/* To the relay, and to those that have none any more; or to everyone. Beginning with the next peer, so that not all
 * begin with the same. */
static cov_status spread(cov_gateway *gw, const cov_slot *slot) {
  int relay = own_relay(gw);
  if (relay >= 0) COV_TRY(send_slot(gw, slot, relay));
  for (int k = 1; k < gw->n_remote; k++) {
    cov_remote *r = &gw->remote[(gw->app->peer + k) % gw->n_remote];
    if (!cov_carrier_alive(gw->carrier, r->peer) || (relay >= 0 && !r->direct)) continue;
    COV_TRY(send_direct(gw, slot, r));
  }
  return COV_OK;
}

/* Our payload of the present round, if it is on its way already, to a peer that is not known to have it. Once: that our
 * relay is gone and that the peer has lost it too, we hear in any order. */
static cov_status send_present(cov_gateway *gw, cov_remote *to) {
  int32_t holder[COV_LEDGER_MAX_MEMBERS];
  const cov_slot *slot = &remote_of(gw, (int32_t)gw->app->peer)->slot[gw->round % COV_GATEWAY_ROUNDS];
  if (slot->round != gw->round || to->direct_round == gw->round || !gw->commit) return COV_OK;
  int32_t n = cov_commit_holders(gw->commit, (int32_t)gw->app->peer, cov_payload_digest(slot->bytes, slot->n_bytes),
                                 holder, COV_LEDGER_MAX_MEMBERS);
  for (int32_t i = 0; i < n; i++) {
    if (holder[i] == to->peer) return COV_OK;
  }
  return send_direct(gw, slot, to);
}

cov_status cov_gateway_go_direct(cov_gateway *gw, int peer) {
  cov_remote *r = remote_of(gw, peer);
  if (!r || r->direct) return COV_OK;
  r->direct = true;
  return send_present(gw, r);
}

cov_status cov_gateway_link_lost(cov_gateway *gw, int number, const char *reason) {
  if (gw->incoming) cov_transfers_drop(gw->incoming, number);
  if (!cov_gateway_is_relay(gw, number)) return COV_OK;
  bool ours = gw->topology == COV_TOPOLOGY_RELAY && number == relay_link(gw, gw->app->peer);
  cov_log_warn("relay %d is gone: %s; payloads go directly", number - gw->n_remote, reason);
  for (int i = 0; i < gw->n_remote; i++) {
    cov_remote *r = &gw->remote[i];
    if (r->peer == gw->app->peer || !cov_carrier_alive(gw->carrier, r->peer)) continue;
    if (number == relay_link(gw, r->peer)) {
      COV_TRY(cov_gateway_post(gw, r->peer, COV_MESSAGE_DIRECT, gw->round, NULL, 0, COV_POST_URGENT));
    }
    if (ours) COV_TRY(send_present(gw, r));
  }
  return COV_OK;
}

static cov_status take_turn(void *arg) {
  return cov_gateway_turn(arg, 0);
}

cov_status cov_gateway_send(cov_gateway *gw, uint8_t *payload, size_t n) {
  cov_remote *self = remote_of(gw, (int32_t)gw->app->peer);
  cov_slot *slot = &self->slot[gw->round % COV_GATEWAY_ROUNDS];
  cov_gateway_empty(gw, slot);
  slot->round = gw->round;
  slot->bytes = payload;
  slot->n_bytes = n;
  COV_TRY(cov_identity_sign(&gw->identity, cov_payload_digest(payload, n), COV_PAYLOAD_DIGEST_BYTES,
                            cov_payload_signature(payload, n)));
  COV_TRY(spread(gw, slot));
  /* What we send passes our own checks. It is on its way already, and the others' comes meanwhile: if it did not pass,
   * this peer would end, and they would refuse it. */
  const cov_wait turns = {.timeout_s = COV_WAIT_DEFAULT_S, .poll = take_turn, .arg = gw};
  COV_TRY(open_payload(gw, self, slot, &turns));
  return announce(gw, self, slot);
}

/* ---- receiving ---- */

/* Whose payload is it? The sender's own, or one that we lack and asked for. */
static cov_remote *owner_of(cov_gateway *gw, const cov_remote *sender, const uint8_t *bytes, size_t n) {
  cov_payload_head head;
  cov_set_entry missing[COV_LEDGER_MAX_MEMBERS];
  if (cov_payload_peek(bytes, n, &head) != COV_OK) return NULL;
  if (head.peer == (uint32_t)sender->peer) return remote_of(gw, sender->peer);
  int32_t n_missing = gw->commit ? cov_commit_missing(gw->commit, missing, COV_LEDGER_MAX_MEMBERS) : 0;
  for (int32_t i = 0; i < n_missing && i < COV_LEDGER_MAX_MEMBERS; i++) {
    if ((uint32_t)missing[i].peer == head.peer && missing[i].peer != gw->app->peer &&
        memcmp(missing[i].hash, cov_payload_digest(bytes, n), COV_HASH_BYTES) == 0) {
      return remote_of(gw, missing[i].peer);
    }
  }
  (void)COV_FAIL(COV_EREMOTE, "it claims to be of peer %" PRIu32 ", which nobody asked for", head.peer);
  return NULL;
}

/* An answer that has become superfluous: the payload has come meanwhile, or nobody wants it just now. */
static bool was_asked_for(cov_gateway *gw, const cov_remote *sender, const cov_slot *came) {
  cov_payload_head head;
  if (cov_payload_peek(came->bytes, came->n_bytes, &head) != COV_OK || head.peer > COV_LEDGER_MAX_PEER) return false;
  const cov_remote *owner = remote_of(gw, (int32_t)head.peer);
  if (!owner || head.round != (uint64_t)came->round) return false;
  const cov_slot *have = &owner->slot[came->round % COV_GATEWAY_ROUNDS];
  bool same = have->round == came->round && have->open &&
              memcmp(cov_payload_digest(have->bytes, have->n_bytes), cov_payload_digest(came->bytes, came->n_bytes),
                     COV_HASH_BYTES) == 0;
  return same || owner->asked == sender;
}

/* Whether a payload of `total` bytes for `round` by `sender` is worth receiving. Refused once, when its first part
 * comes. */
static bool is_wanted(cov_gateway *gw, cov_remote *sender, int64_t round, uint64_t total) {
  if (round >= 0 && round < gw->round) return false; /* late: that round is decided */
  /* One a round and in order, so the others know alike what is meant by one that says something else. */
  int64_t meant = sender->next_payload > gw->round ? sender->next_payload : gw->round;
  bool at_hand = round == gw->round || round == gw->round + 1;
  if (at_hand) meant = round;
  sender->next_payload = meant + 1;
  if (!at_hand) {
    cov_gateway_refuse(
        gw, sender->peer, meant, round,
        COV_FAIL(COV_EREMOTE, "round %" PRId64 " is not at hand (we are in %" PRId64 ")", round, gw->round));
  } else if (total > gw->outer->payload_bytes_max) {
    cov_gateway_refuse(gw, sender->peer, meant, round,
                       COV_FAIL(COV_EREMOTE, "%" PRIu64 " bytes where no payload of this run has more than %zu", total,
                                gw->outer->payload_bytes_max));
  } else {
    return true;
  }
  return false;
}

/* What has come of a payload for the present round is checked now, not when all of it is here. Of two that a peer sends
 * at a time (directly, and by a relay), the later one is. A refusal is left to the check of the whole, which alone
 * knows whose it may be instead (owner_of), and says why. */
static cov_status check_what_came(cov_gateway *gw, cov_remote *sender, const cov_transfer *x) {
  cov_status st = COV_OK;
  if (x->serial < sender->stream_of) return COV_OK;
  if (x->serial > sender->stream_of && x->round == (uint64_t)gw->round) {
    const cov_payload_expect expect = expect_of(gw, sender, gw->round);
    cov_payload_stream_close(&sender->stream);
    sender->stream_of = x->serial;
    st = cov_payload_stream_open(x->bytes, x->total, &expect, &sender->stream);
  }
  if (st == COV_OK && sender->stream && sender->stream_of == x->serial) {
    st = cov_payload_stream_advance(sender->stream, x->have);
    if (st != COV_OK) cov_payload_stream_close(&sender->stream);
  }
  return st == COV_EREMOTE ? COV_OK : st;
}

/* All of a transfer is here. The slot that comes of it owns the bytes. */
static cov_status end_transfer(cov_gateway *gw, cov_remote *sender, cov_transfer *x, cov_slot *out) {
  cov_status st = COV_OK;
  *out = (cov_slot){.round = (int64_t)x->round, .n_bytes = x->total};
  if (sender->stream && sender->stream_of == x->serial) {
    st = cov_payload_stream_end(&sender->stream, &out->view);
    out->checked = st == COV_OK;
  }
  out->bytes = cov_transfers_end(gw->incoming, x, true);
  return st == COV_EREMOTE ? COV_OK : st;
}

static cov_status take_payload(cov_gateway *gw, cov_remote *sender, cov_slot *came) {
  int64_t round = came->round;
  cov_remote *from = sender;
  if (round == gw->round && !came->checked) from = owner_of(gw, sender, came->bytes, came->n_bytes);
  cov_slot *slot = from ? &from->slot[round % COV_GATEWAY_ROUNDS] : NULL;
  if (!from && !was_asked_for(gw, sender, came)) cov_gateway_refuse(gw, sender->peer, round, round, COV_EREMOTE);
  /* The first of a peer counts; and it may have become late while it was coming. */
  if (!from || round < gw->round || (slot->round == round && from == sender)) {
    cov_gateway_empty(gw, came);
    return COV_OK;
  }
  cov_gateway_empty(gw, slot);
  *slot = *came;
  if (round != gw->round) return COV_OK; /* the next round's waits for its begin */
  return cov_gateway_take(gw, from, slot, sender);
}

bool cov_gateway_is_relay(const cov_gateway *gw, int number) {
  return number >= gw->n_remote;
}

cov_remote *cov_gateway_part_owner(cov_gateway *gw, const cov_carrier_event *event) {
  bool relayed = cov_gateway_is_relay(gw, event->peer);
  cov_remote *owner = remote_of(gw, relayed ? (int32_t)event->head.owner : event->peer);
  if (owner && event->head.owner == (uint32_t)owner->peer && owner->peer != gw->app->peer) return owner;
  (void)COV_FAIL(COV_EREMOTE, "a part of a payload in the name of %" PRIu32, event->head.owner);
  return NULL;
}

/* The relay that has passed it on is not to blame. */
static cov_status refuse_part(cov_gateway *gw, const cov_remote *sender, int64_t round, cov_status st) {
  if (round >= 0 && round < gw->round) return COV_OK; /* late, like a whole one */
  int64_t meant = round == gw->round + 1 ? round : gw->round;
  cov_gateway_refuse(gw, sender->peer, meant, round, st);
  return COV_OK;
}

cov_status cov_gateway_part(cov_gateway *gw, const cov_carrier_event *event) {
  cov_transfer *x;
  cov_remote *sender = cov_gateway_part_owner(gw, event);
  int64_t round = event->head.round > INT64_MAX ? -1 : (int64_t)event->head.round;
  if (!sender) return COV_EREMOTE;
  if (event->head.offset == 0 && !is_wanted(gw, sender, round, event->head.total)) return COV_OK;
  if (event->head.total > gw->outer->payload_bytes_max) return COV_OK; /* what follows one that was not wanted */
  cov_status st = cov_transfers_take(gw->incoming, event, &x);
  if (st == COV_EREMOTE && cov_gateway_is_relay(gw, event->peer)) return refuse_part(gw, sender, round, st);
  COV_TRY(st);
  if (!x) return COV_OK;
  cov_arrival_part(&sender->arrival, (int64_t)x->round, cov_clock_s());
  COV_TRY(check_what_came(gw, sender, x));
  if (x->have < x->total) return COV_OK;
  cov_slot came;
  st = end_transfer(gw, sender, x, &came);
  if (st == COV_OK) return take_payload(gw, sender, &came);
  cov_gateway_empty(gw, &came);
  return st;
}

/* ---- what did not come ---- */

cov_status cov_gateway_serve(cov_gateway *gw, const cov_carrier_event *event) {
  int32_t peer;
  uint8_t hash[COV_HASH_BYTES];
  COV_TRY(cov_fetch_decode(event->bytes, event->n_bytes, &peer, hash));
  cov_remote *r = remote_of(gw, peer);
  if (!r || event->head.round > INT64_MAX || !gw->ledger) return COV_OK;
  int64_t round = (int64_t)event->head.round;
  const cov_slot *slot = &r->slot[round % COV_GATEWAY_ROUNDS];
  if (slot->round == round && (slot->open || peer == gw->app->peer)) {
    bool same = memcmp(cov_payload_digest(slot->bytes, slot->n_bytes), hash, COV_HASH_BYTES) == 0;
    return same ? send_slot(gw, slot, event->peer) : COV_OK;
  }
  size_t n;
  const uint8_t *bytes = cov_gateway_stored(gw, round, peer, hash, &n);
  if (!bytes) return COV_OK; /* somebody else may have it */
  cov_log_info("peer %d is behind: it gets the payload of peer %" PRId32 " for round %" PRId64 " from our disk",
               event->peer, peer, round);
  return send_bytes(gw, round, bytes, n, event->peer);
}

static int32_t list_alive(const cov_gateway *gw, int32_t *peer) {
  int32_t n = 0;
  for (int i = 0; i < gw->n_remote; i++) {
    if (gw->remote[i].peer != gw->app->peer && cov_carrier_alive(gw->carrier, gw->remote[i].peer)) {
      peer[n++] = gw->remote[i].peer;
    }
  }
  return n;
}

/* Ask for what the agreed set has and we lack, unless it is under way. */
cov_status cov_gateway_fetch(cov_gateway *gw, double now) {
  cov_set_entry missing[COV_LEDGER_MAX_MEMBERS];
  int32_t holder[COV_LEDGER_MAX_MEMBERS];
  int32_t n = cov_commit_missing(gw->commit, missing, COV_LEDGER_MAX_MEMBERS);
  for (int32_t i = 0; i < n && i < COV_LEDGER_MAX_MEMBERS; i++) {
    cov_remote *r = remote_of(gw, missing[i].peer);
    if (!r || r->peer == gw->app->peer) continue; /* ours is being checked (cov_gateway_send) */
    bool late = gw->newest_round > gw->round;
    const cov_arrival *by = r->asked ? &r->asked->arrival : NULL;
    if (!cov_arrival_due(&r->arrival, by, gw->round, late, gw->app->cfg.exchange.round_timeout, now)) continue;
    int32_t found = cov_commit_holders(gw->commit, missing[i].peer, missing[i].hash, holder, COV_LEDGER_MAX_MEMBERS);
    /* Of a past round nobody knows any more who holds it; and those who should may have lost it. */
    if (r->asks >= found) found = list_alive(gw, holder);
    if (found < 1) continue;
    uint8_t body[COV_FETCH_BYTES];
    cov_fetch_encode(missing[i].peer, missing[i].hash, body);
    /* Another holder each time: the first may be slow or gone. Not all peers begin with the same. */
    int32_t turn = (int32_t)((gw->app->peer + r->asks++) % found);
    COV_TRY(cov_gateway_post(gw, holder[turn], COV_MESSAGE_FETCH, gw->round, body, sizeof body, COV_POST_URGENT));
    cov_arrival_asked(&r->arrival, now);
    r->asked = remote_of(gw, holder[turn]);
  }
  return COV_OK;
}
