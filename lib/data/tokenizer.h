/* Text to token ids and back, one interface for two kinds:
 * - bytes: 256 byte values and EOS (id 256); always there, lossless for any input;
 * - sentencepiece: any model of that library (unigram, BPE), or a BPE model trained here.
 *
 * Models trained here: BPE with byte fallback (so every text has an encoding), ids <unk> 0, </s> 1, bytes 2..257, no
 * <s> and no padding piece. Normalisation is the identity: no Unicode folding, no joining of blanks. A blank is put in
 * front of each text so that a word has one form everywhere (decoding takes it off again). Hence decode(encode(x)) = x
 * for valid UTF-8 without U+2581 (SentencePiece's sign for a blank, which comes back as a blank). Digits are single
 * pieces. Training is a pure function of text, vocabulary and library version: one thread, no sampling inside.
 *
 * The identity of a tokenizer is the BLAKE2b-256 of its model bytes (of its name for the byte tokenizer): peers
 * compare it before they train together. All functions are Local; encoding and decoding are thread-safe. */
#ifndef COVENANT_DATA_TOKENIZER_H
#define COVENANT_DATA_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"

/* The largest models in use have 256,000 pieces in some MB. */
enum { COV_TOKENIZER_MODEL_MAX_BYTES = 256 << 20 };

typedef enum { COV_TOKENIZER_BYTES, COV_TOKENIZER_SENTENCEPIECE } cov_tokenizer_kind;

typedef struct cov_tokenizer cov_tokenizer;

/* A list of ids that grows; {0} is an empty one. Owned by the caller, released with cov_token_list_free. */
typedef struct {
  uint32_t *ids;
  size_t n, room;
} cov_token_list;
void cov_token_list_free(cov_token_list *list);
/** Append one id. */
cov_status cov_token_list_add(cov_token_list *list, uint32_t id);

/** "bytes", "sentencepiece": as written in manifests. */
const char *cov_tokenizer_kind_name(cov_tokenizer_kind kind);

/** `*out` is owned by the caller and released with cov_tokenizer_close. */
cov_status cov_tokenizer_open_bytes(cov_tokenizer **out);
/** A SentencePiece model file. COV_EDATA if it is not one or has no EOS piece; COV_EUSAGE if this program was built
 *  without SentencePiece. */
cov_status cov_tokenizer_open_file(const char *path, cov_tokenizer **out);
/** The same from memory, copied; `where` is named in messages. */
cov_status cov_tokenizer_open_memory(const void *model, size_t bytes, const char *where, cov_tokenizer **out);
/** NULLs `*t`; NULL is fine. */
void cov_tokenizer_close(cov_tokenizer **t);

/* Text for training, asked for piece by piece. `next` returns 0 at the end, else 1 with *text (borrowed until the next
 * call) and *bytes: valid UTF-8 without NUL. */
typedef struct {
  int (*next)(void *context, const char **text, size_t *bytes);
  void *context;
} cov_text_source;

/** Train a BPE model with `vocab` entries (300 .. 65536). Lines are the units of training; longer ones than 4,000
 *  bytes are cut at a blank. COV_EDATA if the text is too small for that vocabulary (the message of the library says
 *  how many pieces are possible). */
cov_status cov_tokenizer_train(int vocab, const cov_text_source *source, cov_tokenizer **out);

cov_tokenizer_kind cov_tokenizer_get_kind(const cov_tokenizer *t);
int cov_tokenizer_vocab(const cov_tokenizer *t);
uint32_t cov_tokenizer_eos(const cov_tokenizer *t);
/** The model file's bytes (borrowed, *bytes long); NULL and 0 for the byte tokenizer. */
const void *cov_tokenizer_model(const cov_tokenizer *t, size_t *bytes);
/** Identity, see above. */
void cov_tokenizer_hash(const cov_tokenizer *t, uint8_t hash[COV_HASH_BYTES]);

/** Append the ids of `text` [bytes] to `list`, without EOS. COV_EDATA if a SentencePiece model gets invalid UTF-8. */
cov_status cov_tokenizer_encode(const cov_tokenizer *t, const char *text, size_t bytes, cov_token_list *list);
/** Text of `ids` [n]; EOS and other control pieces are empty. `*text` (NUL after `*bytes` bytes) is owned by the
 *  caller (free()). An id outside the vocabulary is COV_EDATA. */
cov_status cov_tokenizer_decode(const cov_tokenizer *t, const uint32_t *ids, size_t n, char **text, size_t *bytes);

#endif
