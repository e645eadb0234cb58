/* Events are valid JSON lines, metrics.csv reads back, STATE survives hostile reasons. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef COVENANT_HAVE_JANSSON
#include <jansson.h>
#endif

#include "base/file.h"
#include "report/metrics.h"
#include "report/state.h"
#include "support.h"

/* A path in the one folder of this test program, with nothing at it. */
static const char *file_in_folder(const char *name) {
  static char path[512];
  static const char *folder;
  if (!folder) folder = test_folder();
  assert_ok(cov_path(path, sizeof path, "%s/%s", folder, name));
  remove(path);
  return path;
}

static char *read_all(const char *path) {
  char *text;
  size_t bytes;
  assert_ok(cov_file_read(path, 1 << 20, &text, &bytes));
  return text;
}

static void write_some_events(const char *path, const char *text) {
  cov_events *e;
  assert_ok(cov_events_open(path, "sync", 3, &e));
  assert_ok(cov_events_round(
      e, &(cov_event_round){
             .round = 12, .peers_in = 4, .loss = NAN, .sent_bytes = INT64_MAX, .compute_s = 4.25, .state_hash = NULL}));
  assert_ok(cov_events_error(e, &(cov_event_error){.round = -1, .status = "COV_EIO", .text = text, .where = text}));
  cov_events_close(&e);
  assert_null(e);
}

static void the_schema_line_comes_once(void **state) {
  (void)state;
  const char *path = file_in_folder("events.jsonl");
  write_some_events(path, "disk");
  write_some_events(path, "disk");
  char *text = read_all(path);
  assert_int_equal(strncmp(text, "{\"ev\":\"schema\",", 15), 0);
  assert_null(strstr(strchr(text, '\n'), "\"schema\""));
  int n_lines = 0;
  for (char *p = text; *p; p++) n_lines += *p == '\n';
  assert_int_equal(n_lines, 5);
  free(text);
  cov_events *none = NULL;
  assert_ok(cov_events_stop(none, &(cov_event_stop){.round = 1})); /* ranks without a file */
  assert_status(cov_events_open("/nonexistent/x.jsonl", "sync", 0, &none), COV_EIO);
  assert_null(none);
}

static void a_line_cut_by_a_crash_is_removed(void **state) {
  (void)state;
  const char *path = file_in_folder("torn.jsonl");
  remove(path);
  write_some_events(path, "disk");
  char *whole = read_all(path);
  assert_int_equal(truncate(path, (off_t)strlen(whole) - 5), 0);
  cov_events *e;
  assert_ok(cov_events_open(path, "sync", 3, &e));
  cov_events_close(&e);
  char *text = read_all(path);
  assert_true(strlen(text) < strlen(whole) - 5);
  assert_int_equal(text[strlen(text) - 1], '\n');
  assert_int_equal(strncmp(text, whole, strlen(text)), 0);
  free(text);
  free(whole);
}

static void every_line_is_json(void **state) {
  (void)state;
#ifdef COVENANT_HAVE_JANSSON
  static char longest[5000];
  memset(longest, 1, sizeof longest - 1); /* each byte needs six in JSON */
  const char *texts[] = {"a \"quoted\" \\ back\nslash\t\x01",
                         "not UTF-8: \xff\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80 cut \xe2\x82",
                         "ok: \xe2\x82\xac \xf0\x9f\x99\x82", longest, ""};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    const char *path = file_in_folder("events.jsonl");
    write_some_events(path, texts[i]);
    char *text = read_all(path);
    int n_lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), n_lines++) {
      json_error_t error;
      json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);
      if (!object) fail_msg("%s: %s", error.text, line);
      assert_int_equal(json_integer_value(json_object_get(object, "peer")), 3);
      assert_string_equal(json_string_value(json_object_get(object, "program")), "sync");
      assert_true(json_real_value(json_object_get(object, "t")) > 1e9);
      if (n_lines == 1) {
        assert_int_equal(json_integer_value(json_object_get(object, "sent_bytes")), INT64_MAX);
        assert_true(json_is_null(json_object_get(object, "loss")));
        assert_true(json_is_null(json_object_get(object, "state_hash")));
        assert_true(json_real_value(json_object_get(object, "compute_s")) == 4.25);
      }
      if (n_lines == 2 && (i == 0 || i == 2)) {
        assert_string_equal(json_string_value(json_object_get(object, "text")), texts[i]);
      }
      json_decref(object);
    }
    assert_int_equal(n_lines, 3);
    free(text);
  }
#else
  print_message("skipped: built without jansson\n");
  skip();
#endif
}

static const cov_metrics_row example = {.round = 3,
                                        .peers_in = 4,
                                        .loss = 4.5,
                                        .heldout_loss = NAN,
                                        .tokens = 122880,
                                        .payload_bytes = 33000,
                                        .ratio_fp32 = 111.35,
                                        .state_hash = "00ff"};

static void metrics_read_back(void **state) {
  (void)state;
  const char *path = file_in_folder("metrics.csv");
  cov_metrics *m;
  cov_csv csv;
  double value;
  assert_ok(cov_metrics_open(path, &m));
  assert_ok(cov_metrics_write(m, &example));
  cov_metrics_close(&m);
  assert_ok(cov_metrics_open(path, &m)); /* a second start goes on in the same file */
  cov_metrics_row row = example;
  row.round = 4;
  row.heldout_loss = 3.959;
  assert_ok(cov_metrics_write(m, &row));
  cov_metrics_close(&m);
  char *text = read_all(path);
  const char *header = "round,peers_in,loss,heldout_loss,tokens,tokens_per_s,sent_bytes,received_bytes,payload_bytes,"
                       "ratio_fp32,compute_s,idle_s,wait_s,encode_s,exchange_s,apply_s,state_hash\n3,4,4.5,,122880,";
  assert_memory_equal(text, header, strlen(header));
  free(text);
  assert_ok(cov_csv_read(path, &csv));
  assert_int_equal(csv.n_rows, 2);
  assert_int_equal(csv.n_columns, 17);
  int heldout = cov_csv_column(&csv, "heldout_loss");
  assert_ok(cov_csv_number(&csv, 0, heldout, &value));
  assert_true(isnan(value));
  assert_ok(cov_csv_number(&csv, 1, heldout, &value));
  assert_true(value == 3.959);
  assert_string_equal(cov_csv_text(&csv, 1, cov_csv_column(&csv, "state_hash")), "00ff");
  assert_int_equal(cov_csv_column(&csv, "nothing"), -1);
  assert_null(cov_csv_text(&csv, 2, 0));
  cov_csv_close(&csv);
}

/* eval.csv: the columns of its event, its own header check. */
static void evaluations_read_back(void **state) {
  (void)state;
  const char *path = file_in_folder("eval.csv");
  cov_metrics *m;
  cov_csv csv;
  double value;
  remove(path);
  assert_ok(cov_metrics_open_eval(path, &m));
  assert_ok(cov_metrics_write_eval(m, &(cov_event_eval){.round = 8,
                                                        .heldout_loss = 5.5,
                                                        .perplexity = INFINITY,
                                                        .bits_per_byte = 1.25,
                                                        .tokens = 28672,
                                                        .eval_s = 0.5}));
  cov_metrics_close(&m);
  assert_status(cov_metrics_open(path, &m), COV_EMISMATCH);
  assert_ok(cov_csv_read(path, &csv));
  assert_int_equal(csv.n_columns, 6);
  assert_int_equal(csv.n_rows, 1);
  assert_string_equal(cov_csv_text(&csv, 0, cov_csv_column(&csv, "round")), "8");
  assert_string_equal(cov_csv_text(&csv, 0, cov_csv_column(&csv, "perplexity")), ""); /* not finite: no value */
  assert_ok(cov_csv_number(&csv, 0, cov_csv_column(&csv, "bits_per_byte"), &value));
  assert_true(value == 1.25);
  cov_csv_close(&csv);
}

/* Rounds that are done again after a resume replace their rows. */
static void rows_of_undone_rounds_are_cut(void **state) {
  (void)state;
  const char *path = file_in_folder("cut.csv");
  cov_metrics *m;
  cov_csv csv;
  cov_metrics_row row = example;
  remove(path);
  assert_ok(cov_metrics_open(path, &m));
  for (row.round = 7; row.round < 12; row.round++) assert_ok(cov_metrics_write(m, &row));
  assert_ok(cov_metrics_cut(m, 12)); /* nothing as late as that */
  assert_ok(cov_metrics_cut(m, 9));
  row.round = 9;
  row.loss = 1.25;
  assert_ok(cov_metrics_write(m, &row));
  cov_metrics_close(&m);
  assert_ok(cov_csv_read(path, &csv));
  assert_int_equal(csv.n_rows, 3);
  assert_string_equal(cov_csv_text(&csv, 1, 0), "8");
  assert_string_equal(cov_csv_text(&csv, 2, 0), "9");
  assert_string_equal(cov_csv_text(&csv, 2, cov_csv_column(&csv, "loss")), "1.25");
  cov_csv_close(&csv);
  assert_ok(cov_metrics_open(path, &m));
  assert_ok(cov_metrics_cut(m, 0));
  cov_metrics_close(&m);
  assert_ok(cov_csv_read(path, &csv));
  assert_int_equal(csv.n_rows, 0);
  cov_csv_close(&csv);
}

static void a_row_cut_by_a_crash_is_removed(void **state) {
  (void)state;
  const char *path = file_in_folder("metrics.csv");
  cov_metrics *m;
  cov_csv csv;
  assert_ok(cov_metrics_open(path, &m));
  assert_ok(cov_metrics_write(m, &example));
  cov_metrics_close(&m);
  FILE *f = fopen(path, "a");
  assert_non_null(f);
  fputs("4,4,4.", f);
  assert_int_equal(fclose(f), 0);
  assert_status(cov_csv_read(path, &csv), COV_EDATA);
  assert_ok(cov_metrics_open(path, &m));
  assert_ok(cov_metrics_write(m, &example));
  cov_metrics_close(&m);
  assert_ok(cov_csv_read(path, &csv));
  assert_int_equal(csv.n_rows, 2);
  cov_csv_close(&csv);
}

static void other_columns_are_not_mixed(void **state) {
  (void)state;
  const char *path = file_in_folder("metrics.csv");
  cov_metrics *m;
  assert_ok(cov_file_write(path, "round,loss\n1,2\n", 15));
  assert_status(cov_metrics_open(path, &m), COV_EMISMATCH);
  assert_null(m);
  remove(path);
  cov_metrics_row row = example;
  row.state_hash = "a,b";
  assert_ok(cov_metrics_open(path, &m));
  assert_status(cov_metrics_write(m, &row), COV_EUSAGE);
  cov_metrics_close(&m);
}

static void damaged_tables_are_refused(void **state) {
  (void)state;
  const char *path = file_in_folder("t.csv");
  cov_csv csv;
  static const char *const bad[] = {"", "a,b\n1\n", "a,b\n1,2,3\n", "a,b\n1,2", "a\n\"1\"\n", "a\n1\r\n", "a,b\n\n"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_ok(cov_file_write(path, bad[i], strlen(bad[i])));
    if (cov_csv_read(path, &csv) != COV_EDATA) fail_msg("accepted: %s", bad[i]);
    assert_null(csv.cells);
  }
  const char *numbers = "a\n1x\nnan\n0x1\n 1\n-2e3\n";
  assert_ok(cov_file_write(path, numbers, strlen(numbers)));
  assert_ok(cov_csv_read(path, &csv));
  double value;
  for (int row = 0; row < 4; row++) assert_status(cov_csv_number(&csv, row, 0, &value), COV_EDATA);
  assert_ok(cov_csv_number(&csv, 4, 0, &value));
  assert_true(value == -2000);
  cov_csv_close(&csv);
}

static void state_is_written_and_read(void **state) {
  (void)state;
  char folder[512], path[600], reason[COV_STATE_REASON_BYTES], longest[2000];
  cov_run_state s;
  snprintf(folder, sizeof folder, "%s", test_folder());
  assert_status(cov_state_read(folder, &s, reason), COV_EIO);
  assert_ok(cov_state_write(folder, COV_RUN_REQUEUE, "time limit\nin 5 minutes"));
  assert_ok(cov_state_read(folder, &s, reason));
  assert_int_equal(s, COV_RUN_REQUEUE);
  assert_string_equal(reason, "time limit in 5 minutes");
  snprintf(path, sizeof path, "%s/STATE", folder);
  char *text = read_all(path);
  assert_int_equal(strncmp(text, "requeue\n", 8), 0); /* what a job script compares */
  free(text);
  memset(longest, 'x', sizeof longest);
  longest[sizeof longest - 1] = '\0';
  assert_ok(cov_state_write(folder, COV_RUN_FAILED, longest));
  assert_ok(cov_state_read(folder, &s, reason));
  assert_int_equal(strlen(reason), COV_STATE_REASON_BYTES - 1);
  static const char *const bad[] = {"", "finished\n", "done", "do", "donee\n"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_ok(cov_file_write(path, bad[i], strlen(bad[i])));
    if (cov_state_read(folder, &s, reason) != COV_EDATA) fail_msg("accepted: %s", bad[i]);
  }
}

/* Of one process the first end; another process's hand is its own. */
static void the_first_end_stays(void **state) {
  (void)state;
  char folder[512], reason[COV_STATE_REASON_BYTES];
  cov_run_state s;
  cov_state_writer first, second;
  snprintf(folder, sizeof folder, "%s", test_folder());
  cov_state_writer_open(&first, folder);
  cov_state_writer_open(&second, folder);
  assert_ok(cov_state_tell(&first, COV_RUN_RUNNING, "training"));
  assert_ok(cov_state_tell(&first, COV_RUN_FAILED, "COV_ENUMERIC: the cause"));
  assert_ok(cov_state_tell(&first, COV_RUN_RUNNING, "training"));
  assert_ok(cov_state_tell(&first, COV_RUN_FAILED, "COV_ECOMM: its echo"));
  assert_ok(cov_state_tell(&first, COV_RUN_DONE, "all rounds are done"));
  assert_ok(cov_state_read(folder, &s, reason));
  assert_int_equal(s, COV_RUN_FAILED);
  assert_string_equal(reason, "COV_ENUMERIC: the cause");
  assert_ok(cov_state_tell(&second, COV_RUN_RUNNING, "training"));
  assert_ok(cov_state_read(folder, &s, reason));
  assert_int_equal(s, COV_RUN_RUNNING);
  /* What could not be written may be tried again. */
  cov_state_writer_open(&first, "/nonexistent");
  assert_status(cov_state_tell(&first, COV_RUN_FAILED, "cause"), COV_EIO);
  assert_status(cov_state_tell(&first, COV_RUN_FAILED, "cause"), COV_EIO);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_schema_line_comes_once),
      cmocka_unit_test(a_line_cut_by_a_crash_is_removed),
      cmocka_unit_test(every_line_is_json),
      cmocka_unit_test(metrics_read_back),
      cmocka_unit_test(evaluations_read_back),
      cmocka_unit_test(rows_of_undone_rounds_are_cut),
      cmocka_unit_test(a_row_cut_by_a_crash_is_removed),
      cmocka_unit_test(other_columns_are_not_mixed),
      cmocka_unit_test(damaged_tables_are_refused),
      cmocka_unit_test(state_is_written_and_read),
      cmocka_unit_test(the_first_end_stays),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
