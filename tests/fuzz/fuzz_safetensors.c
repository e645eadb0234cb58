/* libFuzzer entry for safetensors files: any file is opened or refused; tensors of an opened one lie in ascending
 * order without overlap, are found by name, and can be read. The unedited file must be accepted. */
#include "edited_file.h"
#include "interop/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                             "\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
                             "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[8,12]},"
                             "\"c\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[12,14]}}";
enum { HEADER_BYTES = sizeof header - 1, SOUND_BYTES = 8 + HEADER_BYTES + 14 };

static void sound_tensors(uint8_t out[SOUND_BYTES]) {
  memset(out, 0, SOUND_BYTES);
  for (int i = 0; i < 8; i++) out[i] = (uint8_t)((uint64_t)HEADER_BYTES >> (8 * i));
  memcpy(out + 8, header, HEADER_BYTES);
}

static void read_tensor(const cov_safetensors *st, int i) {
  const cov_safetensors_item *t = &st->item[i];
  if (cov_safetensors_find(st, t->name) != i) abort();
  if (t->end < t->begin || (i && t->begin < st->item[i - 1].end)) abort();
  if (t->elems < 0 || (uint64_t)t->elems * (uint64_t)t->item_bytes != t->end - t->begin) abort();
  float *values = malloc((size_t)t->elems * sizeof *values + 1);
  if (!values) abort();
  cov_status st_read = cov_safetensors_read(st, i, values);
  if ((st_read == COV_OK) != (t->dtype != COV_ST_OTHER)) abort();
  free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  uint8_t sound[SOUND_BYTES];
  cov_safetensors st;
  sound_tensors(sound);
  edited_file f = edited_file_open(data, bytes, sound, sizeof sound);
  cov_status opened = cov_safetensors_open(f.path, &st);
  if (bytes == 0 && opened != COV_OK) abort();
  if (opened == COV_OK) {
    for (int i = 0; i < st.n; i++) read_tensor(&st, i);
    cov_safetensors_close(&st);
  }
  edited_file_close(&f);
  return 0;
}
