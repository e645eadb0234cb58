/* When a payload that is missing is asked for. Every time here is made up. */
#include "exchange/arrival.h"
#include "support.h"

enum { ROUND = 7, LIMIT = 100 };

static bool due(cov_arrival *a, double now) {
  return cov_arrival_due(a, NULL, ROUND, false, LIMIT, now);
}

static void its_sender_gets_two_seconds(void **state) {
  (void)state;
  cov_arrival a = {0};
  assert_false(due(&a, 50));
  assert_false(due(&a, 51.9));
  assert_true(due(&a, 52));
  cov_arrival_asked(&a, 52);
  assert_false(due(&a, 61.9)); /* whoever was asked gets ten */
  assert_true(due(&a, 62));
  cov_arrival_reset(&a);
  assert_false(due(&a, 63));
}

static void who_is_behind_asks_at_once(void **state) {
  (void)state;
  cov_arrival a = {0};
  assert_true(cov_arrival_due(&a, NULL, ROUND, true, LIMIT, 50));
}

/* Parts every three seconds: the set is agreed on in between, and nobody asks until they stop. */
static void what_comes_is_not_asked_for(void **state) {
  (void)state;
  cov_arrival a = {0};
  for (int part = 0; part < 10; part++) {
    double now = 3 * part;
    cov_arrival_part(&a, ROUND, now);
    if (part > 4) assert_false(due(&a, now + 2.9));
  }
  assert_false(due(&a, 27 + 2 + 2 * 3 - 0.1));
  assert_true(due(&a, 27 + 2 + 2 * 3));
  cov_arrival late = {0};
  cov_arrival_part(&late, ROUND, 49);
  assert_false(cov_arrival_due(&late, NULL, ROUND, true, LIMIT, 50));
  assert_true(cov_arrival_due(&late, NULL, ROUND, true, LIMIT, 51));
}

static void parts_of_another_round_do_not_count(void **state) {
  (void)state;
  cov_arrival a = {0};
  cov_arrival_part(&a, ROUND - 1, 49);
  assert_true(cov_arrival_due(&a, NULL, ROUND, true, LIMIT, 50));
  cov_arrival_part(&a, ROUND, 80); /* the first of its round: 31 s since another one say nothing about its pace */
  assert_false(due(&a, 81.9));
  assert_true(due(&a, 82));
}

/* An answer takes as long as a payload does: it is not asked for again while it comes. */
static void what_the_asked_one_sends_counts(void **state) {
  (void)state;
  cov_arrival a = {0}, holder = {0};
  assert_true(cov_arrival_due(&a, NULL, ROUND, true, LIMIT, 50));
  cov_arrival_asked(&a, 50);
  for (int second = 51; second < 80; second++) {
    cov_arrival_part(&holder, ROUND, second);
    assert_false(cov_arrival_due(&a, &holder, ROUND, true, LIMIT, second));
  }
  assert_false(cov_arrival_due(&a, &holder, ROUND, true, LIMIT, 82.9));
  assert_true(cov_arrival_due(&a, &holder, ROUND, true, LIMIT, 83));
}

/* One part a second for ever stops nobody for longer than the limit, whoever sends them. */
static void a_trickle_ends_at_the_limit(void **state) {
  (void)state;
  cov_arrival a = {0};
  int asked = 0;
  for (int second = 0; second <= LIMIT; second++) {
    cov_arrival_part(&a, ROUND, second);
    if (cov_arrival_due(&a, &a, ROUND, false, LIMIT, second)) asked = second;
    if (asked) break;
  }
  assert_int_equal(asked, LIMIT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(its_sender_gets_two_seconds),     cmocka_unit_test(who_is_behind_asks_at_once),
      cmocka_unit_test(what_comes_is_not_asked_for),     cmocka_unit_test(parts_of_another_round_do_not_count),
      cmocka_unit_test(what_the_asked_one_sends_counts), cmocka_unit_test(a_trickle_ends_at_the_limit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
