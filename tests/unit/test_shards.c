/* covenant-test: timeout=120
 * Prepared folders as they are opened: samples across shards, and everything that is missing, cut off, foreign,
 * changed or tampered with. */
#include "data_fixture.h"

static char folder[512];

/* A fresh folder of several small shards before each test. */
static int make_folder(void **state) {
  (void)state;
  const char *input = put_paragraphs("text.txt", 0, 100);
  snprintf(folder, sizeof folder, "%s", in_base("data"));
  cov_prepare_params p = easy_params(&input, 1, folder);
  cov_prepare_result r;
  p.shard_tokens = 1000;
  p.replace = 1;
  p.seed = 0;
  char manifest[600];
  snprintf(manifest, sizeof manifest, "%s/manifest.yaml", folder);
  remove(manifest);
  assert_ok(cov_prepare(&p, &r));
  return 0;
}

static void a_split_is_one_stream(void **state) {
  (void)state;
  cov_dataset *d;
  assert_ok(cov_dataset_open(folder, COV_VERIFY_HASH, &d));
  int64_t n = cov_dataset_tokens(d, COV_SPLIT_TRAIN);
  int n_shards = cov_dataset_manifest(d)->splits[COV_SPLIT_TRAIN].n_shards;
  assert_true(n_shards >= 4);
  assert_int_equal(n_shards, (n + 999) / 1000);
  uint32_t *all = test_fenced((size_t)n * sizeof *all), *one = test_fenced(300 * sizeof *one);
  for (int64_t i = 0; i < n; i++) assert_ok(cov_dataset_read(d, COV_SPLIT_TRAIN, i, 1, all + i));
  assert_int_equal(all[n - 1], 256);
  static const int64_t lengths[] = {1, 7, 128, 300};
  for (int k = 0; k < 4; k++) {
    int64_t t = lengths[k];
    assert_int_equal(cov_dataset_samples(d, t), n / t);
    for (int64_t i = 0; i < n / t; i++) {
      assert_ok(cov_dataset_sample(d, t, i, one));
      assert_memory_equal(one, all + i * t, (size_t)t * sizeof *one);
    }
    assert_status(cov_dataset_sample(d, t, n / t, one), COV_EUSAGE);
    assert_status(cov_dataset_sample(d, t, -1, one), COV_EUSAGE);
  }
  uint32_t *whole = test_fenced((size_t)n * sizeof *whole);
  assert_ok(cov_dataset_read(d, COV_SPLIT_TRAIN, 0, n, whole));
  assert_memory_equal(whole, all, (size_t)n * sizeof *whole);
  assert_status(cov_dataset_read(d, COV_SPLIT_TRAIN, 1, n, whole), COV_EUSAGE);
  assert_status(cov_dataset_read(d, COV_SPLIT_TRAIN, -1, 1, whole), COV_EUSAGE);
  assert_ok(cov_dataset_read(d, COV_SPLIT_TRAIN, n, 0, whole));
  assert_int_equal(cov_dataset_samples(d, n + 1), 0);
  assert_false(test_fence_broken(all) || test_fence_broken(one) || test_fence_broken(whole));
  test_fenced_free(all);
  test_fenced_free(one);
  test_fenced_free(whole);
  cov_dataset_close(&d);
}

static void expect_refusal(cov_verify verify, cov_status want, const char *what) {
  cov_dataset *d;
  assert_status(cov_dataset_open(folder, verify, &d), want);
  assert_null(d);
  assert_says(what);
}

static const char *file(const char *name) {
  static char path[700];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

/* Copy of a file with `cut` bytes off its end and the byte at `flip` (if >= 0) changed. */
static void damage(const char *name, size_t cut, long flip) {
  char *data;
  size_t bytes;
  assert_ok(cov_file_read(file(name), 1 << 20, &data, &bytes));
  if (flip >= 0) data[flip] ^= 1;
  assert_ok(cov_file_write(file(name), data, bytes - cut));
  free(data);
}

static void damaged_shards_are_refused(void **state) {
  (void)state;
  cov_dataset *d;
  damage("train-00001.npy", 2, -1);
  expect_refusal(COV_VERIFY_SIZE, COV_EDATA, "train-00001.npy");
  assert_says("cut off");
  make_folder(state);
  assert_int_equal(remove(file("heldout-00000.npy")), 0);
  expect_refusal(COV_VERIFY_SIZE, COV_EDATA, "heldout-00000.npy is missing");
  make_folder(state);
  damage("train-00002.npy", 0, 500); /* a token's low byte: only the hash can tell */
  assert_ok(cov_dataset_open(folder, COV_VERIFY_SIZE, &d));
  cov_dataset_close(&d);
  expect_refusal(COV_VERIFY_HASH, COV_EDATA, "train-00002.npy was changed");
}

static void write_shard(const char *name, cov_npy_type type, int64_t n, uint32_t value) {
  cov_npy_writer w;
  assert_ok(cov_npy_writer_open(file(name), type, &w));
  for (int64_t i = 0; i < n; i++) assert_ok(cov_npy_writer_write(&w, &value, 1));
  assert_ok(cov_npy_writer_close(&w));
}

static void foreign_shards_are_refused(void **state) {
  (void)state;
  cov_dataset *d;
  uint32_t token;
  write_shard("train-00000.npy", COV_NPY_U32, 1000, 1);
  expect_refusal(COV_VERIFY_SIZE, COV_EDATA, "4-byte tokens");
  write_shard("train-00000.npy", COV_NPY_U16, 999, 1);
  expect_refusal(COV_VERIFY_SIZE, COV_EDATA, "999 tokens");
  assert_ok(cov_file_write(file("train-00000.npy"), "something else", 14));
  expect_refusal(COV_VERIFY_SIZE, COV_EDATA, "not a .npy file");
  write_shard("train-00000.npy", COV_NPY_U16, 1000, 257); /* outside the vocabulary */
  assert_ok(cov_dataset_open(folder, COV_VERIFY_SIZE, &d));
  assert_status(cov_dataset_read(d, COV_SPLIT_TRAIN, 7, 1, &token), COV_EDATA);
  assert_says("train-00000.npy: token 257 at place 7");
  cov_dataset_close(&d);
}

/* The manifest with the first `from` replaced by `to`. */
static void tamper(const char *from, const char *to) {
  char *text, *out = NULL;
  size_t bytes, out_bytes;
  assert_ok(cov_file_read(file("manifest.yaml"), 1 << 20, &text, &bytes));
  char *at = strstr(text, from);
  if (!at) fail_msg("no '%s' in the manifest", from);
  FILE *f = open_memstream(&out, &out_bytes);
  fprintf(f, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
  fclose(f);
  assert_ok(cov_file_write(file("manifest.yaml"), out, out_bytes));
  free(out);
  free(text);
}

static void tampered_manifests_are_refused(void **state) {
  static const char *const cases[][3] = {
      {"format: 1", "format: 2", "data format 2"},
      {"format: 1\n", "", "'format' is missing"},
      {"dtype: uint16", "dtype: float32", "dtype"},
      {"dtype: uint16", "dtype: uint32", "fewer bytes than its tokens need"},
      {"kind: bytes", "kind: words", "neither bytes nor sentencepiece"},
      {"kind: bytes", "kind: sentencepiece", "do not fit together"},
      {"vocab: 257", "vocab: 256", "'eos' is not an integer in [0, 255]"},
      {"vocab: 257", "vocab: 1e3", "'vocab' is not an integer"},
      {"vocab: 257", "vocab: -257", "'vocab' is not an integer"},
      {"vocab: 257", "vocab: 99999999999999999999", "'vocab' is not an integer"},
      {"vocab: 257", "vocab: 65537", "does not fit uint16"},
      {"vocab: 257", "vocab: [257]", "'vocab' has the wrong form"},
      {"recipe: \"", "recipe: \"zz", "64 hexadecimal digits"},
      {"dropped:", "extra: 1\ndropped:", "unknown key 'extra'"},
      {"dropped:", "dtype: uint16\ndropped:", "missing or doubled"},
      {"tokens: 1000", "tokens: 1001", "more tokens than the split"},
      {"tokens: 1000", "tokens: 999", "fewer tokens than the split"},
      {"tokens: 1000", "tokens: 9223372036854775807", "'tokens' is not an integer"},
      {"file: train-00000.npy", "file: ../train-00000.npy", "leads out of the folder"},
      {"file: train-00000.npy", "file: /etc/passwd", "leads out of the folder"},
      {"file: train-00000.npy", "file: \"\"", "without a file name"},
      {"file: train-00000.npy", "file: heldout-00000.npy", "heldout-00000.npy has"},
      {"file: train-00000.npy", "file: absent.npy", "absent.npy is missing"},
      {"  heldout:", "  hidden:", "unknown key 'hidden'"},
      {"splits:\n", "splits:\n\t", "manifest.yaml, line"},
      {"format: 1", "format: 1\n  - x: {", "manifest.yaml, line"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    make_folder(state);
    tamper(cases[i][0], cases[i][1]);
    expect_refusal(COV_VERIFY_SIZE, COV_EDATA, cases[i][2]);
  }
  make_folder(state);
  assert_ok(cov_file_write(file("manifest.yaml"), "", 0));
  expect_refusal(COV_VERIFY_SIZE, COV_EDATA, "manifest.yaml");
  assert_ok(cov_file_write(file("manifest.yaml"), "- a\n- b\n", 8));
  expect_refusal(COV_VERIFY_SIZE, COV_EDATA, "not a manifest");
  assert_int_equal(remove(file("manifest.yaml")), 0);
  expect_refusal(COV_VERIFY_SIZE, COV_EDATA, "holds no prepared data");
}

/* Every prefix of a manifest, and every byte of it changed, is read or refused, never more. */
static void a_cut_manifest_is_refused(void **state) {
  (void)state;
  char *text;
  size_t bytes;
  cov_manifest m;
  assert_ok(cov_file_read(file("manifest.yaml"), 1 << 20, &text, &bytes));
  for (size_t n = 0; n + 100 < bytes; n += 7) {
    assert_ok(cov_file_write(file("manifest.yaml"), text, n));
    assert_status(cov_manifest_read(folder, &m), COV_EDATA);
  }
  for (size_t i = 0; i < bytes; i += 3) {
    char keep = text[i];
    text[i] = (char)(keep ^ (1 << i % 8));
    assert_ok(cov_file_write(file("manifest.yaml"), text, bytes));
    if (cov_manifest_read(folder, &m) == COV_OK) cov_manifest_free(&m);
    text[i] = keep;
  }
  free(text);
}

static void the_tokenizer_must_be_the_recorded_one(void **state) {
  (void)state;
  tamper("eos: 256, hash: \"", "eos: 255, hash: \"");
  expect_refusal(COV_VERIFY_SIZE, COV_EMISMATCH, "the manifest has bytes, 257, 255");
  assert_says("the tokenizer bytes is not the one in");
#ifdef COVENANT_HAVE_SENTENCEPIECE
  const char *input = put_paragraphs("text.txt", 0, 200);
  char other[512];
  cov_prepare_params p = easy_params(&input, 1, in_base("sp1"));
  cov_prepare_result r;
  cov_dataset *d;
  cov_tokenizer *t;
  char *model;
  size_t bytes;
  p.tokenizer = "sentencepiece";
  p.vocab = 310;
  assert_ok(cov_prepare(&p, &r));
  snprintf(other, sizeof other, "%s", in_base("sp2"));
  p.folder = other;
  p.vocab = 311;
  assert_ok(cov_prepare(&p, &r));
  assert_ok(cov_dataset_open(other, COV_VERIFY_SIZE, &d));
  assert_ok(cov_tokenizer_open_file(in_base("sp1/tokenizer.model"), &t));
  assert_status(cov_dataset_verify_tokenizer(d, t), COV_EMISMATCH);
  cov_tokenizer_close(&t);
  assert_ok(cov_tokenizer_open_bytes(&t));
  assert_status(cov_dataset_verify_tokenizer(d, t), COV_EMISMATCH);
  cov_tokenizer_close(&t);
  assert_ok(cov_dataset_tokenizer(d, &t));
  assert_ok(cov_dataset_verify_tokenizer(d, t));
  cov_tokenizer_close(&t);
  cov_dataset_close(&d);
  assert_ok(cov_file_read(in_base("sp1/tokenizer.model"), 1 << 20, &model, &bytes));
  snprintf(folder, sizeof folder, "%s", other);
  assert_ok(cov_file_write(file("tokenizer.model"), model, bytes));
  free(model);
  expect_refusal(COV_VERIFY_SIZE, COV_EDATA,
                 "tokenizer.model is damaged or another: its hash is not the one in manifest.yaml");
  assert_ok(cov_file_write(file("tokenizer.model"), "cut", 3));
  expect_refusal(COV_VERIFY_SIZE, COV_EDATA, "tokenizer.model is damaged");
  assert_says("covenant data prepare --force");
  assert_int_equal(remove(file("tokenizer.model")), 0);
  expect_refusal(COV_VERIFY_SIZE, COV_EDATA, "tokenizer.model is missing");
#endif
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(a_split_is_one_stream, make_folder),
      cmocka_unit_test_setup(damaged_shards_are_refused, make_folder),
      cmocka_unit_test_setup(foreign_shards_are_refused, make_folder),
      cmocka_unit_test_setup(tampered_manifests_are_refused, make_folder),
      cmocka_unit_test_setup(a_cut_manifest_is_refused, make_folder),
      cmocka_unit_test_setup(the_tokenizer_must_be_the_recorded_one, make_folder),
  };
  return cmocka_run_group_tests(tests, open_base_folder, NULL);
}
