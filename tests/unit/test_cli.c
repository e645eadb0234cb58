/* The built `covenant`: exit codes, where text goes, and the generated pages against docs/reference. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "support.h"

static char *out_text, *err_text;

/* Runs `covenant ARGUMENTS`; returns its exit code and leaves what it wrote in out_text and err_text. */
static int run(const char *arguments) {
  char command[2048], out[512], err[512];
  size_t bytes;
  const char *bin = getenv("COVENANT_BIN");
  assert_non_null(bin);
  static const char *folder;
  if (!folder) folder = test_folder();
  assert_ok(cov_path(out, sizeof out, "%s/out", folder));
  assert_ok(cov_path(err, sizeof err, "%s/err", folder));
  assert_ok(cov_path(command, sizeof command, "'%s/covenant' %s > '%s' 2> '%s'", bin, arguments, out, err));
  int status = system(command);
  assert_true(WIFEXITED(status));
  free(out_text);
  free(err_text);
  assert_ok(cov_file_read(out, 1 << 20, &out_text, &bytes));
  assert_ok(cov_file_read(err, 1 << 20, &err_text, &bytes));
  return WEXITSTATUS(status);
}

static void answers_go_to_stdout(void **state) {
  (void)state;
  assert_int_equal(run("--help"), 0);
  assert_non_null(strstr(out_text, "commands"));
  assert_string_equal(err_text, "");
  assert_int_equal(run("--version"), 0);
  static const char *const parts[] = {"covenant ", "commit ", "compiler ",      "MPI ",       "HDF5 ", "libyaml ",
                                      "oneDNN ",   "BLAS ",   "SentencePiece ", "libsodium ", "CUDA "};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) assert_non_null(strstr(out_text, parts[i]));
  assert_int_equal(run("--print-config sync.topk=32"), 0);
  assert_non_null(strstr(out_text, "command line"));
}

static void mistakes_end_with_2_and_one_line(void **state) {
  (void)state;
  static const char *const wrong[] = {"confg",
                                      "--helpp",
                                      "--print-config sync.topk=0",
                                      "--dry-run",
                                      "config",
                                      "config no",
                                      "config template a.b=1",
                                      "config print extra",
                                      "config -c",
                                      "ledger verfy x",
                                      "ledger show",
                                      "data prepair"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    if (run(wrong[i]) != 2) fail_msg("exit code of: covenant %s", wrong[i]);
    assert_int_equal(strncmp(err_text, "error: ", 7), 0);
    assert_ptr_equal(strchr(err_text, '\n'), err_text + strlen(err_text) - 1);
    assert_non_null(strstr(err_text, "(bad command line or configuration)\n"));
    assert_string_equal(out_text, "");
  }
  assert_int_equal(run(""), 2);
}

static void a_missing_file_ends_with_5(void **state) {
  (void)state;
  assert_int_equal(run("config print -c /nonexistent/a.yaml"), 5);
  assert_non_null(strstr(err_text, "cannot read /nonexistent/a.yaml"));
}

static void a_full_disk_ends_with_5(void **state) {
  (void)state;
  if (!cov_file_exists("/dev/full")) {
    print_message("skipped: no /dev/full here\n");
    skip();
  }
  char command[1024];
  assert_ok(cov_path(command, sizeof command, "'%s/covenant' config template > /dev/full 2> /dev/null",
                     getenv("COVENANT_BIN")));
  int status = system(command);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 5);
}

static void the_reference_pages_are_current(void **state) {
  (void)state;
  static const char *const pages[][2] = {{"config reference", "docs/reference/config.md"},
                                         {"config events", "docs/reference/events.md"},
                                         {"config exit-codes", "docs/reference/exit-codes.md"}};
  for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
    char *text;
    size_t bytes;
    assert_int_equal(run(pages[i][0]), 0);
    assert_ok(cov_file_read(test_source(pages[i][1]), 1 << 20, &text, &bytes));
    if (strcmp(text, out_text) != 0) {
      fail_msg("%s differs from the code; run: cmake --build --preset debug --target docs", pages[i][1]);
    }
    free(text);
  }
}

static int free_texts(void **state) {
  (void)state;
  free(out_text);
  free(err_text);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(answers_go_to_stdout),
      cmocka_unit_test(mistakes_end_with_2_and_one_line),
      cmocka_unit_test(a_missing_file_ends_with_5),
      cmocka_unit_test(a_full_disk_ends_with_5),
      cmocka_unit_test(the_reference_pages_are_current),
  };
  return cmocka_run_group_tests(tests, NULL, free_texts);
}
