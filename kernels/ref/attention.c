/* Causal attention, one query row at a time, as the formula is written in a textbook. Scratch: one row of scores, one
 * row of their gradients, and dk and dv of one key/value head, all in double. */
#include <math.h>
#include <string.h>

#include "place.h"
#include "ref/ref.h"

typedef struct {
  int64_t B, T, H, K, E, ldq, ldk, ldv;
} sizes;

int64_t covi_ref_attention_scratch_bytes(int threads, int64_t T, int64_t D, int64_t E) {
  (void)threads;
  (void)D;
  return (int64_t)sizeof(double) * (2 * T + 2 * T * E);
}

static int sizes_ok(const cov_place *p, const sizes *s) {
  return covi_place_ok(p) && p->scratch && s->K >= 1 && s->H % s->K == 0 && s->ldq >= s->H * s->E &&
         s->ldk >= s->K * s->E && s->ldv >= s->K * s->E;
}

static double dot(const float *a, const float *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
  return sum;
}

int covi_ref_attention_forward(const cov_place *p, void *out, float *lse, const void *q, const void *k, const void *v,
                               int64_t B, int64_t T, int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk,
                               int64_t ldv) {
  sizes s = {B, T, H, K, E, ldq, ldk, ldv};
  if (!sizes_ok(p, &s)) return -1;
  double *score = p->scratch;
  for (int64_t row = 0; row < B * H * T; row++) {
    int64_t b = row / (H * T), h = row / T % H, t = row % T, kv = h / (H / K);
    const float *qrow = (const float *)q + (b * T + t) * ldq + h * E;
    const float *krows = (const float *)k + b * T * ldk + kv * E, *vrows = (const float *)v + b * T * ldv + kv * E;
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j <= t; j++) {
      score[j] = dot(qrow, krows + j * ldk, E) / sqrt((double)E);
      top = fmax(top, score[j]);
    }
    for (int64_t j = 0; j <= t; j++) sum += exp(score[j] - top);
    lse[row] = (float)(top + log(sum));
    for (int64_t e = 0; e < E; e++) {
      double mean = 0;
      for (int64_t j = 0; j <= t; j++) mean += exp(score[j] - top) / sum * (double)vrows[j * ldv + e];
      ((float *)out)[((b * T + t) * H + h) * E + e] = (float)mean;
    }
  }
  return 0;
}

/* One query row of the backward pass: writes its dq, adds to dk and dv of its head.
 *   P_j = exp(s_j - lse), dP_j = dout . v_j, dS_j = P_j (dP_j - dout . out);
 *   dq = scale sum_j dS_j k_j, dk_j += scale dS_j q, dv_j += P_j dout. */
static void backward_row(const sizes *s, int64_t t, float *dq, double *dk, double *dv, const float *dout,
                         const float *q, const float *k, const float *v, const float *out, float lse, double *p,
                         double *ds) {
  double scale = 1.0 / sqrt((double)s->E), own = dot(dout, out, s->E);
  for (int64_t j = 0; j <= t; j++) {
    p[j] = exp(scale * dot(q, k + j * s->ldk, s->E) - (double)lse);
    ds[j] = p[j] * (dot(dout, v + j * s->ldv, s->E) - own);
  }
  for (int64_t e = 0; e < s->E; e++) {
    double sum = 0;
    for (int64_t j = 0; j <= t; j++) {
      sum += ds[j] * (double)k[j * s->ldk + e];
      dk[j * s->E + e] += scale * ds[j] * (double)q[e];
      dv[j * s->E + e] += p[j] * (double)dout[e];
    }
    dq[e] = (float)(scale * sum);
  }
}

int covi_ref_attention_backward(const cov_place *p, void *dq, void *dk, void *dv, const void *dout, const void *q,
                                const void *k, const void *v, const void *out, const float *lse, int64_t B, int64_t T,
                                int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk, int64_t ldv) {
  sizes s = {B, T, H, K, E, ldq, ldk, ldv};
  if (!sizes_ok(p, &s)) return -1;
  double *prob = p->scratch, *ds = prob + T, *sum_k = ds + T, *sum_v = sum_k + T * E;
  for (int64_t pair = 0; pair < B * K; pair++) {
    int64_t b = pair / K, kv = pair % K, group = H / K;
    const float *krows = (const float *)k + b * T * ldk + kv * E, *vrows = (const float *)v + b * T * ldv + kv * E;
    memset(sum_k, 0, (size_t)(2 * T * E) * sizeof *sum_k);
    for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
      for (int64_t t = 0; t < T; t++) {
        int64_t iq = (b * T + t) * ldq + h * E, io = ((b * T + t) * H + h) * E;
        backward_row(&s, t, (float *)dq + iq, sum_k, sum_v, (const float *)dout + io, (const float *)q + iq, krows,
                     vrows, (const float *)out + io, lse[(b * H + h) * T + t], prob, ds);
      }
    }
    for (int64_t i = 0; i < T * E; i++) {
      ((float *)dk)[(b * T + i / E) * ldk + kv * E + i % E] = (float)sum_k[i];
      ((float *)dv)[(b * T + i / E) * ldv + kv * E + i % E] = (float)sum_v[i];
    }
  }
  return 0;
}
