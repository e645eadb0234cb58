/* "Did you mean": the nearest of a list of words. All Local. */
#ifndef COVENANT_CONFIG_SUGGEST_H
#define COVENANT_CONFIG_SUGGEST_H

/** Edits (insert, delete, replace, swap of neighbours) between `a` and `b`; words of more than 64 bytes count as
 *  infinitely far (INT_MAX). */
int cov_edit_distance(const char *a, const char *b);

typedef struct {
  const char *word; /* what the user typed */
  const char *best; /* nearest so far, NULL if none is near enough */
  int distance;
} cov_suggestion;

/** Start a search for the word nearest to `word`; both borrowed. */
cov_suggestion cov_suggest_open(const char *word);
/** Consider `candidate`; a candidate is near enough within a third of the longer word's length, at least two edits. */
void cov_suggest_add(cov_suggestion *s, const char *candidate);

#endif
