#include "eval/weights.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "checkpoint/checkpoint.h"

/* ---- which one ---- */

static bool is_checkpoint(const char *folder) {
  char path[COV_CKPT_PATH_BYTES];
  return cov_path(path, sizeof path, "%s/index.h5", folder) == COV_OK && cov_file_exists(path);
}

/* The newest below `parent` whose files are all as they were written. *ckpt NULL: there is none. */
static cov_status open_newest(const char *parent, cov_ckpt **ckpt, char folder[COV_CKPT_PATH_BYTES]) {
  cov_ckpt_entry *entries;
  int n;
  *ckpt = NULL;
  COV_TRY(cov_ckpt_list(parent, &entries, &n));
  cov_status st = COV_OK;
  for (int i = 0; i < n && !*ckpt && st == COV_OK; i++) {
    if (!entries[i].complete) continue;
    if (cov_ckpt_open(entries[i].folder, COV_CKPT_FULL, ckpt) != COV_OK) {
      cov_log_warn("checkpoint %s cannot be used: %s", entries[i].folder, cov_error_text());
      continue;
    }
    st = cov_path(folder, COV_CKPT_PATH_BYTES, "%s", entries[i].folder);
  }
  free(entries);
  return st;
}

/* Where a run keeps the checkpoints of peer N: beside run.yaml, or where that says. */
static cov_status open_in_run(const char *dir, cov_ckpt **ckpt, char folder[COV_CKPT_PATH_BYTES]) {
  char path[COV_CKPT_PATH_BYTES];
  static cov_config cfg;
  COV_TRY(cov_path(path, sizeof path, "%s/run.yaml", dir));
  cov_config_defaults(&cfg, NULL);
  if (cov_file_exists(path)) {
    const char *const files[] = {path};
    const cov_config_sources sources = {.files = files, .n_files = 1};
    COV_TRY(cov_config_load(&sources, &cfg, NULL));
  }
  for (int64_t peer = 0; peer < cfg.run.peers && !*ckpt; peer++) {
    COV_TRY(*cfg.checkpoint.dir ? cov_path(path, sizeof path, "%s/%" PRId64, cfg.checkpoint.dir, peer)
                                : cov_path(path, sizeof path, "%s/peers/%" PRId64 "/checkpoints", dir, peer));
    COV_TRY(open_newest(path, ckpt, folder));
  }
  return COV_OK;
}

static cov_status find(const char *dir, cov_ckpt **ckpt, char folder[COV_CKPT_PATH_BYTES]) {
  *ckpt = NULL;
  if (!cov_file_exists(dir)) return COV_FAIL(COV_EIO, "%s does not exist", dir);
  COV_TRY(cov_path(folder, COV_CKPT_PATH_BYTES, "%s", dir));
  if (is_checkpoint(dir)) return cov_ckpt_open(dir, COV_CKPT_FULL, ckpt);
  COV_TRY(open_newest(dir, ckpt, folder));
  if (!*ckpt) COV_TRY(open_in_run(dir, ckpt, folder));
  if (*ckpt) return COV_OK;
  return COV_FAIL(COV_EIO,
                  "%s holds no good checkpoint: give a checkpoint (.../000064), a folder of them, or a run directory",
                  dir);
}

/* ---- what is in it ---- */

static cov_status take_settings(const cov_ckpt_meta *meta, const char *const *overrides, int n, eval_weights *w) {
  char key[128];
  cov_config_defaults(&w->cfg, NULL);
  COV_TRY(cov_config_parse_yaml(&w->cfg, NULL, w->folder, meta->config, strlen(meta->config)));
  for (int i = 0; i < n; i++) {
    size_t length = strcspn(overrides[i], "=");
    COV_TRY(cov_path(key, sizeof key, "%.*s", (int)length, overrides[i]));
    COV_TRY(cov_config_set(&w->cfg, key, overrides[i] + length + 1, "command line"));
  }
  return cov_config_check(&w->cfg);
}

static cov_status open_data(const cov_ckpt_meta *meta, eval_weights *w) {
  uint8_t digest[32];
  COV_TRY(cov_dataset_open(w->cfg.data.dir, COV_VERIFY_SIZE, &w->data));
  COV_TRY(cov_app_identity(&w->cfg, cov_dataset_manifest(w->data), digest));
  if (memcmp(digest, meta->config_digest, sizeof digest) == 0) return COV_OK;
  return COV_FAIL(
      COV_EMISMATCH,
      "%s was trained on other data than those in %s (or a setting that the peers share was overridden): its "
      "tokens may mean other words; give the right folder with data.dir=DIR",
      w->folder, w->cfg.data.dir);
}

static cov_status read_theta(cov_ckpt *ckpt, eval_weights *w) {
  void *p;
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_PARAMS, (size_t)w->params.span, sizeof(float), &p));
  w->theta = p;
  for (int t = 0; t < w->params.n; t++) {
    const cov_param *param = &w->params.item[t];
    const cov_ckpt_piece want = {
        .group = "theta",
        .name = param->name,
        .dims = param->dims,
        .shape = {param->dims == 1 ? param->cols : param->rows, param->dims == 1 ? 0 : param->cols},
        .count = param->dims == 1 ? param->cols : param->rows};
    COV_TRY(cov_ckpt_read(ckpt, &want, w->theta + param->offset));
  }
  return COV_OK;
}

static cov_status take(cov_ckpt *ckpt, const char *const *overrides, int n, eval_weights *w) {
  const cov_ckpt_meta *meta = cov_ckpt_meta_of(ckpt);
  w->round = meta->round;
  w->peer = meta->peer;
  COV_TRY(take_settings(meta, overrides, n, w));
  COV_TRY(open_data(meta, w));
  cov_app_llama(&w->cfg, &w->llama);
  COV_TRY(cov_llama_config_verify(&w->llama));
  COV_TRY(cov_llama_params(&w->llama, &w->params));
  return read_theta(ckpt, w);
}

cov_status eval_weights_open(const char *dir, const char *const *overrides, int n, eval_weights *w) {
  cov_ckpt *ckpt;
  memset(w, 0, sizeof *w);
  cov_params_create(&w->params);
  cov_status st = find(dir, &ckpt, w->folder);
  if (st == COV_OK) st = take(ckpt, overrides, n, w);
  cov_ckpt_close(&ckpt);
  return st;
}

void eval_weights_close(eval_weights *w) {
  cov_dataset_close(&w->data);
  cov_params_destroy(&w->params);
  cov_mem_free(w->theta);
  w->theta = NULL;
}
