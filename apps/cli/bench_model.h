/* The model of a bench and something to train it on. Tokens made up here come from a seeded chain over byte values:
 * each has a few likely successors, so that there is something to learn and gradients are those of a text, not of
 * noise. They go through a prepared folder like any data, since reading samples is part of a step. All Local. */
#ifndef COVENANT_CLI_BENCH_MODEL_H
#define COVENANT_CLI_BENCH_MODEL_H

#include "cli/bench.h"
#include "data/shards.h"
#include "model/llama.h"
#include "ops.h"

typedef struct {
  cov_llama_config llama;
  cov_params params; /* owned */
  const cov_ops *ops;
  cov_place place;   /* what train.dtype and train.threads come to; no scratch */
  cov_dataset *data; /* owned; NULL without */
} bench_model;

/** The model that the settings describe; with `samples` > 0 also data of at least so many samples: made up, or
 *  request->data. model.vocab 0 becomes that of --data, else the quickstart's 1,024. */
cov_status bench_model_open(const bench_request *request, int64_t samples, bench_model *model);
void bench_model_close(bench_model *model);

/** theta[params.span], initialised from run.seed; cov_mem_free. */
cov_status bench_theta_create(const bench_request *request, const bench_model *model, float **theta);

/** Keys that describe the model, what multiplies it, and in which numbers. */
void bench_put_model(const bench_model *model, bench_report *report);

#endif
