#include "common/ranks.h"

#include "common/context.h"
#include "fsdp/layout.h"

cov_status cov_ranks_verify(const cov_config *cfg, const cov_params *params) {
  cov_grid grid;
  COV_TRY(cov_grid_create(params, (int)cfg->sync.chunk, 2, &grid));
  const int64_t most = cov_fsdp_ranks_most(&grid);
  cov_grid_destroy(&grid);
  if (cfg->run.ranks_per_peer <= most) return COV_OK;
  return COV_FAIL(
      COV_EUSAGE,
      "run.ranks_per_peer=%lld, but the model's largest tensor has %lld bands (rows of chunks) to share out: "
      "take at most %lld, or a smaller sync.chunk",
      (long long)cfg->run.ranks_per_peer, (long long)most, (long long)most);
}

cov_status cov_ranks_verify_settings(const cov_config *cfg, int data_vocab) {
  cov_config full = *cfg;
  cov_llama_config llama;
  cov_params params;
  if (full.model.vocab == 0) full.model.vocab = data_vocab;
  cov_app_llama(&full, &llama);
  COV_TRY(cov_llama_config_verify(&llama));
  cov_params_create(&params);
  cov_status st = cov_llama_params(&llama, &params);
  if (st == COV_OK) st = cov_ranks_verify(cfg, &params);
  cov_params_destroy(&params);
  return st;
}
