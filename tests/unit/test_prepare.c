/* covenant-test: timeout=120
 * Text and JSONL to prepared folders: documents, duplicates, split, order, re-runs and what is refused. */
#include <sys/stat.h>

#include "data/manifest.h"
#include "data_fixture.h"

static cov_status prepare(const cov_prepare_params *p) {
  cov_prepare_result r;
  return cov_prepare(p, &r);
}

static int count_documents(const char *all) {
  int n = 0;
  for (; *all; all++) n += *all == '|';
  return n;
}

/* Prepares, then checks that both splits together hold exactly the documents in `want`, separated by '|'. */
static void check_documents(const cov_prepare_params *p, const char *want) {
  char text[256];
  assert_ok(prepare(p));
  char *train = split_text(p->folder, COV_SPLIT_TRAIN), *held = split_text(p->folder, COV_SPLIT_HELDOUT);
  assert_int_equal(count_documents(train) + count_documents(held), count_documents(want));
  for (const char *at = want, *end; *at; at = end + 1) {
    end = strchr(at, '|');
    snprintf(text, sizeof text, "%.*s", (int)(end - at), at);
    if (has_document(train, text) + has_document(held, text) != 1)
      fail_msg("'%s' is not there once: %s / %s", text, train, held);
  }
  free(train);
  free(held);
}

static void paragraphs_lines_and_files_are_documents(void **state) {
  (void)state;
  const char *inputs[2];
  inputs[0] = put("a.txt", "\xEF\xBB\xBF one\ntwo  \n\n\n \t\r\nthree\r\n  four\n\n");
  inputs[1] = put("b.txt", "\n\nfive");
  cov_prepare_params p = easy_params(inputs, 2, in_base("units"));
  check_documents(&p, "one\ntwo|three\r\n  four|five|");
  p.replace = 1;
  p.document = COV_DOCUMENT_LINE;
  check_documents(&p, "one|two|three|four|five|");
  p.document = COV_DOCUMENT_FILE;
  check_documents(&p, "one\ntwo  \n\n\n \t\r\nthree\r\n  four|five|");
}

static void duplicates_do_not_reach_both_splits(void **state) {
  (void)state;
  char text[64];
  const char *inputs[3] = {put_paragraphs("d1.txt", 0, 200), put_paragraphs("d2.txt", 100, 200),
                           put("d3.txt", "x\n\nx\n\n  x  \n")};
  cov_prepare_params p = easy_params(inputs, 3, in_base("duplicates"));
  cov_manifest m;
  p.heldout = 0.5;
  assert_ok(prepare(&p));
  assert_ok(cov_manifest_read(p.folder, &m));
  assert_int_equal(m.dropped_duplicates, 102);
  assert_int_equal(m.splits[0].documents + m.splits[1].documents, 301);
  double share = (double)m.splits[1].text_bytes / (double)(m.splits[0].text_bytes + m.splits[1].text_bytes);
  assert_true(share >= 0.5 && share < 0.52);
  char *train = split_text(p.folder, COV_SPLIT_TRAIN), *held = split_text(p.folder, COV_SPLIT_HELDOUT);
  for (const char *at = held, *end; *at; at = end + 1) {
    end = strchr(at, '|');
    snprintf(text, sizeof text, "%.*s", (int)(end - at), at);
    assert_false(has_document(train, text));
  }
  free(train);
  free(held);
  cov_manifest_free(&m);
}

static void read_whole(const char *folder, const char *name, char **data, size_t *bytes) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  assert_ok(cov_file_read(path, 1 << 24, data, bytes));
}

static void assert_same_file(const char *a, const char *b, const char *name) {
  char *x, *y;
  size_t nx, ny;
  read_whole(a, name, &x, &nx);
  read_whole(b, name, &y, &ny);
  assert_int_equal(nx, ny);
  assert_memory_equal(x, y, nx);
  free(x);
  free(y);
}

static void two_runs_give_the_same_bytes(void **state) {
  (void)state;
  static const char *const files[] = {"manifest.yaml", "train-00000.npy", "train-00001.npy", "heldout-00000.npy"};
  const char *inputs[2] = {put_paragraphs("s1.txt", 0, 300), put_paragraphs("s2.txt", 300, 300)};
  const char *swapped[2] = {inputs[1], inputs[0]};
  cov_prepare_params p = easy_params(inputs, 2, in_base("same1"));
#ifdef COVENANT_HAVE_SENTENCEPIECE
  p.tokenizer = "sentencepiece";
  p.vocab = 320;
#endif
  p.shard_tokens = 6000;
  assert_ok(prepare(&p));
  p.folder = in_base("same2");
  assert_ok(prepare(&p));
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    assert_same_file(in_base("same1"), in_base("same2"), files[i]);
  p.folder = in_base("same3"); /* order of inputs: other sources in the manifest, the same data */
  p.inputs = swapped;
  assert_ok(prepare(&p));
  for (size_t i = 1; i < sizeof files / sizeof *files; i++)
    assert_same_file(in_base("same1"), in_base("same3"), files[i]);
  cov_manifest a, b;
  uint8_t ia[COV_HASH_BYTES], ib[COV_HASH_BYTES];
  assert_ok(cov_manifest_read(in_base("same1"), &a));
  assert_ok(cov_manifest_read(in_base("same3"), &b));
  cov_manifest_identity(&a, ia);
  cov_manifest_identity(&b, ib);
  assert_memory_equal(ia, ib, sizeof ia);
  assert_string_not_equal(a.recipe, b.recipe);
  cov_manifest_free(&b);
  p.folder = in_base("same4"); /* another seed: another order, another split */
  p.seed = 1;
  assert_ok(prepare(&p));
  assert_ok(cov_manifest_read(in_base("same4"), &b));
  assert_string_not_equal(a.splits[1].shards[0].hash, b.splits[1].shards[0].hash);
  cov_manifest_free(&a);
  cov_manifest_free(&b);
}

static int64_t inode(const char *folder, const char *name) {
  char path[1024];
  struct stat s;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return stat(path, &s) == 0 ? (int64_t)s.st_ino : -1;
}

static void a_second_run_does_nothing_or_repairs(void **state) {
  (void)state;
  const char *input = put_paragraphs("again.txt", 0, 50);
  char folder[512], shard[600];
  snprintf(folder, sizeof folder, "%s", in_base("again"));
  cov_prepare_params p = easy_params(&input, 1, folder);
  cov_prepare_result r;
  p.shard_tokens = 500;
  assert_ok(cov_prepare(&p, &r));
  assert_false(r.reused);
  int64_t before = inode(folder, "train-00000.npy");
  assert_ok(cov_prepare(&p, &r));
  assert_true(r.reused);
  assert_int_equal(inode(folder, "train-00000.npy"), before);
  snprintf(shard, sizeof shard, "%s/train-00001.npy", folder);
  assert_int_equal(remove(shard), 0); /* a damaged folder of our own is written again */
  assert_ok(cov_prepare(&p, &r));
  assert_false(r.reused);
  assert_true(cov_file_exists(shard));
  p.shard_tokens = 5000; /* other settings: only when asked */
  assert_status(cov_prepare(&p, &r), COV_EUSAGE);
  assert_says("--force");
  assert_true(cov_file_exists(shard));
  p.replace = 1;
  assert_ok(cov_prepare(&p, &r));
  assert_false(cov_file_exists(shard)); /* no stale shard stays */
  input = put_paragraphs("again.txt", 0, 51);
  p.replace = 0;
  assert_status(cov_prepare(&p, &r), COV_EUSAGE);
}

static void invalid_utf8_is_named_or_replaced(void **state) {
  (void)state;
  const char *inputs[2] = {put("good.txt", "fine\n\nalso fine\n"), put("bad.txt", "abc\n\nd\xe8"
                                                                                  "f\n\nghi\n")};
  cov_prepare_params p = easy_params(inputs, 2, in_base("utf8"));
  assert_status(prepare(&p), COV_EDATA);
  assert_says("bad.txt");
  assert_says("byte offset 6");
  assert_says("line 3");
  assert_says("0xe8");
  assert_false(cov_file_exists(p.folder));
  p.replace_invalid = 1;
  check_documents(&p, "fine|also fine|abc|d\xef\xbf\xbd"
                      "f|ghi|");
}

static void nul_bytes_are_refused(void **state) {
  (void)state;
  const char *input = in_base("nul.txt");
  assert_ok(cov_file_write(input, "abc\n\nd\0f\n", 9));
  cov_prepare_params p = easy_params(&input, 1, in_base("nul"));
  assert_status(prepare(&p), COV_EDATA);
  assert_says("byte offset 6");
}

#ifdef COVENANT_HAVE_JANSSON
static void json_records_are_documents(void **state) {
  (void)state;
  const char *input = put("r.jsonl", "{\"text\": \"one\\n\\ntwo\", \"n\": 1}\n\n{\"text\": \" caf\\u00e9 "
                                     "\"}\n{\"text\": \"\"}\n{\"text\": \"one\\n\\ntwo\"}");
  cov_prepare_params p = easy_params(&input, 1, in_base("jsonl"));
  cov_manifest m;
  check_documents(&p, "one\n\ntwo|caf\xc3\xa9|");
  assert_ok(cov_manifest_read(p.folder, &m));
  assert_int_equal(m.dropped_duplicates, 1);
  assert_int_equal(m.dropped_empty, 1);
  cov_manifest_free(&m);
  input = put("other.txt", "{\"body\": \"a\"}\n{\"body\": \"b\", \"text\": 3}\n");
  p.format = COV_INPUT_JSONL;
  p.text_key = "body";
  p.folder = in_base("jsonl2");
  check_documents(&p, "a|b|");
}

static void broken_records_are_named_by_line(void **state) {
  (void)state;
  static const char *const broken[][3] = {
      {"{\"text\": \"a\"}\n{\"body\": \"b\"}\n", "line 2", "no such text key"},
      {"{\"text\": \"a\"}\n\n{\"text\": 7}\n", "line 3", "not a string"},
      {"{\"text\": \"a\"}\n{\"text\": \"b\"\n", "line 2", "not a JSON record"},
      {"[\"text\"]\n", "line 1", "not a JSON object"},
      {"{\"text\": \"a\", \"text\": \"b\"}\n", "line 1", "not a JSON record"},
      {"{\"text\": \"a\\u0000b\"}\n", "line 1", "not a JSON record"},
      {"{\"text\": \"a\"} trailing\n", "line 1", "not a JSON record"},
  };
  for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
    const char *input = put("broken.jsonl", broken[i][0]);
    cov_prepare_params p = easy_params(&input, 1, in_base("broken"));
    assert_status(prepare(&p), COV_EDATA);
    assert_says("broken.jsonl");
    assert_says(broken[i][1]);
    assert_says(broken[i][2]);
  }
}
#endif

static void a_tiny_heldout_split_is_refused(void **state) {
  (void)state;
  const char *input = put_paragraphs("tiny.txt", 0, 20);
  cov_prepare_params p = easy_params(&input, 1, in_base("tiny"));
  p.heldout_min_tokens = 1024;
  assert_status(prepare(&p), COV_EDATA);
  assert_says("fewer than the 1024");
  assert_false(cov_file_exists(in_base("tiny/heldout-00000.npy")));
  assert_false(cov_file_exists(in_base("tiny/manifest.yaml")));
  p.document = COV_DOCUMENT_FILE;
  assert_status(prepare(&p), COV_EDATA);
  assert_says("1 different document ");
  input = put("empty.txt", "");
  assert_status(prepare(&p), COV_EDATA);
  assert_says("0 different documents");
}

static void bad_settings_are_refused(void **state) {
  (void)state;
  const char *input = put_paragraphs("ok.txt", 0, 20);
  cov_prepare_params p = easy_params(&input, 1, in_base("settings"));
  p.heldout = 0;
  assert_status(prepare(&p), COV_EUSAGE);
  p.heldout = 1;
  assert_status(prepare(&p), COV_EUSAGE);
  p.heldout = 0.1;
  p.shard_tokens = 0;
  assert_status(prepare(&p), COV_EUSAGE);
  p.shard_tokens = 10;
  p.n_inputs = 0;
  assert_status(prepare(&p), COV_EUSAGE);
  p.n_inputs = 1;
  p.tokenizer = "wordpiece";
  assert_status(prepare(&p), COV_EUSAGE);
  assert_says("wordpiece");
  p.tokenizer = "bytes";
  input = in_base("absent.txt");
  assert_status(prepare(&p), COV_EIO);
  assert_says("absent.txt");
  input = base_folder;
  assert_status(prepare(&p), COV_EIO);
  cov_document_unit unit;
  assert_status(cov_document_unit_parse("page", &unit), COV_EUSAGE);
  assert_ok(cov_document_unit_parse("line", &unit));
  assert_int_equal(unit, COV_DOCUMENT_LINE);
}

static void odd_file_names_survive_the_manifest(void **state) {
  (void)state;
  static const char *const names[] = {"a \"quoted\\name\": {x}", "line\nbreak", "caf\xc3\xa9", "latin \xe9",
                                      "c1 \xc2\x85"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const char *input = put_paragraphs(names[i], 0, 20);
    cov_prepare_params p = easy_params(&input, 1, in_base("names"));
    cov_manifest m;
    p.replace = 1;
    p.seed = i;
    assert_ok(prepare(&p));
    assert_ok(cov_manifest_read(p.folder, &m));
    if (i < 3) assert_string_equal(m.sources[0].path, input);
    cov_manifest_free(&m);
  }
}

#ifdef COVENANT_HAVE_SENTENCEPIECE
/* A SentencePiece model is a protocol buffer: field 1 a piece {1: text, 2: score, 3: type (2 unknown, 3 control)}. */
static void write_piece(FILE *f, const char *text, float score, int type) {
  uint8_t bits[4];
  size_t n = strlen(text);
  memcpy(bits, &score, 4);
  fprintf(f, "\x0a%c\x0a%c%s\x15", (int)(n + 9), (int)n, text);
  fwrite(bits, 1, 4, f);
  fprintf(f, "\x18%c", type);
}

static void a_large_vocabulary_takes_32_bits(void **state) {
  (void)state;
  enum { PIECES = 70000 };
  FILE *f = fopen(in_base("large.model"), "wb");
  assert_non_null(f);
  for (int i = 0; i < PIECES; i++) {
    char word[32];
    snprintf(word, sizeof word, "\xe2\x96\x81w%d", i);
    write_piece(f, i == 0 ? "<unk>" : i == 1 ? "</s>" : word, i < 2 ? 0 : -10, i == 0 ? 2 : i == 1 ? 3 : 1);
  }
  assert_int_equal(fclose(f), 0);
  const char *input = put("large.txt", "w5 w69999\n\nw66000 w2\n\nw65535 w65536 w69998\n");
  cov_prepare_params p = easy_params(&input, 1, in_base("large"));
  char model[512];
  snprintf(model, sizeof model, "%s", in_base("large.model"));
  p.tokenizer = model;
  assert_ok(prepare(&p));
  cov_dataset *d;
  assert_ok(cov_dataset_open(p.folder, COV_VERIFY_HASH, &d));
  assert_int_equal(cov_dataset_manifest(d)->dtype, COV_NPY_U32);
  assert_int_equal(cov_dataset_manifest(d)->vocab, PIECES);
  uint32_t ids[10], found = 0;
  int64_t n[2] = {cov_dataset_tokens(d, COV_SPLIT_TRAIN), cov_dataset_tokens(d, COV_SPLIT_HELDOUT)};
  assert_int_equal(n[0] + n[1], 10);
  assert_ok(cov_dataset_read(d, COV_SPLIT_TRAIN, 0, n[0], ids));
  assert_ok(cov_dataset_read(d, COV_SPLIT_HELDOUT, 0, n[1], ids + n[0]));
  static const uint32_t want[] = {5, 69999, 66000, 2, 65535, 65536, 69998};
  for (int w = 0; w < 7; w++) {
    for (int i = 0; i < 10; i++) found += ids[i] == want[w];
  }
  assert_int_equal(found, 7);
  cov_dataset_close(&d);
}

static void a_trained_tokenizer_decodes_to_the_text(void **state) {
  (void)state;
  const char *input = put_paragraphs("pieces.txt", 0, 300);
  cov_prepare_params p = easy_params(&input, 1, in_base("pieces"));
  p.tokenizer = "sentencepiece";
  p.vocab = 310;
  assert_ok(prepare(&p));
  char *train = split_text(p.folder, COV_SPLIT_TRAIN), *held = split_text(p.folder, COV_SPLIT_HELDOUT);
  char *text;
  size_t bytes;
  assert_ok(cov_file_read(input, 1 << 20, &text, &bytes));
  int n = 0;
  for (char *at = text, *end; (end = strstr(at, "\n\n")) != NULL; at = end + 2, n++) {
    *end = '\0';
    assert_int_equal(has_document(train, at) + has_document(held, at), 1);
  }
  assert_int_equal(n, 300);
  free(text);
  free(train);
  free(held);
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(paragraphs_lines_and_files_are_documents),
      cmocka_unit_test(duplicates_do_not_reach_both_splits),
      cmocka_unit_test(two_runs_give_the_same_bytes),
      cmocka_unit_test(a_second_run_does_nothing_or_repairs),
      cmocka_unit_test(invalid_utf8_is_named_or_replaced),
      cmocka_unit_test(nul_bytes_are_refused),
#ifdef COVENANT_HAVE_JANSSON
      cmocka_unit_test(json_records_are_documents),
      cmocka_unit_test(broken_records_are_named_by_line),
#endif
      cmocka_unit_test(a_tiny_heldout_split_is_refused),
      cmocka_unit_test(bad_settings_are_refused),
      cmocka_unit_test(odd_file_names_survive_the_manifest),
#ifdef COVENANT_HAVE_SENTENCEPIECE
      cmocka_unit_test(a_large_vocabulary_takes_32_bits),
      cmocka_unit_test(a_trained_tokenizer_decodes_to_the_text),
#endif
  };
  return cmocka_run_group_tests(tests, open_base_folder, NULL);
}
