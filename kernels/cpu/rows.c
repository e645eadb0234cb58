/* Operations on rows: embedding, RMSNorm, rotary positions, cross-entropy. */
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/loops.h"
#include "cpu/parallel.h"
#include "place.h"

/* Elements below which another thread costs more than it saves. */
enum { GRAIN_ELEMS = 16384 };

typedef struct {
  cov_dtype dtype;
  void *y, *x_inout;
  float *s, *stream;
  const void *x, *r, *dy;
  const float *g, *rstd, *table;
  const int32_t *ids;
  int64_t R, D, T, heads, E, ld;
  float eps;
  int sign;
} rows;

static int64_t grain_rows(int64_t row_elems) {
  return row_elems >= GRAIN_ELEMS || row_elems <= 0 ? 1 : GRAIN_ELEMS / row_elems;
}

static int ids_ok(const int32_t *ids, int64_t R) {
  for (int64_t r = 0; r < R; r++) {
    if (ids[r] < 0) return 0;
  }
  return 1;
}

static void embed_forward(void *context, int64_t begin, int64_t end, int slot) {
  const rows *a = context;
  (void)slot;
  for (int64_t r = begin; r < end; r++) {
    covi_typed(a->dtype)->narrow(covi_at(a->dtype, a->y, r * a->D), a->table + a->ids[r] * a->D, a->D);
  }
}

int covi_cpu_embed_forward(const cov_place *p, void *x, const int32_t *ids, const float *table, int64_t R, int64_t D) {
  if (!covi_place_ok(p) || !ids_ok(ids, R)) return -1;
  rows a = {.dtype = p->dtype, .y = x, .table = table, .ids = ids, .D = D};
  covi_parallel(p->threads, R, grain_rows(D), embed_forward, &a);
  return 0;
}

/* Threads own columns, so every element of the table is summed over ascending rows by one thread. */
static void embed_backward(void *context, int64_t begin, int64_t end, int slot) {
  const rows *a = context;
  (void)slot;
  for (int64_t r = 0; r < a->R; r++) {
    covi_typed(a->dtype)->add_wide(a->s + a->ids[r] * a->D + begin, covi_at_const(a->dtype, a->dy, r * a->D + begin),
                                   end - begin);
  }
}

int covi_cpu_embed_backward(const cov_place *p, float *dtable, const int32_t *ids, const void *dx, int64_t R,
                            int64_t D) {
  if (!covi_place_ok(p) || !ids_ok(ids, R)) return -1;
  rows a = {.dtype = p->dtype, .s = dtable, .dy = dx, .ids = ids, .R = R, .D = D};
  covi_parallel(p->threads, D, grain_rows(R), embed_backward, &a);
  return 0;
}

static void rmsnorm_forward(void *context, int64_t begin, int64_t end, int slot) {
  const rows *a = context;
  const cov_dtype t = a->dtype;
  int64_t at = begin * a->D;
  (void)slot;
  covi_typed(t)->rmsnorm_forward(covi_at(t, a->y, at), a->s + begin, covi_at(t, a->x_inout, at),
                                 a->r ? covi_at_const(t, a->r, at) : NULL, a->stream ? a->stream + at : NULL, a->g,
                                 end - begin, a->D, a->eps);
}

int covi_cpu_rmsnorm_forward(const cov_place *p, void *y, float *rstd, void *x, const void *r, float *stream,
                             const float *g, int64_t R, int64_t D, float eps) {
  if (!covi_place_ok(p)) return -1;
  rows a = {.dtype = p->dtype, .y = y, .s = rstd, .x_inout = x, .r = r, .stream = stream, .g = g, .D = D, .eps = eps};
  covi_parallel(p->threads, R, grain_rows(D), rmsnorm_forward, &a);
  return 0;
}

static void rmsnorm_backward_x(void *context, int64_t begin, int64_t end, int slot) {
  const rows *a = context;
  const cov_dtype t = a->dtype;
  int64_t at = begin * a->D;
  (void)slot;
  covi_typed(t)->rmsnorm_backward_x(covi_at(t, a->y, at), a->stream ? a->stream + at : NULL,
                                    covi_at_const(t, a->dy, at), covi_at_const(t, a->x, at), a->g, a->rstd + begin,
                                    end - begin, a->D);
}

static void rmsnorm_backward_g(void *context, int64_t begin, int64_t end, int slot) {
  const rows *a = context;
  (void)slot;
  covi_typed(a->dtype)->rmsnorm_backward_g(a->s, a->dy, a->x, a->rstd, a->R, a->D, begin, end);
}

/* Two passes: rows are cut over threads for dx, columns for dg. */
int covi_cpu_rmsnorm_backward(const cov_place *p, void *dx, float *stream, float *dg, const void *dy, const void *x,
                              const float *g, const float *rstd, int64_t R, int64_t D) {
  if (!covi_place_ok(p)) return -1;
  rows a = {
      .dtype = p->dtype, .y = dx, .s = dg, .stream = stream, .x = x, .dy = dy, .g = g, .rstd = rstd, .R = R, .D = D};
  covi_parallel(p->threads, R, grain_rows(D), rmsnorm_backward_x, &a);
  covi_parallel(p->threads, D, grain_rows(R), rmsnorm_backward_g, &a);
  return 0;
}

static void rope(void *context, int64_t begin, int64_t end, int slot) {
  const rows *a = context;
  (void)slot;
  for (int64_t r = begin; r < end; r++) {
    covi_typed(a->dtype)->rope(covi_at(a->dtype, a->y, r * a->ld), a->table + r % a->T * a->E, a->heads, a->E, a->sign);
  }
}

int covi_cpu_rope(const cov_place *p, void *x, const float *table, int64_t B, int64_t T, int64_t heads, int64_t E,
                  int64_t ld, int sign) {
  if (!covi_place_ok(p) || E % 2 != 0 || ld < heads * E || (sign != 1 && sign != -1)) return -1;
  rows a = {.dtype = p->dtype, .y = x, .table = table, .T = T, .heads = heads, .E = E, .ld = ld, .sign = sign};
  covi_parallel(p->threads, B * T, grain_rows(heads * E), rope, &a);
  return 0;
}

/* The rows are always cut into this many parts, whatever the number of threads, and the parts' losses are added in
 * ascending order: the loss has the same bits for any number of threads. */
enum { PARTS = 64 };

typedef struct {
  cov_dtype dtype;
  void *dlogits;
  float *logits;
  const int32_t *targets;
  int64_t R, V;
  float grad_scale;
  double loss[PARTS];
  int64_t count[PARTS];
} losses;

static void cross_entropy(void *context, int64_t begin, int64_t end, int slot) {
  losses *a = context;
  const covi_typed_loops *loops = covi_typed(a->dtype);
  (void)slot;
  for (int64_t i = begin; i < end; i++) {
    for (int64_t r = a->R * i / PARTS; r < a->R * (i + 1) / PARTS; r++) {
      float *row = a->logits + r * a->V;
      void *gradient = a->dlogits ? covi_at(a->dtype, a->dlogits, r * a->V) : NULL;
      if (a->targets[r] >= 0) {
        a->loss[i] += loops->cross_entropy(gradient, row, a->V, a->targets[r], a->grad_scale);
        a->count[i]++;
      } else if (gradient) {
        memset(gradient, 0, (size_t)((char *)covi_at(a->dtype, gradient, a->V) - (char *)gradient));
      }
    }
  }
}

int covi_cpu_cross_entropy(const cov_place *p, void *dlogits, float *logits, const int32_t *targets, int64_t R,
                           int64_t V, float grad_scale, double *loss_sum, int64_t *count) {
  if (!covi_place_ok(p)) return -1;
  for (int64_t r = 0; r < R; r++) {
    if (targets[r] >= V) return -1;
  }
  losses a = {.dtype = p->dtype, .dlogits = dlogits, .logits = logits, .targets = targets, .R = R, .V = V};
  a.grad_scale = grad_scale;
  covi_parallel(R * V < GRAIN_ELEMS ? 1 : p->threads, PARTS, 1, cross_entropy, &a);
  for (int i = 0; i < PARTS; i++) {
    *loss_sum += a.loss[i];
    *count += a.count[i];
  }
  return 0;
}
