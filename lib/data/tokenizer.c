#include "data/tokenizer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/utf8.h"
#ifdef COVENANT_HAVE_SENTENCEPIECE
#include "data/sentencepiece_shim.h"
#endif

enum {
  BYTES_EOS = 256,
  BYTES_VOCAB = 257,
  VOCAB_MIN = 300, /* 256 bytes, <unk>, </s>, and some pieces worth having */
  VOCAB_MAX = 65536,
  LINE_MAX_BYTES = 4000, /* the library skips lines above 4192 */
  VOCAB_LIMIT = 1 << 24,
};

struct cov_tokenizer {
  cov_tokenizer_kind kind;
  int vocab;
  uint32_t eos;
  void *model;
  size_t model_bytes;
#ifdef COVENANT_HAVE_SENTENCEPIECE
  covi_sentencepiece *processor;
#endif
};

/* ---- lists ---- */

static cov_status list_reserve(cov_token_list *list, size_t more) {
  if (list->room - list->n >= more) return COV_OK;
  size_t room = list->room ? list->room : 1024;
  while (room - list->n < more) {
    if (room > SIZE_MAX / 2 / sizeof *list->ids) return COV_FAIL(COV_ENOMEM, "no memory for %zu tokens", more);
    room *= 2;
  }
  uint32_t *ids = realloc(list->ids, room * sizeof *ids);
  if (!ids) return COV_FAIL(COV_ENOMEM, "no memory for %zu tokens", room);
  list->ids = ids;
  list->room = room;
  return COV_OK;
}

void cov_token_list_free(cov_token_list *list) {
  free(list->ids);
  *list = (cov_token_list){0};
}

cov_status cov_token_list_add(cov_token_list *list, uint32_t id) {
  COV_TRY(list_reserve(list, 1));
  list->ids[list->n++] = id;
  return COV_OK;
}

/* ---- opening ---- */

const char *cov_tokenizer_kind_name(cov_tokenizer_kind kind) {
  return kind == COV_TOKENIZER_BYTES ? "bytes" : "sentencepiece";
}

cov_status cov_tokenizer_open_bytes(cov_tokenizer **out) {
  cov_tokenizer *t = calloc(1, sizeof *t);
  *out = NULL;
  if (!t) return COV_FAIL(COV_ENOMEM, "no memory for a tokenizer");
  t->kind = COV_TOKENIZER_BYTES;
  t->vocab = BYTES_VOCAB;
  t->eos = BYTES_EOS;
  *out = t;
  return COV_OK;
}

cov_status cov_tokenizer_open_file(const char *path, cov_tokenizer **out) {
  char *model;
  size_t bytes;
  *out = NULL;
  COV_TRY(cov_file_read(path, COV_TOKENIZER_MODEL_MAX_BYTES, &model, &bytes));
  cov_status st = cov_tokenizer_open_memory(model, bytes, path, out);
  free(model);
  return st;
}

void cov_tokenizer_close(cov_tokenizer **t) {
  if (!*t) return;
#ifdef COVENANT_HAVE_SENTENCEPIECE
  if ((*t)->processor) covi_sentencepiece_close((*t)->processor);
#endif
  free((*t)->model);
  free(*t);
  *t = NULL;
}

/* ---- facts ---- */

cov_tokenizer_kind cov_tokenizer_get_kind(const cov_tokenizer *t) {
  return t->kind;
}

int cov_tokenizer_vocab(const cov_tokenizer *t) {
  return t->vocab;
}

uint32_t cov_tokenizer_eos(const cov_tokenizer *t) {
  return t->eos;
}

const void *cov_tokenizer_model(const cov_tokenizer *t, size_t *bytes) {
  *bytes = t->model_bytes;
  return t->model;
}

void cov_tokenizer_hash(const cov_tokenizer *t, uint8_t hash[COV_HASH_BYTES]) {
  static const char name[] = "covenant bytes+eos 257";
  if (t->kind == COV_TOKENIZER_BYTES) {
    cov_hash(name, sizeof name - 1, COV_HASH_BYTES, hash);
  } else {
    cov_hash(t->model, t->model_bytes, COV_HASH_BYTES, hash);
  }
}

/* ---- SentencePiece ---- */

#ifdef COVENANT_HAVE_SENTENCEPIECE

cov_status cov_tokenizer_open_memory(const void *model, size_t bytes, const char *where, cov_tokenizer **out) {
  cov_status st = COV_OK;
  char error[512];
  *out = NULL;
  cov_tokenizer *t = calloc(1, sizeof *t);
  if (!t) return COV_FAIL(COV_ENOMEM, "no memory for a tokenizer");
  t->kind = COV_TOKENIZER_SENTENCEPIECE;
  if (bytes == 0) COV_FAIL_DONE(COV_EDATA, "%s is empty, not a SentencePiece model", where);
  t->model = malloc(bytes);
  if (!t->model) COV_FAIL_DONE(COV_ENOMEM, "no memory for the tokenizer %s", where);
  memcpy(t->model, model, bytes);
  t->model_bytes = bytes;
  if (covi_sentencepiece_open(model, bytes, &t->processor, error, sizeof error) != 0) {
    COV_FAIL_DONE(COV_EDATA, "%s is not a usable SentencePiece model: %s", where, error);
  }
  t->vocab = covi_sentencepiece_vocab(t->processor);
  int eos = covi_sentencepiece_eos(t->processor);
  if (t->vocab < 2 || t->vocab > VOCAB_LIMIT) {
    COV_FAIL_DONE(COV_EDATA, "%s: a vocabulary of %d pieces", where, t->vocab);
  }
  if (eos < 0 || eos >= t->vocab) {
    COV_FAIL_DONE(COV_EDATA, "%s has no </s> piece, which ends documents here; train it with an eos_id", where);
  }
  t->eos = (uint32_t)eos;
  *out = t;
  t = NULL;
done:
  cov_tokenizer_close(&t);
  return st;
}

/* Cuts pieces of text into the lines that the trainer sees. */
typedef struct {
  const cov_text_source *source;
  const char *at;
  size_t left;
} line_cutter;

static int next_line(void *context, const char **text, size_t *bytes) {
  line_cutter *c = context;
  for (;;) {
    while (c->left > 0 && *c->at == '\n') c->at++, c->left--;
    if (c->left > 0) break;
    if (!c->source->next(c->source->context, &c->at, &c->left)) return 0;
  }
  const char *newline = memchr(c->at, '\n', c->left);
  size_t n = newline ? (size_t)(newline - c->at) : c->left;
  if (n > LINE_MAX_BYTES) {
    n = LINE_MAX_BYTES;
    while (n > 0 && c->at[n] != ' ') n--;
    if (n == 0) { /* no blank at all: cut between characters */
      n = LINE_MAX_BYTES;
      while (n > 1 && ((unsigned char)c->at[n] & 0xC0) == 0x80) n--;
    }
  }
  *text = c->at;
  *bytes = n;
  c->at += n;
  c->left -= n;
  return 1;
}

cov_status cov_tokenizer_train(int vocab, const cov_text_source *source, cov_tokenizer **out) {
  char pieces[16], error[512];
  void *model = NULL;
  size_t bytes = 0;
  line_cutter lines = {.source = source};
  const char *const settings[][2] = {
      {"model_type", "bpe"},
      {"vocab_size", pieces},
      {"byte_fallback", "true"},
      {"character_coverage", "0.9995"},
      {"split_digits", "true"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"add_dummy_prefix", "true"},
      {"unk_id", "0"},
      {"eos_id", "1"},
      {"bos_id", "-1"},
      {"pad_id", "-1"},
      {"num_threads", "1"},
      {"shuffle_input_sentence", "false"},
      {"minloglevel", "4"},
  };
  enum { N_SETTINGS = sizeof settings / sizeof *settings };
  *out = NULL;
  if (vocab < VOCAB_MIN || vocab > VOCAB_MAX) {
    return COV_FAIL(COV_EUSAGE, "a vocabulary of %d is outside [%d, %d]", vocab, VOCAB_MIN, VOCAB_MAX);
  }
  snprintf(pieces, sizeof pieces, "%d", vocab);
  if (covi_sentencepiece_train(&settings[0][0], N_SETTINGS, next_line, &lines, &model, &bytes, error, sizeof error)) {
    return COV_FAIL(COV_EDATA,
                    "cannot train a tokenizer of %d pieces on this text (%s); give more text, a smaller --vocab or "
                    "--tokenizer bytes",
                    vocab, error);
  }
  cov_status st = cov_tokenizer_open_memory(model, bytes, "the trained tokenizer", out);
  free(model);
  return st;
}

static cov_status encode_pieces(const cov_tokenizer *t, const char *text, size_t bytes, cov_token_list *list) {
  char error[512];
  uint32_t *ids = NULL;
  size_t n = 0, good = cov_utf8_valid(text, bytes);
  if (good != bytes) return COV_FAIL(COV_EDATA, "text for the tokenizer is not valid UTF-8 at byte %zu", good);
  if (covi_sentencepiece_encode(t->processor, text, bytes, &ids, &n, error, sizeof error) != 0) {
    return COV_FAIL(COV_EDATA, "the tokenizer cannot encode this text: %s", error);
  }
  cov_status st = list_reserve(list, n);
  if (st == COV_OK && n > 0) memcpy(list->ids + list->n, ids, n * sizeof *ids);
  if (st == COV_OK) list->n += n;
  free(ids);
  return st;
}

static cov_status decode_pieces(const cov_tokenizer *t, const uint32_t *ids, size_t n, char **text, size_t *bytes) {
  char error[512];
  if (covi_sentencepiece_decode(t->processor, ids, n, text, bytes, error, sizeof error) != 0) {
    return COV_FAIL(COV_EDATA, "the tokenizer cannot decode these ids: %s", error);
  }
  return COV_OK;
}

#else

#define MISSING                                                                                                     \
  "this program was built without SentencePiece; use --tokenizer bytes, or install libsentencepiece-dev and build " \
  "again"

cov_status cov_tokenizer_open_memory(const void *model, size_t bytes, const char *where, cov_tokenizer **out) {
  (void)model, (void)bytes;
  *out = NULL;
  return COV_FAIL(COV_EUSAGE, "%s: %s", where, MISSING);
}

cov_status cov_tokenizer_train(int vocab, const cov_text_source *source, cov_tokenizer **out) {
  (void)vocab, (void)source;
  *out = NULL;
  return COV_FAIL(COV_EUSAGE, "%s", MISSING);
}

static cov_status encode_pieces(const cov_tokenizer *t, const char *text, size_t bytes, cov_token_list *list) {
  (void)t, (void)text, (void)bytes, (void)list;
  return COV_FAIL(COV_EBUG, "a SentencePiece tokenizer without the library");
}

static cov_status decode_pieces(const cov_tokenizer *t, const uint32_t *ids, size_t n, char **text, size_t *bytes) {
  (void)t, (void)ids, (void)n, (void)text, (void)bytes;
  return COV_FAIL(COV_EBUG, "a SentencePiece tokenizer without the library");
}

#endif

/* ---- both ways ---- */

cov_status cov_tokenizer_encode(const cov_tokenizer *t, const char *text, size_t bytes, cov_token_list *list) {
  if (bytes == 0) return COV_OK;
  if (t->kind == COV_TOKENIZER_SENTENCEPIECE) return encode_pieces(t, text, bytes, list);
  COV_TRY(list_reserve(list, bytes));
  for (size_t i = 0; i < bytes; i++) list->ids[list->n++] = (unsigned char)text[i];
  return COV_OK;
}

cov_status cov_tokenizer_decode(const cov_tokenizer *t, const uint32_t *ids, size_t n, char **text, size_t *bytes) {
  *text = NULL;
  *bytes = 0;
  for (size_t i = 0; i < n; i++) {
    if (ids[i] >= (uint32_t)t->vocab) {
      return COV_FAIL(COV_EDATA, "token %" PRIu32 " is outside the vocabulary of %d", ids[i], t->vocab);
    }
  }
  if (t->kind == COV_TOKENIZER_SENTENCEPIECE && n > 0) return decode_pieces(t, ids, n, text, bytes);
  char *out = malloc(n + 1);
  if (!out) return COV_FAIL(COV_ENOMEM, "no memory to decode %zu tokens", n);
  for (size_t i = 0; i < n; i++) {
    if (ids[i] < BYTES_EOS) out[(*bytes)++] = (char)ids[i];
  }
  out[*bytes] = '\0';
  *text = out;
  return COV_OK;
}
