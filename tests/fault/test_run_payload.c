/* covenant-test: timeout=600
 * One peer of a real run sends damaged payloads in one round. The others refuse them, each says so once and why, the
 * round is finished without that peer, and all four end with equal bits: the sender kept what it could not pass on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ledger/identity.h"
#include "report/metrics.h"
#include "run.h"
#include "support.h"

enum { SENDER = 1, ROUND = 2 };

static test_run run;

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  test_run_replace_sync(&run, "covenant-sync-faulty");
  return 0;
}

static void check_damage(const char *kind, const char *reason) {
  char fault[64], file[64], sender[32];
  snprintf(fault, sizeof fault, "%s:%d:%d", kind, SENDER, ROUND);
  snprintf(sender, sizeof sender, "\"sender\":%d", SENDER);
  assert_int_equal(setenv("COVTEST_FAULT", fault, 1), 0);
  test_run_start(&run, kind,
                 (const char *const[]){"sync.quantizer=reference", "sync.bins=3", "exchange.round_timeout=10s", NULL});
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  (void)test_run_common_hash(&run, 4);
  for (int peer = 0; peer < 4; peer++) {
    int once = peer == SENDER ? 0 : 1;
    snprintf(file, sizeof file, "events/peer-%d-sync.jsonl", peer);
    assert_int_equal(test_run_lines(&run, file, "\"payload_refused\"", sender), once);
    assert_int_equal(test_run_lines(&run, file, "\"payload_refused\"", ""), once);
    snprintf(file, sizeof file, "logs/peer-%d-sync-0.log", peer);
    assert_int_equal(test_run_lines(&run, file, " warn payload of peer", reason), once); /* not what others say */
  }
  assert_int_equal(test_run_count(&run, "payload of peer 1"), 1); /* on the terminal one of them speaks for all */
  assert_int_equal(test_run_count(&run, reason), 1);
  for (int64_t row = 0; row < 6; row++) assert_true(test_run_metric(&run, row, "peers_in") == (row == ROUND ? 3 : 4));
  assert_int_equal(test_run_tool(&run, "ledger verify @/peers/0/ledger @/peers/1/ledger @/peers/2/ledger"), 0);
}

static void a_wrong_length_is_refused(void **state) {
  (void)state;
  check_damage("length", "bytes and has");
}

static void a_wrong_checksum_is_refused(void **state) {
  (void)state;
  check_damage("checksum", "its checksum is wrong");
}

static void a_wrong_index_is_refused(void **state) {
  (void)state;
  check_damage("index", "indices leave their chunk");
}

static void a_wrong_code_is_refused(void **state) {
  (void)state;
  check_damage("code", ": code");
}

static void a_wrong_value_is_refused(void **state) {
  (void)state;
  check_damage("value", "is not finite or too large");
}

static void a_payload_of_another_round_is_refused(void **state) {
  (void)state;
  check_damage("round", "it is of round 3, not 2");
}

static void a_message_of_another_round_is_refused(void **state) {
  (void)state;
  check_damage("early", "round 11 is not at hand");
}

static void a_payload_of_another_run_is_refused(void **state) {
  (void)state;
  check_damage("run", "it belongs to another run");
}

static void a_wrong_signature_is_refused(void **state) {
  (void)state;
  if (!cov_identity_signs()) {
    print_message("skipped: built without signatures\n");
    skip();
  }
  check_damage("signature", "its signature is not by the key");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_wrong_length_is_refused),
      cmocka_unit_test(a_wrong_checksum_is_refused),
      cmocka_unit_test(a_wrong_index_is_refused),
      cmocka_unit_test(a_wrong_code_is_refused),
      cmocka_unit_test(a_wrong_value_is_refused),
      cmocka_unit_test(a_payload_of_another_round_is_refused),
      cmocka_unit_test(a_message_of_another_round_is_refused),
      cmocka_unit_test(a_payload_of_another_run_is_refused),
      cmocka_unit_test(a_wrong_signature_is_refused),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
