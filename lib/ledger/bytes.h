/* Little-endian integers in byte strings, read and written within bounds. All Local, no allocation.
 *
 * A reader or writer that meets its bound becomes `failed` and stays so; reads then give zero. Callers do all their
 * calls and check once, so that a parser is a list of its fields. */
#ifndef COVENANT_LEDGER_BYTES_H
#define COVENANT_LEDGER_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
  const uint8_t *data;
  size_t left;
  bool failed;
} cov_byte_reader;

typedef struct {
  uint8_t *data; /* may be NULL with room 0 */
  size_t used, room;
  bool failed;
} cov_byte_writer;

/** Borrow the next `bytes` bytes; NULL past the end. */
static inline const uint8_t *cov_bytes_take(cov_byte_reader *r, size_t bytes) {
  if (r->failed || r->left < bytes) {
    r->failed = true;
    return NULL;
  }
  const uint8_t *p = r->data;
  r->data += bytes;
  r->left -= bytes;
  return p;
}

/** Copy the next `bytes` bytes to `out`; zeros past the end. */
static inline void cov_bytes_read(cov_byte_reader *r, void *out, size_t bytes) {
  const uint8_t *p = cov_bytes_take(r, bytes);
  if (p) {
    memcpy(out, p, bytes);
  } else {
    memset(out, 0, bytes);
  }
}

/** Unsigned integer of `width` bytes, 1 to 8. */
static inline uint64_t cov_bytes_read_uint(cov_byte_reader *r, size_t width) {
  const uint8_t *p = cov_bytes_take(r, width);
  uint64_t v = 0;
  for (size_t i = 0; p && i < width; i++) v |= (uint64_t)p[i] << (8 * i);
  return v;
}

/** An unsigned integer of `width` bytes that is at most `limit`; anything larger fails the reader. */
static inline int64_t cov_bytes_read_count(cov_byte_reader *r, size_t width, int64_t limit) {
  uint64_t v = cov_bytes_read_uint(r, width);
  if (v > (uint64_t)limit) {
    r->failed = true;
    return 0;
  }
  return (int64_t)v;
}

static inline void cov_bytes_write(cov_byte_writer *w, const void *data, size_t bytes) {
  if (w->failed || w->room - w->used < bytes) {
    w->failed = true;
    return;
  }
  if (bytes) memcpy(w->data + w->used, data, bytes);
  w->used += bytes;
}

static inline void cov_bytes_write_uint(cov_byte_writer *w, size_t width, uint64_t v) {
  uint8_t b[8];
  for (size_t i = 0; i < 8; i++) b[i] = (uint8_t)(v >> (8 * i));
  cov_bytes_write(w, b, width);
}

#endif
