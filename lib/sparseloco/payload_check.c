/* The parser. Everything here reads bytes that a stranger wrote. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
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

cov_status cov_payload_peek(const uint8_t *payload, size_t bytes, cov_payload_head *head) {
  memset(head, 0, sizeof *head);
  if (bytes < COV_PAYLOAD_HEADER_BYTES + COVI_TRAILER_BYTES) return REFUSE("%zu bytes are too few", bytes);
  if (memcmp(payload, COVI_MAGIC, 8) != 0) return REFUSE("it does not begin with " COVI_MAGIC);
  uint64_t version = covi_get(payload + COVI_AT_VERSION, 4);
  if (version != COV_PAYLOAD_VERSION)
    return REFUSE("format version %u, this program reads %d", (unsigned)version, COV_PAYLOAD_VERSION);
  if (covi_get(payload + COVI_AT_HEADER_BYTES, 4) != COV_PAYLOAD_HEADER_BYTES) return REFUSE("header length");
  if (covi_get(payload + COVI_AT_PAYLOAD_BYTES, 8) != bytes)
    return REFUSE("it says %llu bytes and has %zu", (unsigned long long)covi_get(payload + COVI_AT_PAYLOAD_BYTES, 8),
                  bytes);
  uint8_t digest[COV_PAYLOAD_DIGEST_BYTES];
  cov_hash(payload, bytes - COVI_TRAILER_BYTES, sizeof digest, digest);
  if (memcmp(digest, cov_payload_digest(payload, bytes), sizeof digest) != 0)
    return REFUSE("its checksum is wrong, it was damaged on the way");
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
  if (head->topk != grid->topk || head->edge != grid->edge)
    return REFUSE("topk %d of edge %d, not %d of %d", head->topk, head->edge, grid->topk, grid->edge);
  if (covi_get(payload + COVI_AT_N_TENSORS, 4) != (uint64_t)grid->n ||
      covi_get(payload + COVI_AT_N_KEPT, 8) != (uint64_t)grid->n_kept ||
      covi_get(payload + COVI_AT_CODE_BITS, 2) != (uint64_t)cov_quant_code_bits(head->quantiser, head->bins))
    return REFUSE("its counts do not fit its own header");
  return COV_OK;
}

/* Indices of every chunk: strictly ascending and inside. With k = chunk_elems there are none on the wire. */
static cov_status check_indices(const cov_grid *grid, int t, const uint8_t *packed) {
  const cov_grid_tensor *gt = &grid->tensor[t];
  uint16_t index[COV_CHUNK_ELEMS_MAX];
  for (int64_t c = 0; c < gt->n_chunks; c++) {
    cov_unpack12(packed, c * gt->k, gt->k, index);
    int ascending = 1;
    for (int i = 1; i < gt->k; i++) ascending &= index[i - 1] < index[i];
    if (!ascending || index[gt->k - 1] >= gt->chunk_elems)
      return REFUSE("%s, chunk %lld: indices are not ascending or leave the chunk", grid->params->item[t].name,
                    (long long)c);
  }
  if (gt->n_kept % 2 != 0 && ((packed[gt->n_kept / 2 * 3 + 1] >> 4) != 0 || packed[gt->n_kept / 2 * 3 + 2] != 0))
    return REFUSE("%s: padding of the indices is not zero", grid->params->item[t].name);
  return COV_OK;
}

/* Codes below bins, counted; table entries allowed; norm. */
static cov_status check_codes(const char *name, const covi_section *s, const uint8_t *packed,
                              const uint8_t *table_bytes, float *table, int64_t *counts, double *norm) {
  for (int b = 0; b < s->bins; b++) {
    uint32_t bits = (uint32_t)covi_get(table_bytes + 4 * b, 4);
    if (!value_allowed(bits)) return REFUSE("%s: table entry %d is not finite or too large", name, b);
    table[b] = cov_float_from_bits(bits);
  }
  for (int64_t j = 0; j < (int64_t)s->n_kept; j++) {
    unsigned code = covi_get_code(packed, j, s->code_bits);
    if (code >= s->bins) return REFUSE("%s: code %u of %d bins", name, code, s->bins);
    counts[code]++;
  }
  unsigned used_bits = (unsigned)(s->n_kept * s->code_bits % 8);
  if (used_bits != 0 && packed[s->code_bytes - 1] >> used_bits != 0)
    return REFUSE("%s: padding of the codes is not zero", name);
  double sum = 0;
  for (int b = 0; b < s->bins; b++) {
    double square = (double)table[b] * (double)table[b];
    sum += (double)counts[b] * square;
  }
  *norm = sqrt(sum);
  return COV_OK;
}

/* Values as fp32: allowed; norm in fixed point. */
static cov_status check_values(const char *name, const covi_section *s, const uint8_t *values, double *norm) {
  uint32_t largest = 0;
  for (uint64_t j = 0; j < s->n_kept; j++) {
    uint32_t magnitude = (uint32_t)covi_get(values + 4 * j, 4) & COV_MAGNITUDE_MASK;
    if (magnitude > largest) largest = magnitude;
  }
  if (!value_allowed(largest)) return REFUSE("%s: a value is not finite or too large", name);
  int exponent = cov_fixed_exponent(largest);
  int64_t hi = 0, lo = 0;
  for (uint64_t j = 0; j < s->n_kept; j++) {
    uint64_t q = cov_fixed_magnitude((uint32_t)covi_get(values + 4 * j, 4), exponent);
    hi += (int64_t)((q * q) >> 32);
    lo += (int64_t)((q * q) & 0xFFFFFFFFu);
  }
  *norm = cov_fixed_norm(hi, lo, exponent);
  return COV_OK;
}

static cov_status check_section(const cov_payload_expect *expect, int t, const uint8_t *section,
                                cov_payload_view *view) {
  const char *name = expect->grid->params->item[t].name;
  cov_payload_tensor *tensor = &view->tensor[t];
  covi_section s = covi_section_describe(expect->grid, &expect->quant, t);
  uint8_t head[COV_PAYLOAD_SECTION_HEAD_BYTES];
  covi_section_write(&s, head);
  if (memcmp(head, section, sizeof head) != 0) return REFUSE("section head of %s", name);
  const uint8_t *table = section + sizeof head, *indices = table + s.table_bytes, *codes = indices + s.index_bytes;
  const uint8_t *end = codes + s.code_bytes;
  if (!all_zero(end, (size_t)(section + s.bytes - end))) return REFUSE("padding after %s is not zero", name);
  if (s.index_coder == COV_INDEX_PACK12) {
    COV_TRY(check_indices(expect->grid, t, indices));
    tensor->indices = indices;
  }
  tensor->codes = codes;
  if (s.bins == 0) return check_values(name, &s, codes, &tensor->norm);
  float *values = view->tables + (size_t)t * s.bins;
  int64_t *counts = view->counts + (size_t)t * s.bins;
  tensor->table = values;
  tensor->counts = counts;
  return check_codes(name, &s, codes, table, values, counts, &tensor->norm);
}

static cov_status check_sections(const cov_payload_expect *expect, cov_payload_view *view) {
  const uint8_t *section = view->bytes + COV_PAYLOAD_HEADER_BYTES;
  for (int t = 0; t < view->grid->n; t++) {
    COV_TRY(check_section(expect, t, section, view));
    section += covi_section_describe(expect->grid, &expect->quant, t).bytes;
  }
  return COV_OK;
}

cov_status cov_payload_check(const uint8_t *payload, size_t bytes, const cov_payload_expect *expect,
                             cov_payload_view *view) {
  memset(view, 0, sizeof *view);
  COV_TRY(cov_quant_verify(&expect->quant));
  size_t most = cov_payload_bytes_max(expect->grid, &expect->quant);
  /* The length first: from here on nothing that is read can lie outside. */
  if (bytes != most) return REFUSE("it has %zu bytes, a payload of this run has %zu", bytes, most);
  cov_payload_head head;
  COV_TRY(cov_payload_peek(payload, bytes, &head));
  COV_TRY(check_head(payload, &head, expect));
  size_t n = (size_t)expect->grid->n, n_bins = n * (size_t)expect->quant.bins;
  *view = (cov_payload_view){.head = head, .grid = expect->grid, .bytes = payload, .n_bytes = bytes};
  view->code_bits = cov_quant_code_bits((int)expect->quant.id, expect->quant.bins);
  view->tensor = calloc(n + 1, sizeof *view->tensor);
  view->tables = calloc(n_bins + 1, sizeof *view->tables);
  view->counts = calloc(n_bins + 1, sizeof *view->counts);
  cov_status st = COV_OK;
  if (!view->tensor || !view->tables || !view->counts) COV_FAIL_DONE(COV_ENOMEM, "view of %zu tensors", n);
  cov_float_env env;
  cov_float_env_enter(&env);
  st = check_sections(expect, view);
  cov_float_env_leave(&env);
done:
  if (st != COV_OK) cov_payload_close(view);
  return st;
}

void cov_payload_close(cov_payload_view *view) {
  free(view->tensor);
  free(view->tables);
  free(view->counts);
  memset(view, 0, sizeof *view);
}
