#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "report/fields.h"

cov_status covi_cut_torn_line(int fd, const char *path, off_t *size) {
  char last;
  off_t keep = *size;
  while (keep > 0) {
    if (pread(fd, &last, 1, keep - 1) != 1) return COV_FAIL(COV_EIO, "cannot read %s: %s", path, strerror(errno));
    if (last == '\n') break;
    keep--;
  }
  if (keep < *size && ftruncate(fd, keep) != 0) {
    return COV_FAIL(COV_EIO, "cannot cut the unfinished line off %s: %s", path, strerror(errno));
  }
  *size = keep;
  return COV_OK;
}
