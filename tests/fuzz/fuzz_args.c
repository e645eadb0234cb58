/* libFuzzer entry for command lines: the bytes, cut at newlines, are arguments; they are parsed or refused, and what is
 * accepted points into them. Settings are resolved only where no file is named, so that nothing is opened. */
#include <stdlib.h>
#include <string.h>

#include "config/args.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { WORDS = 32 };

static void check_inside(const char **found, int n, const char *text, size_t bytes) {
  for (int i = 0; i < n; i++) {
    if (found[i] >= text && found[i] + strlen(found[i]) > text + bytes) abort();
  }
}

static void resolve(const cov_args_program *program, const cov_args *args) {
  static cov_config cfg;
  static cov_origins origins;
  bool answered = false;
  char *answer = NULL;
  size_t answer_bytes = 0;
  FILE *out = open_memstream(&answer, &answer_bytes);
  if (!out) abort();
  cov_status st = cov_args_answer(program, args, out, &answered); /* a refusal is as good as an answer here */
  if (fclose(out) != 0) abort();
  if (st == COV_OK && answered && answer_bytes == 0 && !args->help_config) abort();
  free(answer);
  (void)cov_args_config(args, &cfg, &origins);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  bool json = false;
  int64_t peer = 0;
  const char *file = NULL;
  const cov_flag flags[] = {{"--json", NULL, COV_FLAG_SWITCH, &json, "a switch"},
                            {"--peer", "N", COV_FLAG_INT, &peer, "a number"},
                            {"--out", "FILE", COV_FLAG_TEXT, &file, "a text"},
                            {"--prompt", "TEXT", COV_FLAG_WORD, NULL, "a word"}};
  const cov_args_program program = {
      .name = "fuzz", .purpose = "None.", .usage = "", .examples = "", .flags = flags, .n_flags = 4, .max_words = 2};
  char *text = malloc(bytes + 1), *argv[WORDS + 2] = {(char[]){"fuzz"}};
  int argc = 1;
  cov_args args;
  if (!text) abort();
  memcpy(text, data, bytes);
  text[bytes] = '\0';
  for (char *rest = text, *word; argc <= WORDS && (word = strsep(&rest, "\n"));) argv[argc++] = word;
  if (cov_args_parse(&program, argc, argv, &args) == COV_OK) {
    check_inside(args.files, args.n_files, text, bytes);
    check_inside(args.overrides, args.n_overrides, text, bytes);
    check_inside(args.words, args.n_words, text, bytes);
    if (args.n_words > 2) abort();
    if (args.n_files == 0) resolve(&program, &args);
  }
  cov_args_close(&args);
  free(text);
  return 0;
}
