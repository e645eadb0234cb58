/* SwiGLU, addition, the sum of squares, element-wise parts of AdamW and Muon: the loops of cpu/isa cut over threads. */
#include <math.h>

#include "cpu/cpu.h"
#include "cpu/loops.h"
#include "cpu/parallel.h"
#include "place.h"

/* Elements below which another thread costs more than it saves. */
enum { GRAIN_ELEMS = 16384 };

typedef struct {
  cov_dtype dtype;
  void *y, *z, *w;
  const void *a, *b, *c;
} arrays;

static void swiglu_forward(void *context, int64_t begin, int64_t end, int slot) {
  const arrays *x = context;
  const cov_dtype t = x->dtype;
  (void)slot;
  covi_typed(t)->swiglu_forward(covi_at(t, x->y, begin), covi_at_const(t, x->a, begin), covi_at_const(t, x->b, begin),
                                end - begin);
}

int covi_cpu_swiglu_forward(const cov_place *p, void *y, const void *gate, const void *up, int64_t n) {
  if (!covi_place_ok(p)) return -1;
  arrays x = {.dtype = p->dtype, .y = y, .a = gate, .b = up};
  covi_parallel(p->threads, n, GRAIN_ELEMS, swiglu_forward, &x);
  return 0;
}

static void swiglu_backward(void *context, int64_t begin, int64_t end, int slot) {
  const arrays *x = context;
  const cov_dtype t = x->dtype;
  (void)slot;
  covi_typed(t)->swiglu_backward(covi_at(t, x->y, begin), covi_at(t, x->z, begin), covi_at(t, x->w, begin),
                                 covi_at_const(t, x->a, begin), covi_at_const(t, x->b, begin),
                                 covi_at_const(t, x->c, begin), end - begin);
}

int covi_cpu_swiglu_backward(const cov_place *p, void *dgate, void *dup, void *y, const void *dy, const void *gate,
                             const void *up, int64_t n) {
  if (!covi_place_ok(p)) return -1;
  arrays x = {.dtype = p->dtype, .y = dgate, .z = dup, .w = y, .a = dy, .b = gate, .c = up};
  covi_parallel(p->threads, n, GRAIN_ELEMS, swiglu_backward, &x);
  return 0;
}

static void add(void *context, int64_t begin, int64_t end, int slot) {
  const arrays *x = context;
  (void)slot;
  covi_typed(x->dtype)->add(covi_at(x->dtype, x->y, begin), covi_at_const(x->dtype, x->a, begin), end - begin);
}

int covi_cpu_add(const cov_place *p, void *y, const void *x, int64_t n) {
  if (!covi_place_ok(p)) return -1;
  arrays both = {.dtype = p->dtype, .y = y, .a = x};
  covi_parallel(p->threads, n, GRAIN_ELEMS, add, &both);
  return 0;
}

/* The array is always cut into this many parts, whatever the number of threads, and the parts are added in ascending
 * order: the sum has the same bits for any number of threads. */
enum { PARTS = 64 };

typedef struct {
  const float *x;
  int64_t n;
  double part[PARTS];
} squares;

static void sum_squares(void *context, int64_t begin, int64_t end, int slot) {
  squares *s = context;
  (void)slot;
  for (int64_t i = begin; i < end; i++) {
    int64_t from = s->n / PARTS * i, to = i == PARTS - 1 ? s->n : from + s->n / PARTS;
    s->part[i] = covi_loops_get()->sum_squares(s->x + from, to - from);
  }
}

int covi_cpu_sum_squares(const cov_place *p, const float *x, int64_t n, double *sum) {
  if (!covi_place_ok(p)) return -1;
  squares s = {.x = x, .n = n};
  covi_parallel(n < GRAIN_ELEMS ? 1 : p->threads, PARTS, 1, sum_squares, &s);
  *sum = 0;
  for (int i = 0; i < PARTS; i++) *sum += s.part[i];
  return 0;
}

typedef struct {
  float *w, *m, *v;
  const float *g;
  covi_adamw_step step;
} update;

static void adamw(void *context, int64_t begin, int64_t end, int slot) {
  const update *u = context;
  (void)slot;
  covi_loops_get()->adamw(u->w + begin, u->m + begin, u->v + begin, u->g + begin, end - begin, &u->step);
}

int covi_cpu_adamw(const cov_place *p, float *w, float *m, float *v, const float *g, int64_t n, float lr, float b1,
                   float b2, float eps, float decay, float grad_scale, int64_t step) {
  if (!covi_place_ok(p) || step < 1) return -1;
  double c1 = 1 - pow((double)b1, (double)step), c2 = 1 - pow((double)b2, (double)step);
  update u = {.w = w, .m = m, .v = v, .g = g};
  u.step = (covi_adamw_step){.b1 = b1,
                             .b2 = b2,
                             .one_minus_b1 = (float)(1 - (double)b1),
                             .one_minus_b2 = (float)(1 - (double)b2),
                             .keep = (float)(1 - (double)lr * (double)decay),
                             .step_size = (float)((double)lr / c1),
                             .inv_sqrt_c2 = (float)(1 / sqrt(c2)),
                             .eps = eps,
                             .grad_scale = grad_scale};
  covi_parallel(p->threads, n, GRAIN_ELEMS, adamw, &u);
  return 0;
}

typedef struct {
  float *m, *g;
  float beta, grad_scale;
  int nesterov;
} momentum_update;

static void momentum(void *context, int64_t begin, int64_t end, int slot) {
  const momentum_update *u = context;
  (void)slot;
  covi_loops_get()->momentum(u->m + begin, u->g + begin, end - begin, u->beta, u->nesterov, u->grad_scale);
}

int covi_cpu_momentum(const cov_place *p, float *m, float *g, int64_t n, float beta, int nesterov, float grad_scale) {
  if (!covi_place_ok(p)) return -1;
  momentum_update u = {.m = m, .g = g, .beta = beta, .grad_scale = grad_scale, .nesterov = nesterov};
  covi_parallel(p->threads, n, GRAIN_ELEMS, momentum, &u);
  return 0;
}

typedef struct {
  float *y;
  const float *x;
  float keep, rate;
} blending;

static void blend(void *context, int64_t begin, int64_t end, int slot) {
  const blending *b = context;
  (void)slot;
  if (b->x) {
    covi_loops_get()->blend(b->y + begin, b->x + begin, end - begin, b->keep, b->rate);
  } else {
    covi_loops_get()->scale(b->y + begin, end - begin, b->keep);
  }
}

int covi_cpu_blend(const cov_place *p, float *y, const float *x, int64_t n, float keep, float rate) {
  if (!covi_place_ok(p)) return -1;
  blending b = {.y = y, .x = x, .keep = keep, .rate = rate};
  covi_parallel(p->threads, n, GRAIN_ELEMS, blend, &b);
  return 0;
}
