#include "fsdp_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "support.h"

enum { T = 12, MICROS = 30 }; /* 30 divides by 1, 2, 3, 5 */

void fsdp_model_create(int tied, fsdp_model *m) {
  memset(m, 0, sizeof *m);
  cov_llama_config_default(&m->llama);
  m->llama.vocab = 96;
  m->llama.dim = 20;
  m->llama.layers = 3;
  m->llama.heads = 2;
  m->llama.kv_heads = 1;
  m->llama.ffn = 37;
  m->llama.seq_len = T;
  m->llama.tied = tied;
  cov_params_create(&m->params);
  assert_ok(cov_llama_params(&m->llama, &m->params));
}

void fsdp_model_destroy(fsdp_model *m) {
  cov_params_destroy(&m->params);
}

static float *take(int64_t elems) {
  return calloc((size_t)elems, sizeof(float));
}

static cov_status open_replica(const fsdp_model *m, const cov_fsdp_ops *ops, float *flat, cov_replica **r) {
  const cov_replica_params p = {.llama = &m->llama,
                                .params = &m->params,
                                .ops = ops,
                                .chunk_edge = 8, /* many bands, some of them single rows */
                                .weights_shared = m->weights_shared};
  COV_TRY(cov_replica_create(&p, r));
  return cov_replica_start(*r, flat);
}

/* ---- units ---- */

static float weight_of(int64_t e) {
  return test_random(7, (uint64_t)e);
}

static float term_of(int rank, int pass, int64_t unit, int64_t e) {
  return (float)((e * 7 + rank * 31 + pass * 5 + unit) % 64);
}

static int in_a_tensor(const cov_params *params, int64_t e) {
  for (int t = 0; t < params->n; t++) {
    if (e >= params->item[t].offset && e < params->item[t].offset + params->item[t].elems) return 1;
  }
  return 0;
}

/* Opens `unit`, checks its weights, adds terms to its gradient. */
static cov_status visit(const fsdp_model *m, const cov_llama_source *s, int64_t index, int with_grad, int rank,
                        int pass, float scale) {
  cov_llama_unit u;
  cov_llama_unit_of(&m->llama, &m->params, index, &u);
  COV_TRY(s->open(s->arg, with_grad, &u));
  for (int64_t e = 0; e < u.elems; e++) {
    if (!in_a_tensor(&m->params, u.first + e)) continue;
    if (u.theta[e] != scale * weight_of(u.first + e)) {
      return COV_FAIL(COV_EMISMATCH, "unit %lld, element %lld: %g", (long long)index, (long long)e, (double)u.theta[e]);
    }
    if (with_grad) u.grad[e] += term_of(rank, pass, index, u.first + e);
  }
  return s->close(s->arg, &u);
}

/* The order of a model's pass. `strange`: another one, with a unit twice in a row. */
static cov_status walk(const fsdp_model *m, const cov_llama_source *s, int strange, int rank, int pass, float scale) {
  const int64_t last = cov_llama_n_units(&m->llama) - 1, head = m->llama.tied ? 0 : last;
  for (int64_t u = 0; u <= last; u++) COV_TRY(visit(m, s, strange ? last - u : u, 0, rank, pass, scale));
  COV_TRY(visit(m, s, head, 1, rank, pass, scale));
  if (strange) COV_TRY(visit(m, s, head, 1, rank, pass, scale));
  for (int64_t u = last; u >= 0; u--) COV_TRY(visit(m, s, u, 1, rank, pass, scale));
  return COV_OK;
}

/* How often a unit is opened with a gradient in walk(). */
static int visits(const fsdp_model *m, int64_t unit, int strange) {
  const int64_t last = cov_llama_n_units(&m->llama) - 1, head = m->llama.tied ? 0 : last;
  return 1 + (unit == head ? 1 + strange : 0);
}

static cov_status check_sums(const fsdp_model *m, cov_replica *r, int passes, const int *strange) {
  const cov_fsdp_layout *l = cov_replica_layout(r);
  const float *grad = cov_replica_grad(r);
  for (int64_t index = 0; index < l->n_units; index++) {
    const cov_fsdp_unit *u = &l->unit[index];
    for (int t = u->first_tensor; t < u->first_tensor + u->n_tensors; t++) {
      const cov_shard_part *part = &l->shard.part[t];
      for (int64_t e = 0; e < part->elems; e++) {
        double want = 0;
        for (int pass = 0; pass < passes; pass++) {
          for (int rank = 0; rank < cov_replica_size(r); rank++) {
            want += visits(m, index, strange[pass]) *
                    (double)term_of(rank, pass, index, m->params.item[t].offset + part->elem + e);
          }
        }
        if ((double)grad[part->packed + e] != want) {
          return COV_FAIL(COV_EMISMATCH, "%s, own element %lld: %g instead of %g", m->params.item[t].name, (long long)e,
                          (double)grad[part->packed + e], want);
        }
      }
    }
  }
  return COV_OK;
}

/* The optimizer's part: all own weights times two. */
static cov_status double_weights(cov_replica *r) {
  const cov_params *table = cov_replica_table(r);
  float *theta = cov_replica_theta(r);
  for (int t = 0; t < table->n; t++) {
    for (int64_t e = 0; e < table->item[t].elems; e++) theta[table->item[t].offset + e] *= 2.0f;
  }
  return cov_replica_moved(r);
}

cov_status fsdp_case_units(const fsdp_model *m, const cov_fsdp_ops *ops) {
  static const int strange[3] = {0, 1, 0};
  cov_replica *r = NULL;
  float *flat = m->weights_shared ? m->flat : take(m->params.span);
  cov_status st = COV_OK;
  const int rank = ops ? ops->rank : 0;
  if (!m->weights_shared || rank == 0) {
    for (int64_t e = 0; e < m->params.span; e++) flat[e] = in_a_tensor(&m->params, e) ? weight_of(e) : -7.0f;
  }
  uint8_t here = 0, all[16];
  if (m->weights_shared && ops) COV_TRY_DONE(ops->totals(ops->self, &here, 1, all)); /* until it is filled */
  COV_TRY_DONE(open_replica(m, ops, flat, &r));
  for (int step = 0; step < 2; step++) {
    cov_replica_grad_begin(r);
    for (int pass = 0; pass < 3; pass++) {
      COV_TRY_DONE(walk(m, cov_replica_pass(r), strange[pass], rank, pass, step ? 2.0f : 1.0f));
    }
    COV_TRY_DONE(cov_replica_grad_end(r));
    COV_TRY_DONE(check_sums(m, r, 3, strange));
    COV_TRY_DONE(double_weights(r));
  }
  COV_TRY_DONE(cov_replica_end(r));
  const cov_shard *shard = &cov_replica_layout(r)->shard;
  for (int64_t e = 0; e < m->params.span; e++) {
    if (!in_a_tensor(&m->params, e) && flat[e] != -7.0f) COV_FAIL_DONE(COV_EMISMATCH, "padding was touched");
  }
  for (int t = 0; t < m->params.n; t++) {
    for (int64_t e = 0; e < shard->part[t].elems; e++) {
      const int64_t at = m->params.item[t].offset + shard->part[t].elem + e;
      if (flat[at] != 4.0f * weight_of(at))
        COV_FAIL_DONE(COV_EMISMATCH, "element %lld was not put back", (long long)at);
    }
  }
done:
  cov_replica_destroy(&r);
  if (!m->weights_shared) free(flat);
  return st;
}

/* ---- gradient ---- */

static void make_batch(int index, int64_t vocab, int32_t tokens[T], int32_t targets[T]) {
  for (int t = 0; t < T; t++) {
    tokens[t] = (int32_t)((uint32_t)(index * 131 + t * 29 + t * t) % (uint32_t)vocab);
    targets[t] = t % 5 == 4 ? -1 : (int32_t)((uint32_t)(index * 17 + t * 41) % (uint32_t)vocab);
  }
}

static cov_status pass_micro(cov_llama *model, const fsdp_model *m, const cov_llama_source *source, int index) {
  int32_t tokens[T], targets[T];
  cov_llama_loss loss;
  make_batch(index, m->llama.vocab, tokens, targets);
  const cov_llama_batch batch = {.tokens = tokens, .targets = targets, .B = 1, .T = T};
  return cov_llama_grad_units(model, source, &batch, 1.0f / MICROS, &loss);
}

/* Gradient of the micro-batches first .. end-1, plain. */
static cov_status plain_gradient(cov_llama *model, const fsdp_model *m, const float *theta, float *grad) {
  const fsdp_model plain = {.llama = m->llama, .params = m->params};
  cov_replica *alone = NULL;
  COV_TRY(open_replica(&plain, NULL, (float *)theta, &alone));
  cov_status st = COV_OK;
  for (int i = 0; i < MICROS && st == COV_OK; i++) st = pass_micro(model, m, cov_replica_pass(alone), i);
  if (st == COV_OK) memcpy(grad, cov_replica_grad(alone), (size_t)m->params.span * sizeof *grad);
  cov_replica_destroy(&alone);
  return st;
}

/* Rounding of sums of at most MICROS terms in another order, against the tensor's own scale. */
static cov_status compare_gradient(const fsdp_model *m, cov_replica *r, const float *want) {
  const cov_shard *shard = &cov_replica_layout(r)->shard;
  const float *got = cov_replica_grad(r);
  for (int t = 0; t < m->params.n; t++) {
    const cov_param *p = &m->params.item[t];
    float largest = 0;
    for (int64_t e = 0; e < p->elems; e++) largest = fmaxf(largest, fabsf(want[p->offset + e]));
    for (int64_t e = 0; e < shard->part[t].elems; e++) {
      const float a = got[shard->part[t].packed + e], b = want[p->offset + shard->part[t].elem + e];
      if (!(fabsf(a - b) <= 8e-7f * largest)) {
        return COV_FAIL(COV_EMISMATCH, "%s, own element %lld: %.9g instead of %.9g (largest %g)", p->name, (long long)e,
                        (double)a, (double)b, (double)largest);
      }
    }
  }
  return COV_OK;
}

cov_status fsdp_case_gradient(const fsdp_model *m, const cov_fsdp_ops *ops) {
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  const cov_llama_shape shape = {.batch = 1, .seq_len = T};
  float *flat = take(m->params.span), *want = take(m->params.span);
  fsdp_model own = *m;
  cov_replica *r = NULL;
  cov_llama *model = NULL;
  cov_status st = COV_OK;
  own.weights_shared = 0;
  COV_TRY_DONE(cov_params_init(&m->params, 11, flat));
  COV_TRY_DONE(cov_llama_create(&m->llama, &m->params, &shape, cov_ops_ref(), &place, &model));
  COV_TRY_DONE(plain_gradient(model, m, flat, want));
  COV_TRY_DONE(open_replica(&own, ops, flat, &r));
  const int n = MICROS / ops->size;
  for (int again = 0; again < 2; again++) {
    cov_replica_grad_begin(r);
    for (int i = 0; i < n; i++) COV_TRY_DONE(pass_micro(model, m, cov_replica_pass(r), ops->rank * n + i));
    COV_TRY_DONE(cov_replica_grad_end(r));
    COV_TRY_DONE(compare_gradient(m, r, want));
  }
done:
  cov_replica_destroy(&r);
  cov_llama_destroy(&model);
  free(flat);
  free(want);
  return st;
}

/* ---- rounds ---- */

static void note_norm(void *arg, const cov_inner_step *step) {
  *(double *)arg = step->grad_norm;
}

cov_status fsdp_case_rounds(fsdp_rounds *r, const cov_fsdp_ops *ops) {
  cov_inner_params p = {.peer = 1,
                        .inner_steps = 4,
                        .batch_seqs = r->batch_seqs,
                        .micro_batch_seqs = r->micro_batch_seqs,
                        .threads = 1,
                        .dtype = r->dtype,
                        .clip_norm = 0.5,
                        .ranks = ops,
                        .chunk_edge = 8,
                        .weights_shared = r->model->weights_shared,
                        .on_step = note_norm,
                        .arg = &r->norm};
  cov_inner *inner;
  cov_schedule_default(&p.schedule);
  p.schedule.base = 1e-3;
  p.schedule.warmup_steps = 2;
  p.schedule.decay_steps = 20;
  cov_optimizer_config_default(&p.optimizer);
  if (r->muon) p.optimizer.kind = COV_OPTIMIZER_MUON;
  p.optimizer.adamw.eps = 1e-2; /* so that a move is smooth in the gradient, also where that is nearly zero */
  COV_TRY(cov_inner_create(&p, &r->model->llama, &r->model->params, r->data, cov_ops_ref(), &inner));
  cov_status st = COV_OK;
  for (int round = 0; round < 2 && st == COV_OK; round++) st = cov_inner_round(inner, round, r->work, &r->report);
  cov_inner_destroy(&inner);
  return st;
}
