/* `covenant plan`: operations, bytes and times against sums made by hand. Memory is tests/e2e/test_plan. Skipped where
 * the program is not built. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"
#include "tool.h"

/* Two layers of 64 with ffn 192, 4 heads of 16, of which 2 for keys and values; 300 tokens, tied. 8 sequences of 32. */
#define MODEL                                                                                                  \
  "model.vocab=300 model.dim=64 model.layers=2 model.heads=4 model.kv_heads=2 model.ffn=192 model.seq_len=32 " \
  "model.tied=true data.batch_seqs=8 data.micro_batch_seqs=8 sync.inner_steps=5 train.warmup_steps=1 run.rounds=3 "
enum { LAYER = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 192 + 2 * 64, PARAMS = 300 * 64 + 2 * LAYER + 64 };
static const double tokens = 8 * 32, messages = 1700;

static void plan(const char *arguments) {
  char line[1024];
  snprintf(line, sizeof line, MODEL "%s", arguments);
  int rc = test_tool("/tmp", "covenant", "plan --json --memory 1TiB", line);
  if (rc != 0) fail_msg("exit code %d: %s", rc, test_output);
}

static double number(const char *key) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\": ", key);
  const char *at = strstr(test_output, quoted);
  if (!at) fail_msg("no %s in %s", key, test_output);
  return strtod(at + strlen(quoted), NULL);
}

static void assert_number(const char *key, double want) {
  double got = number(key);
  if (!(fabs(got - want) <= 1e-6 * fabs(want))) fail_msg("%s is %.9g, by hand %.9g", key, got, want);
}

/* 6 operations a parameter and token with the head, which is the table; 6 T d a layer for attention. */
static void operations_are_those_of_the_formula(void **state) {
  (void)state;
  const double per_token = 6.0 * PARAMS + 6.0 * 2 * 32 * 64;
  plan("run.peers=4");
  assert_number("params", PARAMS);
  assert_number("tokens_per_step", tokens);
  assert_number("flop_per_token", per_token);
  assert_number("flop_per_step", per_token * tokens);
  assert_number("flop_per_round", per_token * tokens * 5);
  assert_number("recomputed_flop_per_step", 0);
  assert_null(strstr(test_output, "round_s"));
  plan("run.peers=4 train.recompute=layer");
  assert_number("recomputed_flop_per_step", (per_token * tokens - 6.0 * 300 * 64 * tokens) / 3);
}

static void a_mesh_sends_a_payload_to_each(void **state) {
  (void)state;
  plan("run.peers=4 --flops 1e9 --uplink 1Mbit --downlink 50Mbit --rtt 80ms --outer 1e6");
  const double payload = number("payload_bytes"), compute = number("flop_per_round") / 1e9;
  const double exchange = 3 * (payload + messages) / (1e6 / 8) + 2 * 0.08, outer = PARAMS / 1e6;
  assert_non_null(strstr(test_output, "\"topology\": \"mesh\""));
  assert_true(payload > 0 && payload < 4.0 * PARAMS);
  assert_number("sent_bytes_per_round", 3 * (payload + messages));
  assert_number("received_bytes_per_round", 3 * (payload + messages));
  assert_number("compute_s", compute);
  assert_number("encode_s", outer);
  assert_number("exchange_s", exchange);
  assert_number("round_s", compute + outer + exchange + outer);
  assert_number("utilisation", compute / (compute + outer + exchange + outer));
  plan("run.peers=4 run.sync_ranks=2 sync.threads=3 sync.delay=1 --flops 1e9 --uplink 1Mbit --downlink 50Mbit --rtt "
       "80ms --outer 1e6");
  assert_number("encode_s", outer / 6);
  assert_number("apply_s", outer / 6);
  assert_number("round_s", fmax(compute, exchange + outer / 3));
}

/* Each uplink carries a payload once, the relay's twelve: three copies of each of four. */
static void a_relay_takes_the_copies(void **state) {
  (void)state;
  static const char rates[] = "--flops 1e9 --uplink 1Mbit --downlink 50Mbit";
  char line[256];
  snprintf(line, sizeof line, "run.peers=4 exchange.relays=1 %s", rates);
  plan(line); /* auto: the faster one */
  const double payload = number("payload_bytes");
  assert_non_null(strstr(test_output, "\"topology\": \"relay\""));
  assert_number("sent_bytes_per_round", payload + 3 * messages);
  assert_number("received_bytes_per_round", 3 * (payload + messages));
  assert_number("exchange_s", (payload + messages) / (1e6 / 8));
  snprintf(line, sizeof line, "run.peers=4 exchange.relays=1 %s --relay 2Mbit", rates);
  plan(line); /* 12 payloads at 2 Mbit/s: a mesh sends 3 at 1 */
  assert_non_null(strstr(test_output, "\"topology\": \"mesh\""));
  snprintf(line, sizeof line, "run.peers=4 exchange.relays=1 exchange.topology=relay %s --relay 2Mbit", rates);
  plan(line);
  assert_number("exchange_s", 12 * (payload + messages) / (2e6 / 8));
  snprintf(line, sizeof line, "run.peers=4 exchange.relays=1 exchange.topology=mesh %s", rates);
  plan(line);
  assert_number("exchange_s", 3 * (payload + messages) / (1e6 / 8));
}

static void a_measured_rate_is_used(void **state) {
  (void)state;
  plan("run.peers=2 --measure");
  const double rate = number("flops_per_rank_s");
  assert_true(rate > 0);
  assert_number("compute_s", number("flop_per_round") / rate);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(operations_are_those_of_the_formula),
      cmocka_unit_test(a_mesh_sends_a_payload_to_each),
      cmocka_unit_test(a_relay_takes_the_copies),
      cmocka_unit_test(a_measured_rate_is_used),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
