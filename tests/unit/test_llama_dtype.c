/* covenant-test: timeout=60
 * The Llama over prepared weights: what a version promises, replicas that are shared out, bf16 against f32. Every
 * check runs on both tables. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/llama.h"
#include "support.h"

enum { B = 2, T = 9, R = B * T };

typedef struct {
  cov_params params;
  cov_llama *model;
  float *theta, *grad;
  double loss;
} fixture;

static int32_t tokens[R], targets[R];
static const cov_llama_batch batch = {.tokens = tokens, .targets = targets, .B = B, .T = T};
static const cov_llama_shape full = {.batch = B, .seq_len = T, .head_rows = 5};

/* Widths that fill no block of a packed layout; 4 heads on 2. */
static cov_llama_config small_config(int tied) {
  cov_llama_config c;
  cov_llama_config_default(&c);
  c.vocab = 75;
  c.dim = 40;
  c.layers = 3;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 10;
  c.ffn = 52;
  c.seq_len = T;
  c.rope_theta = 100.0;
  c.tied = tied;
  return c;
}

static void *zeros(int64_t n, size_t item) {
  void *x = calloc((size_t)n, item);
  assert_non_null(x);
  return x;
}

static void open_model(fixture *f, const cov_ops *ops, cov_dtype dtype, int tied, cov_llama_shape shape) {
  const cov_llama_config config = small_config(tied);
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = dtype, .threads = 1};
  memset(f, 0, sizeof *f);
  cov_params_create(&f->params);
  assert_ok(cov_llama_params(&config, &f->params));
  f->theta = zeros(f->params.span, sizeof *f->theta);
  f->grad = zeros(f->params.span, sizeof *f->grad);
  assert_ok(cov_params_init(&f->params, 5, f->theta));
  for (int64_t i = 0; i < f->params.span; i++) f->theta[i] *= 3.0f; /* every path carries signal */
  for (int r = 0; r < R; r++) {
    tokens[r] = (int32_t)((r * 7 + r * r) % config.vocab);
    targets[r] = r == 3 ? -1 : (int32_t)((r * 5 + 2) % config.vocab);
  }
  assert_ok(cov_llama_create(&config, &f->params, &shape, ops, &place, &f->model));
}

static void close_model(fixture *f) {
  cov_llama_destroy(&f->model);
  cov_params_destroy(&f->params);
  free(f->theta);
  free(f->grad);
}

static void run(fixture *f) {
  cov_llama_loss loss;
  memset(f->grad, 0, (size_t)f->params.span * sizeof *f->grad);
  assert_ok(cov_llama_grad(f->model, f->theta, &batch, 1.0f / R, f->grad, &loss));
  assert_int_equal(loss.count, R - 1);
  f->loss = loss.loss_sum / (double)loss.count;
}

static void assert_same_pass(const fixture *x, const fixture *y) {
  assert_true(x->loss == y->loss);
  assert_memory_equal(x->grad, y->grad, (size_t)x->params.span * sizeof *x->grad);
}

/* In which dtypes a table can be tested here. */
static int runs(const cov_ops *ops, cov_dtype dtype) {
  const char *why = ops == cov_ops_cpu() ? cov_ops_cpu_refuses(dtype) : NULL;
  if (why) printf("not run on table '%s': %s\n", ops->name, why);
  return !why;
}

static void each_case(void (*check)(const cov_ops *ops, cov_dtype dtype)) {
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  for (int t = 0; t < 2; t++) {
    for (int d = 0; d < 2; d++) {
      cov_dtype dtype = d ? COV_BF16 : COV_F32;
      if (runs(tables[t], dtype)) check(tables[t], dtype);
    }
  }
}

/* ---- versions ---- */

static void change(fixture *f) {
  for (int64_t i = 0; i < f->params.span; i++) f->theta[i] *= 0.75f;
}

static void check_versions(const cov_ops *ops, cov_dtype dtype) {
  fixture careful, trusting;
  open_model(&careful, ops, dtype, 1, full);
  open_model(&trusting, ops, dtype, 1, full);
  cov_llama_set_version(trusting.model, 1);
  for (int step = 0; step < 3; step++) {
    run(&careful);
    run(&trusting);
    assert_same_pass(&careful, &trusting);
    run(&trusting); /* a second micro-batch on the same weights */
    assert_same_pass(&careful, &trusting);
    change(&careful);
    change(&trusting);
    cov_llama_set_version(trusting.model, 2 + step);
  }
  close_model(&careful);
  close_model(&trusting);
}

static void a_new_version_is_prepared_anew(void **state) {
  (void)state;
  each_case(check_versions);
}

/* The promise is used: weights that change in spite of it are not seen by copies. */
static void an_old_version_is_not_prepared_again(void **state) {
  (void)state;
  fixture f;
  if (!runs(cov_ops_cpu(), COV_BF16)) skip();
  open_model(&f, cov_ops_cpu(), COV_BF16, 0, full);
  cov_llama_set_version(f.model, 1);
  run(&f);
  const double before = f.loss;
  for (int i = 0; i < f.params.n; i++) {
    const cov_param *t = &f.params.item[i];
    if (t->dims == 2 && i > 0) memset(f.theta + t->offset, 0, (size_t)t->elems * sizeof *f.theta);
  }
  run(&f);
  assert_true(f.loss == before);
  cov_llama_set_version(f.model, 0);
  run(&f);
  assert_true(fabs(f.loss - log(75.0)) < 1e-3); /* no weights: uniform */
  close_model(&f);
}

/* ---- shapes ---- */

static void check_sharded(const cov_ops *ops, cov_dtype dtype) {
  for (int tied = 0; tied < 2; tied++) {
    for (int recompute = 0; recompute < 2; recompute++) {
      fixture all, one;
      cov_llama_shape shape = full;
      open_model(&all, ops, dtype, tied, full);
      shape.sharded = 1;
      shape.recompute = recompute;
      open_model(&one, ops, dtype, tied, shape);
      for (int64_t step = 1; step < 3; step++) {
        cov_llama_set_version(all.model, step);
        cov_llama_set_version(one.model, step);
        for (int micro = 0; micro < 2; micro++) {
          run(&all);
          run(&one);
          assert_same_pass(&all, &one);
        }
        change(&all);
        change(&one);
      }
      close_model(&all);
      close_model(&one);
    }
  }
}

static void one_layers_copies_at_a_time_change_no_bit(void **state) {
  (void)state;
  each_case(check_sharded);
}

static int64_t bytes_in_use(cov_mem_tag tag) {
  return (int64_t)cov_mem_used_bytes(COV_SPACE_HOST, tag);
}

static void check_memory(const cov_ops *ops, cov_dtype dtype) {
  const cov_llama_config config = small_config(0);
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = dtype, .threads = 1};
  for (int variant = 0; variant < 8; variant++) {
    fixture f;
    cov_llama_shape shape = full;
    cov_llama_bytes want;
    shape.sharded = variant & 1;
    shape.recompute = variant >> 1 & 1;
    shape.evaluate_only = variant >> 2 & 1;
    const int64_t activations = bytes_in_use(COV_MEM_ACTIVATIONS), prepared = bytes_in_use(COV_MEM_PREPARED);
    const int64_t scratch = bytes_in_use(COV_MEM_SCRATCH);
    open_model(&f, ops, dtype, 0, shape);
    assert_ok(cov_llama_measure(&config, &shape, ops, &place, &want));
    assert_int_equal(bytes_in_use(COV_MEM_ACTIVATIONS) - activations, want.activations);
    assert_int_equal(bytes_in_use(COV_MEM_PREPARED) - prepared, want.prepared);
    assert_int_equal(bytes_in_use(COV_MEM_SCRATCH) - scratch, want.scratch);
    close_model(&f);
  }
}

static void memory_is_what_was_measured(void **state) {
  (void)state;
  each_case(check_memory);
}

/* ---- dtypes ---- */

/* Length of the difference of two gradients of a tensor over the length of the second. */
static double difference(const cov_param *t, const float *x, const float *y) {
  double off = 0, length = 0;
  for (int64_t e = 0; e < t->elems; e++) {
    const double d = (double)x[t->offset + e] - (double)y[t->offset + e], v = (double)y[t->offset + e];
    off += d * d;
    length += v * v;
  }
  return sqrt(off / length);
}

/* bf16 keeps 8 bits: a rounding is off by up to 2^-9, and some dozens of them stand between the tokens and a gradient.
 * The bound is 8 times 2^-8; a path that is missing or wrong is off by its whole length. */
static void bf16_is_near_f32(void **state) {
  (void)state;
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  for (int t = 0; t < 2; t++) {
    if (!runs(tables[t], COV_BF16)) continue;
    for (int tied = 0; tied < 2; tied++) {
      fixture wide, narrow;
      open_model(&wide, cov_ops_ref(), COV_F32, tied, full);
      open_model(&narrow, tables[t], COV_BF16, tied, full);
      run(&wide);
      run(&narrow);
      assert_true(fabs(narrow.loss - wide.loss) < 5e-3 * wide.loss);
      for (int i = 0; i < wide.params.n; i++) {
        const double off = difference(&wide.params.item[i], narrow.grad, wide.grad);
        if (!(off < 8.0 * 0x1p-8)) {
          fail_msg("table '%s', gradient of %s: off by %.3g of its length", tables[t]->name, wide.params.item[i].name,
                   off);
        }
      }
      close_model(&wide);
      close_model(&narrow);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_new_version_is_prepared_anew),
      cmocka_unit_test(an_old_version_is_not_prepared_again),
      cmocka_unit_test(one_layers_copies_at_a_time_change_no_bit),
      cmocka_unit_test(memory_is_what_was_measured),
      cmocka_unit_test(bf16_is_near_f32),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
