#include "config/suggest.h"

#include <limits.h>
#include <string.h>

enum { WORD_MAX = 64 };

static int smallest(int a, int b) {
  return a < b ? a : b;
}

/* Optimal string alignment: three rows of the usual table, the third for swaps of neighbours. */
int cov_edit_distance(const char *a, const char *b) {
  size_t n = strlen(a), m = strlen(b);
  if (n > WORD_MAX || m > WORD_MAX) return INT_MAX;
  int before[WORD_MAX + 1], last[WORD_MAX + 1], row[WORD_MAX + 1];
  for (size_t j = 0; j <= m; j++) last[j] = (int)j;
  memcpy(before, last, sizeof before);
  for (size_t i = 1; i <= n; i++) {
    row[0] = (int)i;
    for (size_t j = 1; j <= m; j++) {
      int replace = last[j - 1] + (a[i - 1] != b[j - 1]);
      row[j] = smallest(replace, 1 + smallest(last[j], row[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = smallest(row[j], before[j - 2] + 1);
    }
    memcpy(before, last, sizeof before);
    memcpy(last, row, sizeof last);
  }
  return last[m];
}

cov_suggestion cov_suggest_open(const char *word) {
  return (cov_suggestion){.word = word, .best = NULL, .distance = INT_MAX};
}

void cov_suggest_add(cov_suggestion *s, const char *candidate) {
  int d = cov_edit_distance(s->word, candidate);
  size_t n = strlen(s->word), m = strlen(candidate);
  int limit = (int)((n > m ? n : m) / 3);
  if (limit < 2) limit = 2;
  /* Two edits turn any two-letter word into any other: such a candidate helps nobody. */
  if (d >= (int)m) return;
  if (d <= limit && d < s->distance) {
    s->best = candidate;
    s->distance = d;
  }
}
