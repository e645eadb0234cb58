/* covenant bench gemm: the rate of a large square product, and of the products one step of the model asks for. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "cli/bench_model.h"
#include "cli/bench_products.h"

/* Runs a micro-batch of zeros through the model with a table that notes products instead of doing them: only what lies
 * between them is computed, on zeros, and forgotten. */
static cov_status record_micro_batch(const bench_request *q, const bench_model *model, bench_products *products) {
  const cov_llama_shape shape = {.batch = q->cfg.data.micro_batch_seqs, .seq_len = model->llama.seq_len};
  const size_t span = (size_t)model->params.span, rows = (size_t)(shape.batch * shape.seq_len);
  void *theta = NULL, *grad = NULL, *tokens = NULL;
  cov_llama *llama = NULL;
  cov_llama_loss loss;
  cov_status st = COV_OK;
  COV_TRY_DONE(cov_mem_array(COV_SPACE_HOST, COV_MEM_PARAMS, span, sizeof(float), &theta));
  COV_TRY_DONE(cov_mem_array(COV_SPACE_HOST, COV_MEM_GRADS, span, sizeof(float), &grad));
  COV_TRY_DONE(cov_mem_array(COV_SPACE_HOST, COV_MEM_DATA, rows, sizeof(int32_t), &tokens));
  COV_TRY_DONE(
      cov_llama_create(&model->llama, &model->params, &shape, bench_record_open(model->ops, 0), &model->place, &llama));
  const cov_llama_batch batch = {.tokens = tokens, .targets = tokens, .B = shape.batch, .T = shape.seq_len};
  COV_TRY_DONE(cov_llama_grad(llama, theta, &batch, 1.0f, grad, &loss));
  bench_record_take(products);
done:
  cov_llama_destroy(&llama);
  cov_mem_free(theta);
  cov_mem_free(grad);
  cov_mem_free(tokens);
  return st;
}

/* One repetition each of the square product and of the model's. */
typedef struct {
  double *square, *model, *ratio; /* [reps] */
  double *seconds;                /* [products->n] over all repetitions */
  int64_t passes;                 /* over the model's products a repetition: as much work as the square one */
} gemm_samples;

static cov_status measure(const bench_request *q, const bench_model *of, const bench_products *square,
                          const bench_products *model, gemm_samples *out) {
  bench_operands square_x = {0}, model_x = {0};
  cov_status st = COV_OK;
  out->passes = (int64_t)(bench_products_flop(square) / bench_products_flop(model)) + 1;
  COV_TRY_DONE(bench_operands_create(square, of->ops, &of->place, &square_x));
  COV_TRY_DONE(bench_operands_create(model, of->ops, &of->place, &model_x));
  for (int64_t i = -1; i < q->reps; i++) { /* the first one warms up */
    double square_s = 0.0, model_s = 0.0, seconds[BENCH_PRODUCTS_MAX] = {0};
    COV_TRY_DONE(bench_products_pass(square, &square_x, &square_s));
    for (int64_t pass = 0; pass < out->passes; pass++) {
      COV_TRY_DONE(bench_products_pass(model, &model_x, seconds));
    }
    if (i < 0) continue;
    for (int p = 0; p < model->n; p++) {
      out->seconds[p] += seconds[p];
      model_s += seconds[p];
    }
    out->square[i] = bench_products_flop(square) / square_s;
    out->model[i] = bench_products_flop(model) * (double)out->passes / model_s;
    out->ratio[i] = out->model[i] / out->square[i];
    fprintf(stderr, "gemm: %lld/%lld\n", (long long)i + 1, (long long)q->reps);
  }
done:
  bench_operands_destroy(&square_x);
  bench_operands_destroy(&model_x);
  return st;
}

static void put_results(const bench_request *q, const bench_products *products, gemm_samples *s, bench_report *report) {
  double rate[BENCH_PRODUCTS_MAX];
  for (int i = 0; i < products->n; i++) {
    const bench_products one = {.item = {products->item[i]}, .n = 1};
    rate[i] = bench_products_flop(&one) * (double)(q->reps * s->passes) / s->seconds[i];
  }
  double square = bench_put_samples(report, "square_flops_per_s", s->square, q->reps);
  double model = bench_put_samples(report, "gemm_flops_per_s", s->model, q->reps);
  bench_put_number(report, "ratio", model / square);
  bench_put_samples(report, "ratio_of_rep", s->ratio, q->reps);
  bench_put_number(report, "gemm_flop_per_step", bench_products_flop(products));
  bench_put_products(report, products, rate);
}

cov_status bench_gemm(const bench_request *q, bench_report *report) {
  bench_model model;
  bench_products products, square = {.n = 1};
  cov_status st = COV_OK;
  gemm_samples s = {.square = calloc((size_t)q->reps, sizeof *s.square),
                    .model = calloc((size_t)q->reps, sizeof *s.model),
                    .ratio = calloc((size_t)q->reps, sizeof *s.ratio),
                    .seconds = calloc(BENCH_PRODUCTS_MAX, sizeof *s.seconds)};
  COV_TRY_DONE(bench_model_open(q, 0, &model));
  square.item[0] = bench_square(q->size, model.place.dtype);
  if (!s.square || !s.model || !s.ratio || !s.seconds) st = COV_FAIL(COV_ENOMEM, "no memory for the samples");
  if (st == COV_OK) st = record_micro_batch(q, &model, &products);
  for (int i = 0; st == COV_OK && i < products.n; i++) {
    products.item[i].calls *= q->cfg.data.batch_seqs / q->cfg.data.micro_batch_seqs;
  }
  if (st == COV_OK) st = measure(q, &model, &square, &products, &s);
  if (st == COV_OK) {
    bench_put_count(report, "square_size", q->size);
    bench_put_model(&model, report);
    put_results(q, &products, &s, report);
  }
  bench_model_close(&model);
done:
  free(s.square);
  free(s.model);
  free(s.ratio);
  free(s.seconds);
  return st;
}
