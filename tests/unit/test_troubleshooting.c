/* covenant-test: timeout=60
 * The messages in docs/troubleshooting.md are the exact words of the programs: each is looked for in the sources, where
 * a text may be cut into several literals. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "support.h"

enum { SOURCES_BYTES = 16 << 20 };

/* All .c files of apps and lib with `" "` of adjacent literals taken out. */
static char *read_sources(void) {
  char command[4200];
  const char *root = getenv("COVENANT_SOURCE");
  assert_non_null(root);
  snprintf(command, sizeof command, "find '%s/apps' '%s/lib' -name '*.c' -exec cat {} +", root, root);
  FILE *f = popen(command, "r");
  assert_non_null(f);
  char *text = malloc(SOURCES_BYTES + 1), *out = text;
  assert_non_null(text);
  size_t n = fread(text, 1, SOURCES_BYTES, f);
  text[n] = '\0';
  assert_int_equal(pclose(f), 0);
  assert_true(n > 100000 && n < SOURCES_BYTES);
  for (const char *in = text; *in;) {
    if (*in == '"') {
      const char *next = in + 1 + strspn(in + 1, " \t\n");
      if (next > in + 1 && *next == '"') {
        in = next + 1;
        continue;
      }
    }
    *out++ = *in++;
  }
  *out = '\0';
  return text;
}

static void the_words_are_those_of_the_programs(void **state) {
  (void)state;
  char path[4200], *page, *sources = read_sources();
  size_t bytes;
  int rows = 0;
  snprintf(path, sizeof path, "%s/docs/troubleshooting.md", getenv("COVENANT_SOURCE"));
  assert_ok(cov_file_read(path, 1 << 20, &page, &bytes));
  for (char *line = strtok(page, "\n"); line; line = strtok(NULL, "\n")) {
    if (strncmp(line, "| `", 3) != 0) continue;
    char *end = strchr(line + 3, '`');
    assert_non_null(end);
    *end = '\0';
    if (!strstr(sources, line + 3))
      fail_msg("no program says '%s' any more: correct docs/troubleshooting.md", line + 3);
    rows++;
  }
  assert_true(rows >= 30);
  free(page);
  free(sources);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_words_are_those_of_the_programs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
