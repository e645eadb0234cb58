#include "data/npy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { HEADER_BYTES = 128, PREFIX_BYTES = 10 }; /* what we write; numpy pads to a multiple of 64 */
static const char magic[8] = "\x93NUMPY\x01\x00";

/* ---- reading ---- */

typedef struct {
  const char *at, *end;
} scanner;

static void skip_blanks(scanner *s) {
  while (s->at < s->end && *s->at == ' ') s->at++;
}

/* 1 and past it if `word` is next. */
static int take(scanner *s, const char *word) {
  skip_blanks(s);
  size_t n = strlen(word);
  if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0) return 0;
  s->at += n;
  return 1;
}

static int take_count(scanner *s, int64_t *n) {
  skip_blanks(s);
  const char *start = s->at;
  *n = 0;
  for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++) {
    if (*n > (INT64_MAX - 9) / 10) return 0;
    *n = *n * 10 + (*s->at - '0');
  }
  return s->at > start;
}

static cov_status read_type(scanner *s, const char *path, cov_npy *a) {
  if (take(s, "'<u2'")) {
    a->type = COV_NPY_U16;
  } else if (take(s, "'<u4'")) {
    a->type = COV_NPY_U32;
  } else {
    int shown = (int)(s->end - s->at < 8 ? s->end - s->at : 8);
    return COV_FAIL(COV_EDATA, "%s: elements of type %.*s; only '<u2' and '<u4' hold tokens", path, shown, s->at);
  }
  return COV_OK;
}

static cov_status read_shape(scanner *s, const char *path, cov_npy *a) {
  int64_t more;
  if (!take(s, "(")) return COV_FAIL(COV_EDATA, "%s: the shape in its header is not a tuple", path);
  if (!take_count(s, &a->n)) return COV_FAIL(COV_EDATA, "%s: its shape has no valid first dimension", path);
  if (take(s, ",") && take_count(s, &more)) {
    return COV_FAIL(COV_EDATA,
                    "%s is an array of two or more dimensions (%" PRId64 ", %" PRId64 ", ...); tokens are "
                    "one stream: flatten it with numpy's reshape(-1)",
                    path, a->n, more);
  }
  if (!take(s, ")")) return COV_FAIL(COV_EDATA, "%s: the shape in its header is not closed", path);
  return COV_OK;
}

/* The header is a Python dictionary with exactly three keys, in any order. */
static cov_status read_dictionary(scanner *s, const char *path, cov_npy *a) {
  int seen[3] = {0, 0, 0};
  if (!take(s, "{")) return COV_FAIL(COV_EDATA, "%s: its .npy header is not a dictionary", path);
  while (!take(s, "}")) {
    static const char *const keys[3] = {"'descr'", "'fortran_order'", "'shape'"};
    int k = 0;
    while (k < 3 && !take(s, keys[k])) k++;
    if (k == 3 || seen[k]++ || !take(s, ":")) return COV_FAIL(COV_EDATA, "%s: its .npy header has a wrong key", path);
    if (k == 0) COV_TRY(read_type(s, path, a));
    if (k == 1 && !take(s, "False")) return COV_FAIL(COV_EDATA, "%s: fortran_order is not False", path);
    if (k == 2) COV_TRY(read_shape(s, path, a));
    if (!take(s, ",") && (s->at == s->end || *s->at != '}')) {
      return COV_FAIL(COV_EDATA, "%s: its .npy header is damaged", path);
    }
  }
  if (!seen[0] || !seen[1] || !seen[2]) return COV_FAIL(COV_EDATA, "%s: its .npy header lacks a key", path);
  skip_blanks(s);
  if (s->end - s->at != 1 || *s->at != '\n') return COV_FAIL(COV_EDATA, "%s: its .npy header is damaged", path);
  return COV_OK;
}

static cov_status read_header(const char *path, cov_npy *a) {
  const uint8_t *p = a->map;
  if (a->map_bytes < PREFIX_BYTES || memcmp(p, magic, 6) != 0)
    return COV_FAIL(COV_EDATA, "%s is not a .npy file", path);
  if (p[6] != 1 || p[7] != 0) {
    return COV_FAIL(COV_EDATA, "%s has .npy version %d.%d; only 1.0 is read here", path, p[6], p[7]);
  }
  size_t header = (size_t)p[8] + 256 * (size_t)p[9];
  if (PREFIX_BYTES + header > a->map_bytes) return COV_FAIL(COV_EDATA, "%s is cut off within its header", path);
  scanner s = {(const char *)p + PREFIX_BYTES, (const char *)p + PREFIX_BYTES + header};
  COV_TRY(read_dictionary(&s, path, a));
  size_t body = a->map_bytes - PREFIX_BYTES - header;
  if ((uint64_t)a->n != body / (size_t)a->type || body % (size_t)a->type != 0) {
    return COV_FAIL(COV_EDATA,
                    "%s: the header says %" PRId64
                    " tokens of %d bytes, the file holds %zu bytes of them: it was cut off "
                    "or changed",
                    path, a->n, (int)a->type, body);
  }
  a->data = p + PREFIX_BYTES + header;
  return COV_OK;
}

cov_status cov_npy_open(const char *path, cov_npy *a) {
  struct stat s;
  *a = (cov_npy){0};
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return COV_FAIL(COV_EIO, "cannot read %s: %s", path, strerror(errno));
  if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) {
    close(fd);
    return COV_FAIL(COV_EIO, "%s is not a regular file", path);
  }
  if (s.st_size < PREFIX_BYTES) {
    close(fd);
    return COV_FAIL(COV_EDATA, "%s is not a .npy file", path);
  }
  a->map_bytes = (size_t)s.st_size;
  a->map = mmap(NULL, a->map_bytes, PROT_READ, MAP_SHARED, fd, 0);
  int reason = errno;
  close(fd);
  if (a->map == MAP_FAILED) {
    *a = (cov_npy){0};
    return COV_FAIL(COV_EIO, "cannot map %s: %s", path, strerror(reason));
  }
  cov_mem_account(COV_SPACE_HOST, COV_MEM_FILES, (ptrdiff_t)a->map_bytes);
  cov_status st = read_header(path, a);
  if (st != COV_OK) cov_npy_close(a);
  return st;
}

void cov_npy_close(cov_npy *a) {
  if (a->map) {
    munmap(a->map, a->map_bytes);
    cov_mem_account(COV_SPACE_HOST, COV_MEM_FILES, -(ptrdiff_t)a->map_bytes);
  }
  *a = (cov_npy){0};
}

void cov_npy_read(const cov_npy *a, int64_t first, int64_t n, uint32_t *out) {
  COV_ASSERT(first >= 0 && n >= 0 && n <= a->n && first <= a->n - n);
  const uint8_t *p = a->data + (size_t)first * (size_t)a->type;
  for (int64_t i = 0; i < n; i++, p += a->type) {
    out[i] = (uint32_t)p[0] | (uint32_t)p[1] << 8;
    if (a->type == COV_NPY_U32) out[i] |= (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
  }
}

/* ---- writing ---- */

static cov_status part_path(const cov_npy_writer *w, char *out, size_t size) {
  return cov_path(out, size, "%s.part", w->path);
}

cov_status cov_npy_writer_open(const char *path, cov_npy_type type, cov_npy_writer *w) {
  char part[4096], header[HEADER_BYTES] = {0};
  *w = (cov_npy_writer){.type = type, .path = strdup(path)};
  if (!w->path) return COV_FAIL(COV_ENOMEM, "no memory for a path");
  cov_status st = part_path(w, part, sizeof part);
  if (st == COV_OK) {
    w->file = fopen(part, "wb");
    if (!w->file) {
      st = COV_FAIL(COV_EIO, "cannot create %s: %s", part, strerror(errno));
    } else if (fwrite(header, 1, sizeof header, w->file) != sizeof header) {
      st = COV_FAIL(COV_EIO, "cannot write %s: %s", part, strerror(errno));
    }
  }
  if (st != COV_OK) cov_npy_writer_drop(w);
  return st;
}

cov_status cov_npy_writer_write(cov_npy_writer *w, const uint32_t *values, int64_t n) {
  uint8_t buffer[4096];
  size_t used = 0, each = (size_t)w->type;
  for (int64_t i = 0; i < n; i++) {
    if (w->type == COV_NPY_U16 && values[i] > UINT16_MAX) {
      return COV_FAIL(COV_EBUG, "token %" PRIu32 " does not fit 16 bits in %s", values[i], w->path);
    }
    for (size_t b = 0; b < each; b++) buffer[used++] = (uint8_t)(values[i] >> 8 * b);
    if (used == sizeof buffer || i + 1 == n) {
      if (fwrite(buffer, 1, used, w->file) != used) {
        return COV_FAIL(COV_EIO, "cannot write %s.part: %s", w->path, strerror(errno));
      }
      used = 0;
    }
  }
  w->n += n;
  return COV_OK;
}

static cov_status write_header(cov_npy_writer *w, const char *part) {
  char header[HEADER_BYTES];
  memset(header, ' ', sizeof header);
  memcpy(header, magic, sizeof magic);
  header[8] = HEADER_BYTES - PREFIX_BYTES;
  header[9] = 0;
  int n = snprintf(header + PREFIX_BYTES, sizeof header - PREFIX_BYTES,
                   "{'descr': '<u%d', 'fortran_order': False, 'shape': (%" PRId64 ",), }", (int)w->type, w->n);
  header[PREFIX_BYTES + n] = ' ';
  header[sizeof header - 1] = '\n';
  if (fseek(w->file, 0, SEEK_SET) != 0 || fwrite(header, 1, sizeof header, w->file) != sizeof header ||
      fflush(w->file) != 0 || fsync(fileno(w->file)) != 0) {
    return COV_FAIL(COV_EIO, "cannot write %s: %s", part, strerror(errno));
  }
  return COV_OK;
}

cov_status cov_npy_writer_close(cov_npy_writer *w) {
  char part[4096];
  cov_status st = part_path(w, part, sizeof part);
  if (st == COV_OK) st = write_header(w, part);
  if (st == COV_OK) {
    int closed = fclose(w->file);
    w->file = NULL;
    if (closed != 0) {
      st = COV_FAIL(COV_EIO, "cannot write %s: %s", part, strerror(errno));
    } else if (rename(part, w->path) != 0) {
      st = COV_FAIL(COV_EIO, "cannot publish %s: %s", w->path, strerror(errno));
    }
  }
  if (st != COV_OK) {
    cov_npy_writer_drop(w);
  } else {
    free(w->path);
    *w = (cov_npy_writer){0};
  }
  return st;
}

void cov_npy_writer_drop(cov_npy_writer *w) {
  char part[4096];
  if (w->file) fclose(w->file);
  if (w->path && part_path(w, part, sizeof part) == COV_OK) remove(part);
  free(w->path);
  *w = (cov_npy_writer){0};
}
