/* Payloads in parts over the in-process carrier, and a relay between; who sends to whom, and what it costs. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "exchange/carrier_loop.h"
#include "exchange/relay.h"
#include "exchange/topology.h"
#include "exchange/transfer.h"
#include "support.h"

enum { N = 4, RELAY = 3, PART = 1000, PART_TYPE = 2, PAYLOAD = 4321 };
static const int everyone[N] = {0, 1, 2, 3};

typedef struct {
  cov_loop *loop;
  cov_carrier *end[N];
} net;

static void open_net(net *x) {
  assert_ok(cov_loop_create(N, &x->loop));
  for (int i = 0; i < N; i++) {
    const cov_carrier_params p = {.self = i,
                                  .peer = everyone,
                                  .n_peers = N,
                                  .max_message_bytes = 10000,
                                  .segment_bytes = PART,
                                  .heartbeat_s = 1,
                                  .link_timeout_s = 5};
    assert_ok(cov_carrier_loop_open(x->loop, &p, &x->end[i]));
  }
}

static void close_net(net *x) {
  for (int i = 0; i < N; i++) cov_carrier_close(&x->end[i], 0);
  cov_loop_destroy(&x->loop);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PAYLOAD), 0);
}

static void fill(uint8_t *data, int seed) {
  for (int i = 0; i < PAYLOAD; i++) data[i] = (uint8_t)(i * 31 + i / 256 + seed);
}

static cov_carrier_event next_event(net *x, int i) {
  cov_carrier_event e = {.kind = COV_EVENT_NONE};
  for (int n = 0; n < 50 && e.kind == COV_EVENT_NONE; n++) {
    assert_ok(cov_carrier_poll(x->end[i], &e));
    for (int j = 0; j < N; j++) {
      if (j != i && x->end[j]) assert_ok(cov_carrier_progress(x->end[j]));
    }
  }
  return e;
}

static void a_payload_arrives_in_parts(void **state) {
  (void)state;
  net x;
  cov_transfers *in;
  cov_transfer *t = NULL;
  uint8_t *data = test_fenced(PAYLOAD);
  open_net(&x);
  assert_ok(cov_transfers_create(PAYLOAD, &in));
  fill(data, 5);
  const cov_message_head head = {.type = PART_TYPE, .epoch = 3, .round = 9, .owner = 0};
  assert_ok(cov_transfer_post(x.end[0], 1, &head, data, PAYLOAD, PART));
  assert_int_equal(cov_carrier_in_use(x.end[0], data, PAYLOAD), 1);
  for (size_t part = 0; part < 5; part++) {
    cov_carrier_event e = next_event(&x, 1);
    assert_int_equal(e.kind, COV_EVENT_MESSAGE);
    assert_int_equal(e.head.offset, part * PART);
    assert_ok(cov_transfers_take(in, &e, &t));
    assert_non_null(t);
    assert_int_equal(t->have, part < 4 ? (part + 1) * PART : PAYLOAD);
    assert_int_equal(t->total, PAYLOAD);
  }
  assert_true(t->via == 0 && t->owner == 0 && t->round == 9 && t->epoch == 3);
  uint8_t *whole = cov_transfers_end(in, t, true);
  assert_memory_equal(whole, data, PAYLOAD);
  cov_mem_free(whole);
  assert_int_equal(next_event(&x, 0).kind, COV_EVENT_NONE);
  assert_int_equal(cov_carrier_in_use(x.end[0], data, PAYLOAD), 0);
  cov_transfers_destroy(&in);
  close_net(&x);
  test_fenced_free(data);
}

/* Parts made by hand: what a receiver takes, forgets and refuses. */
static cov_status give(cov_transfers *in, int via, uint32_t owner, size_t offset, size_t n, size_t total,
                       cov_transfer **t) {
  static uint8_t data[PAYLOAD];
  const cov_carrier_event e = {.kind = COV_EVENT_MESSAGE,
                               .peer = via,
                               .head = {.type = PART_TYPE, .owner = owner, .offset = offset, .total = total},
                               .bytes = data,
                               .n_bytes = n};
  return cov_transfers_take(in, &e, t);
}

static void parts_out_of_place_are_of_no_payload(void **state) {
  (void)state;
  cov_transfers *in;
  cov_transfer *t, *other;
  assert_ok(cov_transfers_create(3000, &in));
  assert_ok(give(in, 1, 1, 500, 100, 3000, &t)); /* its beginning was lost */
  assert_null(t);
  assert_ok(give(in, 1, 1, 0, 1000, 3000, &t));
  assert_ok(give(in, 1, 2, 0, 100, 200, &other)); /* another owner's, in between */
  assert_ok(give(in, 1, 1, 1000, 1000, 3000, &t));
  assert_int_equal(t->have, 2000);
  assert_ok(give(in, 1, 1, 2500, 500, 3000, &t)); /* one is missing */
  assert_null(t);
  assert_ok(give(in, 1, 1, 2000, 1000, 3000, &t)); /* and so it is gone */
  assert_null(t);
  assert_ok(give(in, 1, 1, 0, 1000, 2000, &t));    /* anew */
  assert_ok(give(in, 1, 1, 1000, 1000, 2500, &t)); /* not what was said before */
  assert_null(t);
  assert_ok(give(in, 1, 2, 100, 100, 200, &other));
  assert_true(other->have == other->total);
  cov_transfers_drop(in, 1);
  assert_ok(give(in, 1, 2, 100, 100, 200, &other));
  assert_null(other);
  cov_transfers_destroy(&in);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PAYLOAD), 0);
}

static void impossible_parts_are_refused(void **state) {
  (void)state;
  cov_transfers *in;
  cov_transfer *t;
  assert_ok(cov_transfers_create(3000, &in));
  assert_status(give(in, 1, 1, 0, 100, 3001, &t), COV_EREMOTE);
  assert_status(give(in, 1, 1, 0, 100, SIZE_MAX, &t), COV_EREMOTE);
  assert_status(give(in, 1, 1, 0, 0, 3000, &t), COV_EREMOTE);
  assert_status(give(in, 1, 1, 0, 101, 100, &t), COV_EREMOTE);
  assert_status(give(in, 1, 1, 0, 100, 0, &t), COV_EREMOTE);
  assert_status(give(in, 1, 1, 2950, 100, 3000, &t), COV_EREMOTE);
  assert_status(give(in, 1, 1, SIZE_MAX - 50, 100, 3000, &t), COV_EREMOTE);
  assert_null(t);
  /* What had come of that payload by that link is worth nothing any more; of others it is. */
  assert_ok(give(in, 1, 1, 0, 1000, 3000, &t));
  assert_ok(give(in, 1, 2, 0, 1000, 3000, &t));
  assert_status(give(in, 1, 1, 1000, 2001, 3000, &t), COV_EREMOTE);
  assert_null(t);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PAYLOAD), 3000);
  assert_ok(give(in, 1, 1, 1000, 2000, 3000, &t));
  assert_null(t);
  assert_ok(give(in, 1, 2, 1000, 2000, 3000, &t));
  assert_non_null(t);
  cov_transfers_destroy(&in);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PAYLOAD), 0);
}

/* ---- a relay ---- */

/* Let the relay work and the peers receive until nothing moves; complete[i][owner] counts whole payloads. */
static void run_relay(net *x, cov_relay *relay, cov_transfers **in, int complete[N][N], uint8_t data[N][PAYLOAD]) {
  for (int quiet = 0; quiet < 20; quiet++) {
    cov_carrier_event e;
    assert_ok(cov_carrier_poll(x->end[RELAY], &e));
    assert_ok(cov_relay_take(relay, &e));
    if (e.kind != COV_EVENT_NONE) quiet = 0;
    for (int i = 0; i < RELAY; i++) {
      cov_transfer *t;
      if (!x->end[i]) continue;
      assert_ok(cov_carrier_poll(x->end[i], &e));
      if (e.kind != COV_EVENT_MESSAGE) continue;
      quiet = 0;
      assert_int_equal(e.peer, RELAY);
      assert_ok(cov_transfers_take(in[i], &e, &t));
      if (!t || t->have < t->total) continue;
      assert_memory_equal(t->bytes, data[t->owner], PAYLOAD);
      complete[i][t->owner]++;
      (void)cov_transfers_end(in[i], t, false);
    }
  }
}

static void a_relay_fans_out(void **state) {
  (void)state;
  static uint8_t data[N][PAYLOAD];
  int complete[N][N] = {{0}};
  net x;
  cov_relay *relay;
  cov_transfers *in[N];
  cov_relay_stats stats;
  open_net(&x);
  assert_ok(cov_relay_create(x.end[RELAY], PART_TYPE, everyone, RELAY, &relay));
  for (int i = 0; i < RELAY; i++) {
    const cov_message_head head = {.type = PART_TYPE, .owner = (uint32_t)i};
    assert_ok(cov_transfers_create(PAYLOAD, &in[i]));
    fill(data[i], i);
    assert_ok(cov_transfer_post(x.end[i], RELAY, &head, data[i], PAYLOAD, PART));
  }
  const cov_message_head lie = {.type = PART_TYPE, .owner = 1}; /* in another's name */
  assert_ok(cov_transfer_post(x.end[0], RELAY, &lie, data[0], PAYLOAD, PART));
  run_relay(&x, relay, in, complete, data);
  for (int i = 0; i < RELAY; i++) {
    for (int owner = 0; owner < RELAY; owner++) assert_int_equal(complete[i][owner], i != owner);
    cov_transfers_destroy(&in[i]);
  }
  cov_relay_stats_get(relay, &stats);
  assert_int_equal(stats.received_bytes, 3 * PAYLOAD);
  assert_int_equal(stats.sent_bytes, 6 * PAYLOAD);
  assert_int_equal(stats.refused_parts, 5);
  assert_int_equal(stats.lost_parts, 0);
  cov_relay_destroy(&relay);
  close_net(&x);
}

/* One of the peers dies with parts under way to it: the others get all, and nothing leaks. */
static void a_relay_survives_a_peer(void **state) {
  (void)state;
  static uint8_t data[N][PAYLOAD];
  int complete[N][N] = {{0}};
  net x;
  cov_relay *relay;
  cov_transfers *in[N];
  open_net(&x);
  assert_ok(cov_relay_create(x.end[RELAY], PART_TYPE, everyone, RELAY, &relay));
  for (int i = 0; i < RELAY; i++) assert_ok(cov_transfers_create(PAYLOAD, &in[i]));
  fill(data[0], 0);
  cov_loop_kill(x.loop, 2);
  const cov_message_head head = {.type = PART_TYPE, .owner = 0};
  assert_ok(cov_transfer_post(x.end[0], RELAY, &head, data[0], PAYLOAD, PART));
  run_relay(&x, relay, in, complete, data);
  assert_int_equal(complete[1][0], 1);
  for (int i = 0; i < 14; i++) {
    cov_loop_advance(x.loop, 0.5);
    run_relay(&x, relay, in, complete, data);
  }
  assert_int_equal(cov_carrier_alive(x.end[RELAY], 2), 0);
  assert_int_equal(cov_carrier_alive(x.end[RELAY], 1), 1);
  assert_ok(cov_transfer_post(x.end[0], RELAY, &head, data[0], PAYLOAD, PART));
  run_relay(&x, relay, in, complete, data);
  assert_int_equal(complete[1][0], 2);
  for (int i = 0; i < RELAY; i++) cov_transfers_destroy(&in[i]);
  cov_relay_destroy(&relay);
  close_net(&x);
}

/* It checks nothing, so parts that cannot be arrive as they are, with their owner's name, and the next payload as ever.
 */
static void a_relay_passes_on_what_receivers_refuse(void **state) {
  (void)state;
  static uint8_t data[N][PAYLOAD];
  static const struct {
    size_t n, offset, total;
  } bad[] = {{PART, 1, PART}, {0, 0, PART}, {PART, 0, 0}, {PART, SIZE_MAX, PART}};
  int complete[N][N] = {{0}};
  net x;
  cov_relay *relay;
  cov_transfers *in[N];
  cov_transfer *t;
  open_net(&x);
  assert_ok(cov_relay_create(x.end[RELAY], PART_TYPE, everyone, RELAY, &relay));
  for (int i = 0; i < RELAY; i++) assert_ok(cov_transfers_create(PAYLOAD, &in[i]));
  fill(data[0], 0);
  for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
    const cov_message_head head = {.type = PART_TYPE, .owner = 0, .offset = bad[b].offset, .total = bad[b].total};
    assert_ok(cov_carrier_post(x.end[0], RELAY, &head, data[0], bad[b].n, COV_POST_COPY, NULL));
    cov_carrier_event e;
    do { /* what it has sent before comes first */
      e = next_event(&x, RELAY);
      assert_ok(cov_relay_take(relay, &e));
    } while (e.kind == COV_EVENT_SENT);
    for (int i = 1; i < RELAY; i++) {
      e = next_event(&x, i);
      assert_true(e.kind == COV_EVENT_MESSAGE && e.peer == RELAY && e.head.owner == 0);
      assert_status(cov_transfers_take(in[i], &e, &t), COV_EREMOTE);
    }
  }
  const cov_message_head head = {.type = PART_TYPE, .owner = 0};
  assert_ok(cov_transfer_post(x.end[0], RELAY, &head, data[0], PAYLOAD, PART));
  run_relay(&x, relay, in, complete, data);
  for (int i = 1; i < RELAY; i++) assert_int_equal(complete[i][0], 1);
  for (int i = 0; i < RELAY; i++) cov_transfers_destroy(&in[i]);
  cov_relay_destroy(&relay);
  close_net(&x);
}

/* ---- topology ---- */

static void bounds_are_those_of_the_links(void **state) {
  (void)state;
  cov_link_rate rate[9];
  char why[400];
  for (int i = 0; i < 9; i++) rate[i] = (cov_link_rate){i < 8 ? 11e6 / 8 : 500e6 / 8, i < 8 ? 50e6 / 8 : 500e6 / 8};
  cov_cost_params p = {.peers = 8, .relays = 1, .rate = rate, .payload_bytes = 20e6};
  cov_cost mesh = cov_topology_cost(&p, COV_TOPOLOGY_MESH), relay = cov_topology_cost(&p, COV_TOPOLOGY_RELAY);
  assert_true(mesh.s > 101.81 && mesh.s < 101.82); /* 7 * 160 Mbit / 11 Mbit/s */
  assert_string_equal(mesh.what, "uplink");
  assert_true(relay.s > 22.39 && relay.s < 22.41); /* 7 * 160 / 50 */
  assert_string_equal(relay.what, "downlink");
  assert_int_equal(cov_topology_choose(&p, why, sizeof why), COV_TOPOLOGY_RELAY);
  assert_non_null(strstr(why, "relay takes 22.4 s (downlink of peer 0, 50 Mbit/s)"));
  assert_non_null(strstr(why, "mesh takes 102 s"));
  /* A relay no better than a peer has to send 56 payloads: worse than the mesh. */
  rate[8] = rate[0];
  relay = cov_topology_cost(&p, COV_TOPOLOGY_RELAY);
  assert_int_equal(relay.host, 8);
  assert_true(relay.s > 814 && relay.s < 815);
  assert_int_equal(cov_topology_choose(&p, why, sizeof why), COV_TOPOLOGY_MESH);
  /* One slow uplink sets the mesh's time, not the relay's. */
  rate[8] = (cov_link_rate){1e9, 1e9};
  rate[5].up /= 4;
  assert_int_equal(cov_topology_cost(&p, COV_TOPOLOGY_MESH).host, 5);
  p.relays = 0;
  assert_int_equal(cov_topology_choose(&p, why, sizeof why), COV_TOPOLOGY_MESH);
  assert_non_null(strstr(why, "no relay"));
  p.peers = 1;
  assert_int_equal(cov_topology_choose(&p, why, sizeof why), COV_TOPOLOGY_MESH);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_payload_arrives_in_parts),
      cmocka_unit_test(parts_out_of_place_are_of_no_payload),
      cmocka_unit_test(impossible_parts_are_refused),
      cmocka_unit_test(a_relay_fans_out),
      cmocka_unit_test(a_relay_passes_on_what_receivers_refuse),
      cmocka_unit_test(a_relay_survives_a_peer),
      cmocka_unit_test(bounds_are_those_of_the_links),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
