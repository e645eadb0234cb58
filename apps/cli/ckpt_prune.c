#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ckpt.h"

static bool set_has(const ckpt_set *set, int64_t round) {
  for (int i = 0; i < set->n; i++) {
    if (set->entry[i].complete && set->entry[i].round == round) return true;
  }
  return false;
}

/* The newest round that every peer which has checkpoints here has; -1: none. */
static int64_t newest_of_all(const ckpt_found *f) {
  int64_t best = -1;
  for (int i = 0; i < f->n; i++) {
    for (int e = 0; e < f->set[i].n; e++) {
      int64_t round = f->set[i].entry[e].round;
      bool all = round > best;
      for (int k = 0; k < f->n && all; k++) all = f->set[k].n == 0 || set_has(&f->set[k], round);
      if (all) best = round;
    }
  }
  return best;
}

static cov_status prune_set(const ckpt_set *set, const ckpt_prune_params *p, int64_t protect, int *removed) {
  cov_status st = COV_OK;
  bool *goes = calloc((size_t)set->n + 1, sizeof *goes);
  if (!goes) return COV_FAIL(COV_ENOMEM, "no memory to prune %s", set->parent);
  cov_ckpt_prune_select(set->entry, set->n, p->keep, p->keep_every, protect, goes);
  for (int i = 0; i < set->n && st == COV_OK; i++) {
    if (!goes[i]) continue;
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
  int removed = 0;
  COV_TRY(settle(path, f, &p));
  int64_t protect = newest_of_all(f);
  for (int i = 0; i < f->n; i++) COV_TRY(prune_set(&f->set[i], &p, protect, &removed));
  printf("%s %d of %d (keep %" PRId64 ", keep_every %" PRId64 ")\n", p.dry_run ? "would remove" : "removed", removed,
         f->n_entries, p.keep, p.keep_every);
  return COV_OK;
}
