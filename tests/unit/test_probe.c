/* The measurement of links on the in-process carrier with virtual time: every peer comes to the same table, also if the
 * carriers hold no more than the measurement needs and hosts begin one after the other; who does not answer leaves no
 * table at all; what breaks the protocol is refused. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "exchange/carrier_loop.h"
#include "exchange/probe.h"
#include "support.h"

enum { PEERS = 3, RELAYS = 2, N = PEERS + RELAYS, TYPE = 5, SEGMENT = 1000 };
/* Peers are linked to all, a relay to peers only. */
static const int everyone[N] = {0, 1, 2, 3, 4};

typedef struct {
  cov_loop *loop;
  cov_carrier *end[N];
  cov_probe *probe[N];
} net;

static void open_net(net *x) {
  assert_ok(cov_loop_create(N, &x->loop));
  for (int i = 0; i < N; i++) {
    const cov_carrier_params p = {.self = i,
                                  .peer = everyone,
                                  .n_peers = i < PEERS ? N : PEERS,
                                  .max_message_bytes = 10000,
                                  .max_queued_bytes = cov_probe_room_bytes(SEGMENT),
                                  .segment_bytes = SEGMENT,
                                  .heartbeat_s = 1,
                                  .link_timeout_s = 5};
    const cov_probe_params q = {.type = TYPE,
                                .self = i,
                                .peers = PEERS,
                                .relays = RELAYS,
                                .phase_s = 1,
                                .patience_s = 30,
                                .segment_bytes = SEGMENT};
    assert_ok(cov_carrier_loop_open(x->loop, &p, &x->end[i]));
    assert_ok(cov_probe_create(x->end[i], &q, &x->probe[i]));
  }
}

static void close_net(net *x) {
  for (int i = 0; i < N; i++) {
    cov_probe_destroy(&x->probe[i]);
    cov_carrier_close(&x->end[i], 0);
  }
  cov_loop_destroy(&x->loop);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PAYLOAD), 0);
}

static void listen_to_all(net *x, int i) {
  for (int k = 0; k < 40; k++) {
    cov_carrier_event e;
    assert_ok(cov_carrier_poll(x->end[i], &e));
    if (e.kind == COV_EVENT_NONE) break;
    if (e.kind == COV_EVENT_MESSAGE) assert_ok(cov_probe_take(x->probe[i], &e, cov_loop_now(x->loop)));
  }
}

/* Virtual seconds in hundredths, in each of which a host takes and sends what a link holds. `listen`: who lives;
 * `send`: who has begun. */
static void live(net *x, double seconds, unsigned listen, unsigned send) {
  for (double t = 0; t < seconds; t += 0.01) {
    cov_loop_advance(x->loop, 0.01);
    for (int i = 0; i < N; i++) {
      if (listen >> i & 1) listen_to_all(x, i);
      if (send >> i & 1) assert_ok(cov_probe_advance(x->probe[i], cov_loop_now(x->loop)));
    }
  }
}

enum { ALL = (1 << N) - 1 };

static void all_peers_have_the_same_table(void **state) {
  (void)state;
  net x;
  cov_link_rate rate[N], other[N];
  open_net(&x);
  live(&x, 2, ALL, ALL & ~2U); /* peer 1 begins when the others' first phase is over */
  live(&x, 6, ALL, ALL);
  for (int i = 0; i < N; i++) assert_true(cov_probe_done(x.probe[i]));
  for (int i = 0; i < PEERS; i++) {
    assert_true(cov_probe_rates(x.probe[i], other));
    if (i == 0) memcpy(rate, other, sizeof rate);
    for (int h = 0; h < N; h++) assert_true(other[h].up == rate[h].up && other[h].down == rate[h].down);
  }
  for (int h = 0; h < N; h++) assert_true(rate[h].up > SEGMENT && rate[h].down > SEGMENT); /* one in each hundredth */
  close_net(&x);
}

static void who_is_gone_leaves_no_table(void **state) {
  (void)state;
  net x;
  cov_link_rate rate[N];
  open_net(&x);
  cov_loop_kill(x.loop, 1);
  live(&x, 4, ALL & ~2U, ALL & ~2U);
  assert_false(cov_probe_done(x.probe[0]));
  live(&x, 16, ALL & ~2U, ALL & ~2U);
  assert_true(cov_probe_done(x.probe[0])); /* it did not wait for the dead one longer than the link did */
  assert_false(cov_probe_rates(x.probe[0], rate));
  close_net(&x);
}

static void patience_ends(void **state) {
  (void)state;
  net x;
  cov_link_rate rate[N];
  open_net(&x);
  live(&x, 29, ALL, ALL & ~2U); /* peer 1 never begins */
  assert_false(cov_probe_done(x.probe[0]));
  live(&x, 2, ALL, ALL & ~2U);
  assert_true(cov_probe_done(x.probe[0]) && cov_probe_done(x.probe[PEERS]));
  assert_false(cov_probe_rates(x.probe[0], rate));
  close_net(&x);
}

static void a_full_queue_is_an_error(void **state) {
  (void)state;
  cov_loop *loop;
  cov_carrier *end;
  cov_probe *probe;
  assert_ok(cov_loop_create(2, &loop));
  const cov_carrier_params p = {
      .self = 0, .peer = everyone, .n_peers = 2, .max_message_bytes = 10000, .max_queued_bytes = 1500};
  const cov_probe_params q = {
      .type = TYPE, .self = 0, .peers = 2, .phase_s = 1, .patience_s = 30, .segment_bytes = SEGMENT};
  assert_ok(cov_carrier_loop_open(loop, &p, &end));
  assert_ok(cov_probe_create(end, &q, &probe));
  assert_status(cov_probe_advance(probe, 1), COV_EBUG); /* and not a loop without an end */
  cov_probe_destroy(&probe);
  cov_carrier_close(&end, 0);
  cov_loop_destroy(&loop);
}

static cov_status give(cov_probe *probe, int from, uint64_t what, const void *bytes, size_t n) {
  union {
    const void *in;
    uint8_t *out;
  } data = {bytes};
  const cov_carrier_event e = {.kind = COV_EVENT_MESSAGE,
                               .peer = from,
                               .head = {.type = TYPE, .offset = what, .total = 1},
                               .bytes = data.out,
                               .n_bytes = n};
  return cov_probe_take(probe, &e, 1);
}

static void wrong_messages_are_refused(void **state) {
  (void)state;
  net x;
  float report[3 * N] = {0};
  open_net(&x);
  assert_status(give(x.probe[0], 1, 4, report, 8), COV_EREMOTE);                 /* no such phase */
  assert_status(give(x.probe[0], PEERS, 0, report, 8), COV_EREMOTE);             /* a relay in the mesh */
  assert_status(give(x.probe[0], 1, 2, report, 8), COV_EREMOTE);                 /* a peer that fans out */
  assert_status(give(x.probe[0], PEERS + 1, 2, report, 8), COV_EREMOTE);         /* another's relay */
  assert_status(give(x.probe[0], 1, 3, report, sizeof report - 4), COV_EREMOTE); /* a short report */
  report[2] = -1;
  assert_status(give(x.probe[0], 1, 3, report, sizeof report), COV_EREMOTE);
  report[2] = (float)1e30;
  assert_status(give(x.probe[0], 1, 3, report, sizeof report), COV_EREMOTE);
  report[2] = (float)NAN;
  assert_status(give(x.probe[0], 1, 3, report, sizeof report), COV_EREMOTE);
  report[2] = 0;
  assert_ok(give(x.probe[0], 1, 3, report, sizeof report));
  close_net(&x);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_peers_have_the_same_table),
      cmocka_unit_test(who_is_gone_leaves_no_table),
      cmocka_unit_test(patience_ends),
      cmocka_unit_test(a_full_queue_is_an_error),
      cmocka_unit_test(wrong_messages_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
