/* The agreement when things go wrong: the proposer dies in each phase, peers restart, come late, send hostile bytes. */
#include "commit_net.h"

/* ---- the proposer dies ---- */

static void killed_before_it_proposed(void **state) {
  (void)state;
  net_open(4);
  give_all();
  drop();
  kill_peer(0);
  run_for(10);
  const cov_round *r = agreed();
  assert_int_equal(r->proposer, 10);
  assert_true(r->ballot == cov_ballot_make(1, 10));
  assert_int_equal(members_of(r), 234);
  assert_int_equal(set_of(r), 1234); /* its payload is in hand everywhere */
  net_close();
}

/* The proposal reached one peer only. Whoever takes over must pass it on unchanged, be it its own vote or another's. */
static void killed_after_one_proposal(int reached) {
  net_open(4);
  give_all();
  deliver(HAVE, TO_ALL, false);
  deliver(PROPOSE, reached, false);
  kill_peer(0);
  drop();
  run_for(20);
  const cov_round *r = agreed();
  assert_int_equal(r->proposer, 0);
  assert_int_equal(r->ballot, 0);
  assert_int_equal(members_of(r), 1234); /* what the dead proposer saw; the next round removes it */
  net_close();
}

static void killed_after_it_proposed_to_the_next(void **state) {
  (void)state;
  killed_after_one_proposal(1);
}

static void killed_after_it_proposed_to_the_last(void **state) {
  (void)state;
  killed_after_one_proposal(3);
}

static void killed_after_all_acks_were_sent(void **state) {
  (void)state;
  net_open(4);
  give_all();
  deliver(HAVE, TO_ALL, false);
  deliver(PROPOSE, TO_ALL, false);
  assert_int_equal(count(ACK, -1, 0), 3);
  kill_peer(0);
  drop();
  run_for(20);
  assert_int_equal(agreed()->ballot, 0);
  net_close();
}

static void killed_after_one_commit_was_sent(void **state) {
  (void)state;
  for (int who = 1; who < 4; who++) {
    net_open(4);
    give_all();
    deliver(HAVE, TO_ALL, false);
    deliver(PROPOSE, TO_ALL, false);
    deliver(ACK, TO_ALL, false);
    deliver(COMMIT, who, false);
    assert_non_null(cov_commit_round(net.at[who]));
    kill_peer(0);
    drop();
    run_for(20);
    assert_int_equal(agreed()->ballot, 0);
    for (int i = 1; i < 4; i++) assert_true(cov_commit_settled(net.at[i]));
    net_close();
  }
}

/* The old proposer is not dead, only cut off, and comes back with its old ballot: it is refused, then told. */
static void an_overtaken_proposer_is_refused(void **state) {
  (void)state;
  net_open(4);
  give_all();
  deliver(HAVE, TO_ALL, false);
  collect();
  message late[3];
  int n = 0;
  for (int k = 0; k < net.n_messages;) {
    if (net.messages[k].type == PROPOSE) {
      late[n++] = take(k);
    } else {
      k++;
    }
  }
  assert_int_equal(n, 3);
  for (int i = 1; i < 4; i++) assert_ok(cov_commit_peer_alive(net.at[i], 0, false, net.now));
  collect(); /* peer 1 asks for promises */
  assert_true(count(PREPARE, 1, -1) > 0);
  deliver(PREPARE, 2, false);
  deliver(PREPARE, 3, false);
  for (int k = 0; k < 3; k++) {
    if (late[k].to != 1) assert_ok(cov_commit_message(net.at[late[k].to], 0, late[k].data, late[k].bytes, net.now));
    free(late[k].data);
  }
  assert_int_equal(count(NACK, 2, 0), 1);
  assert_int_equal(count(NACK, 3, 0), 1);
  assert_int_equal(count(ACK, -1, 0), 0);
  run_for(20);
  assert_true(agreed()->ballot > 0 || agreed()->proposer == 0);
  net_close();
}

/* A live proposer that everyone hears but that gets no ack says its piece for ever; the others must not
 * wait. */
static void a_stuck_proposer_does_not_hold_up_the_others(void **state) {
  (void)state;
  net_open(5);
  give_all();
  for (int t = 0; t < 200; t++) {
    pass(0.25);
    collect();
    for (int k = net.n_messages; k > 0; k--) {
      message m = take(0);
      bool lost = m.to == 0 && m.type == ACK;
      if (!lost) assert_ok(cov_commit_message(net.at[m.to], peer_number(m.from), m.data, m.bytes, net.now));
      free(m.data);
    }
  }
  assert_int_equal(agreed()->ballot, 0); /* what peer 0 proposed, carried through by another */
  net_close();
}

/* ---- restarts ---- */

static void a_vote_survives_a_restart(void **state) {
  (void)state;
  net_open(4);
  give_all();
  deliver(HAVE, TO_ALL, false);
  deliver(PROPOSE, 3, false);
  kill_peer(0);
  kill_peer(3);
  drop();
  open_peer(3);
  assert_ok(cov_commit_restore(net.at[3], net.vote[3], net.vote_bytes[3]));
  for (int i = 1; i < 4; i++) {
    assert_ok(cov_commit_peer_alive(net.at[i], 0, false, net.now));
    assert_ok(cov_commit_peer_alive(net.at[i], 30, true, net.now));
    give(3, i);
  }
  give(3, 0);
  run_for(20);
  assert_int_equal(agreed()->proposer, 0);
  assert_int_equal(agreed()->ballot, 0);
  net_close();
}

static void a_promise_survives_a_restart(void **state) {
  (void)state;
  net_open(4);
  give_all();
  deliver(HAVE, TO_ALL, false);
  for (int i = 1; i < 4; i++) assert_ok(cov_commit_peer_alive(net.at[i], 0, false, net.now));
  deliver(PREPARE, 3, false);
  assert_int_equal(count(PROMISE, 3, 1), 1);
  cov_commit_destroy(&net.at[3]);
  open_peer(3);
  assert_ok(cov_commit_restore(net.at[3], net.vote[3], net.vote_bytes[3]));
  for (int j = 0; j < 4; j++) give(3, j);
  deliver(PROPOSE, 3, false); /* peer 0's, with ballot 0: promised away before the restart */
  assert_int_equal(count(ACK, 3, 0), 0);
  assert_int_equal(count(NACK, 3, 0), 1);
  net_close();
}

static void a_damaged_or_foreign_vote_is_refused(void **state) {
  (void)state;
  net_open(4);
  give_all();
  run();
  uint8_t *vote = net.vote[1];
  size_t bytes = net.vote_bytes[1];
  cov_commit *c;
  cov_commit_params p = params_of(1);
  for (size_t i = 0; i < bytes; i += 5) {
    assert_ok(cov_commit_create(&p, 0, &c));
    vote[i] ^= 4;
    assert_status(cov_commit_restore(c, vote, bytes), COV_EDATA);
    vote[i] ^= 4;
    assert_status(cov_commit_restore(c, vote, i), COV_EDATA);
    cov_commit_destroy(&c);
  }
  p.round = 6;
  assert_ok(cov_commit_create(&p, 0, &c));
  assert_status(cov_commit_restore(c, vote, bytes), COV_EMISMATCH);
  cov_commit_destroy(&c);
  p.round = 8;
  assert_ok(cov_commit_create(&p, 0, &c));
  assert_ok(cov_commit_restore(c, vote, bytes));
  cov_commit_destroy(&c);
  net_close();
}

static void an_observer_learns_and_does_not_vote(void **state) {
  (void)state;
  net_open(4);
  cov_commit_destroy(&net.at[1]);
  cov_commit_params p = params_of(1);
  p.observe = true;
  assert_ok(cov_commit_create(&p, net.now, &net.at[1]));
  give_all();
  deliver(HAVE, TO_ALL, false);
  deliver(PROPOSE, TO_ALL, false);
  assert_int_equal(count(ACK, 1, 0), 0);
  assert_int_equal(count(ACK, 2, 0), 1);
  run();
  agreed();
  net_close();
}

static void a_vote_that_cannot_be_stored_is_not_cast(void **state) {
  (void)state;
  net_open(4);
  give_all();
  deliver(HAVE, TO_ALL, false);
  collect();
  net.save_fails = true;
  for (int k = 0; k < net.n_messages; k++) {
    message *m = &net.messages[k];
    if (m->type == PROPOSE) assert_status(cov_commit_message(net.at[m->to], 0, m->data, m->bytes, net.now), COV_EIO);
  }
  assert_int_equal(count(ACK, -1, -1), 0);
  net.save_fails = false;
  run_for(5);
  agreed();
  net_close();
}

/* ---- behind ---- */

static const uint8_t *past_bytes;
static size_t past_size;

static bool past_record(void *context, int64_t round, const uint8_t **record, size_t *bytes) {
  (void)context;
  *record = past_bytes;
  *bytes = past_size;
  return round == 7;
}

static void a_peer_behind_gets_the_record_of_its_round(void **state) {
  (void)state;
  net_open(4);
  give_all();
  cov_commit *late = net.at[3];
  net.at[3] = NULL;
  run_for(2);
  cov_record r;
  assert_true(cov_commit_decided(net.at[1], &past_bytes, &past_size));
  assert_ok(cov_record_decode(past_bytes, past_size, &r));
  cov_commit_params p = params_of(1);
  p.round = 8;
  p.previous = r.hash;
  p.past_record = past_record;
  cov_commit *next;
  assert_ok(cov_commit_create(&p, net.now, &next));
  const uint8_t *data;
  size_t bytes;
  int32_t to;
  while (cov_commit_send_next(next, &to, &data, &bytes)) {
  }
  assert_true(cov_commit_send_next(late, &to, &data, &bytes));
  assert_int_equal(data[6], HAVE);
  assert_ok(cov_commit_message(next, 30, data, bytes, net.now));
  assert_true(cov_commit_send_next(next, &to, &data, &bytes));
  assert_int_equal(to, 30);
  assert_int_equal(data[6], COMMIT);
  assert_ok(cov_commit_message(late, 10, data, bytes, net.now));
  assert_non_null(cov_commit_round(late));
  cov_commit_destroy(&next);
  cov_commit_destroy(&late);
  net_close();
}

/* ---- hostile bytes ---- */

/* Every message of a disturbed round, cut at every length and with every byte changed, to a peer in mid-round: nothing
 * crashes, what is cut is refused, and nothing that is refused leaves a decision. */
static void hostile_bytes_are_refused(void **state) {
  (void)state;
  net_open(3);
  give_all();
  deliver(HAVE, TO_ALL, false);
  deliver(PROPOSE, 1, false);
  assert_ok(cov_commit_peer_alive(net.at[1], 0, false, net.now));
  deliver(PREPARE, 2, false);
  pass(3);
  collect();
  uint32_t kinds = 0;
  for (int k = 0; k < net.n_messages; k++) {
    message *m = &net.messages[k];
    int from = peer_number(m->from);
    if (kinds & (1u << m->type)) continue;
    kinds |= 1u << m->type;
    cov_commit *c;
    cov_commit_params p = params_of(m->to);
    p.save_vote = NULL;
    assert_ok(cov_commit_create(&p, net.now, &c));
    for (size_t i = 0; i < m->bytes; i++) {
      uint8_t *exact = malloc(i + 1); /* so that a sanitizer sees a read past the end */
      assert_non_null(exact);
      memcpy(exact, m->data, i);
      assert_status(cov_commit_message(c, from, exact, i, net.now), COV_EREMOTE);
      free(exact);
      m->data[i] ^= 0x21;
      (void)cov_commit_message(c, from, m->data, m->bytes, net.now);
      m->data[i] ^= 0x21;
    }
    assert_null(cov_commit_round(c));
    assert_status(cov_commit_message(c, 5, m->data, m->bytes, net.now), COV_EREMOTE);
    assert_status(cov_commit_message(c, p.self, m->data, m->bytes, net.now), COV_EREMOTE);
    m->data[20] ^= 1; /* another chain */
    assert_status(cov_commit_message(c, from, m->data, m->bytes, net.now), COV_EMISMATCH);
    m->data[20] ^= 1;
    cov_commit_destroy(&c);
  }
  assert_true(kinds & 1u << HAVE && kinds & 1u << PREPARE && kinds & 1u << PROPOSE && kinds & 1u << ACK);
  net_close();
}

static void nobody_uses_the_ballot_of_another(void **state) {
  (void)state;
  net_open(4);
  give_all();
  deliver(HAVE, TO_ALL, false);
  collect();
  for (int k = 0; k < net.n_messages; k++) {
    message *m = &net.messages[k];
    if (m->type == PROPOSE && m->to == 2) {
      assert_status(cov_commit_message(net.at[2], 10, m->data, m->bytes, net.now), COV_EREMOTE);
    }
  }
  assert_int_equal(count(ACK, 2, -1), 0);
  net_close();
}

static void parameters_are_checked(void **state) {
  (void)state;
  net_open(3);
  cov_commit *c;
  cov_commit_params p = params_of(1);
  p.self = 11;
  assert_status(cov_commit_create(&p, 0, &c), COV_EUSAGE);
  p = params_of(1);
  p.identity = &identities[2];
  assert_status(cov_commit_create(&p, 0, &c), COV_EUSAGE);
  p = params_of(1);
  p.takeover_s = 0;
  assert_status(cov_commit_create(&p, 0, &c), COV_EUSAGE);
  p = params_of(1);
  p.n_members = 0;
  assert_status(cov_commit_create(&p, 0, &c), COV_EUSAGE);
  assert_null(c);
  cov_commit_payload load = make_payload(5, 7);
  assert_status(cov_commit_payload_ready(net.at[0], &load, 0), COV_EUSAGE);
  net_close();
}

static void the_queue_of_someone_who_never_sends_is_bounded(void **state) {
  (void)state;
  net_open(3);
  for (int t = 0; t < 2000; t++) {
    net.now += 1;
    assert_ok(cov_commit_tick(net.at[0], net.now));
  }
  int n = count(HAVE, 0, -1);
  assert_true(n > 0 && n <= 64 * 3);
  net_close();
}

int main(void) {
  peers_open();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(killed_before_it_proposed),
      cmocka_unit_test(killed_after_it_proposed_to_the_next),
      cmocka_unit_test(killed_after_it_proposed_to_the_last),
      cmocka_unit_test(killed_after_all_acks_were_sent),
      cmocka_unit_test(killed_after_one_commit_was_sent),
      cmocka_unit_test(an_overtaken_proposer_is_refused),
      cmocka_unit_test(a_stuck_proposer_does_not_hold_up_the_others),
      cmocka_unit_test(a_vote_survives_a_restart),
      cmocka_unit_test(a_promise_survives_a_restart),
      cmocka_unit_test(a_damaged_or_foreign_vote_is_refused),
      cmocka_unit_test(an_observer_learns_and_does_not_vote),
      cmocka_unit_test(a_vote_that_cannot_be_stored_is_not_cast),
      cmocka_unit_test(a_peer_behind_gets_the_record_of_its_round),
      cmocka_unit_test(hostile_bytes_are_refused),
      cmocka_unit_test(nobody_uses_the_ballot_of_another),
      cmocka_unit_test(parameters_are_checked),
      cmocka_unit_test(the_queue_of_someone_who_never_sends_is_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
