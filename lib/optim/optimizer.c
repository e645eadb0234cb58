#include "optim/optimizer.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

void cov_optimizer_config_default(cov_optimizer_config *config) {
  config->kind = COV_OPTIMIZER_ADAMW;
  cov_adamw_config_default(&config->adamw);
  cov_muon_config_default(&config->muon);
}

static int muon_moves(const cov_optimizer *o, const cov_param *tensor) {
  return o->config.kind == COV_OPTIMIZER_MUON && cov_muon_moves(&o->config.muon, tensor);
}

/* The next array, of the tensor's elements and the padding behind them. */
static int append_part(cov_optimizer *o, const char *group, int tensor) {
  const int64_t align = COV_PARAM_ALIGN_ELEMS, elems = o->params->item[tensor].elems;
  o->part[o->n_parts] = (cov_optimizer_part){.group = group, .tensor = tensor, .offset = o->state_elems};
  o->state_elems += (elems + align - 1) / align * align;
  return o->n_parts++;
}

static void lay_out(cov_optimizer *o) {
  const cov_params *params = o->params;
  for (int t = 0; t < params->n; t++) o->second[t] = -1;
  if (o->config.kind == COV_OPTIMIZER_SGD) return;
  for (int t = 0; t < params->n; t++) append_part(o, muon_moves(o, &params->item[t]) ? "muon.m" : "adamw.m", t);
  for (int t = 0; t < params->n; t++) {
    if (!muon_moves(o, &params->item[t])) o->second[t] = append_part(o, "adamw.v", t);
  }
}

static int64_t scratch_elems(const cov_optimizer *o) {
  int64_t most = 0;
  for (int t = 0; t < o->params->n; t++) {
    const cov_param *p = &o->ranks.shapes->item[t];
    int64_t need = muon_moves(o, p) ? cov_muon_scratch_elems(p->rows, p->cols) : 0;
    if (need > most) most = need;
  }
  return most;
}

cov_status cov_optimizer_create(const cov_optimizer_config *config, const cov_params *params,
                                const cov_optimizer_ranks *ranks, cov_space space, cov_optimizer *o) {
  void *state = NULL, *scratch = NULL;
  *o = (cov_optimizer){.config = *config, .params = params, .ranks = {.shapes = params}};
  if (ranks) o->ranks = *ranks;
  COV_TRY(cov_adamw_config_verify(&config->adamw));
  if (config->kind == COV_OPTIMIZER_MUON) COV_TRY(cov_muon_config_verify(&config->muon));
  o->part = calloc(2 * (size_t)params->n + 1, sizeof *o->part);
  o->second = calloc((size_t)params->n + 1, sizeof *o->second);
  if (!o->part || !o->second) return COV_FAIL(COV_ENOMEM, "no memory to list the state of %d tensors", params->n);
  lay_out(o);
  COV_TRY(cov_mem_array(space, COV_MEM_MOMENTS, (size_t)o->state_elems, sizeof(float), &state));
  o->state = state;
  COV_TRY(cov_mem_array(space, COV_MEM_SCRATCH, (size_t)scratch_elems(o), sizeof(float), &scratch));
  o->scratch = scratch;
  return COV_OK;
}

void cov_optimizer_destroy(cov_optimizer *o) {
  cov_mem_free(o->state);
  cov_mem_free(o->scratch);
  free(o->part);
  free(o->second);
  *o = (cov_optimizer){0};
}

static cov_status sgd_step(const cov_adamw_config *c, const cov_param *t, const cov_ops *ops, const cov_place *place,
                           float *w, const float *grad, double lr, double grad_scale) {
  const double decay = t->decay && !(c->exempt_vectors && t->dims == 1) ? c->decay : 0.0;
  if (ops->blend(place, w, grad, t->elems, (float)(1.0 - lr * decay), (float)(-lr * grad_scale)) == 0) return COV_OK;
  return COV_FAIL(COV_EBUG, "%s: blend refused %s (%lld elements)", ops->name, t->name, (long long)t->elems);
}

/* ---- Muon's matrices ---- */

/* Arguments of one step for the calls below. */
typedef struct {
  cov_optimizer *o;
  const cov_ops *ops;
  const cov_place *place;
} muon_work;

static int is_matrix(void *arg, int t) {
  return ((muon_work *)arg)->o->second[t] < 0;
}

static cov_status orthogonalise(void *arg, int t, float *whole) {
  const muon_work *w = arg;
  const cov_param *p = &w->o->ranks.shapes->item[t];
  return cov_muon_orthogonalise(w->ops, w->place, p->rows, p->cols, w->o->config.muon.steps, whole, w->o->scratch);
}

static cov_status move_matrices(muon_work *w, float *theta, float *grad, double lr, double grad_scale) {
  cov_optimizer *o = w->o;
  const cov_muon_config *c = &o->config.muon;
  for (int t = 0; t < o->params->n; t++) {
    const cov_param *p = &o->params->item[t];
    if (o->second[t] >= 0) continue;
    COV_TRY(cov_muon_direction(c, p, w->ops, w->place, o->state + o->part[t].offset, grad + p->offset, grad_scale));
    if (!o->ranks.apply) COV_TRY(orthogonalise(w, t, grad + p->offset));
  }
  if (o->ranks.apply) COV_TRY(o->ranks.apply(o->ranks.arg, grad, is_matrix, orthogonalise, w));
  for (int t = 0; t < o->params->n; t++) {
    const cov_param *p = &o->params->item[t];
    if (o->second[t] >= 0) continue;
    COV_TRY(cov_muon_move(c, &o->ranks.shapes->item[t], p, w->ops, w->place, theta + p->offset, grad + p->offset, lr));
  }
  return COV_OK;
}

cov_status cov_optimizer_step(cov_optimizer *o, const cov_ops *ops, const cov_place *place, float *theta, float *grad,
                              double lr, double grad_scale) {
  const cov_optimizer_config *c = &o->config;
  if (!(isfinite(lr) && lr >= 0.0) || !(isfinite(grad_scale) && grad_scale >= 0.0)) {
    return COV_FAIL(COV_EUSAGE,
                    "optimiser: learning rate %g with gradient scale %g; both must be finite and not negative", lr,
                    grad_scale);
  }
  const int muon = c->kind == COV_OPTIMIZER_MUON;
  const double adamw_lr = muon ? lr * c->muon.adamw_lr_ratio : lr;
  muon_work work = {.o = o, .ops = ops, .place = place};
  if (muon) COV_TRY(move_matrices(&work, theta, grad, lr, grad_scale));
  for (int t = 0; t < o->params->n; t++) {
    const cov_param *p = &o->params->item[t];
    float *w = theta + p->offset, *g = grad + p->offset;
    if (c->kind == COV_OPTIMIZER_SGD) {
      COV_TRY(sgd_step(&c->adamw, p, ops, place, w, g, lr, grad_scale));
    } else if (o->second[t] >= 0) {
      float *m = o->state + o->part[t].offset, *v = o->state + o->part[o->second[t]].offset;
      COV_TRY(cov_adamw_step(&c->adamw, p, ops, place, w, m, v, g, adamw_lr, grad_scale, o->step + 1));
    }
  }
  o->step++;
  return COV_OK;
}
