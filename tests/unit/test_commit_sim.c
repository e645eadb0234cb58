/* covenant-test: timeout=600
 * The agreement under a simulated network: random delay, reordering, duplication, loss, kills, restarts, pauses and
 * partitions, thousands of seeds. Everything is a function of the seed: a failure prints it.
 *
 *   safety    no two peers ever decide different records of a round; a decided set is not empty, holds only payloads
 * that were sent, and each of them was held by a quorum of the epoch when the first peer decided progress  with a live
 * quorum and a network that has calmed down every live member decides every round no quorum a part without a majority
 * never decides
 *
 * COVENANT_SIM_SEEDS sets the number of seeds (default 1000), COVENANT_SIM_SEED runs one. */
#include "commit_peers.h"

enum { MAX_ROUNDS = 8, MAX_EVENTS = 1 << 16 };

typedef enum { EV_MESSAGE, EV_PAYLOAD, EV_LINK, EV_TICK, EV_KILL, EV_RESTART, EV_CUT, EV_HEAL, EV_PAUSE } event_kind;

typedef struct {
  double at;
  uint64_t order;
  event_kind kind;
  int to, from;
  int64_t round; /* EV_PAYLOAD */
  bool alive;    /* EV_LINK */
  size_t bytes;
  uint8_t *data;
} event;

typedef struct {
  bool up, gone;       /* gone: killed for good, or removed from the members */
  double paused_until; /* events are handled then */
  cov_commit *commit;
  int64_t round;
  int32_t epoch, n_members;
  cov_epoch_member members[COV_LEDGER_MAX_MEMBERS];
  uint8_t last[COV_HASH_BYTES];
  uint8_t *records[MAX_ROUNDS];
  size_t record_bytes[MAX_ROUNDS];
  bool has[MAX_ROUNDS][MAX_PEERS]; /* payloads stored, by round and sender */
  bool sees[MAX_PEERS];            /* links that are alive in its eyes */
  uint8_t *vote;
  size_t vote_bytes;
  int side; /* of a partition */
} peer;

static struct {
  uint64_t seed, draws, order;
  double now, calm_at; /* from calm_at on nothing is lost and delays are short */
  double loss, late;
  bool cut;
  int n;
  int64_t n_rounds;
  peer peers[MAX_PEERS];
  uint8_t *decided[MAX_ROUNDS]; /* the first decision of each round */
  size_t decided_bytes[MAX_ROUNDS];
  event *heap;
  int n_events;
  int64_t n_decisions;
} sim;

static double draw(void) {
  return 0.5 * ((double)test_random(sim.seed, sim.draws++) + 1.0);
}

static int draw_int(int n) {
  int i = (int)(draw() * n);
  return i < n ? i : n - 1;
}

/* ---- the event queue: a heap by (time, order of insertion) ---- */

static bool before(const event *a, const event *b) {
  return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void push(event e) {
  assert_true(sim.n_events < MAX_EVENTS);
  e.order = sim.order++;
  int i = sim.n_events++;
  while (i > 0 && before(&e, &sim.heap[(i - 1) / 2])) {
    sim.heap[i] = sim.heap[(i - 1) / 2];
    i = (i - 1) / 2;
  }
  sim.heap[i] = e;
}

static event pop(void) {
  event top = sim.heap[0], last = sim.heap[--sim.n_events];
  int i = 0;
  for (;;) {
    int child = 2 * i + 1;
    if (child >= sim.n_events) break;
    if (child + 1 < sim.n_events && before(&sim.heap[child + 1], &sim.heap[child])) child++;
    if (!before(&sim.heap[child], &last)) break;
    sim.heap[i] = sim.heap[child];
    i = child;
  }
  sim.heap[i] = last;
  return top;
}

/* ---- the network ---- */

static bool linked(int a, int b) {
  return sim.peers[a].up && sim.peers[b].up && (!sim.cut || sim.peers[a].side == sim.peers[b].side);
}

static double delay(void) {
  double d = 0.005 + 0.05 * draw();
  if (sim.now < sim.calm_at && draw() < sim.late) d += 3.0 * draw();
  return d;
}

static void transmit(int from, int to, const uint8_t *data, size_t bytes) {
  int copies = 1;
  if (sim.now < sim.calm_at) copies = draw() < sim.loss ? 0 : draw() < 0.1 ? 2 : 1;
  for (int k = 0; k < copies; k++) {
    event e = {.at = sim.now + delay(), .kind = EV_MESSAGE, .to = to, .from = from, .bytes = bytes};
    e.data = malloc(bytes);
    assert_non_null(e.data);
    memcpy(e.data, data, bytes);
    push(e);
  }
}

static void send_payload(int sender, int holder, int to, int64_t round) {
  push((event){.at = sim.now + 0.1 + 5 * delay(),
               .kind = EV_PAYLOAD,
               .to = to,
               .from = sender,
               .round = round,
               .bytes = (size_t)holder});
}

/* ---- a peer ---- */

static cov_status save_vote(void *context, const uint8_t *vote, size_t bytes) {
  peer *p = context;
  free(p->vote);
  p->vote = malloc(bytes);
  assert_non_null(p->vote);
  memcpy(p->vote, vote, bytes);
  p->vote_bytes = bytes;
  return COV_OK;
}

static bool past_record(void *context, int64_t round, const uint8_t **record, size_t *bytes) {
  peer *p = context;
  if (round < 0 || round >= p->round || !p->records[round]) return false;
  *record = p->records[round];
  *bytes = p->record_bytes[round];
  return true;
}

/* After the last round one more is begun, for which nobody ever has a payload: its agreement answers those behind. */
static void begin_round(int i) {
  peer *p = &sim.peers[i];
  cov_commit_destroy(&p->commit);
  uint8_t base[COV_HASH_BYTES];
  hash_of(base, "state", 0, p->round);
  cov_commit_params params = {.self = peer_number(i),
                              .identity = &identities[i],
                              .members = p->members,
                              .n_members = p->n_members,
                              .epoch = p->epoch,
                              .round = p->round,
                              .base_state_hash = base,
                              .previous = p->last,
                              .propose_wait_s = 4,
                              .takeover_s = 1,
                              .resend_s = 0.4,
                              .save_vote = save_vote,
                              .past_record = past_record,
                              .context = p};
  assert_ok(cov_commit_create(&params, sim.now, &p->commit));
  if (p->vote) assert_ok(cov_commit_restore(p->commit, p->vote, p->vote_bytes));
  for (int j = 0; j < sim.n; j++) {
    if (j != i && cov_epoch_member_find(p->members, p->n_members, peer_number(j))) {
      assert_ok(cov_commit_peer_alive(p->commit, peer_number(j), p->sees[j], sim.now));
    }
    if (!p->has[p->round][j]) continue;
    cov_commit_payload load = make_payload(j, p->round);
    if (cov_epoch_member_find(p->members, p->n_members, load.entry.peer)) {
      assert_ok(cov_commit_payload_ready(p->commit, &load, sim.now));
    }
  }
  if (!p->has[p->round][i] && p->round < sim.n_rounds) {
    push((event){.at = sim.now + 0.5 + (draw() < 0.1 ? 6 * draw() : draw()),
                 .kind = EV_PAYLOAD,
                 .to = i,
                 .from = i,
                 .round = p->round,
                 .bytes = (size_t)i});
  }
}

/* The first decision of a round: check what it says. Others must equal it. */
static void check_first(const cov_round *r, const cov_epoch_member *members, int32_t n_members) {
  assert_true(r->n_set >= 1);
  for (int k = 0; k < r->n_set; k++) {
    int sender = r->set[k].peer / 10, weight = 0;
    cov_commit_payload want = make_payload(sender, r->round);
    assert_memory_equal(&r->set[k].hash, &want.entry.hash, COV_HASH_BYTES);
    for (int32_t m = 0; m < n_members; m++) {
      if (sim.peers[members[m].peer / 10].has[r->round][sender]) weight += cov_commit_weight(m);
    }
    if (!cov_commit_is_quorum(weight, n_members))
      fail_msg("seed %llu: no quorum of holders", (unsigned long long)sim.seed);
  }
}

static void on_decision(int i) {
  peer *p = &sim.peers[i];
  const uint8_t *record;
  size_t bytes;
  cov_record r;
  assert_true(cov_commit_decided(p->commit, &record, &bytes));
  assert_ok(cov_record_decode(record, bytes, &r));
  assert_int_equal(r.round.round, p->round);
  assert_memory_equal(r.previous, p->last, COV_HASH_BYTES);
  if (!sim.decided[p->round]) {
    check_first(&r.round, p->members, p->n_members);
    sim.decided[p->round] = malloc(bytes);
    assert_non_null(sim.decided[p->round]);
    memcpy(sim.decided[p->round], record, bytes);
    sim.decided_bytes[p->round] = bytes;
  }
  if (bytes != sim.decided_bytes[p->round] || memcmp(record, sim.decided[p->round], bytes) != 0) {
    fail_msg("seed %llu: FORK in round %lld at peer %d", (unsigned long long)sim.seed, (long long)p->round, i);
  }
  assert_false(cov_commit_state_differs(p->commit));
  sim.n_decisions++;
  p->records[p->round] = malloc(bytes);
  assert_non_null(p->records[p->round]);
  memcpy(p->records[p->round], record, bytes);
  p->record_bytes[p->round] = bytes;
  memcpy(p->last, r.hash, COV_HASH_BYTES);
  p->epoch += !cov_epoch_members_equal(p->members, p->n_members, r.round.members, r.round.n_members);
  memcpy(p->members, r.round.members, sizeof p->members);
  p->n_members = r.round.n_members;
  p->gone = cov_commit_removed(p->commit);
  p->round++;
}

/* After any input: send what is queued, go to the next round when one is decided. */
static void settle(int i) {
  peer *p = &sim.peers[i];
  const uint8_t *data;
  size_t bytes;
  int32_t to;
  for (;;) {
    while (cov_commit_send_next(p->commit, &to, &data, &bytes)) {
      assert_true(bytes <= cov_commit_message_max_bytes());
      transmit(i, to / 10, data, bytes);
    }
    if (p->gone || !cov_commit_decided(p->commit, &data, &bytes)) return;
    on_decision(i);
    if (p->gone) return; /* removed: its agreement stays to answer, it goes no further */
    begin_round(i);
  }
}

static void fetch_missing(int i) {
  peer *p = &sim.peers[i];
  cov_set_entry want[MAX_PEERS];
  int32_t holders[MAX_PEERS];
  int32_t n = cov_commit_missing(p->commit, want, MAX_PEERS);
  for (int32_t k = 0; k < n; k++) {
    int32_t n_holders = cov_commit_holders(p->commit, want[k].peer, want[k].hash, holders, MAX_PEERS);
    for (int32_t h = 0; h < n_holders; h++) {
      int holder = holders[h] / 10;
      if (linked(i, holder) && sim.peers[holder].has[p->round][want[k].peer / 10]) {
        send_payload(want[k].peer / 10, holder, i, p->round);
        break;
      }
    }
  }
}

/* ---- events ---- */

static void on_payload(const event *e) {
  peer *p = &sim.peers[e->to];
  if (e->to != e->from && !linked((int)e->bytes, e->to)) return; /* the transfer broke off */
  if (p->has[e->round][e->from]) return;
  p->has[e->round][e->from] = true;
  if (e->to == e->from) {
    for (int j = 0; j < sim.n; j++) {
      if (j != e->to) send_payload(e->to, e->to, j, e->round);
    }
  }
  if (!p->commit || p->gone || p->round != e->round) return;
  cov_commit_payload load = make_payload(e->from, e->round);
  if (!cov_epoch_member_find(p->members, p->n_members, load.entry.peer)) return;
  assert_ok(cov_commit_payload_ready(p->commit, &load, sim.now));
  settle(e->to);
}

static void on_link(const event *e) {
  peer *p = &sim.peers[e->to];
  p->sees[e->from] = e->alive;
  if (!p->commit || p->gone) return;
  if (e->alive && p->has[p->round][e->to] && !sim.peers[e->from].has[p->round][e->to]) {
    send_payload(e->to, e->to, e->from, p->round); /* what broke off with the link starts again */
  }
  if (!cov_epoch_member_find(p->members, p->n_members, peer_number(e->from))) return;
  assert_ok(cov_commit_peer_alive(p->commit, peer_number(e->from), e->alive, sim.now));
  settle(e->to);
}

/* Everyone's links change some time after what they stand for. */
static void announce_links(void) {
  for (int a = 0; a < sim.n; a++) {
    for (int b = 0; b < sim.n; b++) {
      if (a != b) {
        push((event){.at = sim.now + 0.3 + 0.3 * draw(), .kind = EV_LINK, .to = a, .from = b, .alive = linked(a, b)});
      }
    }
  }
}

static void on_tick(int i) {
  peer *p = &sim.peers[i];
  push((event){.at = sim.now + 0.2, .kind = EV_TICK, .to = i});
  if (!p->commit) return;
  assert_ok(cov_commit_tick(p->commit, sim.now));
  settle(i);
  if (!p->gone) fetch_missing(i);
}

static void on_message(const event *e) {
  peer *p = &sim.peers[e->to];
  if (!linked(e->from, e->to) || !p->commit) return;
  cov_status st = cov_commit_message(p->commit, e->from * 10, e->data, e->bytes, sim.now);
  /* A removed peer is a stranger to the later epochs, and the only one that may be refused here. */
  if (st != COV_OK && !(st == COV_EREMOTE && strstr(cov_error_text(), "no other member"))) {
    fail_msg("seed %llu: %s", (unsigned long long)sim.seed, cov_error_text());
  }
  settle(e->to);
}

static void on_event(event *e) {
  peer *p = &sim.peers[e->to];
  switch (e->kind) {
  case EV_MESSAGE:
    on_message(e);
    break;
  case EV_PAYLOAD:
    on_payload(e);
    break;
  case EV_LINK:
    on_link(e);
    break;
  case EV_TICK:
    on_tick(e->to);
    break;
  case EV_KILL:
    p->up = false;
    cov_commit_destroy(&p->commit);
    announce_links();
    break;
  case EV_RESTART:
    if (p->up) break;
    p->up = true;
    if (!p->gone) begin_round(e->to);
    if (p->commit) settle(e->to);
    push((event){.at = sim.now, .kind = EV_TICK, .to = e->to});
    announce_links();
    break;
  case EV_CUT:
  case EV_HEAL:
    sim.cut = e->kind == EV_CUT;
    announce_links();
    break;
  case EV_PAUSE:
    p->paused_until = sim.now + 4 * draw();
    break;
  }
}

static void run_until(double end) {
  while (sim.n_events > 0 && sim.heap[0].at <= end) {
    event e = pop();
    peer *p = &sim.peers[e.to];
    sim.now = e.at > sim.now ? e.at : sim.now;
    bool asleep = p->paused_until > sim.now && e.kind != EV_KILL && e.kind != EV_CUT && e.kind != EV_HEAL;
    if (asleep) {
      e.at = p->paused_until;
      push(e);
      continue;
    }
    if (p->up || e.kind == EV_RESTART || e.kind == EV_CUT || e.kind == EV_HEAL) on_event(&e);
    free(e.data);
  }
  sim.now = end;
}

static void sim_open(uint64_t seed, int n, int64_t n_rounds) {
  memset(&sim, 0, sizeof sim);
  sim.seed = seed;
  sim.n = n;
  sim.n_rounds = n_rounds;
  sim.heap = malloc(MAX_EVENTS * sizeof *sim.heap);
  assert_non_null(sim.heap);
  for (int i = 0; i < n; i++) {
    peer *p = &sim.peers[i];
    p->up = true;
    p->n_members = make_members(p->members, n);
    memset(p->last, 0x11, sizeof p->last);
    for (int j = 0; j < n; j++) p->sees[j] = true;
  }
}

static void sim_start(void) {
  for (int i = 0; i < sim.n; i++) {
    begin_round(i);
    settle(i);
    push((event){.at = 0.2 * draw(), .kind = EV_TICK, .to = i});
  }
}

static void sim_close(void) {
  for (int i = 0; i < sim.n_events; i++) free(sim.heap[i].data);
  free(sim.heap);
  for (int i = 0; i < sim.n; i++) {
    cov_commit_destroy(&sim.peers[i].commit);
    free(sim.peers[i].vote);
    for (int r = 0; r < MAX_ROUNDS; r++) free(sim.peers[i].records[r]);
  }
  for (int r = 0; r < MAX_ROUNDS; r++) free(sim.decided[r]);
}

static void assert_all_decided(int64_t n_rounds) {
  for (int i = 0; i < sim.n; i++) {
    peer *p = &sim.peers[i];
    if (!p->up || p->gone || p->round >= n_rounds) continue;
    char why[200] = "";
    if (p->commit) cov_commit_reason(p->commit, why, sizeof why);
    fail_msg("seed %llu: %d peers, peer %d is still in round %lld of %lld at %.1f s: %s", (unsigned long long)sim.seed,
             sim.n, i, (long long)p->round, (long long)n_rounds, sim.now, why);
  }
}

/* ---- the tests ---- */

static uint64_t first_seed(void) {
  const char *one = getenv("COVENANT_SIM_SEED");
  return one ? strtoull(one, NULL, 10) : 1;
}

static uint64_t last_seed(uint64_t share) {
  const char *many = getenv("COVENANT_SIM_SEEDS");
  if (getenv("COVENANT_SIM_SEED")) return first_seed();
  uint64_t n = many ? strtoull(many, NULL, 10) : 1000;
  return n / share;
}

/* One random fault that starts at `at` and ends by itself. */
static void trouble(double at) {
  int who = draw_int(sim.n), other = draw_int(sim.n);
  double what = draw(), length = draw() < 0.5 ? 0.5 * draw() : 3 * draw();
  if (what < 0.3) {
    push((event){.at = at, .kind = EV_KILL, .to = who});
    push((event){.at = at + length, .kind = EV_RESTART, .to = who});
  } else if (what < 0.5) {
    push((event){.at = at, .kind = EV_PAUSE, .to = who});
  } else if (what < 0.8 && who != other) { /* a heartbeat lost on the way: one peer takes another for dead */
    push((event){.at = at, .kind = EV_LINK, .to = who, .from = other, .alive = false});
    push((event){.at = at + length, .kind = EV_LINK, .to = who, .from = other, .alive = true});
  } else {
    for (int i = 0; i < sim.n; i++) sim.peers[i].side = draw_int(2);
    push((event){.at = at, .kind = EV_CUT, .to = who});
    push((event){.at = at + length, .kind = EV_HEAL, .to = who});
  }
}

/* Everything at once, but every process is up again in the end; then all must finish. A live peer can have been removed
 * by a proposer that did not see it: it is gone, and the others must go on. */
static void chaos_never_forks_and_ends_in_progress(void **state) {
  (void)state;
  int64_t n_decisions = 0;
  for (uint64_t seed = first_seed(); seed <= last_seed(1); seed++) {
    sim_open(seed, 2 + (int)(seed % 6), 4);
    sim.loss = 0.4 * draw();
    sim.late = 0.4 * draw();
    sim.calm_at = 15;
    int n_events = draw_int(24);
    for (int k = 0; k < n_events; k++) trouble(12 * draw());
    push((event){.at = 15, .kind = EV_HEAL, .to = 0});
    sim_start();
    run_until(120);
    int64_t furthest = 0;
    for (int i = 0; i < sim.n; i++) furthest = sim.peers[i].round > furthest ? sim.peers[i].round : furthest;
    assert_true(furthest >= 1);
    assert_all_decided(sim.n_rounds);
    n_decisions += sim.n_decisions;
    sim_close();
  }
  assert_true(n_decisions > 0);
  print_message("%lld decisions compared\n", (long long)n_decisions);
}

/* Peers die one by one, for good, never more than leaves a majority of the epoch; the survivors do all rounds. */
static void survivors_finish_while_peers_die_one_by_one(void **state) {
  (void)state;
  for (uint64_t seed = first_seed(); seed <= last_seed(3); seed++) {
    sim_open(seed + 1000000, 3 + (int)(seed % 5), 6);
    sim.calm_at = 60;
    sim.loss = 0.2 * draw();
    sim.late = 0.2 * draw();
    sim_start();
    int n_up = sim.n;
    /* One death at a random moment of rounds that take some seconds; then time for the epoch to shrink. Down to two,
     * and of the last two only the higher may die. */
    for (int k = 0; n_up > 1 && k < sim.n - 1; k++) {
      run_until(sim.now + 6 * draw());
      int who = draw_int(sim.n);
      while (!sim.peers[who].up) who = (who + 1) % sim.n;
      if (n_up == 2) {
        for (who = sim.n - 1; !sim.peers[who].up; who--) {
        }
      }
      push((event){.at = sim.now, .kind = EV_KILL, .to = who});
      n_up--;
      int64_t target = 0;
      for (int i = 0; i < sim.n; i++) target = sim.peers[i].round > target ? sim.peers[i].round : target;
      target = target + 2 < sim.n_rounds ? target + 2 : sim.n_rounds;
      for (int t = 0; t < 100; t++) run_until(sim.now + 0.5);
      assert_all_decided(target);
    }
    run_until(sim.now + 100);
    assert_all_decided(sim.n_rounds);
    sim_close();
  }
}

/* Cut in two before anything was said: at most one side has a majority, and the other decides nothing until they meet.
 */
static void a_part_without_majority_decides_nothing(void **state) {
  (void)state;
  int n_without = 0;
  for (uint64_t seed = first_seed(); seed <= last_seed(3); seed++) {
    sim_open(seed + 2000000, 2 + (int)(seed % 6), 1);
    sim.cut = true;
    int weight[2] = {0, 0};
    for (int i = 0; i < sim.n; i++) {
      sim.peers[i].side = draw_int(2);
      weight[sim.peers[i].side] += cov_commit_weight(i);
    }
    for (int a = 0; a < sim.n; a++) {
      for (int b = 0; b < sim.n; b++) sim.peers[a].sees[b] = linked(a, b);
    }
    sim_start();
    run_until(60);
    for (int i = 0; i < sim.n; i++) {
      peer *p = &sim.peers[i];
      if (cov_commit_is_quorum(weight[p->side], sim.n)) {
        assert_int_equal(p->round, 1);
      } else {
        char why[200];
        n_without++;
        assert_int_equal(p->round, 0);
        assert_false(cov_commit_has_quorum(p->commit));
        cov_commit_reason(p->commit, why, sizeof why);
        assert_non_null(strstr(why, "no majority"));
      }
    }
    push((event){.at = sim.now, .kind = EV_HEAL, .to = 0});
    run_until(100);
    assert_all_decided(1);
    for (int i = 0; i < sim.n; i++) assert_int_equal(sim.peers[i].round, 1);
    sim_close();
  }
  assert_true(n_without > 0 || getenv("COVENANT_SIM_SEED"));
}

int main(void) {
  peers_open();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(chaos_never_forks_and_ends_in_progress),
      cmocka_unit_test(survivors_finish_while_peers_die_one_by_one),
      cmocka_unit_test(a_part_without_majority_decides_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
