/* Causal attention in blocks of query rows. A block of ROWS queries needs the scores of the keys up to its last row
 * only: they fit in the second-level cache (ROWS x T floats), the products run on the matrix library, and no T x T
 * array ever exists. Softmax is taken over whole rows, so no running rescale is needed. Threads own pairs (sequence,
 * key/value head): a pair's dk and dv are summed by one thread in a fixed order. */
#include <math.h>
#include <stddef.h>

#include "cpu/cpu.h"
#include "cpu/loops.h"
#include "cpu/parallel.h"
#include "place.h"
#include "ref/ref.h"

enum { ROWS = 64, ALIGN_BYTES = 64, LANES = 16, MAX_SLOTS = 256 };

typedef struct {
  int64_t B, T, H, K, E, ldq, ldk, ldv;
  const float *q, *k, *v, *dout, *out;
  const float *lse;
  float *dq, *dk, *dv;
  float *out_to, *lse_to; /* of the forward pass */
  float scale;
  char *scratch;
  cov_place one; /* the caller's place with one thread: products inside a part are not cut again */
  int failed[MAX_SLOTS];
} task;

/* Rows of scores are padded to whole vectors of the widest kind. */
static int64_t padded(int64_t elems) {
  return (elems + LANES - 1) / LANES * LANES;
}

static int64_t slot_bytes(int64_t T) {
  return 2 * ROWS * padded(T) * (int64_t)sizeof(float);
}

int64_t covi_cpu_attention_scratch_bytes(int threads, int64_t T, int64_t D, int64_t E) {
  int64_t fast = (threads < MAX_SLOTS ? threads : MAX_SLOTS) * slot_bytes(T) + ALIGN_BYTES;
  int64_t plain = covi_ref_attention_scratch_bytes(threads, T, D, E);
  return fast > plain ? fast : plain;
}

/* Two score buffers of ROWS rows for this thread, on a cache line. */
static float *slot_scores(const task *a, int slot) {
  uintptr_t base = ((uintptr_t)a->scratch + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
  return (float *)(base + (uintptr_t)(slot * slot_bytes(a->T)));
}

static int attention_ok(const task *a, const cov_place *p) {
  return covi_place_f32_ok(p) && p->scratch && a->K >= 1 && a->H % a->K == 0 && a->ldq >= a->H * a->E &&
         a->ldk >= a->K * a->E && a->ldv >= a->K * a->E;
}

static int run(task *a, const cov_place *p, covi_work *work) {
  a->one = *p;
  a->one.threads = 1;
  a->scratch = p->scratch;
  covi_library_threads(1);
  a->scale = (float)(1.0 / sqrt((double)a->E));
  covi_parallel(p->threads < MAX_SLOTS ? p->threads : MAX_SLOTS, a->B * a->K, 1, work, a);
  for (int i = 0; i < MAX_SLOTS; i++) {
    if (a->failed[i]) return -1;
  }
  return 0;
}

/* Queries [t0, t0 + n) of head h of sequence b: scores[n][t0 + n] = scale * q k^T, rows padded. */
static int scores_product(const task *a, int64_t b, int64_t h, int64_t t0, int64_t n, float *scores) {
  int64_t kv = h / (a->H / a->K), keys = t0 + n;
  return covi_cpu_matmul(&a->one, 0, 1, n, keys, a->E, a->scale, a->q + (b * a->T + t0) * a->ldq + h * a->E, a->ldq,
                         a->k + b * a->T * a->ldk + kv * a->E, a->ldk, 0.0f, scores, padded(keys));
}

/* Row elements [seen, to) = value. Keys that a query may not see get the score -infinity up to a whole vector, where
 * exp turns them into 0 at no cost, and 0 from there on. */
static void fill(float *row, int64_t seen, int64_t to, float value) {
  for (int64_t j = seen; j < to; j++) row[j] = value;
}

static int forward_block(const task *a, int64_t b, int64_t h, int64_t t0, int64_t n, float *p) {
  const covi_loops *loops = covi_loops_get();
  int64_t kv = h / (a->H / a->K), keys = t0 + n, width = a->H * a->E;
  float *out = a->out_to + (b * a->T + t0) * width + h * a->E, *lse = a->lse_to + (b * a->H + h) * a->T + t0;
  float sums[ROWS];
  if (scores_product(a, b, h, t0, n, p) != 0) return -1;
  for (int64_t i = 0; i < n; i++) {
    float *row = p + i * padded(keys);
    int64_t whole = padded(t0 + i + 1);
    fill(row, t0 + i + 1, whole, -INFINITY);
    float top = loops->exp_row(row, whole, &sums[i]);
    lse[i] = top + logf(sums[i]);
    fill(row, whole, keys, 0.0f);
  }
  if (covi_cpu_matmul(&a->one, 0, 0, n, a->E, keys, 1.0f, p, padded(keys), a->v + b * a->T * a->ldv + kv * a->E, a->ldv,
                      0.0f, out, width) != 0) {
    return -1;
  }
  /* Dividing here touches E elements a row; dividing p would touch T. */
  for (int64_t i = 0; i < n; i++) loops->scale(out + i * width, a->E, 1.0f / sums[i]);
  return 0;
}

static void forward_heads(void *context, int64_t begin, int64_t end, int slot) {
  task *a = context;
  int64_t group = a->H / a->K;
  for (int64_t item = begin * group; item < end * group; item++) {
    int64_t b = item / a->H, h = item % a->H;
    for (int64_t t0 = 0; t0 < a->T; t0 += ROWS) {
      int64_t n = a->T - t0 < ROWS ? a->T - t0 : ROWS;
      if (forward_block(a, b, h, t0, n, slot_scores(a, slot)) != 0) a->failed[slot] = 1;
    }
  }
}

int covi_cpu_attention_forward(const cov_place *p, void *out, float *lse, const void *q, const void *k, const void *v,
                               int64_t B, int64_t T, int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk,
                               int64_t ldv) {
  if (p && p->dtype == COV_BF16) return covi_ref_attention_forward(p, out, lse, q, k, v, B, T, H, K, E, ldq, ldk, ldv);
  task a = {.B = B, .T = T, .H = H, .K = K, .E = E, .ldq = ldq, .ldk = ldk, .ldv = ldv, .q = q, .k = k, .v = v};
  a.out_to = out;
  a.lse_to = lse;
  return attention_ok(&a, p) ? run(&a, p, forward_heads) : -1;
}

/* The formulas are in ref/attention.c. `first`: dk and dv of these keys are written, not added to. */
static int backward_block(const task *a, int64_t b, int64_t h, int64_t t0, int64_t n, int first, float *p) {
  const covi_loops *loops = covi_loops_get();
  int64_t kv = h / (a->H / a->K), keys = t0 + n, width = a->H * a->E;
  int64_t iq = (b * a->T + t0) * a->ldq + h * a->E, io = (b * a->T + t0) * width + h * a->E;
  int64_t ik = b * a->T * a->ldk + kv * a->E, iv = b * a->T * a->ldv + kv * a->E;
  const float *lse = a->lse + (b * a->H + h) * a->T + t0;
  int64_t ld = padded(keys);
  float *ds = p + ROWS * ld, keep = first ? 0.0f : 1.0f;
  if (scores_product(a, b, h, t0, n, p) != 0) return -1;
  if (covi_cpu_matmul(&a->one, 0, 1, n, keys, a->E, 1.0f, a->dout + io, width, a->v + iv, a->ldv, 0.0f, ds, ld)) {
    return -1;
  }
  for (int64_t i = 0; i < n; i++) {
    float own = loops->dot(a->dout + io + i * width, a->out + io + i * width, a->E);
    int64_t whole = padded(t0 + i + 1);
    float *p_row = p + i * ld, *ds_row = ds + i * ld;
    fill(p_row, t0 + i + 1, whole, -INFINITY);
    fill(ds_row, t0 + i + 1, whole, 0.0f);
    loops->attention_grad(p_row, ds_row, whole, lse[i], own);
    fill(p_row, whole, keys, 0.0f);
    fill(ds_row, whole, keys, 0.0f);
  }
  int failed =
      covi_cpu_matmul(&a->one, 0, 0, n, a->E, keys, a->scale, ds, ld, a->k + ik, a->ldk, 0.0f, a->dq + iq, a->ldq);
  failed |= covi_cpu_matmul(&a->one, 1, 0, keys, a->E, n, 1.0f, p, ld, a->dout + io, width, keep, a->dv + iv, a->ldv);
  failed |=
      covi_cpu_matmul(&a->one, 1, 0, keys, a->E, n, a->scale, ds, ld, a->q + iq, a->ldq, keep, a->dk + ik, a->ldk);
  return failed ? -1 : 0;
}

/* Blocks go from the last to the first: the last one of the first head covers all keys, so it writes dk and dv and
 * everything after it adds; nothing needs to be cleared. */
static void backward_heads(void *context, int64_t begin, int64_t end, int slot) {
  task *a = context;
  int64_t group = a->H / a->K, last = (a->T - 1) / ROWS * ROWS;
  for (int64_t item = begin * group; item < end * group; item++) {
    int64_t b = item / a->H, h = item % a->H;
    for (int64_t t0 = last; t0 >= 0; t0 -= ROWS) {
      int64_t n = a->T - t0 < ROWS ? a->T - t0 : ROWS;
      int first = h % group == 0 && t0 == last;
      if (backward_block(a, b, h, t0, n, first, slot_scores(a, slot)) != 0) a->failed[slot] = 1;
    }
  }
}

int covi_cpu_attention_backward(const cov_place *p, void *dq, void *dk, void *dv, const void *dout, const void *q,
                                const void *k, const void *v, const void *out, const float *lse, int64_t B, int64_t T,
                                int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk, int64_t ldv) {
  if (p && p->dtype == COV_BF16) {
    return covi_ref_attention_backward(p, dq, dk, dv, dout, q, k, v, out, lse, B, T, H, K, E, ldq, ldk, ldv);
  }
  task a = {.B = B, .T = T, .H = H, .K = K, .E = E, .ldq = ldq, .ldk = ldk, .ldv = ldv, .q = q, .k = k, .v = v};
  a.dout = dout;
  a.out = out;
  a.lse = lse;
  a.dq = dq;
  a.dk = dk;
  a.dv = dv;
  return attention_ok(&a, p) ? run(&a, p, backward_heads) : -1;
}
