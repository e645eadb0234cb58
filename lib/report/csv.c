/* The strict reader of metrics.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/metrics.h"

/* Lines, or -1 with the failure recorded if a byte occurs that these files never have. */
static int64_t count_lines(const char *path, const char *text, size_t bytes) {
  int64_t n_lines = 0;
  for (size_t i = 0; i < bytes; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c == '\n') n_lines++;
    else if (c < 0x20 || c == 0x7f || c == '"') {
      (void)COV_FAIL(COV_EDATA, "%s:%lld: a quote or control character (0x%02x)", path, (long long)n_lines + 1, c);
      return -1;
    }
  }
  return n_lines;
}

/* Cuts the line that starts at `p` into exactly n cells; returns the start of the next one, or NULL. */
static char *cut_line(char *p, char **cells, int n) {
  for (int i = 0;; p++) {
    cells[i++] = p;
    p += strcspn(p, ",\n");
    char end = *p;
    *p = '\0';
    if (end == '\n') return i == n ? p + 1 : NULL;
    if (i == n) return NULL;
  }
}

cov_status cov_csv_read(const char *path, cov_csv *csv) {
  cov_status st = COV_OK;
  size_t bytes;
  *csv = (cov_csv){.text = NULL};
  COV_TRY(cov_file_read(path, COV_CSV_FILE_LIMIT, &csv->text, &bytes));
  int64_t n_lines = count_lines(path, csv->text, bytes);
  if (n_lines < 0) {
    st = COV_EDATA;
    goto done;
  }
  if (n_lines == 0) COV_FAIL_DONE(COV_EDATA, "%s has no header line", path);
  if (csv->text[bytes - 1] != '\n') COV_FAIL_DONE(COV_EDATA, "%s ends in the middle of a line", path);
  int n_columns = 1;
  for (const char *p = csv->text; *p != '\n'; p++) n_columns += *p == ',';
  if (n_columns > COV_CSV_MAX_COLUMNS) COV_FAIL_DONE(COV_EDATA, "%s has %d columns", path, n_columns);
  /* Every cell takes at least the byte that ends it, so a file cannot ask for more cells than it has bytes. */
  if ((size_t)n_lines * (size_t)n_columns > bytes) COV_FAIL_DONE(COV_EDATA, "%s has rows with too few cells", path);
  csv->cells = calloc((size_t)n_lines * (size_t)n_columns, sizeof *csv->cells);
  if (!csv->cells) COV_FAIL_DONE(COV_ENOMEM, "no memory for the table %s", path);
  char *p = csv->text;
  for (int64_t line = 0; line < n_lines; line++) {
    p = cut_line(p, csv->cells + line * n_columns, n_columns);
    if (!p) {
      COV_FAIL_DONE(COV_EDATA, "%s:%lld: not %d cells, as in the header", path, (long long)line + 1, n_columns);
    }
  }
  csv->n_columns = n_columns;
  csv->n_rows = n_lines - 1;
done:
  if (st != COV_OK) cov_csv_close(csv);
  return st;
}

void cov_csv_close(cov_csv *csv) {
  free(csv->text);
  free(csv->cells);
  *csv = (cov_csv){.text = NULL};
}

int cov_csv_column(const cov_csv *csv, const char *name) {
  for (int i = 0; i < csv->n_columns; i++) {
    if (strcmp(csv->cells[i], name) == 0) return i;
  }
  return -1;
}

const char *cov_csv_text(const cov_csv *csv, int64_t row, int column) {
  if (row < 0 || row >= csv->n_rows || column < 0 || column >= csv->n_columns) return NULL;
  return csv->cells[(row + 1) * csv->n_columns + column];
}

cov_status cov_csv_number(const cov_csv *csv, int64_t row, int column, double *value) {
  const char *text = cov_csv_text(csv, row, column);
  if (!text) return COV_FAIL(COV_EDATA, "no cell in row %lld, column %d", (long long)row, column);
  *value = NAN;
  if (!*text) return COV_OK;
  char *end;
  double v = strtod(text, &end);
  if (*end || !isfinite(v) || strspn(text, "+-.0123456789eE") != strlen(text)) {
    return COV_FAIL(COV_EDATA, "row %lld, column %s: '%.40s' is not a number", (long long)row + 1, csv->cells[column],
                    text);
  }
  *value = v;
  return COV_OK;
}
