#include "checkpoint/sums.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

enum { BLOCK_BYTES = 1 << 18, SUMS_LIMIT = 1 << 20, HEX_BYTES = 2 * COV_HASH_BYTES };

cov_status covi_folder_sync(const char *folder) {
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return COV_FAIL(COV_EIO, "cannot open the folder %s: %s", folder, strerror(errno));
  (void)fsync(fd);
  close(fd);
  return COV_OK;
}

cov_status covi_file_hash(const char *path, uint8_t hash[COV_HASH_BYTES], int64_t *bytes) {
  cov_status st = COV_OK;
  cov_blake2b state;
  uint8_t *block = malloc(BLOCK_BYTES);
  if (!block) return COV_FAIL(COV_ENOMEM, "no memory to hash %s", path);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) COV_FAIL_DONE(COV_EIO, "cannot open %s: %s", path, strerror(errno));
  cov_blake2b_open(&state, COV_HASH_BYTES);
  *bytes = 0;
  for (;;) {
    ssize_t n = read(fd, block, BLOCK_BYTES);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) COV_FAIL_DONE(COV_EIO, "cannot read %s: %s", path, strerror(errno));
    if (n == 0) break;
    cov_blake2b_add(&state, block, (size_t)n);
    *bytes += n;
  }
  cov_blake2b_close(&state, hash);
done:
  if (fd >= 0) close(fd);
  free(block);
  return st;
}

cov_status covi_file_name_check(const char *name) {
  bool ok = *name && *name != '.' && !strchr(name, '/') && strlen(name) < COV_CKPT_NAME_BYTES;
  for (const char *c = name; ok && *c; c++) ok = (unsigned char)*c > 0x20 && (unsigned char)*c < 0x7f;
  return ok ? COV_OK : COV_FAIL(COV_EDATA, "a checkpoint cannot have a file of the name '%.64s'", name);
}

cov_status covi_sums_write(const char *folder, const covi_sum *sums, int n) {
  char path[COV_CKPT_PATH_BYTES], hex[HEX_BYTES + 1], *text = NULL;
  size_t bytes = 0;
  COV_TRY(cov_path(path, sizeof path, "%s/SUMS", folder));
  FILE *out = open_memstream(&text, &bytes);
  if (!out) return COV_FAIL(COV_ENOMEM, "no memory for %s", path);
  for (int i = 0; i < n; i++) {
    cov_hex(sums[i].hash, COV_HASH_BYTES, hex);
    fprintf(out, "%s  %s\n", hex, sums[i].name);
  }
  cov_status st = fclose(out) == 0 ? cov_file_write(path, text, bytes) : COV_FAIL(COV_ENOMEM, "no memory for %s", path);
  free(text);
  return st;
}

static int digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One line without its end. */
static bool parse_line(const char *line, size_t bytes, covi_sum *out) {
  if (bytes < HEX_BYTES + 3 || bytes >= HEX_BYTES + 2 + COV_CKPT_NAME_BYTES) return false;
  for (int i = 0; i < COV_HASH_BYTES; i++) {
    int high = digit(line[2 * i]), low = digit(line[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out->hash[i] = (uint8_t)(16 * high + low);
  }
  if (line[HEX_BYTES] != ' ' || line[HEX_BYTES + 1] != ' ') return false;
  memcpy(out->name, line + HEX_BYTES + 2, bytes - HEX_BYTES - 2);
  out->name[bytes - HEX_BYTES - 2] = '\0';
  return covi_file_name_check(out->name) == COV_OK;
}

cov_status covi_sums_read(const char *folder, covi_sum **sums, int *n) {
  char path[COV_CKPT_PATH_BYTES], *text;
  size_t bytes, line_no = 1;
  *sums = NULL;
  *n = 0;
  COV_TRY(cov_path(path, sizeof path, "%s/SUMS", folder));
  if (!cov_file_exists(path)) return COV_FAIL(COV_EDATA, "%s is missing", path);
  COV_TRY(cov_file_read(path, SUMS_LIMIT, &text, &bytes));
  cov_status st = COV_OK;
  covi_sum *list = calloc(bytes / (HEX_BYTES + 4) + 1, sizeof *list);
  if (!list) COV_FAIL_DONE(COV_ENOMEM, "no memory for %s", path);
  for (size_t at = 0; at < bytes; line_no++) {
    const char *end = memchr(text + at, '\n', bytes - at);
    if (!end || !parse_line(text + at, (size_t)(end - text) - at, &list[*n])) {
      COV_FAIL_DONE(COV_EDATA, "%s: line %zu is not a hash and a file name; it is damaged", path, line_no);
    }
    ++*n;
    at = (size_t)(end - text) + 1;
  }
  *sums = list;
  list = NULL;
done:
  free(list);
  free(text);
  return st;
}
