/* Opening a checkpoint: hashes and sizes first, HDF5 only on what passed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "checkpoint/h5.h"
#include "checkpoint/sums.h"

enum { FILES_MAX = 65536, TENSORS_MAX = 1 << 20 };

struct cov_ckpt {
  char folder[COV_CKPT_PATH_BYTES];
  hid_t index;
  cov_ckpt_meta meta;
  covi_sum *sums; /* [n_sums] */
  bool *hashed;   /* [n_sums], allocated with COV_CKPT_SOURCES only: the file has the hash in sums */
  int n_sums;
  cov_ckpt_tensor *tensor; /* [n] */
  int n;
  int64_t bytes;
};

/* ---- checks ---- */

static cov_status check_hash(const char *folder, const covi_sum *sum, int64_t *bytes) {
  char path[COV_CKPT_PATH_BYTES];
  uint8_t hash[COV_HASH_BYTES];
  COV_TRY(cov_path(path, sizeof path, "%s/%s", folder, sum->name));
  if (!cov_file_exists(path)) return COV_FAIL(COV_EDATA, "%s is missing", path);
  COV_TRY(covi_file_hash(path, hash, bytes));
  if (memcmp(hash, sum->hash, COV_HASH_BYTES) == 0) return COV_OK;
  return COV_FAIL(COV_EDATA, "%s is damaged: its hash is not the one in SUMS", path);
}

static cov_status check_size(const char *folder, const char *name, int64_t bytes) {
  char path[COV_CKPT_PATH_BYTES];
  struct stat s;
  COV_TRY(cov_path(path, sizeof path, "%s/%s", folder, name));
  if (stat(path, &s) != 0) {
    if (errno == ENOENT) return COV_FAIL(COV_EDATA, "%s is missing", path);
    return COV_FAIL(COV_EIO, "cannot look at %s: %s", path, strerror(errno));
  }
  if ((int64_t)s.st_size == bytes) return COV_OK;
  return COV_FAIL(COV_EDATA, "%s has %lld bytes instead of %lld: it was cut short or replaced", path,
                  (long long)s.st_size, (long long)bytes);
}

/* SUMS against what is there: all files (FULL), or index.h5 alone. */
static cov_status check_hashes(cov_ckpt *c, cov_ckpt_check check) {
  bool seen = false;
  COV_TRY(covi_sums_read(c->folder, &c->sums, &c->n_sums));
  if (check == COV_CKPT_SOURCES) {
    c->hashed = calloc((size_t)c->n_sums + 1, sizeof *c->hashed);
    if (!c->hashed) return COV_FAIL(COV_ENOMEM, "no memory to check the files of %s", c->folder);
  }
  for (int i = 0; i < c->n_sums; i++) {
    int64_t bytes;
    bool index = strcmp(c->sums[i].name, COVI_INDEX) == 0;
    seen |= index;
    if (!index && check != COV_CKPT_FULL) continue;
    COV_TRY(check_hash(c->folder, &c->sums[i], &bytes));
    if (index) c->bytes = bytes;
  }
  if (seen) return COV_OK;
  return COV_FAIL(COV_EDATA, "%s/%s does not name %s; it is damaged", c->folder, COVI_SUMS, COVI_INDEX);
}

/* A file without a hash would pass a full check unread. */
static cov_status check_listed(const cov_ckpt *c, const char *name) {
  for (int i = 0; i < c->n_sums; i++) {
    if (strcmp(c->sums[i].name, name) == 0) return COV_OK;
  }
  return COV_FAIL(COV_EDATA, "%s/%s does not name %s; it is damaged", c->folder, COVI_SUMS, name);
}

/* ---- the index ---- */

static cov_status read_meta(cov_ckpt *c) {
  cov_ckpt_meta *m = &c->meta;
  int64_t format = -1, seed = 0;
  if (!covi_h5_get_ints(c->index, "format", &format, 1) || format != COV_CKPT_FORMAT) {
    return COV_FAIL(COV_EDATA, "%s/index.h5 has format %lld; this program reads format %d", c->folder,
                    (long long)format, COV_CKPT_FORMAT);
  }
  bool ok = covi_h5_get_ints(c->index, "round", &m->round, 1) && covi_h5_get_ints(c->index, "step", &m->step, 1) &&
            covi_h5_get_ints(c->index, "tokens", &m->tokens, 1) && covi_h5_get_ints(c->index, "peer", &m->peer, 1) &&
            covi_h5_get_ints(c->index, "written_unix_s", &m->written_unix_s, 1) &&
            covi_h5_get_ints(c->index, "seed", &seed, 1) &&
            covi_h5_get_bytes(c->index, "run_id", m->run_id, sizeof m->run_id) &&
            covi_h5_get_bytes(c->index, "config_digest", m->config_digest, sizeof m->config_digest) &&
            covi_h5_get_bytes(c->index, "params_digest", m->params_digest, sizeof m->params_digest) &&
            covi_h5_get_bytes(c->index, "state_hash", m->state_hash, sizeof m->state_hash) &&
            covi_h5_get_bytes(c->index, "ledger_hash", m->ledger_hash, sizeof m->ledger_hash);
  m->seed = (uint64_t)seed;
  m->config = covi_h5_get_text(c->index, "config");
  if (ok && m->config && m->round >= 0) return COV_OK;
  return COV_FAIL(COV_EDATA, "%s/index.h5 lacks a part of its description; it is damaged", c->folder);
}

/* "files" is a list of lines, "sizes" has one number for each. */
static cov_status check_sizes(cov_ckpt *c) {
  char *names = covi_h5_get_text(c->index, "files");
  cov_status st = COV_OK;
  int n = 0;
  if (!names) return COV_FAIL(COV_EDATA, "%s/index.h5 does not list its files; it is damaged", c->folder);
  for (const char *p = names; *p; p++) n += *p == '\n';
  int64_t *sizes = calloc((size_t)n + 1, sizeof *sizes);
  if (!sizes) COV_FAIL_DONE(COV_ENOMEM, "no memory for the sizes of %d files", n);
  if (n < 1 || n > FILES_MAX || !covi_h5_get_ints(c->index, "sizes", sizes, n)) {
    COV_FAIL_DONE(COV_EDATA, "%s/index.h5 has no sizes of its files; it is damaged", c->folder);
  }
  char *name = names;
  for (int i = 0; i < n; i++) {
    char *end = strchr(name, '\n');
    *end = '\0';
    COV_TRY_DONE(covi_file_name_check(name));
    COV_TRY_DONE(check_listed(c, name));
    COV_TRY_DONE(check_size(c->folder, name, sizes[i]));
    c->bytes += sizes[i];
    name = end + 1;
  }
done:
  free(sizes);
  free(names);
  return st;
}

typedef struct {
  cov_ckpt *ckpt;
  const char *group;
  cov_status st;
} walk;

static cov_status add_tensor(cov_ckpt *c, hid_t set, const char *group, const char *name) {
  cov_ckpt_tensor t = {0};
  bool ok = covi_h5_shape(set, &t.dims, t.shape);
  if (!ok || strlen(name) >= COV_CKPT_NAME_BYTES || c->n >= TENSORS_MAX) {
    return COV_FAIL(COV_EDATA, "%s/index.h5: %s is not a tensor", c->folder, name);
  }
  snprintf(t.group, sizeof t.group, "%s", group);
  snprintf(t.name, sizeof t.name, "%s", name);
  if (!(c->n & (c->n - 1))) {
    void *p = realloc(c->tensor, (c->n ? 2 * (size_t)c->n : 1) * sizeof t);
    if (!p) return COV_FAIL(COV_ENOMEM, "no memory for the table of %s", c->folder);
    c->tensor = p;
  }
  c->tensor[c->n++] = t;
  return COV_OK;
}

static herr_t visit(hid_t group, const char *name, const H5L_info_t *info, void *arg) {
  walk *w = arg;
  (void)info;
  for (int g = 0; g < COVI_CKPT_GROUPS; g++) {
    if (strcmp(w->group, "theta") == 0 && strcmp(name, covi_ckpt_groups[g]) == 0) return 0; /* a folder of the root */
  }
  hid_t set = H5Dopen2(group, name, H5P_DEFAULT);
  if (set < 0) {
    w->st = COVI_H5_FAIL(COV_EDATA, "%s/index.h5: cannot open %s", w->ckpt->folder, name);
    return 1;
  }
  w->st = add_tensor(w->ckpt, set, w->group, name);
  H5Dclose(set);
  return w->st != COV_OK;
}

static cov_status list_tensors(cov_ckpt *c) {
  for (int g = 0; g < COVI_CKPT_GROUPS; g++) {
    walk w = {.ckpt = c, .group = covi_ckpt_groups[g]};
    const char *at = g == 0 ? "/" : covi_ckpt_groups[g];
    if (g > 0 && H5Lexists(c->index, at, H5P_DEFAULT) <= 0) continue;
    herr_t rc = H5Literate_by_name(c->index, at, H5_INDEX_CRT_ORDER, H5_ITER_INC, NULL, visit, &w, H5P_DEFAULT);
    if (w.st != COV_OK) return w.st;
    if (rc < 0) return COVI_H5_FAIL(COV_EDATA, "%s/index.h5: cannot list %s", c->folder, at);
  }
  return COV_OK;
}

static cov_status open_index(cov_ckpt *c) {
  char path[COV_CKPT_PATH_BYTES];
  COV_TRY(cov_path(path, sizeof path, "%s/index.h5", c->folder));
  c->index = covi_h5_open(path);
  if (c->index < 0) return COVI_H5_FAIL(COV_EDATA, "cannot open %s", path);
  COV_TRY(read_meta(c));
  COV_TRY(check_sizes(c));
  return list_tensors(c);
}

/* It would send HDF5 to another folder for the files that the index names, past our checks. */
static cov_status check_environment(void) {
  const char *prefix = getenv("HDF5_VDS_PREFIX");
  if (!prefix || !*prefix) return COV_OK;
  return COV_FAIL(COV_EUSAGE, "the environment variable HDF5_VDS_PREFIX is set; unset it to read checkpoints");
}

cov_status cov_ckpt_open(const char *folder, cov_ckpt_check check, cov_ckpt **out) {
  char path[COV_CKPT_PATH_BYTES];
  *out = NULL;
  covi_h5_quiet();
  COV_TRY(check_environment());
  COV_TRY(cov_path(path, sizeof path, "%s/index.h5", folder));
  if (!cov_file_exists(path)) {
    return COV_FAIL(COV_EIO, "%s is not a checkpoint: it has no index.h5 (it may have been interrupted)", folder);
  }
  cov_ckpt *c = calloc(1, sizeof *c);
  if (!c) return COV_FAIL(COV_ENOMEM, "no memory to open %s", folder);
  c->index = -1;
  cov_status st = cov_path(c->folder, sizeof c->folder, "%s", folder);
  if (st == COV_OK) st = check_hashes(c, check);
  if (st == COV_OK) st = open_index(c);
  if (st != COV_OK) {
    cov_ckpt_close(&c);
    return st;
  }
  *out = c;
  return COV_OK;
}

void cov_ckpt_close(cov_ckpt **ckpt) {
  cov_ckpt *c = *ckpt;
  *ckpt = NULL;
  if (!c) return;
  if (c->index >= 0) H5Fclose(c->index);
  free(c->meta.config);
  free(c->tensor);
  free(c->sums);
  free(c->hashed);
  free(c);
}

/* ---- what is in it ---- */

const cov_ckpt_meta *cov_ckpt_meta_of(const cov_ckpt *c) {
  return &c->meta;
}

int64_t cov_ckpt_bytes(const cov_ckpt *c) {
  return c->bytes;
}

int cov_ckpt_count(const cov_ckpt *c) {
  return c->n;
}

const cov_ckpt_tensor *cov_ckpt_at(const cov_ckpt *c, int i) {
  COV_ASSERT(i >= 0 && i < c->n);
  return &c->tensor[i];
}

static const cov_ckpt_tensor *find(const cov_ckpt *c, const char *group, const char *name) {
  for (int i = 0; i < c->n; i++) {
    if (strcmp(c->tensor[i].group, group) == 0 && strcmp(c->tensor[i].name, name) == 0) return &c->tensor[i];
  }
  return NULL;
}

bool cov_ckpt_has(const cov_ckpt *c, const char *group, const char *name) {
  return find(c, group, name) != NULL;
}

static cov_status check_shape(const cov_ckpt *c, const cov_ckpt_piece *want) {
  const cov_ckpt_tensor *t = find(c, want->group, want->name);
  if (!t) return COV_FAIL(COV_EDATA, "%s has no %s/%s", c->folder, want->group, want->name);
  int64_t cols = t->dims == 1 ? 0 : t->shape[1], want_cols = want->dims == 1 ? 0 : want->shape[1];
  if (t->dims != want->dims || t->shape[0] != want->shape[0] || cols != want_cols) {
    return COV_FAIL(COV_EMISMATCH, "%s has %s/%s with shape [%lld, %lld], wanted is [%lld, %lld]", c->folder,
                    want->group, want->name, (long long)t->shape[0], (long long)cols, (long long)want->shape[0],
                    (long long)want_cols);
  }
  if (want->first >= 0 && want->count >= 0 && want->first <= t->shape[0] && want->count <= t->shape[0] - want->first) {
    return COV_OK;
  }
  return COV_FAIL(COV_EUSAGE, "rows %lld and %lld more of %s/%s, which has %lld", (long long)want->first,
                  (long long)want->count, want->group, want->name, (long long)t->shape[0]);
}

/* A file that rows come from, once. */
static cov_status check_source(cov_ckpt *c, const char *name) {
  for (int i = 0; i < c->n_sums; i++) {
    int64_t bytes;
    if (strcmp(c->sums[i].name, name) != 0) continue;
    if (!c->hashed[i]) COV_TRY(check_hash(c->folder, &c->sums[i], &bytes));
    c->hashed[i] = true;
    return COV_OK;
  }
  return check_listed(c, name);
}

/* The file of mapping `i` of a virtual dataset, if it has any of the wanted rows. */
static cov_status check_mapping(cov_ckpt *c, hid_t creation, size_t i, const cov_ckpt_piece *want, const char *path) {
  char file[COV_CKPT_NAME_BYTES];
  hsize_t first[2], last[2];
  hid_t space = H5Pget_virtual_vspace(creation, i);
  herr_t rc = space < 0 ? -1 : H5Sget_select_bounds(space, first, last);
  ssize_t length = H5Pget_virtual_filename(creation, i, file, sizeof file);
  if (space >= 0) H5Sclose(space);
  if (rc < 0 || length <= 0 || (size_t)length >= sizeof file) {
    return COV_FAIL(COV_EDATA, "%s/index.h5: cannot tell which files %s is in", c->folder, path);
  }
  if ((int64_t)last[0] < want->first || (int64_t)first[0] >= want->first + want->count) return COV_OK;
  return check_source(c, file);
}

static cov_status check_sources(cov_ckpt *c, hid_t set, const cov_ckpt_piece *want, const char *path) {
  size_t n = 0;
  cov_status st = COV_OK;
  if (!c->hashed) return COV_OK;
  hid_t creation = H5Dget_create_plist(set);
  if (creation < 0 || H5Pget_virtual_count(creation, &n) < 0) {
    st = COVI_H5_FAIL(COV_EDATA, "%s/index.h5: cannot tell which files %s is in", c->folder, path);
  }
  for (size_t i = 0; i < n && st == COV_OK; i++) st = check_mapping(c, creation, i, want, path);
  if (creation >= 0) H5Pclose(creation);
  return st;
}

static cov_status read_rows(cov_ckpt *c, const cov_ckpt_piece *want, const char *path, float *out) {
  hsize_t start[2] = {(hsize_t)want->first, 0}, count[2] = {(hsize_t)want->count, (hsize_t)want->shape[1]};
  hid_t set = H5Dopen2(c->index, path, H5P_DEFAULT);
  if (set < 0) return COVI_H5_FAIL(COV_EDATA, "%s/index.h5: cannot open %s", c->folder, path);
  cov_status st = check_sources(c, set, want, path);
  if (st != COV_OK) {
    H5Dclose(set);
    return st;
  }
  hid_t space = H5Dget_space(set), memory = H5Screate_simple(want->dims, count, NULL);
  herr_t rc = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
  if (rc >= 0) rc = H5Dread(set, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, out);
  if (rc < 0) st = COVI_H5_FAIL(COV_EDATA, "%s: cannot read %s", c->folder, path);
  H5Sclose(memory);
  H5Sclose(space);
  H5Dclose(set);
  return st;
}

cov_status cov_ckpt_read(cov_ckpt *c, const cov_ckpt_piece *want, float *out) {
  char path[2 * COV_CKPT_NAME_BYTES + 4];
  covi_h5_quiet();
  COV_TRY(covi_ckpt_path(want->group, want->name, true, path, sizeof path));
  COV_TRY(check_shape(c, want));
  if (want->count == 0) return COV_OK;
  COV_TRY(read_rows(c, want, path, out));
  int64_t n = want->count * (want->dims == 1 ? 1 : want->shape[1]);
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, &out[i], sizeof bits);
    if (bits == COVI_FILL_BITS) {
      return COV_FAIL(COV_EDATA, "%s: a part of %s is in none of its files", c->folder, path);
    }
  }
  return COV_OK;
}
