/* One writer's file: contiguous datasets /GROUP/NAME [count, cols] with attributes "first" and "shape".
 *
 * HDF5 writes only the small part (names, shapes, where the data are); the data go through our own descriptor to the
 * places it has given them. A disk that fills up then fails in a write of ours. HDF5 itself cannot close a file whose
 * last flush fails: it keeps descriptor and disk space until the process ends (1.10 and later). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/h5.h"
#include "checkpoint/sums.h"

static int64_t cols_of(const cov_ckpt_piece *p) {
  return p->dims == 1 ? 1 : p->shape[1];
}

static cov_status check_piece(const cov_ckpt_piece *p) {
  bool shaped = (p->dims == 1 || p->dims == 2) && p->shape[0] > 0 && (p->dims == 1 || p->shape[1] > 0);
  if (shaped && p->first >= 0 && p->count >= 0 && p->first + p->count <= p->shape[0]) return COV_OK;
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

static cov_status declare_all(const char *path, const cov_ckpt_piece *pieces, int n, int64_t *offsets) {
  const int64_t format = COV_CKPT_FORMAT;
  hid_t file = covi_h5_create(path);
  if (file < 0) return COVI_H5_FAIL(COV_EIO, "cannot create %s", path);
  cov_status st = covi_h5_put_ints(file, "format", &format, 1);
  for (int i = 0; i < n && st == COV_OK; i++) {
    if (pieces[i].count > 0) st = declare(file, &pieces[i], &offsets[i]);
  }
  if (H5Fclose(file) < 0 && st == COV_OK) st = COVI_H5_FAIL(COV_EIO, "cannot write %s", path);
  return st;
}

static cov_status write_at(int fd, const char *path, const float *data, size_t bytes, int64_t offset) {
  const char *from = (const char *)data;
  while (bytes > 0) {
    ssize_t n = pwrite(fd, from, bytes < (1u << 30) ? bytes : (1u << 30), (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return COV_FAIL(COV_EIO, "cannot write %s: %s", path, n < 0 ? strerror(errno) : "disk full?");
    from += n;
    offset += n;
    bytes -= (size_t)n;
  }
  return COV_OK;
}

static cov_status write_data(const char *path, const cov_ckpt_piece *pieces, int n, const int64_t *offsets,
                             int64_t *bytes) {
  cov_status st = COV_OK;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return COV_FAIL(COV_EIO, "cannot open %s: %s", path, strerror(errno));
  for (int i = 0; i < n && st == COV_OK; i++) {
    size_t size = (size_t)(pieces[i].count * cols_of(&pieces[i])) * sizeof(float);
    if (size > 0) st = write_at(fd, path, pieces[i].data, size, offsets[i]);
  }
  if (st == COV_OK && fsync(fd) != 0) st = COV_FAIL(COV_EIO, "cannot sync %s: %s", path, strerror(errno));
  *bytes = (int64_t)lseek(fd, 0, SEEK_END);
  close(fd);
  return st;
}

cov_status cov_ckpt_shard_write(const char *folder, const char *file, const cov_ckpt_piece *pieces, int n,
                                int64_t *bytes) {
  char path[COV_CKPT_PATH_BYTES], part[COV_CKPT_PATH_BYTES];
  *bytes = 0;
  covi_h5_quiet();
  COV_TRY(cov_path(path, sizeof path, "%s/%s", folder, file));
  COV_TRY(cov_path(part, sizeof part, "%s/%s.tmp", folder, file));
  COV_TRY(cov_dir_make(folder));
  int64_t *offsets = calloc((size_t)n + 1, sizeof *offsets);
  if (!offsets) return COV_FAIL(COV_ENOMEM, "no memory to write %s", path);
  cov_status st = declare_all(part, pieces, n, offsets);
  if (st == COV_OK) st = write_data(part, pieces, n, offsets, bytes);
  free(offsets);
  if (st == COV_OK && rename(part, path) != 0) st = COV_FAIL(COV_EIO, "cannot publish %s: %s", path, strerror(errno));
  if (st == COV_OK) return covi_folder_sync(folder);
  /* Emptied first: after a failed flush HDF5 may still hold the file open, and its space with it. */
  if (truncate(part, 0) != 0) errno = 0;
  unlink(part);
  return st;
}
