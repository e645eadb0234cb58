/* Three steps of the optimiser "muon" on a table of seven tensors, against tests/data/muon/muon.json: protocol 2.6
 * computed in double by the script beside it. Four cases, with both tables of operations. */
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
#include <stdlib.h>
#include <string.h>

#include "optim/optimizer.h"

enum { SPAN_MAX = 1024 };

static const cov_place host = {.space = COV_SPACE_HOST, .dtype = COV_F32, .threads = 1};

static const json_t *get(const json_t *o, const char *key) {
  const json_t *value = json_object_get(o, key);
  if (!value) fail_msg("muon.json has no '%s' where one is expected", key);
  return value;
}

static double number(const json_t *o, const char *key) {
  return json_number_value(get(o, key));
}

/* As cov_llama_params lists tensors: a vector has rows 1. */
static void make_params(const json_t *root, cov_params *params) {
  size_t i;
  json_t *row;
  cov_params_create(params);
  json_array_foreach(get(root, "tensors"), i, row) {
    cov_param t = {.decay = 1, .cols = json_integer_value(json_array_get(row, 2))};
    int64_t rows = json_integer_value(json_array_get(row, 1));
    snprintf(t.name, sizeof t.name, "%s", json_string_value(json_array_get(row, 0)));
    t.dims = rows > 0 ? 2 : 1;
    t.rows = rows > 0 ? rows : 1;
    assert_ok(cov_params_add(params, &t));
  }
  assert_int_equal(params->n, 7);
  assert_true(params->span <= SPAN_MAX);
}

static void make_config(const json_t *root, const json_t *c, cov_optimizer_config *config) {
  const json_t *adamw = get(root, "adamw");
  config->kind = COV_OPTIMIZER_MUON;
  config->adamw = (cov_adamw_config){.beta1 = number(adamw, "beta1"),
                                     .beta2 = number(adamw, "beta2"),
                                     .eps = number(adamw, "eps"),
                                     .decay = number(adamw, "decay")};
  config->muon = (cov_muon_config){.momentum = number(c, "momentum"),
                                   .nesterov = json_is_true(get(c, "nesterov")),
                                   .steps = (int)number(c, "steps"),
                                   .decay = number(c, "decay"),
                                   .output = json_is_true(get(c, "output")),
                                   .adamw_lr_ratio = number(c, "adamw_lr_ratio")};
  int shape = strcmp(json_string_value(get(c, "scale")), "shape") == 0;
  config->muon.scale = shape ? COV_MUON_SCALE_SHAPE : COV_MUON_SCALE_RMS;
}

static void read_tensors(const json_t *from, const cov_params *params, float *out) {
  for (int t = 0; t < params->n; t++) {
    const cov_param *p = &params->item[t];
    const json_t *list = get(from, p->name);
    assert_int_equal(json_array_size(list), p->elems);
    for (int64_t e = 0; e < p->elems; e++)
      out[p->offset + e] = (float)json_number_value(json_array_get(list, (size_t)e));
  }
}

/* `base` is laid out as the table. */
static void compare(const char *what, const json_t *want, const cov_params *params, const float *base, double bound) {
  for (int t = 0; t < params->n; t++) {
    const cov_param *p = &params->item[t];
    const json_t *list = get(want, p->name);
    for (int64_t e = 0; e < p->elems; e++) {
      double w = json_number_value(json_array_get(list, (size_t)e)), g = (double)base[p->offset + e];
      if (!(fabs(g - w) <= bound)) fail_msg("%s of %s, element %d: %.9g, want %.9g", what, p->name, (int)e, g, w);
    }
  }
}

static void check_case(const json_t *root, const json_t *c, const cov_ops *ops) {
  float theta[SPAN_MAX] = {0}, grad[SPAN_MAX] = {0};
  cov_params params;
  cov_optimizer_config config;
  cov_optimizer optimizer;
  json_t *step;
  size_t i;
  make_params(root, &params);
  make_config(root, c, &config);
  read_tensors(get(c, "weights"), &params, theta);
  assert_ok(cov_optimizer_create(&config, &params, NULL, COV_SPACE_HOST, &optimizer));
  for (int t = 0; t < params.n; t++) assert_int_equal(optimizer.part[t].offset, params.item[t].offset);
  json_array_foreach(get(c, "steps_taken"), i, step) {
    read_tensors(get(step, "gradient"), &params, grad);
    assert_ok(cov_optimizer_step(&optimizer, ops, &host, theta, grad, number(step, "lr"), number(step, "grad_scale")));
    compare("weights", get(step, "weights"), &params, theta, 5e-6);
    compare("first moment", get(step, "first"), &params, optimizer.state, 1e-6);
  }
  assert_int_equal(optimizer.step, 3);
  cov_optimizer_destroy(&optimizer);
  cov_params_destroy(&params);
}

static void muon_takes_the_steps_of_the_protocol(void **state) {
  (void)state;
  const cov_ops *tables[] = {cov_ops_ref(), cov_ops_cpu()};
  char path[1024];
  json_error_t error;
  json_t *c;
  snprintf(path, sizeof path, "%s/tests/data/muon/muon.json", getenv("COVENANT_SOURCE"));
  json_t *root = json_load_file(path, 0, &error);
  if (!root) fail_msg("%s: %s", path, error.text);
  assert_int_equal(json_array_size(get(root, "cases")), 4);
  for (int t = 0; t < 2; t++) {
    size_t i;
    json_array_foreach(get(root, "cases"), i, c) check_case(root, c, tables[t]);
  }
  json_decref(root);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(muon_takes_the_steps_of_the_protocol)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
