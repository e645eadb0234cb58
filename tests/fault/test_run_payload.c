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

static const char *const ordinary[] = {"sync.quantizer=reference", "sync.bins=3", "exchange.round_timeout=10s", NULL};

typedef struct {
  const char *kind;
  int sender, round;
  const char *reason;
} fault;

static void start(const char *name, const fault *list, int n, const char *const *settings) {
  char text[512] = "";
  for (int i = 0; i < n; i++) {
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, "%s%s:%d:%d", i ? "," : "", list[i].kind, list[i].sender, list[i].round);
  }
  assert_int_equal(setenv("COVTEST_FAULT", text, 1), 0);
  test_run_start(&run, name, settings);
}

/* Each of the others has refused each damaged payload once and said why, with its sender's name; on the terminal one of
 * them speaks for all. */
static void check_refusals(const fault *list, int n) {
  char file[64], line[80], sender[32];
  for (int peer = 0; peer < 4; peer++) {
    int in_all = 0;
    for (int i = 0; i < n; i++) {
      int once = peer == list[i].sender ? 0 : 1, of_sender = 0;
      for (int j = 0; j < n; j++) of_sender += list[j].sender == list[i].sender;
      in_all += once;
      snprintf(file, sizeof file, "events/peer-%d-sync.jsonl", peer);
      snprintf(sender, sizeof sender, "\"sender\":%d", list[i].sender);
      assert_int_equal(test_run_lines(&run, file, "\"payload_refused\"", sender), once * of_sender);
      snprintf(file, sizeof file, "logs/peer-%d-sync-0.log", peer);
      snprintf(line, sizeof line, " warn payload of peer %d for round ", list[i].sender); /* not what others say */
      assert_true(test_run_lines(&run, file, line, list[i].reason) >= once);
    }
    snprintf(file, sizeof file, "events/peer-%d-sync.jsonl", peer);
    assert_int_equal(test_run_lines(&run, file, "\"payload_refused\"", ""), in_all);
    snprintf(file, sizeof file, "logs/peer-%d-sync-0.log", peer);
    assert_int_equal(test_run_lines(&run, file, " warn payload of peer", " refused: "), in_all);
  }
  assert_int_equal(test_run_count(&run, "payload of peer "), n);
}

/* All four end with equal bits, and each round had as many payloads as were good. */
static void check_end(const fault *list, int n) {
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  (void)test_run_common_hash(&run, 4);
  for (int row = 0; row < 6; row++) {
    int good = 4;
    for (int i = 0; i < n; i++) good -= list[i].round == row;
    assert_true(test_run_metric(&run, row, "peers_in") == good);
  }
  assert_int_equal(test_run_tool(&run, "ledger verify @/peers/0/ledger @/peers/1/ledger @/peers/2/ledger"), 0);
}

static void check_damage(const char *kind, const char *reason) {
  const fault one = {kind, SENDER, ROUND, reason};
  start(kind, &one, 1, ordinary);
  check_end(&one, 1);
  check_refusals(&one, 1);
  assert_int_equal(test_run_count(&run, reason), 1);
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

/* Several in one run, two a round. */
static void all_kinds_of_hostile_content_are_refused(void **state) {
  (void)state;
  static const fault list[] = {
      {"oversized", 1, 1, " bytes where no payload of this run has more than "},
      {"counts", 2, 1, " codes are counted, there are "},
      {"infinite", 1, 2, ": table entry 0 is not finite or too large"},
      {"huge", 2, 2, ": table entry 0 is not finite or too large"},
      {"duplicate", 1, 3, "section head of "},
      {"unknown", 2, 3, "section head of "},
      {"bomb", 1, 4, " says that it has 1099511627776 bytes"},
      {"floats", 2, 4, "quantiser 3 with 0 bins, not 1 with 3"},
  };
  enum { N = sizeof list / sizeof *list };
  char line[80];
  start("kinds", list, N, ordinary);
  check_end(list, N);
  check_refusals(list, N);
  for (int i = 0; i < N; i++) {
    snprintf(line, sizeof line, " warn payload of peer %d for round %d refused: ", list[i].sender, list[i].round);
    assert_int_equal(test_run_lines(&run, "logs/peer-0-sync-0.log", line, list[i].reason), 1);
    assert_int_equal(test_run_lines(&run, "logs/peer-3-sync-0.log", line, list[i].reason), 1);
  }
}

/* A relay passes on what its sender makes of a part, and is not to blame: it stays, the sender has lost a round. */
static void a_wrong_part_costs_its_sender_and_not_the_relay(void **state) {
  (void)state;
  static const fault one = {"part", SENDER, ROUND, "malformed part of a payload: bytes "};
  static const char *const relayed[] = {"sync.quantizer=reference",
                                        "sync.bins=3",
                                        "sync.topk=1024",
                                        "exchange.round_timeout=10s",
                                        "exchange.topology=relay",
                                        "exchange.relays=2",
                                        "exchange.segment_bytes=4KiB",
                                        NULL};
  char file[64];
  start("part", &one, 1, relayed);
  check_end(&one, 1);
  check_refusals(&one, 1);
  assert_int_equal(test_run_count(&run, "is gone"), 0);
  for (int peer = 0; peer < 4; peer++) {
    snprintf(file, sizeof file, "logs/peer-%d-sync-0.log", peer);
    assert_int_equal(test_run_lines(&run, file, "payloads go directly", ""), 0);
    assert_int_equal(test_run_lines(&run, file, "is gone", ""), 0);
  }
}

/* No set is proposed without a payload in it: the run ends, in bounded time, and says what was missing. */
static void a_round_without_a_valid_payload_ends_the_run(void **state) {
  (void)state;
  static const fault list[] = {
      {"checksum", 0, ROUND, ""}, {"checksum", 1, ROUND, ""}, {"checksum", 2, ROUND, ""}, {"checksum", 3, ROUND, ""}};
  start("nobody", list, 4,
        (const char *const[]){"sync.quantizer=reference", "sync.bins=3", "exchange.round_timeout=2s",
                              "exchange.link_timeout=8s", NULL});
  assert_int_equal(test_run_wait(&run), cov_status_exit_code(COV_EREMOTE));
  assert_string_equal(test_run_state(&run), "failed");
  assert_true(test_run_count(&run, "round 2 was not finished in time: 1 of 4 payloads here; waiting for the others") >
              0);
  assert_true(test_run_metric(&run, -1, "round") == ROUND - 1);
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
      cmocka_unit_test(all_kinds_of_hostile_content_are_refused),
      cmocka_unit_test(a_wrong_part_costs_its_sender_and_not_the_relay),
      cmocka_unit_test(a_round_without_a_valid_payload_ends_the_run),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
