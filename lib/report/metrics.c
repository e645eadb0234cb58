#include "report/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "report/fields.h"

COVI_FIELD_TABLE(round_fields, COV_FIELDS_METRICS, cov_metrics_row);
COVI_FIELD_TABLE(eval_fields, COV_FIELDS_EVAL, cov_event_eval);
enum { ROW_BYTES = 4096, TEXT_LIMIT = 1024 };

struct cov_metrics {
  int fd;
  char path[1024];
  const covi_field *fields;
  int n_fields;
};

static size_t format_header(const covi_field *fields, int n_fields, char row[ROW_BYTES]) {
  size_t used = 0;
  for (int i = 0; i < n_fields; i++) {
    used += (size_t)snprintf(row + used, ROW_BYTES - used, "%s%s", i ? "," : "", fields[i].name);
  }
  COV_ASSERT(used + 1 < ROW_BYTES);
  row[used++] = '\n';
  return used;
}

static cov_status append(const cov_metrics *m, const char *row, size_t bytes) {
  ssize_t n = write(m->fd, row, bytes);
  if (n == (ssize_t)bytes) return COV_OK;
  return COV_FAIL(COV_EIO, "cannot append to %s: %s", m->path, n < 0 ? strerror(errno) : "the disk is full");
}

static cov_status continue_file(const cov_metrics *m, off_t size, const char *header, size_t bytes) {
  char found[ROW_BYTES];
  COV_TRY(covi_cut_torn_line(m->fd, m->path, &size));
  if (size == 0) return append(m, header, bytes); /* a crash in the header itself */
  if (size < (off_t)bytes || pread(m->fd, found, bytes, 0) != (ssize_t)bytes || memcmp(found, header, bytes) != 0) {
    return COV_FAIL(COV_EMISMATCH,
                    "%s has other columns than this version writes; move it away, or continue with the version that "
                    "began the run",
                    m->path);
  }
  return COV_OK;
}

static cov_status open_table(const char *path, const covi_field *fields, int n_fields, cov_metrics **out) {
  cov_status st = COV_OK;
  char header[ROW_BYTES];
  size_t bytes = format_header(fields, n_fields, header);
  struct stat s;
  *out = NULL;
  cov_metrics *m = calloc(1, sizeof *m);
  if (!m) return COV_FAIL(COV_ENOMEM, "no memory for %s", path);
  snprintf(m->path, sizeof m->path, "%s", path);
  m->fields = fields;
  m->n_fields = n_fields;
  m->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (m->fd < 0 || fstat(m->fd, &s) != 0) COV_FAIL_DONE(COV_EIO, "cannot open %s: %s", path, strerror(errno));
  if (s.st_size == 0) COV_TRY_DONE(append(m, header, bytes));
  else COV_TRY_DONE(continue_file(m, s.st_size, header, bytes));
  *out = m;
  m = NULL;
done:
  cov_metrics_close(&m);
  return st;
}

cov_status cov_metrics_open(const char *path, cov_metrics **out) {
  return open_table(path, round_fields, (int)(sizeof round_fields / sizeof *round_fields), out);
}

cov_status cov_metrics_open_eval(const char *path, cov_metrics **out) {
  return open_table(path, eval_fields, (int)(sizeof eval_fields / sizeof *eval_fields), out);
}

void cov_metrics_close(cov_metrics **m) {
  if (!*m) return;
  if ((*m)->fd >= 0) close((*m)->fd);
  free(*m);
  *m = NULL;
}

cov_status cov_metrics_cut(cov_metrics *m, int64_t round) {
  char *text = NULL;
  size_t bytes;
  COV_TRY(cov_file_read(m->path, COV_CSV_FILE_LIMIT, &text, &bytes));
  size_t keep = strcspn(text, "\n") + 1; /* the header */
  while (keep < bytes && strtoll(text + keep, NULL, 10) < round) keep += strcspn(text + keep, "\n") + 1;
  free(text);
  if (keep < bytes && ftruncate(m->fd, (off_t)keep) != 0) {
    return COV_FAIL(COV_EIO, "cannot cut rounds that are done again off %s: %s", m->path, strerror(errno));
  }
  return COV_OK;
}

static cov_status format_cell(const covi_field *f, covi_value v, char *cell, size_t size) {
  int n = 0;
  cell[0] = '\0';
  switch (f->type) {
  case COVI_FIELD_INT:
    n = snprintf(cell, size, "%" PRId64, v.whole);
    break;
  case COVI_FIELD_FLOAT:
    if (isfinite(v.real)) n = snprintf(cell, size, "%.9g", v.real);
    break;
  case COVI_FIELD_TEXT:
    if (!v.text) break;
    for (const unsigned char *p = (const unsigned char *)v.text; *p; p++) {
      if (*p < 0x20 || *p == ',' || *p == '"')
        return COV_FAIL(COV_EUSAGE, "metrics: %s has a character 0x%02x", f->name, *p);
    }
    n = snprintf(cell, size, "%s", v.text);
    break;
  }
  if (n < 0 || (size_t)n >= size) return COV_FAIL(COV_EUSAGE, "metrics: %s is too long", f->name);
  return COV_OK;
}

static cov_status write_row(cov_metrics *m, const void *record) {
  char row[ROW_BYTES], cell[TEXT_LIMIT];
  size_t used = 0;
  for (int i = 0; i < m->n_fields; i++) {
    COV_TRY(format_cell(&m->fields[i], covi_field_value(record, i), cell, sizeof cell));
    size_t n = strlen(cell);
    if (used + n + 2 > sizeof row) return COV_FAIL(COV_EUSAGE, "metrics: the row is longer than %d bytes", ROW_BYTES);
    if (i) row[used++] = ',';
    memcpy(row + used, cell, n);
    used += n;
  }
  row[used++] = '\n';
  return append(m, row, used);
}

cov_status cov_metrics_write(cov_metrics *m, const cov_metrics_row *row) {
  COV_ASSERT(m->fields == round_fields);
  return write_row(m, row);
}

cov_status cov_metrics_write_eval(cov_metrics *m, const cov_event_eval *row) {
  COV_ASSERT(m->fields == eval_fields);
  return write_row(m, row);
}
