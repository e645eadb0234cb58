/* covenant-test: timeout=120
 * Checkpoints written beside the work: one job at a time, the commit waits for the files of other processes, and a
 * failure is a result like another, after which the next job can begin. */
#include <math.h>
#include <pthread.h>

#include "base/clock.h"
#include "checkpoint/saver.h"
#include "checkpoint_fixture.h"

enum { SYNC_GROUPS = 3, PIECES = SYNC_GROUPS * TOY_TENSORS };

static const double patience_s = 60;
static const char sync_file[] = "sync-0-of-1.h5", train_file[] = "train-0-of-1.h5";
static const char files[2][COV_CKPT_NAME_BYTES] = {"sync-0-of-1.h5", "train-0-of-1.h5"};

static float values[SYNC_GROUPS][TOY_TENSORS][TOY_MAX_ELEMS];
static cov_ckpt_piece pieces[PIECES];

/* The sync rank's part, with the values of `seed`. */
static void fill_pieces(uint64_t seed) {
  for (int g = 0; g < SYNC_GROUPS; g++) {
    for (int t = 0; t < TOY_TENSORS; t++) {
      int64_t n = toy[t].shape[0] * toy_cols(t);
      for (int64_t i = 0; i < n; i++) values[g][t][i] = toy_value(seed, g, t, i);
      pieces[g * TOY_TENSORS + t] = toy_piece(g, t, 0, toy[t].shape[0], values[g][t]);
    }
  }
}

static cov_saver_job job_of(const char *folder, int64_t round, const cov_saver_commit *commit) {
  return (cov_saver_job){
      .folder = folder, .file = sync_file, .round = round, .pieces = pieces, .n_pieces = PIECES, .commit = commit};
}

/* What other processes report: `why` is NULL as long as none has failed. Called by the saver's thread. */
typedef struct {
  pthread_mutex_t lock;
  const char *why;
} others;

static bool other_failed(void *arg, int64_t round, char why[COV_SAVER_WHY_BYTES]) {
  others *o = arg;
  (void)round;
  pthread_mutex_lock(&o->lock);
  bool failed = o->why != NULL;
  snprintf(why, COV_SAVER_WHY_BYTES, "%s", failed ? o->why : "");
  pthread_mutex_unlock(&o->lock);
  return failed;
}

static others quiet = {.lock = PTHREAD_MUTEX_INITIALIZER};

static cov_saver_commit commit_of(const char *parent, int64_t round, double timeout_s, others *o) {
  return (cov_saver_commit){.meta = toy_meta(round),
                            .files = files,
                            .n_files = 2,
                            .timeout_s = timeout_s,
                            .failed = other_failed,
                            .arg = o,
                            .parent = parent,
                            .keep = 1,
                            .protect = -1};
}

static cov_saver_result wait_for_result(cov_saver *s) {
  cov_saver_result r;
  double deadline = cov_clock_s() + patience_s;
  while (!cov_saver_result_take(s, &r)) {
    if (cov_clock_s() > deadline) fail_msg("no result within %g s", patience_s);
    cov_sleep_s(0.001);
  }
  return r;
}

/* The train rank's file, as another process would put it there: by rename. HDF5 is the saver's meanwhile, so it was
 * written before, into `staging`. */
static void stage_train_file(const char *staging, uint64_t seed) {
  int64_t bytes;
  assert_ok(toy_write_file(staging, train_file, seed, 3, 5, 0, 1, &bytes));
}

static void appear(const char *staging, const char *folder) {
  assert_int_equal(rename(toy_path(staging, train_file), toy_path(folder, train_file)), 0);
}

static const char *folder_of(const char *parent, int64_t round) {
  static char folder[COV_CKPT_PATH_BYTES];
  assert_ok(cov_ckpt_folder(parent, round, folder, sizeof folder));
  return folder;
}

static void a_part_is_written_and_told_once(void **state) {
  (void)state;
  cov_saver *s;
  cov_saver_result r;
  const char *folder = folder_of(toy_parent(), 4);
  fill_pieces(1);
  assert_ok(cov_saver_create(&s));
  assert_false(cov_saver_busy(s));
  assert_true(cov_saver_written(s, 0)); /* nothing needs the pieces */
  assert_false(cov_saver_result_take(s, &r));
  cov_saver_job job = job_of(folder, 4, NULL);
  assert_ok(cov_saver_start(s, &job));
  assert_true(cov_saver_busy(s));
  assert_status(cov_saver_start(s, &job), COV_EUSAGE); /* running, or its result was not fetched */
  assert_true(cov_saver_written(s, patience_s));
  fill_pieces(99); /* the owner may change them: the file has what they were */
  r = wait_for_result(s);
  assert_ok(r.status);
  assert_int_equal(r.round, 4);
  assert_false(r.committed);
  assert_int_equal(r.bytes, (int64_t)toy_size(toy_path(folder, sync_file)));
  assert_true(r.write_s >= 0);
  assert_false(cov_saver_result_take(s, &r));
  assert_false(cov_saver_busy(s));
  assert_false(cov_file_exists(toy_path(folder, "index.h5"))); /* nobody has committed */
  cov_saver_destroy(&s, patience_s);
  assert_null(s);
  char names[2][COV_CKPT_NAME_BYTES];
  snprintf(names[0], sizeof names[0], "%s", sync_file);
  snprintf(names[1], sizeof names[1], "%s", train_file);
  stage_train_file(folder, 1);
  assert_ok(toy_commit(folder, 4, names, 2));
  toy_assert_holds(folder, 1);
}

static void the_commit_waits_for_the_other_files(void **state) {
  (void)state;
  cov_saver *s;
  cov_saver_result r;
  const char *parent = toy_parent(), *staging = toy_parent(), *folder = folder_of(parent, 4);
  stage_train_file(staging, 7);
  fill_pieces(7);
  cov_saver_commit commit = commit_of(parent, 4, patience_s, &quiet);
  cov_saver_job job = job_of(folder, 4, &commit);
  assert_ok(cov_saver_create(&s));
  assert_ok(cov_saver_start(s, &job));
  assert_true(cov_saver_written(s, patience_s));
  for (int i = 0; i < 20; i++) { /* the thread looks every 20 ms; there is nothing to commit */
    cov_sleep_s(0.005);
    assert_false(cov_saver_result_take(s, &r));
    assert_false(cov_file_exists(toy_path(folder, "index.h5")));
  }
  appear(staging, folder);
  r = wait_for_result(s);
  assert_ok(r.status);
  assert_true(r.committed);
  assert_int_equal(r.removed, 0);
  toy_assert_holds(folder, 7);
  cov_ckpt *c;
  assert_ok(cov_ckpt_open(folder, COV_CKPT_QUICK, &c));
  assert_int_equal(r.bytes, cov_ckpt_bytes(c));
  cov_ckpt_close(&c);
  cov_saver_destroy(&s, patience_s);
}

static void old_checkpoints_go_with_the_commit(void **state) {
  (void)state;
  const toy_plan plan = {.seed = 1, .sync = 1, .train = 1};
  char folder[COV_CKPT_PATH_BYTES];
  cov_saver *s;
  const char *parent = toy_parent(), *staging = toy_parent();
  for (int64_t round = 1; round <= 3; round++) toy_write(parent, round, &plan, folder);
  stage_train_file(staging, 2);
  fill_pieces(2);
  cov_saver_commit commit = commit_of(parent, 4, patience_s, &quiet);
  commit.protect = 2; /* all peers have it */
  cov_saver_job job = job_of(folder_of(parent, 4), 4, &commit);
  assert_ok(cov_dir_make(folder_of(parent, 4)));
  appear(staging, folder_of(parent, 4));
  assert_ok(cov_saver_create(&s));
  assert_ok(cov_saver_start(s, &job));
  cov_saver_result r = wait_for_result(s);
  assert_ok(r.status);
  assert_int_equal(r.removed, 2);
  assert_int_equal(toy_entries(parent), 2);
  toy_assert_holds(folder_of(parent, 2), 1);
  toy_assert_holds(folder_of(parent, 4), 2);
  cov_saver_destroy(&s, patience_s);
}

static void anothers_failure_is_repeated_and_leaves_nothing(void **state) {
  (void)state;
  cov_saver *s;
  others failing = {.lock = PTHREAD_MUTEX_INITIALIZER};
  const char *parent = toy_parent(), *folder = folder_of(parent, 4);
  fill_pieces(1);
  cov_saver_commit commit = commit_of(parent, 4, patience_s, &failing);
  cov_saver_job job = job_of(folder, 4, &commit);
  assert_ok(cov_saver_create(&s));
  assert_ok(cov_saver_start(s, &job));
  assert_true(cov_saver_written(s, patience_s));
  pthread_mutex_lock(&failing.lock);
  failing.why = "train's disk is full";
  pthread_mutex_unlock(&failing.lock);
  cov_saver_result r = wait_for_result(s);
  assert_int_equal(r.status, COV_ECOMM);
  assert_string_equal(r.error, "train's disk is full");
  assert_false(r.committed);
  assert_int_equal(toy_entries(folder), -1); /* its room is needed by the next */
  failing.why = "";                          /* no reason is known */
  assert_ok(cov_saver_start(s, &job));
  r = wait_for_result(s);
  assert_int_equal(r.status, COV_ECOMM);
  assert_non_null(strstr(r.error, "another process of this peer could not write its part"));
  cov_saver_destroy(&s, patience_s);
}

static void a_file_that_never_comes_is_not_waited_for(void **state) {
  (void)state;
  cov_saver *s;
  const char *parent = toy_parent(), *folder = folder_of(parent, 4);
  fill_pieces(1);
  cov_saver_commit commit = commit_of(parent, 4, 0.05, &quiet);
  cov_saver_job job = job_of(folder, 4, &commit);
  assert_ok(cov_saver_create(&s));
  assert_ok(cov_saver_start(s, &job));
  cov_saver_result r = wait_for_result(s);
  assert_int_equal(r.status, COV_ECOMM);
  assert_non_null(strstr(r.error, "train-0-of-1.h5 did not appear within checkpoint.timeout (0.05 s)"));
  assert_int_equal(toy_entries(folder), -1);
  cov_saver_destroy(&s, patience_s);
}

static void a_write_that_fails_is_a_result_and_the_next_may_begin(void **state) {
  (void)state;
  cov_saver *s;
  const char *parent = toy_parent(), *staging = toy_parent(), *folder = folder_of(parent, 4);
  assert_ok(cov_file_write(folder, "a file", 6)); /* where the folder should be */
  stage_train_file(staging, 3);
  fill_pieces(3);
  cov_saver_commit commit = commit_of(parent, 4, patience_s, &quiet);
  cov_saver_job job = job_of(folder, 4, &commit);
  assert_ok(cov_saver_create(&s));
  assert_ok(cov_saver_start(s, &job));
  assert_true(cov_saver_written(s, patience_s)); /* a failed job does not hold its pieces */
  cov_saver_result r = wait_for_result(s);
  assert_int_equal(r.status, COV_EIO);
  assert_non_null(strstr(r.error, "000004"));
  assert_false(r.committed);
  (void)unlink(folder);
  assert_ok(cov_dir_make(folder));
  appear(staging, folder);
  assert_ok(cov_saver_start(s, &job));
  r = wait_for_result(s);
  assert_ok(r.status);
  assert_true(r.committed);
  assert_string_equal(r.error, "");
  toy_assert_holds(folder, 3);
  cov_saver_destroy(&s, patience_s);
}

static void the_end_does_not_wait_for_others(void **state) {
  (void)state;
  cov_saver *s;
  const char *parent = toy_parent(), *folder = folder_of(parent, 4);
  fill_pieces(1);
  cov_saver_commit commit = commit_of(parent, 4, 1e6, &quiet); /* it would wait for days */
  cov_saver_job job = job_of(folder, 4, &commit);
  assert_ok(cov_saver_create(&s));
  assert_ok(cov_saver_start(s, &job));
  cov_saver_destroy(&s, patience_s);
  assert_null(s);
  assert_int_equal(toy_entries(folder), -1);
  cov_saver_destroy(&s, patience_s); /* NULL is fine */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_part_is_written_and_told_once),
      cmocka_unit_test(the_commit_waits_for_the_other_files),
      cmocka_unit_test(old_checkpoints_go_with_the_commit),
      cmocka_unit_test(anothers_failure_is_repeated_and_leaves_nothing),
      cmocka_unit_test(a_file_that_never_comes_is_not_waited_for),
      cmocka_unit_test(a_write_that_fails_is_a_result_and_the_next_may_begin),
      cmocka_unit_test(the_end_does_not_wait_for_others),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
