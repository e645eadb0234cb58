/* covenant-test: timeout=120
 * `covenant ckpt` as people and scripts see it: exit codes, messages, what is on the disk afterwards. Skipped where the
 * program is not built. */

#include "checkpoint_fixture.h"
#include "tool.h"

static char base[512];

static int run(const char *arguments) {
  return test_tool(base, "covenant", "ckpt", arguments);
}

static void assert_ran(const char *arguments, int want) {
  int rc = run(arguments);
  if (rc != want) fail_msg("ckpt %s: exit code %d, not %d: %s", arguments, rc, want, test_output);
}

static void assert_not_printed(const char *what) {
  if (strstr(test_output, what)) fail_msg("'%s' is in: %s", what, test_output);
}

/* RUN with two peers, rounds 4 and 8 of both and 12 of peer 0 only; keeps 1. */
static void make_run(const char *run_dir, const char *checkpoint_dir) {
  static const toy_plan plan = {1, 2, 1};
  char parent[1024], yaml[1024], folder[COV_CKPT_PATH_BYTES];
  snprintf(base, sizeof base, "%s", toy_parent());
  assert_ok(cov_dir_make(toy_path(base, run_dir)));
  snprintf(yaml, sizeof yaml, "run:\n  peers: 2\ncheckpoint:\n  keep: 1\n  dir: \"%s\"\n", checkpoint_dir);
  assert_ok(cov_file_write(toy_path(toy_path(base, run_dir), "run.yaml"), yaml, strlen(yaml)));
  for (toy_peer = 0; toy_peer < 2; toy_peer++) {
    if (*checkpoint_dir) {
      snprintf(parent, sizeof parent, "%s/%s/%d", base, checkpoint_dir, (int)toy_peer);
    } else {
      snprintf(parent, sizeof parent, "%s/%s/peers/%d/checkpoints", base, run_dir, (int)toy_peer);
    }
    for (int64_t round = 4; round <= (toy_peer == 0 ? 12 : 8); round += 4) toy_write(parent, round, &plan, folder);
  }
}

static bool there(const char *relative) {
  return cov_file_exists(toy_path(base, relative)) != 0;
}

static void help_is_on_one_screen(void **state) {
  (void)state;
  static const char *const commands[] = {"--help", "ls --help", "verify --help", "diff --help", "prune --help"};
  snprintf(base, sizeof base, "%s", toy_parent());
  for (int i = 0; i < 5; i++) {
    assert_ran(commands[i], 0);
    assert_in_range(printed_lines(), 5, 40);
    assert_printed("usage: covenant ckpt");
  }
  assert_ran("", 2);
}

static void bad_input_is_one_clear_line(void **state) {
  (void)state;
  make_run("r", "");
  assert_ok(cov_dir_make(toy_path(base, "empty")));
  assert_ok(cov_file_write(toy_path(base, "file"), "x", 1));
  assert_ok(cov_dir_make(toy_path(base, "broken")));
  assert_ok(cov_file_write(toy_path(base, "broken/run.yaml"), "run:\n  pears: 2\n", 16));
  static const struct {
    const char *arguments;
    int code;
    const char *printed;
  } cases[] = {{"lss r", 2, "no such command; did you mean 'ls'?"},
               {"dif r r", 2, "no such command; did you mean 'diff'?"},
               {"zzzzzz r", 2, "'covenant ckpt --help' lists them"},
               {"ls", 2, "name one run directory"},
               {"ls r r", 2, "name one run directory"},
               {"ls r --quick", 2, "--quick: no such flag"},
               {"ls r run.peers=3", 2, "takes no settings"},
               {"verify absent", 5, "absent: No such file"},
               {"verify empty", 3, "holds no checkpoints"},
               {"verify file", 3, "is no folder"},
               {"ls broken", 2, "pears"},
               {"diff r/peers/0/checkpoints", 2, "name two checkpoints"},
               {"diff r r", 2, "r is not one checkpoint; name one, such as r/peers/0/checkpoints/000012"},
               {"diff r/peers/0 r", 3, "r/peers/0 holds no checkpoints; did you mean r/peers/0/checkpoints?"},
               {"prune r --keep 0", 2, "--keep: at least 1"},
               {"prune r --keep three", 2, "'three' is not an integer"},
               {"prune r/peers/0/checkpoints", 2, "--keep N is needed"},
               {"prune r/peers/0/checkpoints/000004 --keep 1", 2, "is one checkpoint"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_ran(cases[i].arguments, cases[i].code);
    assert_printed(cases[i].printed);
    assert_int_equal(printed_lines(), 1);
  }
  assert_true(there("r/peers/0/checkpoints/000004/index.h5"));
  assert_int_equal(test_tool(base, "covenant-eval", "", "--checkpont r"), 2);
  assert_printed("--checkpont: no such flag; did you mean '--checkpoint'?");
}

static void ls_shows_all_peers_of_a_run(void **state) {
  (void)state;
  static const char *const dirs[] = {"", "elsewhere"};
  for (int i = 0; i < 2; i++) {
    make_run("r", dirs[i]);
    assert_ran("ls r", 0);
    assert_int_equal(printed_lines(), 6);
    assert_printed("   0       12            49152");
    assert_printed("   1        8            32768");
    assert_not_printed("damaged");
  }
  assert_ran("ls elsewhere", 0);
  assert_int_equal(printed_lines(), 6);
  assert_ran("ls elsewhere/0/", 0);
  assert_int_equal(printed_lines(), 4);
  assert_ran("ls elsewhere/0/000012", 0);
  assert_int_equal(printed_lines(), 2);
}

static void ls_tells_what_is_wrong(void **state) {
  (void)state;
  make_run("r", "");
  assert_int_equal(unlink(toy_path(base, "r/peers/1/checkpoints/000008/train-0-of-1.h5")), 0);
  assert_int_equal(unlink(toy_path(base, "r/peers/0/checkpoints/000012/index.h5")), 0);
  assert_ran("ls r", 0);
  assert_printed("damaged     r/peers/1/checkpoints/000008/train-0-of-1.h5 is missing");
  assert_printed("incomplete");
  assert_ran("ls r/peers/0/checkpoints/000012", 0);
  assert_printed("incomplete");
}

static void verify_hashes_every_file(void **state) {
  (void)state;
  make_run("r", "");
  assert_ran("verify r", 0);
  assert_int_equal(printed_lines(), 6);
  assert_printed("5 checkpoints good");
  toy_flip(toy_path(base, "r/peers/1/checkpoints/000004/sync-1-of-2.h5"), 700, 4);
  assert_ran("verify r --quick", 0);
  assert_ran("verify r", 3);
  assert_printed("000004: BAD: r/peers/1/checkpoints/000004/sync-1-of-2.h5 is damaged");
  assert_printed("1 of 5 checkpoints");
  assert_ran("verify r/peers/0", 3); /* holds none itself */
  assert_ran("verify r/peers/0/checkpoints", 0);
  assert_ran("verify r/peers/1/checkpoints/000004", 3);
  assert_ran("verify r/peers/1/checkpoints/000008", 0);
  assert_int_equal(unlink(toy_path(base, "r/peers/1/checkpoints/000008/index.h5")), 0);
  assert_ran("verify r/peers/1/checkpoints/000008", 5);
  toy_flip(toy_path(base, "r/peers/1/checkpoints/000004/sync-1-of-2.h5"), 700, 4);
  assert_ran("verify r", 0); /* an incomplete one among good ones is being written, perhaps */
  assert_printed("000008: incomplete");
}

static void verify_compares_the_peers(void **state) {
  (void)state;
  static const toy_plan plan = {1, 2, 1};
  char folder[COV_CKPT_PATH_BYTES];
  make_run("r", "");
  toy_peer = 1;
  toy_state = 1;
  toy_write(toy_path(base, "r/peers/1/checkpoints"), 8, &plan, folder);
  toy_state = 0;
  assert_ran("verify r", 9);
  assert_printed("different states of round 8");
  toy_peer = 0;
  toy_write(toy_path(base, "r/peers/1/checkpoints"), 8, &plan, folder);
  assert_ran("verify r", 9);
  assert_printed("it is of peer 0, round 8");
}

static void diff_finds_what_differs(void **state) {
  (void)state;
  static const toy_plan plan = {1, 3, 2};
  char folder[COV_CKPT_PATH_BYTES];
  make_run("r", "");
  /* The same state by other writers. */
  toy_peer = 0;
  toy_write(toy_path(base, "other"), 8, &plan, folder);
  assert_ran("diff r/peers/0/checkpoints/000008 other/000008", 0);
  assert_printed("25 tensors equal, 0 different");
  assert_printed("state_hash     equal");
  assert_not_printed("embed.weight");
  assert_ran("diff r/peers/0/checkpoints/000008 other/000008 --all", 0);
  assert_printed("embed.weight");
  assert_ran("diff r/peers/1/checkpoints other", 0); /* the newest of each */
  assert_printed("peer           1 | 0");

  assert_not_printed("config ");

  /* Settings. */
  static const char *const settings[] = {"run:\n  seed: 1\n", "run:\n  seed: 1\nsync:\n  topk: 32\n"};
  for (int i = 0; i < 2; i++) {
    toy_config = settings[i];
    toy_write(toy_path(base, "settings"), i, &plan, folder);
  }
  assert_ran("diff settings/000000 settings/000001", 0);
  assert_printed("config         sync.topk: 64 | 32\n");
  assert_not_printed("run.seed");
  toy_config = "run:\n  name: \"toy\"\n";
  assert_ran("diff settings/000000 other/000008", 0);
  assert_printed("differs, and this version cannot read it: config:2: run.name: no such key");

  /* One value of one tensor. */
  float value[37 * 8];
  cov_ckpt_piece p[2] = {toy_piece(0, 0, 0, 37, value), toy_piece(1, 2, 0, 24, value)};
  char name[1][COV_CKPT_NAME_BYTES] = {"a.h5"};
  int64_t bytes;
  for (int round = 1; round <= 3; round++) {
    for (int i = 0; i < 37 * 8; i++) value[i] = i == 100 && round == 2 ? 1.25f : 1.0f;
    if (round == 3) p[1].name = "another";
    assert_ok(cov_ckpt_folder(toy_path(base, "small"), round, folder, sizeof folder));
    assert_ok(cov_ckpt_shard_write(folder, "a.h5", p, 2, &bytes));
    assert_ok(toy_commit(folder, round, name, 1));
  }
  assert_ran("diff small/000001 small/000002", 9);
  assert_printed("max 0.25, 1 of 296 elements");
  assert_printed("1 tensors equal, 1 different");
  assert_printed("round          1 | 2");
  assert_ran("diff small/000001 small/000003", 9);
  assert_printed("only in the first");
  assert_printed("only in the second");
  toy_flip(toy_path(base, "small/000002/a.h5"), toy_size(toy_path(base, "small/000002/a.h5")) - 1, 1);
  assert_ran("diff small/000001 small/000002", 3);
  assert_printed("is damaged");
}

static void prune_follows_the_run_and_keeps_what_all_have(void **state) {
  (void)state;
  make_run("r", "");
  assert_ran("prune r --dry-run", 0);
  assert_printed("would remove r/peers/0/checkpoints/000004");
  assert_printed("would remove 2 of 5");
  assert_true(there("r/peers/0/checkpoints/000004/index.h5"));
  assert_ran("prune r", 0);
  assert_false(there("r/peers/0/checkpoints/000004"));
  assert_false(there("r/peers/1/checkpoints/000004"));
  assert_true(there("r/peers/0/checkpoints/000008/index.h5")); /* peer 1 has no later one */
  assert_true(there("r/peers/0/checkpoints/000012/index.h5"));
  assert_true(there("r/peers/1/checkpoints/000008/index.h5"));
  assert_ran("prune r", 0);
  assert_printed("removed 0 of 3");
  assert_ran("verify r", 0);
  assert_ran("prune r/peers/0/checkpoints --keep=1 --keep-every 5", 0);
  assert_false(there("r/peers/0/checkpoints/000008"));
  make_run("r", "");
  assert_ran("prune r --keep-every 2", 0);
  assert_printed("removed 0 of 5");
}

/* Rounds 12 and 8 of peer 0, 8 of peer 1, 2 of peer 2, which was lost early: without it the run goes on from 8. */
static void prune_keeps_what_the_peers_that_are_left_share(void **state) {
  (void)state;
  static const toy_plan plan = {1, 2, 1};
  char folder[COV_CKPT_PATH_BYTES];
  make_run("r", "all");
  assert_ok(cov_ckpt_remove(toy_path(base, "all/0/000004")));
  assert_ok(cov_ckpt_remove(toy_path(base, "all/1/000004")));
  toy_peer = 2;
  toy_write(toy_path(base, "all/2"), 2, &plan, folder);
  assert_ran("prune all --keep 1", 0);
  assert_printed("removed 0 of 4");
  /* Had all of them 2, it could also be that peer 2 is there still. */
  toy_peer = 0;
  toy_write(toy_path(base, "all/0"), 2, &plan, folder);
  toy_write(toy_path(base, "all/0"), 4, &plan, folder);
  toy_peer = 1;
  toy_write(toy_path(base, "all/1"), 2, &plan, folder);
  assert_ran("prune all --keep 1", 0);
  assert_printed("removed all/0/000004");
  assert_printed("removed 1 of 7");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(help_is_on_one_screen),
      cmocka_unit_test(bad_input_is_one_clear_line),
      cmocka_unit_test(ls_shows_all_peers_of_a_run),
      cmocka_unit_test(ls_tells_what_is_wrong),
      cmocka_unit_test(verify_hashes_every_file),
      cmocka_unit_test(verify_compares_the_peers),
      cmocka_unit_test(diff_finds_what_differs),
      cmocka_unit_test(prune_follows_the_run_and_keeps_what_all_have),
      cmocka_unit_test(prune_keeps_what_the_peers_that_are_left_share),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
