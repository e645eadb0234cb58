#include "cli/bench_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "common/loop_settings.h"
#include "data/pcg64.h"

enum { VOCAB_DEFAULT = 1024, BYTE_VALUES = 256, SUCCESSORS = 8, PATH_BYTES = 4096 };

/* ---- made-up tokens ---- */

/* The next token: seven times in eight one of the last one's successors, the first ones more often. Never EOS (256), so
 * that every position but a sample's last has a target whatever data.mask_eos says. */
static uint32_t next_token(cov_pcg64 *g, uint32_t last) {
  uint32_t draw = cov_pcg64_upto(g, BYTE_VALUES * SUCCESSORS - 1);
  if (draw < BYTE_VALUES) return draw;
  uint32_t a = draw % SUCCESSORS, b = cov_pcg64_upto(g, SUCCESSORS - 1), rank = a < b ? a : b;
  return (last * 2654435761u + rank * 40503u) >> 7 & (BYTE_VALUES - 1);
}

static cov_status write_shard(const char *path, int64_t tokens, uint32_t seed) {
  enum { BLOCK = 4096 };
  uint32_t block[BLOCK], last = 0;
  cov_npy_writer w;
  cov_pcg64 g;
  cov_pcg64_open(&g, seed);
  COV_TRY(cov_npy_writer_open(path, COV_NPY_U16, &w));
  for (int64_t done = 0; done < tokens; done += BLOCK) {
    int64_t n = tokens - done < BLOCK ? tokens - done : BLOCK;
    for (int64_t i = 0; i < n; i++) block[i] = last = next_token(&g, last);
    cov_status st = cov_npy_writer_write(&w, block, n);
    if (st != COV_OK) {
      cov_npy_writer_drop(&w);
      return st;
    }
  }
  return cov_npy_writer_close(&w);
}

/* Byte tokenizer, and one shard that stands for both splits: a manifest names neither an empty one nor no source. */
static cov_status fill_manifest(const char *shard_path, int64_t tokens, cov_manifest *m) {
  uint8_t hash[COV_HASH_BYTES];
  char text[COV_HASH_TEXT], *file;
  size_t file_bytes;
  cov_tokenizer *t;
  cov_source_info *source;
  COV_TRY(cov_tokenizer_open_bytes(&t));
  cov_tokenizer_hash(t, hash);
  cov_hex(hash, sizeof hash, m->tokenizer_hash);
  m->tokenizer = COV_TOKENIZER_BYTES;
  m->vocab = cov_tokenizer_vocab(t);
  m->eos = cov_tokenizer_eos(t);
  m->dtype = COV_NPY_U16;
  cov_tokenizer_close(&t);
  COV_TRY(cov_file_read(shard_path, (size_t)1 << 34, &file, &file_bytes));
  cov_hash(file, file_bytes, sizeof hash, hash);
  cov_hex(hash, sizeof hash, text);
  free(file);
  memcpy(m->recipe, text, sizeof m->recipe);
  snprintf(m->settings, sizeof m->settings, "made up by covenant bench");
  COV_TRY(cov_manifest_add_source(m, "made up", &source));
  memcpy(source->hash, text, sizeof source->hash);
  for (int s = 0; s < COV_SPLIT_COUNT; s++) {
    cov_shard_info *shard;
    m->splits[s] = (cov_split_info){.tokens = tokens, .text_bytes = tokens, .documents = 1};
    COV_TRY(cov_manifest_add_shard(&m->splits[s], &shard));
    snprintf(shard->file, sizeof shard->file, "tokens.npy");
    memcpy(shard->hash, text, sizeof shard->hash);
    shard->tokens = tokens;
    shard->file_bytes = (int64_t)file_bytes;
  }
  return COV_OK;
}

/* The files are removed as soon as they are open: the mapping keeps the tokens, and nothing is left behind however this
 * program ends. */
static cov_status make_up_data(int64_t tokens, uint32_t seed, cov_dataset **out) {
  char folder[PATH_BYTES], shard[PATH_BYTES + 32], manifest[PATH_BYTES + 32];
  cov_manifest m = {0};
  const char *parent = getenv("TMPDIR");
  COV_TRY(cov_path(folder, sizeof folder, "%s/covenant-bench-XXXXXX", parent && *parent ? parent : "/tmp"));
  if (!mkdtemp(folder)) {
    return COV_FAIL(COV_EIO, "cannot make a folder %s for made-up tokens: %s; set TMPDIR", folder, strerror(errno));
  }
  cov_status st = cov_path(shard, sizeof shard, "%s/tokens.npy", folder);
  if (st == COV_OK) st = cov_path(manifest, sizeof manifest, "%s/" COV_MANIFEST_FILE, folder);
  if (st == COV_OK) st = write_shard(shard, tokens, seed);
  if (st == COV_OK) st = fill_manifest(shard, tokens, &m);
  if (st == COV_OK) st = cov_manifest_write(folder, &m);
  if (st == COV_OK) st = cov_dataset_open(folder, COV_VERIFY_SIZE, out);
  (void)unlink(shard);
  (void)unlink(manifest);
  (void)rmdir(folder);
  cov_manifest_free(&m);
  return st;
}

/* ---- settings ---- */

static void set_llama(const cov_config *cfg, cov_llama_config *out) {
  *out = (cov_llama_config){.vocab = cfg->model.vocab,
                            .dim = cfg->model.dim,
                            .layers = cfg->model.layers,
                            .heads = cfg->model.heads,
                            .kv_heads = cfg->model.kv_heads,
                            .ffn = cfg->model.ffn,
                            .seq_len = cfg->model.seq_len,
                            .rope_theta = cfg->model.rope_theta,
                            .norm_eps = cfg->model.norm_eps,
                            .tied = cfg->model.tied,
                            .depth_init = cfg->model.depth_init,
                            .init_std = cfg->model.init_std,
                            .init_embed_std = cfg->model.init_embed_std};
}

cov_status bench_model_open(const bench_request *q, int64_t samples, bench_model *model) {
  cov_status st = COV_OK;
  const char *why;
  *model = (bench_model){.ops = cov_backend_ops(&q->cfg)};
  cov_params_create(&model->params);
  set_llama(&q->cfg, &model->llama);
  model->place = (cov_place){.space = COV_SPACE_HOST, .threads = (int)q->cfg.train.threads};
  COV_TRY_DONE(cov_train_dtype(&q->cfg, &model->place.dtype, &why));
  if (why) fprintf(stderr, "note: fp32: %s\n", why);
  if (q->data) {
    COV_TRY_DONE(cov_dataset_open(q->data, COV_VERIFY_SIZE, &model->data));
    if (model->llama.vocab == 0) model->llama.vocab = cov_dataset_manifest(model->data)->vocab;
  } else if (samples > 0) {
    COV_TRY_DONE(make_up_data(samples * model->llama.seq_len, (uint32_t)q->cfg.run.seed, &model->data));
  }
  if (model->llama.vocab == 0) model->llama.vocab = VOCAB_DEFAULT;
  COV_TRY_DONE(cov_llama_params(&model->llama, &model->params));
done:
  if (st != COV_OK) bench_model_close(model);
  return st;
}

void bench_model_close(bench_model *model) {
  cov_params_destroy(&model->params);
  cov_dataset_close(&model->data);
}

cov_status bench_theta_create(const bench_request *q, const bench_model *model, float **theta) {
  void *p;
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_PARAMS, (size_t)model->params.span, sizeof(float), &p));
  cov_status st = cov_params_init(&model->params, (uint64_t)q->cfg.run.seed, p);
  if (st != COV_OK) {
    cov_mem_free(p);
    return st;
  }
  *theta = p;
  return COV_OK;
}

void bench_put_model(const bench_model *model, bench_report *report) {
  bench_put_text(report, "dtype", model->place.dtype == COV_BF16 ? "bf16" : "fp32");
  bench_put_text(report, "matmul", model->ops == cov_ops_cpu() ? cov_ops_cpu_matmul_name() : model->ops->name);
  bench_put_count(report, "params", model->params.elems);
  bench_put_count(report, "layers", model->llama.layers);
  bench_put_count(report, "dim", model->llama.dim);
  bench_put_count(report, "seq_len", model->llama.seq_len);
  bench_put_count(report, "vocab", model->llama.vocab);
}
