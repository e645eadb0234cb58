#include "cli/bench_products.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

/* ---- recording ---- */

/* The operations of a table have no context argument, so there is one recorder. */
static struct {
  cov_ops table;
  int (*real)(const cov_place *p, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const void *a,
              int64_t lda, const void *b, int64_t ldb, float beta, void *c, int64_t ldc);
  int recording, compute;
  double flop;
  bench_products seen;
} recorder;

static int same(const bench_product *x, const bench_product *y) {
  return x->ta == y->ta && x->tb == y->tb && x->m == y->m && x->n == y->n && x->k == y->k && x->lda == y->lda &&
         x->ldb == y->ldb && x->ldc == y->ldc && x->alpha == y->alpha && x->beta == y->beta;
}

static int note(const bench_product *call) {
  bench_products *seen = &recorder.seen;
  for (int i = 0; i < seen->n; i++) {
    if (!same(&seen->item[i], call)) continue;
    seen->item[i].calls++;
    return 0;
  }
  if (seen->n == BENCH_PRODUCTS_MAX) return -1; /* the model reports that the operation could not run */
  seen->item[seen->n] = *call;
  seen->item[seen->n++].calls = 1;
  return 0;
}

static int counted_matmul(const cov_place *p, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha,
                          const void *a, int64_t lda, const void *b, int64_t ldb, float beta, void *c, int64_t ldc) {
  recorder.flop += 2.0 * (double)m * (double)n * (double)k;
  if (recorder.recording) {
    const bench_product call = {
        .ta = ta, .tb = tb, .m = m, .n = n, .k = k, .lda = lda, .ldb = ldb, .ldc = ldc, .alpha = alpha, .beta = beta};
    if (note(&call) != 0) return -1;
    if (!recorder.compute) return 0;
  }
  return recorder.real(p, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

const cov_ops *bench_record_open(const cov_ops *real, int compute) {
  memset(&recorder, 0, sizeof recorder);
  recorder.table = *real;
  recorder.table.matmul = counted_matmul;
  recorder.real = real->matmul;
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

static double flop_of(const bench_product *p) {
  return 2.0 * (double)p->m * (double)p->n * (double)p->k * (double)p->calls;
}

double bench_products_flop(const bench_products *products) {
  double sum = 0.0;
  for (int i = 0; i < products->n; i++) sum += flop_of(&products->item[i]);
  return sum;
}

/* Values in [-1, 1): neither zeros nor denormals, and sums stay small however often they are added to. */
static cov_status take_operand(int64_t elems, float **out) {
  void *p;
  uint32_t x = 1;
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_SCRATCH, (size_t)elems, sizeof(float), &p));
  *out = p;
  for (int64_t i = 0; i < elems; i++) {
    x = x * 1664525u + 1013904223u;
    (*out)[i] = (float)(int32_t)x * 0x1p-31f;
  }
  return COV_OK;
}

cov_status bench_operands_create(const bench_products *products, bench_operands *operands) {
  int64_t a = 0, b = 0, c = 0;
  *operands = (bench_operands){0};
  for (int i = 0; i < products->n; i++) {
    const bench_product *p = &products->item[i];
    int64_t need_a = (p->ta ? p->k : p->m) * p->lda, need_b = (p->tb ? p->n : p->k) * p->ldb, need_c = p->m * p->ldc;
    if (need_a > a) a = need_a;
    if (need_b > b) b = need_b;
    if (need_c > c) c = need_c;
  }
  cov_status st = take_operand(a, &operands->a);
  if (st == COV_OK) st = take_operand(b, &operands->b);
  if (st == COV_OK) st = take_operand(c, &operands->c);
  if (st != COV_OK) bench_operands_destroy(operands);
  return st;
}

void bench_operands_destroy(bench_operands *operands) {
  cov_mem_free(operands->a);
  cov_mem_free(operands->b);
  cov_mem_free(operands->c);
  *operands = (bench_operands){0};
}

cov_status bench_products_pass(const cov_ops *real, const cov_place *place, const bench_products *products,
                               bench_operands *x, double *seconds) {
  for (int i = 0; i < products->n; i++) {
    const bench_product *p = &products->item[i];
    const double start = cov_clock_s();
    for (int64_t call = 0; call < p->calls; call++) {
      if (real->matmul(place, p->ta, p->tb, p->m, p->n, p->k, p->alpha, x->a, p->lda, x->b, p->ldb, p->beta, x->c,
                       p->ldc) != 0) {
        return COV_FAIL(COV_EBUG, "table '%s' refused a product of %lld x %lld x %lld", real->name, (long long)p->m,
                        (long long)p->n, (long long)p->k);
      }
    }
    seconds[i] += cov_clock_s() - start;
  }
  return COV_OK;
}

void bench_put_products(bench_report *report, const bench_products *products, const double *rate) {
  bench_list_open(report, "products");
  for (int i = 0; i < products->n; i++) {
    const bench_product *p = &products->item[i];
    bench_row_open(report);
    bench_put_text(report, "form", p->ta ? "dy^T x" : p->tb ? "x w^T" : "dy w");
    bench_put_count(report, "m", p->m);
    bench_put_count(report, "n", p->n);
    bench_put_count(report, "k", p->k);
    bench_put_count(report, "added", p->beta != 0.0f);
    bench_put_count(report, "calls", p->calls);
    bench_put_number(report, "flops_per_s", rate[i]);
    bench_row_close(report);
  }
  bench_list_close(report);
}
