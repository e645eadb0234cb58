/* covenant-test: timeout=300
 * The coders of indices and codes, band by band: round trips at awkward shapes, what every flipped bit leads to,
 * bounds, and how close they come to the entropy. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/band.h"
#include "support.h"

static uint64_t seed = 1;

static uint32_t draw(uint32_t below) {
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return (uint32_t)((seed >> 16) % below);
}

/* k of n, ascending. crowd > 0: most of them in the first n / crowd. */
static void draw_chunk(uint16_t *index, int k, int n, uint32_t crowd) {
  uint8_t taken[4096] = {0};
  for (int i = 0; i < k;) {
    uint32_t at =
        draw(crowd > 0 && draw(8) > 0 && (uint32_t)n / crowd > (uint32_t)k ? (uint32_t)n / crowd : (uint32_t)n);
    if (!taken[at]) i++;
    taken[at] = 1;
  }
  for (int at = 0, i = 0; at < n; at++) {
    if (taken[at]) index[i++] = (uint16_t)at;
  }
}

/* A band of a matrix [h, X * w]. */
typedef struct {
  int h, w, X, k, edge;
} band_shape;
static const band_shape shapes[] = {
    {64, 64, 3, 64, 64}, {64, 64, 1, 128, 64},  {64, 64, 2, 129, 64}, {64, 64, 2, 2048, 64}, {64, 64, 2, 2, 64},
    {5, 3, 4, 6, 8},     {1, 7, 5, 6, 8},       {1, 2, 3, 2, 8},      {64, 1, 3, 63, 64},    {63, 61, 2, 90, 64},
    {1, 64, 40, 32, 64}, {32, 48, 2, 4096, 64}, {61, 37, 9, 20, 64},  {64, 64, 9, 126, 64},  {2, 2, 7, 2, 2}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void open_shape(const band_shape *s, cov_params *params, cov_grid *grid) {
  sparse_shape shape = {"w", s->h, (int64_t)s->w * s->X};
  if (s->h == 1) shape.rows = 1;
  sparse_params(params, &shape, 1);
  assert_ok(cov_grid_create(params, s->edge, s->k, grid));
}

/* Decode; 1 and *end if everything was accepted. */
static int read_band(const cov_grid_tensor *gt, cov_index_coder coder, const uint8_t *at, const uint8_t *limit,
                     uint16_t *index, const uint8_t **end) {
  covi_index_reader r;
  if (!covi_index_open(&r, gt, coder, at, limit)) return 0;
  for (int64_t x = 0; x < gt->X; x++) {
    if (!covi_index_next(&r, index + x * gt->k)) return 0;
    for (int i = 0; i < gt->k; i++) {
      assert_true(index[x * gt->k + i] < gt->chunk_elems);
      if (i > 0) assert_true(index[x * gt->k + i - 1] < index[x * gt->k + i]);
    }
  }
  *end = covi_index_close(&r);
  return *end != NULL;
}

static void indices_survive_at_any_shape(void **state) {
  (void)state;
  for (int i = 0; i < N_SHAPES * 2 * 3; i++) {
    cov_params params;
    cov_grid grid;
    open_shape(&shapes[i / 6], &params, &grid);
    const cov_grid_tensor *gt = &grid.tensor[0];
    cov_index_coder coder = covi_index_coder_of(gt, i % 2 ? COV_INDEX_SPLIT : COV_INDEX_RICE);
    size_t n = (size_t)(gt->X * gt->k), most = covi_index_bytes_max(gt);
    uint16_t *index = calloc(n, sizeof *index), *back = calloc(n, sizeof *back);
    uint8_t *out = calloc(most + 96, 1), *scratch = malloc(covi_index_scratch_bytes(gt) + 1);
    const uint8_t *end = NULL;
    for (int64_t x = 0; x < gt->X; x++)
      draw_chunk(index + x * gt->k, gt->k, gt->chunk_elems, (uint32_t)(i / 2 % 3) * 8);
    uint8_t *written = covi_index_write(gt, coder, index, scratch, out);
    assert_in_range((size_t)(written - out), 0, most);
    assert_true(read_band(gt, coder, out, written, back, &end));
    assert_ptr_equal(end, written);
    assert_memory_equal(back, index, n * sizeof *index);
    if (written > out) assert_false(read_band(gt, coder, out, written - 1, back, &end));
    free(index), free(back), free(out), free(scratch);
    cov_grid_destroy(&grid);
    sparse_params_free(&params);
  }
}

/* The longest chunks: all entries at one end. */
static void the_bound_holds_at_the_extremes(void **state) {
  (void)state;
  for (int i = 0; i < N_SHAPES * 2; i++) {
    cov_params params;
    cov_grid grid;
    open_shape(&shapes[i / 2], &params, &grid);
    const cov_grid_tensor *gt = &grid.tensor[0];
    size_t n = (size_t)(gt->X * gt->k), most = covi_index_bytes_max(gt);
    uint16_t *index = calloc(n, sizeof *index), *back = calloc(n, sizeof *back);
    uint8_t *out = calloc(most + 96, 1), *scratch = malloc(covi_index_scratch_bytes(gt) + 1);
    for (size_t j = 0; j < n; j++) {
      int at = (int)(j % (size_t)gt->k);
      index[j] = (uint16_t)(i % 2 ? at : gt->chunk_elems - gt->k + at);
    }
    for (int c = COV_INDEX_RICE; c <= COV_INDEX_SPLIT; c++) {
      cov_index_coder coder = covi_index_coder_of(gt, (cov_index_coder)c);
      const uint8_t *end = NULL;
      uint8_t *written = covi_index_write(gt, coder, index, scratch, out);
      assert_in_range((size_t)(written - out), 0, most);
      assert_true(read_band(gt, coder, out, written, back, &end));
      assert_memory_equal(back, index, n * sizeof *index);
    }
    free(index), free(back), free(out), free(scratch);
    cov_grid_destroy(&grid);
    sparse_params_free(&params);
  }
}

/* One bit changed: refused, or other indices whose code in the same mode is exactly these bytes. */
static void a_band_has_one_encoding_in_each_mode(void **state) {
  (void)state;
  static const band_shape small = {64, 64, 2, 64, 64};
  cov_params params;
  cov_grid grid;
  open_shape(&small, &params, &grid);
  const cov_grid_tensor *gt = &grid.tensor[0];
  uint16_t index[128], back[128];
  uint8_t out[400] = {0}, again[400] = {0}, *scratch = malloc(covi_index_scratch_bytes(gt));
  int accepted = 0, refused = 0;
  for (int c = COV_INDEX_RICE; c <= COV_INDEX_SPLIT; c++) {
    for (int x = 0; x < 2; x++) draw_chunk(index + 64 * x, 64, 4096, 0);
    uint8_t *written = covi_index_write(gt, (cov_index_coder)c, index, scratch, out);
    for (size_t bit = c == COV_INDEX_SPLIT ? 8 : 0; bit < 8 * (size_t)(written - out); bit++) {
      const uint8_t *end = NULL;
      out[bit / 8] ^= (uint8_t)(1 << bit % 8);
      if (read_band(gt, (cov_index_coder)c, out, written, back, &end)) {
        accepted++;
        uint8_t *stop = covi_index_write(gt, (cov_index_coder)c, back, scratch, again);
        if (c == COV_INDEX_RICE || again[0] == out[0]) {
          assert_int_equal(stop - again, end - out);
          assert_memory_equal(again, out, (size_t)(end - out));
        }
      } else {
        refused++;
      }
      out[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
  }
  assert_true(accepted > 100 && refused > 100);
  free(scratch);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

static double bits_an_index(cov_index_coder coder, uint32_t crowd) {
  static const band_shape wide = {64, 64, 128, 64, 64};
  cov_params params;
  cov_grid grid;
  open_shape(&wide, &params, &grid);
  const cov_grid_tensor *gt = &grid.tensor[0];
  uint16_t *index = calloc(128 * 64, sizeof *index);
  uint8_t *out = malloc(covi_index_bytes_max(gt) + 96), *scratch = malloc(covi_index_scratch_bytes(gt));
  for (int x = 0; x < 128; x++) draw_chunk(index + 64 * x, 64, 4096, crowd);
  double bits = 8.0 * (double)(covi_index_write(gt, coder, index, scratch, out) - out) / (128 * 64);
  free(index), free(out), free(scratch);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
  return bits;
}

static void coders_come_close_to_the_bound(void **state) {
  (void)state;
  double bound = (lgamma(4097) - lgamma(65) - lgamma(4033)) / log(2) / 64; /* log2 C(4096, 64) / 64 = 7.36 */
  double rice = bits_an_index(COV_INDEX_RICE, 0), split = bits_an_index(COV_INDEX_SPLIT, 0);
  print_message("bits an index: bound %.4f, split %.4f, rice %.4f\n", bound, split, rice);
  assert_true(rice < 7.53);
  assert_true(split < 7.37 && split > bound);
  assert_true(bits_an_index(COV_INDEX_SPLIT, 8) < 6); /* seven of eight entries in the first eight rows */
}

static double entropy(const int64_t *counts, int bins, int64_t n) {
  double bits = 0;
  for (int b = 0; b < bins; b++) {
    if (counts[b] > 0) bits -= (double)counts[b] * log2((double)counts[b] / (double)n);
  }
  return bits;
}

/* Written side by side, in groups of any size: the bytes of one band after the other. */
static void compare_groups_in_width(const covi_code_model *model, int raw_bits, int64_t n_bands, int64_t n,
                                    const uint8_t *code, const uint8_t *bytes, const uint8_t *end) {
  size_t most = covi_code_band_bytes_max(raw_bits, n);
  for (int group = 1; group <= COVI_BANDS_AT_ONCE; group++) {
    const uint8_t *at = bytes;
    for (int64_t first = 0; first < n_bands; first += group) {
      int bands = n_bands - first < group ? (int)(n_bands - first) : group;
      uint8_t *room = malloc((size_t)bands * most); /* no byte more */
      covi_coded coded[COVI_BANDS_AT_ONCE];
      covi_code_write_bands(model, code + first * n, n, bands, room, coded);
      for (int j = 0; j < bands; j++) {
        assert_memory_equal(coded[j].at, at, coded[j].bytes);
        at += coded[j].bytes;
      }
      free(room);
    }
    assert_ptr_equal(at, end);
  }
}

static void compare_groups(const covi_code_model *model, int raw_bits, int64_t n_bands, int64_t n, const uint8_t *code,
                           const uint8_t *bytes, const uint8_t *end) {
  static const char *const widths[] = {"plain", NULL}; /* and the widest */
  for (int v = 0; v < 2; v++) {
    assert_int_equal(covi_width_choose(widths[v]), 0);
    compare_groups_in_width(model, raw_bits, n_bands, n, code, bytes, end);
  }
}

/* Codes drawn so that code b is about `skew` times as frequent as b + 1. */
static void try_codes(int bins, int raw_bits, int64_t n_bands, int64_t X, int k, uint32_t skew) {
  int64_t n = X * k, counts[COV_BINS_MAX] = {0};
  uint8_t *code = malloc((size_t)(n_bands * n)), *back = malloc((size_t)(n_bands * n));
  for (int64_t j = 0; j < n_bands * n; j++) {
    int b = 0;
    if (skew == 0) b = (int)draw((uint32_t)bins);
    else
      while (b < bins - 1 && draw(skew) == 0) b++;
    code[j] = (uint8_t)b;
    counts[b]++;
  }
  covi_code_model model;
  covi_code_model_fit(counts, bins, raw_bits, n_bands, n, &model);
  size_t most = covi_code_bytes_max(bins, raw_bits, n_bands, n);
  uint8_t *out = calloc(most + covi_code_band_bytes_max(raw_bits, n) + 96, 1), *at = out;
  for (int64_t b = 0; b < n_bands; b++) at = covi_code_write(&model, code + b * n, n, at);
  assert_in_range((size_t)(at - out), 0, most);
  compare_groups(&model, raw_bits, n_bands, n, code, out, at);
  const uint8_t *from = out;
  for (int64_t b = 0; b < n_bands; b++) {
    covi_code_reader r;
    assert_true(covi_code_open(&r, &model, n, from, at));
    for (int64_t x = 0; x < X; x++) assert_true(covi_code_next(&r, k, back + b * n + x * k));
    from = covi_code_close(&r);
    assert_non_null(from);
  }
  assert_ptr_equal(from, at);
  assert_memory_equal(back, code, (size_t)(n_bands * n));
  double bits = 8.0 * (double)(at - out), least = entropy(counts, bins, n_bands * n);
  if (model.coded) assert_true(bits < 1.004 * least + (double)n_bands * 32 + 0.002 * (double)(n_bands * n));
  assert_true(bits <= (double)(n_bands * (n * raw_bits + 7)) + (double)n_bands * 40);
  free(code), free(back), free(out);
}

static void codes_survive_close_to_their_entropy(void **state) {
  (void)state;
  static const struct { int bins, raw_bits; } of[] = {{2, 1}, {3, 2}, {4, 2}, {5, 3}, {16, 4}, {17, 5}, {256, 8}};
  for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
    for (uint32_t skew = 0; skew <= 64; skew = skew < 2 ? 2 : skew * 4) {
      try_codes(of[i].bins, of[i].raw_bits, 3, 80, 64, skew);
      try_codes(of[i].bins, of[i].raw_bits, 5, 7, 64, skew);
      try_codes(of[i].bins, of[i].raw_bits, 19, 2, 64, skew);
      try_codes(of[i].bins, of[i].raw_bits, 2, 900, 6, skew);
      try_codes(of[i].bins, of[i].raw_bits, 9, 1, 3, skew);
      try_codes(of[i].bins, of[i].raw_bits, 1, 1, 4096, skew);
    }
  }
  try_codes(1, 0, 2, 80, 64, 0); /* nothing to say */
}

/* The vectors' writer multiplies where the plain one divides: two codes of every pair of frequencies. */
static void every_frequency_divides_alike(void **state) {
  (void)state;
  enum { BANDS = 9, N = 64, MOST = 2 * N + 4 };
  uint8_t code[BANDS * N], room[BANDS * MOST], one[MOST];
  for (int freq = 1; freq < 1 << COVI_CODE_BITS; freq++) {
    covi_code_model model = {.start = {0, (uint16_t)freq, 1 << COVI_CODE_BITS}, .bins = 2, .raw_bits = 1, .coded = 1};
    covi_coded coded[COVI_BANDS_AT_ONCE];
    uint32_t ones = 1 + draw(15); /* of 16: also codes that are rarer or more frequent than the model says */
    for (int j = 0; j < BANDS * N; j++) code[j] = draw(16) < ones;
    covi_code_write_bands(&model, code, N, BANDS, room, coded);
    for (int j = 0; j < BANDS; j++) {
      size_t bytes = (size_t)(covi_code_write(&model, code + j * N, N, one) - one);
      assert_int_equal(coded[j].bytes, bytes);
      assert_memory_equal(coded[j].at, one, bytes);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(indices_survive_at_any_shape),         cmocka_unit_test(the_bound_holds_at_the_extremes),
      cmocka_unit_test(a_band_has_one_encoding_in_each_mode), cmocka_unit_test(coders_come_close_to_the_bound),
      cmocka_unit_test(codes_survive_close_to_their_entropy), cmocka_unit_test(every_frequency_divides_alike),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
