/* covenant bench attention: forward and backward pass of the model's attention on one micro-batch, in f32 and bf16,
 * against a large square product of the same dtype that alternates with them.
 *
 *   forward_flops_per_s   2 B H T^2 E operations: causal, half of the square counts
 *   backward_flops_per_s  2.5 times as many
 *   ratio                 both passes together, of product_flops_per_s
 *   ratio_cpu             the same by processor time: a machine shared with other work */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "cli/bench_machine.h"
#include "cli/bench_model.h"

/* A dtype's operands. */
typedef struct {
  const cov_ops *ops;
  cov_place place;
  int64_t B, T, H, K, E, W; /* W: row length of q, k and v side by side */
  int64_t size, passes;     /* of the square product; attention so often a repetition, as much work as the product */
  char *qkv, *d_qkv, *out, *d_out, *x;
  float *lse, *weight, *product;
  void *prepared; /* of the weight; NULL where products read the weight itself */
} subject;

typedef struct {
  double *forward, *backward, *product, *ratio, *ratio_cpu; /* [reps] */
} samples;

static double attention_flop(const subject *s) {
  return 2.0 * (double)(s->B * s->H * s->E) * (double)s->T * (double)s->T;
}

static double product_flop(const subject *s) {
  return 2.0 * (double)s->size * (double)s->size * (double)s->size;
}

/* NULL after a failure, this one's or an earlier one's. */
static void *take(int64_t bytes, cov_status *st) {
  void *taken = NULL;
  if (*st == COV_OK) *st = cov_mem_array(COV_SPACE_HOST, COV_MEM_SCRATCH, (size_t)bytes, 1, &taken);
  return taken;
}

/* Values around zero that differ from each other; a row of an embedding is how a table of operations converts. */
static char *take_filled(const subject *s, int64_t elems, cov_status *st) {
  const int32_t id = 0;
  float *values = take(elems * 4, st);
  char *block = take(elems * 4, st);
  for (int64_t i = 0; *st == COV_OK && i < elems; i++) values[i] = (float)((i * 7919) % 1021 - 510) / 510.0f;
  if (*st == COV_OK && s->ops->embed_forward(&s->place, block, &id, values, 1, elems) != 0) {
    *st = COV_FAIL(COV_EBUG, "bench attention: values could not be converted");
  }
  cov_mem_free(values);
  return block;
}

static void subject_destroy(subject *s) {
  void *all[] = {s->qkv, s->d_qkv,  s->out,     s->d_out,    s->x,
                 s->lse, s->weight, s->product, s->prepared, s->place.scratch};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) cov_mem_free(all[i]);
}

static cov_status subject_create(subject *s) {
  const int64_t rows = s->B * s->T, n = s->size, bytes = s->ops->linear_bytes(&s->place, COV_LINEAR_FORWARD, n, n);
  cov_status st = COV_OK;
  s->place.scratch = take(s->ops->scratch_bytes(s->place.threads, s->T, s->H * s->E, s->E), &st);
  s->qkv = take_filled(s, rows * s->W, &st);
  s->d_qkv = take_filled(s, rows * s->W, &st);
  s->out = take_filled(s, rows * s->H * s->E, &st);
  s->d_out = take_filled(s, rows * s->H * s->E, &st);
  s->x = take_filled(s, n * n, &st);
  s->lse = take(rows * s->H * 4, &st);
  s->weight = take(n * n * 4, &st);
  s->product = take(n * n * 4, &st);
  if (bytes > 0) s->prepared = take(bytes, &st);
  COV_TRY(st);
  for (int64_t i = 0; i < n * n; i++) s->weight[i] = (float)(i % 127 - 63) / 64.0f;
  if (bytes > 0 && s->ops->linear_prepare(&s->place, COV_LINEAR_FORWARD, s->prepared, s->weight, n, n) != 0) {
    return COV_FAIL(COV_EBUG, "bench attention: the product's weight could not be prepared");
  }
  s->passes = (int64_t)(product_flop(s) / (3.5 * attention_flop(s))) + 1;
  return COV_OK;
}

static cov_status run_product(const subject *s) {
  const int64_t n = s->size;
  const void *weight = s->prepared ? s->prepared : s->weight;
  if (s->ops->linear_forward(&s->place, s->product, n, COV_F32, s->x, n, weight, n, n, n) == 0) return COV_OK;
  return COV_FAIL(COV_EBUG, "bench attention: a product of %lld^3 could not run", (long long)n);
}

static cov_status run_attention(const subject *s, double *forward_s, double *backward_s) {
  const int64_t elem = s->place.dtype == COV_F32 ? 4 : 2, k = s->H * s->E * elem, v = k + s->K * s->E * elem;
  const double begin = cov_clock_s();
  int failed = s->ops->attention_forward(&s->place, s->out, s->lse, s->qkv, s->qkv + k, s->qkv + v, s->B, s->T, s->H,
                                         s->K, s->E, s->W, s->W, s->W);
  const double between = cov_clock_s();
  failed |= s->ops->attention_backward(&s->place, s->d_qkv, s->d_qkv + k, s->d_qkv + v, s->d_out, s->qkv, s->qkv + k,
                                       s->qkv + v, s->out, s->lse, s->B, s->T, s->H, s->K, s->E, s->W, s->W, s->W);
  *forward_s += between - begin;
  *backward_s += cov_clock_s() - between;
  return failed ? COV_FAIL(COV_EBUG, "bench attention: the operation could not run") : COV_OK;
}

static cov_status measure(const subject *s, int64_t reps, samples *out) {
  const double flop = attention_flop(s) * (double)s->passes;
  for (int64_t i = -1; i < reps; i++) { /* the first one warms up */
    double forward_s = 0.0, backward_s = 0.0;
    const double begin = cov_clock_s(), cpu_begin = bench_cpu_s();
    COV_TRY(run_product(s));
    const double product_s = cov_clock_s() - begin, cpu_between = bench_cpu_s();
    for (int64_t pass = 0; pass < s->passes; pass++) COV_TRY(run_attention(s, &forward_s, &backward_s));
    const double cpu_s = bench_cpu_s() - cpu_between, product_cpu_s = cpu_between - cpu_begin;
    if (i < 0) continue;
    out->forward[i] = flop / forward_s;
    out->backward[i] = 2.5 * flop / backward_s;
    out->product[i] = product_flop(s) / product_s;
    out->ratio[i] = 3.5 * flop / (forward_s + backward_s) / out->product[i];
    out->ratio_cpu[i] = 3.5 * flop / cpu_s * product_cpu_s / product_flop(s);
    fprintf(stderr, "attention: %lld/%lld\n", (long long)i + 1, (long long)reps);
  }
  return COV_OK;
}

static cov_status bench_dtype(const bench_request *q, const bench_model *model, cov_dtype dtype, bench_report *report) {
  const cov_llama_config *c = &model->llama;
  double *all = calloc((size_t)q->reps * 5, sizeof *all);
  samples x = {all, all + q->reps, all + 2 * q->reps, all + 3 * q->reps, all + 4 * q->reps};
  subject s = {.ops = model->ops, .B = q->cfg.data.micro_batch_seqs, .T = c->seq_len, .H = c->heads, .size = q->size};
  s.place = (cov_place){.space = COV_SPACE_HOST, .dtype = dtype, .threads = (int)q->cfg.train.threads};
  s.K = c->kv_heads ? c->kv_heads : c->heads;
  s.E = c->head_dim ? c->head_dim : c->dim / c->heads;
  s.W = (s.H + 2 * s.K) * s.E;
  cov_status st = all ? subject_create(&s) : COV_FAIL(COV_ENOMEM, "no memory for the samples");
  if (st == COV_OK) st = measure(&s, q->reps, &x);
  if (st == COV_OK) {
    bench_row_open(report);
    bench_put_text(report, "dtype", dtype == COV_F32 ? "fp32" : "bf16");
    bench_put_samples(report, "forward_flops_per_s", x.forward, q->reps);
    bench_put_samples(report, "backward_flops_per_s", x.backward, q->reps);
    bench_put_samples(report, "product_flops_per_s", x.product, q->reps);
    bench_put_samples(report, "ratio", x.ratio, q->reps);
    bench_put_samples(report, "ratio_cpu", x.ratio_cpu, q->reps);
    bench_row_close(report);
  }
  subject_destroy(&s);
  free(all);
  return st;
}

cov_status bench_attention(const bench_request *q, bench_report *report) {
  bench_model model;
  cov_status st = COV_OK;
  COV_TRY(bench_model_open(q, 0, &model));
  bench_put_count(report, "product_size", q->size);
  bench_put_model(&model, report);
  bench_list_open(report, "passes");
  for (int dtype = COV_F32; dtype <= COV_BF16 && st == COV_OK; dtype++) {
    const char *refusal = cov_ops_cpu_refuses((cov_dtype)dtype);
    if (refusal) {
      fprintf(stderr, "attention: bf16 is left out: %s\n", refusal);
    } else {
      st = bench_dtype(q, &model, (cov_dtype)dtype, report);
    }
  }
  bench_list_close(report);
  bench_model_close(&model);
  return st;
}
