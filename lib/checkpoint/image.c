#include "checkpoint/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 16 };

cov_status covi_image_create(covi_image *image) {
  char path[64];
  image->file = -1;
  image->fd = memfd_create("checkpoint", MFD_CLOEXEC);
  if (image->fd < 0) return COV_FAIL(COV_EIO, "cannot make a file in memory (memfd): %s", strerror(errno));
  snprintf(path, sizeof path, "/proc/self/fd/%d", image->fd);
  image->file = covi_h5_create(path);
  if (image->file < 0) return COVI_H5_FAIL(COV_EIO, "cannot make an HDF5 file in memory (%s)", path);
  return COV_OK;
}

cov_status covi_image_close(covi_image *image, int64_t *bytes) {
  herr_t rc = H5Fclose(image->file);
  image->file = -1;
  if (rc < 0) return COVI_H5_FAIL(COV_ENOMEM, "cannot finish an HDF5 file in memory");
  *bytes = (int64_t)lseek(image->fd, 0, SEEK_END);
  return COV_OK;
}

static cov_status copy_range(const covi_image *image, covi_aside *out, char *block, off_t at, off_t end) {
  while (at < end) {
    size_t want = end - at < BLOCK_BYTES ? (size_t)(end - at) : BLOCK_BYTES;
    ssize_t n = pread(image->fd, block, want, at);
    if (n <= 0) return COV_FAIL(COV_EIO, "cannot read back an HDF5 file from memory: %s", strerror(errno));
    COV_TRY(covi_aside_write(out, block, (size_t)n, at));
    at += n;
  }
  return COV_OK;
}

cov_status covi_image_write(const covi_image *image, covi_aside *out) {
  cov_status st = COV_OK;
  char *block = malloc(BLOCK_BYTES);
  if (!block) return COV_FAIL(COV_ENOMEM, "no memory to write %s", out->path);
  for (off_t at = 0; st == COV_OK;) {
    off_t begin = lseek(image->fd, at, SEEK_DATA);
    if (begin < 0 && errno == ENXIO) break; /* no more data */
    at = begin < 0 ? -1 : lseek(image->fd, begin, SEEK_HOLE);
    st = at < 0 ? COV_FAIL(COV_EIO, "cannot look through an HDF5 file in memory: %s", strerror(errno))
                : copy_range(image, out, block, begin, at);
  }
  free(block);
  return st;
}

void covi_image_free(covi_image *image) {
  if (image->file >= 0) H5Fclose(image->file);
  if (image->fd >= 0) close(image->fd);
  image->file = -1;
  image->fd = -1;
}
