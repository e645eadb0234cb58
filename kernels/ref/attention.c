/* Causal attention, one query row at a time, as the formula is written in a textbook. Scratch: one row of scores, one
 * row of their gradients, and dk and dv of one key/value head, all in double. */
#include <math.h>
#include <string.h>

#include "place.h"
#include "ref/elem.h"
#include "ref/ref.h"

typedef struct {
  cov_dtype dtype;
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

/* Elements [ia, ia + E) of a times [ib, ib + E) of b. */
static double dot(const sizes *s, const void *a, int64_t ia, const void *b, int64_t ib) {
  double sum = 0;
  for (int64_t e = 0; e < s->E; e++) sum += get(s->dtype, a, ia + e) * get(s->dtype, b, ib + e);
  return sum;
}

int covi_ref_attention_forward(const cov_place *p, void *out, float *lse, const void *q, const void *k, const void *v,
                               int64_t B, int64_t T, int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk,
                               int64_t ldv) {
  sizes s = {p ? p->dtype : COV_F32, B, T, H, K, E, ldq, ldk, ldv};
  if (!sizes_ok(p, &s)) return -1;
  double *score = p->scratch;
  for (int64_t row = 0; row < B * H * T; row++) {
    int64_t b = row / (H * T), h = row / T % H, t = row % T, kv = h / (H / K);
    int64_t iq = (b * T + t) * ldq + h * E, ik = b * T * ldk + kv * E, iv = b * T * ldv + kv * E;
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j <= t; j++) {
      score[j] = dot(&s, q, iq, k, ik + j * ldk) / sqrt((double)E);
      top = fmax(top, score[j]);
    }
    for (int64_t j = 0; j <= t; j++) sum += exp(score[j] - top);
    lse[row] = (float)(top + log(sum));
    for (int64_t e = 0; e < E; e++) {
      double mean = 0;
      for (int64_t j = 0; j <= t; j++) mean += exp(score[j] - top) / sum * get(s.dtype, v, iv + j * ldv + e);
      put(s.dtype, out, ((b * T + t) * H + h) * E + e, mean);
    }
  }
  return 0;
}

typedef struct {
  void *dq;
  const void *dout, *q, *k, *v, *out;
  double *p, *ds, *dk, *dv; /* scratch */
} arrays;

/* Row t of a head: iq, io, ik, iv are where its row of q, its row of out, and the head's first rows of k and v begin.
 * Writes its dq, adds to dk and dv.
 *   P_j = exp(s_j - lse), dP_j = dout . v_j, dS_j = P_j (dP_j - dout . out);
 *   dq = scale sum_j dS_j k_j, dk_j += scale dS_j q, dv_j += P_j dout. */
static void backward_row(const sizes *s, const arrays *a, int64_t t, int64_t iq, int64_t io, int64_t ik, int64_t iv,
                         float lse) {
  double scale = 1.0 / sqrt((double)s->E), own = dot(s, a->dout, io, a->out, io);
  for (int64_t j = 0; j <= t; j++) {
    a->p[j] = exp(scale * dot(s, a->q, iq, a->k, ik + j * s->ldk) - (double)lse);
    a->ds[j] = a->p[j] * (dot(s, a->dout, io, a->v, iv + j * s->ldv) - own);
  }
  for (int64_t e = 0; e < s->E; e++) {
    double sum = 0;
    for (int64_t j = 0; j <= t; j++) {
      sum += a->ds[j] * get(s->dtype, a->k, ik + j * s->ldk + e);
      a->dk[j * s->E + e] += scale * a->ds[j] * get(s->dtype, a->q, iq + e);
      a->dv[j * s->E + e] += a->p[j] * get(s->dtype, a->dout, io + e);
    }
    put(s->dtype, a->dq, iq + e, scale * sum);
  }
}

int covi_ref_attention_backward(const cov_place *p, void *dq, void *dk, void *dv, const void *dout, const void *q,
                                const void *k, const void *v, const void *out, const float *lse, int64_t B, int64_t T,
                                int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk, int64_t ldv) {
  sizes s = {p ? p->dtype : COV_F32, B, T, H, K, E, ldq, ldk, ldv};
  if (!sizes_ok(p, &s)) return -1;
  double *prob = p->scratch;
  arrays a = {.dq = dq, .dout = dout, .q = q, .k = k, .v = v, .out = out, .p = prob, .ds = prob + T};
  a.dk = a.ds + T;
  a.dv = a.dk + T * E;
  for (int64_t pair = 0; pair < B * K; pair++) {
    int64_t b = pair / K, kv = pair % K, group = H / K, ik = b * T * ldk + kv * E, iv = b * T * ldv + kv * E;
    memset(a.dk, 0, (size_t)(2 * T * E) * sizeof *a.dk);
    for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
      for (int64_t t = 0; t < T; t++) {
        backward_row(&s, &a, t, (b * T + t) * ldq + h * E, ((b * T + t) * H + h) * E, ik, iv, lse[(b * H + h) * T + t]);
      }
    }
    for (int64_t i = 0; i < T * E; i++) {
      put(s.dtype, dk, ik + i / E * ldk + i % E, a.dk[i]);
      put(s.dtype, dv, iv + i / E * ldv + i % E, a.dv[i]);
    }
  }
  return 0;
}
