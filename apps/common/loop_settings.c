#include "common/loop_settings.h"

#include "data/assign.h"

/* A zero of the configuration says "off" or "the rest" where the schedule has values of its own for that. */
static void set_schedule(const cov_config *c, cov_schedule *s) {
  cov_schedule_default(s);
  s->base = c->train.lr;
  s->warmup_steps = c->train.warmup_steps;
  s->warmup_start_factor = c->train.lr_start_ratio;
  s->decay_steps =
      cov_inner_decay_steps(c->run.rounds * c->sync.inner_steps, c->train.warmup_steps, c->train.decay_steps);
  s->final_ratio = c->train.lr_min_ratio;
  s->flatten_start_step = c->train.flatten_start_steps;
  s->flatten_steps = c->train.flatten_steps;
  s->anneal_start_step = c->train.anneal_start_steps > 0 ? c->train.anneal_start_steps : -1;
  s->anneal_peak = c->train.anneal_peak_ratio;
  s->anneal_warmup_steps = c->train.anneal_warmup_steps;
  s->anneal_decay_steps = c->train.anneal_decay_steps;
}

static void set_optimizer(const cov_config *c, cov_optimizer_config *o) {
  static const cov_optimizer_kind kinds[] = {[COV_CFG_OPTIMIZER_ADAMW] = COV_OPTIMIZER_ADAMW,
                                             [COV_CFG_OPTIMIZER_MUON] = COV_OPTIMIZER_MUON,
                                             [COV_CFG_OPTIMIZER_SGD] = COV_OPTIMIZER_SGD};
  static const cov_muon_scale scales[] = {
      [COV_CFG_MUON_SCALE_RMS] = COV_MUON_SCALE_RMS, [COV_CFG_MUON_SCALE_SHAPE] = COV_MUON_SCALE_SHAPE};
  o->kind = kinds[c->train.optimizer];
  o->adamw = (cov_adamw_config){.beta1 = c->train.beta1,
                                .beta2 = c->train.beta2,
                                .eps = c->train.eps,
                                .decay = c->train.weight_decay,
                                .exempt_vectors = !c->train.decay_vectors};
  o->muon = (cov_muon_config){.momentum = c->train.muon_momentum,
                              .nesterov = c->train.muon_nesterov,
                              .steps = (int)c->train.muon_ns_steps,
                              .decay = c->train.muon_weight_decay,
                              .scale = scales[c->train.muon_scale],
                              .output = c->train.muon_output,
                              .adamw_lr_ratio = c->train.muon_adamw_lr_ratio};
}

void cov_inner_params_of(const cov_config *c, int64_t peer, cov_inner_params *out) {
  *out = (cov_inner_params){.peer = peer,
                            .inner_steps = c->sync.inner_steps,
                            .batch_seqs = c->data.batch_seqs,
                            .micro_batch_seqs = c->data.micro_batch_seqs,
                            .pool_samples = c->data.pool_samples,
                            .mask_eos = c->data.mask_eos,
                            .threads = c->train.threads > 0 ? (int)c->train.threads : 1,
                            .recompute = c->train.recompute == COV_CFG_RECOMPUTE_LAYER,
                            .clip_norm = c->train.clip_norm,
                            .chunk_edge = (int)c->sync.chunk,
                            .weights_shared = c->train.gather == COV_CFG_GATHER_SHARED};
  set_optimizer(c, &out->optimizer);
  set_schedule(c, &out->schedule);
}

cov_status cov_pool_verify(const cov_config *c, const cov_dataset *data) {
  int64_t consumed = c->sync.inner_steps * c->data.batch_seqs;
  const cov_assign_params assign = {.n_samples = cov_dataset_samples(data, c->model.seq_len),
                                    .n_pool = c->data.pool_samples > 0 ? c->data.pool_samples : consumed,
                                    .n_consumed = consumed};
  return cov_assign_verify(&assign);
}

const cov_ops *cov_backend_ops(const cov_config *c) {
  return c->train.backend == COV_CFG_BACKEND_REF ? cov_ops_ref() : cov_ops_cpu();
}

cov_status cov_train_dtype(const cov_config *c, cov_dtype *dtype, const char **why) {
  const int is_ref = c->train.backend == COV_CFG_BACKEND_REF; /* the oracle: bf16 only by name */
  *dtype = COV_F32;
  if (why) *why = NULL;
  if (c->train.dtype == COV_CFG_DTYPE_FP32) return COV_OK;
  if (c->train.dtype == COV_CFG_DTYPE_BF16) {
    const char *refusal = is_ref ? NULL : cov_ops_cpu_refuses(COV_BF16);
    if (refusal) return COV_FAIL(COV_EUSAGE, "train.dtype=bf16: %s; leave it at auto, or set fp32", refusal);
    *dtype = COV_BF16;
    return COV_OK;
  }
  if (is_ref) return COV_OK;
  const char *reason = cov_ops_cpu_avoids(COV_BF16);
  if (why) *why = reason;
  if (!reason) *dtype = COV_BF16;
  return COV_OK;
}

void cov_outer_settings_of(const cov_config *c, cov_outer_settings *out) {
  static const cov_quant_id quantisers[] = {[COV_CFG_QUANTIZER_REFERENCE] = COV_QUANT_REFERENCE,
                                            [COV_CFG_QUANTIZER_SIGN2] = COV_QUANT_SIGN2,
                                            [COV_CFG_QUANTIZER_SIGN1] = COV_QUANT_SIGN1,
                                            [COV_CFG_QUANTIZER_NONE] = COV_QUANT_NONE};
  static const cov_index_coder coders[] = {
      [COV_CFG_CODER_RICE] = COV_INDEX_RICE, [COV_CFG_CODER_SPLIT] = COV_INDEX_SPLIT};
  static const cov_combine combine[] = {[COV_CFG_STRATEGY_SPARSELOCO] = COV_COMBINE_SPARSELOCO,
                                        [COV_CFG_STRATEGY_DENSE] = COV_COMBINE_DENSE,
                                        [COV_CFG_STRATEGY_DILOCO] = COV_COMBINE_DILOCO,
                                        [COV_CFG_STRATEGY_INT8] = COV_COMBINE_INT8,
                                        [COV_CFG_STRATEGY_DEMO] = COV_COMBINE_DEMO};
  *out = (cov_outer_settings){.topk = (int)c->sync.topk,
                              .beta = (float)c->sync.ef_decay,
                              .momentum = (float)c->sync.outer_momentum,
                              .clip = c->sync.clip == COV_CFG_CLIP_MEDIAN,
                              .index_coder = coders[c->sync.index_coder]};
  out->quant.id = quantisers[c->sync.quantizer];
  out->quant.bins = cov_quant_bins((int)out->quant.id, (int)c->sync.bins);
  out->quant.range = (float)c->sync.range_sigma;
  cov_strategy_settle(combine[c->sync.strategy], out);
}

void cov_outer_params_of(const cov_config *c, cov_outer_params *out) {
  cov_outer_settings set;
  cov_outer_settings_of(c, &set);
  *out = (cov_outer_params){.alpha = (float)c->sync.outer_lr,
                            .mean = c->sync.aggregate == COV_CFG_AGGREGATE_PAPER ? COV_MEAN_PAPER : COV_MEAN_SENDERS,
                            .clip = set.clip,
                            .momentum = set.momentum,
                            .threads = (int)c->sync.threads};
}
