/* The Llama: its configuration and table, gradients against finite differences, and the promises of the model object.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/llama.h"
#include "support.h"

enum { B = 2, T = 5, R = B * T };

typedef struct {
  cov_llama_config config;
  cov_params params;
  cov_place place;
  cov_llama *model;
  float *theta, *grad;
  int32_t tokens[R], targets[R];
  cov_llama_batch batch;
} fixture;

/* D = 12, E = 6, F = 10, V = 17: nothing is a power of two, so tensors have padding behind them. */
static cov_llama_config tiny_config(int tied, int64_t kv_heads) {
  cov_llama_config c;
  cov_llama_config_default(&c);
  c.vocab = 17;
  c.dim = 12;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = kv_heads;
  c.head_dim = 6; /* not dim / heads */
  c.ffn = 10;
  c.seq_len = 8;
  c.rope_theta = 100.0;
  c.tied = tied;
  return c;
}

static float *floats(int64_t n) {
  float *x = calloc((size_t)n, sizeof *x);
  assert_non_null(x);
  return x;
}

static void open_model(fixture *f, const cov_llama_config *config, cov_llama_shape shape) {
  memset(f, 0, sizeof *f);
  f->config = *config;
  f->place = (cov_place){.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  cov_params_create(&f->params);
  assert_ok(cov_llama_params(config, &f->params));
  f->theta = floats(f->params.span);
  f->grad = floats(f->params.span);
  for (int i = 0; i < f->params.n; i++) { /* large enough that every path carries signal */
    const cov_param *t = &f->params.item[i];
    for (int64_t e = 0; e < t->elems; e++) {
      float x = test_random((uint64_t)i, (uint64_t)e);
      f->theta[t->offset + e] = t->dims == 1 ? 1.0f + 0.3f * x : 0.6f * x;
    }
  }
  for (int r = 0; r < R; r++) {
    f->tokens[r] = (int32_t)((r * 7 + r * r) % config->vocab);
    f->targets[r] = r == 3 ? -1 : (int32_t)((r * 5 + 2) % config->vocab);
  }
  f->batch = (cov_llama_batch){.tokens = f->tokens, .targets = f->targets, .B = B, .T = T};
  assert_ok(cov_llama_create(config, &f->params, &shape, cov_ops_ref(), &f->place, &f->model));
}

static void close_model(fixture *f) {
  cov_llama_destroy(&f->model);
  assert_null(f->model);
  cov_params_destroy(&f->params);
  free(f->theta);
  free(f->grad);
}

static const cov_llama_shape full = {.batch = B, .seq_len = T, .head_rows = 4};

/* ---- gradients ---- */

/* Mean loss at theta + h * direction, the direction lying in one tensor. */
static double loss_at(fixture *f, const cov_param *t, const float *direction, double h) {
  cov_llama_loss loss;
  float *w = f->theta + t->offset, *saved = floats(t->elems);
  memcpy(saved, w, (size_t)t->elems * sizeof *w);
  for (int64_t e = 0; e < t->elems; e++) w[e] = (float)((double)w[e] + h * (double)direction[e]);
  assert_ok(cov_llama_evaluate(f->model, f->theta, &f->batch, NULL, &loss));
  memcpy(w, saved, (size_t)t->elems * sizeof *w);
  free(saved);
  return loss.loss_sum / (double)loss.count;
}

/* Fourth-order central difference: the error is h^4 times the fifth derivative, and the float activations' rounding
 * (about 1e-7) over h. With h = 0.02 both are near 1e-5 here; the bound below is 5e-4 of the tensor's gradient. */
static double slope_at(fixture *f, const cov_param *t, const float *direction) {
  const double h = 0.02;
  double near = loss_at(f, t, direction, h) - loss_at(f, t, direction, -h);
  double far = loss_at(f, t, direction, 2.0 * h) - loss_at(f, t, direction, -2.0 * h);
  return (8.0 * near - far) / (12.0 * h);
}

static void check_direction(fixture *f, const cov_param *t, const float *direction, double norm) {
  const float *g = f->grad + t->offset;
  double want = 0.0, length = 0.0;
  for (int64_t e = 0; e < t->elems; e++) {
    want += (double)g[e] * (double)direction[e];
    length += (double)direction[e] * (double)direction[e];
  }
  assert_true(fabs(sqrt(length) - 1.0) < 1e-3);
  double got = slope_at(f, t, direction);
  if (!(fabs(got - want) <= 5e-4 * norm + 1e-5)) {
    fail_msg("%s: slope %.9g by differences, %.9g by the gradient (norm %.3g)", t->name, got, want, norm);
  }
}

static void check_tensor(fixture *f, int index) {
  const cov_param *t = &f->params.item[index];
  const float *g = f->grad + t->offset;
  float *direction = floats(t->elems);
  double norm = 0.0, length = 0.0;
  for (int64_t e = 0; e < t->elems; e++) norm += (double)g[e] * (double)g[e];
  norm = sqrt(norm);
  assert_true(norm > 1e-3); /* a path without signal would prove nothing */
  for (int64_t e = 0; e < t->elems; e++) direction[e] = (float)((double)g[e] / norm);
  check_direction(f, t, direction, norm);
  for (int64_t e = 0; e < t->elems; e++) {
    direction[e] = test_random(99, (uint64_t)(e + 1000 * index));
    length += (double)direction[e] * (double)direction[e];
  }
  for (int64_t e = 0; e < t->elems; e++) direction[e] = (float)((double)direction[e] / sqrt(length));
  check_direction(f, t, direction, norm);
  for (int64_t k = 0; k < 4; k++) { /* single elements, corners included */
    memset(direction, 0, (size_t)t->elems * sizeof *direction);
    direction[k * (t->elems - 1) / 3] = 1.0f;
    check_direction(f, t, direction, norm);
  }
  free(direction);
}

static void check_gradients(int tied, int64_t kv_heads, int recompute) {
  fixture f;
  cov_llama_config config = tiny_config(tied, kv_heads);
  cov_llama_shape shape = full;
  shape.recompute = recompute;
  open_model(&f, &config, shape);
  cov_llama_loss loss;
  assert_ok(cov_llama_grad(f.model, f.theta, &f.batch, 1.0f / (R - 1), f.grad, &loss));
  assert_int_equal(loss.count, R - 1);
  for (int i = 0; i < f.params.n; i++) check_tensor(&f, i);
  close_model(&f);
}

static void gradients_untied_grouped_heads(void **state) {
  (void)state;
  check_gradients(0, 2, 0);
}

static void gradients_tied_one_shared_head(void **state) {
  (void)state;
  check_gradients(1, 1, 0);
}

static void gradients_own_heads_recomputed(void **state) {
  (void)state;
  check_gradients(1, 4, 1);
}

/* ---- promises of the object ---- */

static void recomputing_changes_no_bit(void **state) {
  (void)state;
  cov_llama_config config = tiny_config(1, 2);
  cov_llama_shape again = full;
  again.recompute = 1;
  fixture f, g;
  cov_llama_loss a, b;
  open_model(&f, &config, full);
  open_model(&g, &config, again);
  assert_ok(cov_llama_grad(f.model, f.theta, &f.batch, 0.25f, f.grad, &a));
  assert_ok(cov_llama_grad(g.model, g.theta, &g.batch, 0.25f, g.grad, &b));
  assert_true(a.loss_sum == b.loss_sum);
  assert_memory_equal(f.grad, g.grad, (size_t)f.params.span * sizeof(float));
  close_model(&f);
  close_model(&g);
}

static void blocks_of_the_head_do_not_matter(void **state) {
  (void)state;
  cov_llama_config config = tiny_config(0, 2);
  fixture f, g;
  cov_llama_loss a, b;
  open_model(&f, &config, full);
  for (int64_t rows = 1; rows <= R + 1; rows++) {
    open_model(&g, &config, (cov_llama_shape){.batch = B, .seq_len = T, .head_rows = rows});
    memset(f.grad, 0, (size_t)f.params.span * sizeof(float));
    assert_ok(cov_llama_grad(f.model, f.theta, &f.batch, 0.1f, f.grad, &a));
    assert_ok(cov_llama_grad(g.model, g.theta, &g.batch, 0.1f, g.grad, &b));
    assert_true(fabs(a.loss_sum - b.loss_sum) < 1e-12 * a.loss_sum);
    assert_int_equal(a.count, b.count);
    assert_true(test_max_error(g.grad, f.grad, (size_t)f.params.span, 1e-2, NULL) < 1e-5);
    close_model(&g);
  }
  close_model(&f);
}

/* A source that lends one unit at a time, in memory of its own: what is read or written outside an open unit shows. */
typedef struct {
  fixture *f;
  float *theta, *grad; /* copies of the open unit */
  float *sum;          /* [span] gradients of closed units */
  int open;
  int64_t order[32], n_opened;
} lender;

static cov_status lend(void *arg, int with_grad, cov_llama_unit *unit) {
  lender *d = arg;
  assert_int_equal(d->open, 0);
  d->open = 1;
  d->theta = floats(unit->elems);
  d->grad = floats(unit->elems);
  memcpy(d->theta, d->f->theta + unit->first, (size_t)unit->elems * sizeof(float));
  unit->theta = d->theta;
  unit->grad = with_grad ? d->grad : NULL;
  assert_true(d->n_opened < 32);
  d->order[d->n_opened++] = unit->unit;
  return COV_OK;
}

static cov_status take_back(void *arg, const cov_llama_unit *unit) {
  lender *d = arg;
  assert_int_equal(d->open, 1);
  d->open = 0;
  for (int64_t e = 0; e < unit->elems; e++) d->sum[unit->first + e] += d->grad[e];
  free(d->theta);
  free(d->grad);
  return COV_OK;
}

static void units_are_lent_one_at_a_time(void **state) {
  (void)state;
  static const int64_t order[2][11] = {{0, 1, 2, 3, 3, 3, 2, 1, 0}, {0, 1, 2, 3, 0, 3, 2, 1, 0}};
  for (int tied = 0; tied < 2; tied++) {
    fixture f;
    cov_llama_config config = tiny_config(tied, 2);
    cov_llama_loss whole, lent;
    open_model(&f, &config, full);
    lender d = {.f = &f, .sum = floats(f.params.span)};
    const cov_llama_source source = {.open = lend, .close = take_back, .arg = &d};
    assert_ok(cov_llama_grad(f.model, f.theta, &f.batch, 0.5f, f.grad, &whole));
    assert_ok(cov_llama_grad_units(f.model, &source, &f.batch, 0.5f, &lent));
    assert_true(whole.loss_sum == lent.loss_sum);
    assert_int_equal(d.n_opened, 9);
    assert_memory_equal(d.order, order[tied], 9 * sizeof(int64_t));
    for (int64_t e = 0; e < f.params.span; e++) assert_float_equal(d.sum[e], f.grad[e], 1e-6);
    free(d.sum);
    close_model(&f);
  }
}

/* A source that fails is heard. */
static cov_status refuse(void *arg, int with_grad, cov_llama_unit *unit) {
  (void)arg;
  (void)with_grad;
  return unit->unit == 2 ? COV_FAIL(COV_ECOMM, "unit 2 is gone") : lend(arg, with_grad, unit);
}

static void a_failing_source_is_passed_up(void **state) {
  (void)state;
  fixture f;
  cov_llama_config config = tiny_config(1, 2);
  cov_llama_loss loss;
  open_model(&f, &config, full);
  lender d = {.f = &f, .sum = floats(f.params.span)};
  const cov_llama_source source = {.open = refuse, .close = take_back, .arg = &d};
  assert_int_equal(cov_llama_grad_units(f.model, &source, &f.batch, 0.5f, &loss), COV_ECOMM);
  free(d.sum);
  close_model(&f);
}

static void gradients_accumulate_over_sequences(void **state) {
  (void)state;
  cov_llama_config config = tiny_config(1, 2);
  fixture f;
  cov_llama_loss loss, part;
  open_model(&f, &config, full);
  assert_ok(cov_llama_grad(f.model, f.theta, &f.batch, 0.5f, f.grad, &loss));
  float *sum = floats(f.params.span);
  double nats = 0.0;
  for (int b = 0; b < B; b++) {
    cov_llama_batch one = {.tokens = f.tokens + b * T, .targets = f.targets + b * T, .B = 1, .T = T};
    assert_ok(cov_llama_grad(f.model, f.theta, &one, 0.5f, sum, &part));
    assert_int_equal(part.count, cov_llama_count_targets(&one));
    nats += part.loss_sum;
  }
  assert_true(fabs(nats - loss.loss_sum) < 1e-5);
  assert_true(test_max_error(sum, f.grad, (size_t)f.params.span, 1e-2, NULL) < 1e-5);
  free(sum);
  close_model(&f);
}

static void later_tokens_do_not_reach_earlier_logits(void **state) {
  (void)state;
  cov_llama_config config = tiny_config(0, 2);
  fixture f;
  float before[R * 17], after[R * 17];
  open_model(&f, &config, full);
  assert_ok(cov_llama_logits(f.model, f.theta, &f.batch, 0, R, before));
  f.tokens[3] = (f.tokens[3] + 1) % 17; /* sequence 0, position 3 */
  assert_ok(cov_llama_logits(f.model, f.theta, &f.batch, 0, R, after));
  for (int r = 0; r < R; r++) {
    int same = memcmp(before + r * 17, after + r * 17, 17 * sizeof(float)) == 0;
    assert_int_equal(same, r < 3 || r >= T);
  }
  float shorter[17]; /* a prefix alone gives the same logits */
  cov_llama_batch prefix = {.tokens = f.tokens, .B = 1, .T = 2};
  assert_ok(cov_llama_logits(f.model, f.theta, &prefix, 1, 1, shorter));
  assert_true(test_max_error(shorter, before + 17, 17, 1.0, NULL) < 1e-6);
  close_model(&f);
}

static void evaluation_agrees_with_training(void **state) {
  (void)state;
  cov_llama_config config = tiny_config(0, 2);
  fixture f, e;
  cov_llama_loss trained, evaluated, by_row;
  double nats[R], sum = 0.0;
  open_model(&f, &config, full);
  open_model(&e, &config, (cov_llama_shape){.batch = B, .seq_len = T, .evaluate_only = 1});
  assert_ok(cov_llama_grad(f.model, f.theta, &f.batch, 1.0f, f.grad, &trained));
  assert_ok(cov_llama_evaluate(e.model, e.theta, &e.batch, NULL, &evaluated));
  assert_ok(cov_llama_evaluate(f.model, f.theta, &f.batch, nats, &by_row));
  for (int r = 0; r < R; r++) sum += nats[r];
  assert_true(nats[3] == 0.0 && nats[4] > 0.0); /* position 3 has no target */
  assert_true(fabs(trained.loss_sum - evaluated.loss_sum) < 1e-12 * trained.loss_sum);
  assert_true(fabs(trained.loss_sum - by_row.loss_sum) < 1e-12 * trained.loss_sum);
  assert_true(fabs(sum - by_row.loss_sum) < 1e-12 * sum);
  assert_int_equal(evaluated.count, R - 1);
  assert_int_equal(by_row.count, R - 1);
  assert_status(cov_llama_grad(e.model, e.theta, &e.batch, 1.0f, e.grad, &trained), COV_EUSAGE);
  close_model(&f);
  close_model(&e);
}

static void a_batch_without_targets_has_no_gradient(void **state) {
  (void)state;
  cov_llama_config config = tiny_config(1, 2);
  fixture f;
  cov_llama_loss loss;
  open_model(&f, &config, full);
  for (int r = 0; r < R; r++) f.targets[r] = -1;
  assert_ok(cov_llama_grad(f.model, f.theta, &f.batch, 1.0f, f.grad, &loss));
  assert_int_equal(loss.count, 0);
  assert_true(loss.loss_sum == 0.0);
  for (int64_t i = 0; i < f.params.span; i++) assert_true(f.grad[i] == 0.0f);
  close_model(&f);
}

static void bad_batches_are_refused(void **state) {
  (void)state;
  cov_llama_config config = tiny_config(1, 2);
  fixture f;
  cov_llama_loss loss;
  float logits[17];
  open_model(&f, &config, full);
  float *untouched = floats(f.params.span);
#define REFUSED(change, undo, status)                                                       \
  do {                                                                                      \
    change;                                                                                 \
    assert_status(cov_llama_grad(f.model, f.theta, &f.batch, 1.0f, f.grad, &loss), status); \
    assert_memory_equal(f.grad, untouched, (size_t)f.params.span * sizeof(float));          \
    undo;                                                                                   \
  } while (0)
  REFUSED(f.tokens[7] = 17, f.tokens[7] = 0, COV_EDATA);
  assert_non_null(strstr(cov_error_text(), "token 17 at position 2 of sequence 1"));
  REFUSED(f.tokens[0] = -1, f.tokens[0] = 0, COV_EDATA);
  REFUSED(f.targets[9] = 17, f.targets[9] = 0, COV_EDATA);
  REFUSED(f.targets[9] = -100, f.targets[9] = 0, COV_EDATA);
  REFUSED(f.batch.targets = NULL, f.batch.targets = f.targets, COV_EUSAGE);
  REFUSED(f.batch.B = 3, f.batch.B = B, COV_EUSAGE);
  REFUSED(f.batch.B = 0, f.batch.B = B, COV_EUSAGE);
  REFUSED(f.batch.T = 6, f.batch.T = T, COV_EUSAGE);
  assert_status(cov_llama_grad(f.model, f.theta, &f.batch, NAN, f.grad, &loss), COV_EUSAGE);
  assert_status(cov_llama_logits(f.model, f.theta, &f.batch, R, 1, logits), COV_EUSAGE);
  assert_status(cov_llama_logits(f.model, f.theta, &f.batch, -1, 1, logits), COV_EUSAGE);
  free(untouched);
  close_model(&f);
}

static size_t bytes_in_use(void) {
  return cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_ACTIVATIONS) +
         cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PREPARED) + cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_SCRATCH);
}

static void memory_is_what_was_predicted(void **state) {
  (void)state;
  cov_llama_config config = tiny_config(0, 2);
  for (int variant = 0; variant < 3; variant++) {
    cov_llama_shape shape = full;
    shape.recompute = variant == 1;
    shape.evaluate_only = variant == 2;
    fixture f;
    size_t before = bytes_in_use();
    open_model(&f, &config, shape);
    cov_llama_bytes want;
    assert_ok(cov_llama_measure(&config, &shape, cov_ops_ref(), &f.place, &want));
    assert_int_equal(bytes_in_use() - before, want.activations + want.prepared + want.scratch);
    size_t peak = cov_mem_peak_bytes(COV_SPACE_HOST, COV_MEM_ACTIVATIONS);
    cov_llama_loss loss;
    assert_ok(cov_llama_evaluate(f.model, f.theta, &f.batch, NULL, &loss));
    if (variant < 2) assert_ok(cov_llama_grad(f.model, f.theta, &f.batch, 1.0f, f.grad, &loss));
    assert_int_equal(cov_mem_peak_bytes(COV_SPACE_HOST, COV_MEM_ACTIVATIONS), peak);
    close_model(&f);
    assert_int_equal(bytes_in_use(), before);
  }
}

/* With 262,144 tokens in the vocabulary one more row of logits would be a MiB: what a longer batch costs more is less
 * than a twentieth of that a row, and the head with its logits is there once, for 256 rows. */
static void the_head_does_not_grow_with_the_batch(void **state) {
  (void)state;
  enum { V = 262144 };
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  const cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  cov_llama_config config = tiny_config(1, 2);
  config.vocab = V;
  config.seq_len = 64;
  for (int t = 0; t < 2; t++) {
    int64_t bytes[2];
    for (int i = 0; i < 2; i++) {
      const cov_llama_shape shape = {.batch = i ? 16 : 4, .seq_len = 64};
      cov_llama_bytes of;
      assert_ok(cov_llama_measure(&config, &shape, tables[t], &place, &of));
      bytes[i] = of.activations + of.scratch;
    }
    assert_true(bytes[1] - bytes[0] < (int64_t)(12 * 64) * V * 4 / 20);
    assert_in_range(bytes[0], (int64_t)256 * V * 4, (int64_t)256 * V * 4 * 3 / 2);
  }
}

static void create_refuses_what_it_cannot_run(void **state) {
  (void)state;
  cov_llama_config config = tiny_config(0, 2), other = tiny_config(1, 2);
  cov_params params;
  cov_llama *model;
  cov_place place = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1}, bad = place;
  cov_params_create(&params);
  assert_ok(cov_llama_params(&config, &params));
  cov_llama_shape shape = {.batch = 1, .seq_len = 9};
  assert_status(cov_llama_create(&config, &params, &shape, cov_ops_ref(), &place, &model), COV_EUSAGE);
  shape.seq_len = 8;
  shape.batch = 0;
  assert_status(cov_llama_create(&config, &params, &shape, cov_ops_ref(), &place, &model), COV_EUSAGE);
  shape.batch = 1;
  assert_status(cov_llama_create(&other, &params, &shape, cov_ops_ref(), &place, &model), COV_EUSAGE);
  bad.dtype = (cov_dtype)7;
  assert_status(cov_llama_create(&config, &params, &shape, cov_ops_ref(), &bad, &model), COV_EUSAGE);
  bad = place;
  bad.space = COV_SPACE_DEVICE;
  assert_status(cov_llama_create(&config, &params, &shape, cov_ops_ref(), &bad, &model), COV_EUSAGE);
  assert_null(model);
  cov_params_destroy(&params);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradients_untied_grouped_heads),
      cmocka_unit_test(gradients_tied_one_shared_head),
      cmocka_unit_test(gradients_own_heads_recomputed),
      cmocka_unit_test(recomputing_changes_no_bit),
      cmocka_unit_test(blocks_of_the_head_do_not_matter),
      cmocka_unit_test(units_are_lent_one_at_a_time),
      cmocka_unit_test(a_failing_source_is_passed_up),
      cmocka_unit_test(gradients_accumulate_over_sequences),
      cmocka_unit_test(later_tokens_do_not_reach_earlier_logits),
      cmocka_unit_test(evaluation_agrees_with_training),
      cmocka_unit_test(a_batch_without_targets_has_no_gradient),
      cmocka_unit_test(bad_batches_are_refused),
      cmocka_unit_test(memory_is_what_was_predicted),
      cmocka_unit_test(the_head_does_not_grow_with_the_batch),
      cmocka_unit_test(create_refuses_what_it_cannot_run),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
