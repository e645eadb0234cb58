/* covenant-test: timeout=300
 * `covenant bench wan` and `bench utilisation` on networks made here: no exchange is faster than its links allow, no
 * run spends less time on it, every byte passes them once (mesh) or as the relay says, and nothing of the lab is left.
 * Needs root; else skipped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "support.h"

static char *json;
static const char *folder;
enum { PEERS = 3, BYTES = 400000 };

static int shell(const char *format, const char *argument) {
  char command[4096];
  const char *bin = getenv("COVENANT_BIN");
  assert_non_null(bin);
  assert_ok(cov_path(command, sizeof command, format, bin, argument));
  int status = system(command);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void bench(const char *arguments) {
  char path[512];
  size_t bytes;
  assert_ok(cov_path(path, sizeof path, "%s/bench.json", folder));
  free(json);
  json = NULL;
  assert_int_equal(shell("'%s/covenant' bench --json run.peers=3 %s", arguments), 0);
  assert_ok(cov_file_read(path, 1 << 20, &json, &bytes));
}

/* The n-th number with that key. */
static double number(const char *key, int n) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\": ", key);
  const char *at = json;
  for (int i = 0; i <= n && at; i++) at = (at = strstr(at, quoted)) ? at + strlen(quoted) : NULL;
  if (!at) fail_msg("no %s in %s", key, json);
  return atof(at);
}

static void arguments_into(char *out, size_t size, const char *more) {
  assert_ok(cov_path(out, size, "%s > '%s/bench.json'", more, folder));
}

static void a_mesh_uses_its_uplinks(void **state) {
  (void)state;
  char arguments[600];
  arguments_into(arguments, sizeof arguments, "wan --reps 1 --bytes 400000 --up 8 --down 40 --rtt 20");
  bench(arguments);
  double bound = (PEERS - 1) * 8.0 * BYTES / 8e6;
  assert_true(number("bound_s", 0) > 0.999 * bound && number("bound_s", 0) < 1.001 * bound);
  assert_true(number("of_bound", 0) > 1); /* headers alone see to that */
  assert_true(number("sockets_of_bound", 0) > 1);
  for (int i = 0; i < PEERS; i++) assert_true(number("up_load", i) < 1.2); /* what was dropped at its queue included */
  assert_true(number("lost_packets_random", 0) == 0);
}

static void a_relay_is_sent_to_once(void **state) {
  (void)state;
  char arguments[600];
  arguments_into(arguments, sizeof arguments,
                 "wan --reps 1 --bytes 400000 --relays 1 --up 8 --down 16 --rtt 20 --loss 0.1");
  bench(arguments);
  assert_non_null(strstr(json, "\"topology\": \"relay\""));
  assert_true(number("of_bound", 0) > 1);
  /* A quarter of a second at each end may be missing from the counters. */
  assert_true(number("received_bytes", PEERS) > 0.4 * PEERS * BYTES);
  for (int i = 0; i < PEERS; i++) assert_true(number("sent_bytes", i) < 1.5 * BYTES);
}

static void a_run_waits_for_its_links(void **state) {
  (void)state;
  char arguments[600];
  arguments_into(
      arguments, sizeof arguments,
      "utilisation --relays 1 --up 8 --down 16 --rtt 20 run.rounds=3 train.round_time=0.5s train.warmup_steps=1 "
      "model.dim=64 model.layers=1 model.heads=2 model.kv_heads=1 model.ffn=64 model.seq_len=32 model.vocab=0 "
      "data.batch_seqs=1 data.micro_batch_seqs=1 sync.inner_steps=1 sync.topk=4096 sync.quantizer=none");
  bench(arguments);
  double bytes = number("payload_bytes", 0), bound = number("bound_s", 0), compute = number("compute_s", 0);
  assert_true(bytes > 4 * 40000); /* all values, in fp32 */
  assert_true(bound > 0.999 * bytes / 1e6 && bound < 1.001 * bytes / 1e6);
  assert_true(compute >= 0.5);
  assert_true(number("allowed", 0) > 0.999 * compute / (compute + bound));
  assert_true(number("of_allowed", 0) < 1 && number("utilisation", 0) > 0);
}

static void the_commands_exit_code_comes_back(void **state) {
  (void)state;
  assert_int_equal(shell("'%s/covenant-wanlab' --hosts 2 -- sh -c '%s'", "exit 5"), 5);
  assert_int_equal(shell("'%s/covenant-wanlab' --hosts 2 --up %s -- true", "fast"), 2);
}

static void nothing_is_left(void **state) {
  (void)state;
  assert_int_equal(system("ip -br link | grep -q covlab"), 1 << 8);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_mesh_uses_its_uplinks),   cmocka_unit_test(a_relay_is_sent_to_once),
      cmocka_unit_test(a_run_waits_for_its_links), cmocka_unit_test(the_commands_exit_code_comes_back),
      cmocka_unit_test(nothing_is_left),
  };
  if (shell("'%s/covenant-wanlab' --hosts 1 -- %s", "true") == 77) return 77; /* it has said why */
  folder = test_folder();
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  free(json);
  return failed;
}
