#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

cov_status cov_file_read(const char *path, size_t limit, char **data, size_t *bytes) {
  cov_status st = COV_OK;
  char *buf = NULL;
  *data = NULL;
  *bytes = 0;
  FILE *f = fopen(path, "rb");
  if (!f) return COV_FAIL(COV_EIO, "cannot read %s: %s", path, strerror(errno));
  size_t used = 0, room = 0;
  for (;;) {
    if (used == room) {
      room = room ? 2 * room : 4096;
      char *more = realloc(buf, room + 1);
      if (!more) COV_FAIL_DONE(COV_ENOMEM, "no memory to read %s", path);
      buf = more;
    }
    size_t n = fread(buf + used, 1, room - used, f);
    used += n;
    if (used > limit) COV_FAIL_DONE(COV_EDATA, "%s is larger than the %zu bytes expected at most", path, limit);
    if (n == 0) {
      if (ferror(f)) COV_FAIL_DONE(COV_EIO, "cannot read %s: %s", path, strerror(errno));
      break;
    }
  }
  buf[used] = '\0';
  *data = buf;
  *bytes = used;
  buf = NULL;
done:
  free(buf);
  fclose(f);
  return st;
}

static void sync_folder_of(const char *path) {
  char dir[4096];
  const char *slash = strrchr(path, '/');
  size_t n = slash ? (size_t)(slash - path) : 1;
  if (n >= sizeof dir) return;
  memcpy(dir, slash ? path : ".", n);
  dir[n] = '\0';
  int fd = open(n ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)fsync(fd); /* some file systems refuse it for folders; the rename is still atomic */
  close(fd);
}

cov_status cov_file_write(const char *path, const void *data, size_t bytes) {
  cov_status st = COV_OK;
  FILE *f = NULL;
  char part[4096];
  COV_TRY(cov_path(part, sizeof part, "%s.part", path));
  f = fopen(part, "wb");
  if (!f) COV_FAIL_DONE(COV_EIO, "cannot create %s: %s", path, strerror(errno));
  if (bytes && fwrite(data, 1, bytes, f) != bytes) COV_FAIL_DONE(COV_EIO, "cannot write %s: %s", path, strerror(errno));
  if (fflush(f) != 0 || fsync(fileno(f)) != 0) COV_FAIL_DONE(COV_EIO, "cannot write %s: %s", path, strerror(errno));
  int closed = fclose(f);
  f = NULL;
  if (closed != 0) COV_FAIL_DONE(COV_EIO, "cannot write %s: %s", path, strerror(errno));
  if (rename(part, path) != 0) COV_FAIL_DONE(COV_EIO, "cannot publish %s: %s", path, strerror(errno));
  sync_folder_of(path);
done:
  if (f) fclose(f);
  if (st != COV_OK) remove(part);
  return st;
}

cov_status cov_dir_make(const char *path) {
  char buf[4096];
  COV_TRY(cov_path(buf, sizeof buf, "%s", path));
  for (char *p = buf + 1;; p++) {
    if (*p != '/' && *p != '\0') continue;
    char keep = *p;
    *p = '\0';
    if (mkdir(buf, 0777) != 0 && errno != EEXIST) {
      return COV_FAIL(COV_EIO, "cannot make the folder %s: %s", buf, strerror(errno));
    }
    *p = keep;
    if (keep == '\0') break;
  }
  struct stat s;
  if (stat(path, &s) != 0 || !S_ISDIR(s.st_mode)) {
    return COV_FAIL(COV_EIO, "%s exists and is not a folder", path);
  }
  return COV_OK;
}

int cov_file_exists(const char *path) {
  struct stat s;
  return stat(path, &s) == 0;
}

cov_status cov_path(char *out, size_t size, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(out, size, format, args);
  va_end(args);
  if (n < 0 || (size_t)n >= size) return COV_FAIL(COV_EUSAGE, "a path is longer than %zu bytes", size - 1);
  return COV_OK;
}
