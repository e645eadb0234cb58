/* Shared by the tests of `covenant launch`: a scratch folder with prepared data, and a copy of `covenant` in bin/,
 * since it looks for the other programs beside itself. */
#ifndef COVENANT_TESTS_LAUNCH_FIXTURE_H
#define COVENANT_TESTS_LAUNCH_FIXTURE_H

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data_fixture.h"

static inline int open_launch_folder(void **state) {
  char command[2048];
  const char *bin = getenv("COVENANT_BIN");
  assert_non_null(bin);
  unsetenv("SLURM_JOB_NODELIST"); /* the tests may themselves run in a job */
  open_base_folder(state);
  prepare_easily(put_paragraphs("in.txt", 0, 400), in_base("data"));
  snprintf(command, sizeof command, "mkdir -p '%s' && cp '%s/covenant' '%s'", in_base("bin"), bin, in_base("bin"));
  assert_int_equal(system(command), 0);
  return 0;
}

/** All of a file below the scratch folder, "" if there is none; free(). */
static inline char *text_of(const char *name) {
  char *text;
  size_t bytes;
  if (!cov_file_exists(in_base(name))) return strdup("");
  assert_ok(cov_file_read(in_base(name), 1 << 20, &text, &bytes));
  return text;
}

#endif
