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

static void shell(const char *command) {
  if (system(command) != 0) fail_msg("failed: %s", command);
}

/* A folder of programs whose covenant-sync is the faulty one. launch takes the programs beside its own file. */
static int prepare(void **state) {
  (void)state;
  char command[16384], folder[300];
  const char *bin = getenv("COVENANT_BIN");
  assert_non_null(bin);
  test_run_prepare(&run);
  snprintf(folder, sizeof folder, "%s/bin", run.folder);
  snprintf(command, sizeof command,
           "mkdir '%s' && cp '%s/covenant' '%s/' && ln -s '%s/covenant-train' '%s/covenant-eval' '%s/' && "
           "ln -s '%s/../tests/covenant-sync-faulty' '%s/covenant-sync'",
           folder, bin, folder, bin, bin, folder, bin, folder);
  shell(command);
  return setenv("COVENANT_BIN", folder, 1);
}

/* Lines of `file` in the run directory that have both texts. */
static int count_lines(const char *file, const char *a, const char *b) {
  char path[400], line[4096];
  int n = 0;
  snprintf(path, sizeof path, "%s/%s", run.dir, file);
  FILE *f = fopen(path, "r");
  assert_non_null(f);
  while (fgets(line, sizeof line, f)) n += strstr(line, a) && strstr(line, b);
  fclose(f);
  return n;
}

static int64_t peers_in(int64_t row) {
  char path[400];
  double value;
  cov_csv csv;
  snprintf(path, sizeof path, "%s/metrics.csv", run.dir);
  assert_ok(cov_csv_read(path, &csv));
  assert_ok(cov_csv_number(&csv, row, cov_csv_column(&csv, "peers_in"), &value));
  cov_csv_close(&csv);
  return (int64_t)value;
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
  const char *hash = test_run_final_hash(&run, 0);
  for (int peer = 0; peer < 4; peer++) {
    assert_string_equal(test_run_final_hash(&run, peer), hash);
    snprintf(file, sizeof file, "events/peer-%d-sync.jsonl", peer);
    assert_int_equal(count_lines(file, "\"payload_refused\"", sender) > 0,
                     peer != SENDER); /* again if it is asked for again */
    assert_int_equal(count_lines(file, "\"payload_refused\"", "") > 0,
                     peer != SENDER); /* again if it is asked for again */
    snprintf(file, sizeof file, "logs/peer-%d-sync-0.log", peer);
    assert_int_equal(count_lines(file, "payload of peer", reason) > 0,
                     peer != SENDER); /* again if it is asked for again */
  }
  assert_int_equal(test_run_count(&run, "payload of peer 1"), 1); /* on the terminal one of them speaks for all */
  assert_int_equal(test_run_count(&run, reason), 1);
  for (int64_t row = 0; row < 6; row++) assert_int_equal(peers_in(row), row == ROUND ? 3 : 4);
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
