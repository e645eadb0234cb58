#include "checkpoint/aside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "checkpoint/sums.h"

static cov_status failed(const covi_aside *a, const char *what) {
  const char *hint = errno == ENOSPC || errno == EDQUOT ? " (make room, or set checkpoint.dir to another disk)" : "";
  return COV_FAIL(COV_EIO, "cannot %s %s: %s%s", what, a->part, strerror(errno), hint);
}

cov_status covi_aside_open(covi_aside *a, const char *folder, const char *name) {
  a->fd = -1;
  a->path[0] = a->part[0] = '\0';
  COV_TRY(cov_path(a->path, sizeof a->path, "%s/%s", folder, name));
  COV_TRY(cov_path(a->part, sizeof a->part, "%s/%s.tmp", folder, name));
  a->fd = open(a->part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  return a->fd >= 0 ? COV_OK : failed(a, "create");
}

cov_status covi_aside_write(covi_aside *a, const void *data, size_t bytes, int64_t offset) {
  const char *from = data;
  while (bytes > 0) {
    errno = ENOSPC; /* what a write of nothing means */
    ssize_t n = pwrite(a->fd, from, bytes < (1u << 30) ? bytes : (1u << 30), (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed(a, "write");
    from += n;
    offset += n;
    bytes -= (size_t)n;
  }
  return COV_OK;
}

cov_status covi_aside_close(covi_aside *a, int64_t bytes) {
  if (ftruncate(a->fd, (off_t)bytes) != 0 || fsync(a->fd) != 0) return failed(a, "write");
  int rc = close(a->fd);
  a->fd = -1;
  return rc == 0 ? COV_OK : failed(a, "write");
}

cov_status covi_aside_publish(covi_aside *a, const char *folder) {
  if (rename(a->part, a->path) != 0) return failed(a, "publish");
  a->part[0] = '\0';
  return covi_folder_sync(folder);
}

void covi_aside_drop(covi_aside *a) {
  if (a->fd >= 0) close(a->fd);
  if (*a->part) unlink(a->part);
  a->fd = -1;
  a->part[0] = '\0';
}
