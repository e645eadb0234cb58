/* Learning rate, clipping and warm-up against vectors of other projects, read in place: lr_cosine and clip_grad_norm of
 * kernels/kernels.json (stanford-cs336), warmup_scale and lr_flatten of sparseloco/scoring_rules.json (templar). */
#include "support.h"

#ifndef COVENANT_HAVE_JANSSON
static void needs_json(void **state) {
  (void)state;
  printf("skipped: built without jansson, which reads the vectors\n");
  skip();
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(needs_json)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#else

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "optim/clip.h"
#include "optim/schedule.h"

typedef void check(const json_t *c);

static double number(const json_t *c, const char *key) {
  const json_t *value = json_object_get(c, key);
  if (!json_is_number(value)) fail_msg("the vectors have no number %s", key);
  return json_number_value(value);
}

static int64_t whole(const json_t *c, const char *key) {
  return (int64_t)number(c, key);
}

/* Run `one` on every case with this op; at least `least` must be there. */
static void each_case(const char *file, const char *op, size_t least, check *one) {
  const char *path = test_shared(file);
  if (!path) skip();
  json_error_t error;
  json_t *root = json_load_file(path, 0, &error), *c;
  if (!root) fail_msg("%s: %s", path, error.text);
  size_t i, found = 0;
  json_array_foreach(json_object_get(root, "cases"), i, c) {
    const char *have = json_string_value(json_object_get(c, "op"));
    if (!have || strcmp(have, op) != 0) continue;
    found++;
    one(c);
  }
  json_decref(root);
  if (found < least) fail_msg("%s has %zu cases of %s, expected at least %zu", file, found, op, least);
}

static void check_lr(const json_t *c) {
  cov_schedule s;
  cov_schedule_default(&s);
  s.base = number(c, "max_lr");
  s.warmup_steps = whole(c, "warmup_iters");
  s.warmup_start_factor = 0.0;
  s.decay_steps = whole(c, "cosine_cycle_iters") - s.warmup_steps;
  s.final_ratio = number(c, "min_lr") / s.base;
  assert_ok(cov_schedule_verify(&s));
  const json_t *out = json_object_get(c, "out");
  for (size_t t = 0; t < json_array_size(out); t++) {
    double want = json_number_value(json_array_get(out, t)), got = cov_schedule_lr(&s, (int64_t)t);
    if (!(fabs(got - want) <= number(c, "rel_tol") * want)) fail_msg("step %zu: %.12g, want %.12g", t, got, want);
  }
}

static void lr_cosine(void **state) {
  (void)state;
  each_case("vectors/kernels/kernels.json", "lr_cosine", 1, check_lr);
}

static void check_clip(const json_t *c) {
  const json_t *grads = json_object_get(c, "grads"), *outs = json_object_get(c, "out");
  const cov_place host = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  cov_params params;
  float flat[512] = {0};
  double norm;
  cov_params_create(&params);
  for (size_t g = 0; g < json_array_size(grads); g++) {
    const json_t *grad = json_array_get(grads, g);
    cov_param t = {.dims = 1, .rows = 1, .cols = (int64_t)json_array_size(grad)};
    snprintf(t.name, sizeof t.name, "tensor %zu", g);
    assert_ok(cov_params_add(&params, &t));
    assert_true(params.span <= 512);
    for (int64_t e = 0; e < t.cols; e++) {
      flat[params.item[g].offset + e] = (float)json_number_value(json_array_get(grad, (size_t)e));
    }
  }
  for (int k = 0; k < 2; k++) {
    assert_ok(cov_grad_norm(&params, tables[k], &host, flat, &norm));
    double want = number(c, "total_norm"), factor = cov_clip_factor(norm, number(c, "max_norm"));
    assert_true(fabs(norm - want) <= 1e-6 * want);
    for (int g = 0; g < params.n; g++) {
      for (int64_t e = 0; e < params.item[g].elems; e++) {
        double out = json_number_value(json_array_get(json_array_get(outs, (size_t)g), (size_t)e));
        assert_true(fabs(factor * (double)flat[params.item[g].offset + e] - out) <= number(c, "abs_tol"));
      }
    }
  }
  cov_params_destroy(&params);
}

static void clip_grad_norm(void **state) {
  (void)state;
  each_case("vectors/kernels/kernels.json", "clip_grad_norm", 1, check_clip);
}

static void check_warmup(const json_t *c) {
  double got = cov_schedule_restart_factor(whole(c, "steps_taken"), whole(c, "warmup_inner_steps"));
  assert_true(fabs(got - number(c, "out")) < 1e-12);
}

static void warmup_scale(void **state) {
  (void)state;
  each_case("vectors/sparseloco/scoring_rules.json", "warmup_scale", 5, check_warmup);
}

static void check_flatten(const json_t *c) {
  const int64_t H = whole(c, "inner_steps");
  const json_t *start = json_object_get(c, "flatten_start_window");
  cov_schedule s;
  cov_schedule_default(&s);
  s.flatten_start_step = json_is_null(start) ? 0 : (int64_t)json_integer_value(start) * H;
  s.flatten_steps = whole(c, "flatten_windows") * H;
  assert_ok(cov_schedule_verify(&s));
  assert_int_equal(cov_schedule_is_flat(&s, whole(c, "step")), json_is_true(json_object_get(c, "out")));
}

static void lr_flatten(void **state) {
  (void)state;
  each_case("vectors/sparseloco/scoring_rules.json", "lr_flatten", 14, check_flatten);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lr_cosine),
      cmocka_unit_test(clip_grad_norm),
      cmocka_unit_test(warmup_scale),
      cmocka_unit_test(lr_flatten),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
