#include "data/documents.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef COVENANT_HAVE_JANSSON
#include <jansson.h>
#endif

#include "base/memory.h"
#include "data/utf8.h"

/* ---- files ---- */

static int has_ending(const char *path, const char *ending) {
  size_t n = strlen(path), k = strlen(ending);
  return n >= k && strcmp(path + n - k, ending) == 0;
}

static cov_status map_file(const char *path, cov_input_file *f) {
  struct stat s;
  f->path = path;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return COV_FAIL(COV_EIO, "cannot read the input %s: %s", path, strerror(errno));
  if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) {
    close(fd);
    return COV_FAIL(COV_EIO, "the input %s is not a regular file", path);
  }
  if (s.st_size > 0) {
    void *map = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, fd, 0);
    int reason = errno;
    if (map == MAP_FAILED) {
      close(fd);
      return COV_FAIL(COV_EIO, "cannot map the input %s: %s", path, strerror(reason));
    }
    f->data = map;
    f->bytes = (size_t)s.st_size;
    cov_mem_account(COV_SPACE_HOST, COV_MEM_FILES, (ptrdiff_t)f->bytes);
  }
  close(fd);
  return COV_OK;
}

cov_status cov_documents_open(const cov_prepare_params *params, cov_documents *d) {
  cov_status st = COV_OK;
  *d = (cov_documents){.params = params};
  d->files = calloc((size_t)params->n_inputs, sizeof *d->files);
  if (!d->files) COV_FAIL_DONE(COV_ENOMEM, "no memory for %d inputs", params->n_inputs);
  for (; d->n_files < params->n_inputs; d->n_files++) {
    cov_input_file *f = &d->files[d->n_files];
    const char *path = params->inputs[d->n_files];
    COV_TRY_DONE(map_file(path, f));
    f->jsonl = params->format == COV_INPUT_JSONL ||
               (params->format == COV_INPUT_AUTO && (has_ending(path, ".jsonl") || has_ending(path, ".ndjson")));
#ifndef COVENANT_HAVE_JANSSON
    if (f->jsonl) {
      d->n_files++;
      COV_FAIL_DONE(COV_EUSAGE,
                    "%s: this program was built without jansson and cannot read JSONL; install "
                    "libjansson-dev and build again",
                    path);
    }
#endif
    cov_hash(f->data ? f->data : "", f->bytes, COV_HASH_BYTES, f->hash);
    if (params->progress) params->progress(params->progress_context, "reading", (d->n_files + 1.0) / params->n_inputs);
  }
done:
  if (st != COV_OK) cov_documents_close(d);
  return st;
}

void cov_documents_close(cov_documents *d) {
  for (int i = 0; d->files && i < d->n_files; i++) {
    if (!d->files[i].data) continue;
    munmap((void *)(uintptr_t)d->files[i].data, d->files[i].bytes);
    cov_mem_account(COV_SPACE_HOST, COV_MEM_FILES, -(ptrdiff_t)d->files[i].bytes);
  }
  free(d->files);
  free(d->list);
  free(d->buffer);
  *d = (cov_documents){0};
}

/* ---- text of a record ---- */

static int is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

static void trim(const char **text, size_t *bytes) {
  while (*bytes > 0 && is_blank((*text)[0])) (*text)++, (*bytes)--;
  while (*bytes > 0 && is_blank((*text)[*bytes - 1])) (*bytes)--;
}

static cov_status reserve_buffer(cov_documents *d, size_t bytes) {
  if (d->buffer_room >= bytes) return COV_OK;
  char *more = realloc(d->buffer, bytes);
  if (!more) return COV_FAIL(COV_ENOMEM, "no memory for a document of %zu bytes", bytes);
  d->buffer = more;
  d->buffer_room = bytes;
  return COV_OK;
}

static int64_t line_number(const cov_input_file *f, uint64_t offset) {
  int64_t n = 1;
  for (const char *p = f->data; (p = memchr(p, '\n', (size_t)(f->data + offset - p))) != NULL; p++) n++;
  return n;
}

#ifdef COVENANT_HAVE_JANSSON
/* The string under the text key of one JSONL record, copied into the buffer. */
static cov_status read_record(cov_documents *d, const cov_input_file *f, uint64_t offset, const char **text,
                              size_t *bytes) {
  cov_status st = COV_OK;
  json_error_t error;
  const char *key = d->params->text_key;
  json_t *record = json_loadb(*text, *bytes, JSON_REJECT_DUPLICATES, &error), *value;
  if (!record) {
    COV_FAIL_DONE(COV_EDATA, "%s, line %" PRId64 ": not a JSON record: %s (column %d)", f->path, line_number(f, offset),
                  error.text, error.column);
  }
  value = json_is_object(record) ? json_object_get(record, key) : NULL;
  if (!json_is_string(value)) {
    COV_FAIL_DONE(COV_EDATA, "%s, line %" PRId64 ": %s; choose the key of the text with --text-key", f->path,
                  line_number(f, offset),
                  !json_is_object(record) ? "not a JSON object"
                  : value                 ? "the value of the text key is not a string"
                                          : "the record has no such text key");
  }
  size_t n = json_string_length(value);
  COV_TRY_DONE(reserve_buffer(d, n + 1));
  memcpy(d->buffer, json_string_value(value), n);
  *text = d->buffer;
  *bytes = n;
done:
  json_decref(record);
  return st;
}
#else
static cov_status read_record(cov_documents *d, const cov_input_file *f, uint64_t offset, const char **text,
                              size_t *bytes) {
  (void)d, (void)offset, (void)text, (void)bytes;
  return COV_FAIL(COV_EBUG, "%s: JSONL without jansson", f->path);
}
#endif

/* Raw record -> trimmed text. Borrowed from the file, or from the buffer where bytes were replaced or unescaped. */
static cov_status record_text(cov_documents *d, int file, uint64_t offset, size_t raw, const char **text,
                              size_t *bytes) {
  const cov_input_file *f = &d->files[file];
  char *clean = NULL;
  *text = f->data + offset;
  *bytes = raw;
  if (d->params->replace_invalid && cov_utf8_valid(*text, raw) != raw) {
    clean = malloc(3 * raw);
    if (!clean) return COV_FAIL(COV_ENOMEM, "no memory for a document of %zu bytes", 3 * raw);
    *bytes = cov_utf8_replace(*text, raw, clean);
    *text = clean;
  }
  cov_status st = COV_OK;
  if (f->jsonl) {
    st = read_record(d, f, offset, text, bytes);
  } else if (clean) {
    st = reserve_buffer(d, *bytes);
    if (st == COV_OK) memcpy(d->buffer, clean, *bytes);
    *text = d->buffer;
  }
  free(clean);
  if (st == COV_OK) trim(text, bytes);
  return st;
}

cov_status cov_documents_text(cov_documents *d, size_t i, const char **text, size_t *bytes) {
  const cov_document *doc = &d->list[i];
  return record_text(d, (int)doc->file, doc->offset, doc->raw_bytes, text, bytes);
}

/* ---- cutting ---- */

/* Keys are hashes: equal keys are equal texts. Deduplication comes after the sort, where equals are neighbours. */
static cov_status add_record(cov_documents *d, int file, size_t offset, size_t raw) {
  const char *text;
  size_t bytes;
  if (raw == 0) return COV_OK;
  if (raw > COV_DOCUMENT_MAX_BYTES) {
    return COV_FAIL(COV_EDATA,
                    "%s: a document of %zu bytes at byte %zu; at most %d are taken: cut it, or choose --document "
                    "paragraph or line",
                    d->files[file].path, raw, offset, (int)COV_DOCUMENT_MAX_BYTES);
  }
  COV_TRY(record_text(d, file, offset, raw, &text, &bytes));
  if (bytes == 0) {
    d->empty++;
    return COV_OK;
  }
  if (d->n == d->room) {
    size_t room = d->room ? 2 * d->room : 4096;
    cov_document *more = realloc(d->list, room * sizeof *more);
    if (!more) return COV_FAIL(COV_ENOMEM, "no memory for %zu documents", room);
    d->list = more;
    d->room = room;
  }
  cov_document *doc = &d->list[d->n++];
  *doc = (cov_document){
      .offset = offset, .raw_bytes = (uint32_t)raw, .text_bytes = (uint32_t)bytes, .file = (uint32_t)file};
  uint8_t seed[8];
  for (int b = 0; b < 8; b++) seed[b] = (uint8_t)(d->params->seed >> 8 * b);
  cov_blake2b h;
  cov_blake2b_open(&h, sizeof doc->key);
  cov_blake2b_add(&h, seed, sizeof seed);
  cov_blake2b_add(&h, text, bytes);
  cov_blake2b_close(&h, doc->key);
  return COV_OK;
}

static int line_is_blank(const char *p, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (!is_blank(p[i])) return 0;
  }
  return 1;
}

static cov_status cut_lines(cov_documents *d, int file, size_t at) {
  const cov_input_file *f = &d->files[file];
  int paragraphs = !f->jsonl && d->params->document == COV_DOCUMENT_PARAGRAPH;
  size_t start = at;
  while (at < f->bytes) {
    const char *newline = memchr(f->data + at, '\n', f->bytes - at);
    size_t end = newline ? (size_t)(newline - f->data) : f->bytes;
    int blank = line_is_blank(f->data + at, end - at);
    if (!blank && !paragraphs) COV_TRY(add_record(d, file, at, end - at));
    if (blank && paragraphs) {
      COV_TRY(add_record(d, file, start, at - start));
      start = end + 1;
    }
    at = end + 1;
  }
  return paragraphs && start < f->bytes ? add_record(d, file, start, f->bytes - start) : COV_OK;
}

static cov_status cut_file(cov_documents *d, int file) {
  const cov_input_file *f = &d->files[file];
  if (!f->data) return COV_OK;
  size_t good = d->params->replace_invalid ? f->bytes : cov_utf8_valid(f->data, f->bytes);
  if (good != f->bytes) {
    return COV_FAIL(COV_EDATA,
                    "%s is not valid UTF-8 text at byte offset %zu (line %" PRId64 ", byte 0x%02x); convert it "
                    "with iconv, or pass --invalid-utf8 replace",
                    f->path, good, line_number(f, good), (unsigned char)f->data[good]);
  }
  size_t start = f->bytes >= 3 && memcmp(f->data, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
  if (!f->jsonl && d->params->document == COV_DOCUMENT_FILE) return add_record(d, file, start, f->bytes - start);
  return cut_lines(d, file, start);
}

/* By key; equal texts by place, so that which one is kept does not depend on the sort. */
static int compare_documents(const void *a, const void *b) {
  const cov_document *x = a, *y = b;
  int c = memcmp(x->key, y->key, sizeof x->key);
  if (c) return c;
  if (x->file != y->file) return x->file < y->file ? -1 : 1;
  return (x->offset > y->offset) - (x->offset < y->offset);
}

cov_status cov_documents_cut(cov_documents *d) {
  size_t kept = 0;
  for (int i = 0; i < d->n_files; i++) {
    COV_TRY(cut_file(d, i));
    if (d->params->progress) d->params->progress(d->params->progress_context, "cutting", (i + 1.0) / d->n_files);
  }
  if (d->n > 0) qsort(d->list, d->n, sizeof *d->list, compare_documents);
  for (size_t i = 0; i < d->n; i++) {
    if (kept > 0 && memcmp(d->list[i].key, d->list[kept - 1].key, COV_DOCUMENT_KEY_BYTES) == 0) {
      d->duplicates++;
    } else {
      d->list[kept++] = d->list[i];
    }
  }
  d->n = kept;
  return COV_OK;
}
