#include "cli/stats_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* The first number behind "key": in `text`, which `covenant data stats --json` wrote. */
static cov_status find_number(const char *path, const char *text, const char *key, double *value) {
  char quoted[64], *end;
  COV_TRY(cov_path(quoted, sizeof quoted, "\"%s\":", key));
  const char *p = strstr(text, quoted);
  if (!p) return COV_FAIL(COV_EDATA, "%s has no %s; write it with: covenant data stats DIR --json", path, quoted);
  *value = strtod(p + strlen(quoted), &end);
  if (end == p + strlen(quoted) || !isfinite(*value)) return COV_FAIL(COV_EDATA, "%s: %s is no number", path, quoted);
  return COV_OK;
}

cov_status stats_file_read(const char *path, cov_stats *floors) {
  char *text;
  size_t bytes;
  double tokens = 0, text_bytes = 0;
  COV_TRY(cov_file_read(path, 1 << 20, &text, &bytes));
  cov_status st = find_number(path, text, "unigram_nats", &floors->unigram_nats);
  if (st == COV_OK) st = find_number(path, text, "bigram_nats", &floors->bigram_nats);
  if (st == COV_OK) st = find_number(path, text, "unigram_bits_per_byte", &floors->unigram_bits_per_byte);
  if (st == COV_OK) st = find_number(path, text, "bigram_bits_per_byte", &floors->bigram_bits_per_byte);
  if (st == COV_OK) st = find_number(path, text, "scored_tokens", &tokens);
  if (st == COV_OK) st = find_number(path, text, "scored_bytes", &text_bytes);
  if (st == COV_OK && !(tokens >= 1 && tokens < 1e15)) st = COV_FAIL(COV_EDATA, "%s: no tokens were scored", path);
  if (st == COV_OK) floors->tokens = (int64_t)tokens;
  free(text);
  return st;
}
