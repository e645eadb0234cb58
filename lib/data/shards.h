/* A prepared data folder, opened for reading: token streams of its splits, mapped from their .npy shards.
 *
 * A split is one stream of tokens; shards are merely where it is cut into files, so a sample may cross them. With
 * sample length T, sample i is tokens [T*i, T*(i+1)) of the stream and there are N = floor(tokens / T) samples; the
 * rest of the stream is not used (the original refuses a stream that is no multiple of T; a folder here serves any T).
 * A sample has T tokens in all: whoever predicts the next token gets T - 1 targets from it, or reads one token further
 * with cov_dataset_read. All functions are Local; reading is thread-safe. */
#ifndef COVENANT_DATA_SHARDS_H
#define COVENANT_DATA_SHARDS_H

#include <stdint.h>

#include "base/status.h"
#include "data/manifest.h"
#include "data/tokenizer.h"

typedef struct cov_dataset cov_dataset;

typedef enum {
  COV_VERIFY_SIZE, /* every file present, of the recorded size, header as recorded; hash of the tokenizer */
  COV_VERIFY_HASH, /* and every byte hashed: reads everything once */
} cov_verify;

/** Open `folder`. `*out` is owned by the caller. COV_EDATA for a missing, truncated, foreign or changed file, with its
 *  name and what to do. */
cov_status cov_dataset_open(const char *folder, cov_verify verify, cov_dataset **out);
/** NULLs `*d`; NULL is fine. */
void cov_dataset_close(cov_dataset **d);

/** Borrowed until close. */
const cov_manifest *cov_dataset_manifest(const cov_dataset *d);
/** Opens the tokenizer the folder was made with; the caller closes it. COV_EDATA if the model file does not have the
 *  recorded hash, COV_EMISMATCH if it does not have the recorded vocabulary or EOS. */
cov_status cov_dataset_tokenizer(const cov_dataset *d, cov_tokenizer **out);
/** COV_EMISMATCH, naming both, unless `t` is the tokenizer of the folder. */
cov_status cov_dataset_verify_tokenizer(const cov_dataset *d, const cov_tokenizer *t);

/** Tokens in a split. */
int64_t cov_dataset_tokens(const cov_dataset *d, cov_split split);
/** Tokens first .. first + n - 1 of a split into `out` [n]. Outside the stream: COV_EUSAGE. A token outside the
 *  vocabulary: COV_EDATA naming shard and place. */
cov_status cov_dataset_read(const cov_dataset *d, cov_split split, int64_t first, int64_t n, uint32_t *out);

/** N for samples of `sample_tokens` (T >= 1) tokens in the training split. */
int64_t cov_dataset_samples(const cov_dataset *d, int64_t sample_tokens);
/** Sample i of the training split into `out` [sample_tokens]. */
cov_status cov_dataset_sample(const cov_dataset *d, int64_t sample_tokens, int64_t i, uint32_t *out);

#endif
