/* The beginning of a gateway: key, links, greetings, and where the run goes on. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "comm/beside.h"
#include "exchange/carrier_world.h"
#include "sync/gateway.h"
#include "sync/gateway_early.h"
#include "sync/gateway_messages.h"
#include "sync/notice.h"

enum { RELAYS_MAX = 16 };
static const double probe_turn_s = 0.002;

/* This peer's own part of the start: what keeps it from starting is told to the others, who would wait for it. */
static cov_status prepare(cov_gateway *gw) {
  char path[COV_CONFIG_TEXT_BYTES + 64];
  cov_remote *self = &gw->remote[gw->app->peer];
  COV_TRY(cov_app_peer_path(gw->app, "key", path, sizeof path));
  COV_TRY(cov_identity_open(path, &gw->identity));
  memcpy(self->key, gw->identity.public_key, COV_KEY_BYTES);
  return cov_resume_offers(gw->app, &self->offers); /* before the links: it may take minutes */
}

/* A hello to every peer, or the reason why there is none. */
static cov_status send_greetings(cov_gateway *gw) {
  const cov_remote *self = &gw->remote[gw->app->peer];
  uint8_t hello[COV_HELLO_BYTES], unfit[COV_UNFIT_BYTES];
  if (self->declined) {
    cov_unfit_encode(self->unfit, self->why, unfit);
  } else {
    cov_hello_encode(gw->app, gw->identity.public_key, gw->outer->hash, &self->offers, hello);
  }
  for (int i = 0; i < gw->n_remote; i++) {
    if (gw->remote[i].peer == gw->app->peer) continue;
    COV_TRY(self->declined
                ? cov_gateway_post(gw, gw->remote[i].peer, COV_MESSAGE_UNFIT, 0, unfit, sizeof unfit, COV_POST_COPY)
                : cov_gateway_post(gw, gw->remote[i].peer, COV_MESSAGE_HELLO, 0, hello, sizeof hello, COV_POST_COPY));
  }
  return COV_OK;
}

static cov_status greet(cov_gateway *gw) {
  double deadline = cov_clock_s() + gw->app->cfg.run.start_timeout;
  COV_TRY(send_greetings(gw));
  for (int i = 0; i < gw->n_remote; i++) {
    cov_remote *r = &gw->remote[i];
    while (!r->greeted) {
      COV_TRY(cov_gateway_turn(gw, 0.02));
      bool gone = !cov_carrier_alive(gw->carrier, r->peer);
      if (gone) COV_TRY(cov_gateway_turn(gw, 0)); /* what it said before it went */
      if (!r->greeted && (gone || cov_clock_s() > deadline)) {
        return COV_FAIL(COV_EREMOTE, "peer %d did not come up (run.start_timeout = %.3g s); its log says why", r->peer,
                        gw->app->cfg.run.start_timeout);
      }
    }
    cov_identity_key_hash(r->key, r->key_hash);
  }
  return COV_OK;
}

/* All peers end alike; `speaks` is this one at exactly one of them. It has spoken before another may end. */
static cov_status refuse(cov_gateway *gw, cov_status st, const char *why, bool speaks) {
  (void)COV_FAIL(st, "%s", why);
  if (!speaks) cov_error_second_hand_set();
  cov_app_say(gw->app, st);
  gw->app->refused = true;
  (void)cov_carrier_close(&gw->carrier, 2); /* who does not hear it finds out by run.start_timeout */
  st = COV_FAIL(st, "%s", why);
  if (!speaks) cov_error_second_hand_set();
  return st;
}

/* Every peer has heard the same from all: the lowest that cannot start says why. Where greetings do not fit each other,
 * some do not fit that of peer 0. */
static cov_status judge_greetings(cov_gateway *gw) {
  const cov_remote *odd = NULL;
  char why[COV_UNFIT_BYTES + 64];
  for (int i = 0; i < gw->n_remote; i++) {
    const cov_remote *r = &gw->remote[i];
    bool self = r->peer == gw->app->peer;
    if (!odd && r->unfit != COV_OK) odd = r;
    if (!r->declined) continue;
    if (self) return refuse(gw, r->unfit, r->why, true);
    snprintf(why, sizeof why, "peer %d cannot start: %s", r->peer, r->why);
    return refuse(gw, r->unfit, why, false);
  }
  return odd ? refuse(gw, odd->unfit, odd->why, gw->app->peer == 0) : COV_OK;
}

static cov_status found(cov_gateway *gw) {
  cov_genesis *genesis = calloc(1, sizeof *genesis);
  if (!genesis) return COV_FAIL(COV_ENOMEM, "no memory for the ledger's first record");
  memcpy(genesis->run_id, gw->app->run_id, COV_RUN_ID_BYTES);
  genesis->protocol_version = COV_PROTOCOL_VERSION;
  memcpy(genesis->config_digest, gw->app->config_digest, COV_HASH_BYTES);
  memcpy(genesis->params_digest, gw->app->params_digest, COV_HASH_BYTES);
  memcpy(genesis->state_hash, gw->outer->hash, COV_HASH_BYTES);
  genesis->n_members = gw->n_remote;
  for (int i = 0; i < gw->n_remote; i++) {
    genesis->members[i].peer = gw->remote[i].peer;
    memcpy(genesis->members[i].key, gw->remote[i].key, COV_KEY_BYTES);
  }
  char path[COV_CONFIG_TEXT_BYTES + 64];
  cov_status st = cov_app_peer_path(gw->app, "ledger", path, sizeof path);
  if (st == COV_OK) st = cov_ledger_create(path, genesis, &gw->ledger);
  free(genesis);
  return st;
}

/* A ledger that is gone on with must bind the same keys to the peers. */
static cov_status check_keys(const cov_gateway *gw) {
  const cov_ledger_head *head = cov_ledger_head_get(gw->ledger);
  for (int32_t i = 0; i < head->n_members; i++) {
    int32_t peer = head->members[i].peer;
    if (peer < gw->n_remote && memcmp(gw->remote[peer].key, head->members[i].key, COV_KEY_BYTES) == 0) continue;
    return COV_FAIL(COV_EMISMATCH,
                    "peer %d has another key than the one it has in %s: bring back its file peers/%d/key, or start "
                    "anew in another run.dir",
                    peer, cov_ledger_name(gw->ledger), peer);
  }
  return COV_OK;
}

static cov_status go_on(cov_gateway *gw) {
  char path[COV_CONFIG_TEXT_BYTES + 64];
  COV_TRY(cov_app_peer_path(gw->app, "ledger", path, sizeof path));
  COV_TRY(cov_ledger_open(path, &gw->ledger));
  gw->tokens = gw->resume.tokens;
  for (int i = 0; i < gw->n_remote; i++) gw->remote[i].saved = gw->resume.round;
  return check_keys(gw);
}

static cov_status tell(const cov_gateway *gw) {
  const cov_resume *r = &gw->resume;
  if (r->anew) return COV_OK;
  const cov_event_resume event = {.round = r->round, .undone = r->undone, .path = r->folder};
  if (gw->app->peer == 0) {
    if (r->round > 0) {
      cov_log_info("going on after round %" PRId64 " from the checkpoints of that round", r->round);
    } else {
      cov_log_info("no checkpoint was complete at all peers: starting again from the initial parameters");
    }
    if (r->undone > 0) cov_log_info("rounds that are done again: %" PRId64, r->undone);
  }
  return cov_events_resume(gw->app->events, &event);
}

/* Going back to a state: it may mean removing large files. */
typedef struct {
  cov_gateway *gw;
  const cov_offer *chosen;
} going_back;

static cov_status go_back(void *arg) {
  const going_back *b = arg;
  return cov_resume_apply(b->gw->app, b->chosen, &b->gw->resume);
}

/* All peers have the same offers before them, so all come to the same result. */
static cov_status choose_start(cov_gateway *gw) {
  cov_offer chosen;
  cov_offers *all = calloc(COV_LEDGER_MAX_MEMBERS, sizeof *all);
  if (!all) return COV_FAIL(COV_ENOMEM, "no memory for the checkpoints of %d peers", gw->n_remote);
  for (int i = 0; i < gw->n_remote; i++) all[i] = gw->remote[i].offers;
  cov_status st = cov_offers_choose(all, gw->n_remote, gw->app->cfg.checkpoint.every_rounds, &chosen);
  free(all);
  if (st != COV_OK) {
    char why[1024];
    snprintf(why, sizeof why, "%s", cov_error_text());
    return refuse(gw, st, why, gw->app->peer == 0);
  }
  if (!cov_offer_has_member(&chosen, (int32_t)gw->app->peer)) {
    (void)cov_carrier_close(&gw->carrier, 2); /* they have our greeting then, and go on without us */
    return COV_FAIL(COV_EREMOTE,
                    "the other peers went on without peer %" PRId64 " before round %" PRId64
                    ", from which the run is resumed; it has to join anew",
                    gw->app->peer, chosen.round);
  }
  going_back back = {gw, &chosen};
  COV_TRY(cov_beside_run(go_back, &back, &gw->outer->how));
  gw->round = gw->resume.round - 1;
  COV_TRY(chosen.round > 0 ? go_on(gw) : found(gw));
  COV_TRY(cov_gateway_early_take(gw));
  return tell(gw);
}

static cov_status open_links(cov_gateway *gw) {
  const cov_config *cfg = &gw->app->cfg;
  const cov_comms *comms = &gw->app->comms;
  int number[COV_LEDGER_MAX_MEMBERS + RELAYS_MAX], rank[COV_LEDGER_MAX_MEMBERS + RELAYS_MAX];
  const size_t small[] = {COV_HELLO_BYTES, COV_UNFIT_BYTES, COV_NOTICE_BYTES, cov_commit_message_max_bytes()};
  size_t largest = (size_t)cfg->exchange.segment_bytes; /* payloads come in parts */
  for (size_t i = 0; i < sizeof small / sizeof *small; i++) largest = largest < small[i] ? small[i] : largest;
  gw->n_relays = comms->n_relays;
  if (gw->n_relays > RELAYS_MAX) return COV_FAIL(COV_EUSAGE, "%d relays; at most %d", gw->n_relays, RELAYS_MAX);
  for (int i = 0; i < gw->n_remote + gw->n_relays; i++) {
    number[i] = i;
    rank[i] = i < gw->n_remote ? comms->gateway_rank[i] : comms->relay_rank[i - gw->n_remote];
  }
  const cov_carrier_params params = {.self = (int)gw->app->peer,
                                     .peer = number,
                                     .n_peers = gw->n_remote + gw->n_relays,
                                     .max_message_bytes = largest,
                                     .max_queued_bytes = 4 * gw->outer->payload_bytes_max + 4 * largest +
                                                         cov_probe_room_bytes((size_t)cfg->exchange.segment_bytes),
                                     .segment_bytes = (size_t)cfg->exchange.segment_bytes,
                                     .heartbeat_s = cfg->exchange.heartbeat,
                                     .link_timeout_s = cfg->exchange.link_timeout};
  COV_TRY(cov_transfers_create(gw->outer->payload_bytes_max, &gw->incoming));
  COV_TRY(cov_carrier_world_open(comms->outer, &params, rank, &gw->carrier));
  /* Each peer opens when it has looked through its checkpoints; a relay has none. */
  for (int i = 0; i < gw->n_remote; i++) cov_carrier_await(gw->carrier, i, cfg->run.start_timeout);
  return COV_OK;
}

static bool is_measured(const cov_gateway *gw) {
  return gw->app->cfg.exchange.topology == COV_CFG_TOPOLOGY_AUTO && gw->n_relays > 0;
}

/* With the links: another peer may have all greetings before this one, and begin. */
static cov_status open_probe(cov_gateway *gw) {
  const cov_config *cfg = &gw->app->cfg;
  const cov_probe_params params = {.type = COV_MESSAGE_PROBE,
                                   .self = (int)gw->app->peer,
                                   .peers = gw->n_remote,
                                   .relays = gw->n_relays,
                                   .phase_s = cfg->exchange.probe_time,
                                   .patience_s = 4 * cfg->exchange.probe_time + 2 * cfg->exchange.link_timeout,
                                   .segment_bytes = (size_t)cfg->exchange.segment_bytes};
  return is_measured(gw) ? cov_probe_create(gw->carrier, &params, &gw->probe) : COV_OK;
}

static cov_status measure_links(cov_gateway *gw, cov_link_rate *rate, bool *known) {
  while (!cov_probe_done(gw->probe)) {
    COV_TRY(cov_gateway_turn(gw, probe_turn_s));
    COV_TRY(cov_probe_advance(gw->probe, cov_clock_s()));
  }
  *known = cov_probe_rates(gw->probe, rate);
  cov_probe_destroy(&gw->probe);
  return COV_OK;
}

/* What settings say, or what the measured links say. */
static cov_status choose_topology(cov_gateway *gw) {
  cov_link_rate rate[COV_LEDGER_MAX_MEMBERS + RELAYS_MAX];
  bool known = false;
  char why[400] = "mesh: not every host has answered";
  const cov_cost_params cost = {gw->n_remote, gw->n_relays, rate, (double)gw->outer->payload_bytes_max};
  bool relay = gw->app->cfg.exchange.topology == COV_CFG_TOPOLOGY_RELAY && gw->n_relays > 0;
  gw->topology = relay ? COV_TOPOLOGY_RELAY : COV_TOPOLOGY_MESH;
  if (!is_measured(gw)) return COV_OK;
  COV_TRY(measure_links(gw, rate, &known));
  if (known) gw->topology = cov_topology_choose(&cost, why, sizeof why);
  if (gw->app->peer == 0 || !known) cov_log_info("exchange.topology=auto takes %s", why);
  return COV_OK;
}

cov_status cov_gateway_open(cov_app *app, cov_outer *outer, cov_gateway *gw) {
  memset(gw, 0, sizeof *gw);
  gw->app = app;
  gw->outer = outer;
  gw->n_remote = gw->store_next = (int)app->cfg.run.peers; /* nothing to store yet */
  if (gw->n_remote > COV_LEDGER_MAX_MEMBERS) {
    return COV_FAIL(COV_EUSAGE, "run.peers is %d; a ledger holds at most %d", gw->n_remote, COV_LEDGER_MAX_MEMBERS);
  }
  gw->remote = calloc((size_t)gw->n_remote, sizeof *gw->remote);
  if (!gw->remote) return COV_FAIL(COV_ENOMEM, "no memory for %d peers", gw->n_remote);
  for (int i = 0; i < gw->n_remote; i++) {
    gw->remote[i].peer = i;
    gw->remote[i].refused = gw->remote[i].direct_round = -1;
    for (int s = 0; s < COV_GATEWAY_ROUNDS; s++) gw->remote[i].slot[s].round = -1;
  }
  cov_remote *self = &gw->remote[app->peer];
  self->greeted = true;
  self->unfit = prepare(gw);
  self->declined = self->unfit != COV_OK;
  if (self->declined) snprintf(self->why, sizeof self->why, "%s", cov_error_text());
  COV_TRY(open_links(gw));
  COV_TRY(open_probe(gw));
  COV_TRY(greet(gw));
  COV_TRY(judge_greetings(gw));
  COV_TRY(choose_topology(gw));
  return choose_start(gw);
}
