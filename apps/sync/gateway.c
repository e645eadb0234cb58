#include "sync/gateway.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/stop.h"
#include "common/over.h"
#include "exchange/carrier_world.h"
#include "sync/difference.h"
#include "sync/gateway_early.h"
#include "sync/gateway_end.h"
#include "sync/gateway_messages.h"
#include "sync/gateway_payloads.h"
#include "sync/gateway_store.h"
#include "sync/notice.h"

enum { events_a_turn = 64 }; /* bounded: the agreement must get its turn too */
static const double resend_s = 1, leave_s = 1, ask_s = 2;

static cov_remote *remote_of(cov_gateway *gw, int32_t peer) {
  return peer >= 0 && peer < gw->n_remote ? &gw->remote[peer] : NULL;
}

cov_status cov_gateway_post(cov_gateway *gw, int to, uint32_t type, int64_t round, const void *bytes, size_t n,
                            cov_post_mode mode) {
  const cov_message_head head = {.type = type,
                                 .epoch = (uint64_t)(gw->ledger ? cov_ledger_head_get(gw->ledger)->epoch : 0),
                                 .round = (uint64_t)round};
  cov_status st = cov_carrier_post(gw->carrier, to, &head, bytes, n, mode, NULL);
  return st == COV_EREMOTE ? COV_OK : st; /* a dead link: its DROPPED event tells the rest */
}

static cov_status take_hello(cov_gateway *gw, cov_remote *from, const cov_carrier_event *event) {
  if (from->greeted) return COV_OK;
  from->greeted = true;
  from->unfit =
      cov_hello_check(gw->app, gw->outer->hash, event->peer, event->bytes, event->n_bytes, from->key, &from->offers);
  if (from->unfit != COV_OK) snprintf(from->why, sizeof from->why, "%s", cov_error_text());
  return COV_OK;
}

/* Before the start all peers come to the same end (gateway_open.c); later only its link ends. */
static cov_status take_unfit(const cov_gateway *gw, cov_remote *from, const cov_carrier_event *event) {
  char why[COV_UNFIT_BYTES];
  cov_status st;
  COV_TRY(cov_unfit_decode(event->bytes, event->n_bytes, &st, why));
  if (gw->ledger || from->greeted) return COV_FAIL(COV_EREMOTE, "it ended: %s", why);
  from->greeted = from->declined = true;
  from->unfit = st;
  memcpy(from->why, why, sizeof from->why);
  return COV_OK;
}

static cov_status take_message(cov_gateway *gw, const cov_carrier_event *event) {
  cov_remote *from = remote_of(gw, event->peer);
  if (event->head.type == COV_MESSAGE_PROBE) {
    return gw->probe ? cov_probe_take(gw->probe, event, cov_clock_s()) : COV_OK;
  }
  if (!from && event->head.type != COV_MESSAGE_PAYLOAD) return COV_FAIL(COV_EREMOTE, "a relay that sends messages");
  switch (event->head.type) {
  case COV_MESSAGE_HELLO:
    return take_hello(gw, from, event);
  case COV_MESSAGE_UNFIT:
    return take_unfit(gw, from, event);
  case COV_MESSAGE_NOTICE:
    return gw->ledger ? cov_notice_take(gw, event->peer, event->bytes, event->n_bytes) : COV_OK;
  case COV_MESSAGE_PAYLOAD:
    return gw->ledger ? cov_gateway_part(gw, event) : cov_gateway_early_keep(gw, event);
  case COV_MESSAGE_DIRECT:
    return cov_gateway_go_direct(gw, event->peer);
  case COV_MESSAGE_COMMIT:
    if (event->head.round < INT64_MAX && (int64_t)event->head.round > gw->newest_round) {
      gw->newest_round = (int64_t)event->head.round;
    }
    return gw->commit ? cov_commit_message(gw->commit, event->peer, event->bytes, event->n_bytes, cov_clock_s())
                      : COV_OK;
  case COV_MESSAGE_FETCH:
    return cov_gateway_serve(gw, event);
  case COV_MESSAGE_FINAL:
    if (event->n_bytes != COV_HASH_BYTES) return COV_FAIL(COV_EREMOTE, "a final hash of %zu bytes", event->n_bytes);
    COV_ASSERT(event->bytes);
    memcpy(from->final_hash, event->bytes, COV_HASH_BYTES);
    from->final_known = true;
    return COV_OK;
  case COV_MESSAGE_OVER:
    return cov_gateway_over(gw, from, event->bytes, event->n_bytes);
  case COV_MESSAGE_SAVED:
    if (event->head.round <= (uint64_t)gw->round + 1) from->saved = (int64_t)event->head.round;
    return COV_OK;
  case COV_MESSAGE_ASK_TENSORS:
    return gw->ledger ? cov_difference_serve(gw, event->peer, event->bytes, event->n_bytes) : COV_OK;
  case COV_MESSAGE_TENSORS:
    return cov_difference_take(gw, event->bytes, event->n_bytes);
  default:
    return COV_FAIL(COV_EREMOTE, "message type %" PRIu32 " is unknown", event->head.type);
  }
}

static cov_status lose_peer(cov_gateway *gw, int peer, const char *reason, bool orderly) {
  COV_TRY(cov_gateway_link_lost(gw, peer, reason));
  if (cov_gateway_is_relay(gw, peer)) return COV_OK;
  if (!orderly) {
    cov_notice_give(gw, COV_NOTICE_GONE, peer, gw->round, "peer %d is gone: %s; going on without it", peer, reason);
    const cov_event_peer_dropped event = {.round = gw->round, .dropped = peer, .silent_s = 0, .reason = reason};
    (void)cov_events_peer_dropped(gw->app->events, &event); /* the log has it too */
  }
  if (!gw->commit) return COV_OK;
  const cov_ledger_head *head = cov_ledger_head_get(gw->ledger);
  if (!cov_epoch_member_find(head->members, head->n_members, peer)) return COV_OK;
  return cov_commit_peer_alive(gw->commit, peer, false, cov_clock_s());
}

cov_status cov_gateway_event(cov_gateway *gw, const cov_carrier_event *event) {
  if (event->kind == COV_EVENT_DROPPED) return lose_peer(gw, event->peer, event->reason, event->status == COV_OK);
  if (event->kind != COV_EVENT_MESSAGE) return COV_OK;
  cov_status st = take_message(gw, event);
  if (st != COV_EREMOTE) return st;
  char reason[512];
  snprintf(reason, sizeof reason, "%s", cov_error_text());
  cov_carrier_drop(gw->carrier, event->peer, reason);
  return lose_peer(gw, event->peer, reason, false);
}

static cov_status send_waiting(cov_gateway *gw) {
  int32_t to;
  const uint8_t *data;
  size_t bytes;
  while (cov_commit_send_next(gw->commit, &to, &data, &bytes)) {
    COV_TRY(cov_gateway_post(gw, to, COV_MESSAGE_COMMIT, gw->round, data, bytes, COV_POST_URGENT));
  }
  return COV_OK;
}

void cov_gateway_leave(cov_gateway *gw, cov_status st, const char *why) {
  uint8_t text[COV_UNFIT_BYTES], over[COV_OVER_BYTES];
  if (!gw->carrier) return;
  cov_unfit_encode(st, why, text);
  for (int i = 0; i < gw->n_remote; i++) {
    if (gw->remote[i].peer == gw->app->peer || !cov_carrier_alive(gw->carrier, gw->remote[i].peer)) continue;
    (void)cov_gateway_post(gw, gw->remote[i].peer, COV_MESSAGE_UNFIT, gw->round, text, sizeof text, COV_POST_COPY);
  }
  cov_over_encode(1, over); /* this one is lost */
  for (int i = 0; i < gw->n_relays; i++) {
    (void)cov_gateway_post(gw, gw->n_remote + i, COV_MESSAGE_OVER, gw->round, over, sizeof over, COV_POST_COPY);
  }
  (void)cov_carrier_close(&gw->carrier, leave_s); /* who does not hear it finds out by exchange.link_timeout */
}

void cov_gateway_ask_to_leave(cov_gateway *gw, cov_status st, const char *why) {
  cov_farewell *f = &gw->farewell;
  double deadline = cov_clock_s() + ask_s;
  f->status = st;
  snprintf(f->why, sizeof f->why, "%s", why);
  atomic_store(&f->asked, 1);
  while (!atomic_load(&f->done) && cov_clock_s() < deadline) cov_sleep_s(0.002);
}

/* Then the watchdog ends this process; it takes five seconds at most. */
static cov_status leave_if_asked(cov_gateway *gw) {
  cov_farewell *f = &gw->farewell;
  if (!atomic_load(&f->asked) || atomic_load(&f->done)) return COV_OK;
  cov_gateway_leave(gw, f->status, f->why);
  atomic_store(&f->done, 1);
  cov_sleep_s(5);
  cov_status st = COV_FAIL(COV_ECOMM, "%s", f->why);
  cov_error_second_hand_set();
  return st;
}

cov_status cov_gateway_progress(cov_gateway *gw) {
  COV_TRY(leave_if_asked(gw));
  return gw->carrier ? cov_carrier_progress(gw->carrier) : COV_OK;
}

cov_status cov_gateway_turn(cov_gateway *gw, double max_s) {
  cov_carrier_event event;
  double start = cov_clock_s();
  COV_TRY(leave_if_asked(gw));
  COV_TRY(cov_carrier_wait(gw->carrier, max_s, &event));
  if (event.kind == COV_EVENT_NONE) gw->idle_s += cov_clock_s() - start;
  int left = events_a_turn;
  while (event.kind != COV_EVENT_NONE) {
    COV_TRY(cov_gateway_event(gw, &event));
    if (--left == 0) break;
    COV_TRY(cov_carrier_poll(gw->carrier, &event));
  }
  COV_TRY(cov_gateway_store_some(gw));
  cov_gateway_lent_free(gw, false);
  if (!gw->commit) return COV_OK;
  double now = cov_clock_s();
  if (cov_stop_requested() || cov_doorbell_now(cov_segment_stop_bell(gw->outer->segment)) != 0) {
    COV_TRY(cov_commit_request_stop(gw->commit, now));
  }
  COV_TRY(cov_commit_tick(gw->commit, now));
  COV_TRY(cov_gateway_fetch(gw, now));
  return send_waiting(gw);
}

static cov_status save_vote(void *context, const uint8_t *vote, size_t bytes) {
  const cov_gateway *gw = context;
  char path[COV_CONFIG_TEXT_BYTES + 64];
  COV_TRY(cov_app_peer_path(gw->app, "vote", path, sizeof path));
  return cov_file_write(path, vote, bytes);
}

static bool past_record(void *context, int64_t round, const uint8_t **record, size_t *bytes) {
  const cov_gateway *gw = context;
  return cov_ledger_round_bytes(gw->ledger, round, record, bytes);
}

cov_status cov_gateway_begin(cov_gateway *gw) {
  const cov_ledger_head *head = cov_ledger_head_get(gw->ledger);
  const cov_config *cfg = &gw->app->cfg;
  cov_commit_destroy(&gw->commit);
  gw->round = head->next_round;
  const cov_commit_params params = {.self = (int32_t)gw->app->peer,
                                    .identity = &gw->identity,
                                    .members = head->members,
                                    .n_members = head->n_members,
                                    .epoch = head->epoch,
                                    .round = gw->round,
                                    .base_state_hash = gw->outer->hash,
                                    .previous = head->last_hash,
                                    .propose_wait_s = cfg->exchange.round_timeout,
                                    .takeover_s = cfg->exchange.link_timeout,
                                    .resend_s = resend_s,
                                    .save_vote = save_vote,
                                    .past_record = past_record,
                                    .context = gw};
  COV_TRY(cov_commit_create(&params, cov_clock_s(), &gw->commit));
  for (int i = 0; i < gw->n_remote; i++) {
    cov_remote *r = &gw->remote[i];
    cov_arrival_reset(&r->arrival);
    r->asked = NULL;
    r->asks = 0;
    if (r->peer == gw->app->peer) continue;
    if (cov_epoch_member_find(head->members, head->n_members, r->peer) && !cov_carrier_alive(gw->carrier, r->peer)) {
      COV_TRY(cov_commit_peer_alive(gw->commit, r->peer, false, cov_clock_s()));
    }
    cov_slot *slot = &r->slot[gw->round % COV_GATEWAY_ROUNDS];
    if (slot->round == gw->round) COV_TRY(cov_gateway_take(gw, r, slot, r)); /* it came early */
  }
  return COV_OK;
}

const cov_round *cov_gateway_round(const cov_gateway *gw) {
  return gw->commit ? cov_commit_round(gw->commit) : NULL;
}

static cov_status judge(cov_gateway *gw) {
  const cov_round *agreed = cov_gateway_round(gw);
  if (cov_commit_state_differs(gw->commit)) {
    char ours[65], theirs[65], difference[COV_PARAM_NAME_MAX + 64];
    cov_hex(gw->outer->hash, 32, ours);
    cov_hex(agreed->base_state_hash, 32, theirs);
    cov_difference_describe(gw, -1, agreed->base_state_hash, difference, sizeof difference);
    return COV_FAIL(COV_EMISMATCH,
                    "the parameters of peer %" PRId64 " before round %" PRId64
                    " hash to %.16s..., those of the majority to "
                    "%.16s...: %s; this peer stops, its state is not to be trusted (memory fault, or another build?)",
                    gw->app->peer, gw->round, ours, theirs, difference);
  }
  if (cov_commit_removed(gw->commit)) {
    return COV_FAIL(COV_EREMOTE,
                    "the other peers went on without peer %" PRId64 " in round %" PRId64
                    " (they heard nothing from it for exchange.link_timeout); it has to join anew",
                    gw->app->peer, gw->round);
  }
  return COV_OK;
}

/* The round is agreed, something of it is missing here, and who had it may be gone. Those that are left may have it
 * too; but without a majority nobody goes on, so it is waited for only as long as parts of something come. `*hope_s`:
 * when there was last reason to wait. */
static cov_status expect_missing(const cov_gateway *gw, double *hope_s) {
  int others = 0;
  double now = cov_clock_s();
  for (int i = 0; i < gw->n_remote; i++) {
    const cov_remote *r = &gw->remote[i];
    if (*hope_s < r->arrival.part_s) *hope_s = r->arrival.part_s;
    others += r->peer != gw->app->peer && cov_carrier_alive(gw->carrier, r->peer);
  }
  if (cov_commit_has_quorum(gw->commit) || gw->newest_round > gw->round) *hope_s = now; /* the others go on */
  if (others > 0 && now - *hope_s < gw->app->cfg.exchange.link_timeout) return COV_OK;
  return COV_FAIL(COV_EREMOTE,
                  "round %" PRId64 " is agreed, but %" PRId32
                  " of its payloads had not come when the majority was lost; this peer stops where it is",
                  gw->round, cov_commit_missing(gw->commit, NULL, 0));
}

cov_status cov_gateway_decide(cov_gateway *gw) {
  const cov_config *cfg = &gw->app->cfg;
  double deadline = cov_clock_s() + 3 * cfg->exchange.round_timeout + 3 * cfg->exchange.link_timeout;
  const uint8_t *record;
  size_t bytes;
  double hope_s = cov_clock_s();
  char why[256];
  for (;;) {
    double idle = gw->idle_s;
    COV_TRY(cov_gateway_turn(gw, 0.02));
    if (cov_commit_decided(gw->commit, &record, &bytes)) {
      COV_TRY(judge(gw));
      if (cov_commit_missing(gw->commit, NULL, 0) == 0) break;
      if (gw->idle_s > idle) COV_TRY(expect_missing(gw, &hope_s)); /* what came before an end counts */
    } else if (!cov_commit_has_quorum(gw->commit)) {
      cov_commit_reason(gw->commit, why, sizeof why);
      return COV_FAIL(COV_EREMOTE, "round %" PRId64 " cannot be agreed on: %s; this peer stops where it is", gw->round,
                      why);
    }
    if (cov_clock_s() > deadline) {
      cov_commit_reason(gw->commit, why, sizeof why);
      return COV_FAIL(COV_EREMOTE, "round %" PRId64 " was not finished in time: %s", gw->round, why);
    }
  }
  COV_TRY(cov_ledger_append(gw->ledger, record, bytes));
  COV_TRY(cov_gateway_store(gw));
  const cov_round *agreed = cov_gateway_round(gw);
  for (int32_t i = 0; i < agreed->n_set; i++) gw->tokens += agreed->set[i].tokens;
  return COV_OK;
}

void cov_gateway_traffic(cov_gateway *gw, uint64_t *sent_bytes, uint64_t *received_bytes) {
  uint64_t sent = 0, received = 0;
  for (int i = 0; i < cov_carrier_links(gw->carrier); i++) {
    cov_link_stats stats;
    cov_carrier_stats(gw->carrier, i, &stats);
    sent += stats.sent_bytes;
    received += stats.received_bytes;
  }
  *sent_bytes = sent - gw->sent_bytes_before;
  *received_bytes = received - gw->received_bytes_before;
  gw->sent_bytes_before = sent;
  gw->received_bytes_before = received;
}

cov_status cov_gateway_saved(cov_gateway *gw, int64_t round) {
  gw->remote[gw->app->peer].saved = round;
  for (int i = 0; i < gw->n_remote; i++) {
    if (gw->remote[i].peer == gw->app->peer || !cov_carrier_alive(gw->carrier, gw->remote[i].peer)) continue;
    COV_TRY(cov_gateway_post(gw, gw->remote[i].peer, COV_MESSAGE_SAVED, round, NULL, 0, COV_POST_COPY));
  }
  return COV_OK;
}

int64_t cov_gateway_saved_by_all(const cov_gateway *gw) {
  const cov_ledger_head *head = cov_ledger_head_get(gw->ledger);
  int64_t oldest = INT64_MAX;
  for (int32_t i = 0; i < head->n_members; i++) {
    int64_t saved = gw->remote[head->members[i].peer].saved;
    if (saved < oldest) oldest = saved;
  }
  return oldest;
}

void cov_gateway_close(cov_gateway *gw) {
  for (int i = 0; gw->remote && i < gw->n_remote; i++) {
    for (int s = 0; s < COV_GATEWAY_ROUNDS; s++) cov_gateway_empty(gw, &gw->remote[i].slot[s]);
    cov_payload_stream_close(&gw->remote[i].stream);
  }
  free(gw->remote);
  gw->remote = NULL;
  cov_gateway_lent_free(gw, true);
  cov_gateway_early_free(gw);
  cov_transfers_destroy(&gw->incoming);
  cov_probe_destroy(&gw->probe);
  cov_commit_destroy(&gw->commit);
  cov_ledger_close(&gw->ledger);
  (void)cov_carrier_close(&gw->carrier, 0); /* after a failure: nothing to wait for */
  cov_identity_wipe(&gw->identity);
}
