#include "ledger/store.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { PATH_BYTES = 4096 };

static cov_status write_all(const char *path, const uint8_t *data, size_t bytes) {
  FILE *f = fopen(path, "wb");
  if (!f) return COV_FAIL(COV_EIO, "cannot write %s: %s", path, strerror(errno));
  size_t written = fwrite(data, 1, bytes, f);
  if (fclose(f) == 0 && written == bytes) return COV_OK;
  int error = errno;
  (void)unlink(path);
  return COV_FAIL(COV_EIO, "cannot write %zu bytes to %s: %s", bytes, path, strerror(error));
}

cov_status cov_store_put(const char *dir, int64_t round, int32_t peer, const uint8_t *payload, size_t bytes) {
  char path[PATH_BYTES], aside[PATH_BYTES];
  COV_TRY(cov_path(path, sizeof path, "%s/%" PRId64, dir, round));
  COV_TRY(cov_dir_make(path));
  COV_TRY(cov_path(path, sizeof path, "%s/%" PRId64 "/%" PRId32, dir, round, peer));
  COV_TRY(cov_path(aside, sizeof aside, "%s.part", path));
  COV_TRY(write_all(aside, payload, bytes));
  if (rename(aside, path) == 0) return COV_OK;
  return COV_FAIL(COV_EIO, "cannot rename %s: %s", aside, strerror(errno));
}

cov_status cov_store_get(const char *dir, int64_t round, int32_t peer, size_t limit, uint8_t **payload, size_t *bytes) {
  char path[PATH_BYTES];
  void *p = NULL;
  COV_TRY(cov_path(path, sizeof path, "%s/%" PRId64 "/%" PRId32, dir, round, peer));
  FILE *f = fopen(path, "rb");
  if (!f) return COV_FAIL(COV_EIO, "cannot read %s: %s", path, strerror(errno));
  cov_status st = COV_OK;
  long n = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
  if (n <= 0 || (size_t)n > limit || fseek(f, 0, SEEK_SET) != 0) {
    st = COV_FAIL(COV_EIO, "%s has %ld bytes; 1 to %zu are expected", path, n, limit);
  }
  if (st == COV_OK) st = cov_mem_alloc(COV_SPACE_HOST, COV_MEM_PAYLOAD, (size_t)n, &p);
  if (st == COV_OK && fread(p, 1, (size_t)n, f) != (size_t)n) st = COV_FAIL(COV_EIO, "cannot read all of %s", path);
  fclose(f);
  if (st != COV_OK) {
    cov_mem_free(p);
    return st;
  }
  *payload = p;
  *bytes = (size_t)n;
  return COV_OK;
}

/* -1: not a number as this store writes it. */
static int64_t number_of(const char *name) {
  char *end, again[32];
  errno = 0;
  long long n = strtoll(name, &end, 10);
  snprintf(again, sizeof again, "%lld", n);
  return errno == 0 && n >= 0 && strcmp(again, name) == 0 ? (int64_t)n : -1;
}

static void remove_round(const char *path) {
  char file[PATH_BYTES];
  DIR *d = opendir(path);
  if (!d) return;
  for (const struct dirent *e; (e = readdir(d));) {
    if (number_of(e->d_name) < 0 && !strstr(e->d_name, ".part")) continue;
    if (cov_path(file, sizeof file, "%s/%s", path, e->d_name) == COV_OK) (void)unlink(file);
  }
  closedir(d);
  (void)rmdir(path); /* not empty: somebody put something there, and it stays */
}

cov_status cov_store_prune(const char *dir, int64_t last) {
  char path[PATH_BYTES];
  DIR *d = opendir(dir);
  if (!d) return errno == ENOENT ? COV_OK : COV_FAIL(COV_EIO, "cannot read %s: %s", dir, strerror(errno));
  for (const struct dirent *e; (e = readdir(d));) {
    int64_t round = number_of(e->d_name);
    if (round < 0 || round > last) continue;
    if (cov_path(path, sizeof path, "%s/%s", dir, e->d_name) == COV_OK) remove_round(path);
  }
  closedir(d);
  return COV_OK;
}
