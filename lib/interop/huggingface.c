#include "interop/huggingface.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

static const struct {
  const char *ours, *theirs;
} layer_names[] = {
    {"attention.wq.weight", "self_attn.q_proj.weight"},    {"attention.wk.weight", "self_attn.k_proj.weight"},
    {"attention.wv.weight", "self_attn.v_proj.weight"},    {"attention.wo.weight", "self_attn.o_proj.weight"},
    {"feed_forward.w1.weight", "mlp.gate_proj.weight"},    {"feed_forward.w2.weight", "mlp.down_proj.weight"},
    {"feed_forward.w3.weight", "mlp.up_proj.weight"},      {"attention_norm.weight", "input_layernorm.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"}};
static const struct {
  const char *ours, *theirs;
} outer_names[] = {{"tok_embeddings.weight", "model.embed_tokens.weight"},
                   {"norm.weight", "model.norm.weight"},
                   {"output.weight", "lm_head.weight"}};

/* Past "layers.N."; *digits is what stands for N. NULL if the name is not of a layer. */
static const char *layer_part(const char *canonical, const char **digits, int *n_digits) {
  static const char prefix[] = "layers.";
  if (strncmp(canonical, prefix, sizeof prefix - 1) != 0) return NULL;
  *digits = canonical + sizeof prefix - 1;
  *n_digits = (int)strspn(*digits, "0123456789");
  if (*n_digits == 0 || *n_digits > 9 || (*digits)[*n_digits] != '.') return NULL;
  return *digits + *n_digits + 1;
}

cov_status cov_hf_name(const char *canonical, char *name, size_t name_bytes) {
  const char *digits;
  int n_digits, written = -1;
  const char *part = layer_part(canonical, &digits, &n_digits);
  for (size_t i = 0; part && i < sizeof layer_names / sizeof *layer_names; i++) {
    if (strcmp(part, layer_names[i].ours) != 0) continue;
    written = snprintf(name, name_bytes, "model.layers.%.*s.%s", n_digits, digits, layer_names[i].theirs);
  }
  for (size_t i = 0; !part && i < sizeof outer_names / sizeof *outer_names; i++) {
    if (strcmp(canonical, outer_names[i].ours) != 0) continue;
    written = snprintf(name, name_bytes, "%s", outer_names[i].theirs);
  }
  if (written < 0) return COV_FAIL(COV_EUSAGE, "%s is no tensor of a Llama", canonical);
  if ((size_t)written >= name_bytes) return COV_FAIL(COV_EUSAGE, "no room for the name of %s", canonical);
  return COV_OK;
}

int64_t cov_hf_permuted_heads(const char *canonical, const cov_llama_config *config) {
  const char *digits;
  int n_digits;
  const char *part = layer_part(canonical, &digits, &n_digits);
  if (part && strcmp(part, "attention.wq.weight") == 0) return config->heads;
  if (part && strcmp(part, "attention.wk.weight") == 0) return config->kv_heads ? config->kv_heads : config->heads;
  return 0;
}

/* Row of a head of width E in half-split order that is row `i` in interleaved order. */
static int64_t split_row(int64_t i, int64_t E) {
  return i / 2 + (i % 2) * (E / 2);
}

void cov_hf_rows_import(float *out, const float *in, int64_t rows, int64_t cols, int64_t heads) {
  const int64_t E = rows / heads;
  for (int64_t r = 0; r < rows; r++) {
    memcpy(out + r * cols, in + (r / E * E + split_row(r % E, E)) * cols, (size_t)cols * sizeof *out);
  }
}

void cov_hf_rows_export(float *out, const float *in, int64_t rows, int64_t cols, int64_t heads) {
  const int64_t E = rows / heads;
  for (int64_t r = 0; r < rows; r++) {
    memcpy(out + (r / E * E + split_row(r % E, E)) * cols, in + r * cols, (size_t)cols * sizeof *out);
  }
}

/* ---- import ---- */

static cov_status find_tensor(const cov_safetensors *st, const cov_param *t, int *index) {
  char name[COV_SAFETENSORS_NAME_MAX];
  COV_TRY(cov_hf_name(t->name, name, sizeof name));
  *index = cov_safetensors_find(st, name);
  if (*index < 0) return COV_FAIL(COV_EDATA, "%s has no tensor %s (our %s)", st->path, name, t->name);
  const cov_safetensors_item *item = &st->item[*index];
  int same =
      item->dims == t->dims && item->shape[t->dims - 1] == t->cols && (t->dims == 1 || item->shape[0] == t->rows);
  if (same) return COV_OK;
  return COV_FAIL(COV_EDATA,
                  "%s: tensor %s has %d dimensions, %lld elements, last dimension %lld; the model's %s is "
                  "%lld x %lld",
                  st->path, name, item->dims, (long long)item->elems,
                  (long long)(item->dims ? item->shape[item->dims - 1] : 1), t->name, (long long)t->rows,
                  (long long)t->cols);
}

/* One head at a time through a buffer, so that a large matrix is not held twice. */
static cov_status interleave(const cov_param *t, int64_t heads, float *matrix) {
  const int64_t E = t->rows / heads;
  if (t->rows % heads != 0 || E % 2 != 0) {
    return COV_FAIL(COV_EUSAGE, "%s: %lld rows are not %lld heads of even width", t->name, (long long)t->rows,
                    (long long)heads);
  }
  void *head = NULL;
  size_t bytes = (size_t)(E * t->cols) * sizeof(float);
  COV_TRY(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_SCRATCH, bytes, &head));
  for (int64_t h = 0; h < heads; h++) {
    memcpy(head, matrix + h * E * t->cols, bytes);
    cov_hf_rows_import(matrix + h * E * t->cols, head, E, t->cols, 1);
  }
  cov_mem_free(head);
  return COV_OK;
}

static int ends_with(const char *name, const char *end) {
  size_t n = strlen(name), e = strlen(end);
  return n >= e && strcmp(name + n - e, end) == 0;
}

static cov_status verify_no_others(const cov_safetensors *st, const cov_llama_config *config, int used) {
  int ignored = 0;
  const char *last = "";
  for (int i = 0; i < st->n; i++) {
    const char *name = st->item[i].name;
    int ignore = ends_with(name, ".inv_freq") || (config->tied && strcmp(name, "lm_head.weight") == 0);
    ignored += ignore;
    if (!ignore) last = name;
  }
  if (used + ignored == st->n) return COV_OK;
  return COV_FAIL(COV_EDATA,
                  "%s holds %d tensors, the model has %d: not this architecture or not this many layers (its "
                  "last tensor is %s)",
                  st->path, st->n - ignored, used, last);
}

cov_status cov_hf_import(const cov_safetensors *st, const cov_llama_config *config, const cov_params *params,
                         float *theta) {
  COV_TRY(verify_no_others(st, config, params->n));
  memset(theta, 0, (size_t)params->span * sizeof *theta);
  for (int i = 0; i < params->n; i++) {
    const cov_param *t = &params->item[i];
    int64_t heads = cov_hf_permuted_heads(t->name, config);
    int index;
    COV_TRY(find_tensor(st, t, &index));
    COV_TRY(cov_safetensors_read(st, index, theta + t->offset));
    if (heads > 0) COV_TRY(interleave(t, heads, theta + t->offset));
  }
  return COV_OK;
}
