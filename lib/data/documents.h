/* Input files cut into documents: the first half of `covenant data prepare` (see prepare.h for what a document is).
 * Files are mapped and stay so until close; a document is a place in one. All functions are Local. */
#ifndef COVENANT_DATA_DOCUMENTS_H
#define COVENANT_DATA_DOCUMENTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "data/prepare.h"

enum { COV_DOCUMENT_KEY_BYTES = 16, COV_DOCUMENT_MAX_BYTES = 64 << 20 };

typedef struct {
  uint8_t key[COV_DOCUMENT_KEY_BYTES]; /* BLAKE2b-128 of (seed, text): names the text, gives the order */
  uint64_t offset;                     /* of the raw record in its file */
  uint32_t raw_bytes;                  /* of the raw record */
  uint32_t text_bytes;                 /* of its text */
  uint32_t file;
} cov_document;

typedef struct {
  const char *path; /* borrowed from the params */
  const char *data; /* mapped; NULL if empty */
  size_t bytes;
  int jsonl;
  uint8_t hash[COV_HASH_BYTES];
} cov_input_file;

typedef struct {
  const cov_prepare_params *params; /* borrowed until close */
  cov_input_file *files;            /* [params->n_inputs] */
  int n_files;
  cov_document *list; /* [n], different texts */
  size_t n, room;
  int64_t duplicates, empty; /* dropped */
  char *buffer;              /* the last text that was not borrowed from a file */
  size_t buffer_room;
} cov_documents;

/** Map and hash the inputs. On failure nothing is held. */
cov_status cov_documents_open(const cov_prepare_params *params, cov_documents *d);
/** Check the encoding, cut into documents, drop empty and repeated ones, sort by key. COV_EDATA names file and line
 *  or byte. */
cov_status cov_documents_cut(cov_documents *d);
/** Text of document i: valid UTF-8 without white space around it, borrowed until the next call or close. */
cov_status cov_documents_text(cov_documents *d, size_t i, const char **text, size_t *bytes);
void cov_documents_close(cov_documents *d);

#endif
