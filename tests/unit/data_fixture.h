/* Shared by the tests of prepared data: a scratch folder, made-up text, preparation with few words, streams as text. */
#ifndef COVENANT_TESTS_DATA_FIXTURE_H
#define COVENANT_TESTS_DATA_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/prepare.h"
#include "data/shards.h"
#include "support.h"

static char base_folder[256];

static inline int open_base_folder(void **state) {
  (void)state;
  snprintf(base_folder, sizeof base_folder, "%s", test_folder());
  return 0;
}

/** Path below the scratch folder; static, 64 in turn. */
static inline const char *in_base(const char *name) {
  static char paths[64][512];
  static int next;
  char *path = paths[next++ % 64];
  snprintf(path, sizeof paths[0], "%s/%s", base_folder, name);
  return path;
}

static inline const char *put(const char *name, const char *text) {
  const char *path = in_base(name);
  assert_ok(cov_file_write(path, text, strlen(text)));
  return path;
}

/** `n` different paragraphs, the first one numbered `first`, each of some made-up words. */
static inline const char *put_paragraphs(const char *name, int first, int n) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *f = open_memstream(&text, &bytes);
  for (int i = first; i < first + n; i++) {
    fprintf(f, "paragraph %d", i);
    for (uint64_t w = 0; w < 5; w++) {
      fputc(' ', f);
      for (uint64_t c = 0; c < 6; c++)
        fputc("aeioubcdfklmnprst"[(int)(test_random((uint64_t)i, 6 * w + c) * 8.5f + 8.5f)], f);
    }
    fprintf(f, "\n\n");
  }
  fclose(f);
  const char *path = put(name, text);
  free(text);
  return path;
}

/** Byte tokenizer, any size of the held-out split. */
static inline cov_prepare_params easy_params(const char *const *inputs, int n_inputs, const char *folder) {
  cov_prepare_params p;
  cov_prepare_defaults(&p);
  p.inputs = inputs;
  p.n_inputs = n_inputs;
  p.folder = folder;
  p.tokenizer = "bytes";
  p.heldout_min_tokens = 1;
  p.heldout = 0.2;
  return p;
}

static inline void prepare_easily(const char *input, const char *folder) {
  cov_prepare_params p = easy_params(&input, 1, folder);
  cov_prepare_result r;
  assert_ok(cov_prepare(&p, &r));
}

/** All text of a split, documents separated by '|'; free(). */
static inline char *split_text(const char *folder, cov_split split) {
  cov_dataset *d;
  cov_tokenizer *t;
  assert_ok(cov_dataset_open(folder, COV_VERIFY_HASH, &d));
  assert_ok(cov_dataset_tokenizer(d, &t));
  int64_t n = cov_dataset_tokens(d, split);
  uint32_t *ids = malloc((size_t)n * sizeof *ids);
  assert_non_null(ids);
  assert_ok(cov_dataset_read(d, split, 0, n, ids));
  char *out = NULL;
  size_t out_bytes = 0;
  FILE *f = open_memstream(&out, &out_bytes);
  for (int64_t first = 0, last; first < n; first = last + 1) {
    char *text;
    size_t bytes;
    for (last = first; last < n && ids[last] != cov_tokenizer_eos(t);) last++;
    assert_ok(cov_tokenizer_decode(t, ids + first, (size_t)(last - first), &text, &bytes));
    fprintf(f, "%.*s|", (int)bytes, text);
    free(text);
  }
  fclose(f);
  free(ids);
  cov_tokenizer_close(&t);
  cov_dataset_close(&d);
  return out;
}

/** 1 if document `text` is among those of split_text. */
static inline int has_document(const char *all, const char *text) {
  size_t n = strlen(text);
  for (const char *p = all; *p; p = strchr(p, '|') + 1) {
    if (strncmp(p, text, n) == 0 && p[n] == '|') return 1;
  }
  return 0;
}

static inline void assert_says(const char *what) {
  if (!strstr(cov_error_text(), what)) fail_msg("'%s' does not say '%s'", cov_error_text(), what);
}

#endif
