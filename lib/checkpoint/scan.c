#include "checkpoint/scan.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "checkpoint/h5.h"

enum { MANY = 1 << 20 }; /* tensors or parts: a bound for damaged files */

typedef struct {
  covi_scan *scan;
  const char *path, *group;
  int file;
  cov_status st;
} walk;

static cov_status grow(void **list, int n, size_t size) {
  if (n >= MANY) return COV_FAIL(COV_EDATA, "a checkpoint with more than %d parts", MANY);
  if (n & (n - 1)) return COV_OK; /* room for the next power of two */
  void *p = realloc(*list, (n ? 2 * (size_t)n : 1) * size);
  if (!p) return COV_FAIL(COV_ENOMEM, "no memory for the table of a checkpoint");
  *list = p;
  return COV_OK;
}

static cov_status find_tensor(walk *w, const cov_ckpt_tensor *t, int *at) {
  covi_scan *s = w->scan;
  for (*at = 0; *at < s->n_tensors; ++*at) {
    const cov_ckpt_tensor *have = &s->tensor[*at];
    if (strcmp(have->group, t->group) != 0 || strcmp(have->name, t->name) != 0) continue;
    if (have->dims == t->dims && memcmp(have->shape, t->shape, sizeof t->shape) == 0) return COV_OK;
    return COV_FAIL(COV_EDATA, "%s: %s/%s has another shape than in the files before it", w->path, t->group, t->name);
  }
  COV_TRY(grow((void **)&s->tensor, s->n_tensors, sizeof *s->tensor));
  s->tensor[s->n_tensors++] = *t;
  return COV_OK;
}

/* "first" and "shape" of a dataset, and its extent, which must belong together. */
static cov_status read_part(hid_t set, const char *name, walk *w) {
  cov_ckpt_tensor t = {0};
  covi_part part = {.file = w->file};
  int64_t extent[2];
  bool ok = covi_h5_shape(set, &t.dims, extent) && strlen(name) < COV_CKPT_NAME_BYTES &&
            covi_h5_get_ints(set, "first", &part.first, 1) && covi_h5_get_ints(set, "shape", t.shape, t.dims);
  part.count = ok ? extent[0] : 0;
  ok = ok && part.first >= 0 && part.first <= t.shape[0] && part.count <= t.shape[0] - part.first;
  ok = ok && (t.dims == 1 || extent[1] == t.shape[1]);
  if (!ok) return COV_FAIL(COV_EDATA, "%s: %s/%s is not a part of a tensor", w->path, w->group, name);
  strcpy(t.group, w->group);
  strcpy(t.name, name);
  COV_TRY(find_tensor(w, &t, &part.tensor));
  COV_TRY(grow((void **)&w->scan->part, w->scan->n_parts, sizeof part));
  w->scan->part[w->scan->n_parts++] = part;
  return COV_OK;
}

static herr_t visit(hid_t group, const char *name, const H5L_info_t *info, void *arg) {
  walk *w = arg;
  (void)info;
  hid_t set = H5Dopen2(group, name, H5P_DEFAULT);
  if (set < 0) {
    w->st = COVI_H5_FAIL(COV_EDATA, "%s: cannot open %s/%s", w->path, w->group, name);
    return 1;
  }
  w->st = read_part(set, name, w);
  H5Dclose(set);
  return w->st != COV_OK;
}

static cov_status scan_group(hid_t file, walk *w) {
  if (H5Lexists(file, w->group, H5P_DEFAULT) <= 0) return COV_OK;
  herr_t rc = H5Literate_by_name(file, w->group, H5_INDEX_CRT_ORDER, H5_ITER_INC, NULL, visit, w, H5P_DEFAULT);
  if (w->st != COV_OK) return w->st;
  return rc < 0 ? COVI_H5_FAIL(COV_EDATA, "%s: cannot list %s", w->path, w->group) : COV_OK;
}

static cov_status check_format(hid_t file, const char *path) {
  int64_t format = 0;
  if (covi_h5_get_ints(file, "format", &format, 1) && format == COV_CKPT_FORMAT) return COV_OK;
  return COV_FAIL(COV_EDATA, "%s is not a part of a checkpoint of format %d", path, COV_CKPT_FORMAT);
}

static cov_status scan_file(const char *folder, const char *name, const char *group, int number, covi_scan *out) {
  char path[COV_CKPT_PATH_BYTES];
  COV_TRY(cov_path(path, sizeof path, "%s/%s", folder, name));
  hid_t file = covi_h5_open(path);
  if (file < 0) return COVI_H5_FAIL(COV_EDATA, "cannot open %s", path);
  walk w = {.scan = out, .path = path, .group = group, .file = number};
  cov_status st = check_format(file, path);
  if (st == COV_OK) st = scan_group(file, &w);
  H5Fclose(file);
  return st;
}

static int by_tensor_then_row(const void *a, const void *b) {
  const covi_part *x = a, *y = b;
  if (x->tensor != y->tensor) return x->tensor < y->tensor ? -1 : 1;
  return (x->first > y->first) - (x->first < y->first);
}

static cov_status check_cover(const covi_scan *s) {
  int p = 0;
  for (int t = 0; t < s->n_tensors; t++) {
    int64_t row = 0;
    bool once = true;
    for (; p < s->n_parts && s->part[p].tensor == t; p++) {
      once = once && s->part[p].first == row;
      row += s->part[p].count;
    }
    if (once && row == s->tensor[t].shape[0]) continue;
    return COV_FAIL(COV_EDATA, "the files do not cover %s/%s exactly once: is one of them of another checkpoint?",
                    s->tensor[t].group, s->tensor[t].name);
  }
  return COV_OK;
}

cov_status covi_scan_files(const char *folder, const char *const *files, int n, covi_scan *out) {
  *out = (covi_scan){0};
  cov_status st = COV_OK;
  for (int g = 0; g < COVI_CKPT_GROUPS && st == COV_OK; g++) {
    for (int f = 0; f < n && st == COV_OK; f++) st = scan_file(folder, files[f], covi_ckpt_groups[g], f, out);
  }
  if (st == COV_OK && out->n_parts > 0) qsort(out->part, (size_t)out->n_parts, sizeof *out->part, by_tensor_then_row);
  if (st == COV_OK) st = check_cover(out);
  if (st != COV_OK) covi_scan_free(out);
  return st;
}

void covi_scan_free(covi_scan *s) {
  free(s->tensor);
  free(s->part);
  *s = (covi_scan){0};
}
