/* covenant-test: timeout=120
 * `covenant data` as people and scripts see it: exit codes, messages, output. Skipped where the program is not built.
 */

#include "data_fixture.h"
#include "tool.h"
#ifdef COVENANT_HAVE_JANSSON
#include <jansson.h>
#endif

static int run(const char *arguments) {
  return test_tool(base_folder, "covenant", "data", arguments);
}

/* Refused, with one line that has `what`. */
static void refuse(int want, const char *arguments, const char *what) {
  int rc = run(arguments);
  if (rc != want) fail_msg("data %s: exit code %d, not %d: %s", arguments, rc, want, test_output);
  assert_int_equal(strncmp(test_output, "error: ", 7), 0);
  assert_printed(what);
  if (printed_lines() != 1) fail_msg("data %s: %d lines, not one: %s", arguments, printed_lines(), test_output);
}

static void help_is_on_one_screen(void **state) {
  (void)state;
  static const char *const commands[] = {"--help", "prepare --help", "stats --help", "corpus --help"};
  for (int i = 0; i < 4; i++) {
    assert_int_equal(run(commands[i]), 0);
    assert_in_range(printed_lines(), 5, 40);
    assert_printed("usage: covenant data");
  }
  assert_int_equal(run(""), 2);
}

static void usage_errors_exit_with_2(void **state) {
  (void)state;
  put_paragraphs("in.txt", 0, 100);
  static const char *const cases[][2] = {
      {"prepair", "no such command; did you mean 'prepare'?"},
      {"zzzzzz", "prepare, stats and corpus are"},
      {"prepare --inptu in.txt --out x", "--inptu: no such flag; did you mean '--input'?"},
      {"prepare --input in.txt", "--out DIR is missing"},
      {"prepare --out x", "--input FILE... is missing"},
      {"prepare --input in.txt --out x --vocabulary 5", "--vocabulary: no such flag"},
      {"prepare --input in.txt --out x --vocab five", "'five' is not an integer"},
      {"prepare --input in.txt --out x --heldout nan", "'nan' is not a number"},
      {"prepare --input in.txt --out x --heldout 2", "held-out fraction 2"},
      {"prepare --input in.txt --out x --document page", "not a 'page'"},
      {"prepare --input in.txt --out x --format csv", "'csv' is not one of"},
      {"prepare --input in.txt --out x --invalid-utf8 keep", "'keep' is not one of"},
      {"prepare --input in.txt --out x --tokenizer wordpiece", "neither 'sentencepiece' nor 'bytes'"},
      {"prepare --input in.txt --out", "--out needs a value"},
      {"prepare in.txt --out x", "inputs follow --input"},
      {"prepare --force=1 --input in.txt --out x", "takes no value"},
      {"stats", "name one folder"},
      {"corpus", "--out DIR is missing"},
      {"corpus --out x --source web", "not 'web'"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuse(2, cases[i][0], cases[i][1]);
  assert_false(cov_file_exists(in_base("x")));
}

static void data_errors_exit_with_3_and_files_with_5(void **state) {
  (void)state;
  put("bad.txt", "abc\n\n\xff\n");
  refuse(3, "prepare --input bad.txt --out y --tokenizer bytes",
         "bad.txt is not valid UTF-8 text at byte offset 5 (line 3, byte 0xff); convert it with iconv");
  put("empty.txt", "");
  refuse(3, "prepare --input empty.txt --out y --tokenizer bytes",
         "a split into training and held-out text needs two or more");
  put("short.txt", "one\n\ntwo\n\nthree\n");
  refuse(3, "prepare --input short.txt --out y --tokenizer bytes", "give more text, or raise --heldout");
  put("key.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\"}\n");
  refuse(3, "prepare --input key.jsonl --out y --tokenizer bytes", "");
#ifdef COVENANT_HAVE_JANSSON
  assert_printed("key.jsonl, line 2: the record has no such text key");
  put("broken.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b\n");
  refuse(3, "prepare --input broken.jsonl --out y --tokenizer bytes", "broken.jsonl, line 3: not a JSON record");
#endif
  assert_false(cov_file_exists(in_base("y/manifest.yaml"))); /* and nothing else that passes for data */
  refuse(5, "prepare --input absent.txt --out y", "absent.txt");
  refuse(3, "stats y", "holds no prepared data");
  refuse(3, "corpus --out z --source wordnet --share .", "");
}

static void a_folder_is_prepared_and_measured(void **state) {
  (void)state;
  put_paragraphs("one.txt", 0, 300);
  put_paragraphs("two.txt", 200, 300);
  const char *prepare = "prepare --input one.txt two.txt --out data --tokenizer=bytes --heldout 0.1";
  assert_int_equal(run(prepare), 0);
  assert_printed("100 duplicate and 0 empty");
  assert_int_equal(run(prepare), 0);
  assert_printed("nothing was done");
  assert_int_equal(run("prepare --input one.txt --out data --tokenizer bytes"), 2);
  assert_printed("--force");
  assert_int_equal(run("stats data --verify"), 0);
  assert_printed("unigram");
  assert_printed("bigram");
  assert_int_equal(run("stats data --tokens 500 --json"), 0);
#ifdef COVENANT_HAVE_JANSSON
  json_t *o = json_loads(test_output, 0, NULL);
  assert_non_null(o);
  assert_int_equal(json_integer_value(json_object_get(o, "scored_tokens")), 500);
  assert_int_equal(json_integer_value(json_object_get(o, "vocab")), 257);
  double unigram = json_real_value(json_object_get(o, "unigram_nats")),
         bigram = json_real_value(json_object_get(o, "bigram_nats"));
  assert_true(unigram > 1 && unigram < 5.6 && bigram > 0 && bigram < unigram);
  json_decref(o);
#endif
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(help_is_on_one_screen),
      cmocka_unit_test(usage_errors_exit_with_2),
      cmocka_unit_test(data_errors_exit_with_3_and_files_with_5),
      cmocka_unit_test(a_folder_is_prepared_and_measured),
  };
  return cmocka_run_group_tests(tests, open_base_folder, NULL);
}
