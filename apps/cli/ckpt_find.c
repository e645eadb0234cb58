#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cli/ckpt.h"

enum { PEERS_MAX = 65536 };

static cov_status add_set(ckpt_found *f, const char *parent, int64_t peer, ckpt_set **set) {
  void *p = realloc(f->set, (size_t)(f->n + 1) * sizeof *f->set);
  if (!p) return COV_FAIL(COV_ENOMEM, "no memory to list %s", parent);
  f->set = p;
  *set = &f->set[f->n];
  **set = (ckpt_set){.peer = peer};
  COV_TRY(cov_path((*set)->parent, sizeof(*set)->parent, "%s", parent));
  f->n++;
  return COV_OK;
}

/* The checkpoints below `parent`; none is fine. */
static cov_status add_parent(ckpt_found *f, const char *parent, int64_t peer) {
  ckpt_set *set;
  COV_TRY(add_set(f, parent, peer, &set));
  COV_TRY(cov_ckpt_list(parent, &set->entry, &set->n));
  f->n_entries += set->n;
  return COV_OK;
}

static cov_status add_run(ckpt_found *f, const char *run, const char *yaml) {
  char parent[COV_CKPT_PATH_BYTES];
  const cov_config_sources sources = {.files = &yaml, .n_files = 1};
  cov_config *cfg = f->cfg = malloc(sizeof *f->cfg);
  if (!cfg) return COV_FAIL(COV_ENOMEM, "no memory for the settings of %s", run);
  COV_TRY(cov_config_load(&sources, cfg, NULL));
  for (int64_t peer = 0; peer < cfg->run.peers; peer++) {
    if (*cfg->checkpoint.dir) {
      COV_TRY(cov_path(parent, sizeof parent, "%s/%" PRId64, cfg->checkpoint.dir, peer));
    } else {
      COV_TRY(cov_path(parent, sizeof parent, "%s/peers/%" PRId64 "/checkpoints", run, peer));
    }
    COV_TRY(add_parent(f, parent, peer));
  }
  return COV_OK;
}

static cov_status add_one(ckpt_found *f, const char *folder, bool complete) {
  ckpt_set *set;
  const char *name = strrchr(folder, '/');
  name = name ? name + 1 : folder;
  size_t digits = strspn(name, "0123456789");
  COV_TRY(add_set(f, folder, -1, &set));
  set->entry = calloc(1, sizeof *set->entry);
  if (!set->entry) return COV_FAIL(COV_ENOMEM, "no memory to list %s", folder);
  set->entry->round = digits >= 6 && digits < 18 && !name[digits] ? strtoll(name, NULL, 10) : -1;
  set->entry->complete = complete;
  set->n = f->n_entries = 1;
  return cov_path(set->entry->folder, sizeof set->entry->folder, "%s", folder);
}

/* The files of an interrupted write: NAME.h5, NAME.h5.tmp. */
static bool has_parts(const char *folder) {
  bool any = false;
  DIR *dir = opendir(folder);
  if (!dir) return false;
  for (const struct dirent *d; (d = readdir(dir));) any |= strstr(d->d_name, ".h5") != NULL;
  closedir(dir);
  return any;
}

static int by_peer(const void *a, const void *b) {
  const ckpt_set *x = a, *y = b;
  return (x->peer > y->peer) - (x->peer < y->peer);
}

/* Folders named by peer, as below checkpoint.dir. */
static cov_status add_peers(ckpt_found *f, const char *path) {
  char parent[COV_CKPT_PATH_BYTES], again[32];
  DIR *dir = opendir(path);
  if (!dir) return COV_FAIL(COV_EIO, "cannot list %s: %s", path, strerror(errno));
  cov_status st = COV_OK;
  for (const struct dirent *d; st == COV_OK && (d = readdir(dir));) {
    int64_t peer = strtoll(d->d_name, NULL, 10);
    snprintf(again, sizeof again, "%" PRId64, peer);
    if (strcmp(again, d->d_name) != 0 || peer < 0 || peer >= PEERS_MAX) continue;
    st = cov_path(parent, sizeof parent, "%s/%s", path, d->d_name);
    if (st == COV_OK) st = add_parent(f, parent, peer);
  }
  closedir(dir);
  if (st == COV_OK && f->n > 1) qsort(f->set, (size_t)f->n, sizeof *f->set, by_peer);
  return st;
}

static cov_status find(const char *path, ckpt_found *f) {
  char file[COV_CKPT_PATH_BYTES];
  struct stat s;
  if (stat(path, &s) != 0) return COV_FAIL(COV_EIO, "cannot look at %s: %s", path, strerror(errno));
  if (!S_ISDIR(s.st_mode)) {
    return COV_FAIL(COV_EDATA, "%s is no folder; name a run directory, a folder of checkpoints, or one checkpoint",
                    path);
  }
  COV_TRY(cov_path(file, sizeof file, "%s/run.yaml", path));
  if (cov_file_exists(file)) return add_run(f, path, file);
  COV_TRY(cov_path(file, sizeof file, "%s/index.h5", path));
  if (cov_file_exists(file)) return add_one(f, path, true);
  COV_TRY(add_parent(f, path, -1));
  if (f->n_entries > 0) return COV_OK;
  if (has_parts(path)) {
    f->n = 0;
    return add_one(f, path, false);
  }
  f->n = 0;
  COV_TRY(add_peers(f, path));
  if (f->n_entries > 0) return COV_OK;
  COV_TRY(cov_path(file, sizeof file, "%s/checkpoints", path));
  if (cov_file_exists(file)) return COV_FAIL(COV_EDATA, "%s holds no checkpoints; did you mean %s?", path, file);
  return COV_FAIL(COV_EDATA,
                  "%s holds no checkpoints: it is no run directory (no run.yaml), no checkpoint (no index.h5) "
                  "and has no folder such as 000012",
                  path);
}

cov_status ckpt_find(const char *path, ckpt_found *out) {
  char clean[COV_CKPT_PATH_BYTES];
  *out = (ckpt_found){0};
  COV_TRY(cov_path(clean, sizeof clean, "%s", path));
  for (size_t n = strlen(clean); n > 1 && clean[n - 1] == '/'; n--) clean[n - 1] = '\0';
  cov_status st = find(clean, out);
  if (st != COV_OK) ckpt_found_free(out);
  return st;
}

void ckpt_found_free(ckpt_found *f) {
  for (int i = 0; i < f->n; i++) free(f->set[i].entry);
  free(f->set);
  free(f->cfg);
  *f = (ckpt_found){0};
}
