/* covenant-test: timeout=300
 * `covenant bench codec --run` trains the round that a stopped run would train next: a run with the same settings that
 * was not stopped reports the same loss. And what it says where there is nothing to go on from. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/metrics.h"
#include "run.h"
#include "support.h"

enum { STOP = 3 };

static test_run run;
static char *text;

/* Runs `covenant ARGUMENTS`; its output, errors included, is `text`. */
static int tool(const char *arguments) {
  char path[300];
  size_t bytes;
  int code = test_run_tool(&run, arguments);
  assert_ok(cov_path(path, sizeof path, "%.250s/out", run.folder));
  free(text);
  assert_ok(cov_file_read(path, 1 << 20, &text, &bytes));
  return code;
}

static double number(const char *key) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\": ", key);
  const char *at = strstr(text, quoted);
  if (!at) fail_msg("no key %s in %s", key, text);
  return strtod(at + strlen(quoted), NULL);
}

static double loss_of_round(int64_t round) {
  char path[400];
  cov_csv csv;
  double value;
  assert_ok(cov_path(path, sizeof path, "%s/metrics.csv", run.dir));
  assert_ok(cov_csv_read(path, &csv));
  assert_true(csv.n_rows > round);
  assert_ok(cov_csv_number(&csv, round, cov_csv_column(&csv, "round"), &value));
  assert_true(value == (double)round);
  assert_ok(cov_csv_number(&csv, round, cov_csv_column(&csv, "loss"), &value));
  cov_csv_close(&csv);
  return value;
}

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  test_run_start(&run, "stopped", (const char *const[]){"run.stop_after=3", "run.eval_ranks=0", NULL});
  return test_run_wait(&run);
}

static int tear_down(void **state) {
  (void)state;
  free(text);
  return 0;
}

static void the_next_round_is_the_runs_own(void **state) {
  (void)state;
  assert_int_equal(tool("bench codec --json --reps 1 --bytes 65536 --run @"), 0);
  double loss = number("train_loss_nats"), sent = number("values_sent"), bytes = number("payload_bytes");
  assert_true(number("round") == STOP);
  assert_true(number("peers") == 4);
  assert_non_null(strstr(text, "\"source\": \"run "));
  assert_true(fabs(number("bits_per_value") - 8.0 * bytes / sent) < 1e-6);
  test_run_start(&run, "whole", (const char *const[]){"run.eval_ranks=0", NULL});
  assert_int_equal(test_run_wait(&run), 0);
  if (!(fabs(loss_of_round(STOP) - loss) <= 1e-5)) {
    fail_msg("the run's loss in round %d was %.7f, the bench's %.7f", STOP, loss_of_round(STOP), loss);
  }
  assert_true(fabs(loss_of_round(STOP - 1) - loss) > 1e-4); /* so that the comparison says something */
}

/* "@" is the stopped run again. */
static void it_says_what_is_missing(void **state) {
  (void)state;
  assert_ok(cov_path(run.dir, sizeof run.dir, "%.200s/stopped", run.folder));
  assert_int_equal(tool("bench codec --run @/nowhere"), 5);
  assert_non_null(strstr(text, "run.yaml"));
  assert_int_equal(tool("bench codec --run @ --round 1"), 3);
  assert_non_null(strstr(text, "complete checkpoint"));
  assert_int_equal(tool("bench codec --run @ model.ffn=128"), 9);
  assert_non_null(strstr(text, "another model"));
}

/* It starts itself under mpirun: one report from all ranks, and what cannot be is refused. */
static void ranks_report_once(void **state) {
  (void)state;
  assert_int_equal(tool("bench fsdp --json --reps 2 --ranks 3 data.batch_seqs=6 data.micro_batch_seqs=3 model.dim=32 "
                        "model.layers=1 model.seq_len=16"),
                   0);
  const char *first = strstr(text, "{\"bench\": \"fsdp\"");
  assert_non_null(first);
  assert_null(strstr(first + 10, "\"bench\""));
  assert_true(number("ranks") == 3 && number("one_threads") == 3 && number("micro_batch_seqs") == 2);
  assert_true(number("tokens_per_step") == 6 * 16);
  assert_true(fabs(number("ranks_tokens_per_s") / number("one_tokens_per_s") / number("ratio") - 1) < 1e-6);
  assert_int_equal(tool("bench fsdp --ranks 3 data.batch_seqs=4"), 2);
  assert_non_null(strstr(text, "does not divide over 3 ranks"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_next_round_is_the_runs_own),
      cmocka_unit_test(it_says_what_is_missing),
      cmocka_unit_test(ranks_report_once),
  };
  return cmocka_run_group_tests(tests, prepare, tear_down);
}
