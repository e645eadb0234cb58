/* covenant-test: timeout=300
 * covenant-eval --checkpoint on the checkpoints of a tiny run: text comes out, the newest good one is found, and what
 * is wrong is said in one line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/utf8.h"
#include "report/metrics.h"
#include "run.h"
#include "support.h"
#include "tool.h"

static test_run run;

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  test_run_start(&run, "run", (const char *const[]){"run.peers=2", "run.stop_after=4", NULL});
  if (test_run_wait(&run) != 0) return 1;
  test_run_start(&run, "run", (const char *const[]){"run.peers=2", NULL});
  return test_run_wait(&run);
}

static void shell(const char *command) {
  char line[2000];
  snprintf(line, sizeof line, "cd '%s' && %s", run.dir, command);
  assert_int_equal(system(line), 0);
}

static int eval(const char *arguments) {
  return test_tool(run.dir, "covenant-eval", "", arguments);
}

static void text_comes_out_of_a_checkpoint(void **state) {
  (void)state;
  char first[sizeof test_output], loss[64];
  cov_csv csv;
  double value;
  assert_int_equal(eval("--checkpoint . 'a peer' 'the step' --tokens 12 --samples 2 --heldout"), 0);
  assert_printed("/peers/0/checkpoints/000006: 6 rounds, ");
  assert_printed("-- greedy\na peer");
  assert_printed("-- sampled: temperature 0.8, top-k 40, top-p 0.95, seed 1\na peer");
  assert_printed("\nthe step");
  snprintf(first, sizeof first, "%s", test_output);
  /* The parameters in the checkpoint are those that the run evaluated last. */
  char path[400];
  snprintf(path, sizeof path, "%s/eval.csv", run.dir);
  assert_ok(cov_csv_read(path, &csv));
  assert_ok(cov_csv_number(&csv, csv.n_rows - 1, cov_csv_column(&csv, "heldout_loss"), &value));
  cov_csv_close(&csv);
  snprintf(loss, sizeof loss, "held-out   %.4f nats/token", value);
  assert_printed(loss);
  assert_int_equal(eval("--checkpoint . 'a peer' 'the step' --tokens 12 --samples 2 --heldout"), 0);
  assert_string_equal(test_output, first); /* the same seed, the same text */
  assert_int_equal(eval("--checkpoint peers/1/checkpoints --greedy"), 0);
  assert_printed("000006: 6 rounds");
  assert_null(strstr(test_output, "sampled"));
  assert_int_equal(eval("--checkpoint peers/1/checkpoints/000004 --tokens 1"), 0);
  assert_printed("000004: 4 rounds");
}

/* The part of `test_output` from `what` on. */
static const char *printed_from(const char *what) {
  assert_printed(what);
  return strstr(test_output, what);
}

static void a_seed_and_a_prompt_make_a_text(void **state) {
  (void)state;
  static const char wide[] = "--temperature 5 --top-k 0 --top-p 1 --tokens 20";
  char arguments[400], second[sizeof test_output];
  snprintf(arguments, sizeof arguments, "--checkpoint . --prompt x=1 --prompt=-v --seed 4 %s", wide);
  assert_int_equal(eval(arguments), 0);
  assert_printed("-- greedy\nx=1");
  snprintf(second, sizeof second, "%s", printed_from("-- greedy\n-v"));
  snprintf(arguments, sizeof arguments, "--checkpoint . --prompt=-v --seed 4 %s", wide);
  assert_int_equal(eval(arguments), 0);
  assert_string_equal(printed_from("-- greedy\n-v"), second); /* whatever the prompts before it */
  snprintf(arguments, sizeof arguments, "--checkpoint . --prompt=-v --seed 5 %s", wide);
  assert_int_equal(eval(arguments), 0);
  assert_string_not_equal(strstr(printed_from("seed 5\n"), "\n"), strstr(strstr(second, "seed 4\n"), "\n"));
}

static void whatever_the_model_says_is_printed_as_whole_characters(void **state) {
  (void)state;
  /* So hot that each byte is about as likely as any other: half characters and control bytes for certain. */
  assert_int_equal(eval("--checkpoint . --temperature 1000 --top-k 0 --top-p 1 --samples 20 --tokens 31"), 0);
  size_t n = strlen(test_output);
  assert_int_equal(cov_utf8_valid(test_output, n), n);
  assert_printed("\xEF\xBF\xBD");
  for (size_t i = 0; i < n; i++) assert_true((unsigned char)test_output[i] >= 0x20 || strchr("\n\t", test_output[i]));
}

static void moved_checkpoints_and_data_are_found(void **state) {
  (void)state;
  test_run moved = run;
  char folder[400], parent[450];
  snprintf(folder, sizeof folder, "%s/elsewhere", run.folder);
  snprintf(parent, sizeof parent, "checkpoint.dir=%s", folder);
  /* more rows than the byte tokenizer has pieces */
  test_run_start(&moved, "moved",
                 (const char *const[]){"run.peers=2", "run.rounds=2", "model.vocab=400", parent, NULL});
  assert_int_equal(test_run_wait(&moved), 0);
  assert_int_equal(eval("--checkpoint ../moved --greedy --tokens 2"), 0);
  assert_printed("/elsewhere/0/000002: 2 rounds, ");
  assert_int_equal(eval("--checkpoint ../moved --temperature 1000 --top-k 0 --top-p 1 --samples 20 --tokens 31"), 0);
  shell("rm -r ../elsewhere/0");
  assert_int_equal(eval("--checkpoint ../moved --greedy --tokens 2"), 0);
  assert_printed("/elsewhere/1/000002: 2 rounds, ");
  shell("mv ../data ../data-moved");
  int without = eval("--checkpoint ../moved --greedy --tokens 2");
  int with = eval("--checkpoint ../moved --greedy --tokens 2 data.dir=../data-moved");
  shell("mv ../data-moved ../data");
  assert_int_equal(without, 3);
  assert_int_equal(with, 0);
}

static void a_damaged_checkpoint_is_passed_over_and_it_is_said(void **state) {
  (void)state;
  shell("cp -r peers/0/checkpoints broken && truncate -s -1 broken/000006/sync-0-of-1.h5");
  assert_int_equal(eval("--checkpoint broken --tokens 2"), 0);
  assert_printed("000006 cannot be used: ");
  assert_printed("000004: 4 rounds");
  assert_int_equal(eval("--checkpoint broken/000006"), 3);
  shell("rm broken/000004/index.h5");
  assert_int_equal(eval("--checkpoint broken"), 5);
  assert_printed("holds no good checkpoint");
}

static void what_is_wrong_is_said(void **state) {
  (void)state;
  static const struct {
    const char *arguments;
    int code;
    const char *text;
  } cases[] = {
      {"--checkpoint nowhere", 5, "nowhere does not exist"},
      {"--checkpoint peers", 5, "holds no good checkpoint"},
      {"--checkpoint . --temperature -1", 2, "temperature -1 is outside"},
      {"--checkpoint . --temperature hot", 2, "'hot' is not a number"},
      {"--checkpoint . --top-p 0", 2, "top-p 0 is outside"},
      {"--checkpoint . --tokens 0", 2, "--tokens must be at least 1"},
      {"--checkpoint . --topk 3", 2, "did you mean '--top-k'"},
      {"--checkpoint . 'a prompt that is longer than the context of this tiny model'", 2, "context holds 1 to 31"},
      {"--checkpoint . -c ../tiny.yaml", 2, "settings are those in the checkpoint"},
      {"--checkpoint . --dry-run", 2, "nothing is changed anyway"},
      {"--checkpoint . --prompt", 2, "--prompt needs a value"},
      {"--checkpoint . --tokens 2 > /dev/full", 5, "cannot write the text"},
      {"--checkpoint . data.dir=nowhere", 3, "nowhere holds no prepared data"},
      {"--checkpoint . data.drr=x", 2, "data.dir"},
      {"--checkpoint . data.dir=other", 9, "was trained on other data"},
      {"--checkpoint . model.dim=64", 9, "was trained on other data"},
  };
  char line[1500];
  snprintf(line, sizeof line,
           "head -n 2000 ../text.txt > half.txt && '%s/covenant' data prepare --input half.txt --out other --tokenizer "
           "bytes --document line > other.log",
           getenv("COVENANT_BIN"));
  shell(line);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int code = eval(cases[i].arguments);
    if (code != cases[i].code) fail_msg("exit code %d of: %s\n%s", code, cases[i].arguments, test_output);
    assert_printed(cases[i].text);
    assert_printed("error: ");
  }
}

static void the_data_of_another_tokenizer_are_refused(void **state) {
  (void)state;
  char line[1500];
  snprintf(line, sizeof line, "'%s/covenant' --version | grep -q '^SentencePiece *off'", getenv("COVENANT_BIN"));
  if (system(line) == 0) {
    print_message("skipped: built without SentencePiece, so there is no other tokenizer\n");
    skip();
  }
  snprintf(line, sizeof line,
           "'%s/covenant' data prepare --input ../text.txt --out pieces --vocab 300 --document line > pieces.log 2>&1",
           getenv("COVENANT_BIN"));
  shell(line);
  assert_int_equal(eval("--checkpoint . data.dir=pieces"), 9);
  assert_printed("was trained on other data than those in pieces");
  assert_null(strstr(test_output, "-- greedy"));
  /* A run on pieces: text comes back from them. */
  test_run pieces = run;
  snprintf(line, sizeof line, "data.dir=%.400s/pieces", run.dir);
  test_run_start(&pieces, "pieces-run", (const char *const[]){"run.peers=2", "run.rounds=1", line, NULL});
  assert_int_equal(test_run_wait(&pieces), 0);
  assert_int_equal(eval("--checkpoint ../pieces-run 'a peer' --tokens 5 --temperature 1000 --top-k 0 --top-p 1"), 0);
  assert_printed("-- greedy\na peer");
  assert_printed("seed 1\na peer");
  size_t n = strlen(test_output);
  assert_int_equal(cov_utf8_valid(test_output, n), n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(text_comes_out_of_a_checkpoint),
      cmocka_unit_test(a_seed_and_a_prompt_make_a_text),
      cmocka_unit_test(whatever_the_model_says_is_printed_as_whole_characters),
      cmocka_unit_test(moved_checkpoints_and_data_are_found),
      cmocka_unit_test(a_damaged_checkpoint_is_passed_over_and_it_is_said),
      cmocka_unit_test(what_is_wrong_is_said),
      cmocka_unit_test(the_data_of_another_tokenizer_are_refused),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
