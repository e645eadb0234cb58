/* covenant-test: timeout=60
 * The messages in docs/troubleshooting.md, and those in the table "What can go wrong" of README.md, are the exact words
 * of the programs: each is looked for in the sources, where a text may be cut into several literals. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "support.h"

enum { SOURCES_BYTES = 16 << 20 };

/* Without `" "` between adjacent literals, and with %d for every integer, whatever its width. */
static void join_literals(char *text) {
  char *out = text;
  for (const char *in = text; *in;) {
    if (strncmp(in, "%\" PRI", 6) == 0) {
      const char *end = strchr(in + 2, '"');
      assert_non_null(end);
      memcpy(out, "%d", 2);
      out += 2;
      in = end + 1;
      continue;
    }
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
}

/* All .c files of apps and lib, and what the first scripts that a user starts say. */
static char *read_sources(void) {
  char command[8400];
  const char *root = getenv("COVENANT_SOURCE");
  assert_non_null(root);
  snprintf(command, sizeof command,
           "cd '%s' && find apps lib -name '*.c' -exec cat {} + && cat tools/install_deps.sh tools/quickstart.sh",
           root);
  FILE *f = popen(command, "r");
  assert_non_null(f);
  char *text = malloc(SOURCES_BYTES + 1);
  assert_non_null(text);
  size_t n = fread(text, 1, SOURCES_BYTES, f);
  text[n] = '\0';
  assert_int_equal(pclose(f), 0);
  assert_true(n > 100000 && n < SOURCES_BYTES);
  join_literals(text);
  return text;
}

/* free() */
static char *read_page(const char *name) {
  char path[4200], *page;
  size_t bytes;
  snprintf(path, sizeof path, "%s/%s", getenv("COVENANT_SOURCE"), name);
  assert_ok(cov_file_read(path, 1 << 20, &page, &bytes));
  return page;
}

/* `message` of `page`: '...' stands for anything, N for a number. */
static void look_for_parts(const char *sources, const char *page, const char *message) {
  char text[256];
  size_t n = 0;
  for (const char *in = message; *in && n + 2 < sizeof text; in++) {
    bool number = *in == 'N' && (in == message || in[-1] == ' ') && (in[1] == '\0' || in[1] == ' ');
    text[n++] = number ? '%' : *in;
    if (number) text[n++] = 'd';
  }
  text[n] = '\0';
  for (char *part = text, *next; part; part = next) {
    next = strstr(part, "...");
    if (next) {
      *next = '\0';
      next += 3;
    }
    if (!strstr(sources, part)) fail_msg("no program says '%s' (of '%s') any more: correct %s", part, message, page);
  }
}

static void the_words_are_those_of_the_programs(void **state) {
  (void)state;
  char *sources = read_sources(), *page = read_page("docs/troubleshooting.md");
  int rows = 0;
  for (char *line = strtok(page, "\n"); line; line = strtok(NULL, "\n")) {
    if (strncmp(line, "| `", 3) != 0) continue;
    char *end = strchr(line + 3, '`');
    assert_non_null(end);
    *end = '\0';
    look_for_parts(sources, "docs/troubleshooting.md", line + 3);
    rows++;
  }
  assert_true(rows >= 30);
  free(page);
  free(sources);
}

/* What stands between backticks in the first column. */
static void the_words_of_the_readme_are_those_too(void **state) {
  (void)state;
  char *sources = read_sources(), *page = read_page("README.md");
  char *table = strstr(page, "\n## What can go wrong\n");
  assert_non_null(table);
  char *rest = strstr(table + 1, "\n## ");
  assert_non_null(rest);
  *rest = '\0';
  int messages = 0;
  for (char *line = strtok(table, "\n"); line; line = strtok(NULL, "\n")) {
    if (strncmp(line, "| ", 2) != 0) continue;
    char *cell_end = strstr(line + 2, " | ");
    assert_non_null(cell_end);
    *cell_end = '\0';
    for (char *at = strchr(line, '`'), *end; at; at = strchr(end + 1, '`')) {
      end = strchr(at + 1, '`');
      assert_non_null(end);
      *end = '\0';
      look_for_parts(sources, "README.md", at + 1);
      messages++;
    }
  }
  assert_true(messages >= 12);
  free(page);
  free(sources);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_words_are_those_of_the_programs),
                                     cmocka_unit_test(the_words_of_the_readme_are_those_too)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
