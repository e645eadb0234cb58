#include "train/inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/assign.h"
#include "optim/clip.h"

/* What a rank knows of a step once its gradient is there. */
typedef struct {
  double loss_sum; /* nats */
  int64_t count;
  double squares; /* of the own part of the gradient */
  int64_t bad;    /* its first tensor that is not finite */
} step_part;

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
  int64_t version; /* of the weights */
  cov_replica *replica;
  cov_optimizer optimizer; /* of the own part */
  int ranks;               /* that share the replica */
  int64_t seqs;            /* samples of a step that are this rank's */
  int64_t n_micro;         /* micro-batches that makes */
  int64_t *pool;           /* [n_pool] of the present round; the first n_consumed are trained on */
  uint32_t *sample;        /* [T] */
  int32_t *tokens;         /* [seqs, T] */
  int32_t *targets;        /* [seqs, T] */
  int64_t *count;          /* [n_micro] targets of each */
  int64_t *loaded; /* [1 + ranks, 1 + n_micro]: own and everyone's status, and whether each micro-batch has a target */
  step_part *part; /* [ranks] of the present step */
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
  const int ranks = p->ranks ? p->ranks->size : 1;
  if (micro < 1 || batch % micro != 0 || batch / micro % ranks != 0) {
    return COV_FAIL(COV_EUSAGE, "a batch of %lld sequences does not divide into micro-batches of %lld on %d rank%s",
                    (long long)batch, (long long)micro, ranks, ranks > 1 ? "s" : "");
  }
  if (p->threads < 1) return COV_FAIL(COV_EUSAGE, "%d compute threads; at least 1 is needed", p->threads);
  return cov_schedule_verify(&p->schedule);
}

static cov_status take_buffers(cov_inner *in) {
  const size_t rows = (size_t)in->seqs, T = (size_t)in->T, words = 1 + (size_t)in->n_micro;
  void *b[7] = {0};
  cov_status st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, (size_t)in->assign.n_pool, sizeof(int64_t), &b[0]);
  if (st == COV_OK) st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, T, sizeof(uint32_t), &b[1]);
  if (st == COV_OK) st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, rows, T * sizeof(int32_t), &b[2]);
  if (st == COV_OK) st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, rows, T * sizeof(int32_t), &b[3]);
  if (st == COV_OK) st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, words, sizeof(int64_t), &b[4]);
  if (st == COV_OK) {
    st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, 1 + (size_t)in->ranks, words * sizeof(int64_t), &b[5]);
  }
  if (st == COV_OK) st = cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, (size_t)in->ranks, sizeof(step_part), &b[6]);
  /* Owned from here on, also what an allocation that failed left behind it. */
  in->pool = b[0];
  in->sample = b[1];
  in->tokens = b[2];
  in->targets = b[3];
  in->count = b[4];
  in->loaded = b[5];
  in->part = b[6];
  return st;
}

static cov_status prepare_model(cov_inner *in, const cov_llama_config *llama) {
  const cov_manifest *manifest = in->data ? cov_dataset_manifest(in->data) : NULL;
  if (manifest && llama->vocab < manifest->vocab) {
    return COV_FAIL(COV_EUSAGE, "the model has %lld embeddings, the data's vocabulary is %d", (long long)llama->vocab,
                    manifest->vocab);
  }
  const cov_llama_shape shape = {
      .batch = in->p.micro_batch_seqs, .seq_len = in->T, .sharded = in->ranks > 1, .recompute = in->p.recompute};
  if (manifest) in->eos = manifest->eos;
  return cov_llama_create(llama, in->params, &shape, in->ops, &in->place, &in->model);
}

static cov_status apply_to_wholes(void *arg, float *x, int (*wants)(void *, int),
                                  cov_status (*work)(void *, int, float *), void *work_arg) {
  return cov_replica_apply(arg, x, wants, work, work_arg);
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
  in->place = (cov_place){.space = COV_SPACE_HOST, .dtype = p->dtype, .threads = p->threads};
  if (data) in->assign.n_samples = cov_dataset_samples(data, in->T);
  in->assign.n_consumed = p->inner_steps * p->batch_seqs;
  in->assign.n_pool = p->pool_samples > 0 ? p->pool_samples : in->assign.n_consumed;
  if (data) COV_TRY_DONE(cov_assign_verify(&in->assign));
  const cov_replica_params replica = {.llama = llama,
                                      .params = params,
                                      .ops = p->ranks,
                                      .chunk_edge = p->chunk_edge > 0 ? p->chunk_edge : COV_CHUNK_EDGE_MAX,
                                      .weights_shared = p->weights_shared};
  COV_TRY_DONE(cov_replica_create(&replica, &in->replica));
  in->ranks = cov_replica_size(in->replica);
  in->seqs = p->batch_seqs / in->ranks;
  in->n_micro = in->seqs / p->micro_batch_seqs;
  COV_TRY_DONE(take_buffers(in));
  const cov_optimizer_ranks wholes = {.shapes = params, .apply = apply_to_wholes, .arg = in->replica};
  COV_TRY_DONE(cov_optimizer_create(&p->optimizer, cov_replica_table(in->replica), in->ranks > 1 ? &wholes : NULL,
                                    COV_SPACE_HOST, &in->optimizer));
  COV_TRY_DONE(prepare_model(in, llama));
  *out = in;
  in = NULL;
done:
  cov_inner_destroy(&in);
  return st;
}

cov_optimizer *cov_inner_optimizer(cov_inner *inner) {
  return &inner->optimizer;
}

const cov_fsdp_layout *cov_inner_layout(const cov_inner *inner) {
  return cov_replica_layout(inner->replica);
}

void cov_inner_destroy(cov_inner **inner) {
  cov_inner *in = *inner;
  if (!in) return;
  cov_llama_destroy(&in->model);
  cov_optimizer_destroy(&in->optimizer);
  cov_replica_destroy(&in->replica);
  cov_mem_free(in->pool);
  cov_mem_free(in->sample);
  cov_mem_free(in->tokens);
  cov_mem_free(in->targets);
  cov_mem_free(in->count);
  cov_mem_free(in->loaded);
  cov_mem_free(in->part);
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

/* Tokens and targets of this rank's part of the step's batch. */
static cov_status load_batch(cov_inner *in, int64_t index) {
  const int64_t *ids = in->pool + index * in->p.batch_seqs + cov_replica_rank(in->replica) * in->seqs;
  for (int64_t s = 0; s < in->seqs; s++) {
    int64_t *count = &in->count[s / in->p.micro_batch_seqs];
    if (s % in->p.micro_batch_seqs == 0) *count = 0;
    COV_TRY(cov_dataset_sample(in->data, in->T, ids[s], in->sample));
    *count +=
        cov_inner_label(in->sample, in->T, in->eos, in->p.mask_eos, in->tokens + s * in->T, in->targets + s * in->T);
  }
  return COV_OK;
}

/* What every rank has loaded: in->loaded behind the own row. A rank that failed is a failure of all. */
static cov_status compare_batches(cov_inner *in, cov_status mine) {
  const int64_t words = 1 + in->n_micro;
  int64_t *own = in->loaded, *all = own + words;
  own[0] = mine;
  for (int64_t i = 0; i < in->n_micro; i++) own[1 + i] = mine == COV_OK && in->count[i] > 0;
  COV_TRY(cov_replica_totals(in->replica, own, (size_t)words * sizeof *own, all));
  for (int r = 0; r < in->ranks && mine == COV_OK; r++) {
    cov_status other = (cov_status)all[r * words];
    if (other != COV_OK) return COV_FAIL(other, "train rank %d of this peer could not load its batch: see its log", r);
  }
  return mine;
}

/* Over all ranks: micro-batches that have a target at all. */
static int64_t count_micros(const cov_inner *in) {
  const int64_t words = 1 + in->n_micro;
  int64_t n = 0;
  for (int r = 0; r < in->ranks; r++) {
    for (int64_t i = 0; i < in->n_micro; i++) n += in->loaded[(1 + r) * words + 1 + i];
  }
  return n;
}

/* Whether any rank's micro-batch number `i` has a target: then all ranks pass through the model together. */
static int is_wanted(const cov_inner *in, int64_t i) {
  for (int r = 0; r < in->ranks; r++) {
    if (in->loaded[(1 + r) * (1 + in->n_micro) + 1 + i]) return 1;
  }
  return 0;
}

/* The gradient of the batch into the replica. A micro-batch without a target is left out of the mean, as the original
 * leaves it out of its count. */
static cov_status accumulate(cov_inner *in, int64_t n_micro, cov_llama_loss *sum) {
  const int64_t micro = in->p.micro_batch_seqs;
  *sum = (cov_llama_loss){0};
  cov_llama_set_version(in->model, ++in->version); /* every step meets new weights, all its micro-batches the same */
  cov_replica_grad_begin(in->replica);
  for (int64_t i = 0; i < in->n_micro; i++) {
    if (!is_wanted(in, i)) continue;
    const int64_t first = i * micro * in->T;
    const cov_llama_batch batch = {
        .tokens = in->tokens + first, .targets = in->targets + first, .B = micro, .T = in->T};
    const float scale = in->count[i] > 0 ? (float)(1.0 / ((double)in->count[i] * (double)n_micro)) : 0.0f;
    cov_llama_loss loss;
    COV_TRY(cov_llama_grad_units(in->model, cov_replica_pass(in->replica), &batch, scale, &loss));
    sum->loss_sum += loss.loss_sum;
    sum->count += loss.count;
  }
  return cov_replica_grad_end(in->replica);
}

/* *all = the parts of all ranks, added in their order: the same bits everywhere. */
static cov_status add_parts(cov_inner *in, const step_part *mine, step_part *all) {
  const step_part *part = in->part;
  COV_TRY(cov_replica_totals(in->replica, mine, sizeof *mine, in->part));
  *all = part[0];
  for (int r = 1; r < in->ranks; r++) {
    all->loss_sum += part[r].loss_sum;
    all->count += part[r].count;
    all->squares += part[r].squares;
    if (part[r].bad < all->bad) all->bad = part[r].bad;
  }
  return COV_OK;
}

static cov_status sum_squares(cov_inner *in, const float *x, step_part *part) {
  int bad;
  COV_TRY(cov_sum_squares(cov_replica_table(in->replica), in->ops, &in->place, x, &part->squares, &bad));
  part->bad = bad;
  return COV_OK;
}

/* Loss and norm of the step, from all ranks; what is not finite is named. */
static cov_status judge(cov_inner *in, const cov_llama_loss *loss, cov_inner_step *step, step_part *all) {
  step_part mine = {.loss_sum = loss->loss_sum, .count = loss->count};
  COV_TRY(sum_squares(in, cov_replica_grad(in->replica), &mine));
  COV_TRY(add_parts(in, &mine, all));
  step->positions = all->count;
  step->loss = all->loss_sum / (double)all->count;
  step->grad_norm = sqrt(all->squares);
  if (isfinite(step->loss)) return cov_grad_verify(in->params, (int)all->bad);
  step_part weights;
  COV_TRY(sum_squares(in, cov_replica_theta(in->replica), &mine));
  COV_TRY(add_parts(in, &mine, &weights));
  return cov_loss_judge(in->params, step->loss, step->step, weights.squares, (int)weights.bad);
}

static cov_status take_step(cov_inner *in, int64_t round, int64_t index, round_sum *sum) {
  const cov_inner_params *p = &in->p;
  cov_inner_step step = {.step = round * p->inner_steps + index, .index = index};
  COV_TRY(compare_batches(in, load_batch(in, index)));
  const int64_t n_micro = count_micros(in);
  step.lr = cov_schedule_lr(&p->schedule, step.step);
  if (n_micro > 0) {
    cov_llama_loss loss;
    step_part all;
    COV_TRY(accumulate(in, n_micro, &loss));
    COV_TRY(judge(in, &loss, &step, &all));
    COV_TRY(cov_optimizer_step(&in->optimizer, in->ops, &in->place, cov_replica_theta(in->replica),
                               cov_replica_grad(in->replica), step.lr, cov_clip_factor(step.grad_norm, p->clip_norm)));
    COV_TRY(cov_replica_moved(in->replica));
    sum->loss_sum += all.loss_sum;
    sum->positions += all.count;
    sum->steps++;
  }
  if (p->on_step) p->on_step(p->arg, &step);
  return COV_OK;
}

cov_status cov_inner_round(cov_inner *inner, int64_t round, float *work, cov_inner_report *report) {
  *report = (cov_inner_report){0};
  if (!inner->data) return COV_FAIL(COV_EUSAGE, "there are no data to train on: this inner loop is only a plan");
  if (round < 0 || round > INT64_MAX / inner->p.inner_steps - 1) {
    return COV_FAIL(COV_EUSAGE, "round %lld is out of range", (long long)round);
  }
  const double start = cov_clock_s();
  round_sum sum = {0};
  COV_TRY(draw_pool(inner, round, report));
  COV_TRY(cov_replica_start(inner->replica, work));
  for (int64_t i = 0; i < inner->p.inner_steps; i++) COV_TRY(take_step(inner, round, i, &sum));
  COV_TRY(cov_replica_end(inner->replica));
  report->loss = sum.positions > 0 ? sum.loss_sum / (double)sum.positions : 0.0;
  report->positions = sum.positions;
  report->steps = sum.steps;
  report->compute_s = cov_clock_s() - start;
  return COV_OK;
}
