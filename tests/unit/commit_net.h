/* A network of agreements that moves only when a test says so: messages are collected, looked at, delivered by type and
 * receiver, dropped. Time is a number. */
#ifndef COVENANT_TESTS_COMMIT_NET_H
#define COVENANT_TESTS_COMMIT_NET_H

#include "commit_peers.h"

enum { HAVE = 1, PREPARE, PROMISE, PROPOSE, ACK, NACK, COMMIT, KNOWN, ANY = 0, TO_ALL = -1, MAX_MESSAGES = 4096 };
static const double wait_s = 10, takeover_s = 2, resend_s = 1; /* of every agreement here */

typedef struct {
  int from, to, type;
  size_t bytes;
  uint8_t *data;
} message;

static struct {
  int n, n_messages;
  double now;
  message messages[MAX_MESSAGES];
  cov_commit *at[MAX_PEERS]; /* NULL: dead */
  uint8_t vote[MAX_PEERS][COV_RECORD_MAX_BYTES + 200];
  size_t vote_bytes[MAX_PEERS];
  bool save_fails;
} net;

static inline cov_status save_vote(void *context, const uint8_t *vote, size_t bytes) {
  int i = (int)((cov_commit **)context - net.at);
  if (net.save_fails) return COV_FAIL(COV_EIO, "disk full");
  assert_true(bytes <= sizeof net.vote[i]);
  memcpy(net.vote[i], vote, bytes);
  net.vote_bytes[i] = bytes;
  return COV_OK;
}

static inline cov_commit_params params_of(int i) {
  static cov_epoch_member members[MAX_PEERS];
  static uint8_t base[COV_HASH_BYTES], previous[COV_HASH_BYTES];
  make_members(members, net.n);
  hash_of(base, "state", 0, 7);
  hash_of(previous, "record", 0, 6);
  return (cov_commit_params){.self = peer_number(i),
                             .identity = &identities[i],
                             .members = members,
                             .n_members = net.n,
                             .epoch = 2,
                             .round = 7,
                             .base_state_hash = base,
                             .previous = previous,
                             .propose_wait_s = wait_s,
                             .takeover_s = takeover_s,
                             .resend_s = resend_s,
                             .save_vote = save_vote,
                             .context = &net.at[i]};
}

static inline void open_peer(int i) {
  cov_commit_params p = params_of(i);
  assert_ok(cov_commit_create(&p, net.now, &net.at[i]));
}

static inline void net_open(int n) {
  memset(&net, 0, sizeof net);
  net.n = n;
  net.now = 100;
  for (int i = 0; i < n; i++) open_peer(i);
}

/* Fetch what everyone wants to send. */
static inline void collect(void) {
  for (int i = 0; i < net.n; i++) {
    const uint8_t *data;
    size_t bytes;
    int32_t to;
    while (net.at[i] && cov_commit_send_next(net.at[i], &to, &data, &bytes)) {
      assert_true(net.n_messages < MAX_MESSAGES);
      message *m = &net.messages[net.n_messages++];
      *m = (message){.from = i, .to = to / 10, .type = data[6], .bytes = bytes, .data = malloc(bytes)};
      assert_non_null(m->data);
      memcpy(m->data, data, bytes);
    }
  }
}

static inline message take(int k) {
  message m = net.messages[k];
  memmove(&net.messages[k], &net.messages[k + 1], (size_t)(--net.n_messages - k) * sizeof m);
  return m;
}

/* Deliver what is under way of a type (ANY: all) to a peer (TO_ALL: to all), and with `on`, what follows from it. */
static inline void deliver(int type, int to, bool on) {
  collect();
  for (int k = 0; k < net.n_messages;) {
    if ((type != ANY && net.messages[k].type != type) || (to != TO_ALL && net.messages[k].to != to)) {
      k++;
      continue;
    }
    message m = take(k);
    if (net.at[m.to]) assert_ok(cov_commit_message(net.at[m.to], peer_number(m.from), m.data, m.bytes, net.now));
    free(m.data);
    if (on) collect();
  }
  collect();
}

static inline void run(void) {
  deliver(ANY, TO_ALL, true);
}

static inline int count(int type, int from, int to) {
  int n = 0;
  collect();
  for (int k = 0; k < net.n_messages; k++) {
    message *m = &net.messages[k];
    n += m->type == type && (from < 0 || m->from == from) && (to < 0 || m->to == to);
  }
  return n;
}

static inline void drop(void) {
  collect();
  while (net.n_messages) free(take(0).data);
}

static inline void kill_peer(int i) {
  collect();
  for (int k = 0; k < net.n_messages;) {
    if (net.messages[k].from == i) {
      free(take(k).data);
    } else {
      k++;
    }
  }
  cov_commit_destroy(&net.at[i]);
  for (int j = 0; j < net.n; j++) {
    if (net.at[j]) assert_ok(cov_commit_peer_alive(net.at[j], peer_number(i), false, net.now));
  }
}

static inline void net_close(void) {
  drop();
  for (int i = 0; i < net.n; i++) cov_commit_destroy(&net.at[i]);
}

static inline void pass(double s) {
  net.now += s;
  for (int i = 0; i < net.n; i++) {
    if (net.at[i]) assert_ok(cov_commit_tick(net.at[i], net.now));
  }
}

/* Let time go by with a perfect network. */
static inline void run_for(double s) {
  run();
  for (double t = 0; t < s; t += 0.5) {
    pass(0.5);
    run();
  }
}

static inline void give(int to, int sender) {
  cov_commit_payload p = make_payload(sender, 7);
  assert_ok(cov_commit_payload_ready(net.at[to], &p, net.now));
}

static inline void give_all(void) {
  for (int i = 0; i < net.n; i++) {
    for (int j = 0; j < net.n; j++) {
      if (net.at[i]) give(i, j);
    }
  }
}

/* Everyone alive has decided the same; the round of it. */
static inline const cov_round *agreed(void) {
  const uint8_t *first = NULL, *record;
  size_t n = 0, bytes;
  const cov_round *r = NULL;
  for (int i = 0; i < net.n; i++) {
    if (!net.at[i]) continue;
    if (!cov_commit_decided(net.at[i], &record, &bytes)) fail_msg("peer %d has not decided", i);
    if (!first) {
      first = record;
      n = bytes;
      r = cov_commit_round(net.at[i]);
    }
    assert_int_equal(bytes, n);
    assert_memory_equal(record, first, n);
  }
  return r;
}

static inline bool nobody_decided(void) {
  for (int i = 0; i < net.n; i++) {
    if (net.at[i] && cov_commit_round(net.at[i])) return false;
  }
  return true;
}

/* The set as digits of peer indices, e.g. 123 for peers 0, 10 and 20 (each index plus one). */
static inline int set_of(const cov_round *r) {
  int digits = 0;
  for (int i = 0; i < r->n_set; i++) digits = 10 * digits + r->set[i].peer / 10 + 1;
  return digits;
}

static inline int members_of(const cov_round *r) {
  int digits = 0;
  for (int i = 0; i < r->n_members; i++) digits = 10 * digits + r->members[i].peer / 10 + 1;
  return digits;
}

#endif
