#include "tool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "support.h"

char test_output[1 << 16];

int test_tool(const char *folder, const char *program, const char *command, const char *arguments) {
  char path[4096], line[8192];
  const char *bin = getenv("COVENANT_BIN");
  assert_non_null(bin); /* ctest sets it */
  snprintf(path, sizeof path, "%s/%s", bin, program);
  if (!cov_file_exists(path)) {
    printf("skipped: %s is not built\n", path);
    skip();
  }
  snprintf(line, sizeof line, "cd '%s' && exec 2>&1 && '%s' %s %s", folder, path, command, arguments);
  FILE *f = popen(line, "r");
  assert_non_null(f);
  size_t n = fread(test_output, 1, sizeof test_output - 1, f);
  test_output[n] = '\0';
  int rc = pclose(f);
  assert_true(WIFEXITED(rc));
  return WEXITSTATUS(rc);
}

void assert_printed(const char *what) {
  if (!strstr(test_output, what)) fail_msg("'%s' is not in: %s", what, test_output);
}

int printed_lines(void) {
  int n = 0;
  for (const char *p = test_output; *p; p++) n += *p == '\n';
  return n;
}
