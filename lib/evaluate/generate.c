#include "evaluate/generate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

struct cov_generator {
  cov_llama *model;
  int64_t version; /* of the weights: one a call */
  int64_t V, T, choices;
  int32_t *tokens; /* [T] */
  float *logits;   /* [V] */
};

cov_status cov_sampling_verify(const cov_sampling *s) {
  if (!(s->temperature >= 0 && s->temperature <= 1000)) {
    return COV_FAIL(COV_EUSAGE, "temperature %g is outside [0, 1000]; 0 is greedy", s->temperature);
  }
  if (s->top_k < 0) return COV_FAIL(COV_EUSAGE, "top-k %" PRId64 " is negative; 0 keeps all tokens", s->top_k);
  if (!(s->top_p > 0 && s->top_p <= 1)) return COV_FAIL(COV_EUSAGE, "top-p %g is outside (0, 1]", s->top_p);
  return COV_OK;
}

/* ---- one token ---- */

typedef struct {
  float logit;
  uint32_t id;
} candidate;

static int likelier_first(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
  return (x->id > y->id) - (x->id < y->id);
}

static cov_status find_best(const float *logits, int64_t V, uint32_t *best) {
  *best = 0;
  for (int64_t i = 0; i < V; i++) {
    if (!isfinite(logits[i])) {
      return COV_FAIL(COV_ENUMERIC, "the logit of token %" PRId64 " is not finite: the weights are useless", i);
    }
    if (logits[i] > logits[*best]) *best = (uint32_t)i;
  }
  return COV_OK;
}

/* weight[n] in the order of c: exp of the logits against the largest. Returns how many stay, *sum their weight. */
static int64_t cut(const candidate *c, int64_t n, const cov_sampling *s, double *weight, double *sum) {
  double all = 0;
  if (s->top_k > 0 && s->top_k < n) n = s->top_k;
  for (int64_t i = 0; i < n; i++) {
    weight[i] = exp(((double)c[i].logit - (double)c[0].logit) / s->temperature);
    all += weight[i];
  }
  *sum = 0;
  for (int64_t i = 0; i < n; i++) {
    *sum += weight[i];
    if (*sum >= s->top_p * all) return i + 1;
  }
  return n;
}

cov_status cov_sample_token(float *logits, int64_t V, const cov_sampling *s, cov_pcg64 *random, uint32_t *token) {
  COV_TRY(find_best(logits, V, token));
  if (s->temperature == 0) return COV_OK;
  candidate *c = malloc((size_t)V * sizeof *c);
  double *weight = malloc((size_t)V * sizeof *weight), sum;
  if (!c || !weight) {
    free(c);
    free(weight);
    return COV_FAIL(COV_ENOMEM, "no memory to choose among %" PRId64 " tokens", V);
  }
  for (int64_t i = 0; i < V; i++) c[i] = (candidate){.logit = logits[i], .id = (uint32_t)i};
  qsort(c, (size_t)V, sizeof *c, likelier_first);
  int64_t n = cut(c, V, s, weight, &sum), at = 0;
  double left = cov_pcg64_double(random) * sum;
  while (at < n - 1 && left >= weight[at]) left -= weight[at++];
  *token = c[at].id;
  free(c);
  free(weight);
  return COV_OK;
}

/* ---- a text ---- */

cov_status cov_generator_create(const cov_llama_config *config, const cov_params *params, int64_t choices,
                                const cov_ops *ops, const cov_place *place, cov_generator **out) {
  cov_status st = COV_OK;
  *out = NULL;
  if (choices < 1 || choices > config->vocab) {
    return COV_FAIL(COV_EUSAGE, "%" PRId64 " tokens to choose from; the model has %" PRId64, choices, config->vocab);
  }
  cov_generator *g = calloc(1, sizeof *g);
  if (!g) return COV_FAIL(COV_ENOMEM, "no memory to generate text");
  g->V = config->vocab;
  g->T = config->seq_len;
  g->choices = choices;
  const cov_llama_shape shape = {.batch = 1, .seq_len = g->T, .evaluate_only = 1};
  COV_TRY_DONE(cov_llama_create(config, params, &shape, ops, place, &g->model));
  COV_TRY_DONE(cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, (size_t)g->T, sizeof *g->tokens, (void **)&g->tokens));
  COV_TRY_DONE(cov_mem_array(COV_SPACE_HOST, COV_MEM_SCRATCH, (size_t)g->V, sizeof *g->logits, (void **)&g->logits));
  *out = g;
  g = NULL;
done:
  cov_generator_destroy(&g);
  return st;
}

void cov_generator_destroy(cov_generator **g) {
  if (!*g) return;
  cov_llama_destroy(&(*g)->model);
  cov_mem_free((*g)->tokens);
  cov_mem_free((*g)->logits);
  free(*g);
  *g = NULL;
}

cov_status cov_generate(cov_generator *g, const float *theta, const cov_sampling *sampling, cov_pcg64 *random,
                        uint32_t eos, int64_t max_tokens, cov_token_list *list) {
  COV_TRY(cov_sampling_verify(sampling));
  if (list->n < 1 || (int64_t)list->n >= g->T) {
    return COV_FAIL(COV_EUSAGE, "a beginning of %zu tokens; the model's context holds 1 to %" PRId64 " and a next one",
                    list->n, g->T - 1);
  }
  for (size_t i = 0; i < list->n; i++) g->tokens[i] = (int32_t)list->ids[i];
  cov_llama_set_version(g->model, ++g->version); /* the same weights for all tokens of a call */
  for (int64_t made = 0; made < max_tokens && (int64_t)list->n < g->T; made++) {
    const cov_llama_batch batch = {.tokens = g->tokens, .B = 1, .T = (int64_t)list->n};
    uint32_t token;
    COV_TRY(cov_llama_logits(g->model, theta, &batch, batch.T - 1, 1, g->logits));
    COV_TRY(cov_sample_token(g->logits, g->choices, sampling, random, &token));
    if (token == eos) return COV_OK;
    g->tokens[list->n] = (int32_t)token;
    COV_TRY(cov_token_list_add(list, token));
  }
  return COV_OK;
}
