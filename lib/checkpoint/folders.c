/* The checkpoints of one peer as folders: names, listing, retention. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/sums.h"

cov_status cov_ckpt_folder(const char *parent, int64_t round, char *out, size_t size) {
  return cov_path(out, size, "%s/%06" PRId64, parent, round);
}

/* The round that a folder's name stands for; -1 if it is no such name. Exactly what cov_ckpt_folder writes. */
static int64_t round_of(const char *name) {
  char again[32];
  size_t n = strspn(name, "0123456789");
  if (name[n] != '\0' || n < 6 || n > 18) return -1;
  int64_t round = strtoll(name, NULL, 10);
  snprintf(again, sizeof again, "%06" PRId64, round);
  return strcmp(again, name) == 0 ? round : -1;
}

static int newest_first(const void *a, const void *b) {
  const cov_ckpt_entry *x = a, *y = b;
  return (x->round < y->round) - (x->round > y->round);
}

static cov_status add_entry(const char *parent, int64_t round, cov_ckpt_entry **list, int *n) {
  char index[COV_CKPT_PATH_BYTES];
  if (!(*n & (*n - 1))) {
    void *p = realloc(*list, (*n ? 2 * (size_t)*n : 1) * sizeof **list);
    if (!p) return COV_FAIL(COV_ENOMEM, "no memory to list %s", parent);
    *list = p;
  }
  cov_ckpt_entry *e = &(*list)[*n];
  e->round = round;
  COV_TRY(cov_ckpt_folder(parent, round, e->folder, sizeof e->folder));
  COV_TRY(cov_path(index, sizeof index, "%s/index.h5", e->folder));
  e->complete = cov_file_exists(index);
  ++*n;
  return COV_OK;
}

cov_status cov_ckpt_list(const char *parent, cov_ckpt_entry **entries, int *n) {
  *entries = NULL;
  *n = 0;
  DIR *dir = opendir(parent);
  if (!dir && errno == ENOENT) return COV_OK;
  if (!dir) return COV_FAIL(COV_EIO, "cannot list %s: %s", parent, strerror(errno));
  cov_status st = COV_OK;
  const struct dirent *d;
  while (st == COV_OK && (d = readdir(dir))) {
    int64_t round = round_of(d->d_name);
    if (round >= 0) st = add_entry(parent, round, entries, n);
  }
  closedir(dir);
  if (st != COV_OK) {
    free(*entries);
    *entries = NULL;
    *n = 0;
    return st;
  }
  if (*n > 1) qsort(*entries, (size_t)*n, sizeof **entries, newest_first);
  return COV_OK;
}

static cov_status remove_file(const char *folder, const char *name) {
  char path[COV_CKPT_PATH_BYTES];
  COV_TRY(cov_path(path, sizeof path, "%s/%s", folder, name));
  if (unlink(path) == 0 || errno == ENOENT) return COV_OK;
  return COV_FAIL(COV_EIO, "cannot remove %s: %s", path, strerror(errno));
}

cov_status cov_ckpt_remove(const char *folder) {
  COV_TRY(remove_file(folder, "index.h5"));
  DIR *dir = opendir(folder);
  if (!dir && errno == ENOENT) return COV_OK;
  if (!dir) return COV_FAIL(COV_EIO, "cannot list %s: %s", folder, strerror(errno));
  cov_status st = COV_OK;
  const struct dirent *d;
  while (st == COV_OK && (d = readdir(dir))) {
    if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0) st = remove_file(folder, d->d_name);
  }
  closedir(dir);
  COV_TRY(st);
  if (rmdir(folder) == 0 || errno == ENOENT) return COV_OK;
  return COV_FAIL(COV_EIO, "cannot remove %s: %s", folder, strerror(errno));
}

void cov_ckpt_prune_select(const cov_ckpt_entry *entries, int n, int64_t keep, int64_t keep_every, int64_t protect,
                           bool *goes) {
  int64_t newest = -1, complete = 0;
  for (int i = 0; i < n; i++) {
    const cov_ckpt_entry *e = &entries[i];
    bool stays = e->round == protect || (keep_every > 0 && e->round % keep_every == 0);
    if (e->complete) {
      if (newest < 0) newest = e->round;
      goes[i] = complete++ >= keep && !stays;
    } else {
      goes[i] = e->round < newest; /* a newer one is perhaps being written */
    }
  }
}

cov_status cov_ckpt_prune(const char *parent, int64_t keep, int64_t keep_every, int64_t protect, int *removed) {
  cov_ckpt_entry *entries;
  int n;
  *removed = 0;
  COV_TRY(cov_ckpt_list(parent, &entries, &n));
  bool *goes = calloc((size_t)n + 1, sizeof *goes);
  cov_status st = goes ? COV_OK : COV_FAIL(COV_ENOMEM, "no memory to prune %s", parent);
  if (st == COV_OK) cov_ckpt_prune_select(entries, n, keep, keep_every, protect, goes);
  for (int i = 0; i < n && st == COV_OK; i++) {
    if (!goes[i]) continue;
    st = cov_ckpt_remove(entries[i].folder);
    if (st == COV_OK) ++*removed;
  }
  free(goes);
  free(entries);
  return st;
}
