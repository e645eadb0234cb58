/* The SentencePiece library behind C linkage; used by tokenizer.c alone. Nothing throws across this border: every
 * function returns 0, or non-zero with a message in `error` [error_bytes]. */
#ifndef COVENANT_DATA_SENTENCEPIECE_SHIM_H
#define COVENANT_DATA_SENTENCEPIECE_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct covi_sentencepiece covi_sentencepiece;

/** `text` returns 0 at the end, else 1 with the next line of training text (borrowed until the next call). */
typedef int (*covi_sentencepiece_lines)(void *context, const char **text, size_t *bytes);

/** Load a serialised model; *out is released with covi_sentencepiece_close. */
int covi_sentencepiece_open(const void *model, size_t bytes, covi_sentencepiece **out, char *error, size_t error_bytes);
void covi_sentencepiece_close(covi_sentencepiece *p);

int covi_sentencepiece_vocab(const covi_sentencepiece *p);
/** -1 if the model has none. */
int covi_sentencepiece_eos(const covi_sentencepiece *p);

/** *ids [*n] is malloc'ed. */
int covi_sentencepiece_encode(const covi_sentencepiece *p, const char *text, size_t bytes, uint32_t **ids, size_t *n,
                              char *error, size_t error_bytes);
/** *text [*bytes] is malloc'ed, with a NUL behind it. Ids must be below the vocabulary's size. */
int covi_sentencepiece_decode(const covi_sentencepiece *p, const uint32_t *ids, size_t n, char **text, size_t *bytes,
                              char *error, size_t error_bytes);
/** Train with `n` settings of the library, names and values in turn ([2 * n]); *model [*bytes] is malloc'ed. */
int covi_sentencepiece_train(const char *const *settings, int n, covi_sentencepiece_lines lines, void *context,
                             void **model, size_t *bytes, char *error, size_t error_bytes);

#ifdef __cplusplus
}
#endif

#endif
