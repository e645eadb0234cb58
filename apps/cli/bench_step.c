/* covenant bench step: whole optimiser steps of the inner loop (samples, forward, backward, norm, clipping, AdamW),
 * against the rate of the very matrix products they contain.
 *
 *   flops_per_s       model operations: flop_per_token (model/llama.h) times tokens_per_s
 *   gemm_flops_per_s  operations of the step's own products / time they take by themselves: each shape counts by the
 *                     time its share of the work needs
 *   ratio             the first over the second. Attention's products count in the first, not in the second.
 *   square_flops_per_s  a large square product in the same dtype
 *   gemm_of_square    the products of the step against it, by processor time. Far below it they would make a poor
 *                     ceiling: then the bench fails.
 *   ratio_cpu         the same by processor time instead of time: what other programs take away counts for neither, but
 *                     nor do threads that sleep, so it explains a ratio and does not replace it */
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "cli/bench_machine.h"
#include "cli/bench_model.h"
#include "cli/bench_products.h"
#include "common/loop_settings.h"

enum { SAMPLES_LEAST = 64, STEPS_MOST = 1000 };
static const double REP_S = 0.5; /* a repetition takes at least about this long */

/* What the step's own products must reach of the square one, if a step is large enough to be held to it: at the
 * quickstart's width of 128 half of a product is its beginning and end. */
static const double GEMM_OF_SQUARE_LEAST = 0.85, STEP_FLOP_LEAST = 1e11;

typedef struct {
  const bench_request *q;
  const bench_model *model;
  cov_inner *inner;
  float *theta;
  int64_t next;            /* step */
  int64_t tokens_per_step; /* batch_seqs * seq_len */
  bench_products products; /* of one step */
  bench_operands operands;
  bench_products square;
  bench_operands square_operands;
  double step_flop;    /* model operations of one step */
  double product_flop; /* those of its products */
  double *tokens_per_s, *flops_per_s, *gemm_flops_per_s, *square_flops_per_s, *gemm_of_square; /* [reps] */
  double *ratio, *ratio_cpu, *step_s, *step_cpu_s;                                             /* [reps] */
  size_t peak_resident_bytes, peak_accounted_bytes; /* before the products get operands of their own */
} step_bench;

/* A round of one step is a step and nothing else. */
static cov_status take_steps(step_bench *b, int64_t steps, double *seconds) {
  cov_inner_report report;
  const double start = cov_clock_s();
  for (int64_t i = 0; i < steps; i++) {
    COV_TRY(cov_inner_round(b->inner, b->next++, b->theta, &report));
    if (report.steps != 1) {
      return COV_FAIL(COV_EDATA, "step %lld had no target at all; the data are nothing but ends of documents",
                      (long long)b->next - 1);
    }
  }
  *seconds = cov_clock_s() - start;
  return COV_OK;
}

/* The first step records the products; the second one, warm, says how many fit into a repetition. */
static cov_status warm_up(step_bench *b, int64_t *steps) {
  double seconds;
  COV_TRY(take_steps(b, 1, &seconds));
  bench_record_take(&b->products);
  b->product_flop = bench_products_flop(&b->products);
  b->peak_resident_bytes = cov_mem_peak_resident_bytes();
  b->peak_accounted_bytes = cov_mem_peak_total_bytes(COV_SPACE_HOST);
  COV_TRY(bench_operands_create(&b->products, b->model->ops, &b->model->place, &b->operands));
  b->square = (bench_products){.item = {bench_square(b->q->size, b->model->place.dtype)}, .n = 1};
  COV_TRY(bench_operands_create(&b->square, b->model->ops, &b->model->place, &b->square_operands));
  fprintf(stderr, "step: the first took %.3g s\n", seconds);
  *steps = b->q->steps;
  if (*steps > 0) return COV_OK;
  COV_TRY(take_steps(b, 1, &seconds));
  *steps = (int64_t)ceil(REP_S / seconds);
  if (*steps > STEPS_MOST) *steps = STEPS_MOST;
  if (*steps < 1) *steps = 1;
  return COV_OK;
}

static cov_status measure(step_bench *b, int64_t steps, double *product_seconds) {
  COV_TRY(bench_products_pass(&b->products, &b->operands, product_seconds)); /* warm */
  for (int p = 0; p < b->products.n; p++) product_seconds[p] = 0.0;
  /* A quarter of the work of the products, so that neither is measured in an instant. */
  const int64_t squares = 1 + (int64_t)(b->product_flop * (double)steps / bench_products_flop(&b->square) / 4);
  const double flop_before = bench_record_flop();
  for (int64_t i = 0; i < b->q->reps; i++) {
    double seconds[BENCH_PRODUCTS_MAX] = {0}, gemm_s = 0.0, square_s = 0.0, step_s;
    const double cpu_begin = bench_cpu_s();
    COV_TRY(take_steps(b, steps, &step_s));
    const double cpu_between = bench_cpu_s();
    for (int64_t pass = 0; pass < steps; pass++) {
      COV_TRY(bench_products_pass(&b->products, &b->operands, seconds));
    }
    const double cpu_end = bench_cpu_s();
    for (int64_t pass = 0; pass < squares; pass++) {
      COV_TRY(bench_products_pass(&b->square, &b->square_operands, &square_s));
    }
    const double square_cpu_s = bench_cpu_s() - cpu_end,
                 square_flop = (double)squares * bench_products_flop(&b->square);
    for (int p = 0; p < b->products.n; p++) {
      product_seconds[p] += seconds[p];
      gemm_s += seconds[p];
    }
    b->step_s[i] = step_s / (double)steps;
    b->step_cpu_s[i] = (cpu_between - cpu_begin) / (double)steps;
    b->tokens_per_s[i] = (double)b->tokens_per_step / b->step_s[i];
    b->flops_per_s[i] = b->step_flop / b->step_s[i];
    b->gemm_flops_per_s[i] = b->product_flop * (double)steps / gemm_s;
    b->square_flops_per_s[i] = square_flop / square_s;
    b->gemm_of_square[i] = b->product_flop * (double)steps / (cpu_end - cpu_between) * square_cpu_s / square_flop;
    b->ratio[i] = b->flops_per_s[i] / b->gemm_flops_per_s[i];
    b->ratio_cpu[i] = b->step_flop / (cpu_between - cpu_begin) * (cpu_end - cpu_between) / b->product_flop;
    fprintf(stderr, "step: %lld/%lld, %.4g s a step\n", (long long)i + 1, (long long)b->q->reps, b->step_s[i]);
  }
  /* Sums of integers below 2^53: exact. */
  const double flop = bench_record_flop() - flop_before;
  if (flop != b->product_flop * (double)(steps * b->q->reps)) {
    return COV_FAIL(COV_EBUG, "the timed steps did %.17g operations in products, not %lld times %.17g", flop,
                    (long long)(steps * b->q->reps), b->product_flop);
  }
  return COV_OK;
}

static cov_status put_results(step_bench *b, int64_t steps, const double *product_seconds, bench_report *report) {
  const int64_t reps = b->q->reps;
  double rate[BENCH_PRODUCTS_MAX];
  for (int i = 0; i < b->products.n; i++) {
    const bench_products one = {.item = {b->products.item[i]}, .n = 1};
    rate[i] = bench_products_flop(&one) * (double)(reps * steps) / product_seconds[i];
  }
  bench_put_count(report, "tokens_per_step", b->tokens_per_step);
  bench_put_count(report, "micro_batches", b->q->cfg.data.batch_seqs / b->q->cfg.data.micro_batch_seqs);
  bench_put_count(report, "steps_per_rep", steps);
  bench_put_number(report, "flop_per_token", b->step_flop / (double)b->tokens_per_step);
  bench_put_number(report, "gemm_flop_per_token", b->product_flop / (double)b->tokens_per_step);
  bench_put_count(report, "peak_resident_bytes", (int64_t)b->peak_resident_bytes);
  bench_put_count(report, "peak_accounted_bytes", (int64_t)b->peak_accounted_bytes);
  bench_put_samples(report, "step_s", b->step_s, reps);
  bench_put_samples(report, "step_cpu_s", b->step_cpu_s, reps);
  bench_put_samples(report, "tokens_per_s", b->tokens_per_s, reps);
  double step = bench_put_samples(report, "flops_per_s", b->flops_per_s, reps);
  double gemm = bench_put_samples(report, "gemm_flops_per_s", b->gemm_flops_per_s, reps);
  bench_put_number(report, "ratio", step / gemm);
  bench_put_samples(report, "ratio_of_rep", b->ratio, reps);
  bench_put_samples(report, "ratio_cpu", b->ratio_cpu, reps);
  double square = bench_put_samples(report, "square_flops_per_s", b->square_flops_per_s, reps);
  double of_square = bench_put_samples(report, "gemm_of_square", b->gemm_of_square, reps);
  bench_put_products(report, &b->products, rate);
  if (of_square >= GEMM_OF_SQUARE_LEAST || b->step_flop < STEP_FLOP_LEAST) return COV_OK;
  return COV_FAIL(
      COV_EMISMATCH,
      "the step's own products reach %.3g GFLOP/s, a square one %.3g: by processor time %.2f of it. Below %.2f they "
      "are no "
      "ceiling to hold a step against (it made %.3g). Other work on the machine? Repeat, or look at bench gemm",
      1e-9 * gemm, 1e-9 * square, of_square, GEMM_OF_SQUARE_LEAST, 1e-9 * step);
}

static cov_status open_bench(step_bench *b) {
  cov_inner_params inner;
  const bench_model *model = b->model;
  const size_t reps = (size_t)b->q->reps;
  double **samples[] = {&b->tokens_per_s,       &b->flops_per_s,    &b->gemm_flops_per_s,
                        &b->square_flops_per_s, &b->gemm_of_square, &b->ratio,
                        &b->ratio_cpu,          &b->step_s,         &b->step_cpu_s};
  for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
    *samples[i] = calloc(reps, sizeof **samples[i]);
    if (!*samples[i]) return COV_FAIL(COV_ENOMEM, "no memory for %zu repetitions", reps);
  }
  b->tokens_per_step = b->q->cfg.data.batch_seqs * model->llama.seq_len;
  b->step_flop = cov_llama_flop_per_token(&model->llama, model->llama.seq_len) * (double)b->tokens_per_step;
  cov_inner_params_of(&b->q->cfg, 0, &inner);
  inner.dtype = model->place.dtype;
  inner.inner_steps = 1;
  inner.pool_samples = 0; /* drawing a large pool belongs to a round of many steps */
  COV_TRY(bench_theta_create(b->q, model, &b->theta));
  return cov_inner_create(&inner, &model->llama, &model->params, model->data, bench_record_open(model->ops, 1),
                          &b->inner);
}

static void close_bench(step_bench *b) {
  cov_inner_destroy(&b->inner);
  cov_mem_free(b->theta);
  bench_operands_destroy(&b->operands);
  bench_operands_destroy(&b->square_operands);
  free(b->tokens_per_s);
  free(b->flops_per_s);
  free(b->gemm_flops_per_s);
  free(b->square_flops_per_s);
  free(b->gemm_of_square);
  free(b->ratio);
  free(b->ratio_cpu);
  free(b->step_s);
  free(b->step_cpu_s);
}

cov_status bench_step(const bench_request *q, bench_report *report) {
  bench_model model;
  double product_seconds[BENCH_PRODUCTS_MAX] = {0};
  int64_t steps = 0;
  int64_t samples = q->cfg.data.batch_seqs > SAMPLES_LEAST ? q->cfg.data.batch_seqs : SAMPLES_LEAST;
  COV_TRY(bench_model_open(q, samples, &model));
  step_bench b = {.q = q, .model = &model};
  cov_status st = open_bench(&b);
  if (st == COV_OK) st = warm_up(&b, &steps);
  if (st == COV_OK) st = measure(&b, steps, product_seconds);
  if (st == COV_OK) {
    bench_put_text(report, "source", q->data ? q->data : "made-up tokens");
    bench_put_model(&model, report);
    st = put_results(&b, steps, product_seconds, report);
  }
  close_bench(&b);
  bench_model_close(&model);
  return st;
}
