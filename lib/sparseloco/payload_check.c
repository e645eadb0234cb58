/* The parser. Everything here reads bytes that a stranger wrote. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "sparseloco/band.h"
#include "sparseloco/fixed.h"
#include "sparseloco/float_env.h"
#include "sparseloco/format.h"
#include "sparseloco/payload.h"

#include <math.h>

#define REFUSE(...) COV_FAIL(COV_EREMOTE, "payload refused: " __VA_ARGS__)

static int all_zero(const uint8_t *at, size_t bytes) {
  uint8_t any = 0;
  for (size_t i = 0; i < bytes; i++) any |= at[i];
  return any == 0;
}

/* 1 if the magnitude of a float with these bits is finite and allowed to travel. */
static int value_allowed(uint32_t bits) {
  return (bits & COV_MAGNITUDE_MASK) <= cov_float_bits(COV_VALUE_MAX);
}

/* Magic, version and lengths. */
static cov_status check_frame(const uint8_t *payload, size_t bytes) {
  if (bytes < COV_PAYLOAD_HEADER_BYTES + COVI_TRAILER_BYTES) return REFUSE("%zu bytes are too few", bytes);
  if (memcmp(payload, COVI_MAGIC, 8) != 0) return REFUSE("it does not begin with " COVI_MAGIC);
  uint64_t version = covi_get(payload + COVI_AT_VERSION, 4);
  if (version != COV_PAYLOAD_VERSION)
    return REFUSE("format version %u, this program reads %d", (unsigned)version, COV_PAYLOAD_VERSION);
  if (covi_get(payload + COVI_AT_HEADER_BYTES, 4) != COV_PAYLOAD_HEADER_BYTES) return REFUSE("header length");
  if (covi_get(payload + COVI_AT_PAYLOAD_BYTES, 8) != bytes)
    return REFUSE("it says %llu bytes and has %zu", (unsigned long long)covi_get(payload + COVI_AT_PAYLOAD_BYTES, 8),
                  bytes);
  return COV_OK;
}

static cov_status check_digest(const uint8_t *payload, size_t bytes, const uint8_t *digest) {
  if (memcmp(digest, cov_payload_digest(payload, bytes), COV_PAYLOAD_DIGEST_BYTES) == 0) return COV_OK;
  return REFUSE("its checksum is wrong, it was damaged on the way");
}

static cov_status read_head(const uint8_t *payload, cov_payload_head *head) {
  if (!all_zero(payload + COVI_AT_RESERVED_1, 4) || !all_zero(payload + COVI_AT_RESERVED_2, 40))
    return REFUSE("a reserved field of the header is not zero");
#define GET_RAW(field, offset, size) memcpy(head->field, payload + offset, size);
#define GET_INT(field, offset, size) head->field = INT_OF_##size(covi_get(payload + offset, size));
#define GET_F32(field, offset, size) head->field = cov_float_from_bits((uint32_t)covi_get(payload + offset, size));
#define INT_OF_2(value)              (uint16_t)(value)
#define INT_OF_4(value)              (uint32_t)(value)
#define INT_OF_8(value)              (value)
#define X(kind, field, offset, size) GET_##kind(field, offset, size)
  COVI_HEAD_FIELDS(X)
#undef X
  if (head->flags != 0) return REFUSE("unknown flags %x", (unsigned)head->flags);
  if ((cov_float_bits(head->train_loss) & COV_MAGNITUDE_MASK) >= COV_MAGNITUDE_INF)
    return REFUSE("its train loss is not finite");
  return COV_OK;
}

cov_status cov_payload_peek(const uint8_t *payload, size_t bytes, cov_payload_head *head) {
  uint8_t digest[COV_PAYLOAD_DIGEST_BYTES];
  memset(head, 0, sizeof *head);
  COV_TRY(check_frame(payload, bytes));
  cov_hash(payload, bytes - COVI_TRAILER_BYTES, sizeof digest, digest);
  COV_TRY(check_digest(payload, bytes, digest));
  return read_head(payload, head);
}

/* The header against what this run expects. */
static cov_status check_head(const uint8_t *payload, const cov_payload_head *head, const cov_payload_expect *expect) {
  const cov_grid *grid = expect->grid;
  if (memcmp(head->run_id, expect->run_id, sizeof head->run_id) != 0) return REFUSE("it belongs to another run");
  if (head->round != expect->round)
    return REFUSE("it is of round %llu, not %llu", (unsigned long long)head->round, (unsigned long long)expect->round);
  if (expect->peer >= 0 && head->peer != expect->peer)
    return REFUSE("it is of peer %u, not %lld", (unsigned)head->peer, (long long)expect->peer);
  if (expect->key_hash && memcmp(head->key_hash, expect->key_hash, sizeof head->key_hash) != 0)
    return REFUSE("peer %u has another key", (unsigned)head->peer);
  if (memcmp(head->params_digest, expect->params_digest, sizeof head->params_digest) != 0)
    return REFUSE("peer %u trains a model with other tensors", (unsigned)head->peer);
  if (expect->base_hash && memcmp(head->base_hash, expect->base_hash, sizeof head->base_hash) != 0)
    return REFUSE("peer %u started the round from another state; it must resynchronise", (unsigned)head->peer);
  if (head->strategy != expect->strategy) return REFUSE("strategy %d, not %d", head->strategy, expect->strategy);
  if (head->quantiser != (int)expect->quant.id || head->bins != expect->quant.bins)
    return REFUSE("quantiser %d with %d bins, not %d with %d", head->quantiser, head->bins, (int)expect->quant.id,
                  expect->quant.bins);
  if (head->index_coder != COV_INDEX_RICE && head->index_coder != COV_INDEX_SPLIT)
    return REFUSE("unknown index coder %d", head->index_coder);
  if (head->topk != grid->topk || head->edge != grid->edge)
    return REFUSE("topk %d of edge %d, not %d of %d", head->topk, head->edge, grid->topk, grid->edge);
  if (covi_get(payload + COVI_AT_N_TENSORS, 4) != (uint64_t)grid->n ||
      covi_get(payload + COVI_AT_N_KEPT, 8) != (uint64_t)grid->n_kept)
    return REFUSE("its counts do not fit its own header");
  return COV_OK;
}

/* Values of the codes, each allowed; how often each occurs, altogether as often as there are entries. */
static cov_status check_table(const char *name, int64_t n_kept, int bins, const uint8_t *bytes, float *table,
                              int64_t *counts) {
  int64_t sum = 0;
  for (int b = 0; b < bins; b++) {
    uint32_t bits = (uint32_t)covi_get(bytes + 4 * b, 4);
    if (!value_allowed(bits)) return REFUSE("%s: table entry %d is not finite or too large", name, b);
    table[b] = cov_float_from_bits(bits);
    counts[b] = (int64_t)covi_get(bytes + 4 * (bins + b), 4);
    sum += counts[b];
  }
  if (bins > 0 && sum != n_kept)
    return REFUSE("%s: %lld codes are counted, there are %lld entries", name, (long long)sum, (long long)n_kept);
  return COV_OK;
}

/* Indices of one band. */
static cov_status check_indices(const char *name, const cov_grid_tensor *gt, int64_t band, cov_index_coder coder,
                                const uint8_t **at, const uint8_t *end) {
  uint16_t index[COV_CHUNK_ELEMS_MAX];
  covi_index_reader r;
  int good = covi_index_open(&r, gt, coder, *at, end);
  for (int64_t x = 0; x < gt->X && good; x++) good = covi_index_next(&r, index);
  *at = good ? covi_index_close(&r) : NULL;
  return *at ? COV_OK
             : REFUSE("%s, band %lld: indices leave their chunk or are not coded as a writer does", name,
                      (long long)band);
}

/* counts[b] += how many of the n codes are b. Of few bins one after the other: a counter that is raised again and again
 * waits for itself, comparisons do not. */
static void count_codes(const uint8_t *code, int n, int bins, int64_t *counts) {
  if (bins > 4) {
    for (int i = 0; i < n; i++) counts[code[i]]++;
    return;
  }
  for (int b = 0; b < bins; b++) {
    int found = 0;
    for (int i = 0; i < n; i++) found += code[i] == b;
    counts[b] += found;
  }
}

/* Codes of one band: below bins, added to counts. */
static cov_status check_codes(const char *name, const cov_grid_tensor *gt, int64_t band, const covi_code_model *model,
                              int64_t *counts, const uint8_t **at, const uint8_t *end) {
  uint8_t code[COV_CHUNK_ELEMS_MAX];
  covi_code_reader r;
  int good = covi_code_open(&r, model, gt->X * gt->k, *at, end);
  for (int64_t x = 0; x < gt->X && good; x++) {
    good = covi_code_next(&r, gt->k, code);
    if (good) count_codes(code, gt->k, model->bins, counts);
  }
  *at = good ? covi_code_close(&r) : NULL;
  return *at ? COV_OK
             : REFUSE("%s, band %lld: codes are not below %d or not coded as a writer does", name, (long long)band,
                      model->bins);
}

/* Where every band of the tensor begins, each one decoded on the way. */
static cov_status check_bands(const char *name, const cov_grid_tensor *gt, const covi_section *s, const uint8_t *at,
                              const uint8_t *end, int64_t *counts, const uint8_t *payload, cov_payload_tensor *tensor) {
  uint64_t *bands = (uint64_t *)tensor->bands;
  uint32_t *codes = (uint32_t *)tensor->codes;
  for (int64_t b = 0; b < gt->n_bands; b++) {
    const uint8_t *first = at;
    COV_TRY(check_indices(name, gt, b, (cov_index_coder)s->index_coder, &at, end));
    bands[b] = (uint64_t)(first - payload);
    codes[b] = (uint32_t)(at - first);
    if (s->bins > 0) {
      COV_TRY(check_codes(name, gt, b, tensor->model, counts, &at, end));
    } else {
      if (end - at < 4 * gt->X * gt->k) return REFUSE("%s, band %lld: values are missing", name, (long long)b);
      at += 4 * gt->X * gt->k;
    }
  }
  return at == end ? COV_OK : REFUSE("%s: %lld bytes too many", name, (long long)(end - at));
}

/* Codes as often as counted; the norm. */
static cov_status check_counts(const char *name, const cov_payload_tensor *tensor, const int64_t *found, int bins,
                               double *norm) {
  double sum = 0;
  for (int b = 0; b < bins; b++) {
    if (found[b] != tensor->counts[b])
      return REFUSE("%s: code %d occurs %lld times and is counted %lld times", name, b, (long long)found[b],
                    (long long)tensor->counts[b]);
    double square = (double)tensor->table[b] * (double)tensor->table[b];
    sum += (double)tensor->counts[b] * square;
  }
  *norm = sqrt(sum);
  return COV_OK;
}

static uint32_t value_bits(const uint8_t *payload, const cov_payload_tensor *tensor, int64_t band, int64_t j) {
  return (uint32_t)covi_get(payload + tensor->bands[band] + tensor->codes[band] + 4 * j, 4);
}

/* Values as fp32: allowed; norm in fixed point. */
static cov_status check_values(const char *name, const cov_grid_tensor *gt, const uint8_t *payload,
                               const cov_payload_tensor *tensor, double *norm) {
  uint32_t largest = 0;
  for (int64_t b = 0; b < gt->n_bands; b++) {
    for (int64_t j = 0; j < gt->X * gt->k; j++) {
      uint32_t magnitude = value_bits(payload, tensor, b, j) & COV_MAGNITUDE_MASK;
      if (magnitude > largest) largest = magnitude;
    }
  }
  if (!value_allowed(largest)) return REFUSE("%s: a value is not finite or too large", name);
  int exponent = cov_fixed_exponent(largest);
  int64_t hi = 0, lo = 0;
  for (int64_t b = 0; b < gt->n_bands; b++) {
    for (int64_t j = 0; j < gt->X * gt->k; j++) {
      uint64_t q = cov_fixed_magnitude(value_bits(payload, tensor, b, j), exponent);
      hi += (int64_t)((q * q) >> 32);
      lo += (int64_t)((q * q) & 0xFFFFFFFFu);
    }
  }
  *norm = cov_fixed_norm(hi, lo, exponent);
  return COV_OK;
}

/* The head: its length and the coder of the codes are read, all else is compared. `limit`: where sections end. */
static cov_status check_section_head(const char *name, const uint8_t *section, const uint8_t *limit, covi_section *s) {
  uint8_t head[COV_PAYLOAD_SECTION_HEAD_BYTES];
  if (limit - section < (ptrdiff_t)(sizeof head + s->table_bytes)) return REFUSE("it ends before %s", name);
  s->bytes = covi_get(section, 8);
  s->coded = section[14];
  covi_section_write(s, head);
  if (memcmp(head, section, sizeof head) != 0) return REFUSE("section head of %s", name);
  if (s->bytes < sizeof head + s->table_bytes || s->bytes > (uint64_t)(limit - section))
    return REFUSE("the section of %s says that it has %llu bytes", name, (unsigned long long)s->bytes);
  return COV_OK;
}

static cov_status check_section(const cov_payload_expect *expect, int t, const uint8_t **at, const uint8_t *limit,
                                cov_payload_view *view) {
  const char *name = expect->grid->params->item[t].name;
  const cov_grid_tensor *gt = &expect->grid->tensor[t];
  const int bins = expect->quant.bins;
  cov_payload_tensor *tensor = &view->tensor[t];
  covi_code_model *model = &view->models[t];
  int64_t *counts = view->counts + (size_t)t * (size_t)bins, found[COV_BINS_MAX] = {0};
  float *table = view->tables + (size_t)t * (size_t)bins;
  covi_section s = covi_section_describe(expect->grid, &expect->quant, (cov_index_coder)view->head.index_coder, t);
  COV_TRY(check_section_head(name, *at, limit, &s));
  const uint8_t *bytes = *at + COV_PAYLOAD_SECTION_HEAD_BYTES;
  *at += s.bytes;
  COV_TRY(check_table(name, gt->n_kept, bins, bytes, table, counts));
  covi_code_model_fit(counts, bins, cov_quant_code_bits((int)expect->quant.id, bins), gt->n_bands, gt->X * gt->k,
                      model);
  if (s.coded != model->coded) return REFUSE("%s: its counts ask for another coding of the codes", name);
  *tensor = (cov_payload_tensor){.table = bins > 0 ? table : NULL,
                                 .counts = bins > 0 ? counts : NULL,
                                 .bands = view->bands + gt->band_first,
                                 .codes = view->codes + gt->band_first,
                                 .end = *at,
                                 .model = model,
                                 .index_coder = (cov_index_coder)s.index_coder};
  COV_TRY(check_bands(name, gt, &s, bytes + s.table_bytes, *at, found, view->bytes, tensor));
  if (bins == 0) return check_values(name, gt, view->bytes, tensor, &tensor->norm);
  return check_counts(name, tensor, found, bins, &tensor->norm);
}

/* An empty view of a payload whose header is sound. */
static cov_status open_view(const uint8_t *payload, size_t bytes, const cov_payload_head *head,
                            const cov_payload_expect *expect, cov_payload_view *view) {
  size_t n = (size_t)expect->grid->n, n_bins = n * (size_t)expect->quant.bins, n_bands = (size_t)expect->grid->n_bands;
  *view = (cov_payload_view){.head = *head, .grid = expect->grid, .bytes = payload, .n_bytes = bytes};
  view->tensor = calloc(n + 1, sizeof *view->tensor);
  view->tables = calloc(n_bins + 1, sizeof *view->tables);
  view->counts = calloc(n_bins + 1, sizeof *view->counts);
  view->models = calloc(n + 1, sizeof *view->models);
  view->bands = calloc(n_bands + 1, sizeof *view->bands);
  view->codes = calloc(n_bands + 1, sizeof *view->codes);
  if (view->tensor && view->tables && view->counts && view->models && view->bands && view->codes) return COV_OK;
  cov_payload_close(view);
  return COV_FAIL(COV_ENOMEM, "view of %zu tensors", n);
}

/* Where the sections of a payload have been checked up to. */
typedef struct {
  const uint8_t *at, *limit; /* of the next one; where they end */
  int tensor;                /* whose it is */
} walk;

static walk walk_of(const cov_payload_view *view) {
  return (walk){.at = view->bytes + COV_PAYLOAD_HEADER_BYTES,
                .limit = view->bytes + view->n_bytes - COVI_TRAILER_BYTES};
}

/* Is the next section here, if bytes up to `come` are? What is wrong with its length shows when all is. */
static bool is_complete(const walk *w, const uint8_t *come) {
  if (come >= w->limit) return true;
  return come - w->at >= COV_PAYLOAD_SECTION_HEAD_BYTES && covi_get(w->at, 8) <= (uint64_t)(come - w->at);
}

/* The sections that are complete. */
static cov_status check_sections(const cov_payload_expect *expect, const uint8_t *come, walk *w,
                                 cov_payload_view *view) {
  cov_float_env env;
  cov_status st = COV_OK;
  cov_float_env_enter(&env);
  while (st == COV_OK && w->tensor < view->grid->n && is_complete(w, come)) {
    walk next = *w;
    st = check_section(expect, next.tensor++, &next.at, next.limit, view);
    if (st == COV_OK) *w = next; /* else it is refused as often as it is looked at */
  }
  cov_float_env_leave(&env);
  return st;
}

static cov_status check_end(const walk *w) {
  return w->at == w->limit ? COV_OK : REFUSE("%lld bytes follow its last section", (long long)(w->limit - w->at));
}

static cov_status check_size(size_t bytes, const cov_payload_expect *expect) {
  COV_TRY(cov_quant_verify(&expect->quant));
  size_t most = cov_payload_bytes_max(expect->grid, &expect->quant);
  if (bytes <= most) return COV_OK;
  return REFUSE("it has %zu bytes, no payload of this run has more than %zu", bytes, most);
}

cov_status cov_payload_check(const uint8_t *payload, size_t bytes, const cov_payload_expect *expect,
                             cov_payload_view *view) {
  cov_payload_head head;
  memset(view, 0, sizeof *view);
  COV_TRY(check_size(bytes, expect));
  COV_TRY(cov_payload_peek(payload, bytes, &head));
  COV_TRY(check_head(payload, &head, expect));
  COV_TRY(open_view(payload, bytes, &head, expect, view));
  walk w = walk_of(view);
  cov_status st = check_sections(expect, w.limit, &w, view);
  if (st == COV_OK) st = check_end(&w);
  if (st != COV_OK) cov_payload_close(view);
  return st;
}

/* ---- while it comes ---- */

struct cov_payload_stream {
  const uint8_t *payload;
  size_t bytes, hashed;
  cov_payload_expect expect;
  cov_blake2b hash;
  bool open; /* the header has come and is sound: view and walk mean something */
  cov_payload_view view;
  walk walk;
};

cov_status cov_payload_stream_open(const uint8_t *payload, size_t bytes, const cov_payload_expect *expect,
                                   cov_payload_stream **out) {
  *out = NULL;
  COV_TRY(check_size(bytes, expect));
  cov_payload_stream *s = calloc(1, sizeof *s);
  if (!s) return COV_FAIL(COV_ENOMEM, "no memory to check a payload while it comes");
  s->payload = payload;
  s->bytes = bytes;
  s->expect = *expect;
  cov_blake2b_open(&s->hash, COV_PAYLOAD_DIGEST_BYTES);
  *out = s;
  return COV_OK;
}

void cov_payload_stream_close(cov_payload_stream **stream) {
  if (!*stream) return;
  cov_payload_close(&(*stream)->view);
  free(*stream);
  *stream = NULL;
}

static cov_status open_stream(cov_payload_stream *s) {
  cov_payload_head head = {0};
  COV_TRY(check_frame(s->payload, s->bytes));
  COV_TRY(read_head(s->payload, &head));
  COV_TRY(check_head(s->payload, &head, &s->expect));
  COV_TRY(open_view(s->payload, s->bytes, &head, &s->expect, &s->view));
  s->walk = walk_of(&s->view);
  s->open = true;
  return COV_OK;
}

cov_status cov_payload_stream_advance(cov_payload_stream *s, size_t have) {
  if (have < COV_PAYLOAD_HEADER_BYTES + COVI_TRAILER_BYTES && have < s->bytes) return COV_OK;
  if (!s->open) COV_TRY(open_stream(s));
  size_t covered = s->bytes - COVI_TRAILER_BYTES, end = have < covered ? have : covered;
  if (end > s->hashed) cov_blake2b_add(&s->hash, s->payload + s->hashed, end - s->hashed);
  if (end > s->hashed) s->hashed = end;
  return check_sections(&s->expect, s->payload + end, &s->walk, &s->view);
}

static cov_status end_stream(cov_payload_stream *s) {
  uint8_t digest[COV_PAYLOAD_DIGEST_BYTES];
  COV_TRY(cov_payload_stream_advance(s, s->bytes));
  COV_TRY(check_end(&s->walk));
  cov_blake2b_close(&s->hash, digest);
  return check_digest(s->payload, s->bytes, digest);
}

cov_status cov_payload_stream_end(cov_payload_stream **stream, cov_payload_view *view) {
  cov_status st = end_stream(*stream);
  memset(view, 0, sizeof *view);
  if (st == COV_OK) {
    *view = (*stream)->view;
    (*stream)->view = (cov_payload_view){0};
  }
  cov_payload_stream_close(stream);
  return st;
}

void cov_payload_close(cov_payload_view *view) {
  free(view->tensor);
  free(view->tables);
  free(view->counts);
  free(view->models);
  free(view->bands);
  free(view->codes);
  *view = (cov_payload_view){0};
}
