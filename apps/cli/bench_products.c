#include "cli/bench_products.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

/* ---- recording ---- */

/* The operations of a table have no context argument, so there is one recorder. */
static struct {
  cov_ops table;
  const cov_ops *real;
  int recording, compute;
  double flop;
  bench_products seen;
} recorder;

static double flop_of(const bench_product *p) {
  return 2.0 * (double)p->R * (double)p->n * (double)p->k * (double)p->calls;
}

static int same(const bench_product *x, const bench_product *y) {
  return x->form == y->form && x->R == y->R && x->n == y->n && x->k == y->k && x->ldx == y->ldx && x->ldy == y->ldy &&
         x->add == y->add && x->y_dtype == y->y_dtype;
}

static int note(const bench_product *call) {
  bench_products *seen = &recorder.seen;
  for (int i = 0; i < seen->n; i++) {
    if (!same(&seen->item[i], call)) continue;
    seen->item[i].calls++;
    return 0;
  }
  if (seen->n == BENCH_PRODUCTS_MAX) return -1; /* the model reports that the operation could not run */
  seen->item[seen->n++] = *call;
  return 0;
}

/* 1: hand it on; 0: it counts as done; -1: no room to note it. */
static int count(const bench_product *call) {
  recorder.flop += flop_of(call);
  if (!recorder.recording) return 1;
  if (note(call) != 0) return -1;
  return recorder.compute;
}

static int counted_forward(const cov_place *p, void *y, int64_t ldy, cov_dtype y_dtype, const void *x, int64_t ldx,
                           const void *prepared, int64_t R, int64_t n, int64_t k) {
  const bench_product call = {
      .form = BENCH_FORWARD, .R = R, .n = n, .k = k, .ldx = ldx, .ldy = ldy, .y_dtype = y_dtype, .calls = 1};
  const int go = count(&call);
  return go > 0 ? recorder.real->linear_forward(p, y, ldy, y_dtype, x, ldx, prepared, R, n, k) : go;
}

static int counted_input_gradient(const cov_place *p, void *dx, int64_t lddx, int add, const void *dy, int64_t lddy,
                                  const void *prepared, int64_t R, int64_t n, int64_t k) {
  const bench_product call = {.form = BENCH_INPUT_GRADIENT,
                              .R = R,
                              .n = n,
                              .k = k,
                              .ldx = lddx,
                              .ldy = lddy,
                              .add = add != 0,
                              .y_dtype = p->dtype,
                              .calls = 1};
  const int go = count(&call);
  return go > 0 ? recorder.real->linear_input_gradient(p, dx, lddx, add, dy, lddy, prepared, R, n, k) : go;
}

static int counted_weight_gradient(const cov_place *p, float *dw, const void *dy, int64_t lddy, const void *x,
                                   int64_t ldx, int64_t R, int64_t n, int64_t k) {
  const bench_product call = {.form = BENCH_WEIGHT_GRADIENT,
                              .R = R,
                              .n = n,
                              .k = k,
                              .ldx = ldx,
                              .ldy = lddy,
                              .add = 1,
                              .y_dtype = p->dtype,
                              .calls = 1};
  const int go = count(&call);
  return go > 0 ? recorder.real->linear_weight_gradient(p, dw, dy, lddy, x, ldx, R, n, k) : go;
}

const cov_ops *bench_record_open(const cov_ops *real, int compute) {
  memset(&recorder, 0, sizeof recorder);
  recorder.table = *real;
  recorder.table.linear_forward = counted_forward;
  recorder.table.linear_input_gradient = counted_input_gradient;
  recorder.table.linear_weight_gradient = counted_weight_gradient;
  recorder.real = real;
  recorder.recording = 1;
  recorder.compute = compute;
  return &recorder.table;
}

void bench_record_take(bench_products *out) {
  recorder.recording = 0;
  *out = recorder.seen;
}

double bench_record_flop(void) {
  return recorder.flop;
}

/* ---- by themselves ---- */

bench_product bench_square(int64_t size, cov_dtype dtype) {
  return (bench_product){
      .form = BENCH_FORWARD, .R = size, .n = size, .k = size, .ldx = size, .ldy = size, .y_dtype = dtype, .calls = 1};
}

double bench_products_flop(const bench_products *products) {
  double sum = 0.0;
  for (int i = 0; i < products->n; i++) sum += flop_of(&products->item[i]);
  return sum;
}

/* Values in [-1, 1): neither zeros nor denormals, and sums stay small however often they are added to. A bf16 is the
 * upper half of a float. */
static void fill(cov_dtype dtype, void *out, int64_t elems) {
  uint32_t x = 1;
  for (int64_t i = 0; i < elems; i++) {
    x = x * 1664525u + 1013904223u;
    const float value = (float)(int32_t)x * 0x1p-31f;
    if (dtype == COV_F32) {
      ((float *)out)[i] = value;
    } else {
      uint32_t bits;
      memcpy(&bits, &value, sizeof bits);
      ((uint16_t *)out)[i] = (uint16_t)(bits >> 16);
    }
  }
}

static cov_status take(int64_t bytes, void **out) {
  return cov_mem_array(COV_SPACE_HOST, COV_MEM_SCRATCH, (size_t)bytes, 1, out);
}

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static cov_status take_activations(const bench_products *products, bench_operands *o) {
  int64_t x = 0, y = 0, dw = 0, scratch = 0;
  for (int i = 0; i < products->n; i++) {
    const bench_product *p = &products->item[i];
    x = larger(x, p->R * p->ldx);
    y = larger(y, p->R * p->ldy);
    if (p->form == BENCH_WEIGHT_GRADIENT) dw = larger(dw, p->n * p->k);
    scratch = larger(scratch, o->ops->linear_scratch_bytes(&o->place, p->y_dtype, 1, p->R, p->n, p->k));
  }
  void *gradient = NULL;
  COV_TRY(take(x * 4, &o->x));
  COV_TRY(take(y * 4, &o->y));
  COV_TRY(take(dw * 4, &gradient));
  o->dw = gradient;
  COV_TRY(take(scratch, &o->place.scratch));
  o->place.scratch_bytes = scratch;
  fill(o->place.dtype, o->x, x);
  fill(o->place.dtype, o->y, y);
  return COV_OK;
}

/* Where the table wants no copy, it reads the f32 weights themselves. */
static cov_status take_weights(const bench_product *p, bench_operands *o, void **out) {
  if (p->form == BENCH_WEIGHT_GRADIENT) return COV_OK;
  const cov_linear_use use = p->form == BENCH_FORWARD ? COV_LINEAR_FORWARD : COV_LINEAR_INPUT_GRADIENT;
  const int64_t bytes = o->ops->linear_bytes(&o->place, use, p->n, p->k);
  void *w;
  if (bytes < 0) return COV_FAIL(COV_EBUG, "table '%s' refuses weights", o->ops->name);
  COV_TRY(take(p->n * p->k * 4, &w));
  fill(COV_F32, w, p->n * p->k);
  *out = w;
  if (bytes == 0) return COV_OK;
  cov_status st = take(bytes, out);
  if (st == COV_OK && o->ops->linear_prepare(&o->place, use, *out, w, p->n, p->k) != 0) {
    st = COV_FAIL(COV_EBUG, "table '%s' could not prepare weights", o->ops->name);
  }
  cov_mem_free(w);
  return st;
}

cov_status bench_operands_create(const bench_products *products, const cov_ops *ops, const cov_place *place,
                                 bench_operands *operands) {
  *operands = (bench_operands){.ops = ops, .place = *place};
  cov_status st = take_activations(products, operands);
  for (int i = 0; st == COV_OK && i < products->n; i++) {
    st = take_weights(&products->item[i], operands, &operands->weights[i]);
  }
  if (st != COV_OK) bench_operands_destroy(operands);
  return st;
}

void bench_operands_destroy(bench_operands *operands) {
  cov_mem_free(operands->x);
  cov_mem_free(operands->y);
  cov_mem_free(operands->dw);
  cov_mem_free(operands->place.scratch);
  for (int i = 0; i < BENCH_PRODUCTS_MAX; i++) cov_mem_free(operands->weights[i]);
  *operands = (bench_operands){0};
}

static int multiply(const bench_product *p, bench_operands *o, const void *weights) {
  switch (p->form) {
  case BENCH_FORWARD:
    return o->ops->linear_forward(&o->place, o->y, p->ldy, p->y_dtype, o->x, p->ldx, weights, p->R, p->n, p->k);
  case BENCH_INPUT_GRADIENT:
    return o->ops->linear_input_gradient(&o->place, o->x, p->ldx, p->add, o->y, p->ldy, weights, p->R, p->n, p->k);
  case BENCH_WEIGHT_GRADIENT:
    return o->ops->linear_weight_gradient(&o->place, o->dw, o->y, p->ldy, o->x, p->ldx, p->R, p->n, p->k);
  }
  return -1;
}

cov_status bench_products_pass(const bench_products *products, bench_operands *operands, double *seconds) {
  for (int i = 0; i < products->n; i++) {
    const bench_product *p = &products->item[i];
    const double start = cov_clock_s();
    for (int64_t call = 0; call < p->calls; call++) {
      if (multiply(p, operands, operands->weights[i]) != 0) {
        return COV_FAIL(COV_EBUG, "table '%s' refused a linear map of %lld x %lld at %lld rows", operands->ops->name,
                        (long long)p->n, (long long)p->k, (long long)p->R);
      }
    }
    seconds[i] += cov_clock_s() - start;
  }
  return COV_OK;
}

void bench_put_products(bench_report *report, const bench_products *products, const double *rate) {
  static const char *const forms[] = {"x w^T", "dy w", "dy^T x"};
  bench_list_open(report, "products");
  for (int i = 0; i < products->n; i++) {
    const bench_product *p = &products->item[i];
    bench_row_open(report);
    bench_put_text(report, "form", forms[p->form]);
    bench_put_count(report, "m", p->form == BENCH_WEIGHT_GRADIENT ? p->n : p->R);
    bench_put_count(report, "n", p->form == BENCH_FORWARD ? p->n : p->k);
    bench_put_count(report, "k", p->form == BENCH_FORWARD ? p->k : p->form == BENCH_INPUT_GRADIENT ? p->n : p->R);
    bench_put_count(report, "added", p->add);
    bench_put_count(report, "calls", p->calls);
    bench_put_number(report, "flops_per_s", rate[i]);
    bench_row_close(report);
  }
  bench_list_close(report);
}
