/* covenant-test: timeout=120
 * covenant-eval --checkpoint on the checkpoints of a tiny run: text comes out, the newest good one is found, and what
 * is wrong is said in one line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report/metrics.h"
#include "run.h"
#include "support.h"

static test_run run;
static char output[1 << 16];

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

/* Exit code of covenant-eval ARGUMENTS, called in the run directory; both streams in `output`. */
static int eval(const char *arguments) {
  char command[4096];
  snprintf(command, sizeof command, "cd '%s' && '%s/covenant-eval' %s 2>&1", run.dir, getenv("COVENANT_BIN"),
           arguments);
  FILE *f = popen(command, "r");
  assert_non_null(f);
  size_t n = fread(output, 1, sizeof output - 1, f);
  output[n] = '\0';
  int rc = pclose(f);
  assert_true(WIFEXITED(rc));
  return WEXITSTATUS(rc);
}

static void assert_printed(const char *what) {
  if (!strstr(output, what)) fail_msg("'%s' is not in: %s", what, output);
}

static void text_comes_out_of_a_checkpoint(void **state) {
  (void)state;
  char first[sizeof output], loss[64];
  cov_csv csv;
  double value;
  assert_int_equal(eval("--checkpoint . 'a peer' 'the step' --tokens 12 --samples 2 --heldout"), 0);
  assert_printed("/peers/0/checkpoints/000006: 6 rounds, ");
  assert_printed("-- greedy\na peer");
  assert_printed("-- sampled: temperature 0.8, top-k 40, top-p 0.95, seed 1\na peer");
  assert_printed("\nthe step");
  snprintf(first, sizeof first, "%s", output);
  /* The parameters in the checkpoint are those that the run evaluated last. */
  char path[400];
  snprintf(path, sizeof path, "%s/eval.csv", run.dir);
  assert_ok(cov_csv_read(path, &csv));
  assert_ok(cov_csv_number(&csv, csv.n_rows - 1, cov_csv_column(&csv, "heldout_loss"), &value));
  cov_csv_close(&csv);
  snprintf(loss, sizeof loss, "held-out   %.4f nats/token", value);
  assert_printed(loss);
  assert_int_equal(eval("--checkpoint . 'a peer' 'the step' --tokens 12 --samples 2 --heldout"), 0);
  assert_string_equal(output, first); /* the same seed, the same text */
  assert_int_equal(eval("--checkpoint peers/1/checkpoints --greedy"), 0);
  assert_printed("000006: 6 rounds");
  assert_null(strstr(output, "sampled"));
  assert_int_equal(eval("--checkpoint peers/1/checkpoints/000004 --tokens 1"), 0);
  assert_printed("000004: 4 rounds");
}

static void a_damaged_checkpoint_is_passed_over_and_it_is_said(void **state) {
  (void)state;
  shell("cp -r peers/0/checkpoints broken && truncate -s -1 broken/000006/sync-0-of-1.h5");
  assert_int_equal(eval("--checkpoint broken --tokens 2"), 0);
  assert_printed("000006 cannot be used, an older one is taken");
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
    if (code != cases[i].code) fail_msg("exit code %d of: %s\n%s", code, cases[i].arguments, output);
    assert_printed(cases[i].text);
    assert_printed("error: ");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(text_comes_out_of_a_checkpoint),
      cmocka_unit_test(a_damaged_checkpoint_is_passed_over_and_it_is_said),
      cmocka_unit_test(what_is_wrong_is_said),
  };
  return cmocka_run_group_tests(tests, prepare, NULL);
}
