/* One writer's file: contiguous datasets /GROUP/NAME [count, cols] with attributes "first" and "shape".
 *
 * HDF5 makes the small part (names, shapes, where the data are) in memory; the data go from where they are to the
 * places it has given them in the file, without a copy. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/image.h"
#include "checkpoint/sums.h"

static int64_t cols_of(const cov_ckpt_piece *p) {
  return p->dims == 1 ? 1 : p->shape[1];
}

static cov_status check_piece(const cov_ckpt_piece *p) {
  bool shaped = (p->dims == 1 || p->dims == 2) && p->shape[0] > 0 && (p->dims == 1 || p->shape[1] > 0);
  if (shaped && p->first >= 0 && p->count >= 0 && p->first <= p->shape[0] && p->count <= p->shape[0] - p->first) {
    return COV_OK;
  }
  return COV_FAIL(COV_EUSAGE, "part of %s/%s: rows %lld and %lld more of %lld", p->group, p->name, (long long)p->first,
                  (long long)p->count, (long long)p->shape[0]);
}

/* The dataset without its data; *offset is where in the file they belong. */
static cov_status declare(hid_t file, const cov_ckpt_piece *p, int64_t *offset) {
  char path[2 * COV_CKPT_NAME_BYTES + 4];
  hsize_t extent[2] = {(hsize_t)p->count, (hsize_t)cols_of(p)};
  cov_status st = COV_OK;
  COV_TRY(check_piece(p));
  COV_TRY(covi_ckpt_path(p->group, p->name, false, path, sizeof path));
  COV_TRY(covi_h5_group(file, p->group));
  hid_t creation = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(p->dims, extent, NULL);
  H5Pset_layout(creation, H5D_CONTIGUOUS);
  H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY); /* so that it has a place in the file now */
  H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
  hid_t set = H5Dcreate2(file, path, H5T_NATIVE_FLOAT, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  H5Pclose(creation);
  H5Sclose(space);
  if (set < 0) return COVI_H5_FAIL(COV_EIO, "cannot make the dataset %s", path);
  haddr_t at = H5Dget_offset(set);
  *offset = (int64_t)at;
  if (at == HADDR_UNDEF) st = COVI_H5_FAIL(COV_EIO, "the dataset %s has no place in the file", path);
  if (st == COV_OK) st = covi_h5_put_ints(set, "first", &p->first, 1);
  if (st == COV_OK) st = covi_h5_put_ints(set, "shape", p->shape, p->dims);
  H5Dclose(set);
  return st;
}

/* The file without its data, in memory; *bytes is the size of the whole. */
static cov_status declare_all(covi_image *image, const cov_ckpt_piece *pieces, int n, int64_t *offsets,
                              int64_t *bytes) {
  const int64_t format = COV_CKPT_FORMAT;
  COV_TRY(covi_image_create(image));
  COV_TRY(covi_h5_put_ints(image->file, "format", &format, 1));
  for (int i = 0; i < n; i++) {
    if (pieces[i].count > 0) COV_TRY(declare(image->file, &pieces[i], &offsets[i]));
  }
  return covi_image_close(image, bytes);
}

/* The image first: the edges of its pages reach into the places of the data. */
static cov_status write_all(const covi_image *image, const cov_ckpt_piece *pieces, int n, const int64_t *offsets,
                            int64_t bytes, covi_aside *out) {
  COV_TRY(covi_image_write(image, out));
  for (int i = 0; i < n; i++) {
    size_t size = (size_t)(pieces[i].count * cols_of(&pieces[i])) * sizeof(float);
    if (size > 0) COV_TRY(covi_aside_write(out, pieces[i].data, size, offsets[i]));
  }
  return covi_aside_close(out, bytes);
}

/* Of a folder that is a checkpoint already: from here on it is none, until it is committed again. */
static cov_status open_folder(const char *folder) {
  char path[COV_CKPT_PATH_BYTES];
  COV_TRY(cov_path(path, sizeof path, "%s/%s", folder, COVI_INDEX));
  COV_TRY(cov_dir_make(folder));
  if (unlink(path) == 0) return covi_folder_sync(folder);
  return errno == ENOENT ? COV_OK : COV_FAIL(COV_EIO, "cannot replace %s: %s", path, strerror(errno));
}

cov_status cov_ckpt_shard_write(const char *folder, const char *file, const cov_ckpt_piece *pieces, int n,
                                int64_t *bytes) {
  covi_image image = {.fd = -1, .file = -1};
  covi_aside out = {.fd = -1};
  int64_t size = 0;
  *bytes = 0;
  covi_h5_quiet();
  COV_TRY(covi_file_name_check(file));
  if (strcmp(file, COVI_INDEX) == 0 || strcmp(file, COVI_SUMS) == 0) {
    return COV_FAIL(COV_EUSAGE, "a writer's file cannot be named %s", file);
  }
  int64_t *offsets = calloc((size_t)n + 1, sizeof *offsets);
  if (!offsets) return COV_FAIL(COV_ENOMEM, "no memory to write %s/%s", folder, file);
  cov_status st = declare_all(&image, pieces, n, offsets, &size);
  if (st == COV_OK) st = open_folder(folder);
  if (st == COV_OK) st = covi_aside_open(&out, folder, file);
  if (st == COV_OK) st = write_all(&image, pieces, n, offsets, size, &out);
  if (st == COV_OK) st = covi_aside_publish(&out, folder);
  if (st == COV_OK) *bytes = size;
  covi_aside_drop(&out);
  covi_image_free(&image);
  free(offsets);
  return st;
}
