#include "fsdp/replica.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Opens of a pass: forward, head, backward. A model may open units more than once; what does not fit is not foreseen.
 */
enum { OPENS_PER_UNIT = 4 };

struct cov_replica {
  cov_fsdp_layout layout;
  const cov_fsdp_ops *ops; /* NULL: alone */
  cov_llama_source source;
  int weights_shared;
  float *work;         /* the flat space of the round, borrowed */
  float *theta, *grad; /* shards; alone `theta` is `work` */

  /* Weights of one unit, collected. */
  float *flat, *incoming; /* [widest] */
  int64_t flat_unit;      /* in `flat`, or -1 */
  int64_t gathering;      /* on its way to `incoming`, or -1 */
  int64_t *order;         /* [room] units in the order of the pass before, as far as it is known */
  int64_t n_order, at, room;

  /* Gradient of one unit. */
  float *unit_grad, *outgoing; /* [widest]: as the pass adds to it; rank-major on its way */
  float *sum;                  /* [count_max] own run of the sum over ranks */
  int64_t left;                /* unit whose gradient is complete in unit_grad, or -1 */
  int64_t reducing;            /* unit on its way to `sum`, or -1 */
  int *worker;                 /* [layout.grid.n] of the tensors of one unit, and */
  double *load;                /* [G] what each rank has to do: cov_replica_apply */
};

/* ---- weights ---- */

static cov_status begin_gather(cov_replica *r, int64_t unit) {
  const cov_fsdp_unit *u = &r->layout.unit[unit];
  r->gathering = unit;
  return r->ops->gather_begin(r->ops->self, r->theta + u->mine, r->incoming, u->count);
}

static cov_status finish_gather(cov_replica *r) {
  COV_TRY(r->ops->gather_finish(r->ops->self));
  r->gathering = -1;
  return COV_OK;
}

/* The unit that the pass before opened next, other than `unit`; -1 if that is not known. */
static int64_t next_unit(cov_replica *r, int64_t unit) {
  if (r->at < r->n_order && r->order[r->at] != unit) r->n_order = r->at; /* another kind of pass: learn it anew */
  if (r->at == r->n_order && r->n_order < r->room) r->order[r->n_order++] = unit;
  r->at++;
  for (int64_t i = r->at; i < r->n_order; i++) {
    if (r->order[i] != unit) return r->order[i];
  }
  return -1;
}

static void take_in(cov_replica *r, int64_t unit) {
  if (r->layout.unit[unit].direct) {
    float *swap = r->flat;
    r->flat = r->incoming;
    r->incoming = swap;
  } else {
    cov_fsdp_to_flat(&r->layout, unit, r->incoming, r->flat);
  }
  r->flat_unit = unit;
}

static cov_status collect(cov_replica *r, int64_t unit) {
  const int64_t next = next_unit(r, unit);
  if (r->flat_unit != unit) {
    if (r->gathering >= 0 && r->gathering != unit) COV_TRY(finish_gather(r)); /* foreseen wrongly, by all ranks alike */
    if (r->gathering < 0) COV_TRY(begin_gather(r, unit));
    COV_TRY(finish_gather(r));
    take_in(r, unit);
  }
  return next >= 0 && r->gathering < 0 ? begin_gather(r, next) : COV_OK;
}

/* ---- gradient ---- */

static cov_status finish_reduce(cov_replica *r) {
  if (r->reducing < 0) return COV_OK;
  const cov_fsdp_unit *u = &r->layout.unit[r->reducing];
  COV_TRY(r->ops->reduce_finish(r->ops->self));
  for (int i = 0; i < u->n_tensors; i++) {
    const cov_param *part = &r->layout.table.item[u->first_tensor + i];
    float *to = r->grad + part->offset;
    const float *from = r->sum + (part->offset - u->mine);
    for (int64_t e = 0; e < part->elems; e++) to[e] += from[e];
  }
  r->reducing = -1;
  return COV_OK;
}

/* What a pass has left behind starts on its way; what was on its way before has arrived. */
static cov_status send_grad(cov_replica *r) {
  if (r->left < 0) return COV_OK;
  const cov_fsdp_unit *u = &r->layout.unit[r->left];
  COV_TRY(finish_reduce(r));
  if (u->direct) {
    float *swap = r->unit_grad;
    r->unit_grad = r->outgoing;
    r->outgoing = swap;
  } else {
    cov_fsdp_to_ranks(&r->layout, r->left, r->unit_grad, r->outgoing);
  }
  r->reducing = r->left;
  r->left = -1;
  return r->ops->reduce_begin(r->ops->self, r->outgoing, r->sum, u->count);
}

/* ---- the source of a pass ---- */

static cov_status open_unit(void *arg, int with_grad, cov_llama_unit *unit) {
  cov_replica *r = arg;
  if (!r->ops || r->weights_shared) {
    unit->theta = r->work + unit->first;
  } else {
    COV_TRY(collect(r, unit->unit));
    unit->theta = r->flat;
  }
  unit->grad = NULL;
  if (!r->ops) {
    if (with_grad) unit->grad = r->grad + unit->first;
    return COV_OK;
  }
  const int again = with_grad && r->left == unit->unit; /* goes on where it was left */
  if (!again) COV_TRY(send_grad(r));
  if (!with_grad) return COV_OK;
  if (!again) memset(r->unit_grad, 0, (size_t)unit->elems * sizeof *r->unit_grad);
  r->left = -1;
  unit->grad = r->unit_grad;
  return COV_OK;
}

static cov_status close_unit(void *arg, const cov_llama_unit *unit) {
  cov_replica *r = arg;
  if (r->ops && unit->grad) r->left = unit->unit;
  return COV_OK;
}

/* ---- creation ---- */

static cov_status take(cov_mem_tag tag, int64_t elems, float **out) {
  void *p = NULL;
  COV_TRY(cov_mem_array(COV_SPACE_HOST, tag, (size_t)elems, sizeof(float), &p));
  *out = p;
  return COV_OK;
}

static cov_status take_buffers(cov_replica *r) {
  const cov_fsdp_layout *l = &r->layout;
  COV_TRY(take(COV_MEM_GRADS, l->shard_elems, &r->grad));
  if (!r->ops) return COV_OK;
  COV_TRY(take(COV_MEM_PARAMS, l->shard_elems, &r->theta));
  COV_TRY(take(COV_MEM_GRADS, l->widest, &r->unit_grad));
  COV_TRY(take(COV_MEM_GRADS, l->widest, &r->outgoing));
  COV_TRY(take(COV_MEM_GRADS, l->count_max, &r->sum));
  if (r->weights_shared) return COV_OK;
  COV_TRY(take(COV_MEM_PARAMS, l->widest, &r->flat));
  return take(COV_MEM_PARAMS, l->widest, &r->incoming);
}

int64_t cov_replica_bytes(const cov_fsdp_layout *layout, int weights_shared) {
  int64_t elems = layout->shard_elems;
  if (layout->shard.G > 1) {
    elems += layout->shard_elems + 2 * layout->widest + layout->count_max;
    if (!weights_shared) elems += 2 * layout->widest;
  }
  return elems * (int64_t)sizeof(float);
}

cov_status cov_replica_create(const cov_replica_params *p, cov_replica **out) {
  cov_status st = COV_OK;
  *out = NULL;
  cov_replica *r = calloc(1, sizeof *r);
  if (!r) return COV_FAIL(COV_ENOMEM, "no memory for a replica");
  const int alone = !p->ops || p->ops->size == 1;
  r->ops = alone ? NULL : p->ops;
  r->weights_shared = p->weights_shared;
  r->source = (cov_llama_source){.open = open_unit, .close = close_unit, .arg = r};
  r->flat_unit = r->gathering = r->left = r->reducing = -1;
  COV_TRY_DONE(cov_fsdp_layout_create(p->llama, p->params, p->chunk_edge, alone ? 0 : p->ops->rank,
                                      alone ? 1 : p->ops->size, &r->layout));
  r->room = OPENS_PER_UNIT * r->layout.n_units;
  r->order = calloc((size_t)r->room, sizeof *r->order);
  r->worker = calloc((size_t)r->layout.grid.n + 1, sizeof *r->worker);
  r->load = calloc((size_t)r->layout.shard.G, sizeof *r->load);
  if (!r->order || !r->worker || !r->load)
    COV_FAIL_DONE(COV_ENOMEM, "no memory for the order of %lld units", (long long)r->layout.n_units);
  COV_TRY_DONE(take_buffers(r));
  *out = r;
  r = NULL;
done:
  cov_replica_destroy(&r);
  return st;
}

void cov_replica_destroy(cov_replica **replica) {
  cov_replica *r = *replica;
  *replica = NULL;
  /* Of an operation that was never finished the buffers stay: it may write to them until the process ends. */
  if (!r || r->gathering >= 0 || r->reducing >= 0) return;
  if (r->ops) cov_mem_free(r->theta);
  cov_mem_free(r->grad);
  cov_mem_free(r->flat);
  cov_mem_free(r->incoming);
  cov_mem_free(r->unit_grad);
  cov_mem_free(r->outgoing);
  cov_mem_free(r->sum);
  free(r->order);
  free(r->worker);
  free(r->load);
  cov_fsdp_layout_destroy(&r->layout);
  free(r);
}

const cov_fsdp_layout *cov_replica_layout(const cov_replica *replica) {
  return &replica->layout;
}

const cov_params *cov_replica_table(const cov_replica *replica) {
  return &replica->layout.table;
}

float *cov_replica_theta(cov_replica *replica) {
  return replica->theta;
}

float *cov_replica_grad(cov_replica *replica) {
  return replica->grad;
}

/* ---- rounds and steps ---- */

int cov_replica_rank(const cov_replica *replica) {
  return replica->layout.shard.g;
}

int cov_replica_size(const cov_replica *replica) {
  return replica->layout.shard.G;
}

cov_status cov_replica_totals(cov_replica *replica, const void *mine, size_t bytes, void *all) {
  if (replica->ops) return replica->ops->totals(replica->ops->self, mine, bytes, all);
  memcpy(all, mine, bytes);
  return COV_OK;
}

/* ---- whole tensors ---- */

/* r->worker[i] = the rank that does tensor i of the unit, -1: nobody. In table order, each to whom has least to do so
 * far; the work is counted as that of a product of the matrix with itself. Returns how many there are. */
static int deal_out(cov_replica *r, const cov_fsdp_unit *u, int (*wants)(void *, int), void *arg) {
  int n = 0;
  for (int i = 0; i < u->n_tensors; i++) {
    const cov_param *p = &r->layout.grid.params->item[u->first_tensor + i];
    int least = 0;
    r->worker[i] = -1;
    if (!wants(arg, u->first_tensor + i)) continue;
    for (int g = 1; g < r->layout.shard.G; g++) {
      if (r->load[g] < r->load[least]) least = g;
    }
    r->load[least] += (double)p->elems * (double)(p->rows < p->cols ? p->rows : p->cols);
    r->worker[i] = least;
    n++;
  }
  return n;
}

static cov_status apply_to_unit(cov_replica *r, int64_t unit, float *x, int (*wants)(void *, int),
                                cov_status (*work)(void *, int, float *), void *arg) {
  const cov_fsdp_unit *u = &r->layout.unit[unit];
  const cov_params *whole = r->layout.grid.params;
  if (deal_out(r, u, wants, arg) == 0) return COV_OK;
  r->reducing = unit; /* the buffers are in use */
  COV_TRY(r->ops->gather_begin(r->ops->self, x + u->mine, r->outgoing, u->count));
  COV_TRY(r->ops->gather_finish(r->ops->self));
  cov_fsdp_to_flat(&r->layout, unit, r->outgoing, r->unit_grad);
  for (int i = 0; i < u->n_tensors; i++) {
    const int t = u->first_tensor + i;
    float *at = r->unit_grad + (whole->item[t].offset - u->first);
    if (r->worker[i] == r->layout.shard.g) {
      COV_TRY(work(arg, t, at));
    } else {
      memset(at, 0, (size_t)whole->item[t].elems * sizeof *at); /* the sum is then what the one rank made */
    }
  }
  cov_fsdp_to_ranks(&r->layout, unit, r->unit_grad, r->outgoing);
  COV_TRY(r->ops->reduce_begin(r->ops->self, r->outgoing, r->sum, u->count));
  COV_TRY(r->ops->reduce_finish(r->ops->self));
  for (int i = 0; i < u->n_tensors; i++) {
    const cov_param *part = &r->layout.table.item[u->first_tensor + i];
    if (r->worker[i] < 0) continue;
    memcpy(x + part->offset, r->sum + (part->offset - u->mine), (size_t)part->elems * sizeof *x);
  }
  r->reducing = -1;
  return COV_OK;
}

cov_status cov_replica_apply(cov_replica *replica, float *x, int (*wants)(void *arg, int tensor),
                             cov_status (*work)(void *arg, int tensor, float *whole), void *arg) {
  COV_ASSERT(replica->ops);
  memset(replica->load, 0, (size_t)replica->layout.shard.G * sizeof *replica->load);
  for (int64_t u = 0; u < replica->layout.n_units; u++) {
    COV_TRY(apply_to_unit(replica, u, x, wants, work, arg));
  }
  return COV_OK;
}

static cov_status meet(cov_replica *r) {
  uint8_t here = 1, all[COV_FSDP_RANKS_MAX];
  return cov_replica_totals(r, &here, sizeof here, all);
}

static void put_bands(const cov_replica *r) {
  cov_shard_copy(&r->layout.shard, r->work, COV_LAYOUT_SPAN, r->theta, COV_LAYOUT_SHARD);
}

cov_status cov_replica_start(cov_replica *replica, float *flat) {
  cov_replica *r = replica;
  r->work = flat;
  if (!r->ops) {
    r->theta = flat;
    return COV_OK;
  }
  r->flat_unit = -1;
  cov_shard_copy(&r->layout.shard, r->theta, COV_LAYOUT_SHARD, flat, COV_LAYOUT_SPAN);
  return r->weights_shared ? meet(r) : COV_OK;
}

cov_status cov_replica_end(cov_replica *replica) {
  if (!replica->ops) return COV_OK;
  if (replica->gathering >= 0) COV_TRY(finish_gather(replica));
  if (!replica->weights_shared) put_bands(replica);
  return meet(replica);
}

void cov_replica_grad_begin(cov_replica *replica) {
  memset(replica->grad, 0, (size_t)replica->layout.table.span * sizeof *replica->grad);
}

const cov_llama_source *cov_replica_pass(cov_replica *replica) {
  replica->at = 0;
  return &replica->source;
}

cov_status cov_replica_grad_end(cov_replica *replica) {
  COV_TRY(send_grad(replica));
  return finish_reduce(replica);
}

/* Nobody reads the shared weights any more when a rank gets here: it has finished a reduction that takes what every
 * rank brings at the end of its pass. */
cov_status cov_replica_moved(cov_replica *replica) {
  if (!replica->ops) return COV_OK;
  if (replica->gathering >= 0) COV_TRY(finish_gather(replica)); /* of weights that were */
  replica->flat_unit = -1;
  if (!replica->weights_shared) return COV_OK;
  put_bands(replica);
  return meet(replica);
}
