/* The agreement on one round, message by message: who proposes what and when, payloads and states that differ,
 * majorities. */
#include "commit_net.h"
#include "ledger/ledger.h"

/* ---- an undisturbed round ---- */

static void an_undisturbed_round_takes_three_messages(void **state) {
  (void)state;
  net_open(4);
  give_all();
  deliver(HAVE, TO_ALL, false);
  assert_int_equal(count(PROPOSE, 0, -1), 3);
  assert_int_equal(count(PREPARE, -1, -1), 0);
  deliver(PROPOSE, TO_ALL, false);
  assert_int_equal(count(ACK, -1, 0), 3);
  deliver(ACK, TO_ALL, false);
  assert_int_equal(count(COMMIT, 0, -1), 3);
  deliver(COMMIT, TO_ALL, false);
  const cov_round *r = agreed();
  assert_int_equal(set_of(r), 1234);
  assert_int_equal(members_of(r), 1234);
  assert_int_equal(r->ballot, 0);
  assert_false(r->stop);
  for (int i = 0; i < 4; i++) assert_false(cov_commit_settled(net.at[i]) && i > 0);
  run();
  for (int i = 0; i < 4; i++) {
    assert_true(cov_commit_settled(net.at[i]));
    assert_false(cov_commit_state_differs(net.at[i]));
    assert_false(cov_commit_removed(net.at[i]));
  }
  net_close();
}

static void one_peer_is_its_own_majority(void **state) {
  (void)state;
  net_open(1);
  give(0, 0);
  assert_int_equal(set_of(agreed()), 1);
  net_close();
}

/* What is decided can be appended, and what was appended is where the next round starts: three rounds, the last after
 * the epoch has shrunk. */
static void rounds_follow_each_other_through_the_ledger(void **state) {
  (void)state;
  char path[4200];
  cov_ledger *l;
  cov_genesis g = {.protocol_version = 1};
  g.n_members = make_members(g.members, 2);
  cov_commit_payload first = make_payload(0, 0);
  memcpy(g.state_hash, first.base_state_hash, COV_HASH_BYTES);
  snprintf(path, sizeof path, "%s/ledger", test_folder());
  assert_ok(cov_ledger_create(path, &g, &l));
  for (int64_t round = 0; round < 3; round++) {
    const cov_ledger_head *h = cov_ledger_head_get(l);
    cov_commit_payload load = make_payload(0, round);
    cov_commit_params p = {.self = 0,
                           .identity = &identities[0],
                           .members = h->members,
                           .n_members = h->n_members,
                           .epoch = h->epoch,
                           .round = h->next_round,
                           .base_state_hash = load.base_state_hash,
                           .previous = h->last_hash,
                           .takeover_s = 1,
                           .resend_s = 1};
    cov_commit *c;
    const uint8_t *record;
    size_t bytes;
    assert_ok(cov_commit_create(&p, 0, &c));
    if (round == 1) assert_ok(cov_commit_peer_alive(c, peer_number(1), false, 0));
    assert_ok(cov_commit_payload_ready(c, &load, 0));
    assert_ok(cov_commit_tick(c, 1));
    assert_true(cov_commit_decided(c, &record, &bytes));
    assert_ok(cov_ledger_append(l, record, bytes));
    cov_commit_destroy(&c);
  }
  assert_int_equal(cov_ledger_head_get(l)->epoch, 1);
  assert_int_equal(cov_ledger_head_get(l)->n_members, 1);
  cov_ledger_close(&l);
  assert_ok(cov_ledger_read(path, &l));
  assert_int_equal(cov_ledger_head_get(l)->next_round, 3);
  cov_ledger_close(&l);
}

static void a_payload_that_is_late_misses_the_set_but_its_peer_stays(void **state) {
  (void)state;
  net_open(4);
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 3; j++) give(i, j);
  }
  run_for(wait_s - 1);
  assert_true(nobody_decided());
  run_for(2);
  assert_int_equal(set_of(agreed()), 123);
  assert_int_equal(members_of(agreed()), 1234);
  net_close();
}

static void a_dead_peer_is_not_waited_for_and_is_removed(void **state) {
  (void)state;
  net_open(4);
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 3; j++) give(i, j);
  }
  run();
  assert_true(nobody_decided());
  kill_peer(3);
  run();
  assert_int_equal(set_of(agreed()), 123);
  assert_int_equal(members_of(agreed()), 123);
  net_close();
}

static void a_peer_that_only_seems_dead_learns_that_it_is_removed(void **state) {
  (void)state;
  net_open(4);
  assert_ok(cov_commit_peer_alive(net.at[0], peer_number(3), false, net.now));
  give_all();
  run();
  assert_int_equal(members_of(agreed()), 123);
  assert_int_equal(set_of(agreed()), 123); /* proposed before a majority had its payload */
  assert_true(cov_commit_removed(net.at[3]));
  assert_false(cov_commit_removed(net.at[1]));
  net_close();
}

static void a_wish_to_stop_reaches_the_record(void **state) {
  (void)state;
  net_open(4);
  assert_ok(cov_commit_request_stop(net.at[2], net.now));
  run();
  give_all();
  run();
  assert_true(agreed()->stop);
  net_close();
}

/* ---- who must hold what ---- */

static void nobody_acks_a_set_it_cannot_apply(void **state) {
  (void)state;
  net_open(4);
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 4; j++) {
      if (!(i == 2 && j == 1)) give(i, j);
    }
  }
  deliver(HAVE, TO_ALL, false);
  deliver(PROPOSE, 2, false);
  assert_int_equal(count(ACK, 2, 0), 0);
  cov_set_entry missing[4];
  int32_t holders[4];
  assert_int_equal(cov_commit_missing(net.at[2], missing, 4), 1);
  assert_int_equal(missing[0].peer, 10);
  assert_int_equal(cov_commit_holders(net.at[2], 10, missing[0].hash, holders, 4), 3);
  assert_int_equal(holders[0], 0);
  assert_int_equal(holders[2], 30);
  char why[200];
  cov_commit_reason(net.at[2], why, sizeof why);
  assert_non_null(strstr(why, "missing"));
  give(2, 1);
  assert_int_equal(count(ACK, 2, 0), 1);
  assert_int_equal(cov_commit_missing(net.at[2], missing, 4), 0);
  net_close();
}

static void a_payload_without_a_majority_of_holders_is_not_proposed(void **state) {
  (void)state;
  net_open(4);
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 3; j++) give(i, j);
  }
  cov_commit_payload lie = make_payload(3, 7); /* peer 3 sends each peer something else */
  for (int i = 0; i < 4; i++) {
    hash_of(lie.entry.hash, "lie", i, 0);
    assert_ok(cov_commit_payload_ready(net.at[i], &lie, net.now));
  }
  run_for(wait_s + 1);
  assert_int_equal(set_of(agreed()), 123);
  net_close();
}

/* The majority has what peer 1 announced; to peer 2 it sends something else, twice: only what was agreed on counts. */
static void what_is_swapped_does_not_count_for_what_was_announced(void **state) {
  (void)state;
  cov_set_entry missing[4];
  net_open(4);
  cov_commit_payload swapped = make_payload(1, 7);
  hash_of(swapped.entry.hash, "swapped", 1, 0);
  assert_ok(cov_commit_payload_ready(net.at[2], &swapped, net.now));
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 4; j++) {
      if (!(i == 2 && j == 1)) give(i, j);
    }
  }
  run();
  assert_int_equal(set_of(agreed()), 1234); /* without the ack of peer 2 */
  cov_commit_payload announced = make_payload(1, 7);
  for (int again = 0; again < 2; again++) {
    assert_int_equal(cov_commit_missing(net.at[2], missing, 4), 1);
    assert_memory_equal(missing[0].hash, announced.entry.hash, COV_HASH_BYTES);
    hash_of(swapped.entry.hash, "swapped", 1, 1);
    assert_ok(cov_commit_payload_ready(net.at[2], &swapped, net.now));
  }
  give(2, 1);
  assert_int_equal(cov_commit_missing(net.at[2], missing, 4), 0);
  net_close();
}

/* Everybody has its own payload and no other one that counts: nobody proposes a set of nobody, nobody takes over, and
 * what is waited for can be said at any time. How long is up to the caller. */
static void a_set_of_nobody_is_not_proposed(void **state) {
  (void)state;
  char why[200];
  net_open(4);
  run_for(wait_s + 10 * takeover_s);
  assert_true(nobody_decided());
  cov_commit_reason(net.at[1], why, sizeof why);
  assert_string_equal(why, "own payload not ready; 0 of 4 payloads here");
  for (int i = 0; i < 4; i++) give(i, i);
  run_for(wait_s);
  for (int step = 0; step < 200; step++) { /* far beyond every time that a member has */
    pass(1);
    assert_int_equal(count(PROPOSE, -1, -1) + count(PREPARE, -1, -1), 0);
    run();
  }
  assert_true(nobody_decided());
  for (int i = 0; i < 4; i++) {
    assert_true(cov_commit_has_quorum(net.at[i]));
    assert_int_equal(cov_commit_missing(net.at[i], NULL, 0), 0);
    cov_commit_reason(net.at[i], why, sizeof why);
    assert_string_equal(why, "1 of 4 payloads here; waiting for the others or for a proposal");
  }
  give(0, 1), give(2, 1); /* as soon as one has a majority of holders, it is agreed on */
  run_for(1);
  assert_int_equal(set_of(agreed()), 2);
  net_close();
}

/* ---- states that differ ---- */

static void give_with_base(int to, int sender, int base) {
  cov_commit_payload p = make_payload(sender, 7);
  hash_of(p.base_state_hash, "state", base, 7);
  assert_ok(cov_commit_payload_ready(net.at[to], &p, net.now));
}

static void a_peer_with_another_state_is_left_out_and_told(void **state) {
  (void)state;
  net_open(4);
  cov_commit_destroy(&net.at[3]);
  cov_commit_params p = params_of(3);
  uint8_t other[COV_HASH_BYTES];
  hash_of(other, "state", 1, 7);
  p.base_state_hash = other;
  assert_ok(cov_commit_create(&p, net.now, &net.at[3]));
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 4; j++) give_with_base(i, j, j == 3);
  }
  run();
  assert_int_equal(set_of(agreed()), 123);
  assert_true(cov_commit_state_differs(net.at[3]));
  assert_false(cov_commit_state_differs(net.at[0]));
  net_close();
}

static void the_larger_weight_decides_the_state_even_against_the_proposer(void **state) {
  (void)state;
  net_open(3);
  cov_commit_destroy(&net.at[0]);
  cov_commit_params p = params_of(0);
  uint8_t other[COV_HASH_BYTES];
  hash_of(other, "state", 1, 7);
  p.base_state_hash = other;
  assert_ok(cov_commit_create(&p, net.now, &net.at[0]));
  for (int i = 0; i < 3; i++) {
    for (int j = 0; j < 3; j++) give_with_base(i, j, j == 0);
  }
  run();
  assert_int_equal(set_of(agreed()), 23); /* 2 + 2 against 3 */
  assert_true(cov_commit_state_differs(net.at[0]));
  net_close();
}

/* ---- majorities ---- */

static void weights_give_the_majorities_of_the_design(void **state) {
  (void)state;
  assert_true(cov_commit_is_quorum(3, 2));
  assert_false(cov_commit_is_quorum(2, 2));
  assert_true(cov_commit_is_quorum(4, 3));
  assert_false(cov_commit_is_quorum(3, 3));
  assert_true(cov_commit_is_quorum(6, 4));  /* any three */
  assert_true(cov_commit_is_quorum(5, 4));  /* the lowest with one other */
  assert_false(cov_commit_is_quorum(4, 4)); /* two others */
  for (int n = 1; n <= COV_LEDGER_MAX_MEMBERS; n++) {
    int total = 2 * n + 1; /* two disjoint quorums would weigh more than there is */
    for (int w = 0; w <= total; w++) assert_false(cov_commit_is_quorum(w, n) && cov_commit_is_quorum(total - w, n));
  }
}

static void of_two_peers_only_the_lower_goes_on_alone(void **state) {
  (void)state;
  net_open(2);
  kill_peer(1);
  give(0, 0);
  run_for(1);
  assert_int_equal(set_of(agreed()), 1);
  assert_int_equal(members_of(agreed()), 1);
  net_close();

  net_open(2);
  give_all();
  drop();
  kill_peer(0);
  run_for(100);
  assert_true(nobody_decided());
  char why[200];
  cov_commit_reason(net.at[1], why, sizeof why);
  assert_string_equal(why, "1 of 2 members alive, weight 2 of 5: no majority");
  net_close();
}

static void two_of_four_say_that_they_are_no_majority(void **state) {
  (void)state;
  net_open(4);
  kill_peer(0);
  kill_peer(1);
  give_all();
  run_for(100);
  assert_true(nobody_decided());
  assert_false(cov_commit_has_quorum(net.at[2]));
  char why[200];
  cov_commit_reason(net.at[3], why, sizeof why);
  assert_string_equal(why, "2 of 4 members alive, weight 4 of 9: no majority");
  net_close();
}

int main(void) {
  peers_open();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_undisturbed_round_takes_three_messages),
      cmocka_unit_test(one_peer_is_its_own_majority),
      cmocka_unit_test(rounds_follow_each_other_through_the_ledger),
      cmocka_unit_test(a_payload_that_is_late_misses_the_set_but_its_peer_stays),
      cmocka_unit_test(a_dead_peer_is_not_waited_for_and_is_removed),
      cmocka_unit_test(a_peer_that_only_seems_dead_learns_that_it_is_removed),
      cmocka_unit_test(a_wish_to_stop_reaches_the_record),
      cmocka_unit_test(nobody_acks_a_set_it_cannot_apply),
      cmocka_unit_test(a_payload_without_a_majority_of_holders_is_not_proposed),
      cmocka_unit_test(what_is_swapped_does_not_count_for_what_was_announced),
      cmocka_unit_test(a_set_of_nobody_is_not_proposed),
      cmocka_unit_test(a_peer_with_another_state_is_left_out_and_told),
      cmocka_unit_test(the_larger_weight_decides_the_state_even_against_the_proposer),
      cmocka_unit_test(weights_give_the_majorities_of_the_design),
      cmocka_unit_test(of_two_peers_only_the_lower_goes_on_alone),
      cmocka_unit_test(two_of_four_say_that_they_are_no_majority),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
