#include "data/shards.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

typedef struct {
  cov_npy *shards; /* [n] mapped */
  int64_t *first;  /* [n + 1] place of each shard in the stream; the last entry is its length */
  int n;
} stream;

struct cov_dataset {
  char *folder;
  cov_manifest manifest;
  stream streams[COV_SPLIT_COUNT];
};

#define ADVICE "; copy the folder again or run 'covenant data prepare --force'"

/* ---- opening ---- */

static cov_status check_hash(const char *path, const void *data, size_t bytes, const char *want) {
  uint8_t hash[COV_HASH_BYTES];
  char text[COV_HASH_TEXT];
  cov_hash(data, bytes, sizeof hash, hash);
  cov_hex(hash, sizeof hash, text);
  if (strcmp(text, want) == 0) return COV_OK;
  return COV_FAIL(COV_EDATA,
                  "%s was changed since it was prepared: its hash is %.16s..., the manifest has %.16s..." ADVICE, path,
                  text, want);
}

static cov_status open_shard(const cov_dataset *d, const cov_shard_info *info, cov_verify verify, cov_npy *a) {
  char path[4096];
  COV_TRY(cov_path(path, sizeof path, "%s/%s", d->folder, info->file));
  if (!cov_file_exists(path)) return COV_FAIL(COV_EDATA, "%s is missing, but listed in the manifest" ADVICE, path);
  COV_TRY(cov_npy_open(path, a));
  cov_status st = COV_OK;
  if (a->type != d->manifest.dtype) {
    st = COV_FAIL(COV_EDATA, "%s holds %d-byte tokens, the manifest says %d" ADVICE, path, (int)a->type,
                  (int)d->manifest.dtype);
  } else if ((int64_t)a->map_bytes != info->file_bytes || a->n != info->tokens) {
    st = COV_FAIL(COV_EDATA,
                  "%s has %zu bytes with %" PRId64 " tokens, the manifest says %" PRId64 " bytes with %" PRId64
                  " tokens" ADVICE,
                  path, a->map_bytes, a->n, info->file_bytes, info->tokens);
  } else if (verify == COV_VERIFY_HASH) {
    st = check_hash(path, a->map, a->map_bytes, info->hash);
  }
  if (st != COV_OK) cov_npy_close(a);
  return st;
}

static cov_status open_stream(cov_dataset *d, cov_split split, cov_verify verify) {
  const cov_split_info *info = &d->manifest.splits[split];
  stream *s = &d->streams[split];
  s->shards = calloc((size_t)info->n_shards, sizeof *s->shards);
  s->first = calloc((size_t)info->n_shards + 1, sizeof *s->first);
  if (!s->shards || !s->first) return COV_FAIL(COV_ENOMEM, "no memory for %d shards", info->n_shards);
  for (; s->n < info->n_shards; s->n++) {
    COV_TRY(open_shard(d, &info->shards[s->n], verify, &s->shards[s->n]));
    s->first[s->n + 1] = s->first[s->n] + info->shards[s->n].tokens;
  }
  return COV_OK;
}

cov_status cov_dataset_open(const char *folder, cov_verify verify, cov_dataset **out) {
  cov_status st = COV_OK;
  cov_tokenizer *t = NULL;
  *out = NULL;
  cov_dataset *d = calloc(1, sizeof *d);
  if (!d) return COV_FAIL(COV_ENOMEM, "no memory for a data set");
  d->folder = strdup(folder);
  if (!d->folder) COV_FAIL_DONE(COV_ENOMEM, "no memory for a data set");
  COV_TRY_DONE(cov_manifest_read(folder, &d->manifest));
  for (int s = 0; s < COV_SPLIT_COUNT; s++) COV_TRY_DONE(open_stream(d, (cov_split)s, verify));
  COV_TRY_DONE(cov_dataset_tokenizer(d, &t));
  *out = d;
  d = NULL;
done:
  cov_tokenizer_close(&t);
  cov_dataset_close(&d);
  return st;
}

void cov_dataset_close(cov_dataset **d) {
  if (!*d) return;
  for (int s = 0; s < COV_SPLIT_COUNT; s++) {
    stream *m = &(*d)->streams[s];
    for (int i = 0; i < m->n; i++) cov_npy_close(&m->shards[i]);
    free(m->shards);
    free(m->first);
  }
  cov_manifest_free(&(*d)->manifest);
  free((*d)->folder);
  free(*d);
  *d = NULL;
}

const cov_manifest *cov_dataset_manifest(const cov_dataset *d) {
  return &d->manifest;
}

/* ---- tokenizer ---- */

cov_status cov_dataset_verify_tokenizer(const cov_dataset *d, const cov_tokenizer *t) {
  uint8_t hash[COV_HASH_BYTES];
  char text[COV_HASH_TEXT];
  cov_tokenizer_hash(t, hash);
  cov_hex(hash, sizeof hash, text);
  const cov_manifest *m = &d->manifest;
  if (cov_tokenizer_get_kind(t) == m->tokenizer && strcmp(text, m->tokenizer_hash) == 0 &&
      cov_tokenizer_vocab(t) == m->vocab && cov_tokenizer_eos(t) == m->eos) {
    return COV_OK;
  }
  return COV_FAIL(COV_EMISMATCH,
                  "the tokenizer %s%s%s is not the one in %s/" COV_MANIFEST_FILE ": %s, %d pieces, EOS %" PRIu32
                  ", hash %.16s...; the manifest has %s, %d, %" PRIu32 ", %.16s..." ADVICE,
                  m->tokenizer_file[0] ? d->folder : "", m->tokenizer_file[0] ? "/" : "bytes", m->tokenizer_file,
                  d->folder, cov_tokenizer_kind_name(cov_tokenizer_get_kind(t)), cov_tokenizer_vocab(t),
                  cov_tokenizer_eos(t), text, cov_tokenizer_kind_name(m->tokenizer), m->vocab, m->eos,
                  m->tokenizer_hash);
}

/* The hash goes first: what the library says of damaged bytes helps nobody. */
static cov_status open_tokenizer(const cov_dataset *d, const char *path, cov_tokenizer **out) {
  cov_status st = COV_OK;
  uint8_t hash[COV_HASH_BYTES];
  char text[COV_HASH_TEXT], *model;
  size_t bytes;
  COV_TRY(cov_file_read(path, COV_TOKENIZER_MODEL_MAX_BYTES, &model, &bytes));
  cov_hash(model, bytes, sizeof hash, hash);
  cov_hex(hash, sizeof hash, text);
  if (strcmp(text, d->manifest.tokenizer_hash) != 0) {
    COV_FAIL_DONE(COV_EDATA, "%s is damaged or another: its hash is not the one in " COV_MANIFEST_FILE ADVICE, path);
  }
  st = cov_tokenizer_open_memory(model, bytes, path, out);
done:
  free(model);
  return st;
}

cov_status cov_dataset_tokenizer(const cov_dataset *d, cov_tokenizer **out) {
  char path[4096];
  *out = NULL;
  if (d->manifest.tokenizer == COV_TOKENIZER_BYTES) {
    COV_TRY(cov_tokenizer_open_bytes(out));
  } else {
    COV_TRY(cov_path(path, sizeof path, "%s/%s", d->folder, d->manifest.tokenizer_file));
    if (!cov_file_exists(path)) return COV_FAIL(COV_EDATA, "%s is missing, but listed in the manifest" ADVICE, path);
    COV_TRY(open_tokenizer(d, path, out));
  }
  cov_status st = cov_dataset_verify_tokenizer(d, *out);
  if (st != COV_OK) cov_tokenizer_close(out);
  return st;
}

/* ---- tokens ---- */

int64_t cov_dataset_tokens(const cov_dataset *d, cov_split split) {
  return d->manifest.splits[split].tokens;
}

/* The shard that holds token `at` of the stream. */
static int find_shard(const stream *s, int64_t at) {
  int low = 0, high = s->n - 1;
  while (low < high) {
    int middle = low + (high - low + 1) / 2;
    if (s->first[middle] <= at) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

static cov_status check_tokens(const cov_dataset *d, cov_split split, int shard, int64_t first, int64_t n,
                               const uint32_t *tokens) {
  for (int64_t i = 0; i < n; i++) {
    if (tokens[i] >= (uint32_t)d->manifest.vocab) {
      return COV_FAIL(COV_EDATA, "%s/%s: token %" PRIu32 " at place %" PRId64 " is outside the vocabulary of %d" ADVICE,
                      d->folder, d->manifest.splits[split].shards[shard].file, tokens[i], first + i, d->manifest.vocab);
    }
  }
  return COV_OK;
}

cov_status cov_dataset_read(const cov_dataset *d, cov_split split, int64_t first, int64_t n, uint32_t *out) {
  const stream *s = &d->streams[split];
  int64_t total = s->first[s->n];
  if (first < 0 || n < 0 || n > total || first > total - n) {
    return COV_FAIL(COV_EUSAGE, "tokens %" PRId64 " to %" PRId64 " of the %s split of %s, which has %" PRId64, first,
                    first + n, cov_split_name(split), d->folder, total);
  }
  for (int i = n > 0 ? find_shard(s, first) : 0; n > 0; i++) {
    int64_t at = first - s->first[i], here = s->shards[i].n - at;
    if (here > n) here = n;
    cov_npy_read(&s->shards[i], at, here, out);
    COV_TRY(check_tokens(d, split, i, at, here, out));
    first += here;
    out += here;
    n -= here;
  }
  return COV_OK;
}

int64_t cov_dataset_samples(const cov_dataset *d, int64_t sample_tokens) {
  COV_ASSERT(sample_tokens >= 1);
  return cov_dataset_tokens(d, COV_SPLIT_TRAIN) / sample_tokens;
}

cov_status cov_dataset_sample(const cov_dataset *d, int64_t sample_tokens, int64_t i, uint32_t *out) {
  int64_t n = cov_dataset_samples(d, sample_tokens);
  if (i < 0 || i >= n) {
    return COV_FAIL(COV_EUSAGE, "sample %" PRId64 " of %" PRId64 " (%" PRId64 " tokens each) in %s", i, n,
                    sample_tokens, d->folder);
  }
  return cov_dataset_read(d, COV_SPLIT_TRAIN, i * sample_tokens, sample_tokens, out);
}
