/* Matrix products. dnnl_sgemm was measured against cached oneDNN matmul primitives and OpenBLAS 0.3.21 on one Zen 4
 * core at the shapes of a small Llama (README.md): within 5 % of the primitives or better at every size that matters,
 * 8 to 15 % above OpenBLAS, no primitive cache and no allocation of ours. */
#include <limits.h>
#include <stdio.h>

#include "cpu/cpu.h"
#include "cpu/loops.h"
#include "cpu/parallel.h"
#include "place.h"

#if defined(COVENANT_HAVE_ONEDNN)
#include <oneapi/dnnl/dnnl.h>

static int multiply(const cov_place *p, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
  covi_library_threads(p->threads);
  return dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) == dnnl_success ? 0
                                                                                                                  : -1;
}

const char *cov_ops_cpu_matmul_name(void) {
  static _Thread_local char name[64];
  const dnnl_version_t *v = dnnl_version();
  snprintf(name, sizeof name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
  return name;
}

#elif defined(COVENANT_HAVE_BLAS)
#include <cblas.h>

static int multiply(const cov_place *p, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
  int64_t largest = 0, all[6] = {m, n, k, lda, ldb, ldc};
  for (int i = 0; i < 6; i++) {
    if (all[i] > largest) largest = all[i];
  }
  if (largest > INT_MAX) return -1;
  covi_library_threads(p->threads);
  cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k,
              alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
  return 0;
}

const char *cov_ops_cpu_matmul_name(void) {
#ifdef COVENANT_HAVE_OPENBLAS
  static _Thread_local char name[160];
  snprintf(name, sizeof name, "BLAS (%s)", openblas_get_config());
  return name;
#else
  return "BLAS";
#endif
}

#else

typedef struct {
  int ta, tb;
  int64_t n, k, lda, ldb, ldc;
  float alpha, beta;
  const float *a, *b;
  float *c;
} product;

static void multiply_rows(void *context, int64_t begin, int64_t end, int slot) {
  const product *x = context;
  (void)slot;
  covi_loops_get()->matmul(x->ta, x->tb, end - begin, x->n, x->k, x->alpha, x->a + begin * (x->ta ? 1 : x->lda), x->lda,
                           x->b, x->ldb, x->beta, x->c + begin * x->ldc, x->ldc);
}

static int multiply(const cov_place *p, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
  product x = {ta, tb, n, k, lda, ldb, ldc, alpha, beta, a, b, c};
  covi_parallel(p->threads, m, 16, multiply_rows, &x);
  return 0;
}

const char *cov_ops_cpu_matmul_name(void) {
  return "plain loops";
}
#endif

int covi_cpu_matmul(const cov_place *p, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const void *a,
                    int64_t lda, const void *b, int64_t ldb, float beta, void *c, int64_t ldc) {
  if (!covi_place_f32_ok(p) || lda < (ta ? m : k) || ldb < (tb ? k : n) || ldc < n) return -1;
  if (m <= 0 || n <= 0) return 0;
  if (k > 0) return multiply(p, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  /* An empty sum; libraries differ on whether they still apply beta. */
  for (int64_t i = 0; i < m; i++) {
    float *row = (float *)c + i * ldc;
    for (int64_t j = 0; j < n; j++) row[j] = beta == 0.0f ? 0.0f : beta * row[j];
  }
  return 0;
}
