/* covenant-test: timeout=300
 * Ranks that cannot make a run together: one line on the terminal, from one rank, that names what differs, the
 * documented exit code, and a run directory that can still be used. The programs are started as a user would by hand,
 * with mpirun;
 * --quiet keeps its own four lines about an exit code away. `covenant launch` does so without it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"
#include "run.h"
#include "support.h"

static test_run run;

static int prepare(void **state) {
  (void)state;
  char command[8192];
  test_run_prepare(&run);
  snprintf(run.dir, sizeof run.dir, "%.250s/run", run.folder);
  snprintf(
      command, sizeof command,
      "'%s/covenant' data prepare --input '%s/text.txt' --out '%s/other' --tokenizer bytes --document line --seed 5 "
      ">'%s/other.log' 2>&1",
      getenv("COVENANT_BIN"), run.folder, run.folder, run.folder);
  return system(command);
}

/* Comes in front of the program of peer 1's sync rank. */
static const char *sync_1_prefix = "";

static size_t add_rank(char *line, size_t used, size_t size, const char *program, int peer, const char *extra) {
  const char *prefix = peer == 1 && strcmp(program, "sync") == 0 ? sync_1_prefix : "";
  return used + (size_t)snprintf(line + used, size - used,
                                 "%s -np 1 %s '%s/covenant-%s' -c '%s' run.dir='%s' run.peers=2 run.eval_ranks=0 "
                                 "run.start_timeout=30s --peer %d --shard 0 %s",
                                 used ? " :" : "mpirun --quiet --oversubscribe --bind-to none", prefix,
                                 getenv("COVENANT_BIN"), program, run.config, run.dir, peer, extra);
}

/* Peer 0 as configured, peer 1 with `extra`; without its sync rank if `ranks` is 3. Output to folder/out. */
static int start(int ranks, const char *extra) {
  char line[16384];
  size_t n = add_rank(line, 0, sizeof line, "train", 0, "");
  n = add_rank(line, n, sizeof line, "sync", 0, "");
  n = add_rank(line, n, sizeof line, "train", 1, extra);
  if (ranks == 4) n = add_rank(line, n, sizeof line, "sync", 1, extra);
  assert_true(n + 400 < sizeof line);
  snprintf(line + n, sizeof line - n, " >'%s/out' 2>&1", run.folder);
  int status = system(line);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Whatever they say and whoever wrote them, but not those of finished rounds, nor the complaint of mpirun's libevent,
 * which comes by chance when its pipes to ranks close. */
static int count_lines(const char *text) {
  int n = 0;
  for (const char *at = text, *end; *at; at = *end ? end + 1 : end) {
    end = at + strcspn(at, "\n");
    n += strncmp(at, "round ", 6) != 0 && strncmp(at, "[warn] Epoll ", 13) != 0;
  }
  return n;
}

static void expect_one_line(int want, int ranks, const char *extra, const char *const *words) {
  char path[400], *text;
  size_t bytes;
  int code = start(ranks, extra);
  snprintf(path, sizeof path, "%s/out", run.folder);
  assert_ok(cov_file_read(path, 1 << 20, &text, &bytes));
  if (code != want) fail_msg("exit code %d, not %d:\n%s", code, want, text);
  if (count_lines(text) != 1 || !strstr(text, "error: ")) fail_msg("not one line of an error:\n%s", text);
  for (; *words; words++) {
    if (!strstr(text, *words)) fail_msg("'%s' is not in:\n%s", *words, text);
  }
  free(text);
  assert_false(cov_file_exists(run.dir)); /* nothing was written */
}

#define EXPECT(ranks, extra, ...) expect_one_line(9, ranks, extra, (const char *const[]){__VA_ARGS__, NULL})

static void settings_that_differ_are_named(void **state) {
  (void)state;
  EXPECT(4, "train.lr=0.25", "train.lr is 0.25 here and ", "at rank 0; 'here' is rank 2, peer 1");
  EXPECT(4, "model.ffn=96", "model.ffn is 96 here and 64 at rank 0");
  EXPECT(4, "sync.topk=32 sync.inner_steps=5", "sync.inner_steps is 5 here and 4 at rank 0");
}

static void data_that_differ_are_named(void **state) {
  (void)state;
  char extra[320], theirs[320];
  snprintf(extra, sizeof extra, "data.dir='%s/other'", run.folder);
  snprintf(theirs, sizeof theirs, "%s/other (identity ", run.folder);
  EXPECT(4, extra, "the data differ: rank 0 has ", "/data (identity ", "rank 2 of peer 1 has ", theirs);
}

/* Of the right size, so that only the ranks see it, who hash it: all of a host, or of all hosts. */
static void a_foreign_shard_is_named(void **state) {
  (void)state;
  char command[2048], extra[320];
  snprintf(command, sizeof command,
           "cd '%s' && cp -r data foreign && printf 'x' | dd of=foreign/train-00000.npy bs=1 seek=1000 conv=notrunc "
           "status=none",
           run.folder);
  assert_int_equal(system(command), 0);
  snprintf(extra, sizeof extra, "data.dir='%s/foreign'", run.folder);
  expect_one_line(3, 4, extra,
                  (const char *const[]){"foreign/train-00000.npy was changed since it was prepared", NULL});
  expect_one_line(2, 4, "train.lrr=1", (const char *const[]){"did you mean 'train.lr'", NULL});
  expect_one_line(2, 4, "data.pool_samples=1000000",
                  (const char *const[]){"1000000 samples a round from a data set of", NULL});
  snprintf(command, sizeof command, "data.dir=%s/foreign", run.folder);
  test_run_start(&run, "foreign-run", (const char *const[]){command, NULL});
  assert_int_equal(test_run_wait(&run), 3);
  assert_string_equal(test_run_state(&run), "failed");
  assert_int_equal(test_run_count(&run, "error: "), 2); /* of a rank and of launch */
  assert_int_equal(test_run_count(&run, "was changed since it was prepared"), 2);
  test_run_start(&run, "foreign-run", NULL); /* with the right data the same directory will do */
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
  snprintf(run.dir, sizeof run.dir, "%.250s/run", run.folder);
}

/* What launch would see before it starts anything: started by hand, the ranks of that peer do. */
static void a_data_folder_that_is_not_whole_is_named(void **state) {
  (void)state;
  static const struct {
    const char *name, *damage, *what;
    int code;
  } cases[] = {{"gone", "rm gone/train-00000.npy", "gone/train-00000.npy is missing, but listed in the manifest", 3},
               {"cut", "truncate -s -100 cut/train-00000.npy", "cut/train-00000.npy", 3},
               {"words", "sed -i '/^tokenizer:/ s/hash: \"..../hash: \"0000/' words/manifest.yaml",
                "the tokenizer bytes is not the one in ", 9}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char command[1024], extra[320];
    snprintf(command, sizeof command, "cd '%s' && cp -r data %s && %s && ! diff -rq data %s >/dev/null", run.folder,
             cases[i].name, cases[i].damage, cases[i].name);
    assert_int_equal(system(command), 0);
    snprintf(extra, sizeof extra, "data.dir='%s/%s'", run.folder, cases[i].name);
    expect_one_line(cases[i].code, 4, extra, (const char *const[]){cases[i].what, cases[i].name, NULL});
  }
}

/* A processor that does not multiply bf16, as oneDNN can be told to be; without oneDNN it is the same. */
static void bf16_by_name_needs_a_processor_that_has_it(void **state) {
  (void)state;
  assert_int_equal(setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1), 0);
  expect_one_line(2, 4, "train.dtype=bf16",
                  (const char *const[]){"train.dtype=bf16: this ", "auto, or set fp32", NULL});
  assert_int_equal(unsetenv("ONEDNN_MAX_CPU_ISA"), 0);
}

/* A rank in a UTS namespace of its own has another host name, as one on another host would. */
static void a_peer_on_two_hosts_is_torn_apart(void **state) {
  (void)state;
  if (system("unshare --uts hostname elsewhere >/dev/null 2>&1") != 0) {
    print_message("skipped: no namespace with another host name can be made here (needs root)\n");
    skip();
  }
  sync_1_prefix = "unshare --uts sh -c 'hostname elsewhere && exec \"$@\"' sh";
  EXPECT(4, "", "peer 1 is torn apart: rank 2 (train 0) is on host ",
         "(sync 0) on host elsewhere, but they share memory", "place the ranks of a peer on one node");
  sync_1_prefix = "";
}

static void ranks_that_do_not_fit_are_counted(void **state) {
  (void)state;
  EXPECT(4, "run.peers=3", "rank 0 was told of 2 peers, rank 2 (train, peer 1) of 3");
  EXPECT(3, "", "no rank is sync shard 0 of peer 1 (each of 2 peers needs 1)");
}

static void the_same_line_works_once_it_is_right(void **state) {
  (void)state;
  assert_int_equal(start(4, ""), 0);
  assert_string_equal(test_run_state(&run), "done");
}

/* On several hosts the paths agree and the data may not: launch cannot see that, its STATE and exit code can. */
static void launch_passes_the_reason_on(void **state) {
  (void)state;
  char command[8192], path[400], *text;
  size_t bytes;
  snprintf(run.dir, sizeof run.dir, "%.250s/launched", run.folder);
  snprintf(command, sizeof command,
           "mkdir '%s/bin' && cp '%s/covenant' '%s/bin/' && ln -s '%s/covenant-train' '%s/covenant-eval' '%s/bin/' && "
           "printf '#!/bin/sh\\nexec \"%s/covenant-sync\" \"$@\" train.lr=0.25\\n' >'%s/bin/covenant-sync' && chmod +x "
           "'%s/bin/covenant-sync' && '%s/bin/covenant' launch -c '%s' run.dir='%s' >'%s/out' 2>&1",
           run.folder, getenv("COVENANT_BIN"), run.folder, getenv("COVENANT_BIN"), getenv("COVENANT_BIN"), run.folder,
           getenv("COVENANT_BIN"), run.folder, run.folder, run.folder, run.config, run.dir, run.folder);
  int status = system(command);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 9);
  assert_string_equal(test_run_state(&run), "failed");
  snprintf(path, sizeof path, "%s/out", run.folder);
  assert_ok(cov_file_read(path, 1 << 16, &text, &bytes));
  if (count_lines(text) != 2) fail_msg("not two lines, of a rank and of launch:\n%s", text);
  free(text);
  snprintf(path, sizeof path, "%s/STATE", run.dir);
  assert_ok(cov_file_read(path, 1 << 16, &text, &bytes));
  assert_non_null(strstr(text, "COV_EMISMATCH: train.lr is 0.25 here and "));
  free(text);
  test_run_start(&run, "launched", NULL); /* the same directory, with programs that fit */
  assert_int_equal(test_run_wait(&run), 0);
  assert_string_equal(test_run_state(&run), "done");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(settings_that_differ_are_named),
      cmocka_unit_test(data_that_differ_are_named),
      cmocka_unit_test(a_foreign_shard_is_named),
      cmocka_unit_test(a_data_folder_that_is_not_whole_is_named),
      cmocka_unit_test(bf16_by_name_needs_a_processor_that_has_it),
      cmocka_unit_test(a_peer_on_two_hosts_is_torn_apart),
      cmocka_unit_test(ranks_that_do_not_fit_are_counted),
      cmocka_unit_test(the_same_line_works_once_it_is_right),
      cmocka_unit_test(launch_passes_the_reason_on),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
