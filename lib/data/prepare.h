/* Plain text or JSONL to a prepared data folder (shards.h, manifest.h).
 *
 * Steps: read the inputs, cut them into documents; drop empty and duplicate documents; split; train the tokenizer on
 * the training part (or take one); write ids, EOS after each document, to shards; write the manifest.
 *
 * - A *document* is a JSONL record, or of plain text a whole file, a paragraph (lines between blank ones: the default,
 *   since a file may be a single book while a split by document needs many) or a line. White space around a document is
 * dropped, its inside is kept as it stands. A byte order mark at the start of a file is dropped.
 * - *Duplicates* (same text, whatever file) are dropped before the split, or boilerplate would leak into the
 *   held-out part.
 * - *Order and split*: documents are ordered by the BLAKE2b-128 of (seed, text), a shuffle that does not depend on the
 *   order of inputs; the first ones, until they hold the held-out fraction of all bytes, are the held-out split.
 * - Same inputs and settings give the same bytes. When the folder already holds them nothing is done; when it holds
 *   something else nothing is touched unless `replace` is set.
 *
 * Memory: inputs are mapped; about 50 bytes a document beside that. All Local. */
#ifndef COVENANT_DATA_PREPARE_H
#define COVENANT_DATA_PREPARE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum { COV_DOCUMENT_PARAGRAPH, COV_DOCUMENT_LINE, COV_DOCUMENT_FILE } cov_document_unit;
typedef enum { COV_INPUT_AUTO, COV_INPUT_TEXT, COV_INPUT_JSONL } cov_input_format; /* AUTO: by .jsonl/.ndjson */

typedef struct {
  const char *const *inputs; /* [n_inputs] paths of files, borrowed for the call */
  int n_inputs;
  const char *folder;     /* created */
  const char *tokenizer;  /* "sentencepiece" (train one), "bytes", or the path of a model */
  int vocab;              /* entries of a tokenizer trained here */
  size_t tokenizer_bytes; /* train it on the first so many bytes of the (shuffled) training split */
  cov_input_format format;
  cov_document_unit document; /* of plain text */
  const char *text_key;       /* of JSONL records */
  int replace_invalid;        /* 1: U+FFFD for bytes that are no UTF-8; 0: they are an error with file and offset */
  double heldout;             /* fraction of bytes, 0 < f < 1 */
  int64_t heldout_min_tokens; /* a smaller held-out split is an error: its loss would be noise */
  int64_t shard_tokens;       /* at most so many tokens a shard */
  uint64_t seed;              /* of order and split */
  int replace;                /* 1: replace a folder that holds other data */
  void (*progress)(void *context, const char *phase, double fraction); /* may be NULL; fraction in [0, 1] */
  void *progress_context;
} cov_prepare_params;

typedef struct {
  int reused; /* 1: the folder already held exactly this */
  double read_s, train_s, encode_s;
} cov_prepare_result;

/** vocab 1024, 16 MiB for the tokenizer, paragraphs, key "text", held-out 0.04 and at least 1,024 tokens, shards of
 *  2^27 tokens, seed 0. */
void cov_prepare_defaults(cov_prepare_params *p);
/** Errors: COV_EUSAGE (a setting), COV_EDATA (an input: file, line or offset and reason), COV_EIO. */
cov_status cov_prepare(const cov_prepare_params *p, cov_prepare_result *result);

/** "paragraph", "line", "file" -> unit. */
cov_status cov_document_unit_parse(const char *text, cov_document_unit *unit);

#endif
