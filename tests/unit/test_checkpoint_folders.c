/* covenant-test: timeout=60
 * The checkpoints of one peer as folders: names, listing, what is kept and what is removed. Empty files stand for
 * content: nothing here looks into them. */
#include "checkpoint_fixture.h"

static char parent[512];

static const char *folder_of(int64_t round) {
  static char folders[4][COV_CKPT_PATH_BYTES];
  static int next;
  char *folder = folders[next++ % 4];
  assert_ok(cov_ckpt_folder(parent, round, folder, COV_CKPT_PATH_BYTES));
  return folder;
}

static void make(int64_t round, bool complete) {
  const char *folder = folder_of(round);
  assert_ok(cov_dir_make(folder));
  assert_ok(cov_file_write(toy_path(folder, "sync-0-of-1.h5"), "", 0));
  if (complete) assert_ok(cov_file_write(toy_path(folder, "index.h5"), "", 0));
}

static void start(void) {
  snprintf(parent, sizeof parent, "%s", toy_parent());
}

/* "5+ 4- 3+": rounds newest first, + complete. */
static void assert_listed(const char *want) {
  char got[256] = "";
  cov_ckpt_entry *entries;
  int n;
  assert_ok(cov_ckpt_list(parent, &entries, &n));
  for (int i = 0; i < n; i++) {
    size_t used = strlen(got);
    snprintf(got + used, sizeof got - used, "%s%lld%c", i ? " " : "", (long long)entries[i].round,
             entries[i].complete ? '+' : '-');
    assert_string_equal(entries[i].folder, folder_of(entries[i].round));
  }
  free(entries);
  assert_string_equal(got, want);
}

static void rounds_are_listed_newest_first(void **state) {
  (void)state;
  start();
  assert_listed("");
  make(9, true);
  make(10, false);
  make(0, true);
  make(1234567, true);
  /* Not ours: other names, other spellings of a round, files. */
  static const char *const others[] = {"12", "0000012", "000012.old", "-00012", "lost+found", " 00012", "+00012"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) assert_ok(cov_dir_make(toy_path(parent, others[i])));
  assert_listed("1234567+ 10- 9+ 0+");
  snprintf(parent, sizeof parent, "%s/absent", toy_parent());
  assert_listed("");
}

static void a_parent_that_is_no_folder_is_an_error(void **state) {
  (void)state;
  cov_ckpt_entry *entries;
  int n;
  start();
  assert_ok(cov_file_write(toy_path(parent, "file"), "", 0));
  assert_status(cov_ckpt_list(toy_path(parent, "file"), &entries, &n), COV_EIO);
  char small[8];
  assert_status(cov_ckpt_folder("a/parent", 1, small, sizeof small), COV_EUSAGE);
}

static void prune(int64_t keep, int64_t keep_every, int64_t protect, int want_removed) {
  int removed;
  assert_ok(cov_ckpt_prune(parent, keep, keep_every, protect, &removed));
  assert_int_equal(removed, want_removed);
}

static void prune_keeps_what_the_rules_say(void **state) {
  (void)state;
  start();
  for (int64_t r = 1; r <= 10; r++) make(r, true);
  prune(20, 0, -1, 0);
  prune(6, 4, 2, 2); /* newest 6: 5..10; multiple of 4: 4; protected: 2 */
  assert_listed("10+ 9+ 8+ 7+ 6+ 5+ 4+ 2+");
  prune(6, 4, 2, 0);
  prune(1, 0, -1, 7);
  assert_listed("10+");
  prune(1, 0, -1, 0);
}

static void prune_counts_only_complete_ones(void **state) {
  (void)state;
  start();
  for (int64_t r = 1; r <= 6; r++) make(r, r % 2 == 1); /* 1 3 5 complete */
  make(7, false);
  prune(2, 0, -1, 3); /* stay: 5 3, and 6 7, which may be being written; 1 is too old, 2 4 are leftovers */
  assert_listed("7- 6- 5+ 3+");
}

static void prune_leaves_all_where_nothing_is_complete(void **state) {
  (void)state;
  start();
  make(1, false);
  make(2, false);
  prune(1, 0, -1, 0);
  assert_listed("2- 1-");
}

/* An incomplete one is not kept for its round. */
static void prune_removes_leftovers_whatever_their_round(void **state) {
  (void)state;
  start();
  make(4, false);
  make(5, true);
  prune(3, 4, -1, 1);
  assert_listed("5+");
}

static void remove_takes_the_folder(void **state) {
  (void)state;
  start();
  make(3, true);
  assert_ok(cov_file_write(toy_path(folder_of(3), "train-0-of-1.h5.tmp"), "x", 1));
  assert_ok(cov_ckpt_remove(folder_of(3)));
  assert_int_equal(toy_entries(parent), 0);
  assert_ok(cov_ckpt_remove(folder_of(3)));
}

/* Something in it that is not ours stops the removal; the folder is no checkpoint any more. */
static void a_removal_that_stops_leaves_no_checkpoint(void **state) {
  (void)state;
  start();
  make(3, true);
  assert_ok(cov_dir_make(toy_path(folder_of(3), "notes")));
  assert_status(cov_ckpt_remove(folder_of(3)), COV_EIO);
  assert_non_null(strstr(cov_error_text(), "notes"));
  assert_listed("3-");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rounds_are_listed_newest_first),
      cmocka_unit_test(a_parent_that_is_no_folder_is_an_error),
      cmocka_unit_test(prune_keeps_what_the_rules_say),
      cmocka_unit_test(prune_counts_only_complete_ones),
      cmocka_unit_test(prune_leaves_all_where_nothing_is_complete),
      cmocka_unit_test(prune_removes_leftovers_whatever_their_round),
      cmocka_unit_test(remove_takes_the_folder),
      cmocka_unit_test(a_removal_that_stops_leaves_no_checkpoint),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
