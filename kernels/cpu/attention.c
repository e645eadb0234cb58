/* Causal attention: its pairs (sequence, key/value head) over the threads. A pair is computed by one thread in a fixed
 * order, so the bits do not depend on the number of threads. The work is in cpu/isa/typed/attention_*.c. */
#include <stddef.h>

#include "cpu/cpu.h"
#include "cpu/loops.h"
#include "cpu/parallel.h"
#include "place.h"

enum { ALIGN_BYTES = 64 };

typedef struct {
  covi_attention a;
  const covi_typed_loops *loops;
  char *scratch;
  int64_t slot_bytes;
} task;

static int64_t slot_bytes(const covi_typed_loops *loops, int64_t T, int64_t E) {
  int64_t forward = loops->attention_forward_bytes(T, E), backward = loops->attention_backward_bytes(T, E);
  return forward > backward ? forward : backward;
}

/* Enough for either type. Sizes differ by vector width too: a place must be used with the one it was sized for. */
int64_t covi_cpu_attention_scratch_bytes(int threads, int64_t T, int64_t D, int64_t E) {
  int64_t f32 = slot_bytes(covi_typed(COV_F32), T, E), bf16 = slot_bytes(covi_typed(COV_BF16), T, E);
  (void)D;
  return threads * (f32 > bf16 ? f32 : bf16) + ALIGN_BYTES;
}

static int attention_ok(const cov_place *p, const covi_attention *a) {
  return covi_place_ok(p) && p->scratch && a->K >= 1 && a->H % a->K == 0 && a->ldq >= a->H * a->E &&
         a->ldk >= a->K * a->E && a->ldv >= a->K * a->E;
}

static void run(const cov_place *p, const covi_attention *a, covi_work *work) {
  task x = {.a = *a, .loops = covi_typed(p->dtype)};
  uintptr_t base = ((uintptr_t)p->scratch + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
  x.scratch = (char *)base;
  x.slot_bytes = slot_bytes(x.loops, a->T, a->E);
  covi_parallel(p->threads, a->B * a->K, 1, work, &x);
}

static void forward_pairs(void *context, int64_t begin, int64_t end, int slot) {
  const task *x = context;
  for (int64_t i = begin; i < end; i++) x->loops->attention_forward(&x->a, i, x->scratch + slot * x->slot_bytes);
}

int covi_cpu_attention_forward(const cov_place *p, void *out, float *lse, const void *q, const void *k, const void *v,
                               int64_t B, int64_t T, int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk,
                               int64_t ldv) {
  covi_attention a = {.B = B, .T = T, .H = H, .K = K, .E = E, .ldq = ldq, .ldk = ldk, .ldv = ldv};
  a.q = q;
  a.k = k;
  a.v = v;
  a.out_to = out;
  a.lse_to = lse;
  if (!attention_ok(p, &a)) return -1;
  run(p, &a, forward_pairs);
  return 0;
}

static void backward_pairs(void *context, int64_t begin, int64_t end, int slot) {
  const task *x = context;
  for (int64_t i = begin; i < end; i++) x->loops->attention_backward(&x->a, i, x->scratch + slot * x->slot_bytes);
}

int covi_cpu_attention_backward(const cov_place *p, void *dq, void *dk, void *dv, const void *dout, const void *q,
                                const void *k, const void *v, const void *out, const float *lse, int64_t B, int64_t T,
                                int64_t H, int64_t K, int64_t E, int64_t ldq, int64_t ldk, int64_t ldv) {
  covi_attention a = {.B = B, .T = T, .H = H, .K = K, .E = E, .ldq = ldq, .ldk = ldk, .ldv = ldv};
  a.q = q;
  a.k = k;
  a.v = v;
  a.dout = dout;
  a.out = out;
  a.lse = lse;
  a.dq = dq;
  a.dk = dk;
  a.dv = dv;
  if (!attention_ok(p, &a)) return -1;
  run(p, &a, backward_pairs);
  return 0;
}
