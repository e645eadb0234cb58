/* covenant-test: timeout=300
 * Whole runs with the strategies that SparseLoCo is compared with: all peers end in the same bits, other ones than
 * SparseLoCo's; momentum survives a resume with another number of sync ranks. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "run.h"
#include "support.h"

static test_run run;

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  return 0;
}

static void launch(const char *name, const char *const *settings, const char *state) {
  test_run_start(&run, name, settings);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), state);
}

static void final_hash(char hash[65]) {
  snprintf(hash, 65, "%s", test_run_final_hash(&run, 0));
  for (int peer = 1; peer < 4; peer++) assert_string_equal(test_run_final_hash(&run, peer), hash);
}

static void each_strategy_ends_in_bits_of_its_own(void **state) {
  (void)state;
  static const char *const strategy[] = {"sparseloco", "dense", "diloco", "int8", "demo"};
  char hash[5][65], setting[64];
  for (int i = 0; i < 5; i++) {
    snprintf(setting, sizeof setting, "sync.strategy=%s", strategy[i]);
    launch(strategy[i], (const char *const[]){setting, "run.eval_ranks=0", NULL}, "done");
    final_hash(hash[i]);
    for (int j = 0; j < i; j++) assert_string_not_equal(hash[i], hash[j]);
  }
}

/* The page's comparison is one peer of four ranks with the batch of four peers, whatever its base says. It averages its
 * own parameters, so one rank that takes the whole batch has the same losses up to the order of its sums. */
static void data_parallel_adamw_is_one_peer(void **state) {
  (void)state;
  const char *file = test_source("configs/sweeps/baselines/adamw.yaml");
  double loss[6];
  char log[400];
  launch("adamw", (const char *const[]){"-c", file, "run.eval_ranks=0", NULL}, "done");
  assert_int_equal((int)test_run_metric(&run, -1, "peers_in"), 1);
  assert_int_equal((int)test_run_metric(&run, -1, "tokens"),
                   6 * 4 * 16 * 31); /* rounds, steps, sequences, predictions */
  snprintf(log, sizeof log, "%s/logs/peer-0-train-3.log", run.dir);
  assert_true(cov_file_exists(log));
  for (int r = 0; r < 6; r++) loss[r] = test_run_metric(&run, r, "loss");
  assert_true(loss[5] < loss[0] - 0.1);
  launch("one-rank", (const char *const[]){"-c", file, "run.ranks_per_peer=1", "run.eval_ranks=0", NULL}, "done");
  for (int r = 0; r < 6; r++) assert_true(fabs(test_run_metric(&run, r, "loss") - loss[r]) < 1e-3);
}

static void momentum_survives_a_resume(void **state) {
  (void)state;
  char straight[65], resumed[65];
  launch("straight", (const char *const[]){"sync.strategy=diloco", NULL}, "done");
  final_hash(straight);
  launch("halves", (const char *const[]){"sync.strategy=diloco", "run.stop_after=3", "run.sync_ranks=2", NULL},
         "stopped");
  launch("halves", (const char *const[]){"sync.strategy=diloco", "run.sync_ranks=3", NULL}, "done");
  final_hash(resumed);
  assert_string_equal(resumed, straight);
}

/* DeMo as its authors have it: no inner optimiser, one step a round, the sign of the aggregate. Its error feedback is
 * in coefficients, and plain SGD has no state: both go through checkpoints. */
static void demo_without_inner_steps_survives_a_resume(void **state) {
  (void)state;
#define DEMO                                                                                                       \
  "sync.strategy=demo", "sync.demo_sign=true", "sync.inner_steps=1", "sync.outer_lr=0.003", "train.optimizer=sgd", \
      "train.lr=1", "run.eval_ranks=0"
  char straight[65], resumed[65];
  launch("demo-straight", (const char *const[]){DEMO, NULL}, "done");
  final_hash(straight);
  launch("demo-halves", (const char *const[]){DEMO, "run.stop_after=3", "run.sync_ranks=2", NULL}, "stopped");
  launch("demo-halves", (const char *const[]){DEMO, "run.sync_ranks=3", NULL}, "done");
  final_hash(resumed);
  assert_string_equal(resumed, straight);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_strategy_ends_in_bits_of_its_own),
      cmocka_unit_test(data_parallel_adamw_is_one_peer),
      cmocka_unit_test(momentum_survives_a_resume),
      cmocka_unit_test(demo_without_inner_steps_survives_a_resume),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
