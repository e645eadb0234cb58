/* The command-line grammar that all programs share. */
#include <stdlib.h>
#include <string.h>

#include "config/args.h"
#include "support.h"

static int64_t peer;
static bool json;
static const char *out_path;
static const cov_flag flags[] = {
    {"--peer", "N", COV_FLAG_INT, &peer, "peer number"},
    {"--json", NULL, COV_FLAG_SWITCH, &json, "machine-readable"},
    {"--out", "FILE", COV_FLAG_TEXT, &out_path, "where to write"},
    {"--say", "TEXT", COV_FLAG_WORD, NULL, "what to say; may be given often"},
};

static void version(FILE *out) {
  fputs("version text\n", out);
}

static const cov_args_program program = {
    .name = "prog",
    .purpose = "Tests flags.",
    .usage = "[key=value]...",
    .examples = "  prog --peer 3\n",
    .flags = flags,
    .n_flags = 4,
    .max_words = 2,
    .version = version,
};
static cov_args args;

static cov_status parse(const char *line) {
  static char copy[512];
  static char *argv[32];
  int argc = 0;
  cov_args_close(&args);
  peer = -1;
  json = false;
  out_path = NULL;
  snprintf(copy, sizeof copy, "prog %s", line);
  for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
  return cov_args_parse(&program, argc, argv, &args);
}

static void assert_refused(const char *line, const char *error) {
  if (parse(line) != COV_EUSAGE) fail_msg("accepted: %s", line);
  if (!strstr(cov_error_text(), error)) fail_msg("expected '%s' in: %s", error, cov_error_text());
}

static void everything_finds_its_place(void **state) {
  (void)state;
  assert_ok(parse("-c a.yaml sync.topk=4 --peer 3 --config=b.yaml word --json run.dir=x=y --out=f other --dry-run -v"));
  assert_int_equal(args.n_files, 2);
  assert_string_equal(args.files[0], "a.yaml");
  assert_string_equal(args.files[1], "b.yaml");
  assert_int_equal(args.n_overrides, 3);
  assert_string_equal(args.overrides[1], "run.dir=x=y");
  assert_string_equal(args.overrides[2], "log.level=debug");
  assert_int_equal(args.n_words, 2);
  assert_string_equal(args.words[1], "other");
  assert_int_equal(peer, 3);
  assert_true(json);
  assert_string_equal(out_path, "f");
  assert_true(args.dry_run);
  assert_false(args.help);
}

static void a_path_with_an_equals_sign_is_a_word(void **state) {
  (void)state;
  assert_ok(parse("dir/with=sign"));
  assert_int_equal(args.n_words, 1);
  assert_int_equal(args.n_overrides, 0);
}

static void the_value_of_a_word_flag_is_a_word_whatever_it_looks_like(void **state) {
  (void)state;
  assert_ok(parse("--say x=1 --say=-v"));
  assert_int_equal(args.n_words, 2);
  assert_string_equal(args.words[0], "x=1");
  assert_string_equal(args.words[1], "-v");
  assert_int_equal(args.n_overrides, 0);
  assert_refused("a --say b --say c", "'c' is neither a flag nor key=value");
  assert_refused("--say", "--say needs a value");
}

static void mistakes_are_named(void **state) {
  (void)state;
  assert_refused("--pear 3", "--pear: no such flag; did you mean '--peer'?");
  assert_refused("--print-confg", "did you mean '--print-config'?");
  assert_refused("--xyzzyxyzzy", "'prog --help' lists them");
  assert_refused("-x", "-x: no such flag");
  assert_refused("--peer", "--peer needs a value");
  assert_refused("--peer three", "--peer: 'three' is not an integer");
  assert_refused("--json=1", "--json takes no value");
  assert_refused("-c", "-c needs a value");
  assert_refused("a b c", "'c' is neither a flag nor key=value");
}

static void help_config_takes_a_prefix_if_there_is_one(void **state) {
  (void)state;
  assert_ok(parse("--help-config"));
  assert_true(args.help_config);
  assert_string_equal(args.help_prefix, "");
  assert_ok(parse("--help-config sync"));
  assert_string_equal(args.help_prefix, "sync");
  assert_int_equal(args.n_words, 0);
  assert_ok(parse("--help-config sync.topk=3"));
  assert_string_equal(args.help_prefix, "");
  assert_int_equal(args.n_overrides, 1);
}

static char *answer(const char *line, cov_status want, bool want_answered) {
  char *text = NULL;
  size_t bytes = 0;
  bool answered;
  assert_ok(parse(line));
  FILE *out = open_memstream(&text, &bytes);
  assert_non_null(out);
  assert_status(cov_args_answer(&program, &args, out, &answered), want);
  assert_int_equal(answered, want_answered);
  assert_int_equal(fclose(out), 0);
  return text;
}

static void questions_are_answered(void **state) {
  (void)state;
  char *text = answer("--help", COV_OK, true);
  assert_non_null(strstr(text, "usage: prog [key=value]..."));
  assert_non_null(strstr(text, "--peer N "));
  assert_non_null(strstr(text, "--dry-run"));
  free(text);
  text = answer("--version", COV_OK, true);
  assert_string_equal(text, "version text\n");
  free(text);
  text = answer("--help-config sync.to", COV_OK, true);
  assert_non_null(strstr(text, "sync.topk = 64"));
  assert_null(strstr(text, "sync.chunk ="));
  free(text);
  text = answer("--print-config sync.topk=32", COV_OK, true);
  assert_non_null(strstr(text, "sync.topk                    32                   command line\n"));
  free(text);
  free(answer("--print-config sync.topk=33", COV_EUSAGE, true));
  free(answer("--help-config snyc", COV_EUSAGE, true));
  free(answer("sync.topk=32", COV_OK, false));
}

static void quiet_and_verbose_are_settings(void **state) {
  (void)state;
  cov_config cfg;
  assert_ok(parse("-q"));
  assert_ok(cov_args_config(&args, &cfg, NULL));
  assert_int_equal(cfg.log.level, COV_CFG_LEVEL_WARN);
  assert_ok(parse("-v log.level=error"));
  assert_ok(cov_args_config(&args, &cfg, NULL));
  assert_int_equal(cfg.log.level, COV_CFG_LEVEL_ERROR);
}

static int close_args(void **state) {
  (void)state;
  cov_args_close(&args);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(everything_finds_its_place),
      cmocka_unit_test(a_path_with_an_equals_sign_is_a_word),
      cmocka_unit_test(the_value_of_a_word_flag_is_a_word_whatever_it_looks_like),
      cmocka_unit_test(mistakes_are_named),
      cmocka_unit_test(help_config_takes_a_prefix_if_there_is_one),
      cmocka_unit_test(questions_are_answered),
      cmocka_unit_test(quiet_and_verbose_are_settings),
  };
  return cmocka_run_group_tests(tests, NULL, close_args);
}
