/* Sizes, names, order and initial values of a Llama's parameter table (protocol 1.1, 1.3, 1.4, V20). */
#include <math.h>
#include <string.h>

#include "model/llama.h"
#include "support.h"

static cov_llama_config sized(int64_t vocab, int64_t dim, int64_t layers, int64_t heads, int64_t kv, int64_t ffn) {
  cov_llama_config c;
  cov_llama_config_default(&c);
  c.vocab = vocab, c.dim = dim, c.layers = layers, c.heads = heads, c.kv_heads = kv, c.ffn = ffn;
  return c;
}

static void v20_widths(void **state) {
  (void)state;
  assert_int_equal(cov_llama_ffn_width(8192, 1.3, 4096), 28672);
  assert_int_equal(cov_llama_ffn_width(4096, 1.3, 1024), 14336);
  /* Custom sizes: multiplier = asked width / int(8 dim / 3), multiple of 256. */
  assert_int_equal(cov_llama_ffn_width(1024, 2688.0 / 2730.0, 256), 2816);
  assert_int_equal(cov_llama_ffn_width(2048, 8192.0 / 5461.0, 256), 8192);
  assert_int_equal(cov_llama_ffn_width(1024, 0.0, 1), 2730);
}

/* Table 1.1; the table that cov_llama_params builds must count the same. */
static void v20_parameter_counts(void **state) {
  (void)state;
  const struct {
    cov_llama_config config;
    int64_t tied, untied;
  } rows[] = {{sized(262144, 8192, 80, 64, 8, 28672), 70599843840, 72747327488},
              {sized(32000, 2048, 16, 8, 8, 8192), 1139345408, 1204881408},
              {sized(32000, 1024, 12, 16, 0, 2816), 186934272, 219702272}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    for (int tied = 0; tied < 2; tied++) {
      cov_llama_config c = rows[i].config;
      cov_params params;
      c.tied = tied;
      assert_int_equal(cov_llama_param_count(&c), tied ? rows[i].tied : rows[i].untied);
      cov_params_create(&params);
      assert_ok(cov_llama_params(&c, &params));
      assert_int_equal(params.elems, tied ? rows[i].tied : rows[i].untied);
      assert_int_equal(params.n, 2 + 9 * c.layers + !tied);
      cov_params_destroy(&params);
    }
  }
}

static void flops_count_the_head_but_not_the_lookup(void **state) {
  (void)state;
  cov_llama_config c = sized(32000, 1024, 12, 16, 0, 2816);
  double want = 6.0 * 186934272.0 + 6.0 * 12.0 * 2048.0 * 1024.0;
  assert_true(cov_llama_flop_per_token(&c, 2048) == want);
  c.tied = 0;
  assert_true(cov_llama_flop_per_token(&c, 2048) == want);
}

static void names_and_order_are_canonical(void **state) {
  (void)state;
  static const char *const want[] = {"tok_embeddings.weight",
                                     "layers.0.attention.wq.weight",
                                     "layers.0.attention.wk.weight",
                                     "layers.0.attention.wv.weight",
                                     "layers.0.attention.wo.weight",
                                     "layers.0.feed_forward.w1.weight",
                                     "layers.0.feed_forward.w2.weight",
                                     "layers.0.feed_forward.w3.weight",
                                     "layers.0.attention_norm.weight",
                                     "layers.0.ffn_norm.weight",
                                     "norm.weight",
                                     "output.weight"};
  static const int64_t shape[][2] = {{50, 32}, {32, 32}, {16, 32}, {16, 32}, {32, 32}, {40, 32},
                                     {32, 40}, {40, 32}, {1, 32},  {1, 32},  {1, 32},  {50, 32}};
  cov_llama_config c = sized(50, 32, 1, 4, 2, 40);
  cov_params params;
  c.tied = 0;
  cov_params_create(&params);
  assert_ok(cov_llama_params(&c, &params));
  assert_int_equal(params.n, 12);
  for (int i = 0; i < params.n; i++) {
    assert_string_equal(params.item[i].name, want[i]);
    assert_int_equal(params.item[i].rows, shape[i][0]);
    assert_int_equal(params.item[i].cols, shape[i][1]);
    assert_int_equal(params.item[i].decay, 1);
  }
  assert_status(cov_llama_params(&c, &params), COV_EUSAGE); /* not empty any more */
  cov_params_destroy(&params);
}

static const cov_param *named(const cov_params *params, const char *name) {
  int i = cov_params_find(params, name);
  if (i < 0) fail_msg("no tensor %s", name);
  return &params->item[i];
}

static void check_init(const cov_params *params, const char *name, double std, double bound) {
  const cov_param *t = named(params, name);
  assert_int_equal(t->init, COV_INIT_NORMAL);
  assert_true(fabs((double)t->init_std - std) < 1e-7 * std);
  assert_true(fabs((double)t->init_bound - bound) <= 1e-7 * bound);
}

static void initial_deviations_follow_the_protocol(void **state) {
  (void)state;
  cov_llama_config c = sized(50, 64, 3, 4, 2, 40);
  cov_params params;
  c.tied = 0;
  cov_params_create(&params);
  assert_ok(cov_llama_params(&c, &params));
  check_init(&params, "tok_embeddings.weight", 1.0, 0.0);
  check_init(&params, "layers.2.attention.wq.weight", 0.02, 2.0);
  check_init(&params, "layers.2.attention.wk.weight", 0.02, 2.0);
  check_init(&params, "layers.2.attention.wv.weight", 0.02, 2.0);
  check_init(&params, "layers.2.feed_forward.w1.weight", 0.02, 2.0);
  check_init(&params, "layers.0.attention.wo.weight", 0.02 / sqrt(2.0), 2.0);
  check_init(&params, "layers.2.attention.wo.weight", 0.02 / sqrt(6.0), 2.0);
  check_init(&params, "layers.2.feed_forward.w2.weight", 0.02 / sqrt(6.0), 2.0);
  check_init(&params, "layers.2.feed_forward.w3.weight", 0.02 / sqrt(6.0), 2.0);
  check_init(&params, "output.weight", 0.125, 0.375);
  assert_int_equal(named(&params, "norm.weight")->init, COV_INIT_ONE);
  assert_int_equal(named(&params, "layers.1.ffn_norm.weight")->init, COV_INIT_ONE);
  cov_params_destroy(&params);
  c.tied = 1;
  c.depth_init = 0;
  assert_ok(cov_llama_params(&c, &params));
  check_init(&params, "tok_embeddings.weight", 0.02, 0.06);
  check_init(&params, "layers.2.attention.wo.weight", 0.02, 2.0);
  assert_int_equal(cov_params_find(&params, "output.weight"), -1);
  cov_params_destroy(&params);
}

static void bad_configurations_are_named(void **state) {
  (void)state;
  const cov_llama_config good = sized(50, 32, 2, 4, 2, 40);
  cov_llama_config c = good;
  assert_ok(cov_llama_config_verify(&c));
#define REFUSED(field, value, word)                                                           \
  do {                                                                                        \
    c = good;                                                                                 \
    c.field = (value);                                                                        \
    assert_status(cov_llama_config_verify(&c), COV_EUSAGE);                                   \
    if (!strstr(cov_error_text(), word)) fail_msg("'%s' lacks '%s'", cov_error_text(), word); \
  } while (0)
  REFUSED(vocab, 1, "vocab");
  REFUSED(dim, 0, "dim");
  REFUSED(dim, 34, "no multiple of heads");
  REFUSED(layers, 0, "layers");
  REFUSED(heads, 0, "heads");
  REFUSED(kv_heads, 3, "no multiple of kv_heads");
  REFUSED(kv_heads, 5, "kv_heads");
  REFUSED(head_dim, 7, "even");
  REFUSED(dim, 12, "even");
  REFUSED(ffn, -4, "ffn");
  REFUSED(seq_len, 0, "seq_len");
  REFUSED(rope_theta, NAN, "rope_theta");
  REFUSED(rope_theta, 1.0, "rope_theta");
  REFUSED(norm_eps, 0.0, "norm_eps");
  REFUSED(init_std, -0.1, "init_std");
  REFUSED(init_embed_std, INFINITY, "init_embed_std");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(v20_widths),
      cmocka_unit_test(v20_parameter_counts),
      cmocka_unit_test(flops_count_the_head_but_not_the_lookup),
      cmocka_unit_test(names_and_order_are_canonical),
      cmocka_unit_test(initial_deviations_follow_the_protocol),
      cmocka_unit_test(bad_configurations_are_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
