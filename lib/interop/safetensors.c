#include "interop/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "interop/safetensors_internal.h"

/* The format's own limit; a real header needs about 200 bytes a tensor. */
static const uint64_t header_max_bytes = 100000000;

static uint64_t load64(const uint8_t *p) {
  uint64_t x = 0;
  for (int i = 7; i >= 0; i--) x = x << 8 | p[i];
  return x;
}

static int by_begin(const void *a, const void *b) {
  const cov_safetensors_item *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  if (x->end != y->end) return x->end < y->end ? -1 : 1; /* empty tensors in front of the one they touch */
  return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
  const cov_safetensors_item *const *x = a, *const *y = b;
  return strcmp((*x)->name, (*y)->name);
}

static cov_status verify_names(const cov_safetensors *st) {
  const cov_safetensors_item **sorted = malloc((size_t)(st->n ? st->n : 1) * sizeof *sorted);
  if (!sorted) return COV_FAIL(COV_ENOMEM, "list of %d tensor names", st->n);
  cov_status status = COV_OK;
  for (int i = 0; i < st->n; i++) sorted[i] = &st->item[i];
  qsort(sorted, (size_t)st->n, sizeof *sorted, by_name);
  for (int i = 1; i < st->n && status == COV_OK; i++) {
    if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0) {
      status = COV_FAIL(COV_EDATA, "%s: tensor %s is there twice", st->path, sorted[i]->name);
    }
  }
  free(sorted);
  return status;
}

/* Every byte of the data part belongs to exactly one tensor, and each tensor has as many bytes as its shape says. */
static cov_status verify_layout(cov_safetensors *st, uint64_t data_bytes) {
  uint64_t at = 0;
  if (st->n > 0) qsort(st->item, (size_t)st->n, sizeof *st->item, by_begin);
  for (int i = 0; i < st->n; i++) {
    const cov_safetensors_item *t = &st->item[i];
    if (t->begin != at || t->end < t->begin || t->end > data_bytes) {
      return COV_FAIL(COV_EDATA,
                      "%s: tensor %s has bytes %llu .. %llu of %llu, but %llu is where the last one ended: tensors "
                      "overlap, leave a hole or leave the file; it is damaged or cut short",
                      st->path, t->name, (unsigned long long)t->begin, (unsigned long long)t->end,
                      (unsigned long long)data_bytes, (unsigned long long)at);
    }
    if ((uint64_t)t->elems * (uint64_t)t->item_bytes != t->end - t->begin) {
      return COV_FAIL(COV_EDATA, "%s: tensor %s has %lld elements of %d bytes by its shape, but %llu bytes of data",
                      st->path, t->name, (long long)t->elems, t->item_bytes, (unsigned long long)(t->end - t->begin));
    }
    at = t->end;
  }
  if (at != data_bytes) {
    return COV_FAIL(COV_EDATA, "%s: %llu bytes of data, of which the tensors account for %llu; it is damaged", st->path,
                    (unsigned long long)data_bytes, (unsigned long long)at);
  }
  return COV_OK;
}

static cov_status read_header(cov_safetensors *reader, uint64_t file_bytes) {
  uint8_t head[8];
  if (file_bytes < 8 || fread(head, 1, 8, reader->file) != 8) {
    return COV_FAIL(COV_EDATA, "%s: %llu bytes are too few for a safetensors file", reader->path,
                    (unsigned long long)file_bytes);
  }
  uint64_t header_bytes = load64(head);
  if (header_bytes < 2 || header_bytes > header_max_bytes || header_bytes > file_bytes - 8) {
    return COV_FAIL(COV_EDATA, "%s: header of %llu bytes in a file of %llu; not a safetensors file, or it is cut short",
                    reader->path, (unsigned long long)header_bytes, (unsigned long long)file_bytes);
  }
  char *text = malloc(header_bytes);
  if (!text) return COV_FAIL(COV_ENOMEM, "%s: header of %llu bytes", reader->path, (unsigned long long)header_bytes);
  cov_status st = COV_OK;
  if (fread(text, 1, header_bytes, reader->file) != header_bytes) {
    COV_FAIL_DONE(COV_EIO, "%s: its header cannot be read", reader->path);
  }
  COV_TRY_DONE(covi_safetensors_parse(reader->path, text, (size_t)header_bytes, &reader->item, &reader->n));
  reader->data_offset = 8 + header_bytes;
  COV_TRY_DONE(verify_names(reader));
  COV_TRY_DONE(verify_layout(reader, file_bytes - reader->data_offset));
done:
  free(text);
  return st;
}

cov_status cov_safetensors_open(const char *path, cov_safetensors *st) {
  *st = (cov_safetensors){0};
  snprintf(st->path, sizeof st->path, "%s", path);
  st->file = fopen(path, "rb");
  if (!st->file) return COV_FAIL(COV_EIO, "cannot open %s: %s", path, strerror(errno));
  off_t bytes = -1;
  cov_status status;
  if (fseeko(st->file, 0, SEEK_END) != 0 || (bytes = ftello(st->file)) < 0 || fseeko(st->file, 0, SEEK_SET) != 0) {
    status = COV_FAIL(COV_EIO, "%s has no length (a pipe?); give a plain file", path);
  } else {
    status = read_header(st, (uint64_t)bytes);
  }
  if (status != COV_OK) cov_safetensors_close(st);
  return status;
}

void cov_safetensors_close(cov_safetensors *st) {
  if (st->file) fclose(st->file);
  free(st->item);
  *st = (cov_safetensors){0};
}

int cov_safetensors_find(const cov_safetensors *st, const char *name) {
  for (int i = 0; i < st->n; i++) {
    if (strcmp(st->item[i].name, name) == 0) return i;
  }
  return -1;
}

/* ---- number formats ---- */

static uint32_t f16_bits(uint16_t h) {
  uint32_t sign = (uint32_t)(h >> 15) << 31, exponent = h >> 10 & 31, fraction = h & 1023;
  if (exponent == 31) return sign | 0x7F800000u | fraction << 13;
  if (exponent > 0) return sign | (exponent + 112) << 23 | fraction << 13;
  if (fraction == 0) return sign;
  exponent = 113; /* subnormal: shift the leading bit into its place */
  while (!(fraction & 1024)) {
    fraction <<= 1;
    exponent--;
  }
  return sign | exponent << 23 | (fraction & 1023) << 13;
}

static float from_bytes(cov_safetensors_dtype dtype, const uint8_t *p) {
  uint32_t bits;
  if (dtype == COV_ST_F32) {
    bits = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
  } else {
    uint16_t half = (uint16_t)(p[0] | p[1] << 8);
    bits = dtype == COV_ST_BF16 ? (uint32_t)half << 16 : f16_bits(half);
  }
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

cov_status cov_safetensors_read(const cov_safetensors *st, int index, float *out) {
  uint8_t piece[65536];
  const cov_safetensors_item *t = &st->item[index];
  if (t->dtype == COV_ST_OTHER) {
    return COV_FAIL(COV_EDATA, "%s: tensor %s is not F32, BF16 or F16", st->path, t->name);
  }
  if (fseeko(st->file, (off_t)(st->data_offset + t->begin), SEEK_SET) != 0) {
    return COV_FAIL(COV_EIO, "%s: cannot go to tensor %s: %s", st->path, t->name, strerror(errno));
  }
  size_t item_bytes = (size_t)t->item_bytes;
  for (int64_t i = 0; i < t->elems;) {
    size_t n = sizeof piece / item_bytes;
    if ((int64_t)n > t->elems - i) n = (size_t)(t->elems - i);
    if (fread(piece, item_bytes, n, st->file) != n) {
      return COV_FAIL(COV_EIO, "%s: tensor %s cannot be read; has the file changed?", st->path, t->name);
    }
    for (size_t k = 0; k < n; k++) out[i + (int64_t)k] = from_bytes(t->dtype, piece + k * item_bytes);
    i += (int64_t)n;
  }
  return COV_OK;
}
