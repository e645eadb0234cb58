/* libFuzzer entry for .npy arrays: any file is mapped or refused, and every element of a mapped one can be read. The
 * unedited file must be accepted, or the target would test nothing but refusals. */
#include "data/npy.h"
#include "edited_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Three 16-bit elements behind a header of 128 bytes. */
static size_t sound_array(uint8_t out[134]) {
  memset(out, ' ', 128);
  memcpy(out, "\x93NUMPY\x01\x00\x76\x00", 10); /* 118 bytes of header text */
  const char *text = "{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }";
  memcpy(out + 10, text, strlen(text));
  out[127] = '\n';
  memcpy(out + 128, "\x01\x00\x02\x00\x03\x01", 6);
  return 134;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  uint8_t sound[134];
  cov_npy a;
  uint32_t value;
  size_t sound_bytes = sound_array(sound);
  edited_file f = edited_file_open(data, bytes, sound, sound_bytes);
  cov_status st = cov_npy_open(f.path, &a);
  if (bytes == 0 && st != COV_OK) abort();
  if (st == COV_OK) {
    for (int64_t i = 0; i < a.n; i++) cov_npy_read(&a, i, 1, &value);
    cov_npy_close(&a);
  }
  edited_file_close(&f);
  return 0;
}
