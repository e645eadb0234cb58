/* covenant-test: timeout=300
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
static const char *const mesh[] = {"run.rounds=10", "exchange.topology=mesh", NULL};
static const char *const relay[] = {"run.rounds=10",
                                    "exchange.topology=relay",
                                    "exchange.relays=2",
                                    "sync.inner_steps=30",
                                    "exchange.segment_bytes=4KiB",
                                    "exchange.link_timeout=8s",
                                    "checkpoint.every_rounds=0",
                                    NULL};

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  return 0;
}

/* Final state hash of all four peers, which must be equal. */
static const char *common_hash(void) {
  const char *hash = test_run_final_hash(&run, 0);
  for (int peer = 1; peer < 4; peer++) assert_string_equal(test_run_final_hash(&run, peer), hash);
  return hash;
}

static int log_says(const char *name, const char *what) {
  char path[400], *log;
  size_t bytes;
  snprintf(path, sizeof path, "%s/logs/%s", run.dir, name);
  assert_ok(cov_file_read(path, 1 << 20, &log, &bytes));
  int found = strstr(log, what) != NULL;
  free(log);
  return found;
}

static void everyone_to_everyone(void **state) {
  (void)state;
  const char *const settings[] = {mesh[0], mesh[1], "sync.inner_steps=30", NULL};
  test_run_start(&run, "mesh", settings);
  assert_int_equal(test_run_wait(&run), 0);
  snprintf(mesh_hash, sizeof mesh_hash, "%s", common_hash());
}

static void relays_change_no_bit(void **state) {
  (void)state;
  test_run_start(&run, "relay", relay);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_string_equal(common_hash(), mesh_hash);
  assert_false(log_says("peer-0-relay-0.log", "another's name"));
  assert_false(log_says("peer-1-sync-0.log", "payloads go directly"));
}

static void a_relay_dies(void **state) {
  (void)state;
  test_run_start(&run, "killed", relay);
  assert_true(test_run_reach(&run, 2));
  pid_t victim = test_run_pid(&run, 0, "relay");
  assert_int_equal(kill(victim, SIGKILL), 0);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_string_equal(common_hash(), mesh_hash);
  for (int peer = 0; peer < 4; peer++) {
    char name[64];
    snprintf(name, sizeof name, "peer-%d-sync-0.log", peer);
    assert_true(log_says(name, "relay 0 is gone"));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(everyone_to_everyone),
      cmocka_unit_test(relays_change_no_bit),
      cmocka_unit_test(a_relay_dies),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
