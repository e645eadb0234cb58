/* The carrier's rules on the in-process backend with virtual time: order, ownership, heartbeats, silence, hostile
 * frames. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "exchange/carrier_backend.h"
#include "exchange/carrier_loop.h"
#include "support.h"

enum { N = 3, LIMIT = 100000, SEGMENT = 1000 };
static const int everyone[N] = {0, 1, 2};

typedef struct {
  cov_loop *loop;
  cov_carrier *end[N];
} net;

static cov_carrier_params params_of(int self) {
  return (cov_carrier_params){.self = self,
                              .peer = everyone,
                              .n_peers = N,
                              .max_message_bytes = LIMIT,
                              .segment_bytes = SEGMENT,
                              .heartbeat_s = 1,
                              .link_timeout_s = 5};
}

static void open_net(net *x) {
  assert_ok(cov_loop_create(N, &x->loop));
  for (int i = 0; i < N; i++) {
    cov_carrier_params p = params_of(i);
    assert_ok(cov_carrier_loop_open(x->loop, &p, &x->end[i]));
  }
}

static void close_net(net *x) {
  for (int i = 0; i < N; i++) cov_carrier_close(&x->end[i], 0);
  cov_loop_destroy(&x->loop);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PAYLOAD), 0);
}

/* Next event of endpoint i within a few polls of everyone; the others' events stay queued. */
static cov_carrier_event next_event(net *x, int i) {
  cov_carrier_event e;
  for (int n = 0; n < 400; n++) {
    assert_ok(cov_carrier_poll(x->end[i], &e));
    if (e.kind != COV_EVENT_NONE) return e;
    for (int j = 0; j < N; j++) {
      if (j != i && x->end[j]) assert_ok(cov_carrier_progress(x->end[j]));
    }
  }
  return e;
}

/* Virtual seconds in steps in which those of `mask` poll. */
static void live(net *x, double seconds, unsigned mask) {
  for (double t = 0; t < seconds; t += 0.5) {
    cov_loop_advance(x->loop, 0.5);
    for (int k = 0; k < 3; k++) {
      for (int i = 0; i < N; i++) {
        if ((mask >> i & 1) && x->end[i]) assert_ok(cov_carrier_progress(x->end[i]));
      }
    }
  }
}

static cov_link_stats stats_of(net *x, int i, int peer) {
  cov_link_stats s;
  for (int k = 0; k < cov_carrier_links(x->end[i]); k++) {
    cov_carrier_stats(x->end[i], k, &s);
    if (s.peer == peer) return s;
  }
  fail_msg("no link from %d to %d", i, peer);
  return s;
}

static void messages_arrive_whole_and_in_order(void **state) {
  (void)state;
  net x;
  open_net(&x);
  static const size_t sizes[] = {0, 1, 999, 1000, 1001, 5000, LIMIT};
  enum { SIZES = sizeof sizes / sizeof *sizes };
  uint8_t *data = test_fenced(LIMIT);
  for (size_t s = 0; s < SIZES; s++) {
    cov_message_head h = {
        .type = (uint32_t)s, .epoch = 1000 + s, .round = ~(uint64_t)s, .owner = 7, .offset = s, .total = 2 * s};
    memset(data, (int)s + 1, LIMIT);
    assert_ok(cov_carrier_post(x.end[0], 2, &h, data, sizes[s], COV_POST_COPY, NULL));
  }
  memset(data, 0, LIMIT); /* copies were taken */
  for (size_t s = 0; s < SIZES; s++) {
    cov_carrier_event e = next_event(&x, 2);
    assert_int_equal(e.kind, COV_EVENT_MESSAGE);
    assert_int_equal(e.peer, 0);
    assert_int_equal(e.head.type, s);
    assert_int_equal(e.head.epoch, 1000 + s);
    assert_true(e.head.round == ~(uint64_t)s);
    assert_true(e.head.owner == 7 && e.head.offset == s && e.head.total == 2 * s);
    assert_int_equal(e.n_bytes, sizes[s]);
    for (size_t i = 0; i < e.n_bytes; i++) assert_int_equal(e.bytes[i], s + 1);
  }
  assert_int_equal(next_event(&x, 2).kind, COV_EVENT_NONE);
  assert_int_equal(next_event(&x, 1).kind, COV_EVENT_NONE);
  assert_int_equal(stats_of(&x, 0, 2).sent_messages, SIZES);
  assert_int_equal(stats_of(&x, 2, 0).received_messages, SIZES);
  size_t total = 0;
  for (size_t s = 0; s < SIZES; s++) total += sizes[s] + COV_FRAME_BYTES;
  assert_int_equal(stats_of(&x, 0, 2).sent_bytes, total); /* no ping: the links were not idle */
  assert_int_equal(stats_of(&x, 2, 0).received_bytes, total);
  test_fenced_free(data);
  close_net(&x);
}

static void borrowed_buffers_come_back(void **state) {
  (void)state;
  net x;
  open_net(&x);
  uint8_t *data = calloc(50000, 1);
  uint64_t handle[2];
  cov_message_head h = {.type = 1};
  assert_ok(cov_carrier_post(x.end[0], 1, &h, data, 50000, COV_POST_BORROW, &handle[0]));
  assert_ok(cov_carrier_post(x.end[0], 2, &h, data, 50000, COV_POST_BORROW, &handle[1]));
  assert_true(handle[0] && handle[1] && handle[0] != handle[1]);
  assert_int_equal(cov_carrier_in_use(x.end[0], data, 50000), 1);
  int got = 0;
  for (int n = 0; n < 2; n++) {
    cov_carrier_event e = next_event(&x, 0);
    assert_int_equal(e.kind, COV_EVENT_SENT);
    assert_true(e.handle == handle[e.peer - 1]);
    got |= 1 << e.peer;
  }
  assert_int_equal(got, 6);
  assert_int_equal(cov_carrier_in_use(x.end[0], data, 50000), 0);
  free(data);
  close_net(&x);
}

static void urgent_messages_go_first(void **state) {
  (void)state;
  net x;
  open_net(&x);
  static const cov_post_mode mode[] = {COV_POST_COPY,   COV_POST_COPY, COV_POST_URGENT,
                                       COV_POST_URGENT, COV_POST_COPY, COV_POST_URGENT};
  static const uint32_t order[] = {0, 2, 3, 5, 1, 4}; /* the first is under way when the others are posted */
  uint8_t *data = calloc(LIMIT, 1);
  for (uint32_t k = 0; k < 6; k++) {
    cov_message_head h = {.type = k};
    assert_ok(cov_carrier_post(x.end[0], 1, &h, data, LIMIT / 2, mode[k], NULL));
    if (k == 0) assert_ok(cov_carrier_progress(x.end[0]));
  }
  for (int k = 0; k < 6; k++) {
    cov_carrier_event e = next_event(&x, 1);
    assert_int_equal(e.kind, COV_EVENT_MESSAGE);
    assert_int_equal(e.head.type, order[k]);
  }
  free(data);
  close_net(&x);
}

static void a_kept_message_outlives_the_next_poll(void **state) {
  (void)state;
  net x;
  open_net(&x);
  cov_message_head h = {.type = 1};
  assert_ok(cov_carrier_post(x.end[0], 1, &h, "abc", 3, COV_POST_COPY, NULL));
  cov_carrier_event e = next_event(&x, 1);
  uint8_t *mine = cov_carrier_keep(x.end[1], &e);
  next_event(&x, 1);
  assert_memory_equal(mine, "abc", 3);
  cov_mem_free(mine);
  close_net(&x);
}

static void posts_are_checked(void **state) {
  (void)state;
  net x;
  open_net(&x);
  uint8_t *data = calloc(LIMIT + 1, 1);
  cov_message_head h = {.type = 1};
  assert_status(cov_carrier_post(x.end[0], 9, &h, data, 1, COV_POST_COPY, NULL), COV_EUSAGE);
  assert_status(cov_carrier_post(x.end[0], 0, &h, data, 1, COV_POST_COPY, NULL), COV_EUSAGE);
  assert_status(cov_carrier_post(x.end[0], 1, &h, data, LIMIT + 1, COV_POST_COPY, NULL), COV_EUSAGE);
  for (int i = 0; i < 4; i++) assert_ok(cov_carrier_post(x.end[0], 1, &h, data, LIMIT, COV_POST_COPY, NULL));
  assert_status(cov_carrier_post(x.end[0], 1, &h, data, 1, COV_POST_COPY, NULL), COV_EREMOTE); /* full */
  cov_carrier_drop(x.end[0], 1, "test");
  assert_status(cov_carrier_post(x.end[0], 1, &h, data, 1, COV_POST_COPY, NULL), COV_EREMOTE);
  assert_int_equal(next_event(&x, 0).kind, COV_EVENT_NONE); /* our own decision is no news */
  assert_int_equal(cov_carrier_lost_links(x.end[0]), 1);
  free(data);
  close_net(&x);

  cov_carrier_params p = params_of(0);
  p.link_timeout_s = 1.5;
  cov_loop *loop;
  cov_carrier *c;
  assert_ok(cov_loop_create(N, &loop));
  assert_status(cov_carrier_loop_open(loop, &p, &c), COV_EUSAGE);
  assert_null(c);
  cov_loop_destroy(&loop);
}

static void pings_keep_idle_links(void **state) {
  (void)state;
  net x;
  open_net(&x);
  live(&x, 100, 7);
  for (int i = 0; i < N; i++) {
    assert_int_equal(next_event(&x, i).kind, COV_EVENT_NONE);
    assert_int_equal(cov_carrier_lost_links(x.end[i]), 0);
  }
  close_net(&x);
}

static void a_silent_link_is_dropped_alone(void **state) {
  (void)state;
  net x;
  open_net(&x);
  live(&x, 3, 7);
  cov_loop_kill(x.loop, 2);
  live(&x, 4, 3);
  assert_int_equal(cov_carrier_alive(x.end[0], 2), 1); /* 4 s of 5 */
  live(&x, 3, 3);
  for (int i = 0; i < 2; i++) {
    cov_carrier_event e = next_event(&x, i);
    assert_int_equal(e.kind, COV_EVENT_DROPPED);
    assert_int_equal(e.peer, 2);
    assert_int_equal(e.status, COV_EREMOTE);
    assert_non_null(strstr(e.reason, "silent"));
    assert_int_equal(cov_carrier_alive(x.end[i], 2), 0);
    assert_int_equal(cov_carrier_alive(x.end[i], 1 - i), 1);
    assert_int_equal(cov_carrier_lost_links(x.end[i]), 1);
  }
  cov_message_head h = {.type = 5};
  assert_ok(cov_carrier_post(x.end[0], 1, &h, "on", 2, COV_POST_COPY, NULL));
  assert_int_equal(next_event(&x, 1).kind, COV_EVENT_MESSAGE);
  close_net(&x);
}

/* Killed with a large message half received and half sent. */
static void death_in_mid_transfer(void **state) {
  (void)state;
  net x;
  open_net(&x);
  uint8_t *data = calloc(LIMIT, 1);
  uint64_t handle;
  cov_message_head h = {.type = 5};
  assert_ok(cov_carrier_post(x.end[2], 0, &h, data, LIMIT, COV_POST_COPY, NULL));
  assert_ok(cov_carrier_post(x.end[0], 2, &h, data, LIMIT, COV_POST_BORROW, &handle));
  assert_ok(cov_carrier_post(x.end[0], 2, &h, data, 10, COV_POST_COPY, NULL)); /* queued behind it */
  live(&x, 1, 7);
  cov_link_stats s = stats_of(&x, 0, 2);
  assert_true(s.received_bytes > SEGMENT && s.received_bytes < LIMIT);
  cov_loop_kill(x.loop, 2);
  live(&x, 7, 3);
  cov_carrier_event e = next_event(&x, 0);
  assert_int_equal(e.kind, COV_EVENT_DROPPED);
  assert_int_equal(next_event(&x, 0).kind, COV_EVENT_NONE); /* no SENT, no half message */
  assert_int_equal(stats_of(&x, 0, 2).queued_bytes, 0);
  free(data);
  close_net(&x);
}

/* The other's pings come, but it takes no data. */
static void a_link_that_takes_nothing_is_dropped(void **state) {
  (void)state;
  net x;
  open_net(&x);
  uint8_t *data = calloc(LIMIT, 1);
  cov_message_head h = {.type = 5};
  cov_loop_cut(x.loop, 0, 1, 1);
  assert_ok(cov_carrier_post(x.end[0], 1, &h, data, LIMIT, COV_POST_COPY, NULL));
  live(&x, 4, 7);
  assert_int_equal(cov_carrier_alive(x.end[0], 1), 1);
  live(&x, 3, 7);
  cov_carrier_event e = next_event(&x, 0);
  assert_int_equal(e.kind, COV_EVENT_DROPPED);
  assert_non_null(strstr(e.reason, "took no data"));
  free(data);
  close_net(&x);
}

static void a_slow_link_is_not_a_dead_link(void **state) {
  (void)state;
  net x;
  open_net(&x);
  cov_loop_delay(x.loop, 0, 1, 4);
  cov_message_head h = {.type = 5};
  live(&x, 1, 7);
  assert_ok(cov_carrier_post(x.end[0], 1, &h, "late", 4, COV_POST_COPY, NULL));
  live(&x, 20, 7);
  assert_int_equal(next_event(&x, 1).kind, COV_EVENT_MESSAGE);
  assert_int_equal(cov_carrier_lost_links(x.end[1]), 0);
  close_net(&x);
}

/* Its other end may be opened later than a link may be silent; not for ever, and once it was heard no more. */
static void an_end_is_waited_for(void **state) {
  (void)state;
  net x;
  cov_carrier_params p[N] = {params_of(0), params_of(1), params_of(2)};
  assert_ok(cov_loop_create(N, &x.loop));
  for (int i = 0; i < 2; i++) assert_ok(cov_carrier_loop_open(x.loop, &p[i], &x.end[i]));
  x.end[2] = NULL;
  cov_carrier_await(x.end[0], 2, 60);
  static const uint8_t large[9 * SEGMENT]; /* it cannot leave before the other end is open */
  const cov_message_head h = {.type = 5};
  assert_ok(cov_carrier_post(x.end[0], 2, &h, large, sizeof large, COV_POST_COPY, NULL));
  live(&x, 20, 3);
  assert_int_equal(cov_carrier_alive(x.end[0], 2), 1);
  assert_int_equal(cov_carrier_alive(x.end[1], 2), 0); /* which did not wait */
  assert_ok(cov_carrier_loop_open(x.loop, &p[2], &x.end[2]));
  live(&x, 20, 5);
  assert_int_equal(cov_carrier_alive(x.end[0], 2), 1);
  live(&x, 10, 1); /* both others are silent now */
  assert_int_equal(cov_carrier_alive(x.end[0], 2), 0);
  close_net(&x);
}

static void an_end_that_never_comes_is_given_up(void **state) {
  (void)state;
  net x;
  cov_carrier_params p = params_of(0);
  assert_ok(cov_loop_create(N, &x.loop));
  assert_ok(cov_carrier_loop_open(x.loop, &p, &x.end[0]));
  x.end[1] = x.end[2] = NULL;
  cov_carrier_await(x.end[0], 1, 60);
  live(&x, 59, 1);
  assert_int_equal(cov_carrier_alive(x.end[0], 1), 1);
  assert_int_equal(cov_carrier_alive(x.end[0], 2), 0);
  live(&x, 2, 1);
  assert_int_equal(cov_carrier_alive(x.end[0], 1), 0);
  close_net(&x);
}

/* An endpoint that computed for a long time must not blame the others; for ever it may not. */
static void own_absence_is_not_silence(void **state) {
  (void)state;
  net x;
  open_net(&x);
  live(&x, 2, 7);
  cov_loop_advance(x.loop, 30); /* nobody polls */
  live(&x, 2, 7);
  for (int i = 0; i < N; i++) assert_int_equal(cov_carrier_lost_links(x.end[i]), 0);
  cov_loop_kill(x.loop, 2);
  cov_carrier_event e = {.kind = COV_EVENT_NONE};
  for (int n = 0; n < 200 && e.kind == COV_EVENT_NONE; n++) {
    cov_loop_advance(x.loop, 3); /* every poll follows a long pause */
    assert_ok(cov_carrier_progress(x.end[1]));
    assert_ok(cov_carrier_poll(x.end[0], &e));
  }
  assert_int_equal(e.kind, COV_EVENT_DROPPED);
  close_net(&x);
}

/* ---- hostile frames: from peer 1 to peer 0, on a fresh link ---- */

static cov_frame honest(void) {
  return (cov_frame){.kind = COV_FRAME_MESSAGE, .from = 1, .body_bytes = 3, .number = 0, .segment_bytes = SEGMENT};
}

static void expect_drop(const uint8_t *wire, size_t body_bytes, const char *why) {
  net x;
  open_net(&x);
  assert_ok(cov_loop_inject(x.loop, 1, 0, wire, "abcdefgh", body_bytes));
  cov_carrier_event e = {.kind = COV_EVENT_NONE};
  for (int n = 0; n < 10 && e.kind == COV_EVENT_NONE; n++) assert_ok(cov_carrier_poll(x.end[0], &e));
  assert_int_equal(e.kind, COV_EVENT_DROPPED);
  assert_int_equal(e.peer, 1);
  if (!strstr(e.reason, why)) fail_msg("'%s' does not say '%s'", e.reason, why);
  assert_int_equal(cov_carrier_alive(x.end[0], 2), 1);
  assert_int_equal(stats_of(&x, 0, 1).received_messages, 0);
  close_net(&x);
}

static void expect_frame_drop(cov_frame f, size_t body_bytes, const char *why) {
  uint8_t wire[COV_FRAME_BYTES];
  cov_frame_encode(&f, wire);
  expect_drop(wire, body_bytes, why);
}

static void lying_frames_cost_their_sender(void **state) {
  (void)state;
  cov_frame f = honest();
  f.body_bytes = LIMIT + 1;
  expect_frame_drop(f, 3, "oversize");
  f.body_bytes = UINT64_MAX;
  expect_frame_drop(f, 3, "oversize");
  f = honest();
  f.from = 2;
  expect_frame_drop(f, 3, "from peer 2");
  f = honest();
  f.number = 1;
  expect_frame_drop(f, 3, "number 1");
  f = honest();
  f.segment_bytes = 4096;
  expect_frame_drop(f, 3, "segments");
  expect_frame_drop(honest(), 5, "a body of 5 bytes");
  f = honest();
  f.kind = COV_FRAME_PING;
  expect_frame_drop(f, 3, "with a body");
  f.kind = (cov_frame_kind)9;
  expect_frame_drop(f, 3, "kind 9");
  f.kind = (cov_frame_kind)0;
  expect_frame_drop(f, 3, "kind 0");
}

static void every_flipped_bit_is_found(void **state) {
  (void)state;
  cov_frame f = honest(), back;
  uint8_t wire[COV_FRAME_BYTES];
  f.head = (cov_message_head){.type = 7, .epoch = UINT64_MAX, .round = 1, .owner = 3, .offset = 4, .total = UINT64_MAX};
  cov_frame_encode(&f, wire);
  assert_ok(cov_frame_decode(wire, &back));
  assert_int_equal(back.head.type, 7);
  assert_true(back.head.epoch == UINT64_MAX && back.head.round == 1);
  assert_true(back.head.owner == 3 && back.head.offset == 4 && back.head.total == UINT64_MAX);
  assert_int_equal(back.body_bytes, 3);
  for (int bit = 0; bit < 8 * COV_FRAME_BYTES; bit++) {
    wire[bit / 8] ^= (uint8_t)(1 << bit % 8);
    assert_status(cov_frame_decode(wire, &back), COV_EREMOTE);
    wire[bit / 8] ^= (uint8_t)(1 << bit % 8);
  }
  wire[6] ^= 0x10;
  expect_drop(wire, 3, "checksum");
}

static void a_flood_stops_at_the_limit(void **state) {
  (void)state;
  net x;
  open_net(&x);
  uint8_t *data = calloc(LIMIT, 1);
  cov_message_head h = {.type = 1};
  int sent = 0;
  for (int round = 0; round < 400; round++) {
    if (cov_carrier_post(x.end[1], 0, &h, data, LIMIT, COV_POST_COPY, NULL) == COV_OK) sent++;
    assert_ok(cov_carrier_progress(x.end[0])); /* never polls its events */
    assert_ok(cov_carrier_progress(x.end[1]));
  }
  size_t held = cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PAYLOAD);
  assert_true(held < 12 * (size_t)LIMIT); /* 5 received, 4 to 5 queued */
  int got = 0;
  while (next_event(&x, 0).kind == COV_EVENT_MESSAGE) got++;
  assert_int_equal(got, sent);
  free(data);
  close_net(&x);
}

static void goodbye_is_no_loss(void **state) {
  (void)state;
  net x;
  open_net(&x);
  cov_message_head h = {.type = 1};
  assert_ok(cov_carrier_post(x.end[1], 0, &h, "last words", 10, COV_POST_COPY, NULL));
  cov_carrier_close(&x.end[1], 0); /* nobody answers in no time */
  assert_null(x.end[1]);
  cov_carrier_event e = next_event(&x, 0);
  assert_int_equal(e.kind, COV_EVENT_MESSAGE);
  e = next_event(&x, 0);
  assert_int_equal(e.kind, COV_EVENT_DROPPED);
  assert_int_equal(e.status, COV_OK);
  assert_int_equal(e.peer, 1);
  live(&x, 20, 5);
  assert_int_equal(next_event(&x, 0).kind, COV_EVENT_NONE);
  assert_int_equal(cov_carrier_lost_links(x.end[0]), 0);
  assert_int_equal(cov_carrier_lost_links(x.end[2]), 0);
  close_net(&x);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(messages_arrive_whole_and_in_order),
      cmocka_unit_test(borrowed_buffers_come_back),
      cmocka_unit_test(urgent_messages_go_first),
      cmocka_unit_test(a_kept_message_outlives_the_next_poll),
      cmocka_unit_test(posts_are_checked),
      cmocka_unit_test(pings_keep_idle_links),
      cmocka_unit_test(a_silent_link_is_dropped_alone),
      cmocka_unit_test(death_in_mid_transfer),
      cmocka_unit_test(a_link_that_takes_nothing_is_dropped),
      cmocka_unit_test(a_slow_link_is_not_a_dead_link),
      cmocka_unit_test(an_end_is_waited_for),
      cmocka_unit_test(an_end_that_never_comes_is_given_up),
      cmocka_unit_test(own_absence_is_not_silence),
      cmocka_unit_test(lying_frames_cost_their_sender),
      cmocka_unit_test(every_flipped_bit_is_found),
      cmocka_unit_test(a_flood_stops_at_the_limit),
      cmocka_unit_test(goodbye_is_no_loss),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
