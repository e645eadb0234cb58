#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/llama.h"

void cov_llama_config_default(cov_llama_config *config) {
  *config = (cov_llama_config){
      .seq_len = 2048, .rope_theta = 500000.0, .norm_eps = 1e-5, .tied = 1, .depth_init = 1, .init_std = 0.02};
}

static int64_t kv_heads(const cov_llama_config *c) {
  return c->kv_heads ? c->kv_heads : c->heads;
}

static int64_t head_dim(const cov_llama_config *c) {
  return c->head_dim ? c->head_dim : c->dim / c->heads;
}

static cov_status verify_range(const char *name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return COV_OK;
  return COV_FAIL(COV_EUSAGE, "model: %s is %lld; it must be in %lld .. %lld", name, (long long)value, (long long)low,
                  (long long)high);
}

static cov_status verify_heads(const cov_llama_config *c) {
  if (c->head_dim == 0 && c->dim % c->heads != 0) {
    return COV_FAIL(COV_EUSAGE, "model: dim %lld is no multiple of heads %lld; change one, or set head_dim",
                    (long long)c->dim, (long long)c->heads);
  }
  if (c->heads % kv_heads(c) != 0) {
    return COV_FAIL(COV_EUSAGE, "model: heads %lld is no multiple of kv_heads %lld, so query heads cannot share them",
                    (long long)c->heads, (long long)c->kv_heads);
  }
  if (head_dim(c) < 2 || head_dim(c) % 2 != 0) {
    return COV_FAIL(COV_EUSAGE, "model: head width %lld (dim / heads, or head_dim) must be even: RoPE rotates pairs",
                    (long long)head_dim(c));
  }
  return COV_OK;
}

cov_status cov_llama_config_verify(const cov_llama_config *c) {
  COV_TRY(verify_range("vocab", c->vocab, 2, (int64_t)1 << 24));
  COV_TRY(verify_range("dim", c->dim, 1, (int64_t)1 << 20));
  COV_TRY(verify_range("layers", c->layers, 1, 4096));
  COV_TRY(verify_range("heads", c->heads, 1, 65536));
  COV_TRY(verify_range("kv_heads", c->kv_heads, 0, c->heads));
  COV_TRY(verify_range("head_dim", c->head_dim, 0, 65536));
  COV_TRY(verify_range("ffn", c->ffn, 1, (int64_t)1 << 22));
  COV_TRY(verify_range("seq_len", c->seq_len, 1, (int64_t)1 << 24));
  COV_TRY(verify_heads(c));
  if (!(c->rope_theta > 1.0 && c->rope_theta <= 1e12)) {
    return COV_FAIL(COV_EUSAGE, "model: rope_theta is %g; it must be above 1 and at most 1e12", c->rope_theta);
  }
  if (!(c->norm_eps > 0.0 && c->norm_eps < 1.0)) {
    return COV_FAIL(COV_EUSAGE, "model: norm_eps is %g; it must lie between 0 and 1", c->norm_eps);
  }
  if (!(c->init_std >= 0.0 && c->init_std <= 1.0) || !(c->init_embed_std >= 0.0 && c->init_embed_std <= 100.0)) {
    return COV_FAIL(COV_EUSAGE, "model: init_std %g (0 .. 1) or init_embed_std %g (0 .. 100) is out of range",
                    c->init_std, c->init_embed_std);
  }
  return COV_OK;
}

int64_t cov_llama_ffn_width(int64_t dim, double multiplier, int64_t multiple_of) {
  int64_t width = 2 * (4 * dim) / 3;
  if (multiplier > 0.0) width = (int64_t)(multiplier * (double)width);
  return (width + multiple_of - 1) / multiple_of * multiple_of;
}

int64_t cov_llama_param_count(const cov_llama_config *c) {
  int64_t wide = c->heads * head_dim(c), narrow = kv_heads(c) * head_dim(c);
  int64_t layer = 2 * c->dim * wide + 2 * c->dim * narrow + 3 * c->dim * c->ffn + 2 * c->dim;
  return c->layers * layer + c->dim + (c->tied ? 1 : 2) * c->vocab * c->dim;
}

double cov_llama_flop_per_token(const cov_llama_config *c, int64_t T) {
  int64_t n = cov_llama_param_count(c) - (c->tied ? 0 : c->vocab * c->dim);
  return 6.0 * (double)n + 6.0 * (double)c->layers * (double)T * (double)(c->heads * head_dim(c));
}

/* ---- the table ---- */

static cov_status add(cov_params *params, const char *name, int64_t rows, int64_t cols, double std, double bound) {
  cov_param t = {.dims = 2,
                 .rows = rows,
                 .cols = cols,
                 .decay = 1,
                 .init = COV_INIT_NORMAL,
                 .init_std = (float)std,
                 .init_bound = (float)bound};
  if (snprintf(t.name, sizeof t.name, "%s", name) >= (int)sizeof t.name) {
    return COV_FAIL(COV_EBUG, "tensor name %s is too long", name);
  }
  return cov_params_add(params, &t);
}

static cov_status add_gain(cov_params *params, const char *name, int64_t n) {
  cov_param t = {.dims = 1, .rows = 1, .cols = n, .decay = 1, .init = COV_INIT_ONE};
  if (snprintf(t.name, sizeof t.name, "%s", name) >= (int)sizeof t.name) {
    return COV_FAIL(COV_EBUG, "tensor name %s is too long", name);
  }
  return cov_params_add(params, &t);
}

static cov_status add_layer(const cov_llama_config *c, int64_t l, cov_params *params) {
  const double bound = 2.0; /* protocol 1.3: absolute, so it bites only with a large init_std */
  const double std = c->init_std, deep = c->depth_init ? std / sqrt(2.0 * (double)(l + 1)) : std;
  const int64_t D = c->dim, wide = c->heads * head_dim(c), narrow = kv_heads(c) * head_dim(c);
  const struct {
    const char *part;
    int64_t rows, cols;
    double std;
  } matrices[] = {{"attention.wq", wide, D, std},      {"attention.wk", narrow, D, std},
                  {"attention.wv", narrow, D, std},    {"attention.wo", D, wide, deep},
                  {"feed_forward.w1", c->ffn, D, std}, {"feed_forward.w2", D, c->ffn, deep},
                  {"feed_forward.w3", c->ffn, D, deep}};
  static const char *const gains[] = {"attention_norm", "ffn_norm"};
  char name[COV_PARAM_NAME_MAX];
  for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
    snprintf(name, sizeof name, "layers.%lld.%s.weight", (long long)l, matrices[i].part);
    COV_TRY(add(params, name, matrices[i].rows, matrices[i].cols, matrices[i].std, bound));
  }
  for (size_t i = 0; i < sizeof gains / sizeof *gains; i++) {
    snprintf(name, sizeof name, "layers.%lld.%s.weight", (long long)l, gains[i]);
    COV_TRY(add_gain(params, name, D));
  }
  return COV_OK;
}

cov_status cov_llama_params(const cov_llama_config *c, cov_params *params) {
  COV_TRY(cov_llama_config_verify(c));
  if (params->n != 0) return COV_FAIL(COV_EUSAGE, "the parameter table has %d tensors already", params->n);
  double embed = c->init_embed_std > 0.0 ? c->init_embed_std : c->tied ? 0.02 : 1.0;
  double output = 1.0 / sqrt((double)c->dim);
  COV_TRY(add(params, "tok_embeddings.weight", c->vocab, c->dim, embed, c->tied ? 3.0 * embed : 0.0));
  for (int64_t l = 0; l < c->layers; l++) COV_TRY(add_layer(c, l, params));
  COV_TRY(add_gain(params, "norm.weight", c->dim));
  if (!c->tied) COV_TRY(add(params, "output.weight", c->vocab, c->dim, output, 3.0 * output));
  return COV_OK;
}
