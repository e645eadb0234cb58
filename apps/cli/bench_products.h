/* The matrix products that a model really asks for, and their speed by themselves.
 *
 * A recording table stands between the model and its operations: it notes every product of a linear map, and, if told
 * to, hands it on. So shapes, layouts, and the number of calls are those of the model's code, not of a formula beside
 * it, and remain so when the code changes. Products inside other operations (attention) are not seen. Not thread-safe:
 * one recording at a time. All Local. */
#ifndef COVENANT_CLI_BENCH_PRODUCTS_H
#define COVENANT_CLI_BENCH_PRODUCTS_H

#include "cli/bench_report.h"
#include "ops.h"

enum { BENCH_PRODUCTS_MAX = 256 };

typedef enum { BENCH_FORWARD, BENCH_INPUT_GRADIENT, BENCH_WEIGHT_GRADIENT } bench_form;

/* Calls of a linear map (ops.h) with the same form, sizes, row lengths and dtypes. */
typedef struct {
  bench_form form;
  int64_t R, n, k, ldx, ldy; /* x or dx is [R, k], y or dy [R, n] */
  int add;                   /* to dx; weight gradients always add */
  cov_dtype y_dtype;
  int64_t calls;
} bench_product;

typedef struct {
  bench_product item[BENCH_PRODUCTS_MAX];
  int n;
} bench_products;

/** y = x w^T, all three matrices size x size. */
bench_product bench_square(int64_t size, cov_dtype dtype);

/** A table like `real` whose products are counted; `compute` 0: products are noted but not done. Valid until the next
 *  call; recording is on. */
const cov_ops *bench_record_open(const cov_ops *real, int compute);
/** What was recorded. Recording is off from now on: the table computes and only adds up operations. */
void bench_record_take(bench_products *out);
/** Floating-point operations of all products handed to the table since bench_record_open, recorded or not. */
double bench_record_flop(void);

/** Floating-point operations of one pass: the sum of 2 R n k over all calls. */
double bench_products_flop(const bench_products *products);

/* Operands of one list of products: activations and a gradient large enough for each, and prepared weights of each. */
typedef struct {
  const cov_ops *ops;
  cov_place place; /* its scratch is owned */
  void *x, *y;     /* owned, like all below */
  float *dw;
  void *weights[BENCH_PRODUCTS_MAX]; /* NULL where products need none */
} bench_operands;
/** `ops`: the table that computes. Weights are prepared once, as in a step of many micro-batches. */
cov_status bench_operands_create(const bench_products *products, const cov_ops *ops, const cov_place *place,
                                 bench_operands *operands);
void bench_operands_destroy(bench_operands *operands);

/** One pass: every product as often as it was called, equal ones one after the other (a ceiling: operands stay in the
 *  caches where they fit). seconds[products->n] += time of all calls of each. COV_EBUG if a product is refused. */
cov_status bench_products_pass(const bench_products *products, bench_operands *operands, double *seconds);
/** The list "products": a row each. rate[products->n]: operations a second. */
void bench_put_products(bench_report *report, const bench_products *products, const double *rate);

#endif
