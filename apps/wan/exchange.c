/* One exchange through the carrier. */
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/memory.h"
#include "comm/collective.h"
#include "exchange/probe.h"
#include "exchange/relay.h"
#include "exchange/transfer.h"
#include "wan/wan.h"

enum { PART = 1, PROBE };
static const double probe_s = 2, probe_patience_s = 60, probe_turn_s = 0.002;

/* What a peer holds during an exchange. */
typedef struct {
  uint8_t *own;
  cov_transfers *incoming;
  int64_t bytes;
  int missing;
} receiving;

/* Noise that differs from host to host and round to round, with its digest at the end. */
static cov_status make_payload(const wan_host *host, int64_t bytes, uint64_t round, uint8_t **out) {
  void *p;
  COV_TRY(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_PAYLOAD, (size_t)bytes, &p));
  uint8_t *data = p;
  uint64_t x = 0x9E3779B97F4A7C15U * ((uint64_t)host->rank + 1 + 1000 * round);
  for (int64_t i = 0; i + 8 <= bytes; i += 8) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    memcpy(data + i, &x, 8);
  }
  cov_hash(data, (size_t)bytes - COV_HASH_BYTES, COV_HASH_BYTES, data + bytes - COV_HASH_BYTES);
  *out = data;
  return COV_OK;
}

static cov_status post(wan_host *host, const receiving *r, uint64_t round) {
  const cov_message_head head = {.type = PART, .round = round, .owner = (uint32_t)host->rank};
  if (host->topology == COV_TOPOLOGY_RELAY) {
    return cov_transfer_post(host->carrier, host->peers + cov_relay_of(host->rank, host->relays), &head, r->own,
                             (size_t)r->bytes, (size_t)host->part_bytes);
  }
  for (int k = 1; k < host->peers; k++) {
    COV_TRY(cov_transfer_post(host->carrier, (host->rank + k) % host->peers, &head, r->own, (size_t)r->bytes,
                              (size_t)host->part_bytes));
  }
  return COV_OK;
}

static cov_status take(receiving *r, const cov_carrier_event *event) {
  cov_transfer *x;
  uint8_t digest[COV_HASH_BYTES];
  if (event->kind == COV_EVENT_DROPPED) return COV_FAIL(COV_EREMOTE, "host %d: %s", event->peer, event->reason);
  if (event->kind != COV_EVENT_MESSAGE) return COV_OK;
  COV_TRY(cov_transfers_take(r->incoming, event, &x));
  if (!x || x->have < x->total) return COV_OK;
  cov_hash(x->bytes, x->total - COV_HASH_BYTES, COV_HASH_BYTES, digest);
  if (memcmp(digest, x->bytes + x->total - COV_HASH_BYTES, COV_HASH_BYTES) != 0) {
    return COV_FAIL(COV_EREMOTE, "the payload of host %u is damaged", x->owner);
  }
  (void)cov_transfers_end(r->incoming, x, false);
  r->missing--;
  return COV_OK;
}

static cov_status be_peer(wan_host *host, receiving *r, uint64_t round, wan_time *out) {
  cov_carrier_event event;
  out->begin_s = cov_clock_s();
  COV_TRY(post(host, r, round));
  while (r->missing > 0 || cov_carrier_in_use(host->carrier, r->own, (size_t)r->bytes)) {
    COV_TRY(cov_carrier_wait(host->carrier, 0.1, &event));
    COV_TRY(take(r, &event));
    if (r->missing > 0) out->end_s = cov_clock_s();
    if (cov_clock_s() - out->begin_s > host->timeout_s) {
      return COV_FAIL(COV_ECOMM, "host %d: %d payloads are missing after %g s", host->rank, r->missing,
                      host->timeout_s);
    }
  }
  return COV_OK;
}

static cov_status exchange_as_peer(wan_host *host, int64_t bytes, uint64_t round, wan_time *out) {
  receiving r = {.bytes = bytes, .missing = host->peers - 1};
  cov_status st = cov_transfers_create((size_t)bytes, &r.incoming);
  if (st == COV_OK) st = make_payload(host, bytes, round, &r.own);
  if (st == COV_OK) st = wan_barrier(host);
  if (st == COV_OK) st = be_peer(host, &r, round, out);
  if (st == COV_OK) st = wan_barrier(host);
  cov_transfers_destroy(&r.incoming);
  if (st == COV_OK) cov_mem_free(r.own); /* after a failure a send may still read it */
  return st;
}

static cov_status pass_on(void *arg) {
  void **both = arg;
  cov_carrier_event event;
  for (int i = 0; i < 64; i++) {
    COV_TRY(cov_carrier_poll(both[0], &event));
    if (event.kind == COV_EVENT_NONE) break;
    COV_TRY(cov_relay_take(both[1], &event));
  }
  return COV_OK;
}

/* Until all peers have reached their second barrier. */
static cov_status exchange_as_relay(wan_host *host, wan_time *out) {
  int peer[WAN_HOSTS_MAX];
  cov_relay *relay;
  for (int i = 0; i < host->peers; i++) peer[i] = i;
  COV_TRY(cov_relay_create(host->carrier, PART, peer, host->peers, &relay));
  void *both[2] = {host->carrier, relay};
  const cov_wait how = {host->timeout_s + 60, pass_on, both};
  cov_status st = wan_barrier(host);
  out->begin_s = cov_clock_s();
  if (st == COV_OK) st = cov_coll_barrier(MPI_COMM_WORLD, &how);
  out->end_s = cov_clock_s();
  cov_relay_destroy(&relay);
  return st;
}

static cov_status keep_going(void *carrier) {
  return cov_carrier_progress(carrier);
}

cov_status wan_barrier(wan_host *host) {
  const cov_wait how = {host->timeout_s + 60, keep_going, host->carrier};
  return cov_coll_barrier(MPI_COMM_WORLD, &how);
}

cov_status wan_exchange(wan_host *host, int64_t bytes, uint64_t round, wan_time *out) {
  *out = (wan_time){0};
  return host->rank < host->peers ? exchange_as_peer(host, bytes, round, out) : exchange_as_relay(host, out);
}

cov_status wan_probe(wan_host *host, char *why, size_t size) {
  const cov_probe_params params = {.type = PROBE,
                                   .self = host->rank,
                                   .peers = host->peers,
                                   .relays = host->relays,
                                   .phase_s = probe_s,
                                   .patience_s = probe_patience_s,
                                   .segment_bytes = (size_t)host->part_bytes};
  cov_link_rate rate[WAN_HOSTS_MAX];
  cov_probe *probe;
  cov_carrier_event event;
  COV_TRY(cov_probe_create(host->carrier, &params, &probe));
  cov_status st = wan_barrier(host);
  while (st == COV_OK && !cov_probe_done(probe)) {
    st = cov_carrier_wait(host->carrier, probe_turn_s, &event);
    if (st == COV_OK && event.kind == COV_EVENT_MESSAGE) st = cov_probe_take(probe, &event, cov_clock_s());
    if (st == COV_OK) st = cov_probe_advance(probe, cov_clock_s());
  }
  const cov_cost_params cost = {host->peers, host->relays, rate, (double)host->payload_bytes};
  snprintf(why, size, "mesh: not every host has answered");
  if (st == COV_OK && cov_probe_rates(probe, rate)) (void)cov_topology_choose(&cost, why, size);
  cov_probe_destroy(&probe);
  return st == COV_OK ? wan_barrier(host) : st;
}
