/* The reader of event files takes what the writer writes and refuses everything else; `covenant summary` draws the
 * right conclusions from runs with known contents. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "report/event_line.h"
#include "report/events.h"
#include "support.h"

static const char *folder(void) {
  static const char *path;
  if (!path) path = test_folder();
  return path;
}

static cov_status parse(const char *text, cov_event_line *line) {
  static char copy[4096];
  assert_ok(cov_path(copy, sizeof copy, "%s", text));
  return cov_event_line_parse(copy, line);
}

static void a_line_is_cut_into_its_fields(void **state) {
  (void)state;
  cov_event_line line;
  int64_t v;
  assert_ok(parse(
      "{\"ev\":\"round\",\"round\":12,\"loss\":null,\"t\":-1.5e3,\"why\":\"a \\\"b\\\" \\\\ \\u0007\",\"x\":\"\"}",
      &line));
  assert_int_equal(line.n, 6);
  assert_string_equal(cov_event_line_text(&line, "ev"), "round");
  assert_ok(cov_event_line_int(&line, "round", &v));
  assert_int_equal(v, 12);
  assert_null(cov_event_line_text(&line, "loss"));
  assert_string_equal(cov_event_line_text(&line, "why"), "a \"b\" \\ ?");
  assert_string_equal(cov_event_line_text(&line, "x"), "");
  assert_null(cov_event_line_text(&line, "y"));
  assert_status(cov_event_line_int(&line, "loss", &v), COV_EDATA);
  assert_status(cov_event_line_int(&line, "t", &v), COV_EDATA);
  assert_status(cov_event_line_int(&line, "why", &v), COV_EDATA);
  assert_ok(parse("{\"a\":\"null\"}", &line));
  assert_string_equal(cov_event_line_text(&line, "a"), "null");
}

static void what_is_no_event_is_refused(void **state) {
  (void)state;
  static const char *const wrong[] = {"",
                                      "{",
                                      "{}",
                                      "x",
                                      "{\"a\":1",
                                      "{\"a\":1}x",
                                      "{\"a\":}",
                                      "{\"a\":[1]}",
                                      "{\"a\":{}}",
                                      "{\"a\" :1}",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "{\"a",
                                      "{\"a\":\"",
                                      "{\"a\":\"\\",
                                      "{\"a\":\"\\u1",
                                      "{\"a\":\"\\n\"}",
                                      "{\"a\":\"\x01\"}"};
  cov_event_line line;
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    if (parse(wrong[i], &line) != COV_EDATA) fail_msg("accepted: %s", wrong[i]);
  }
  char many[COV_EVENT_LINE_MAX_FIELDS * 8 + 16] = "{";
  for (int i = 0; i <= COV_EVENT_LINE_MAX_FIELDS; i++) strcat(many, i ? ",\"a\":1" : "\"a\":1");
  assert_status(parse(strcat(many, "}"), &line), COV_EDATA);
}

static cov_status count_line(void *context, const cov_event_line *line) {
  (void)line;
  ++*(int *)context;
  return COV_OK;
}

static void a_file_is_read_up_to_its_last_whole_line(void **state) {
  (void)state;
  char path[512];
  cov_events *e;
  int n = 0;
  assert_ok(cov_path(path, sizeof path, "%s/one.jsonl", folder()));
  assert_ok(cov_events_open(path, "sync", 3, &e));
  for (int r = 0; r < 5; r++) {
    assert_ok(cov_events_round(e, &(cov_event_round){.round = r, .loss = NAN, .sent_bytes = INT64_MAX}));
  }
  assert_ok(cov_events_error(e, &(cov_event_error){.status = "COV_EIO", .text = "a \"b\"\n\xff", .where = "here"}));
  cov_events_close(&e);
  FILE *f = fopen(path, "a");
  assert_non_null(f);
  fputs("{\"ev\":\"rou", f);
  fclose(f);
  assert_ok(cov_event_file_read(path, count_line, &n));
  assert_int_equal(n, 6);
  f = fopen(path, "a");
  assert_non_null(f);
  fputs("\n", f);
  fclose(f);
  assert_status(cov_event_file_read(path, count_line, &n), COV_EDATA);
  assert_non_null(strstr(cov_error_text(), "one.jsonl:8:"));
  assert_status(cov_event_file_read("/nonexistent/x", count_line, &n), COV_EIO);
}

/* ---- covenant summary ---- */

static char *out_text;

static int summarise(const char *arguments) {
  char command[2048], out[512];
  size_t bytes;
  assert_ok(cov_path(out, sizeof out, "%s/out", folder()));
  assert_ok(cov_path(command, sizeof command, "'%s/covenant' summary %s > '%s' 2>&1", getenv("COVENANT_BIN"), arguments,
                     out));
  int status = system(command);
  assert_true(WIFEXITED(status));
  free(out_text);
  assert_ok(cov_file_read(out, 1 << 20, &out_text, &bytes));
  return WEXITSTATUS(status);
}

static void write_text(const char *run, const char *name, const char *text) {
  char path[600];
  assert_ok(cov_path(path, sizeof path, "%s/%s", run, name));
  assert_ok(cov_file_write(path, text, strlen(text)));
}

/* A run of three peers and ten rounds; `odd_round`: peer 2 has another state from there on (-1: never). */
static void make_run(const char *run, int odd_round) {
  char path[600], hash[8];
  assert_ok(cov_path(path, sizeof path, "%s/events", run));
  assert_ok(cov_dir_make(path));
  write_text(run, "run.yaml", "run:\n  peers: 3\n  rounds: 10\n  dir: x\ntrain:\n  warmup_steps: 0\n");
  write_text(run, "STATE", "done\nall rounds are finished\n2026-01-01T00:00:00Z\n");
  write_text(run, "eval.csv",
             "round,heldout_loss,perplexity,bits_per_byte,tokens,eval_s\n0,7,1,4,28600,1\n4,5.5,1,3,28600,1\n"
             "6,4.5,1,3,28600,1\n8,4.2,1,3,28600,1\n10,3.9,1,2.4,28600,1\n");
  write_text(run, "stats.json",
             "{\"scored_tokens\":28672,\"scored_bytes\":67158,\"unigram_nats\":5.868029,\"bigram_nats\":4.065006,"
             "\"unigram_bits_per_byte\":3.6,\"bigram_bits_per_byte\":2.5}\n");
  for (int i = 0; i < 3; i++) {
    cov_events *e;
    assert_ok(cov_path(path, sizeof path, "%s/events/peer-%d-sync.jsonl", run, i));
    remove(path);
    assert_ok(cov_events_open(path, "sync", i, &e));
    assert_ok(cov_events_start(e, &(cov_event_start){.params = 1000000, .peers = 3}));
    for (int r = 0; r < 10; r++) {
      assert_ok(cov_path(hash, sizeof hash, "h%d%s", r, i == 2 && odd_round >= 0 && r >= odd_round ? "x" : ""));
      assert_ok(cov_events_round(
          e, &(cov_event_round){.round = r, .sent_bytes = 100000, .payload_bytes = 40000, .state_hash = hash}));
    }
    cov_events_close(&e);
  }
}

static void expect(const char *part) {
  if (!strstr(out_text, part)) fail_msg("no '%s' in:\n%s", part, out_text);
}

static void a_good_run_is_summarised(void **state) {
  (void)state;
  char run[512], arguments[1200];
  assert_ok(cov_path(run, sizeof run, "%s/good", folder()));
  make_run(run, -1);
  assert_ok(cov_path(arguments, sizeof arguments, "'%s' --stats '%s/stats.json'", run, run));
  assert_int_equal(summarise(arguments), 0);
  expect("done, all rounds are finished");
  expect("held-out      3.9000     2.4000   after round 10, on 28600 held-out tokens");
  expect("below it from round 4 of 10 on (40 % of the run)");
  expect("below it from round 10 of 10 on (100 % of the run)");
  expect("hashes of 3 peers equal in all 10 rounds");
  expect("100,000 bytes a round and peer: a payload of 40,000 bytes to 2 peers");
  expect("100.0 x less than fp32 parameters (payload), 80.0 x with everything");
  write_text(run, "eval.csv", "round,heldout_loss,perplexity,bits_per_byte,tokens,eval_s\n10,4.1,1,3,28600,1\n");
  assert_int_equal(summarise(arguments), 0);
  expect("the held-out loss is NOT below it");
  assert_ok(cov_path(arguments, sizeof arguments, "'%s'", run)); /* its data folder does not exist */
  assert_int_equal(summarise(arguments), 0);
  expect("note: no entropies to compare with");
}

static void different_states_end_with_9(void **state) {
  (void)state;
  char run[512], arguments[1200];
  assert_ok(cov_path(run, sizeof run, "%s/odd", folder()));
  make_run(run, 7);
  assert_ok(cov_path(arguments, sizeof arguments, "'%s' --stats '%s/stats.json'", run, run));
  assert_int_equal(summarise(arguments), 9);
  expect("hashes DIFFER in 3 of 10 rounds, first in round 7");
  expect("peer 2  h7x");
  assert_int_equal(summarise("/nonexistent"), 5);
  expect("/nonexistent is not a run directory: it does not exist");
  assert_ok(cov_path(arguments, sizeof arguments, "%s/new", folder()));
  assert_ok(cov_dir_make(arguments));
  assert_int_equal(summarise(arguments), 5);
  expect("it has no run.yaml");
  write_text(arguments, "run.yaml", "run:\n  peers: 3\n");
  assert_int_equal(summarise(arguments), 3);
  expect("/new: has not started yet");
  assert_ptr_equal(strchr(out_text, '\n'), out_text + strlen(out_text) - 1);
  assert_int_equal(summarise(""), 2);
  assert_int_equal(summarise("a b"), 2);
}

static int free_text(void **state) {
  (void)state;
  free(out_text);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_line_is_cut_into_its_fields),
      cmocka_unit_test(what_is_no_event_is_refused),
      cmocka_unit_test(a_file_is_read_up_to_its_last_whole_line),
      cmocka_unit_test(a_good_run_is_summarised),
      cmocka_unit_test(different_states_end_with_9),
  };
  return cmocka_run_group_tests(tests, NULL, free_text);
}
