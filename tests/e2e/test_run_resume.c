/* covenant-test: timeout=600
 * A run that was broken off goes on from its checkpoints and ends in the bits of the undisturbed run: with any number
 * of sync ranks, and from an older checkpoint where the newest is damaged at one peer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "report/metrics.h"
#include "run.h"
#include "support.h"

static test_run run;
static char straight[65]; /* final hash of the undisturbed run */

static void launch(const char *name, const char *const *settings, const char *state) {
  test_run_start(&run, name, settings);
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), state);
}

static void check_end(void) {
  assert_string_equal(test_run_state(&run), "done");
  for (int peer = 0; peer < 4; peer++) assert_string_equal(test_run_final_hash(&run, peer), straight);
  assert_int_equal(
      test_run_tool(&run, "ledger verify @/peers/0/ledger @/peers/1/ledger @/peers/2/ledger @/peers/3/ledger"), 0);
}

/* Rounds of eval.csv: each once, in order, the last one included. */
static void check_evaluations(void) {
  char path[400];
  double value, before = -1;
  cov_csv csv;
  snprintf(path, sizeof path, "%s/eval.csv", run.dir);
  assert_ok(cov_csv_read(path, &csv));
  for (int64_t i = 0; i < csv.n_rows; i++, before = value) {
    assert_ok(cov_csv_number(&csv, i, cov_csv_column(&csv, "round"), &value));
    assert_true(value > before);
  }
  assert_int_equal((int64_t)before, 6);
  cov_csv_close(&csv);
}

/* The table has each of n rounds once, in order. */
static void check_table(const char *table, const char *column, int64_t n, int64_t step) {
  char path[400];
  double value;
  cov_csv csv;
  snprintf(path, sizeof path, "%s/%s", run.dir, table);
  assert_ok(cov_csv_read(path, &csv));
  assert_int_equal(csv.n_rows, n);
  for (int64_t i = 0; i < n; i++) {
    assert_ok(cov_csv_number(&csv, i, cov_csv_column(&csv, column), &value));
    assert_int_equal((int64_t)value, step * i);
  }
  cov_csv_close(&csv);
}

static const char *in_run(const char *name) {
  static char path[700];
  snprintf(path, sizeof path, "%s/%s", run.dir, name);
  return path;
}

static int log_says(const char *text) {
  char command[1200];
  snprintf(command, sizeof command, "cat '%s.log' '%s'/logs/*.log '%s/STATE' | grep -q -- '%s'", run.dir, run.dir,
           run.dir, text);
  return system(command) == 0;
}

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  launch("straight", NULL, "done");
  snprintf(straight, sizeof straight, "%s", test_run_final_hash(&run, 0));
  return 0;
}

/* `covenant report` has every peer's ledger in one history, and leaves out the time between the launches. */
static void check_report(void) {
  char *html;
  size_t bytes;
  assert_int_equal(test_run_tool(&run, "report @"), 0);
  assert_ok(cov_file_read(in_run("report.html"), 1 << 24, &html, &bytes));
  assert_non_null(strstr(html, "The signed ledgers of 4 of 4 peers tell one history of 6 rounds: chains and signatures "
                               "good."));
  assert_null(strstr(html, "class=\"bad\""));
  assert_non_null(strstr(html, "The run was started again at the dashed line: "));
  free(html);
}

static void three_and_three_rounds_are_six(void **state) {
  (void)state;
  launch("halves", (const char *const[]){"run.stop_after=3", NULL}, "stopped");
  check_table("metrics.csv", "round", 3, 1);
  assert_true(cov_file_exists(in_run("peers/3/checkpoints/000003/index.h5")));
  launch("halves", NULL, "done");
  check_end();
  check_table("metrics.csv", "round", 6, 1);
  check_evaluations();
  assert_true(log_says("going on after round 3"));
  assert_false(log_says("rounds that are done again"));
  check_report();
}

static void another_number_of_sync_ranks_goes_on(void **state) {
  (void)state;
  launch("ranks", (const char *const[]){"run.stop_after=2", "run.sync_ranks=3", NULL}, "stopped");
  launch("ranks", (const char *const[]){"run.stop_after=4", NULL}, "stopped");
  launch("ranks", (const char *const[]){"run.stop_after=4", NULL}, "stopped"); /* nothing to do */
  launch("ranks", (const char *const[]){"run.stop_after=3", NULL}, "stopped");
  assert_true(log_says("4 of 6 rounds are done, more than run.stop_after=3 asks for"));
  launch("ranks", (const char *const[]){"run.sync_ranks=2", NULL}, "done");
  check_end();
}

/* Checkpoints of rounds 2, 4 and 5; then something befalls one file of one of them at one peer. Each is the end of a
 * launch, which waits for it: in the middle of one a round is skipped while the one before is still being written. */
static void damage(const char *name, const char *command) {
  static const char *const stops[] = {"run.stop_after=2", "run.stop_after=4", "run.stop_after=5"};
  char line[900];
  for (int i = 0; i < 3; i++) launch(name, (const char *const[]){stops[i], NULL}, "stopped");
  snprintf(line, sizeof line, "cd '%s/peers' && %s", run.dir, command);
  assert_int_equal(system(line), 0);
  launch(name, (const char *const[]){"checkpoint.every_rounds=2", NULL}, "done");
  check_end();
  check_table("metrics.csv", "round", 6, 1);
}

static void an_older_checkpoint_is_taken_and_said(void **state) {
  (void)state;
  /* One flipped bit, near the end of the file: in the data of a tensor. */
  damage("flip", "f=1/checkpoints/000005/sync-0-of-1.h5 && n=$(($(stat -c %s $f) - 40)) && "
                 "b=$(od -An -tu1 -j$n -N1 $f) && printf \"\\\\$(printf %o $((b ^ 4)))\" | "
                 "dd of=$f bs=1 seek=$n conv=notrunc status=none");
  assert_int_equal(test_run_count(&run, "000005 cannot be used: "), 1);
  assert_int_equal(test_run_count(&run, "cannot be used"), 1);
  assert_int_equal(test_run_count(&run, "error: "), 0);
  assert_true(log_says("rounds that are done again: 1"));
  damage("cut", "truncate -s -1 2/checkpoints/000005/train-0-of-1.h5 && truncate -s 100 3/checkpoints/000004/SUMS");
  assert_true(log_says("rounds that are done again: 3"));
  damage("gone", "rm 0/checkpoints/000005/train-0-of-1.h5");
  assert_true(log_says("train-0-of-1.h5 is missing"));
  damage("half", "rm 0/checkpoints/000005/index.h5"); /* as if killed before the commit */
  assert_true(log_says("rounds that are done again: 1"));
  /* One that is not needed: nothing is said of what is taken instead of it. */
  damage("old", "truncate -s -1 1/checkpoints/000002/sync-0-of-1.h5");
  assert_int_equal(test_run_count(&run, "000002 cannot be used: "), 1);
  assert_int_equal(test_run_count(&run, "older"), 0);
  assert_int_equal(test_run_count(&run, "going on after round 5 "), 1);
  assert_int_equal(test_run_count(&run, "done again"), 0);
}

/* A resume that is refused: one rank says why, the last line is launch's, and nobody complains of who ended first. */
static void refuse(const char *name, const char *const *settings, const char *why) {
  test_run_start(&run, name, settings);
  assert_int_equal(test_run_wait(&run), 9);
  assert_string_equal(test_run_state(&run), "failed");
  assert_int_equal(test_run_count(&run, why), 2);
  assert_int_equal(test_run_count(&run, "error: "), 2);
  assert_int_equal(test_run_count(&run, "warn: "), 0);
  assert_int_equal(test_run_count(&run, "ERROR"), 0); /* of mpirun */
}

static void a_foreign_checkpoint_is_not_used(void **state) {
  (void)state;
  /* Peer 2's round 5 under other names: good hashes, wrong owner. */
  launch("foreign", (const char *const[]){"run.stop_after=5", "checkpoint.every_rounds=2", NULL}, "stopped");
  char line[900];
  snprintf(line, sizeof line,
           "cd '%s/peers' && for p in 1 3; do mv $p/checkpoints/000005 $p/good && cp -r 2/checkpoints/000005 "
           "$p/checkpoints; done",
           run.dir);
  assert_int_equal(system(line), 0);
  refuse("foreign", NULL, "peers/1/checkpoints/000005 is of peer 2");
  snprintf(line, sizeof line,
           "cd '%s/peers' && for p in 1 3; do rm -r $p/checkpoints/000005 && mv $p/good $p/checkpoints/000005; done",
           run.dir);
  assert_int_equal(system(line), 0);
  launch("foreign", NULL, "done"); /* the directory can still be used */
  check_end();
}

static void a_damaged_key_stops_the_resume(void **state) {
  (void)state;
  char line[900];
  launch("key", (const char *const[]){"run.stop_after=3", NULL}, "stopped");
  snprintf(line, sizeof line, "cd '%s/peers' && cp 2/key 2/good && echo x >2/key", run.dir);
  assert_int_equal(system(line), 0);
  test_run_start(&run, "key", NULL);
  assert_int_equal(test_run_wait(&run), 3);
  assert_int_equal(test_run_count(&run, "error: "), 2);
  assert_int_equal(test_run_count(&run, "peers/2/key has 2 bytes"), 2);
  snprintf(line, sizeof line, "cd '%s/peers' && mv 2/good 2/key", run.dir);
  assert_int_equal(system(line), 0);
  launch("key", NULL, "done");
  check_end();
}

static void the_first_rounds_are_done_again_without_a_checkpoint(void **state) {
  (void)state;
  char line[900];
  launch("none", (const char *const[]){"run.stop_after=3", NULL}, "stopped");
  snprintf(line, sizeof line, "rm -r '%s'/peers/*/checkpoints", run.dir);
  assert_int_equal(system(line), 0);
  launch("none", NULL, "done");
  check_end();
  check_table("metrics.csv", "round", 6, 1);
  assert_true(log_says("starting again from the initial parameters"));
}

static void a_peer_without_its_state_stops_the_resume(void **state) {
  (void)state;
  char line[900];
  launch("lost", (const char *const[]){"run.stop_after=5", "checkpoint.every_rounds=2", NULL}, "stopped");
  snprintf(line, sizeof line, "cd '%s/peers/2' && mv checkpoints away", run.dir);
  assert_int_equal(system(line), 0);
  refuse("lost", (const char *const[]){"checkpoint.every_rounds=2", NULL}, "peer 2: none");
  refuse("lost", (const char *const[]){"checkpoint.every_rounds=2", "run.sync_ranks=2", "run.eval_ranks=2", NULL},
         "peer 2: none");
  assert_true(cov_file_exists(in_run("peers/1/checkpoints/000005/index.h5"))); /* nothing was thrown away */
  snprintf(line, sizeof line, "cd '%s/peers/2' && mv away checkpoints", run.dir);
  assert_int_equal(system(line), 0);
  launch("lost", NULL, "done");
  check_end();
}

/* Its state has other arrays than AdamW's. */
static void muon_goes_on_too(void **state) {
  (void)state;
  char hash[65];
  cov_ckpt *ckpt;
  const char *const muon[] = {"train.optimizer=muon", "train.lr=0.002", NULL};
  launch("muon", muon, "done");
  snprintf(hash, sizeof hash, "%s", test_run_final_hash(&run, 0));
  assert_string_not_equal(hash, straight);
  launch("muon-halves", (const char *const[]){muon[0], muon[1], "run.stop_after=3", NULL}, "stopped");
  assert_ok(cov_ckpt_open(in_run("peers/1/checkpoints/000003"), COV_CKPT_FULL, &ckpt));
  assert_true(cov_ckpt_has(ckpt, "muon.m", "layers.0.attention.wq.weight"));
  assert_true(cov_ckpt_has(ckpt, "adamw.v", "tok_embeddings.weight"));
  assert_false(cov_ckpt_has(ckpt, "adamw.m", "layers.0.attention.wq.weight"));
  cov_ckpt_close(&ckpt);
  launch("muon-halves", muon, "done");
  for (int peer = 0; peer < 4; peer++) assert_string_equal(test_run_final_hash(&run, peer), hash);
  test_run_start(&run, "straight", muon); /* another optimiser is another run */
  assert_int_not_equal(test_run_wait(&run), 0);
}

/* How many are kept exactly is the business of cov_ckpt_prune. A run also keeps the newest that all peers have, and
 * multiples of keep_every, and skips one while the one before is being written. */
static void old_checkpoints_are_removed(void **state) {
  (void)state;
  static const char *const stops[] = {"run.stop_after=5", "run.stop_after=10", "run.stop_after=12"};
  for (int i = 0; i < 3; i++) { /* the end of a launch waits for its checkpoint */
    launch("keep",
           (const char *const[]){"checkpoint.every_rounds=1", "checkpoint.keep=1", "checkpoint.keep_every=5",
                                 "run.rounds=12", stops[i], NULL},
           i < 2 ? "stopped" : "done");
  }
  for (int peer = 0; peer < 4; peer++) {
    char name[80];
    cov_ckpt_entry *entries;
    int n;
    snprintf(name, sizeof name, "peers/%d/checkpoints", peer);
    assert_ok(cov_ckpt_list(in_run(name), &entries, &n));
    assert_in_range(n, 3, 4);
    assert_int_equal(entries[0].round, 12);
    assert_true(entries[0].complete);
    assert_int_equal(entries[n - 2].round, 10);
    assert_true(entries[n - 2].complete);
    assert_int_equal(entries[n - 1].round, 5);
    assert_true(entries[n - 1].complete);
    free(entries);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(three_and_three_rounds_are_six),
      cmocka_unit_test(another_number_of_sync_ranks_goes_on),
      cmocka_unit_test(an_older_checkpoint_is_taken_and_said),
      cmocka_unit_test(a_foreign_checkpoint_is_not_used),
      cmocka_unit_test(a_damaged_key_stops_the_resume),
      cmocka_unit_test(the_first_rounds_are_done_again_without_a_checkpoint),
      cmocka_unit_test(a_peer_without_its_state_stops_the_resume),
      cmocka_unit_test(muon_goes_on_too),
      cmocka_unit_test(old_checkpoints_are_removed),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
