/* covenant-relay: passes the payloads of a run's peers on (exchange/relay.h, docs/exchange.md). */
#include "base/clock.h"
#include "base/log.h"
#include "common/context.h"
#include "common/loop_settings.h"
#include "common/over.h"
#include "exchange/carrier_world.h"
#include "exchange/probe.h"
#include "exchange/relay.h"
#include "sparseloco/payload.h"
#include "sync/gateway_messages.h"

enum { HOSTS_MAX = 4096 };
static const double probe_turn_s = 0.002;

typedef struct {
  cov_app *app;
  cov_carrier *carrier;
  cov_relay *relay;
  cov_probe *probe; /* for exchange.topology=auto, or NULL */
  int lost_heard;   /* most lost peers that a peer has counted at its end */
} relay_rank;

static cov_status payload_bytes_max(const cov_app *app, size_t *out) {
  cov_outer_settings set;
  cov_grid grid;
  cov_outer_settings_of(&app->cfg, &set);
  COV_TRY(cov_grid_create(&app->params, (int)app->cfg.sync.chunk, set.topk, &grid));
  *out = cov_payload_bytes_max(&grid, &set.quant);
  cov_grid_destroy(&grid);
  return COV_OK;
}

/* Room for whole rounds: a downlink may be slower than the uplinks together; and for the measurement. */
static cov_status open_links(relay_rank *r) {
  static int number[HOSTS_MAX], rank[HOSTS_MAX];
  const cov_app *app = r->app;
  const cov_comms *comms = &app->comms;
  int peers = comms->n_peers, n = peers + comms->n_relays;
  if (n > HOSTS_MAX) return COV_FAIL(COV_EUSAGE, "%d peers and relays; at most %d", n, HOSTS_MAX);
  size_t largest, part = (size_t)app->cfg.exchange.segment_bytes;
  COV_TRY(payload_bytes_max(app, &largest));
  for (int i = 0; i < n; i++) {
    number[i] = i;
    rank[i] = i < peers ? comms->gateway_rank[i] : comms->relay_rank[i - peers];
  }
  /* The other relays are no concern of this one. */
  number[peers] = peers + (int)app->shard;
  rank[peers] = comms->relay_rank[app->shard];
  const cov_carrier_params params = {.self = peers + (int)app->shard,
                                     .peer = number,
                                     .n_peers = peers + 1,
                                     .max_message_bytes = part,
                                     .max_queued_bytes = 2 * largest * (size_t)peers + cov_probe_room_bytes(part),
                                     .segment_bytes = part,
                                     .heartbeat_s = app->cfg.exchange.heartbeat,
                                     .link_timeout_s = app->cfg.exchange.link_timeout};
  COV_TRY(cov_carrier_world_open(comms->outer, &params, rank, &r->carrier));
  for (int i = 0; i < peers; i++) cov_carrier_await(r->carrier, i, app->cfg.run.start_timeout);
  return cov_relay_create(r->carrier, COV_MESSAGE_PAYLOAD, number, peers, &r->relay);
}

/* A relay takes part in the measurement and leaves the choice to the peers, each for what it sends. */
static cov_status open_probe(relay_rank *r) {
  const cov_config *cfg = &r->app->cfg;
  const cov_probe_params params = {.type = COV_MESSAGE_PROBE,
                                   .self = r->app->comms.n_peers + (int)r->app->shard,
                                   .peers = r->app->comms.n_peers,
                                   .relays = r->app->comms.n_relays,
                                   .phase_s = cfg->exchange.probe_time,
                                   .patience_s = cfg->run.start_timeout,
                                   .segment_bytes = (size_t)cfg->exchange.segment_bytes};
  if (cfg->exchange.topology != COV_CFG_TOPOLOGY_AUTO) return COV_OK;
  return cov_probe_create(r->carrier, &params, &r->probe);
}

static cov_status take_over(relay_rank *r, const cov_carrier_event *event) {
  int lost;
  COV_TRY(cov_over_decode(event->bytes, event->n_bytes, &lost));
  if (r->lost_heard < lost) r->lost_heard = lost;
  return COV_OK;
}

static cov_status take(relay_rank *r, const cov_carrier_event *event) {
  uint32_t type = event->kind == COV_EVENT_MESSAGE ? event->head.type : 0;
  cov_status st;
  if (type == COV_MESSAGE_OVER) st = take_over(r, event);
  else if (type == COV_MESSAGE_PROBE && r->probe) st = cov_probe_take(r->probe, event, cov_clock_s());
  else return cov_relay_take(r->relay, event);
  if (st != COV_EREMOTE) return st;
  cov_carrier_drop(r->carrier, event->peer, cov_error_text());
  return COV_OK;
}

static int n_alive(const relay_rank *r) {
  int n = 0;
  for (int i = 0; i < r->app->comms.n_peers; i++) n += cov_carrier_alive(r->carrier, i);
  return n;
}

/* Until every peer has said goodbye or is gone. They decide when the run ends; a stop is theirs to agree on. */
static cov_status serve(relay_rank *r) {
  cov_carrier_event event;
  while (n_alive(r) > 0) {
    COV_TRY(cov_carrier_wait(r->carrier, r->probe ? probe_turn_s : 1, &event));
    if (event.kind == COV_EVENT_DROPPED && event.status != COV_OK) {
      cov_log_warn("peer %d is gone: %s", event.peer, event.reason);
    }
    COV_TRY(take(r, &event));
    if (r->probe) COV_TRY(cov_probe_advance(r->probe, cov_clock_s()));
    if (r->probe && cov_probe_done(r->probe)) cov_probe_destroy(&r->probe);
  }
  return COV_OK;
}

static cov_status run(cov_app *app) {
  relay_rank r = {.app = app};
  cov_relay_stats stats = {0};
  cov_status st = open_links(&r);
  if (st == COV_OK) st = open_probe(&r);
  if (st == COV_OK) st = serve(&r);
  cov_probe_destroy(&r.probe);
  if (r.relay) cov_relay_stats_get(r.relay, &stats);
  if (stats.refused_parts + stats.lost_parts > 0) {
    cov_log_warn("%llu parts of payloads were in another's name, %llu found a full queue",
                 (unsigned long long)stats.refused_parts, (unsigned long long)stats.lost_parts);
  }
  if (r.carrier) app->lost_peers = cov_carrier_lost_links(r.carrier) + r.lost_heard;
  cov_relay_destroy(&r.relay);
  (void)cov_carrier_close(&r.carrier, 5); /* who does not say goodbye is gone */
  return st;
}

int main(int argc, char **argv) {
  cov_app app = {.program = COV_PROGRAM_RELAY};
  cov_status st = cov_app_open(
      &app,
      "Passes the payloads of a run's peers on, so that an uplink carries its payload once (docs/exchange.md).\n"
      "Started by 'covenant launch' where exchange.relays says so.",
      "  covenant launch -c configs/examples/quickstart.yaml exchange.relays=1 exchange.topology=relay --dry-run\n",
      argc, argv);
  if (st == COV_OK && !app.answered) st = cov_app_start(&app);
  if (st == COV_OK && !app.answered) st = run(&app);
  return cov_app_finish(&app, st);
}
