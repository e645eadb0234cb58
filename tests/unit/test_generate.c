/* Generated text: greedy is the most likely token of a full forward pass, samples follow the distribution that is asked
 * for, a seed gives one text, ends and limits are kept. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/generate.h"
#include "support.h"

enum { V = 13, T = 12 };

typedef struct {
  cov_llama_config config;
  cov_params params;
  float *theta;
  cov_generator *generator;
} bench;

static void open_bench(bench *b) {
  *b = (bench){0};
  cov_llama_config_default(&b->config);
  b->config.vocab = V;
  b->config.dim = 16;
  b->config.layers = 2;
  b->config.heads = 2;
  b->config.kv_heads = 1;
  b->config.ffn = 24;
  b->config.seq_len = T;
  b->config.init_std = 0.5; /* so that the distribution is far from even */
  cov_params_create(&b->params);
  assert_ok(cov_llama_params(&b->config, &b->params));
  b->theta = calloc((size_t)b->params.span, sizeof *b->theta);
  assert_ok(cov_params_init(&b->params, 5, b->theta));
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  assert_ok(cov_generator_create(&b->config, &b->params, cov_ops_ref(), &place, &b->generator));
}

static void close_bench(bench *b) {
  cov_generator_destroy(&b->generator);
  cov_params_destroy(&b->params);
  free(b->theta);
}

static void begin(cov_token_list *list) {
  *list = (cov_token_list){0};
  assert_ok(cov_token_list_add(list, 3));
  assert_ok(cov_token_list_add(list, 7));
}

static void greedy_takes_the_most_likely_of_a_full_pass(void **state) {
  (void)state;
  bench b;
  cov_token_list list;
  cov_pcg64 random;
  cov_llama *model;
  float logits[T * V];
  open_bench(&b);
  begin(&list);
  cov_pcg64_open(&random, 1);
  assert_ok(cov_generate(b.generator, b.theta, &(cov_sampling){.top_p = 1}, &random, V, 100, &list));
  assert_int_equal(list.n, T); /* the context is full */
  const cov_llama_shape shape = {.batch = 1, .seq_len = T, .evaluate_only = 1};
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  assert_ok(cov_llama_create(&b.config, &b.params, &shape, cov_ops_ref(), &place, &model));
  int32_t tokens[T];
  for (int i = 0; i < T; i++) tokens[i] = (int32_t)list.ids[i];
  const cov_llama_batch batch = {.tokens = tokens, .B = 1, .T = T};
  assert_ok(cov_llama_logits(model, b.theta, &batch, 0, T, logits)); /* all positions in one pass */
  for (int t = 1; t + 1 < T; t++) {
    int best = 0;
    for (int v = 1; v < V; v++) {
      if (logits[t * V + v] > logits[t * V + best]) best = v;
    }
    assert_int_equal(list.ids[t + 1], best);
  }
  cov_llama_destroy(&model);
  cov_token_list_free(&list);
  close_bench(&b);
}

static void the_end_of_a_document_ends_the_text(void **state) {
  (void)state;
  bench b;
  cov_token_list free_run, ended;
  cov_pcg64 random;
  open_bench(&b);
  begin(&free_run);
  begin(&ended);
  cov_pcg64_open(&random, 1);
  assert_ok(cov_generate(b.generator, b.theta, &(cov_sampling){.top_p = 1}, &random, V, 100, &free_run));
  uint32_t eos = free_run.ids[4];
  size_t first = 2;
  while (free_run.ids[first] != eos) first++;
  assert_ok(cov_generate(b.generator, b.theta, &(cov_sampling){.top_p = 1}, &random, eos, 100, &ended));
  assert_int_equal(ended.n, first); /* up to it, without it */
  cov_token_list_free(&ended);
  begin(&ended);
  assert_ok(cov_generate(b.generator, b.theta, &(cov_sampling){.top_p = 1}, &random, V, 3, &ended));
  assert_int_equal(ended.n, 5);
  cov_token_list_free(&free_run);
  cov_token_list_free(&ended);
  close_bench(&b);
}

static void a_seed_gives_one_text(void **state) {
  (void)state;
  bench b;
  cov_token_list text[3];
  const cov_sampling how = {.temperature = 1, .top_p = 1};
  open_bench(&b);
  for (int i = 0; i < 3; i++) {
    cov_pcg64 random;
    cov_pcg64_open(&random, i == 2 ? 9 : 8);
    begin(&text[i]);
    assert_ok(cov_generate(b.generator, b.theta, &how, &random, V, 100, &text[i]));
  }
  assert_memory_equal(text[0].ids, text[1].ids, T * sizeof *text[0].ids);
  assert_memory_not_equal(text[0].ids, text[2].ids, T * sizeof *text[0].ids);
  for (int i = 0; i < 3; i++) cov_token_list_free(&text[i]);
  close_bench(&b);
}

/* The distribution by its definition: sort by repeated search, cut at k, then at p, normalise. */
static void plain_distribution(const float *logits, int n, const cov_sampling *s, double *p) {
  int order[V];
  double weight[V], all = 0, sum = 0;
  bool used[V] = {false};
  for (int i = 0; i < n; i++) {
    int best = -1;
    for (int v = 0; v < n; v++) {
      if (!used[v] && (best < 0 || logits[v] > logits[best])) best = v;
    }
    used[best] = true;
    order[i] = best;
    weight[i] = s->top_k > 0 && i >= s->top_k ? 0 : exp((double)logits[best] / s->temperature);
    all += weight[i];
  }
  for (int v = 0; v < n; v++) p[v] = 0;
  for (int i = 0; i < n && sum < s->top_p * all; i++) {
    p[order[i]] = weight[i];
    sum += weight[i];
  }
  for (int v = 0; v < n; v++) p[v] /= sum;
}

static void samples_follow_the_distribution(void **state) {
  (void)state;
  enum { DRAWS = 40000 };
  static const cov_sampling cases[] = {{.temperature = 1, .top_p = 1},
                                       {.temperature = 0.5, .top_p = 1},
                                       {.temperature = 2, .top_k = 4, .top_p = 1},
                                       {.temperature = 1, .top_p = 0.7},
                                       {.temperature = 1, .top_k = 6, .top_p = 0.8},
                                       {.temperature = 1, .top_k = 1, .top_p = 1}};
  static const float logits[V] = {0.3f, -1, 2, 2, 0, 0.7f, -3, 1.5f, 0.1f, -0.2f, 0.3f, 1, -2};
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    double p[V];
    int count[V] = {0};
    cov_pcg64 random;
    cov_pcg64_open(&random, 17);
    plain_distribution(logits, V, &cases[c], p);
    for (int i = 0; i < DRAWS; i++) {
      float copy[V];
      uint32_t token;
      memcpy(copy, logits, sizeof copy);
      assert_ok(cov_sample_token(copy, V, &cases[c], &random, &token));
      assert_true(token < V);
      count[token]++;
    }
    for (int v = 0; v < V; v++) {
      /* six deviations of a binomial: with a fixed seed this is a fixed result, and a wrong rule is far outside */
      double bound = 6 * sqrt(DRAWS * p[v] * (1 - p[v])) + 1e-9;
      if (!(fabs(count[v] - DRAWS * p[v]) <= bound)) {
        fail_msg("case %zu: token %d came %d times, expected are %.0f", c, v, count[v], DRAWS * p[v]);
      }
    }
  }
}

static void what_cannot_be_is_refused(void **state) {
  (void)state;
  bench b;
  cov_token_list list;
  cov_pcg64 random;
  uint32_t token;
  open_bench(&b);
  begin(&list);
  cov_pcg64_open(&random, 1);
  static const cov_sampling bad[] = {{.temperature = -1, .top_p = 1},
                                     {.temperature = NAN, .top_p = 1},
                                     {.temperature = 1, .top_p = 0},
                                     {.temperature = 1, .top_p = 1.5},
                                     {.temperature = 1, .top_k = -1, .top_p = 1}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_status(cov_generate(b.generator, b.theta, &bad[i], &random, V, 5, &list), COV_EUSAGE);
  }
  float logits[3] = {1, NAN, 2};
  assert_status(cov_sample_token(logits, 3, &(cov_sampling){.top_p = 1}, &random, &token), COV_ENUMERIC);
  while (list.n < T) assert_ok(cov_token_list_add(&list, 1));
  assert_status(cov_generate(b.generator, b.theta, &(cov_sampling){.top_p = 1}, &random, V, 5, &list), COV_EUSAGE);
  list.n = 0;
  assert_status(cov_generate(b.generator, b.theta, &(cov_sampling){.top_p = 1}, &random, V, 5, &list), COV_EUSAGE);
  cov_token_list_free(&list);
  close_bench(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(greedy_takes_the_most_likely_of_a_full_pass),
      cmocka_unit_test(the_end_of_a_document_ends_the_text),
      cmocka_unit_test(a_seed_gives_one_text),
      cmocka_unit_test(samples_follow_the_distribution),
      cmocka_unit_test(what_cannot_be_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
