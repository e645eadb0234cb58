/* The safetensors reader on sound, hostile and cut files, and the Hugging Face row order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "interop/huggingface.h"
#include "interop/safetensors.h"
#include "support.h"

/* A file of `header` and `data_bytes` bytes of data; `claimed` < 0: the true header length is written. */
static const char *write_file(const char *header, const void *data, size_t data_bytes, long long claimed) {
  static char path[600];
  static const char *folder;
  if (!folder) folder = test_folder();
  snprintf(path, sizeof path, "%s/model.safetensors", folder);
  size_t n = strlen(header);
  uint8_t *bytes = malloc(8 + n + data_bytes + 1);
  assert_non_null(bytes);
  uint64_t length = claimed < 0 ? n : (uint64_t)claimed;
  for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(length >> (8 * i));
  memcpy(bytes + 8, header, n);
  if (data_bytes) memcpy(bytes + 8 + n, data, data_bytes);
  assert_ok(cov_file_write(path, bytes, 8 + n + data_bytes));
  free(bytes);
  return path;
}

#define T_A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]}"
#define T_B "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[8,12]}"
static const uint8_t data[16] = {0, 0, 128, 63, 0, 0, 0, 192, 128, 63, 32, 193};

static void sound_files_are_read(void **state) {
  (void)state;
  static const char *const headers[] = {
      "{" T_A "," T_B "}", "{" T_B "," T_A "}   ",
      "{\"__metadata__\":{\"format\":\"pt\",\"a\":\"\\u00e9\\n\"}," T_A " , " T_B "\n}",
      "{\"b\" : { \"data_offsets\" : [8 , 12], \"shape\":[2],\"dtype\":\"BF16\"}, " T_A "}",
      "{" T_A "," T_B ",\"empty\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[8,8]}}"};
  for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
    cov_safetensors st;
    float x[2];
    assert_ok(cov_safetensors_open(write_file(headers[i], data, 12, -1), &st));
    int a = cov_safetensors_find(&st, "a"), b = cov_safetensors_find(&st, "b");
    assert_true(a >= 0 && b >= 0);
    assert_int_equal(cov_safetensors_find(&st, "c"), -1);
    assert_int_equal(st.item[a].dims, 2);
    assert_int_equal(st.item[a].shape[0], 2);
    assert_ok(cov_safetensors_read(&st, a, x));
    assert_true(x[0] == 1.0f && x[1] == -2.0f);
    assert_ok(cov_safetensors_read(&st, b, x));
    assert_true(x[0] == 1.0f && x[1] == -10.0f);
    int empty = cov_safetensors_find(&st, "empty");
    if (empty >= 0) assert_status(cov_safetensors_read(&st, empty, x), COV_EDATA); /* integers are no weights */
    cov_safetensors_close(&st);
  }
  cov_safetensors none;
  assert_ok(cov_safetensors_open(write_file("{}", NULL, 0, -1), &none));
  assert_int_equal(none.n, 0);
  cov_safetensors_close(&none);
}

static void half_precision_is_exact(void **state) {
  (void)state;
  enum { N = 65536 };
  uint8_t *halves = malloc(2 * N);
  float *x = malloc(N * sizeof *x);
  assert_true(halves && x);
  for (int i = 0; i < N; i++) halves[2 * i] = (uint8_t)i, halves[2 * i + 1] = (uint8_t)(i >> 8);
  cov_safetensors st;
  assert_ok(cov_safetensors_open(
      write_file("{\"h\":{\"dtype\":\"F16\",\"shape\":[65536],\"data_offsets\":[0,131072]}}", halves, 2 * N, -1), &st));
  assert_ok(cov_safetensors_read(&st, 0, x));
  for (int i = 0; i < N; i++) {
    int exponent = i >> 10 & 31, fraction = i & 1023;
    double want = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    if (exponent == 31) {
      assert_true(fraction ? isnan(x[i]) : isinf(x[i]));
    } else {
      assert_true(fabs((double)x[i]) == want);
    }
    assert_int_equal(signbit(x[i]) != 0, i >> 15);
  }
  cov_safetensors_close(&st);
  free(halves);
  free(x);
}

static void hostile_headers_are_refused(void **state) {
  (void)state;
#define ONE(fields) "{\"a\":{" fields "}}"
  static const char *const bad[] = {
      "",
      "[]",
      " {}",
      "{",
      "{}{}",
      "{} x",
      "null",
      "{\"a\":1}",
      "{\"a\"}",
      "{" T_A ",}",
      "{" T_A,
      "{" T_A "," T_A "}",
      "{" T_A "," T_B "} ,",
      ONE(""),
      ONE("\"dtype\":\"F32\""),
      ONE("\"dtype\":\"F32\",\"shape\":[3]"),
      ONE("\"dtype\":\"F33\",\"shape\":[3],\"data_offsets\":[0,12]"),
      ONE("\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]"),
      ONE("\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12],\"more\":1"),
      ONE("\"dtype\":\"F32\",\"shape\":[-3],\"data_offsets\":[0,12]"),
      ONE("\"dtype\":\"F32\",\"shape\":[3.0],\"data_offsets\":[0,12]"),
      ONE("\"dtype\":\"F32\",\"shape\":[03],\"data_offsets\":[0,12]"),
      ONE("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,3],\"data_offsets\":[0,12]"),
      ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,12]"), /* shape and bytes differ */
      ONE("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]"), /* a hole in front */
      ONE("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"),  /* a hole behind */
      ONE("\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]"), /* beyond the file */
      ONE("\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[12,0]"),
      ONE("\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0]"),
      ONE("\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12,12]"),
      ONE("\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,99999999999999999999]"),
      ONE("\"dtype\":\"F32\",\"shape\":[4611686018427387907],\"data_offsets\":[0,12]"), /* 12 bytes modulo 2^64 */
      ONE("\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]") "\"",
      "{\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
      "{\"a\n\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
      "{\"__metadata__\":{\"x\":1},\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
      "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", /* an overlap */
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
      "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}"}; /* a hole between */
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    cov_safetensors st;
    cov_status got = cov_safetensors_open(write_file(bad[i], data, 12, -1), &st);
    if (got != COV_EDATA) fail_msg("%s: %s", bad[i], cov_status_name(got));
    assert_null(st.file);
    assert_null(st.item);
  }
}

static void cut_files_are_refused(void **state) {
  (void)state;
  static const char header[] = "{" T_A "," T_B "}";
  cov_safetensors st;
  assert_status(cov_safetensors_open("/nonexistent/model.safetensors", &st), COV_EIO);
  for (size_t n = 0; n < 12; n++) assert_status(cov_safetensors_open(write_file(header, data, n, -1), &st), COV_EDATA);
  assert_status(cov_safetensors_open(write_file(header, data, 13, -1), &st), COV_EDATA);
  static const long long claims[] = {0, 1, 5, 100, sizeof header + 20, 100000001, 0x7FFFFFFFFFFFFFFF};
  for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
    assert_status(cov_safetensors_open(write_file(header, data, 12, claims[i]), &st), COV_EDATA);
  }
  /* Every prefix of the header, claimed as the whole. */
  for (size_t n = 0; n + 1 < sizeof header; n++) {
    assert_status(cov_safetensors_open(write_file(header, data, 12, (long long)n), &st), COV_EDATA);
  }
}

/* One changed byte anywhere in the header is either refused or leaves a table that is inside the file. */
static void changed_bytes_never_lead_outside(void **state) {
  (void)state;
  static const char header[] = "{\"__metadata__\":{\"f\":\"pt\"}," T_A "," T_B "}";
  static const char values[] = "\"\\{}[],:0129- \x01\x7f";
  char changed[sizeof header];
  int accepted = 0;
  for (size_t at = 0; at + 1 < sizeof header; at++) {
    for (size_t v = 0; v + 1 < sizeof values; v++) {
      cov_safetensors st;
      memcpy(changed, header, sizeof header);
      changed[at] = values[v];
      if (cov_safetensors_open(write_file(changed, data, 12, -1), &st) != COV_OK) continue;
      accepted++;
      for (int i = 0; i < st.n; i++) {
        float x[12];
        assert_true(st.item[i].end <= 12 && st.item[i].elems <= 12);
        if (st.item[i].dtype != COV_ST_OTHER) assert_ok(cov_safetensors_read(&st, i, x));
      }
      cov_safetensors_close(&st);
    }
  }
  assert_true(accepted > 0); /* a name may change */
}

static void rows_go_to_pairs_and_back(void **state) {
  (void)state;
  float in[8 * 3], out[8 * 3], back[8 * 3];
  for (int i = 0; i < 24; i++) in[i] = (float)i;
  cov_hf_rows_import(out, in, 8, 3, 2); /* two heads of width 4 */
  static const int order[8] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (int r = 0; r < 8; r++) assert_true(out[3 * r] == (float)(3 * order[r]));
  cov_hf_rows_export(back, out, 8, 3, 2);
  assert_memory_equal(back, in, sizeof in);
}

static void names_follow_the_table(void **state) {
  (void)state;
  char name[64];
  assert_ok(cov_hf_name("layers.17.feed_forward.w3.weight", name, sizeof name));
  assert_string_equal(name, "model.layers.17.mlp.up_proj.weight");
  assert_ok(cov_hf_name("output.weight", name, sizeof name));
  assert_string_equal(name, "lm_head.weight");
  assert_status(cov_hf_name("layers.1.attention.wx.weight", name, sizeof name), COV_EUSAGE);
  assert_status(cov_hf_name("layers..attention.wq.weight", name, sizeof name), COV_EUSAGE);
  assert_status(cov_hf_name("norm", name, sizeof name), COV_EUSAGE);
  assert_status(cov_hf_name("output.weight", name, 5), COV_EUSAGE);
}

/* The project's own small model under configurations it does not have. */
static void import_refuses_another_model(void **state) {
  (void)state;
  cov_llama_config c;
  cov_safetensors st;
  cov_llama_config_default(&c);
  c.vocab = 29, c.dim = 16, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.ffn = 40, c.tied = 0;
  assert_ok(cov_safetensors_open(test_source("tests/data/model/tiny_gqa/model.safetensors"), &st));
  for (int variant = 0; variant < 6; variant++) {
    cov_llama_config other = c;
    cov_params params;
    if (variant == 1) other.layers = 1;
    if (variant == 2) other.layers = 3;
    if (variant == 3) other.ffn = 41;
    if (variant == 4) other.kv_heads = 4;
    if (variant == 5) other.tied = 1; /* lm_head is then left alone */
    cov_params_create(&params);
    assert_ok(cov_llama_params(&other, &params));
    float *theta = malloc((size_t)params.span * sizeof *theta);
    assert_non_null(theta);
    assert_status(cov_hf_import(&st, &other, &params, theta), variant == 0 || variant == 5 ? COV_OK : COV_EDATA);
    free(theta);
    cov_params_destroy(&params);
  }
  cov_safetensors_close(&st);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sound_files_are_read),
      cmocka_unit_test(half_precision_is_exact),
      cmocka_unit_test(hostile_headers_are_refused),
      cmocka_unit_test(cut_files_are_refused),
      cmocka_unit_test(changed_bytes_never_lead_outside),
      cmocka_unit_test(rows_go_to_pairs_and_back),
      cmocka_unit_test(names_follow_the_table),
      cmocka_unit_test(import_refuses_another_model),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
