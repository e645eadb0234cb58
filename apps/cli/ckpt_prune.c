#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ckpt.h"

/* ---- what the run may need ---- */

typedef struct {
  int64_t *round; /* [n], newest first */
  int n;
} rounds;

static int newest_first(const void *a, const void *b) {
  const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x < y) - (x > y);
}

/* Leaves each round that more peers have than any newer one. */
static void keep_needed(rounds *r) {
  int most = 0, n = 0;
  for (int i = 0, same; i < r->n; i += same) {
    same = 1;
    while (i + same < r->n && r->round[i + same] == r->round[i]) same++;
    if (same <= most) continue;
    most = same;
    r->round[n++] = r->round[i];
  }
  r->n = n;
}

/* A run goes on from the newest round that all who were members at it have. The ledger knows the members, but a
 * checkpoint.dir lies apart from it. Members only leave, so that round is one that more peers have than any newer one.
 * All of those stay: a peer that left early costs the others one old checkpoint at most. */
static cov_status needed_rounds(const ckpt_found *f, rounds *r) {
  *r = (rounds){.round = calloc((size_t)f->n_entries + 1, sizeof *r->round)};
  if (!r->round) return COV_FAIL(COV_ENOMEM, "no memory for the rounds of %d checkpoints", f->n_entries);
  for (int i = 0; i < f->n; i++) {
    for (int e = 0; e < f->set[i].n; e++) {
      if (f->set[i].entry[e].complete) r->round[r->n++] = f->set[i].entry[e].round;
    }
  }
  qsort(r->round, (size_t)r->n, sizeof *r->round, newest_first);
  keep_needed(r);
  return COV_OK;
}

static bool is_needed(const rounds *r, int64_t round) {
  for (int i = 0; i < r->n; i++) {
    if (r->round[i] == round) return true;
  }
  return false;
}

/* ---- removing ---- */

static cov_status prune_set(const ckpt_set *set, const ckpt_prune_params *p, const rounds *needed, int *removed) {
  cov_status st = COV_OK;
  bool *goes = calloc((size_t)set->n + 1, sizeof *goes);
  if (!goes) return COV_FAIL(COV_ENOMEM, "no memory to prune %s", set->parent);
  cov_ckpt_prune_select(set->entry, set->n, p->keep, p->keep_every, -1, goes);
  for (int i = 0; i < set->n && st == COV_OK; i++) {
    if (!goes[i] || (set->entry[i].complete && is_needed(needed, set->entry[i].round))) continue;
    if (!p->dry_run) st = cov_ckpt_remove(set->entry[i].folder);
    if (st != COV_OK) break;
    printf("%s %s%s\n", p->dry_run ? "would remove" : "removed", set->entry[i].folder,
           set->entry[i].complete ? "" : " (incomplete)");
    ++*removed;
  }
  free(goes);
  return st;
}

static cov_status settle(const char *path, const ckpt_found *f, ckpt_prune_params *p) {
  if (f->n_entries == 1 && f->set[0].peer < 0 && strcmp(f->set[0].parent, f->set[0].entry[0].folder) == 0) {
    return COV_FAIL(COV_EUSAGE, "%s is one checkpoint; name its run or the folder that it lies in", path);
  }
  if (p->keep < 0 && !f->cfg) {
    return COV_FAIL(COV_EUSAGE, "%s is no run directory, so --keep N is needed: how many to keep of each peer", path);
  }
  if (p->keep < 0) p->keep = f->cfg->checkpoint.keep;
  if (p->keep_every < 0) p->keep_every = f->cfg ? f->cfg->checkpoint.keep_every : 0;
  return COV_OK;
}

cov_status ckpt_prune(const char *path, const ckpt_found *f, const ckpt_prune_params *params) {
  ckpt_prune_params p = *params;
  rounds needed;
  int removed = 0;
  COV_TRY(settle(path, f, &p));
  COV_TRY(needed_rounds(f, &needed));
  cov_status st = COV_OK;
  for (int i = 0; i < f->n && st == COV_OK; i++) st = prune_set(&f->set[i], &p, &needed, &removed);
  free(needed.round);
  COV_TRY(st);
  printf("%s %d of %d (keep %" PRId64 ", keep_every %" PRId64 ")\n", p.dry_run ? "would remove" : "removed", removed,
         f->n_entries, p.keep, p.keep_every);
  return COV_OK;
}
