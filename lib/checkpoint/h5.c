#include "checkpoint/h5.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "checkpoint/checkpoint.h"

const char *const covi_ckpt_groups[COVI_CKPT_GROUPS] = {"theta",   "feedback", "momentum",
                                                        "adamw.m", "adamw.v",  "muon.m"};

static char last_cause[300];

/* The innermost entry says what the system said; those above only say who called. */
static herr_t innermost(unsigned n, const H5E_error2_t *e, void *arg) {
  (void)arg;
  if (n == 0 && e->desc) snprintf(last_cause, sizeof last_cause, "%s", e->desc);
  return 0;
}

/* HDF5 calls this where it would print. The next call, be it a close, forgets the error: so it is kept here. */
static herr_t keep_cause(hid_t stack, void *arg) {
  (void)arg;
  return H5Ewalk2(stack, H5E_WALK_UPWARD, innermost, NULL);
}

void covi_h5_quiet(void) {
  last_cause[0] = '\0';
  H5Eset_auto2(H5E_DEFAULT, keep_cause, NULL);
}

cov_status covi_h5_fail(cov_status st, const char *file, int line, const char *format, ...) {
  char text[COV_CKPT_PATH_BYTES + 200];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return cov_fail_value(st, cov_fail(file, line, st, "%s: %s", text, *last_cause ? last_cause : "no reason given"));
}

static hid_t access_list(void) {
  hid_t list = H5Pcreate(H5P_FILE_ACCESS);
  /* 1.10 is the oldest format with virtual datasets; close with all that was opened in the file. */
  H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_fclose_degree(list, H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 12, 1) || (H5_VERS_MAJOR == 1 && H5_VERS_MINOR == 10 && H5_VERS_RELEASE >= 7)
  H5Pset_file_locking(list, 0, 1); /* files never change once they have their name; many file systems cannot lock */
#endif
  return list;
}

hid_t covi_h5_create(const char *path) {
  hid_t list = access_list(), creation = H5Pcreate(H5P_FILE_CREATE);
  H5Pset_link_creation_order(creation, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  H5Pset_fapl_stdio(list); /* the default driver resolves links, which a file in memory does not survive */
  hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, creation, list);
  H5Pclose(creation);
  H5Pclose(list);
  return file;
}

hid_t covi_h5_open(const char *path) {
  hid_t list = access_list();
  hid_t file = H5Fopen(path, H5F_ACC_RDONLY, list);
  H5Pclose(list);
  return file;
}

cov_status covi_h5_group(hid_t file, const char *name) {
  if (H5Lexists(file, name, H5P_DEFAULT) > 0) return COV_OK;
  hid_t ordered = H5Pcreate(H5P_GROUP_CREATE);
  H5Pset_link_creation_order(ordered, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, ordered, H5P_DEFAULT);
  H5Pclose(ordered);
  if (group < 0) return COVI_H5_FAIL(COV_EIO, "cannot make the group %s", name);
  H5Gclose(group);
  return COV_OK;
}

bool covi_h5_shape(hid_t set, int *dims, int64_t shape[2]) {
  enum { EXTENT_MAX = 1 << 30 };
  const int64_t most = INT64_C(1) << 48;
  hsize_t extent[2] = {0};
  hid_t space = H5Dget_space(set), type = H5Dget_type(set);
  *dims = H5Sget_simple_extent_ndims(space);
  bool ok = (*dims == 1 || *dims == 2) && H5Sget_simple_extent_dims(space, extent, NULL) == *dims &&
            H5Tget_class(type) == H5T_FLOAT && H5Tget_size(type) == sizeof(float);
  H5Tclose(type);
  H5Sclose(space);
  for (int d = 0; d < *dims && ok; d++) ok = extent[d] > 0 && extent[d] <= EXTENT_MAX;
  if (!ok) return false;
  shape[0] = (int64_t)extent[0];
  shape[1] = (int64_t)extent[1];
  return *dims == 1 || shape[0] * shape[1] < most;
}

/* ---- attributes ---- */

static cov_status put(hid_t object, const char *name, hid_t file_type, hid_t memory_type, hid_t space,
                      const void *data) {
  hid_t attribute = H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
  herr_t rc = attribute < 0 ? -1 : H5Awrite(attribute, memory_type, data);
  if (attribute >= 0) H5Aclose(attribute);
  H5Sclose(space);
  return rc < 0 ? COVI_H5_FAIL(COV_EIO, "cannot write the attribute %s", name) : COV_OK;
}

cov_status covi_h5_put_ints(hid_t object, const char *name, const int64_t *values, int n) {
  hsize_t count = (hsize_t)n;
  return put(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, H5Screate_simple(1, &count, NULL), values);
}

cov_status covi_h5_put_bytes(hid_t object, const char *name, const uint8_t *data, size_t bytes) {
  hsize_t count = bytes;
  return put(object, name, H5T_STD_U8LE, H5T_NATIVE_UINT8, H5Screate_simple(1, &count, NULL), data);
}

cov_status covi_h5_put_text(hid_t object, const char *name, const char *text) {
  hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, strlen(text) + 1);
  H5Tset_cset(type, H5T_CSET_UTF8);
  cov_status st = put(object, name, type, type, H5Screate(H5S_SCALAR), text);
  H5Tclose(type);
  return st;
}

/* Open an attribute of `n` elements of a class; negative otherwise. */
static hid_t open_attribute(hid_t object, const char *name, H5T_class_t class, int64_t n, size_t *bytes) {
  if (H5Aexists(object, name) <= 0) return -1;
  hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
  if (attribute < 0) return -1;
  hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
  bool fits = H5Tget_class(type) == class && H5Sget_simple_extent_npoints(space) == n &&
              !(class == H5T_STRING && H5Tis_variable_str(type));
  *bytes = H5Tget_size(type);
  H5Tclose(type);
  H5Sclose(space);
  if (fits) return attribute;
  H5Aclose(attribute);
  return -1;
}

bool covi_h5_get_ints(hid_t object, const char *name, int64_t *values, int n) {
  size_t bytes;
  hid_t attribute = open_attribute(object, name, H5T_INTEGER, n, &bytes);
  if (attribute < 0) return false;
  bool ok = H5Aread(attribute, H5T_NATIVE_INT64, values) >= 0;
  H5Aclose(attribute);
  return ok;
}

bool covi_h5_get_bytes(hid_t object, const char *name, uint8_t *data, size_t bytes) {
  size_t one;
  hid_t attribute = open_attribute(object, name, H5T_INTEGER, (int64_t)bytes, &one);
  if (attribute < 0) return false;
  bool ok = one == 1 && H5Aread(attribute, H5T_NATIVE_UINT8, data) >= 0;
  H5Aclose(attribute);
  return ok;
}

char *covi_h5_get_text(hid_t object, const char *name) {
  size_t bytes;
  hid_t attribute = open_attribute(object, name, H5T_STRING, 1, &bytes);
  if (attribute < 0) return NULL;
  char *text = bytes < (1u << 20) ? calloc(bytes + 1, 1) : NULL;
  hid_t type = H5Aget_type(attribute);
  bool ok = text && H5Aread(attribute, type, text) >= 0;
  H5Tclose(type);
  H5Aclose(attribute);
  if (ok) return text;
  free(text);
  return NULL;
}

/* ---- names ---- */

cov_status covi_ckpt_path(const char *group, const char *name, bool in_index, char *out, size_t size) {
  bool known = false;
  for (int g = 0; g < COVI_CKPT_GROUPS; g++) known |= strcmp(group, covi_ckpt_groups[g]) == 0;
  if (!known) return COV_FAIL(COV_EUSAGE, "a checkpoint has no group '%s'", group);
  bool taken = in_index && strcmp(group, "theta") == 0;
  for (int g = 0; taken && g < COVI_CKPT_GROUPS; g++) {
    if (strcmp(name, covi_ckpt_groups[g]) == 0) return COV_FAIL(COV_EUSAGE, "no tensor may be named '%s'", name);
  }
  if (!*name || strchr(name, '/') || strlen(name) >= COV_CKPT_NAME_BYTES) {
    return COV_FAIL(COV_EUSAGE, "'%s' cannot be the name of a tensor in a checkpoint", name);
  }
  return taken ? cov_path(out, size, "/%s", name) : cov_path(out, size, "/%s/%s", group, name);
}

float covi_fill(void) {
  uint32_t bits = COVI_FILL_BITS;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
