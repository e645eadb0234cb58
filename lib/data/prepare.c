#include "data/prepare.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "data/documents.h"
#include "data/manifest.h"
#include "data/shards.h"
#include "data/tokenizer.h"

#define MODEL_FILE "tokenizer.model"

typedef struct {
  const cov_prepare_params *params;
  cov_documents documents;
  size_t n_heldout; /* documents [0, n_heldout) are held out, the others are for training */
  cov_tokenizer *tokenizer;
  cov_manifest manifest;
  /* the shard being written */
  cov_npy_writer writer;
  cov_split split;
} job;

void cov_prepare_defaults(cov_prepare_params *p) {
  *p = (cov_prepare_params){
      .tokenizer = "sentencepiece",
      .vocab = 1024,
      .tokenizer_bytes = (size_t)16 << 20,
      .format = COV_INPUT_AUTO,
      .document = COV_DOCUMENT_PARAGRAPH,
      .text_key = "text",
      .heldout = 0.04,
      .heldout_min_tokens = 1024,
      .shard_tokens = (int64_t)1 << 27,
  };
}

static const char *const unit_names[] = {"paragraph", "line", "file"};

cov_status cov_document_unit_parse(const char *text, cov_document_unit *unit) {
  for (int i = 0; i < 3; i++) {
    if (strcmp(text, unit_names[i]) != 0) continue;
    *unit = (cov_document_unit)i;
    return COV_OK;
  }
  return COV_FAIL(COV_EUSAGE, "a document is a paragraph, line or file, not a '%s'", text);
}

static cov_status check_params(const cov_prepare_params *p) {
  if (p->n_inputs < 1) return COV_FAIL(COV_EUSAGE, "no input file to prepare");
  if (!p->folder || !p->folder[0]) return COV_FAIL(COV_EUSAGE, "no folder to prepare the data in");
  if (!(p->heldout > 0 && p->heldout < 1)) {
    return COV_FAIL(COV_EUSAGE, "the held-out fraction %g is not between 0 and 1", p->heldout);
  }
  if (p->shard_tokens < 1) return COV_FAIL(COV_EUSAGE, "shards of %" PRId64 " tokens", p->shard_tokens);
  return COV_OK;
}

static void report(const cov_prepare_params *p, const char *phase, double fraction) {
  if (p->progress) p->progress(p->progress_context, phase, fraction);
}

static int trains_tokenizer(const cov_prepare_params *p) {
  return strcmp(p->tokenizer, "sentencepiece") == 0;
}

static cov_status open_tokenizer(job *j) {
  if (trains_tokenizer(j->params)) return COV_OK; /* once the training split is known */
  if (strcmp(j->params->tokenizer, "bytes") == 0) return cov_tokenizer_open_bytes(&j->tokenizer);
  if (!cov_file_exists(j->params->tokenizer)) {
    return COV_FAIL(COV_EUSAGE, "the tokenizer '%s' is neither 'sentencepiece' nor 'bytes' nor the file of a model",
                    j->params->tokenizer);
  }
  return cov_tokenizer_open_file(j->params->tokenizer, &j->tokenizer);
}

/* ---- recipe ---- */

/* One line for people; everything in it also decides the data. */
static void describe_settings(job *j) {
  const cov_prepare_params *p = j->params;
  char how[64] = "given";
  if (trains_tokenizer(p)) snprintf(how, sizeof how, "bpe %d from %zu bytes", p->vocab, p->tokenizer_bytes);
  snprintf(j->manifest.settings, sizeof j->manifest.settings,
           "document=%s text_key=%.64s format=%d invalid_utf8=%s heldout=%.15g seed=%" PRIu64 " shard_tokens=%" PRId64
           " tokenizer=%s",
           unit_names[p->document], p->text_key, (int)p->format, p->replace_invalid ? "replace" : "error", p->heldout,
           p->seed, p->shard_tokens, how);
}

static void add_text(cov_blake2b *h, const char *text) {
  cov_blake2b_add(h, text, strlen(text) + 1);
}

/* Hash of all that decides the result: layout, settings, tokenizer, inputs in order. */
static cov_status describe_recipe(job *j) {
  uint8_t hash[COV_HASH_BYTES];
  char text[64];
  cov_blake2b h;
  describe_settings(j);
  cov_blake2b_open(&h, sizeof hash);
  snprintf(text, sizeof text, "covenant data prepare %d", COV_MANIFEST_FORMAT);
  add_text(&h, text);
  add_text(&h, j->manifest.settings);
  add_text(&h, j->params->text_key);
  if (j->tokenizer) {
    cov_tokenizer_hash(j->tokenizer, hash);
    cov_blake2b_add(&h, hash, sizeof hash);
  }
  for (int i = 0; i < j->documents.n_files; i++) {
    const cov_input_file *f = &j->documents.files[i];
    cov_source_info *source = NULL;
    COV_TRY(cov_manifest_add_source(&j->manifest, f->path, &source));
    source->bytes = (int64_t)f->bytes;
    cov_hex(f->hash, sizeof f->hash, source->hash);
    add_text(&h, f->jsonl ? "jsonl" : "text");
    cov_blake2b_add(&h, f->hash, sizeof f->hash);
  }
  cov_blake2b_close(&h, hash);
  cov_hex(hash, sizeof hash, j->manifest.recipe);
  return COV_OK;
}

/* *same = 1 if the folder holds, complete, what this job would write; other data there is an error unless it may be
 * replaced. */
static cov_status look_at_folder(const job *j, int *same) {
  char path[4096];
  cov_manifest old = {0};
  cov_dataset *d = NULL;
  *same = 0;
  COV_TRY(cov_path(path, sizeof path, "%s/" COV_MANIFEST_FILE, j->params->folder));
  if (!cov_file_exists(path)) return COV_OK;
  if (cov_manifest_read(j->params->folder, &old) == COV_OK) {
    int equal = strcmp(old.recipe, j->manifest.recipe) == 0;
    cov_manifest_free(&old);
    if (equal) {
      *same = cov_dataset_open(j->params->folder, COV_VERIFY_SIZE, &d) == COV_OK;
      cov_dataset_close(&d);
      return COV_OK; /* our own data, but damaged: written again */
    }
  }
  if (j->params->replace) return COV_OK;
  return COV_FAIL(COV_EUSAGE,
                  "%s holds data prepared from other inputs or with other settings (or a damaged manifest); choose "
                  "another --out, or "
                  "pass --force to replace it",
                  j->params->folder);
}

/* Without a manifest a folder is not taken for prepared data, so it goes first. */
static cov_status clear_folder(const job *j) {
  char path[4096];
  cov_manifest old = {0};
  cov_status known = cov_manifest_read(j->params->folder, &old);
  COV_TRY(cov_path(path, sizeof path, "%s/" COV_MANIFEST_FILE, j->params->folder));
  if (cov_file_exists(path) && remove(path) != 0) return COV_FAIL(COV_EIO, "cannot remove %s", path);
  for (int s = 0; known == COV_OK && s < COV_SPLIT_COUNT; s++) {
    for (int i = 0; i < old.splits[s].n_shards; i++) {
      if (cov_path(path, sizeof path, "%s/%s", j->params->folder, old.splits[s].shards[i].file) == COV_OK) remove(path);
    }
  }
  cov_manifest_free(&old);
  return COV_OK;
}

/* ---- split, tokenizer ---- */

static cov_status split_documents(job *j) {
  const cov_documents *d = &j->documents;
  double total = 0, held = 0;
  if (d->n < 2) {
    return COV_FAIL(COV_EDATA,
                    "%zu different document%s in the input: a split into training and held-out text needs two or "
                    "more; choose --document paragraph or line, or give more files",
                    d->n, d->n == 1 ? "" : "s");
  }
  for (size_t i = 0; i < d->n; i++) total += d->list[i].text_bytes;
  while (j->n_heldout < d->n - 1 && held < j->params->heldout * total) held += d->list[j->n_heldout++].text_bytes;
  j->manifest.dropped_duplicates = d->duplicates;
  j->manifest.dropped_empty = d->empty;
  return COV_OK;
}

typedef struct {
  job *j;
  size_t next, used_bytes;
  cov_status st;
} training_text;

static int next_training_text(void *context, const char **text, size_t *bytes) {
  training_text *t = context;
  cov_documents *d = &t->j->documents;
  if (t->next == d->n || t->used_bytes >= t->j->params->tokenizer_bytes) return 0;
  t->st = cov_documents_text(d, t->next++, text, bytes);
  if (t->st != COV_OK) return 0;
  t->used_bytes += *bytes;
  return 1;
}

static cov_status train_tokenizer(job *j) {
  training_text t = {.j = j, .next = j->n_heldout, .st = COV_OK};
  cov_text_source source = {next_training_text, &t};
  report(j->params, "training the tokenizer", 0);
  cov_status st = cov_tokenizer_train(j->params->vocab, &source, &j->tokenizer);
  return t.st != COV_OK ? t.st : st;
}

static cov_status describe_tokenizer(job *j) {
  uint8_t hash[COV_HASH_BYTES];
  cov_manifest *m = &j->manifest;
  m->tokenizer = cov_tokenizer_get_kind(j->tokenizer);
  m->vocab = cov_tokenizer_vocab(j->tokenizer);
  m->eos = cov_tokenizer_eos(j->tokenizer);
  m->dtype = m->vocab <= 65536 ? COV_NPY_U16 : COV_NPY_U32;
  cov_tokenizer_hash(j->tokenizer, hash);
  cov_hex(hash, sizeof hash, m->tokenizer_hash);
  if (m->tokenizer == COV_TOKENIZER_BYTES) return COV_OK;
  char path[4096];
  size_t bytes;
  const void *model = cov_tokenizer_model(j->tokenizer, &bytes);
  snprintf(m->tokenizer_file, sizeof m->tokenizer_file, MODEL_FILE);
  COV_TRY(cov_path(path, sizeof path, "%s/" MODEL_FILE, j->params->folder));
  return cov_file_write(path, model, bytes);
}

/* ---- shards ---- */

static cov_status open_shard(job *j) {
  char path[4096];
  cov_shard_info *shard = NULL;
  cov_split_info *split = &j->manifest.splits[j->split];
  COV_TRY(cov_manifest_add_shard(split, &shard));
  snprintf(shard->file, sizeof shard->file, "%s-%05d.npy", cov_split_name(j->split), split->n_shards - 1);
  COV_TRY(cov_path(path, sizeof path, "%s/%s", j->params->folder, shard->file));
  return cov_npy_writer_open(path, j->manifest.dtype, &j->writer);
}

static cov_status close_shard(job *j) {
  char path[4096];
  uint8_t hash[COV_HASH_BYTES];
  cov_npy a;
  cov_split_info *split = &j->manifest.splits[j->split];
  cov_shard_info *shard = &split->shards[split->n_shards - 1];
  COV_TRY(cov_path(path, sizeof path, "%s/%s", j->params->folder, shard->file));
  shard->tokens = j->writer.n;
  COV_TRY(cov_npy_writer_close(&j->writer));
  COV_TRY(cov_npy_open(path, &a));
  shard->file_bytes = (int64_t)a.map_bytes;
  cov_hash(a.map, a.map_bytes, sizeof hash, hash);
  cov_hex(hash, sizeof hash, shard->hash);
  split->tokens += shard->tokens;
  cov_npy_close(&a);
  return COV_OK;
}

static cov_status write_tokens(job *j, const uint32_t *ids, int64_t n) {
  while (n > 0) {
    if (!j->writer.file) COV_TRY(open_shard(j));
    int64_t here = j->params->shard_tokens - j->writer.n;
    if (here > n) here = n;
    COV_TRY(cov_npy_writer_write(&j->writer, ids, here));
    ids += here;
    n -= here;
    if (j->writer.n == j->params->shard_tokens) COV_TRY(close_shard(j));
  }
  return COV_OK;
}

/* Documents [first, last) become one split. */
static cov_status encode_split(job *j, cov_split split, size_t first, size_t last) {
  cov_status st = COV_OK;
  cov_token_list ids = {0};
  cov_split_info *info = &j->manifest.splits[split];
  j->split = split;
  for (size_t i = first; i < last; i++) {
    const char *text;
    size_t bytes;
    ids.n = 0;
    COV_TRY_DONE(cov_documents_text(&j->documents, i, &text, &bytes));
    COV_TRY_DONE(cov_tokenizer_encode(j->tokenizer, text, bytes, &ids));
    COV_TRY_DONE(cov_token_list_add(&ids, j->manifest.eos));
    COV_TRY_DONE(write_tokens(j, ids.ids, (int64_t)ids.n));
    info->text_bytes += (int64_t)bytes;
    info->documents++;
    if (i % 1024 == 0) report(j->params, "encoding", (double)i / (double)j->documents.n);
  }
  if (j->writer.file) st = close_shard(j);
done:
  cov_token_list_free(&ids);
  return st;
}

static cov_status write_splits(job *j) {
  const cov_prepare_params *p = j->params;
  COV_TRY(encode_split(j, COV_SPLIT_HELDOUT, 0, j->n_heldout));
  int64_t held = j->manifest.splits[COV_SPLIT_HELDOUT].tokens;
  if (held < p->heldout_min_tokens) {
    return COV_FAIL(COV_EDATA,
                    "the held-out split has %" PRId64 " tokens, fewer than the %" PRId64
                    " a loss can be measured on; give more text, or raise --heldout (now %g)",
                    held, p->heldout_min_tokens, p->heldout);
  }
  COV_TRY(encode_split(j, COV_SPLIT_TRAIN, j->n_heldout, j->documents.n));
  return cov_manifest_write(p->folder, &j->manifest);
}

/* After a failure: whatever was published by this job. */
static void remove_shards(const job *j) {
  char path[4096];
  for (int s = 0; s < COV_SPLIT_COUNT; s++) {
    for (int i = 0; i < j->manifest.splits[s].n_shards; i++) {
      if (cov_path(path, sizeof path, "%s/%s", j->params->folder, j->manifest.splits[s].shards[i].file) == COV_OK)
        remove(path);
    }
  }
  if (j->manifest.tokenizer_file[0] && cov_path(path, sizeof path, "%s/" MODEL_FILE, j->params->folder) == COV_OK)
    remove(path);
}

cov_status cov_prepare(const cov_prepare_params *p, cov_prepare_result *result) {
  cov_status st = COV_OK;
  job j = {.params = p};
  double start = cov_clock_s();
  *result = (cov_prepare_result){0};
  COV_TRY(check_params(p));
  COV_TRY_DONE(open_tokenizer(&j));
  COV_TRY_DONE(cov_documents_open(p, &j.documents));
  COV_TRY_DONE(describe_recipe(&j));
  COV_TRY_DONE(look_at_folder(&j, &result->reused));
  if (result->reused) goto done;
  COV_TRY_DONE(cov_documents_cut(&j.documents));
  COV_TRY_DONE(split_documents(&j));
  result->read_s = cov_clock_s() - start;
  if (!j.tokenizer) COV_TRY_DONE(train_tokenizer(&j));
  result->train_s = cov_clock_s() - start - result->read_s;
  COV_TRY_DONE(cov_dir_make(p->folder));
  COV_TRY_DONE(clear_folder(&j));
  COV_TRY_DONE(describe_tokenizer(&j));
  st = write_splits(&j);
  result->encode_s = cov_clock_s() - start - result->read_s - result->train_s;
  if (st != COV_OK) remove_shards(&j);
done:
  cov_npy_writer_drop(&j.writer);
  cov_tokenizer_close(&j.tokenizer);
  cov_documents_close(&j.documents);
  cov_manifest_free(&j.manifest);
  return st;
}
