/* The layouts of the original for one chunk of 64 x 64 with 64 entries, byte by byte (protocol 3.7, 3.8).
 *
 * `packed` was written down from 3.7, not by our writer: of each pair (a, b) the bytes a & 255,
 * (a >> 8) | ((b & 15) << 4), b >> 4. The order of codes within a byte of the paper's layout is not in the protocol,
 * whose programs never packed them: ours is the first code in the lowest two bits, like every stream of bits here. */
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/original.h"
#include "support.h"

enum { K = 64, INDEX_BYTES = 96, SHIPPED_BYTES = 160, PAPER_BYTES = 112 };

/* Unsorted, as the original's top-k leaves them. */
static const uint16_t index_of[K] = {
    13,   1010, 2007, 3004, 4001, 902,  1899, 2896, 3893, 794,  1791, 2788, 3785, 686,  1683, 2680,
    3677, 578,  1575, 2572, 3569, 470,  1467, 2464, 3461, 362,  1359, 2356, 3353, 254,  1251, 2248,
    3245, 146,  1143, 2140, 3137, 38,   1035, 2032, 3029, 4026, 927,  1924, 2921, 3918, 819,  1816,
    2813, 3810, 711,  1708, 2705, 3702, 603,  1600, 2597, 3594, 495,  1492, 2489, 3486, 387,  1384,
};
static const uint8_t code_of[K] = {
    0, 0, 1, 3, 1, 1, 1, 1, 2, 0, 3, 2, 2, 2, 3, 2, 0, 3, 3, 3, 1, 3, 1, 0, 0, 1, 2, 0, 2, 1, 2, 2,
    3, 1, 3, 3, 3, 3, 0, 2, 1, 0, 0, 0, 1, 0, 2, 1, 1, 1, 3, 1, 3, 2, 2, 3, 0, 2, 0, 3, 0, 0, 1, 3,
};
static const uint8_t packed[INDEX_BYTES] = {
    0x0d, 0x20, 0x3f, 0xd7, 0xc7, 0xbb, 0xa1, 0x6f, 0x38, 0x6b, 0x07, 0xb5, 0x35, 0xaf, 0x31, 0xff,
    0x46, 0xae, 0xc9, 0xee, 0x2a, 0x93, 0x86, 0xa7, 0x5d, 0x2e, 0x24, 0x27, 0xc6, 0xa0, 0xf1, 0x6d,
    0x1d, 0xbb, 0x05, 0x9a, 0x85, 0xad, 0x16, 0x4f, 0x45, 0x93, 0x19, 0xed, 0x0f, 0xe3, 0x84, 0x8c,
    0xad, 0x2c, 0x09, 0x77, 0xc4, 0x85, 0x41, 0x6c, 0x02, 0x0b, 0x04, 0x7f, 0xd5, 0xab, 0xfb, 0x9f,
    0x43, 0x78, 0x69, 0xeb, 0xf4, 0x33, 0x83, 0x71, 0xfd, 0x2a, 0xee, 0xc7, 0xc2, 0x6a, 0x91, 0x6a,
    0xe7, 0x5b, 0x02, 0x64, 0x25, 0xaa, 0xe0, 0xef, 0x41, 0x5d, 0xb9, 0xe9, 0xd9, 0x83, 0x81, 0x56,
};
static const uint8_t packed_codes[PAPER_BYTES - INDEX_BYTES] = {
    0xd0, 0x55, 0xb2, 0xba, 0xfc, 0x1d, 0x24, 0xa6, 0xf7, 0x8f, 0x01, 0x61, 0x75, 0xeb, 0xc8, 0xd0,
};

typedef struct {
  cov_params params;
  cov_grid grid;
} tensor;

static const cov_grid_tensor *open_tensor(tensor *t, int64_t edge, int k) {
  const sparse_shape shape = {"w", edge, edge};
  sparse_params(&t->params, &shape, 1);
  assert_ok(cov_grid_create(&t->params, (int)edge, k, &t->grid));
  assert_int_equal(t->grid.tensor[0].n_chunks, 1);
  assert_int_equal(t->grid.tensor[0].k, k);
  return &t->grid.tensor[0];
}

static void close_tensor(tensor *t) {
  cov_grid_destroy(&t->grid);
  sparse_params_free(&t->params);
}

static void a_chunk_has_the_bytes_of_the_protocol(void **state) {
  (void)state;
  tensor t;
  const cov_grid_tensor *w = open_tensor(&t, 64, K);
  uint8_t out[SHIPPED_BYTES];
  size_t bytes;
  assert_ok(cov_original_bytes(w, COV_ORIGINAL_SHIPPED, &bytes));
  assert_int_equal(bytes, SHIPPED_BYTES);
  assert_ok(cov_original_write(w, COV_ORIGINAL_SHIPPED, index_of, code_of, out));
  assert_memory_equal(out, packed, INDEX_BYTES);
  assert_memory_equal(out + INDEX_BYTES, code_of, K);
  assert_ok(cov_original_bytes(w, COV_ORIGINAL_PAPER, &bytes));
  assert_int_equal(bytes, PAPER_BYTES);
  assert_ok(cov_original_write(w, COV_ORIGINAL_PAPER, index_of, code_of, out));
  assert_memory_equal(out, packed, INDEX_BYTES);
  assert_memory_equal(out + INDEX_BYTES, packed_codes, sizeof packed_codes);
  close_tensor(&t);
}

static void the_bytes_of_the_protocol_are_read(void **state) {
  (void)state;
  tensor t;
  const cov_grid_tensor *w = open_tensor(&t, 64, K);
  uint8_t bytes[SHIPPED_BYTES], code[K];
  uint16_t index[K];
  for (int paper = 0; paper < 2; paper++) {
    memset(index, 0xFF, sizeof index), memset(code, 0xFF, sizeof code);
    memcpy(bytes, packed, INDEX_BYTES);
    memcpy(bytes + INDEX_BYTES, paper ? packed_codes : code_of, paper ? sizeof packed_codes : K);
    assert_ok(cov_original_read(w, paper ? COV_ORIGINAL_PAPER : COV_ORIGINAL_SHIPPED, 4, bytes,
                                paper ? PAPER_BYTES : SHIPPED_BYTES, index, code));
    assert_memory_equal(index, index_of, sizeof index);
    assert_memory_equal(code, code_of, sizeof code);
  }
  close_tensor(&t);
}

static void refuse(const cov_grid_tensor *w, cov_original_layout layout, const uint8_t *bytes, size_t n,
                   const char *why) {
  uint8_t code[K];
  uint16_t index[K];
  assert_status(cov_original_read(w, layout, 3, bytes, n, index, code), COV_EREMOTE);
  if (!strstr(cov_error_text(), why)) fail_msg("'%s' does not say '%s'", cov_error_text(), why);
}

static void what_the_original_would_accept_is_refused(void **state) {
  (void)state;
  tensor t;
  const cov_grid_tensor *w = open_tensor(&t, 64, K);
  uint8_t shipped[SHIPPED_BYTES], paper[PAPER_BYTES];
  memcpy(shipped, packed, INDEX_BYTES), memset(shipped + INDEX_BYTES, 2, K);
  memcpy(paper, packed, INDEX_BYTES), memset(paper + INDEX_BYTES, 0xAA, sizeof packed_codes); /* 2 2 2 2 */
  shipped[INDEX_BYTES + 63] = 3;
  refuse(w, COV_ORIGINAL_SHIPPED, shipped, sizeof shipped, "entry 63: code 3 of 3");
  shipped[INDEX_BYTES + 63] = 255;
  refuse(w, COV_ORIGINAL_SHIPPED, shipped, sizeof shipped, "entry 63: code 255 of 3");
  paper[INDEX_BYTES + 1] = 0xBA; /* 2 2 3 2: the third of the second byte */
  refuse(w, COV_ORIGINAL_PAPER, paper, sizeof paper, "entry 6: code 3 of 3");
  memcpy(shipped + 93, packed, 3), shipped[INDEX_BYTES + 63] = 2; /* the last pair is the first one again */
  refuse(w, COV_ORIGINAL_SHIPPED, shipped, sizeof shipped, "chunk 0: index 13 occurs twice");
  memcpy(paper + 93, packed, 3);
  refuse(w, COV_ORIGINAL_PAPER, paper, sizeof paper, "chunk 0: index 13 occurs twice");
  close_tensor(&t);
  /* 12 bits cannot leave a chunk of 4096; they can leave one of 8 x 8. */
  static const uint8_t inside[3 + 2] = {0x3F, 0x00, 0x00, 2, 2},
                                  outside[3 + 2] = {0x3F, 0x00, 0x04, 2, 2}; /* 63 and 64 */
  uint8_t code[2];
  uint16_t index[2];
  w = open_tensor(&t, 8, 2);
  assert_ok(cov_original_read(w, COV_ORIGINAL_SHIPPED, 3, inside, sizeof inside, index, code));
  assert_int_equal(index[0], 63);
  refuse(w, COV_ORIGINAL_SHIPPED, outside, sizeof outside, "chunk 0: index 64 is outside");
  close_tensor(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_chunk_has_the_bytes_of_the_protocol),
      cmocka_unit_test(the_bytes_of_the_protocol_are_read),
      cmocka_unit_test(what_the_original_would_accept_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
