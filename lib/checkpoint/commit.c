/* The index over the writers' files, and its appearance. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "checkpoint/image.h"
#include "checkpoint/scan.h"
#include "checkpoint/sums.h"

static cov_status put_meta(hid_t file, const cov_ckpt_meta *m) {
  const int64_t format = COV_CKPT_FORMAT, seed = (int64_t)m->seed;
  COV_TRY(covi_h5_put_ints(file, "format", &format, 1));
  COV_TRY(covi_h5_put_ints(file, "round", &m->round, 1));
  COV_TRY(covi_h5_put_ints(file, "step", &m->step, 1));
  COV_TRY(covi_h5_put_ints(file, "tokens", &m->tokens, 1));
  COV_TRY(covi_h5_put_ints(file, "peer", &m->peer, 1));
  COV_TRY(covi_h5_put_ints(file, "written_unix_s", &m->written_unix_s, 1));
  COV_TRY(covi_h5_put_ints(file, "seed", &seed, 1));
  COV_TRY(covi_h5_put_bytes(file, "run_id", m->run_id, sizeof m->run_id));
  COV_TRY(covi_h5_put_bytes(file, "config_digest", m->config_digest, sizeof m->config_digest));
  COV_TRY(covi_h5_put_bytes(file, "params_digest", m->params_digest, sizeof m->params_digest));
  COV_TRY(covi_h5_put_bytes(file, "state_hash", m->state_hash, sizeof m->state_hash));
  COV_TRY(covi_h5_put_bytes(file, "ledger_hash", m->ledger_hash, sizeof m->ledger_hash));
  return covi_h5_put_text(file, "config", m->config ? m->config : "");
}

/* Sizes beside names, so that a quick look finds a file that was cut without hashing it. */
static cov_status put_files(hid_t file, const covi_sum *sums, const int64_t *sizes, int n) {
  cov_status st;
  char *names = calloc((size_t)n + 1, COV_CKPT_NAME_BYTES);
  if (!names) return COV_FAIL(COV_ENOMEM, "no memory for the names of %d files", n);
  for (int i = 0; i < n; i++) {
    strcat(names, sums[i].name);
    strcat(names, "\n");
  }
  st = covi_h5_put_text(file, "files", names);
  free(names);
  return st == COV_OK ? covi_h5_put_ints(file, "sizes", sizes, n) : st;
}

/* One mapping: rows [first, first + count) of the tensor are all of a dataset in one file. */
static herr_t map_part(hid_t creation, hid_t space, const cov_ckpt_tensor *t, const covi_part *p, const char *file,
                       const char *path) {
  hsize_t extent[2] = {(hsize_t)p->count, t->dims == 1 ? 0 : (hsize_t)t->shape[1]};
  hsize_t start[2] = {(hsize_t)p->first, 0};
  hid_t source = H5Screate_simple(t->dims, extent, NULL);
  herr_t rc = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, extent, NULL);
  if (rc >= 0) rc = H5Pset_virtual(creation, space, file, path, source);
  H5Sclose(source);
  return rc;
}

/* parts[n] of tensor t as one virtual dataset. */
static cov_status put_tensor(hid_t index, const cov_ckpt_tensor *t, const covi_part *parts, int n,
                             const char *const *files) {
  char path[2 * COV_CKPT_NAME_BYTES + 4], source[2 * COV_CKPT_NAME_BYTES + 4];
  const hsize_t extent[2] = {(hsize_t)t->shape[0], t->dims == 1 ? 0 : (hsize_t)t->shape[1]};
  const float fill = covi_fill();
  COV_TRY(covi_ckpt_path(t->group, t->name, true, path, sizeof path));
  COV_TRY(covi_ckpt_path(t->group, t->name, false, source, sizeof source));
  if (strcmp(t->group, "theta") != 0) COV_TRY(covi_h5_group(index, t->group));
  hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  hid_t space = H5Screate_simple(t->dims, extent, NULL);
  herr_t rc = H5Pset_fill_value(creation, H5T_NATIVE_FLOAT, &fill);
  for (int i = 0; i < n && rc >= 0; i++) rc = map_part(creation, space, t, &parts[i], files[parts[i].file], source);
  hid_t set = rc < 0 ? -1 : H5Dcreate2(index, path, H5T_NATIVE_FLOAT, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  cov_status st = COV_OK;
  if (set < 0) {
    st = COVI_H5_FAIL(COV_EIO, "cannot make the virtual dataset %s", path);
  } else {
    H5Dclose(set);
  }
  H5Sclose(space);
  H5Pclose(creation);
  return st;
}

static cov_status build_index(covi_image *image, const cov_ckpt_meta *meta, const covi_scan *scan,
                              const char *const *files, const covi_sum *sums, const int64_t *sizes, int n,
                              int64_t *bytes) {
  COV_TRY(covi_image_create(image));
  COV_TRY(put_meta(image->file, meta));
  COV_TRY(put_files(image->file, sums, sizes, n));
  for (int t = 0, p = 0; t < scan->n_tensors; t++) {
    int first = p;
    while (p < scan->n_parts && scan->part[p].tensor == t) p++;
    COV_TRY(put_tensor(image->file, &scan->tensor[t], &scan->part[first], p - first, files));
  }
  return covi_image_close(image, bytes);
}

static cov_status write_index(const char *folder, const cov_ckpt_meta *meta, const covi_scan *scan,
                              const char *const *files, const covi_sum *sums, const int64_t *sizes, int n,
                              covi_aside *out) {
  covi_image image = {.fd = -1, .file = -1};
  int64_t bytes;
  cov_status st = build_index(&image, meta, scan, files, sums, sizes, n, &bytes);
  if (st == COV_OK) st = covi_aside_open(out, folder, COVI_INDEX);
  if (st == COV_OK) st = covi_image_write(&image, out);
  if (st == COV_OK) st = covi_aside_close(out, bytes);
  covi_image_free(&image);
  return st;
}

static cov_status hash_files(const char *folder, const char *const *files, int n, covi_sum *sums, int64_t *sizes) {
  char path[COV_CKPT_PATH_BYTES];
  for (int i = 0; i < n; i++) {
    COV_TRY(covi_file_name_check(files[i]));
    COV_TRY(cov_path(path, sizeof path, "%s/%s", folder, files[i]));
    COV_TRY(covi_file_hash(path, sums[i].hash, &sizes[i]));
    strcpy(sums[i].name, files[i]);
  }
  return COV_OK;
}

/* All but the last step: the index aside, SUMS with its hash. */
static cov_status prepare(const char *folder, const cov_ckpt_meta *meta, const char *const *files, int n,
                          covi_sum *sums, int64_t *sizes, covi_aside *index) {
  covi_scan scan;
  COV_TRY(hash_files(folder, files, n, sums, sizes));
  COV_TRY(covi_scan_files(folder, files, n, &scan));
  cov_status st = write_index(folder, meta, &scan, files, sums, sizes, n, index);
  covi_scan_free(&scan);
  COV_TRY(st);
  strcpy(sums[n].name, COVI_INDEX);
  COV_TRY(covi_file_hash(index->part, sums[n].hash, &sizes[n]));
  return covi_sums_write(folder, sums, n + 1);
}

cov_status cov_ckpt_commit(const char *folder, const cov_ckpt_meta *meta, const char *const *files, int n) {
  char parent[COV_CKPT_PATH_BYTES];
  covi_aside index = {.fd = -1};
  covi_h5_quiet();
  COV_TRY(cov_path(parent, sizeof parent, "%s/..", folder));
  covi_sum *sums = calloc((size_t)n + 1, sizeof *sums);
  int64_t *sizes = calloc((size_t)n + 1, sizeof *sizes);
  cov_status st = sums && sizes ? COV_OK : COV_FAIL(COV_ENOMEM, "no memory for the hashes of %d files", n);
  if (st == COV_OK) st = prepare(folder, meta, files, n, sums, sizes, &index);
  if (st == COV_OK) st = covi_aside_publish(&index, folder);
  if (st == COV_OK) st = covi_folder_sync(parent); /* the folder itself may be new */
  covi_aside_drop(&index);
  free(sums);
  free(sizes);
  return st;
}
