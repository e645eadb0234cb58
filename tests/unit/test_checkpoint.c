/* covenant-test: timeout=120
 * Checkpoints that are whole: what any number of writers wrote is what any reader gets, by tensor and row, wherever the
 * folder lies; HDF5 alone finds the model by tensor name; what cannot be one is refused when it is written or asked. */
#include <hdf5.h>

#include "checkpoint_fixture.h"

static void any_writers_give_the_same_state(void **state) {
  (void)state;
  static const toy_plan plans[] = {{1, 1, 1}, {1, 2, 1}, {1, 3, 2}, {1, 5, 8}};
  for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
    char folder[COV_CKPT_PATH_BYTES];
    toy_write(toy_parent(), (int64_t)i, &plans[i], folder);
    toy_assert_holds(folder, 1);
    assert_int_equal(toy_entries(folder), plans[i].sync + plans[i].train + 2); /* SUMS and index.h5, no .tmp left */
  }
}

/* All pairs of first and count of every tensor, from a file split so that ranges cross writers. */
static void any_range_of_rows_is_read(void **state) {
  (void)state;
  const toy_plan plan = {2, 3, 2};
  char folder[COV_CKPT_PATH_BYTES];
  cov_ckpt *c;
  toy_write(toy_parent(), 7, &plan, folder);
  assert_ok(cov_ckpt_open(folder, COV_CKPT_QUICK, &c));
  for (int g = 0; g < TOY_GROUPS; g += 2) {
    for (int t = 0; t < TOY_TENSORS; t++) {
      int64_t rows = toy[t].shape[0], cols = toy_cols(t);
      float *got = test_fenced((size_t)(rows * cols) * sizeof *got);
      for (int64_t first = 0; first <= rows; first++) {
        for (int64_t count = 0; first + count <= rows; count += 1 + count / 3) {
          cov_ckpt_piece want = toy_piece(g, t, first, count, NULL);
          assert_ok(cov_ckpt_read(c, &want, got));
          for (int64_t i = 0; i < count * cols; i++) {
            if (got[i] != toy_value(2, g, t, first * cols + i)) fail_msg("%s row %d", toy[t].name, (int)first);
          }
        }
      }
      assert_false(test_fence_broken(got));
      test_fenced_free(got);
    }
  }
  cov_ckpt_close(&c);
}

static void the_description_comes_back(void **state) {
  (void)state;
  const toy_plan plan = {1, 2, 1};
  const cov_ckpt_meta want = toy_meta(12);
  char folder[COV_CKPT_PATH_BYTES];
  int64_t bytes = 0;
  cov_ckpt *c;
  toy_write(toy_parent(), 12, &plan, folder);
  assert_string_equal(strrchr(folder, '/'), "/000012");
  assert_ok(cov_ckpt_open(folder, COV_CKPT_FULL, &c));
  const cov_ckpt_meta *got = cov_ckpt_meta_of(c);
  assert_int_equal(got->round, want.round);
  assert_int_equal(got->step, want.step);
  assert_int_equal(got->tokens, want.tokens);
  assert_int_equal(got->peer, want.peer);
  assert_int_equal(got->written_unix_s, want.written_unix_s);
  assert_true(got->seed == want.seed);
  assert_memory_equal(got->run_id, want.run_id, sizeof want.run_id);
  assert_memory_equal(got->config_digest, want.config_digest, 32);
  assert_memory_equal(got->params_digest, want.params_digest, 32);
  assert_memory_equal(got->state_hash, want.state_hash, 32);
  assert_memory_equal(got->ledger_hash, want.ledger_hash, 32);
  assert_string_equal(got->config, want.config);
  static const char *const files[] = {"sync-0-of-2.h5", "sync-1-of-2.h5", "train-0-of-1.h5", "index.h5"};
  for (int i = 0; i < 4; i++) bytes += (int64_t)toy_size(toy_path(folder, files[i]));
  assert_int_equal(cov_ckpt_bytes(c), bytes);
  for (int i = 0; i < cov_ckpt_count(c); i++) { /* by group, then as written */
    const cov_ckpt_tensor *t = cov_ckpt_at(c, i);
    assert_string_equal(t->group, toy_group[i / TOY_TENSORS]);
    assert_true(cov_ckpt_has(c, t->group, t->name));
    assert_int_equal(t->dims, toy[i % TOY_TENSORS].dims);
    assert_int_equal(t->shape[0], toy[i % TOY_TENSORS].shape[0]);
  }
  assert_false(cov_ckpt_has(c, "theta", "two_rows"));
  cov_ckpt_close(&c);
}

static void reading_checks_what_is_asked(void **state) {
  (void)state;
  const toy_plan plan = {1, 1, 1};
  char folder[COV_CKPT_PATH_BYTES];
  float got[TOY_MAX_ELEMS];
  cov_ckpt *c;
  toy_write(toy_parent(), 1, &plan, folder);
  assert_ok(cov_ckpt_open(folder, COV_CKPT_QUICK, &c));
  cov_ckpt_piece p = toy_piece(0, 0, 0, 1, NULL);
  p.shape[1] = 9;
  assert_status(cov_ckpt_read(c, &p, got), COV_EMISMATCH);
  assert_non_null(strstr(cov_error_text(), "[37, 8]"));
  assert_non_null(strstr(cov_error_text(), "[37, 9]"));
  p = toy_piece(0, 2, 0, 1, NULL);
  p.dims = 2;
  p.shape[1] = 1;
  assert_status(cov_ckpt_read(c, &p, got), COV_EMISMATCH);
  p = toy_piece(0, 0, 0, 1, NULL);
  p.name = "embed.weigh";
  assert_status(cov_ckpt_read(c, &p, got), COV_EDATA);
  p = toy_piece(0, 0, 0, 1, NULL);
  p.group = "thetas";
  assert_true(cov_ckpt_read(c, &p, got) != COV_OK);
  static const int64_t ranges[][2] = {{0, 38}, {37, 1}, {-1, 2}, {3, -1}, {INT64_MAX, 2}, {2, INT64_MAX}};
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
    p = toy_piece(0, 0, ranges[i][0], ranges[i][1], NULL);
    assert_status(cov_ckpt_read(c, &p, got), COV_EUSAGE);
  }
  cov_ckpt_close(&c);
  cov_ckpt_close(&c);
}

/* As a script with h5py would: the tensor's own name, from a folder that was moved, from any working directory. */
static void hdf5_alone_opens_the_model_by_tensor_name(void **state) {
  (void)state;
  const toy_plan plan = {3, 3, 2};
  char folder[COV_CKPT_PATH_BYTES], moved[COV_CKPT_PATH_BYTES], before[COV_CKPT_PATH_BYTES];
  float got[16][24];
  const char *parent = toy_parent();
  toy_write(parent, 4, &plan, folder);
  assert_ok(cov_path(moved, sizeof moved, "%s/elsewhere", parent));
  assert_int_equal(rename(folder, moved), 0);
  toy_assert_holds(moved, 3);
  assert_non_null(getcwd(before, sizeof before));
  assert_int_equal(chdir("/"), 0);
  hid_t file = H5Fopen(toy_path(moved, "index.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
  assert_true(file >= 0);
  static const char *const names[] = {"layers.0.attention.wq.weight", "feedback/layers.0.attention.wq.weight",
                                      "momentum/layers.0.attention.wq.weight", "adamw.m/layers.0.attention.wq.weight",
                                      "adamw.v/layers.0.attention.wq.weight"};
  for (int g = 0; g < TOY_GROUPS; g++) {
    hid_t set = H5Dopen2(file, names[g], H5P_DEFAULT);
    assert_true(set >= 0);
    assert_true(H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, got) >= 0);
    for (int i = 0; i < 16 * 24; i++) assert_true(got[i / 24][i % 24] == toy_value(3, g, 1, i));
    H5Dclose(set);
  }
  H5Fclose(file);
  assert_int_equal(chdir(before), 0);
}

/* HDF5 would look there for the files of writers, and read fill values or those of another checkpoint. */
static void a_variable_that_misleads_hdf5_is_refused(void **state) {
  (void)state;
  const toy_plan plan = {1, 1, 1};
  char folder[COV_CKPT_PATH_BYTES];
  cov_ckpt *c;
  toy_write(toy_parent(), 1, &plan, folder);
  assert_int_equal(setenv("HDF5_VDS_PREFIX", "/tmp", 1), 0);
  assert_status(cov_ckpt_open(folder, COV_CKPT_QUICK, &c), COV_EUSAGE);
  assert_int_equal(unsetenv("HDF5_VDS_PREFIX"), 0);
  toy_assert_holds(folder, 1);
}

static void coreutils_check_the_sums(void **state) {
  (void)state;
  const toy_plan plan = {4, 2, 1};
  char folder[COV_CKPT_PATH_BYTES], command[COV_CKPT_PATH_BYTES + 100];
  if (system("command -v b2sum >/dev/null") != 0) {
    printf("skipped: b2sum is not installed\n");
    skip();
  }
  toy_write(toy_parent(), 1, &plan, folder);
  snprintf(command, sizeof command, "cd '%s' && b2sum -l 256 -c SUMS > /dev/null 2>&1", folder);
  assert_int_equal(system(command), 0);
  toy_flip(toy_path(folder, "train-0-of-1.h5"), 600, 1);
  assert_int_not_equal(system(command), 0);
}

/* ---- what commit refuses ---- */

static cov_status commit_two(const char *folder, const cov_ckpt_piece *a, int n_a, const cov_ckpt_piece *b, int n_b) {
  int64_t bytes;
  char names[2][COV_CKPT_NAME_BYTES] = {"a.h5", "b.h5"};
  assert_ok(cov_ckpt_remove(folder));
  assert_ok(cov_ckpt_shard_write(folder, "a.h5", a, n_a, &bytes));
  assert_ok(cov_ckpt_shard_write(folder, "b.h5", b, n_b, &bytes));
  return toy_commit(folder, 0, names, 2);
}

static void a_tensor_must_be_covered_exactly_once(void **state) {
  (void)state;
  char folder[COV_CKPT_PATH_BYTES];
  static const float values[TOY_MAX_ELEMS] = {1};
  assert_ok(cov_ckpt_folder(toy_parent(), 1, folder, sizeof folder));
  cov_ckpt_piece a[2] = {toy_piece(0, 0, 0, 20, values), toy_piece(0, 1, 0, 16, values)};
  cov_ckpt_piece whole = toy_piece(0, 0, 20, 17, values), gap = toy_piece(0, 0, 21, 16, values);
  cov_ckpt_piece twice = toy_piece(0, 0, 19, 18, values), cut = toy_piece(0, 0, 20, 16, values);
  cov_ckpt_piece shifted = toy_piece(0, 0, 3, 17, values); /* as many rows as are missing, but others */
  cov_ckpt_piece none = toy_piece(0, 0, 20, 0, values), other_cols = whole, other_rows = whole;
  other_cols.shape[1] = 7;
  other_rows.shape[0] = 38;
  assert_ok(commit_two(folder, a, 2, &whole, 1));
  const cov_ckpt_piece *bad[] = {&gap, &twice, &cut, &shifted, &none, &other_cols, &other_rows};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_status(commit_two(folder, a, 2, bad[i], 1), COV_EDATA);
    assert_non_null(strstr(cov_error_text(), "embed.weight"));
    assert_false(cov_file_exists(toy_path(folder, "index.h5")));
    assert_false(cov_file_exists(toy_path(folder, "index.h5.tmp")));
  }
  /* The same rows in two files: both whole. */
  assert_status(commit_two(folder, &a[1], 1, &a[1], 1), COV_EDATA);
}

static void what_cannot_be_written_is_refused(void **state) {
  (void)state;
  char folder[COV_CKPT_PATH_BYTES], long_name[COV_CKPT_NAME_BYTES + 1];
  static const float values[TOY_MAX_ELEMS] = {1};
  int64_t bytes;
  memset(long_name, 'x', sizeof long_name - 1);
  long_name[sizeof long_name - 1] = '\0';
  assert_ok(cov_ckpt_folder(toy_parent(), 1, folder, sizeof folder));
  cov_ckpt_piece good = toy_piece(0, 0, 0, 37, values), bad[9];
  for (int i = 0; i < 9; i++) bad[i] = good;
  bad[0].group = "thetas";
  bad[1].name = "a/b";
  bad[2].name = "";
  bad[3].name = long_name;
  bad[4].name = "feedback"; /* a folder of the index */
  bad[5].dims = 3;
  bad[6].first = 1;
  bad[7].first = INT64_MAX;
  bad[8].shape[1] = 0;
  for (int i = 0; i < 9; i++) {
    const cov_ckpt_piece both[2] = {toy_piece(0, 1, 0, 16, values), bad[i]};
    cov_status st = cov_ckpt_shard_write(folder, "a.h5", both, 2, &bytes);
    char names[1][COV_CKPT_NAME_BYTES] = {"a.h5"};
    if (st == COV_OK) st = toy_commit(folder, 0, names, 1);
    if (st != COV_EUSAGE) fail_msg("case %d: %s", i, cov_status_name(st));
    assert_true(i == 4 || !cov_file_exists(toy_path(folder, "a.h5")));
    assert_false(cov_file_exists(toy_path(folder, "a.h5.tmp")));
    assert_ok(cov_ckpt_remove(folder));
  }
  static const char *const names[] = {"../a.h5", "a/b.h5", "", ".a", "a b.h5", "index.h5", "SUMS"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (cov_ckpt_shard_write(folder, names[i], &good, 1, &bytes) == COV_OK) fail_msg("the name '%s' passed", names[i]);
  }
  assert_status(cov_ckpt_shard_write("", "a.h5", &good, 1, &bytes), COV_EIO);
}

static void a_file_that_is_missing_or_foreign_is_not_committed(void **state) {
  (void)state;
  const toy_plan plan = {1, 2, 1};
  char folder[COV_CKPT_PATH_BYTES], names[4][COV_CKPT_NAME_BYTES];
  assert_ok(cov_ckpt_folder(toy_parent(), 1, folder, sizeof folder));
  int n = toy_write_files(folder, &plan, names);
  strcpy(names[n], "sync-2-of-3.h5");
  assert_status(toy_commit(folder, 1, names, n + 1), COV_EIO);
  assert_non_null(strstr(cov_error_text(), "sync-2-of-3.h5"));
  strcpy(names[n], names[0]); /* named twice */
  assert_status(toy_commit(folder, 1, names, n + 1), COV_EDATA);
  strcpy(names[n], "text.h5");
  assert_ok(cov_file_write(toy_path(folder, "text.h5"), "not HDF5", 8));
  assert_status(toy_commit(folder, 1, names, n + 1), COV_EDATA);
  assert_non_null(strstr(cov_error_text(), "text.h5"));
  assert_false(cov_file_exists(toy_path(folder, "index.h5")));
  assert_ok(toy_commit(folder, 1, names, n));
  toy_assert_holds(folder, 1);
}

/* A round is written again after a resume; in between, the folder is no checkpoint. */
static void a_folder_can_be_written_again(void **state) {
  (void)state;
  const toy_plan first = {1, 2, 1}, again = {2, 2, 1};
  char folder[COV_CKPT_PATH_BYTES], names[2 * TOY_MAX_WRITERS][COV_CKPT_NAME_BYTES];
  cov_ckpt *c;
  toy_write(toy_parent(), 1, &first, folder);
  int n = toy_write_files(folder, &again, names);
  assert_status(cov_ckpt_open(folder, COV_CKPT_QUICK, &c), COV_EIO);
  assert_ok(toy_commit(folder, 1, names, n));
  toy_assert_holds(folder, 2);
}

/* Everything in one value: what a NaN, an infinity, a zero's sign are stays as it is. */
static void bits_are_kept(void **state) {
  (void)state;
  static const uint32_t bits[] = {0x80000000u, 0x7f800000u, 0xff800000u, 0x7fc00000u, 0x7fa00001u, 1u, 0x807fffffu};
  char folder[COV_CKPT_PATH_BYTES], names[1][COV_CKPT_NAME_BYTES] = {"a.h5"};
  float values[7], got[7];
  int64_t bytes;
  cov_ckpt *c;
  memcpy(values, bits, sizeof bits);
  cov_ckpt_piece p = {.group = "theta", .name = "v", .dims = 1, .shape = {7, 0}, .count = 7, .data = values};
  assert_ok(cov_ckpt_folder(toy_parent(), 1, folder, sizeof folder));
  assert_ok(cov_ckpt_shard_write(folder, "a.h5", &p, 1, &bytes));
  assert_int_equal(bytes, toy_size(toy_path(folder, "a.h5")));
  assert_ok(toy_commit(folder, 1, names, 1));
  assert_ok(cov_ckpt_open(folder, COV_CKPT_FULL, &c));
  assert_ok(cov_ckpt_read(c, &p, got));
  assert_memory_equal(got, values, sizeof got);
  cov_ckpt_close(&c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(any_writers_give_the_same_state),
      cmocka_unit_test(any_range_of_rows_is_read),
      cmocka_unit_test(the_description_comes_back),
      cmocka_unit_test(reading_checks_what_is_asked),
      cmocka_unit_test(hdf5_alone_opens_the_model_by_tensor_name),
      cmocka_unit_test(a_variable_that_misleads_hdf5_is_refused),
      cmocka_unit_test(coreutils_check_the_sums),
      cmocka_unit_test(a_tensor_must_be_covered_exactly_once),
      cmocka_unit_test(what_cannot_be_written_is_refused),
      cmocka_unit_test(a_file_that_is_missing_or_foreign_is_not_committed),
      cmocka_unit_test(a_folder_can_be_written_again),
      cmocka_unit_test(bits_are_kept),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
