#include "sparseloco/original.h"

#include <string.h>

cov_status cov_pack12(const uint16_t *index, size_t count, uint8_t *out) {
  if (count % 2 != 0) return COV_FAIL(COV_EUSAGE, "12-bit packing needs an even number of indices, not %zu", count);
  for (size_t i = 0; i < count; i++) {
    if (index[i] >= 4096) return COV_FAIL(COV_EUSAGE, "index %d does not fit into 12 bits", index[i]);
  }
  for (size_t i = 0; i < count; i += 2, out += 3) {
    unsigned a = index[i], b = index[i + 1];
    out[0] = (uint8_t)(a & 255u);
    out[1] = (uint8_t)(a >> 8 | (b & 15u) << 4);
    out[2] = (uint8_t)(b >> 4);
  }
  return COV_OK;
}

void cov_unpack12(const uint8_t *packed, int64_t first, int n, uint16_t *index) {
  for (int j = 0; j < n; j++) {
    const uint8_t *pair = packed + (first + j) / 2 * 3;
    unsigned value = (first + j) % 2 == 0 ? pair[0] | (pair[1] & 15u) << 8 : pair[1] >> 4 | (unsigned)pair[2] << 4;
    index[j] = (uint16_t)value;
  }
}

cov_status cov_original_bytes(const cov_grid_tensor *t, cov_original_layout layout, size_t *bytes) {
  size_t n = (size_t)t->n_kept;
  if (n % 2 != 0) return COV_FAIL(COV_EUSAGE, "the original's layouts hold an even number of entries, not %zu", n);
  *bytes = n / 2 * 3 + (layout == COV_ORIGINAL_SHIPPED ? n : (n + 3) / 4);
  return COV_OK;
}

cov_status cov_original_write(const cov_grid_tensor *t, cov_original_layout layout, const uint16_t *index,
                              const uint8_t *code, uint8_t *out) {
  size_t bytes, n = (size_t)t->n_kept;
  COV_TRY(cov_original_bytes(t, layout, &bytes));
  COV_TRY(cov_pack12(index, n, out));
  uint8_t *codes = out + n / 2 * 3;
  if (layout == COV_ORIGINAL_SHIPPED) {
    memcpy(codes, code, n);
    return COV_OK;
  }
  memset(codes, 0, (n + 3) / 4);
  for (size_t j = 0; j < n; j++) {
    if (code[j] > 3) return COV_FAIL(COV_EUSAGE, "code %d does not fit into 2 bits", code[j]);
    codes[j / 4] = (uint8_t)(codes[j / 4] | code[j] << 2 * (j % 4));
  }
  return COV_OK;
}

static cov_status check_chunk(const cov_grid_tensor *t, int64_t c, const uint16_t *index) {
  uint64_t seen[COV_CHUNK_ELEMS_MAX / 64] = {0};
  for (int i = 0; i < t->k; i++) {
    if (index[i] >= t->chunk_elems)
      return COV_FAIL(COV_EREMOTE, "chunk %lld: index %d is outside", (long long)c, index[i]);
    if (seen[index[i] / 64] >> index[i] % 64 & 1)
      return COV_FAIL(COV_EREMOTE, "chunk %lld: index %d occurs twice", (long long)c, index[i]);
    seen[index[i] / 64] |= UINT64_C(1) << index[i] % 64;
  }
  return COV_OK;
}

cov_status cov_original_read(const cov_grid_tensor *t, cov_original_layout layout, int bins, const uint8_t *bytes,
                             size_t n_bytes, uint16_t *index, uint8_t *code) {
  size_t need, n = (size_t)t->n_kept;
  COV_TRY(cov_original_bytes(t, layout, &need));
  if (n_bytes != need) return COV_FAIL(COV_EREMOTE, "%zu bytes, %zu are needed", n_bytes, need);
  const uint8_t *codes = bytes + n / 2 * 3;
  for (int64_t c = 0; c < t->n_chunks; c++) {
    cov_unpack12(bytes, c * t->k, t->k, index + c * t->k);
    COV_TRY(check_chunk(t, c, index + c * t->k));
  }
  for (size_t j = 0; j < n; j++) {
    code[j] = layout == COV_ORIGINAL_SHIPPED ? codes[j] : codes[j / 4] >> 2 * (j % 4) & 3;
    if (code[j] >= bins) return COV_FAIL(COV_EREMOTE, "entry %zu: code %d of %d", j, code[j], bins);
  }
  return COV_OK;
}
