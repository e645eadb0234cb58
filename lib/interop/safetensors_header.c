/* A parser for just the JSON that a safetensors header is: objects, strings, arrays of whole numbers. */
#include <stdlib.h>
#include <string.h>

#include "interop/safetensors_internal.h"

enum { TENSORS_MAX = 1 << 20 };

typedef struct {
  const char *path;
  const char *text;
  size_t at, bytes;
} cursor;

static cov_status complain(const cursor *c, const char *what) {
  return COV_FAIL(COV_EDATA, "%s: header, byte %zu: %s; the file is damaged or no safetensors file", c->path, c->at,
                  what);
}

static void skip_space(cursor *c) {
  while (c->at < c->bytes && strchr(" \t\r\n", c->text[c->at]) && c->text[c->at]) c->at++;
}

/* 1 and past it if the next character is `ch`. */
static int accept(cursor *c, char ch) {
  skip_space(c);
  if (c->at >= c->bytes || c->text[c->at] != ch) return 0;
  c->at++;
  return 1;
}

static cov_status expect(cursor *c, char ch, const char *what) {
  return accept(c, ch) ? COV_OK : complain(c, what);
}

/* A string into out[room]. Tensor names need no escapes beyond \" \\ and \/; others are refused where the value
 * matters and read over (out = NULL) where it does not. */
static cov_status parse_string(cursor *c, char *out, size_t room) {
  size_t n = 0;
  COV_TRY(expect(c, '"', "a string is expected"));
  for (; c->at < c->bytes; c->at++) {
    char ch = c->text[c->at];
    if (ch == '"') {
      c->at++;
      if (out) out[n] = '\0';
      return COV_OK;
    }
    if ((unsigned char)ch < 0x20) return complain(c, "a control character in a string");
    if (ch == '\\') {
      if (++c->at >= c->bytes) break;
      ch = c->text[c->at];
      if (!ch || !strchr(out ? "\"\\/" : "\"\\/bfnrtu", ch)) return complain(c, "an escape that is not accepted here");
    }
    if (!out) continue;
    if (n + 1 >= room) return complain(c, "a string is longer than any that belongs here");
    out[n++] = ch;
  }
  return complain(c, "a string does not end");
}

static cov_status parse_whole(cursor *c, int64_t *x) {
  skip_space(c);
  size_t first = c->at;
  *x = 0;
  for (; c->at < c->bytes && c->text[c->at] >= '0' && c->text[c->at] <= '9'; c->at++) {
    int digit = c->text[c->at] - '0';
    if (*x > (INT64_MAX - digit) / 10) return complain(c, "a number is too large");
    *x = *x * 10 + digit;
  }
  if (c->at == first) return complain(c, "a whole number of 0 or more is expected");
  if (c->text[first] == '0' && c->at > first + 1) return complain(c, "a number starts with 0");
  return COV_OK;
}

/* [a, b, ...] of at most `room` numbers. */
static cov_status parse_numbers(cursor *c, int64_t *x, int room, int *n) {
  *n = 0;
  COV_TRY(expect(c, '[', "a list of numbers is expected"));
  if (accept(c, ']')) return COV_OK;
  do {
    if (*n == room) return complain(c, "a list of numbers is too long");
    COV_TRY(parse_whole(c, &x[*n]));
    ++*n;
  } while (accept(c, ','));
  return expect(c, ']', "',' or ']' is expected");
}

static cov_status parse_metadata(cursor *c) {
  COV_TRY(expect(c, '{', "__metadata__ is an object of strings"));
  if (accept(c, '}')) return COV_OK;
  do {
    COV_TRY(parse_string(c, NULL, 0));
    COV_TRY(expect(c, ':', "':' is expected"));
    COV_TRY(parse_string(c, NULL, 0));
  } while (accept(c, ','));
  return expect(c, '}', "',' or '}' is expected");
}

static cov_status parse_dtype(cursor *c, cov_safetensors_item *t) {
  static const struct {
    const char *name;
    cov_safetensors_dtype dtype;
    int bytes;
  } known[] = {{"F32", COV_ST_F32, 4},    {"BF16", COV_ST_BF16, 2},     {"F16", COV_ST_F16, 2},
               {"F64", COV_ST_OTHER, 8},  {"I64", COV_ST_OTHER, 8},     {"I32", COV_ST_OTHER, 4},
               {"I16", COV_ST_OTHER, 2},  {"I8", COV_ST_OTHER, 1},      {"U64", COV_ST_OTHER, 8},
               {"U32", COV_ST_OTHER, 4},  {"U16", COV_ST_OTHER, 2},     {"U8", COV_ST_OTHER, 1},
               {"BOOL", COV_ST_OTHER, 1}, {"F8_E4M3", COV_ST_OTHER, 1}, {"F8_E5M2", COV_ST_OTHER, 1}};
  char name[16];
  COV_TRY(parse_string(c, name, sizeof name));
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (strcmp(name, known[i].name) != 0) continue;
    t->dtype = known[i].dtype;
    t->item_bytes = known[i].bytes;
    return COV_OK;
  }
  return complain(c, "an unknown dtype");
}

static cov_status parse_shape(cursor *c, cov_safetensors_item *t) {
  COV_TRY(parse_numbers(c, t->shape, COV_SAFETENSORS_DIMS_MAX, &t->dims));
  t->elems = 1;
  for (int i = 0; i < t->dims; i++) {
    /* 2^58 elements of 8 bytes still count in 63 bits. */
    if (t->shape[i] != 0 && t->elems > ((int64_t)1 << 58) / t->shape[i]) return complain(c, "a shape is too large");
    t->elems *= t->shape[i];
  }
  return COV_OK;
}

static cov_status parse_tensor(cursor *c, cov_safetensors_item *t) {
  enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
  int seen = 0;
  COV_TRY(expect(c, '{', "a tensor is an object"));
  do {
    char key[16];
    COV_TRY(parse_string(c, key, sizeof key));
    int field = strcmp(key, "dtype") == 0 ? DTYPE : strcmp(key, "shape") == 0 ? SHAPE : OFFSETS;
    if (field == OFFSETS && strcmp(key, "data_offsets") != 0) return complain(c, "an unknown field of a tensor");
    if (seen & field) return complain(c, "a field of a tensor is there twice");
    seen |= field;
    COV_TRY(expect(c, ':', "':' is expected"));
    if (field == DTYPE) {
      COV_TRY(parse_dtype(c, t));
    } else if (field == SHAPE) {
      COV_TRY(parse_shape(c, t));
    } else {
      int64_t pair[2];
      int n;
      COV_TRY(parse_numbers(c, pair, 2, &n));
      if (n != 2) return complain(c, "data_offsets are two numbers");
      t->begin = (uint64_t)pair[0];
      t->end = (uint64_t)pair[1];
    }
  } while (accept(c, ','));
  COV_TRY(expect(c, '}', "',' or '}' is expected"));
  return seen == (DTYPE | SHAPE | OFFSETS) ? COV_OK : complain(c, "a tensor lacks dtype, shape or data_offsets");
}

static cov_status append(cursor *c, const cov_safetensors_item *t, cov_safetensors_item **item, int *n) {
  if (*n == TENSORS_MAX) return complain(c, "too many tensors");
  if ((*n & (*n - 1)) == 0) { /* full at every power of two */
    size_t room = *n ? 2 * (size_t)*n : 1;
    cov_safetensors_item *bigger = realloc(*item, room * sizeof *bigger);
    if (!bigger) return COV_FAIL(COV_ENOMEM, "%s: table of %zu tensors", c->path, room);
    *item = bigger;
  }
  (*item)[(*n)++] = *t;
  return COV_OK;
}

static cov_status parse_entries(cursor *c, cov_safetensors_item **item, int *n) {
  int metadata = 0;
  do {
    cov_safetensors_item t = {.dims = 0};
    COV_TRY(parse_string(c, t.name, sizeof t.name));
    COV_TRY(expect(c, ':', "':' is expected"));
    if (strcmp(t.name, "__metadata__") == 0) {
      if (metadata++) return complain(c, "__metadata__ is there twice");
      COV_TRY(parse_metadata(c));
    } else {
      COV_TRY(parse_tensor(c, &t));
      COV_TRY(append(c, &t, item, n));
    }
  } while (accept(c, ','));
  return COV_OK;
}

cov_status covi_safetensors_parse(const char *path, const char *text, size_t bytes, cov_safetensors_item **item,
                                  int *n) {
  cursor c = {.path = path, .text = text, .bytes = bytes};
  *item = NULL;
  *n = 0;
  cov_status st = COV_OK;
  if (bytes == 0 || text[0] != '{') COV_FAIL_DONE(COV_EDATA, "%s: the header is not a JSON object", path);
  c.at = 1;
  if (!accept(&c, '}')) {
    COV_TRY_DONE(parse_entries(&c, item, n));
    COV_TRY_DONE(expect(&c, '}', "',' or '}' is expected"));
  }
  skip_space(&c);
  if (c.at != bytes) COV_TRY_DONE(complain(&c, "text behind the header's object"));
done:
  if (st != COV_OK) {
    free(*item);
    *item = NULL;
    *n = 0;
  }
  return st;
}
