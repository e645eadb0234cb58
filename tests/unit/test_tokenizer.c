/* covenant-test: timeout=120
 * Tokenizers: the golden SentencePiece model, a model trained here, bytes; UTF-8. Needs jansson for the golden file. */
#include <stdlib.h>
#include <string.h>

#ifdef COVENANT_HAVE_JANSSON
#include <jansson.h>
#endif

#include "base/file.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "support.h"

static void bytes_are_their_own_ids(void **state) {
  (void)state;
  cov_tokenizer *t;
  cov_token_list ids = {0};
  char *text;
  size_t bytes;
  assert_ok(cov_tokenizer_open_bytes(&t));
  assert_int_equal(cov_tokenizer_vocab(t), 257);
  assert_int_equal(cov_tokenizer_eos(t), 256);
  assert_ok(cov_tokenizer_encode(t, "a\xff\x00z", 4, &ids));
  assert_int_equal(ids.n, 4);
  assert_int_equal(ids.ids[1], 255);
  assert_ok(cov_token_list_add(&ids, 256));
  assert_ok(cov_tokenizer_decode(t, ids.ids, ids.n, &text, &bytes));
  assert_int_equal(bytes, 4);
  assert_memory_equal(text, "a\xff\x00z", 4);
  free(text);
  assert_status(cov_tokenizer_decode(t, (uint32_t[]){257}, 1, &text, &bytes), COV_EDATA);
  cov_token_list_free(&ids);
  cov_tokenizer_close(&t);
  assert_null(t);
  cov_tokenizer_close(&t);
}

static void utf8_is_checked_to_the_letter(void **state) {
  (void)state;
  static const char *const good[] = {
      "", "abc", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"};
  static const char *const bad[] = {"\x80",
                                    "\xc0\x80",
                                    "\xc1\xbf",
                                    "\xe0\x80\x80",
                                    "\xe0\x9f\xbf",
                                    "\xed\xa0\x80",
                                    "\xf0\x80\x80\x80",
                                    "\xf4\x90\x80\x80",
                                    "\xf5\x80\x80\x80",
                                    "\xc3",
                                    "\xe2\x82",
                                    "\xf0\x9f\x98",
                                    "\xff",
                                    "\xc3\x28"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    assert_int_equal(cov_utf8_valid(good[i], strlen(good[i])), strlen(good[i]));
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char text[16];
    int n = snprintf(text, sizeof text, "ok%s!", bad[i]);
    assert_int_equal(cov_utf8_valid(text, (size_t)n), 2);
  }
  char out[32];
  assert_int_equal(cov_utf8_valid("a\0b", 3), 1);
  assert_int_equal(cov_utf8_replace("a\xff\xe2\x82z", 5, out), 11);
  assert_memory_equal(out, "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz", 11);
}

#if defined(COVENANT_HAVE_SENTENCEPIECE) && defined(COVENANT_HAVE_JANSSON)
static void the_golden_model_gives_the_golden_ids(void **state) {
  (void)state;
  char model[4096];
  const char *file = test_shared("data/tokenizer/sentencepiece/test_model.model");
  if (!file) skip();
  snprintf(model, sizeof model, "%s", file);
  file = test_shared("vectors/tokenizer/sentencepiece_unigram.json");
  if (!file) skip();
  json_error_t error;
  json_t *golden = json_load_file(file, JSON_ALLOW_NUL, &error), *c;
  assert_non_null(golden);
  cov_tokenizer *t;
  assert_ok(cov_tokenizer_open_file(model, &t));
  assert_int_equal(cov_tokenizer_vocab(t), 1000);
  assert_int_equal(cov_tokenizer_eos(t), 2);
  size_t i, checked = 0;
  json_array_foreach(json_object_get(golden, "cases"), i, c) {
    cov_token_list ids = {0};
    json_t *text = json_object_get(c, "text"), *want = json_object_get(c, "ids"),
           *decoded = json_object_get(c, "decoded");
    char *back;
    size_t bytes;
    assert_non_null(text);
    assert_ok(cov_tokenizer_encode(t, json_string_value(text), json_string_length(text), &ids));
    assert_int_equal(ids.n, json_array_size(want));
    for (size_t k = 0; k < ids.n; k++) assert_int_equal(ids.ids[k], json_integer_value(json_array_get(want, k)));
    assert_ok(cov_tokenizer_decode(t, ids.ids, ids.n, &back, &bytes));
    assert_int_equal(bytes, json_string_length(decoded));
    assert_memory_equal(back, json_string_value(decoded), bytes);
    free(back);
    cov_token_list_free(&ids);
    checked++;
  }
  assert_int_equal(checked, 50);
  cov_tokenizer_close(&t);
  json_decref(golden);
}
#endif

#ifdef COVENANT_HAVE_SENTENCEPIECE
/* Text made up from syllables: enough different words for a few hundred merges. */
typedef struct {
  int left;
  char text[256];
} babble;

static int next_babble(void *context, const char **text, size_t *bytes) {
  static const char *const syllables[] = {"ka",  "lo",        "mi",  "ter", "san", "vu",  "re",
                                          "pol", "\xc3\xa9t", "ing", "th",  "ou",  "qua", "ze"};
  babble *b = context;
  if (b->left-- <= 0) return 0;
  size_t n = 0;
  for (uint64_t w = 0; w < 12; w++) {
    for (uint64_t s = 0; s < 3; s++) {
      float r = test_random(3, (uint64_t)b->left * 40 + w * 3 + s) * 0.5f + 0.5f;
      n += (size_t)snprintf(b->text + n, sizeof b->text - n, "%s", syllables[(size_t)(r * r * 14)]);
    }
    n += (size_t)snprintf(b->text + n, sizeof b->text - n, w == 5 ? ".\n" : " ");
  }
  *text = b->text;
  *bytes = n;
  return 1;
}

static cov_status train(int vocab, int lines, cov_tokenizer **t) {
  babble b = {.left = lines};
  cov_text_source source = {next_babble, &b};
  return cov_tokenizer_train(vocab, &source, t);
}

static void a_trained_model_is_lossless(void **state) {
  (void)state;
  static const char *const texts[] = {"",
                                      " ",
                                      "kalo miter",
                                      "  two  blanks ",
                                      "new\nline\r\n\ttab",
                                      "digits 12345",
                                      "\xf0\x9f\x98\x80 \xe4\xb8\xad\xe6\x96\x87",
                                      "</s> <unk> <0x41>",
                                      "caf\xc3\xa9 e\xcc\x81 \xef\xac\x81",
                                      "x"};
  cov_tokenizer *t;
  assert_ok(train(400, 400, &t));
  assert_int_equal(cov_tokenizer_vocab(t), 400);
  assert_int_equal(cov_tokenizer_eos(t), 1);
  assert_int_equal(cov_tokenizer_get_kind(t), COV_TOKENIZER_SENTENCEPIECE);
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    cov_token_list ids = {0};
    char *back;
    size_t bytes;
    assert_ok(cov_tokenizer_encode(t, texts[i], strlen(texts[i]), &ids));
    for (size_t k = 0; k < ids.n; k++) assert_in_range(ids.ids[k], 2, 399); /* never <unk>, never EOS */
    assert_ok(cov_token_list_add(&ids, 1));
    assert_ok(cov_tokenizer_decode(t, ids.ids, ids.n, &back, &bytes));
    assert_int_equal(bytes, strlen(texts[i]));
    assert_memory_equal(back, texts[i], bytes);
    free(back);
    cov_token_list_free(&ids);
  }
  cov_token_list ids = {0};
  assert_status(cov_tokenizer_encode(t, "ab\xff", 3, &ids), COV_EDATA);
  assert_non_null(strstr(cov_error_text(), "byte 2"));
  cov_token_list_free(&ids);
  cov_tokenizer_close(&t);
}

static void training_twice_gives_the_same_model(void **state) {
  (void)state;
  cov_tokenizer *a, *b, *c;
  uint8_t ha[COV_HASH_BYTES], hb[COV_HASH_BYTES];
  size_t na, nb;
  assert_ok(train(400, 400, &a));
  assert_ok(train(400, 400, &b));
  const void *ma = cov_tokenizer_model(a, &na), *mb = cov_tokenizer_model(b, &nb);
  assert_int_equal(na, nb);
  assert_memory_equal(ma, mb, na);
  assert_ok(cov_tokenizer_open_memory(ma, na, "a copy", &c));
  cov_tokenizer_hash(a, ha);
  cov_tokenizer_hash(c, hb);
  assert_memory_equal(ha, hb, sizeof ha);
  cov_tokenizer_close(&b);
  cov_tokenizer_close(&c);
  assert_ok(train(399, 400, &b));
  cov_tokenizer_hash(b, hb);
  assert_memory_not_equal(ha, hb, sizeof ha);
  cov_tokenizer_close(&a);
  cov_tokenizer_close(&b);
}

static void what_cannot_be_trained_is_said(void **state) {
  (void)state;
  cov_tokenizer *t;
  assert_status(train(299, 10, &t), COV_EUSAGE);
  assert_status(train(65537, 10, &t), COV_EUSAGE);
  assert_status(train(400, 0, &t), COV_EDATA); /* no text */
  assert_status(train(60000, 3, &t), COV_EDATA);
  assert_null(t);
}

/* One line of 20,000 bytes, which the library alone would skip. */
typedef struct {
  const char *text;
  size_t bytes;
} one_text;

static int next_once(void *context, const char **text, size_t *bytes) {
  one_text *o = context;
  if (!o->text) return 0;
  *text = o->text;
  *bytes = o->bytes;
  o->text = NULL;
  return 1;
}

static void long_lines_are_cut_for_training(void **state) {
  (void)state;
  static char text[20000];
  cov_tokenizer *t;
  for (int blanks = 1; blanks >= 0; blanks--) {
    for (size_t i = 0; i < sizeof text; i++) {
      text[i] = blanks && i % 7 == 6 ? ' ' : (char)('a' + (int)(test_random(1, i) * 3.f + 3.f));
    }
    one_text o = {text, sizeof text};
    cov_text_source source = {next_once, &o};
    assert_ok(cov_tokenizer_train(300, &source, &t));
    cov_tokenizer_close(&t);
  }
}

static void other_files_are_no_models(void **state) {
  (void)state;
  char path[512];
  cov_tokenizer *t;
  snprintf(path, sizeof path, "%s/x.model", test_folder());
  assert_status(cov_tokenizer_open_file(path, &t), COV_EIO);
  assert_ok(cov_file_write(path, "not a model at all", 18));
  assert_status(cov_tokenizer_open_file(path, &t), COV_EDATA);
  assert_non_null(strstr(cov_error_text(), "x.model"));
  assert_ok(cov_file_write(path, "", 0));
  assert_status(cov_tokenizer_open_file(path, &t), COV_EDATA);
  assert_null(t);
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(bytes_are_their_own_ids),
    cmocka_unit_test(utf8_is_checked_to_the_letter),
#if defined(COVENANT_HAVE_SENTENCEPIECE) && defined(COVENANT_HAVE_JANSSON)
    cmocka_unit_test(the_golden_model_gives_the_golden_ids),
#endif
#ifdef COVENANT_HAVE_SENTENCEPIECE
    cmocka_unit_test(a_trained_model_is_lossless),
    cmocka_unit_test(training_twice_gives_the_same_model),
    cmocka_unit_test(what_cannot_be_trained_is_said),
    cmocka_unit_test(long_lines_are_cut_for_training),
    cmocka_unit_test(other_files_are_no_models),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
