/* `covenant bench`: what it counts. No speed is judged here: operations are compared with sums by hand and with a count
 * of every product the model asks for, made by a table of operations of this test's own.
 * covenant-test: timeout=120 */
#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "config/config.h"
#include "model/llama.h"
#include "ops.h"
#include "support.h"

static char *out_text, *err_text;
static const char *folder;

/* Runs `covenant bench ARGUMENTS` with its temporary files below `folder`/tmp. */
static int run(const char *arguments) {
  char command[4096], out[512], err[512];
  size_t bytes;
  const char *bin = getenv("COVENANT_BIN");
  assert_non_null(bin);
  assert_ok(cov_path(out, sizeof out, "%s/out", folder));
  assert_ok(cov_path(err, sizeof err, "%s/err", folder));
  assert_ok(cov_path(command, sizeof command, "TMPDIR='%s/tmp' '%s/covenant' bench %s > '%s' 2> '%s'", folder, bin,
                     arguments, out, err));
  int status = system(command);
  assert_true(WIFEXITED(status));
  free(out_text);
  free(err_text);
  assert_ok(cov_file_read(out, 1 << 20, &out_text, &bytes));
  assert_ok(cov_file_read(err, 1 << 20, &err_text, &bytes));
  return WEXITSTATUS(status);
}

/* ---- JSON ---- */

static const char *skip_blanks(const char *p) {
  while (*p == ' ') p++;
  return p;
}

static const char *skip_string(const char *p) {
  if (*p++ != '"') return NULL;
  while (*p && *p != '"') {
    if ((unsigned char)*p < 0x20 || (*p == '\\' && !p[1])) return NULL;
    p += *p == '\\' ? 2 : 1;
  }
  return *p == '"' ? p + 1 : NULL;
}

static const char *skip_number(const char *p) {
  char *end;
  if (!isdigit((unsigned char)*p) && *p != '-') return NULL; /* strtod takes nan and inf, JSON does not */
  strtod(p, &end);
  return end > p ? end : NULL;
}

/* Behind the value at `p`, NULL if it is none. */
static const char *skip_value(const char *p) {
  p = skip_blanks(p);
  if (*p == '"') return skip_string(p);
  if (*p != '{' && *p != '[') return skip_number(p);
  const char close = *p == '{' ? '}' : ']';
  const int keyed = *p == '{';
  p = skip_blanks(p + 1);
  if (*p == close) return p + 1;
  for (;;) {
    if (keyed) {
      p = skip_string(skip_blanks(p));
      if (!p || *skip_blanks(p) != ':') return NULL;
      p = skip_blanks(p) + 1;
    }
    p = skip_value(p);
    if (!p) return NULL;
    p = skip_blanks(p);
    if (*p == close) return p + 1;
    if (*p++ != ',') return NULL;
  }
}

/* The value of `key` in the output; fails without it. */
static const char *value_of(const char *key) {
  char quoted[128];
  snprintf(quoted, sizeof quoted, "\"%s\":", key);
  const char *at = strstr(out_text, quoted);
  if (!at) fail_msg("no key %s in %s", key, out_text);
  return skip_blanks(at + strlen(quoted));
}

static double number(const char *key) {
  const char *at = value_of(key);
  if (!skip_number(at)) fail_msg("%s is no number in %s", key, out_text);
  return strtod(at, NULL);
}

static void assert_positive(const char *key) {
  double x = number(key);
  if (!(isfinite(x) && x > 0.0)) fail_msg("%s is %g", key, x);
}

static void assert_text(const char *key) {
  const char *at = value_of(key);
  if (*at != '"' || at[1] == '"') fail_msg("%s is no text, or empty", key);
}

static void assert_samples(const char *key) {
  char name[128];
  double median = number(key);
  assert_positive(key);
  snprintf(name, sizeof name, "%s_min", key);
  assert_true(number(name) > 0.0 && number(name) <= median);
  snprintf(name, sizeof name, "%s_max", key);
  assert_true(isfinite(number(name)) && number(name) >= median);
}

static void assert_close(double got, double want) {
  if (!(fabs(got - want) <= 1e-8 * fabs(want))) fail_msg("%.17g is not %.17g", got, want);
}

/* Runs it, checks that it is one line of JSON with what every bench says, and that no temporary file is left. */
static void run_json(const char *name, const char *settings) {
  char arguments[2048], tmp[512];
  assert_ok(cov_path(arguments, sizeof arguments, "%s --json --reps 3 %s", name, settings));
  if (run(arguments) != 0) fail_msg("%s failed: %s", arguments, err_text);
  const char *end = skip_value(out_text);
  if (!end || strcmp(end, "\n") != 0 || strchr(out_text, '\n') != end) fail_msg("not one line of JSON: %s", out_text);
  static const char *const texts[] = {"bench", "commit", "build", "cpu_model"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) assert_text(texts[i]);
  assert_int_equal(strncmp(value_of("bench") + 1, name, strlen(name)), 0);
  assert_true(number("reps") == 3 && number("threads") == 1);
  assert_positive("cpus");
  assert_positive("l3_bytes");
  assert_ok(cov_path(tmp, sizeof tmp, "%s/tmp", folder));
  DIR *d = opendir(tmp);
  assert_non_null(d);
  for (struct dirent *e; (e = readdir(d));) {
    if (e->d_name[0] != '.') fail_msg("%s was left in TMPDIR", e->d_name);
  }
  closedir(d);
}

/* ---- a model small enough for sums by hand ---- */

#define TINY                                                                                                 \
  "model.vocab=260 model.dim=8 model.layers=2 model.heads=2 model.kv_heads=1 model.ffn=12 model.seq_len=16 " \
  "data.batch_seqs=4 data.micro_batch_seqs=2 "
enum {
  /* A layer: wq 8x8, wk and wv 4x8, wo 8x8, w1, w2, w3 12x8. */
  TINY_LAYER = 64 + 32 + 32 + 64 + 3 * 96,
  TINY_HEAD = 260 * 8,
  TINY_MATRICES = 2 * TINY_LAYER + TINY_HEAD,
  TINY_GAINS = 5 * 8,
  TINY_PARAMS = TINY_MATRICES + TINY_GAINS,
  TINY_ATTENTION = 6 * 2 * 16 * 8, /* 6 L T d */
  TINY_TOKENS = 4 * 16
};

static cov_llama_config tiny(int tied, int kv_heads) {
  cov_llama_config c;
  cov_llama_config_default(&c);
  c.vocab = 260, c.dim = 8, c.layers = 2, c.heads = 2, c.ffn = 12, c.seq_len = 16;
  c.kv_heads = kv_heads;
  c.tied = tied;
  return c;
}

/* ---- counting every product, outside the program under test ---- */

static struct {
  double products, attention;
  int64_t calls;
} counted;

static void count_product(int64_t R, int64_t n, int64_t k) {
  counted.products += 2.0 * (double)R * (double)n * (double)k;
  counted.calls++;
}

static int count_linear_forward(const cov_place *p, void *y, int64_t ldy, cov_dtype y_dtype, const void *x, int64_t ldx,
                                const void *prepared, int64_t R, int64_t n, int64_t k) {
  count_product(R, n, k);
  return cov_ops_ref()->linear_forward(p, y, ldy, y_dtype, x, ldx, prepared, R, n, k);
}

static int count_input_gradient(const cov_place *p, void *dx, int64_t lddx, int add, const void *dy, int64_t lddy,
                                const void *prepared, int64_t R, int64_t n, int64_t k) {
  count_product(R, n, k);
  return cov_ops_ref()->linear_input_gradient(p, dx, lddx, add, dy, lddy, prepared, R, n, k);
}

static int count_weight_gradient(const cov_place *p, float *dw, const void *dy, int64_t lddy, const void *x,
                                 int64_t ldx, int64_t R, int64_t n, int64_t k) {
  count_product(R, n, k);
  return cov_ops_ref()->linear_weight_gradient(p, dw, dy, lddy, x, ldx, R, n, k);
}

/* Products that bypass the maps would be counted too. */
static int count_matmul(const cov_place *p, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const void *a,
                        int64_t lda, const void *b, int64_t ldb, float beta, void *c, int64_t ldc) {
  count_product(m, n, k);
  return cov_ops_ref()->matmul(p, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

/* Two products forward (q k^T, p v), each over half of the T x T pairs. */
static int count_forward(const cov_place *p, void *out, float *lse, const void *q, const void *k, const void *v,
                         int64_t B, int64_t T, int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk, int64_t ldv) {
  counted.attention += 2 * 2.0 * (double)(B * H * E) * (double)(T * T) / 2;
  return cov_ops_ref()->attention_forward(p, out, lse, q, k, v, B, T, H, K, E, ldq, ldk, ldv);
}

/* Four backward (dv, dp, dq, dk); scores that are computed again are work, but no model operations. */
static int count_backward(const cov_place *p, void *dq, void *dk, void *dv, const void *dout, const void *q,
                          const void *k, const void *v, const void *out, const float *lse, int64_t B, int64_t T,
                          int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk, int64_t ldv) {
  counted.attention += 4 * 2.0 * (double)(B * H * E) * (double)(T * T) / 2;
  return cov_ops_ref()->attention_backward(p, dq, dk, dv, dout, q, k, v, out, lse, B, T, H, K, E, ldq, ldk, ldv);
}

/* Counts what the gradient of B sequences of the model's length takes. */
static void count_gradient(const cov_llama_config *config, int64_t B) {
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  const cov_llama_shape shape = {.batch = B, .seq_len = config->seq_len, .head_rows = 7}; /* does not divide the rows */
  cov_ops ops = *cov_ops_ref();
  cov_params params;
  cov_llama *model;
  cov_llama_loss loss;
  ops.matmul = count_matmul;
  ops.linear_forward = count_linear_forward;
  ops.linear_input_gradient = count_input_gradient;
  ops.linear_weight_gradient = count_weight_gradient;
  ops.attention_forward = count_forward;
  ops.attention_backward = count_backward;
  cov_params_create(&params);
  assert_ok(cov_llama_params(config, &params));
  float *theta = aligned_alloc(64, (size_t)params.span * sizeof *theta), *grad = calloc((size_t)params.span, 4);
  int32_t *tokens = calloc((size_t)(B * config->seq_len), sizeof *tokens);
  assert_true(theta && grad && tokens);
  assert_ok(cov_params_init(&params, 1, theta));
  assert_ok(cov_llama_create(config, &params, &shape, &ops, &place, &model));
  const cov_llama_batch batch = {.tokens = tokens, .targets = tokens, .B = B, .T = config->seq_len};
  memset(&counted, 0, sizeof counted);
  assert_ok(cov_llama_grad(model, theta, &batch, 1.0f, grad, &loss));
  cov_llama_destroy(&model);
  cov_params_destroy(&params);
  free(theta), free(grad), free(tokens);
}

static void the_formula_is_the_sum_by_hand(void **state) {
  (void)state;
  cov_llama_config c = tiny(1, 1);
  assert_int_equal(TINY_MATRICES, 3040); /* so that the sum above is really one by hand */
  assert_true(cov_llama_flop_per_token(&c, 16) == 6.0 * 3080 + 1536.0);
  c.tied = 0; /* the lookup table does not count, the head does: the same */
  assert_true(cov_llama_flop_per_token(&c, 16) == 6.0 * 3080 + 1536.0);
}

/* The formula counts 6 for a gain of a norm too, which no product does: taken off here, the rest must agree exactly. */
static void the_formula_is_what_the_model_multiplies(void **state) {
  (void)state;
  for (int tied = 0; tied <= 1; tied++) {
    for (int kv_heads = 1; kv_heads <= 2; kv_heads++) {
      cov_llama_config c = tiny(tied, kv_heads);
      const double rows = 3.0 * 16.0, formula = cov_llama_flop_per_token(&c, 16) * rows;
      count_gradient(&c, 3);
      assert_true(counted.calls > 0);
      assert_true(counted.attention == 6.0 * 2 * 16 * 8 * rows);
      assert_true(counted.products + counted.attention == formula - 6.0 * TINY_GAINS * rows);
    }
  }
}

static void step_counts_what_the_model_multiplies(void **state) {
  (void)state;
  static const char *const settings[] = {TINY, TINY "model.tied=false", TINY "model.kv_heads=2 train.backend=ref"};
  for (int i = 0; i < 3; i++) {
    cov_llama_config c = tiny(i != 1, i == 2 ? 2 : 1);
    char arguments[512];
    assert_ok(cov_path(arguments, sizeof arguments, "%s --steps 2 --size 64", settings[i]));
    run_json("step", arguments);
    count_gradient(&c, 2);
    /* Two micro-batches of two sequences. */
    assert_close(number("gemm_flop_per_token") * TINY_TOKENS, 2.0 * counted.products);
    assert_close(number("flop_per_token"),
                 (counted.products + counted.attention) * 2.0 / TINY_TOKENS + 6.0 * TINY_GAINS);
    assert_true(number("tokens_per_step") == TINY_TOKENS && number("micro_batches") == 2);
    assert_true(number("steps_per_rep") == 2);
    assert_true(number("params") == (double)cov_llama_param_count(&c));
    assert_ok(cov_path(arguments, sizeof arguments, "%s --size 16", settings[i]));
    run_json("gemm", arguments);
    assert_close(number("gemm_flop_per_step"), 2.0 * counted.products);
  }
}

static void step_has_its_keys(void **state) {
  (void)state;
  run_json("step", TINY "--steps 3 --size 64");
  static const char *const samples[] = {"tokens_per_s", "flops_per_s", "gemm_flops_per_s", "square_flops_per_s",
                                        "step_s"};
  for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) assert_samples(samples[i]);
  assert_close(number("ratio"), number("flops_per_s") / number("gemm_flops_per_s"));
  assert_samples("gemm_of_square");
  assert_samples("ratio_of_rep");
  assert_samples("ratio_cpu");
  assert_samples("step_cpu_s");
  /* Three repetitions: the medians belong to one of them. */
  assert_close(number("flops_per_s"), number("tokens_per_s") * number("flop_per_token"));
  assert_close(number("tokens_per_s"), TINY_TOKENS / number("step_s"));
  assert_true(number("flop_per_token") == 6.0 * TINY_PARAMS + TINY_ATTENTION);
  assert_true(number("gemm_flop_per_token") == 6.0 * TINY_MATRICES);
  assert_text("dtype");
  assert_text("matmul");
  assert_text("source");
}

/* A processor without bf16 products, as oneDNN can be told to be; without oneDNN it is the same. */
static void bf16_is_refused_by_name_and_auto_falls_back(void **state) {
  (void)state;
  assert_int_equal(setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1), 0);
  assert_int_equal(run("step --json --reps 1 --steps 1 --size 64 " TINY "train.dtype=bf16"), 2);
  assert_non_null(strstr(err_text, "train.dtype=bf16: this "));
  run_json("step", TINY "--steps 1 --size 64");
  assert_non_null(strstr(err_text, "note: fp32: this "));
  assert_int_equal(strncmp(value_of("dtype"), "\"fp32\"", 6), 0);
  assert_int_equal(unsetenv("ONEDNN_MAX_CPU_ISA"), 0);
  run_json("step", TINY "--steps 1 --size 64 train.dtype=fp32");
  assert_null(strstr(err_text, "note: fp32"));
  if (cov_ops_cpu_avoids(COV_BF16)) return;
  run_json("step", TINY "--steps 1 --size 64");
  assert_int_equal(strncmp(value_of("dtype"), "\"bf16\"", 6), 0);
}

static void gemm_has_its_keys(void **state) {
  (void)state;
  run_json("gemm", TINY "--size 32");
  assert_samples("square_flops_per_s");
  assert_samples("gemm_flops_per_s");
  assert_close(number("ratio"), number("gemm_flops_per_s") / number("square_flops_per_s"));
  assert_true(number("square_size") == 32);
  /* The rows of the list add up to the step. */
  double flop = 0.0;
  const char *all = out_text;
  int rows = 0;
  for (char *at = strstr(all, "{\"form\""); at; at = strstr(at + 1, "{\"form\"")) {
    double m = strtod(strstr(at, "\"m\": ") + 5, NULL), n = strtod(strstr(at, "\"n\": ") + 5, NULL);
    double k = strtod(strstr(at, "\"k\": ") + 5, NULL), calls = strtod(strstr(at, "\"calls\": ") + 9, NULL);
    assert_true(strtod(strstr(at, "\"flops_per_s\": ") + 15, NULL) > 0.0);
    flop += 2.0 * m * n * k * calls;
    rows++;
  }
  assert_true(rows > 3);
  assert_close(flop, number("gemm_flop_per_step"));
}

/* One row a dtype. */
static void attention_has_its_keys(void **state) {
  (void)state;
  run_json("attention", TINY "--size 32");
  assert_non_null(strstr(out_text, "\"dtype\": \"fp32\""));
  static const char *const samples[] = {"forward_flops_per_s", "backward_flops_per_s", "product_flops_per_s", "ratio",
                                        "ratio_cpu"};
  for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) assert_samples(samples[i]);
}

static void stream_has_its_keys(void **state) {
  (void)state;
  run_json("stream", "--bytes 65536");
  assert_samples("copy_bytes_per_s");
  assert_samples("triad_bytes_per_s");
  assert_samples("sweep_bytes_per_s");
  assert_true(number("array_bytes") == 65536);
}

/* Chunks of the tiny model (edge 64): embedding 260 x 8 in blocks of 52 x 8 (the largest divisor below 64), matrices
 * whole, gains whole. k = 64, or the whole chunk if that is smaller: wk and wv (32), the gains (8). */
static void codec_counts_what_it_sends(void **state) {
  (void)state;
  run_json("codec", TINY "run.peers=3 sync.inner_steps=2 --rounds 2 --bytes 65536");
  const double sent = 5 * 64 + 2 * (64 + 32 + 32 + 64 + 3 * 64) + 5 * 8;
  assert_true(number("values_sent") == sent);
  assert_true(number("params") == TINY_PARAMS);
  assert_true(number("payload_bytes") > 0.9 * sent); /* 7.5 bits of index and 1 of code, but for whole chunks */
  /* The coder of the run, on the first of three peers, whose payloads differ a little in length. */
  assert_float_equal(number("rice_bits_per_value") / number("bits_per_value"), 1.0, 0.05);
  assert_true(number("split_bits_per_value") > 0 && number("index_entropy_bits_per_value") > 0);
  assert_true(number("index_context_bits_per_value") > 0);
  assert_true(number("code_entropy_bits_per_value") > 0 && number("code_entropy_bits_per_value") < 2);
  assert_samples("rice_encode_values_per_cpu_s");
  assert_samples("rice_decode_values_per_cpu_s");
  assert_samples("split_encode_values_per_cpu_s");
  assert_samples("split_decode_values_per_cpu_s");
  assert_true(number("sign2_error") < number("sign1_error") && number("sign1_error") < 1);
  assert_close(number("bits_per_value"), 8.0 * number("payload_bytes") / sent);
  assert_close(number("ratio_fp32"), 4.0 * TINY_PARAMS / number("payload_bytes"));
  static const char *const samples[] = {"encode_params_per_s", "aggregate_params_per_s", "stream_bound_params_per_s",
                                        "check_bytes_per_s", "hash_bytes_per_s"};
  for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) assert_samples(samples[i]);
  assert_close(number("encode_of_bound"), number("encode_params_per_s") / number("stream_bound_params_per_s"));
  assert_true(number("compress_params_per_s") > number("encode_params_per_s")); /* without the payload and its digest */
  assert_true(number("peers") == 3 && number("round") == 1);
  assert_int_equal(strncmp(value_of("source"), "\"synthetic", 10), 0);
  assert_non_null(strstr(err_text, "2/2, loss"));
}

/* Dense strategies send every value: 32 bits each, or 8, and what frames them. */
static void codec_knows_the_strategies(void **state) {
  (void)state;
  static const struct {
    const char *name, *quantizer;
    double bits;
  } strategies[] = {{"dense", "\"none", 32}, {"diloco", "\"none", 32}, {"int8", "\"reference", 8}};
  for (size_t i = 0; i < sizeof strategies / sizeof *strategies; i++) {
    char settings[512];
    assert_ok(cov_path(settings, sizeof settings,
                       TINY "run.peers=2 sync.inner_steps=2 --rounds 2 --bytes 65536 "
                            "sync.outer_momentum=0.9 sync.strategy=%s",
                       strategies[i].name));
    run_json("codec", settings);
    assert_true(number("values_sent") == TINY_PARAMS);
    assert_true(8.0 * number("payload_bytes") > strategies[i].bits * TINY_PARAMS);
    assert_int_equal(strncmp(value_of("strategy") + 1, strategies[i].name, strlen(strategies[i].name)), 0);
    assert_int_equal(strncmp(value_of("quantizer"), strategies[i].quantizer, strlen(strategies[i].quantizer)), 0);
    assert_samples("aggregate_params_per_s");
  }
}

static void without_json_it_is_a_table(void **state) {
  (void)state;
  assert_int_equal(run("stream --reps 1 --bytes 65536"), 0);
  assert_non_null(strstr(out_text, "copy_bytes_per_s"));
  assert_null(strchr(out_text, '{'));
  assert_int_equal(run("--help"), 0);
  assert_non_null(strstr(out_text, "codec"));
}

static void the_default_is_the_quickstart(void **state) {
  (void)state;
  char settings[1024];
  run_json("gemm", "--size 16");
  double params = number("params"), flop = number("gemm_flop_per_step");
  assert_true(params == 918656);
  assert_ok(cov_path(settings, sizeof settings, "--size 16 -c '%s'", test_source("configs/examples/quickstart.yaml")));
  run_json("gemm", settings);
  assert_true(number("params") == params && number("gemm_flop_per_step") == flop);
}

static void presets_have_the_sizes_they_name(void **state) {
  (void)state;
  const struct {
    const char *file;
    int64_t layers, dim, T, vocab, tokens, params;
  } presets[] = {{"configs/presets/bench-20m.yaml", 12, 384, 512, 8192, 4096, 22029696},
                 {"configs/presets/bench-125m.yaml", 12, 768, 1024, 32000, 2048, 124668672}};
  for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
    const char *file = test_source(presets[i].file);
    const cov_config_sources sources = {.files = &file, .n_files = 1};
    static cov_config cfg;
    assert_ok(cov_config_load(&sources, &cfg, NULL));
    const cov_llama_config c = {.vocab = cfg.model.vocab,
                                .dim = cfg.model.dim,
                                .layers = cfg.model.layers,
                                .heads = cfg.model.heads,
                                .kv_heads = cfg.model.kv_heads,
                                .ffn = cfg.model.ffn,
                                .tied = cfg.model.tied};
    assert_int_equal(cov_llama_param_count(&c), presets[i].params);
    assert_int_equal(cfg.model.layers, presets[i].layers);
    assert_int_equal(cfg.model.dim, presets[i].dim);
    assert_int_equal(cfg.model.seq_len, presets[i].T);
    assert_int_equal(cfg.model.vocab, presets[i].vocab);
    assert_int_equal(cfg.data.batch_seqs * cfg.model.seq_len, presets[i].tokens);
  }
}

static void mistakes_say_what_was_meant(void **state) {
  (void)state;
  static const struct {
    const char *arguments, *says;
  } wrong[] = {{"stpe", "did you mean 'step'?"},
               {"xyzzy", "'covenant bench --help' lists them"},
               {"", "which one?"},
               {"gemm --jsn", "did you mean '--json'?"},
               {"gemm extra", "neither a flag nor key=value"},
               {"gemm --reps 0", "--reps is 0; it must be in 1"},
               {"gemm --reps many", "is not an integer"},
               {"stream --bytes 12", "--bytes is 12"},
               {"step model.dmi=8", "did you mean"},
               {"step " TINY "model.vocab=100", "the data's vocabulary is 257"},
               {"codec --threads 300", "a shard has at most 256"}};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    if (run(wrong[i].arguments) != 2) fail_msg("exit code of: covenant bench %s", wrong[i].arguments);
    if (!strstr(err_text, wrong[i].says)) fail_msg("'%s' does not say '%s'", err_text, wrong[i].says);
    assert_string_equal(out_text, "");
  }
  assert_int_equal(run("step --data /nonexistent"), 3);
  assert_string_equal(out_text, "");
}

static int set_up(void **state) {
  (void)state;
  char tmp[512];
  folder = test_folder();
  snprintf(tmp, sizeof tmp, "%s/tmp", folder);
  return cov_dir_make(tmp) != COV_OK;
}

static int tear_down(void **state) {
  (void)state;
  free(out_text);
  free(err_text);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_formula_is_the_sum_by_hand),
      cmocka_unit_test(the_formula_is_what_the_model_multiplies),
      cmocka_unit_test(step_counts_what_the_model_multiplies),
      cmocka_unit_test(step_has_its_keys),
      cmocka_unit_test(bf16_is_refused_by_name_and_auto_falls_back),
      cmocka_unit_test(gemm_has_its_keys),
      cmocka_unit_test(attention_has_its_keys),
      cmocka_unit_test(stream_has_its_keys),
      cmocka_unit_test(codec_counts_what_it_sends),
      cmocka_unit_test(codec_knows_the_strategies),
      cmocka_unit_test(without_json_it_is_a_table),
      cmocka_unit_test(the_default_is_the_quickstart),
      cmocka_unit_test(presets_have_the_sizes_they_name),
      cmocka_unit_test(mistakes_say_what_was_meant),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
