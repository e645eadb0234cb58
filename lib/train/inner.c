#include "train/inner.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/assign.h"
#include "optim/clip.h"

struct cov_inner {
  cov_inner_params p;
  cov_assign_params assign;
  const cov_params *params;
  const cov_dataset *data;
  const cov_ops *ops;
  cov_place place;
  int64_t T; /* tokens of a sample */
  uint32_t eos;
  cov_llama *model;
  cov_adamw adamw;
  float *grad;      /* [span] */
  int64_t *pool;    /* [n_pool] of the present round; the first n_consumed are trained on */
  uint32_t *sample; /* [T] */
  int32_t *tokens;  /* [batch_seqs, T] */
  int32_t *targets; /* [batch_seqs, T] */
  int64_t *count;   /* [micro-batches] targets of each */
};

/* What the steps of a round add up to. */
typedef struct {
  double loss_sum; /* nats */
  int64_t positions, steps;
} round_sum;

int64_t cov_inner_label(const uint32_t *sample, int64_t T, uint32_t eos, int mask_eos, int32_t *tokens,
                        int32_t *targets) {
  int64_t n = 0;
  for (int64_t t = 0; t < T; t++) {
    tokens[t] = (int32_t)sample[t];
    int counts = t + 1 < T && !(mask_eos && sample[t + 1] == eos);
    targets[t] = counts ? (int32_t)sample[t + 1] : -1;
    n += counts;
  }
  return n;
}

int64_t cov_inner_decay_steps(int64_t total_steps, int64_t warmup_steps, int64_t decay_steps) {
  if (decay_steps > 0) return decay_steps;
  return total_steps > warmup_steps ? total_steps - warmup_steps : 0;
}

/* ---- creation ---- */

static cov_status verify_params(const cov_inner_params *p) {
  const int64_t H = p->inner_steps, batch = p->batch_seqs, micro = p->micro_batch_seqs;
  if (p->peer < 0) return COV_FAIL(COV_EUSAGE, "peer number %lld is negative", (long long)p->peer);
  if (H < 1 || H > 1000000 || batch < 1 || batch > 1000000) { /* the limits of the option table */
    return COV_FAIL(COV_EUSAGE, "%lld inner steps of %lld sequences: both must be in 1 .. 1000000", (long long)H,
                    (long long)batch);
  }
  if (micro < 1 || batch % micro != 0) {
    return COV_FAIL(COV_EUSAGE, "a batch of %lld sequences does not divide into micro-batches of %lld",
                    (long long)batch, (long long)micro);
  }
  if (p->threads < 1) return COV_FAIL(COV_EUSAGE, "%d compute threads; at least 1 is needed", p->threads);
  return cov_schedule_verify(&p->schedule);
}

static cov_status take_buffers(cov_inner *in) {
  const size_t rows = (size_t)in->p.batch_seqs, T = (size_t)in->T;
  const size_t micros = (size_t)(in->p.batch_seqs / in->p.micro_batch_seqs);
  void *b[6] = {0};
  cov_status st = cov_mem_array(COV_SPACE_HOST, COV_MEM_GRADS, (size_t)in->params->span, sizeof(float), &b[0]);
  if (st == COV_OK) st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, (size_t)in->assign.n_pool, sizeof(int64_t), &b[1]);
  if (st == COV_OK) st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, T, sizeof(uint32_t), &b[2]);
  if (st == COV_OK) st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, rows, T * sizeof(int32_t), &b[3]);
  if (st == COV_OK) st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, rows, T * sizeof(int32_t), &b[4]);
  if (st == COV_OK) st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, micros, sizeof(int64_t), &b[5]);
  /* Owned from here on, also what an allocation that failed left behind it. */
  in->grad = b[0];
  in->pool = b[1];
  in->sample = b[2];
  in->tokens = b[3];
  in->targets = b[4];
  in->count = b[5];
  return st;
}

static cov_status prepare_model(cov_inner *in, const cov_llama_config *llama) {
  const cov_manifest *manifest = cov_dataset_manifest(in->data);
  if (llama->vocab < manifest->vocab) {
    return COV_FAIL(COV_EUSAGE, "the model has %lld embeddings, the data's vocabulary is %d", (long long)llama->vocab,
                    manifest->vocab);
  }
  const cov_llama_shape shape = {.batch = in->p.micro_batch_seqs, .seq_len = in->T};
  in->eos = manifest->eos;
  return cov_llama_create(llama, in->params, &shape, in->ops, &in->place, &in->model);
}

cov_status cov_inner_create(const cov_inner_params *p, const cov_llama_config *llama, const cov_params *params,
                            const cov_dataset *data, const cov_ops *ops, cov_inner **out) {
  *out = NULL;
  COV_TRY(verify_params(p));
  COV_TRY(cov_llama_config_verify(llama));
  cov_status st = COV_OK;
  cov_inner *in = calloc(1, sizeof *in);
  if (!in) return COV_FAIL(COV_ENOMEM, "no memory for the inner loop");
  in->p = *p;
  in->params = params;
  in->data = data;
  in->ops = ops;
  in->T = llama->seq_len;
  in->place = (cov_place){.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = p->threads};
  in->assign.n_samples = cov_dataset_samples(data, in->T);
  in->assign.n_consumed = p->inner_steps * p->batch_seqs;
  in->assign.n_pool = p->pool_samples > 0 ? p->pool_samples : in->assign.n_consumed;
  COV_TRY_DONE(cov_assign_verify(&in->assign));
  COV_TRY_DONE(take_buffers(in));
  COV_TRY_DONE(cov_adamw_create(&p->adamw, params->span, COV_SPACE_HOST, &in->adamw));
  COV_TRY_DONE(prepare_model(in, llama));
  *out = in;
  in = NULL;
done:
  cov_inner_destroy(&in);
  return st;
}

cov_adamw *cov_inner_adamw(cov_inner *inner) {
  return &inner->adamw;
}

void cov_inner_destroy(cov_inner **inner) {
  cov_inner *in = *inner;
  if (!in) return;
  cov_llama_destroy(&in->model);
  cov_adamw_destroy(&in->adamw);
  cov_mem_free(in->grad);
  cov_mem_free(in->pool);
  cov_mem_free(in->sample);
  cov_mem_free(in->tokens);
  cov_mem_free(in->targets);
  cov_mem_free(in->count);
  free(in);
  *inner = NULL;
}

/* ---- a round ---- */

cov_status cov_inner_samples(const cov_inner *inner, int64_t round, int64_t *ids) {
  const cov_assign_params *a = &inner->assign;
  void *pool;
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, (size_t)a->n_pool, sizeof(int64_t), &pool));
  cov_status st = cov_assign_pool(a, (uint64_t)inner->p.peer, (uint64_t)round, pool);
  if (st == COV_OK) cov_assign_slice(a, pool, 0, 1, ids);
  cov_mem_free(pool);
  return st;
}

/* Sixteen bytes out of 32 hex digits. */
static void unhex(const char *text, uint8_t *bytes) {
  static const char digits[] = "0123456789abcdef";
  for (int i = 0; i < COV_SAMPLE_DIGEST_BYTES; i++) {
    const char *high = strchr(digits, text[2 * i]), *low = strchr(digits, text[2 * i + 1]);
    COV_ASSERT(high && low);
    bytes[i] = (uint8_t)((high - digits) << 4 | (low - digits));
  }
}

static cov_status draw_pool(cov_inner *in, int64_t round, cov_inner_report *report) {
  char text[COV_DIGEST_TEXT];
  COV_TRY(cov_assign_pool(&in->assign, (uint64_t)in->p.peer, (uint64_t)round, in->pool));
  COV_TRY(cov_assign_digest(in->pool, in->assign.n_pool, text));
  unhex(text, report->sample_digest);
  return COV_OK;
}

/* Tokens and targets of the step's batch, *n_micro = micro-batches that have a target at all. */
static cov_status load_batch(cov_inner *in, int64_t index, int64_t *n_micro) {
  const int64_t *ids = in->pool + index * in->p.batch_seqs;
  *n_micro = 0;
  for (int64_t s = 0; s < in->p.batch_seqs; s++) {
    int64_t *count = &in->count[s / in->p.micro_batch_seqs];
    if (s % in->p.micro_batch_seqs == 0) *count = 0;
    COV_TRY(cov_dataset_sample(in->data, in->T, ids[s], in->sample));
    int64_t n =
        cov_inner_label(in->sample, in->T, in->eos, in->p.mask_eos, in->tokens + s * in->T, in->targets + s * in->T);
    *n_micro += *count == 0 && n > 0;
    *count += n;
  }
  return COV_OK;
}

/* The gradient of the batch into in->grad. A micro-batch without a target is left out of the mean, as the original
 * leaves it out of its count. */
static cov_status accumulate(cov_inner *in, int64_t n_micro, const float *work, cov_llama_loss *sum) {
  const int64_t micro = in->p.micro_batch_seqs, n = in->p.batch_seqs / micro;
  *sum = (cov_llama_loss){0};
  memset(in->grad, 0, (size_t)in->params->span * sizeof *in->grad);
  for (int64_t i = 0; i < n; i++) {
    if (in->count[i] == 0) continue;
    const int64_t first = i * micro * in->T;
    const cov_llama_batch batch = {
        .tokens = in->tokens + first, .targets = in->targets + first, .B = micro, .T = in->T};
    const float scale = (float)(1.0 / ((double)in->count[i] * (double)n_micro));
    cov_llama_loss loss;
    COV_TRY(cov_llama_grad(in->model, work, &batch, scale, in->grad, &loss));
    sum->loss_sum += loss.loss_sum;
    sum->count += loss.count;
  }
  return COV_OK;
}

static cov_status take_step(cov_inner *in, int64_t round, int64_t index, float *work, round_sum *sum) {
  const cov_inner_params *p = &in->p;
  cov_inner_step step = {.step = round * p->inner_steps + index, .index = index};
  int64_t n_micro;
  cov_llama_loss loss;
  COV_TRY(load_batch(in, index, &n_micro));
  step.lr = cov_schedule_lr(&p->schedule, step.step);
  if (n_micro > 0) {
    COV_TRY(accumulate(in, n_micro, work, &loss));
    step.positions = loss.count;
    step.loss = loss.loss_sum / (double)loss.count;
    COV_TRY(cov_loss_verify(in->params, in->ops, &in->place, work, step.loss, step.step));
    COV_TRY(cov_grad_norm(in->params, in->ops, &in->place, in->grad, &step.grad_norm));
    COV_TRY(cov_adamw_step(&in->adamw, in->params, in->ops, &in->place, work, in->grad, step.lr,
                           cov_clip_factor(step.grad_norm, p->clip_norm)));
    sum->loss_sum += loss.loss_sum;
    sum->positions += loss.count;
    sum->steps++;
  }
  if (p->on_step) p->on_step(p->arg, &step);
  return COV_OK;
}

cov_status cov_inner_round(cov_inner *inner, int64_t round, float *work, cov_inner_report *report) {
  *report = (cov_inner_report){0};
  if (round < 0 || round > INT64_MAX / inner->p.inner_steps - 1) {
    return COV_FAIL(COV_EUSAGE, "round %lld is out of range", (long long)round);
  }
  const double start = cov_clock_s();
  round_sum sum = {0};
  COV_TRY(draw_pool(inner, round, report));
  for (int64_t i = 0; i < inner->p.inner_steps; i++) COV_TRY(take_step(inner, round, i, work, &sum));
  report->loss = sum.positions > 0 ? sum.loss_sum / (double)sum.positions : 0.0;
  report->positions = sum.positions;
  report->steps = sum.steps;
  report->compute_s = cov_clock_s() - start;
  return COV_OK;
}
