/* covenant-test: timeout=180
 * Payloads through a relay: the same bits as from everyone to everyone, also if the relay is killed in the middle of
 * the run, after which payloads go directly. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "run.h"
#include "support.h"

static test_run run;
static char mesh_hash[65];
static const char *const mesh[] = {"run.rounds=10", "sync.inner_steps=30", "eval.every_rounds=0",
                                   "exchange.topology=mesh", NULL};
static const char *const measured[] = {"run.rounds=10",     "sync.inner_steps=30",      "eval.every_rounds=0",
                                       "exchange.relays=2", "exchange.probe_time=0.3s", NULL};
static const char *const relay[] = {"run.rounds=10",
                                    "sync.inner_steps=30",
                                    "eval.every_rounds=0",
                                    "exchange.topology=relay",
                                    "exchange.relays=2",
                                    "exchange.segment_bytes=4KiB",
                                    "exchange.link_timeout=8s",
                                    "checkpoint.every_rounds=0",
                                    NULL};

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  return 0;
}

static void everyone_to_everyone(void **state) {
  (void)state;
  test_run_start(&run, "mesh", mesh);
  assert_int_equal(test_run_wait(&run), 0);
  snprintf(mesh_hash, sizeof mesh_hash, "%s", test_run_common_hash(&run, 4));
}

static void relays_change_no_bit(void **state) {
  (void)state;
  test_run_start(&run, "relay", relay);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_string_equal(test_run_common_hash(&run, 4), mesh_hash);
  assert_int_equal(test_run_lines(&run, "logs/peer-0-relay-0.log", "another's name", ""), 0);
  assert_int_equal(test_run_lines(&run, "logs/peer-1-sync-0.log", "payloads go directly", ""), 0);
}

/* Here every link is memory; which way is chosen does not matter, that all agree and the bits do. */
static void the_links_are_measured(void **state) {
  (void)state;
  test_run_start(&run, "auto", measured);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_string_equal(test_run_common_hash(&run, 4), mesh_hash);
  assert_true(test_run_lines(&run, "logs/peer-0-sync-0.log", "exchange.topology=auto takes", "Mbit/s") > 0);
}

static void kill_a_relay(const char *name) {
  test_run_start(&run, name, relay);
  assert_true(test_run_reach(&run, 2));
  pid_t victim = test_run_pid(&run, 0, "relay");
  assert_int_equal(kill(victim, SIGKILL), 0);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  for (int64_t row = 0; row < 10; row++) assert_true(test_run_metric(&run, row, "peers_in") == 4);
  assert_string_equal(test_run_common_hash(&run, 4), mesh_hash);
  for (int peer = 0; peer < 4; peer++) {
    char file[64];
    snprintf(file, sizeof file, "logs/peer-%d-sync-0.log", peer);
    assert_true(test_run_lines(&run, file, "relay 0 is gone", "") > 0);
  }
}

static void a_relay_dies(void **state) {
  (void)state;
  kill_a_relay("killed");
}

/* Peer 0 is asked for its payload by all others before it takes note that its relay, where it went, is gone. */
static void others_see_first_that_a_relay_died(void **state) {
  (void)state;
  test_run_replace_sync(&run, "covenant-sync-unaware");
  kill_a_relay("unaware");
  for (int peer = 0; peer < 4; peer++) { /* those of the other relay have not lost theirs */
    char line[64];
    snprintf(line, sizeof line, "peer %d sends directly", peer);
    assert_int_equal(test_run_count(&run, line) > 0, peer % 2 == 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(everyone_to_everyone),
      cmocka_unit_test(relays_change_no_bit),
      cmocka_unit_test(the_links_are_measured),
      cmocka_unit_test(a_relay_dies),
      cmocka_unit_test(others_see_first_that_a_relay_died),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
