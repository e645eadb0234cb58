/* covenant-test: timeout=300
 * Whole runs through `covenant launch`: every peer ends in the same bits, and those bits do not depend on how many
 * sync ranks share a peer's outer work. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"
#include "support.h"

static test_run run;

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  return 0;
}

static void check_run(const char *name, const char *const *settings, char hash[65]) {
  test_run_start(&run, name, settings);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  snprintf(hash, 65, "%s", test_run_final_hash(&run, 0));
  for (int peer = 1; peer < 4; peer++) assert_string_equal(test_run_final_hash(&run, peer), hash);
  assert_int_equal(
      test_run_tool(&run, "ledger verify @/peers/0/ledger @/peers/1/ledger @/peers/2/ledger @/peers/3/ledger"), 0);
  assert_int_equal(test_run_tool(&run, "summary @"), 0);
}

static void bits_do_not_depend_on_the_sync_ranks(void **state) {
  (void)state;
  char one[65], two[65], four[65];
  check_run("s1", (const char *const[]){NULL}, one);
  check_run("s2", (const char *const[]){"run.sync_ranks=2", NULL}, two);
  check_run("s4", (const char *const[]){"run.sync_ranks=4", NULL}, four);
  assert_string_equal(one, two);
  assert_string_equal(one, four);
}

/* How indices are coded changes the bytes that travel, and not one bit of what they say. */
static void bits_do_not_depend_on_the_index_coder(void **state) {
  (void)state;
  char rice[65], split[65];
  check_run("rice", (const char *const[]){"sync.index_coder=rice", "run.rounds=3", "run.eval_ranks=0", NULL}, rice);
  double rice_bytes = test_run_metric(&run, -1, "payload_bytes");
  check_run("split", (const char *const[]){"sync.index_coder=split", "run.rounds=3", "run.eval_ranks=0", NULL}, split);
  assert_true(test_run_metric(&run, -1, "payload_bytes") != rice_bytes);
  assert_string_equal(split, rice);
}

/* The ranks of one program of all peers as mpirun contexts. */
static size_t contexts(char *line, size_t size, const char *program) {
  size_t n = 0;
  for (int peer = 0; peer < 2; peer++) {
    n += (size_t)snprintf(line + n, size - n,
                          "%s -np 1 '%s/covenant-%s' -c '%s' run.dir='%s' run.peers=2 run.eval_ranks=0 "
                          "--peer %d --shard 0",
                          peer ? " :" : "", getenv("COVENANT_BIN"), program, run.config, run.dir, peer);
  }
  return n;
}

static void train_and_sync_may_be_two_jobs(void **state) {
  (void)state;
  char train[4096], sync[4096], command[9000];
  snprintf(run.dir, sizeof run.dir, "%.200s/two-jobs", run.folder);
  contexts(train, sizeof train, "train");
  contexts(sync, sizeof sync, "sync");
  snprintf(command, sizeof command,
           "{ mpirun --enable-recovery --bind-to none --oversubscribe %s & mpirun --enable-recovery --bind-to none "
           "--oversubscribe %s; wait; } >'%s/two-jobs.log' 2>&1 </dev/null",
           train, sync, run.folder);
  assert_int_equal(system(command), 0);
  assert_string_equal(test_run_state(&run), "done");
  assert_string_equal(test_run_final_hash(&run, 0), test_run_final_hash(&run, 1));
}

static void another_seed_gives_other_bits(void **state) {
  (void)state;
  char one[65], other[65];
  check_run("seed-a", (const char *const[]){"run.rounds=2", "run.eval_ranks=0", NULL}, one);
  check_run("seed-b", (const char *const[]){"run.rounds=2", "run.eval_ranks=0", "run.seed=43", NULL}, other);
  assert_string_not_equal(one, other);
}

static void the_reference_quantiser_runs_too(void **state) {
  (void)state;
  char hash[65];
  check_run("reference",
            (const char *const[]){"sync.quantizer=reference", "sync.aggregate=paper", "run.rounds=3", NULL}, hash);
}

static void a_finished_run_is_left_alone(void **state) {
  (void)state;
  char hash[65];
  snprintf(run.dir, sizeof run.dir, "%.200s/s1", run.folder);
  snprintf(hash, sizeof hash, "%s", test_run_final_hash(&run, 0));
  test_run_start(&run, "s1", NULL);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_final_hash(&run, 0), hash);
  test_run_start(&run, "s1", (const char *const[]){"run.resume=never", NULL});
  assert_int_equal(test_run_wait(&run), 2);
  test_run_start(&run, "s1", (const char *const[]){"sync.topk=2", NULL});
  assert_int_equal(test_run_wait(&run), 9);
  assert_string_equal(test_run_state(&run), "done");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bits_do_not_depend_on_the_sync_ranks), cmocka_unit_test(bits_do_not_depend_on_the_index_coder),
      cmocka_unit_test(train_and_sync_may_be_two_jobs),       cmocka_unit_test(another_seed_gives_other_bits),
      cmocka_unit_test(the_reference_quantiser_runs_too),     cmocka_unit_test(a_finished_run_is_left_alone),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
