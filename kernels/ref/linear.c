/* Matrix product and embedding. */
#include "place.h"
#include "ref/elem.h"
#include "ref/ref.h"

int covi_ref_matmul(const cov_place *p, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const void *a,
                    int64_t lda, const void *b, int64_t ldb, float beta, void *c, int64_t ldc) {
  if (!covi_place_f32_ok(p) || lda < (ta ? m : k) || ldb < (tb ? k : n) || ldc < n) return -1;
  const float *fa = a, *fb = b;
  float *fc = c;
  for (int64_t i = 0; i < m; i++) {
    for (int64_t j = 0; j < n; j++) {
      double sum = 0;
      for (int64_t l = 0; l < k; l++) {
        double x = ta ? fa[l * lda + i] : fa[i * lda + l];
        double y = tb ? fb[j * ldb + l] : fb[l * ldb + j];
        sum += x * y;
      }
      /* As in BLAS: with beta = 0 the old C is not read, it may hold anything. */
      double old = beta == 0 ? 0 : (double)beta * (double)fc[i * ldc + j];
      fc[i * ldc + j] = (float)((double)alpha * sum + old);
    }
  }
  return 0;
}

int covi_ref_embed_forward(const cov_place *p, void *x, const int32_t *ids, const float *table, int64_t R, int64_t D) {
  if (!covi_place_ok(p)) return -1;
  for (int64_t r = 0; r < R; r++) {
    if (ids[r] < 0) return -1;
    for (int64_t d = 0; d < D; d++) put(p->dtype, x, r * D + d, (double)table[ids[r] * D + d]);
  }
  return 0;
}

int covi_ref_embed_backward(const cov_place *p, float *dtable, const int32_t *ids, const void *dx, int64_t R,
                            int64_t D) {
  if (!covi_place_ok(p)) return -1;
  for (int64_t r = 0; r < R; r++) {
    if (ids[r] < 0) return -1;
    for (int64_t d = 0; d < D; d++) dtable[ids[r] * D + d] += (float)get(p->dtype, dx, r * D + d);
  }
  return 0;
}
