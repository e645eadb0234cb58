/* covenant-test: timeout=60
 * Both host tables against shared/vectors/kernels/kernels.json (stanford-cs336 and our own cases), each case with the
 * tolerance in the file. lr_cosine and clip_grad_norm belong to lib/optim and are covered by its tests. */
#include "kernels_vectors.h"

#ifdef COVENANT_HAVE_JANSSON

/* The masks of these cases are arbitrary, the operation is causal. Row i of a masked attention equals the last row of a
 * causal attention whose sequence holds only the keys that row i may see: softmax does not know their order. So each
 * row is one call of the operation on its gathered keys and values. */
static void run_attention(const cov_ops *ops, const json_t *item, double tol) {
  int64_t n, n_mask;
  float *q = floats_read(item, "q", &n), *k = floats_read(item, "k", &n), *v = floats_read(item, "v", &n);
  float *mask = floats_read(item, "mask", &n_mask), *want = floats_read(item, "out", &n);
  int64_t rows = json_integer_value(json_array_get(json_object_get(item, "q_shape"), 0));
  int64_t keys = json_integer_value(json_array_get(json_object_get(item, "kv_shape"), 0)), E = n / rows;
  float *buffer = calloc((size_t)(4 * keys * E + keys), sizeof *buffer);
  float *own_q = buffer, *own_k = own_q + keys * E, *own_v = own_k + keys * E, *out = own_v + keys * E;
  float *lse = out + keys * E;
  assert_int_equal(n_mask, rows * keys);
  for (int64_t i = 0; i < rows; i++) {
    int64_t seen = 0;
    for (int64_t j = 0; j < keys; j++) {
      if (mask[i * keys + j] == 0.0f) continue;
      memcpy(own_k + seen * E, k + j * E, (size_t)E * sizeof *k);
      memcpy(own_v + seen * E, v + j * E, (size_t)E * sizeof *v);
      memcpy(own_q + seen * E, q + i * E, (size_t)E * sizeof *q);
      seen++;
    }
    assert_true(seen > 0);
    cov_place p = place_create(ops, 1, seen, E, E);
    assert_int_equal(ops->attention_forward(&p, out, lse, own_q, own_k, own_v, 1, seen, 1, 1, E, E, E, E), 0);
    check_absolute("attention", ops, out + (seen - 1) * E, want + i * E, E, tol);
    place_destroy(&p);
  }
  float *all[] = {q, k, v, mask, want, buffer};
  for (int i = 0; i < 6; i++) free(all[i]);
}

static void run_rope(const cov_ops *ops, const json_t *item, double tol) {
  int64_t n, T;
  float *x = floats_read(item, "x", &n), *want = floats_read(item, "out", &n);
  float *positions = floats_read(item, "positions", &T);
  int64_t E = n / T;
  for (int64_t t = 0; t < T; t++) assert_true(positions[t] == (float)t); /* the operation knows no others */
  float *table = calloc((size_t)(T * E), sizeof *table);
  cov_rope_table(table, T, E, json_number_value(json_object_get(item, "theta")));
  cov_place p = place_create(ops, 1, T, E, E);
  assert_int_equal(ops->rope(&p, x, table, 1, T, 1, E, E, 1), 0);
  check_absolute("rope", ops, x, want, n, tol);
  place_destroy(&p);
  float *all[] = {x, want, positions, table};
  for (int i = 0; i < 4; i++) free(all[i]);
}

static void run_cross_entropy(const cov_ops *ops, const json_t *item, double tol) {
  int64_t n, R, count = 0;
  double loss = 0;
  float *logits = floats_read(item, "logits", &n), *ids = floats_read(item, "targets", &R);
  int32_t targets[64];
  assert_true(R <= 64);
  for (int64_t r = 0; r < R; r++) targets[r] = (int32_t)ids[r];
  cov_place p = place_create(ops, 1, 1, 1, 2);
  assert_int_equal(ops->cross_entropy(&p, logits, logits, targets, R, n / R, 1.0f, &loss, &count), 0);
  assert_int_equal(count, R);
  double want = json_number_value(json_object_get(item, "out"));
  if (!(fabs(loss / (double)R - want) <= tol))
    fail_msg("cross_entropy (%s): %.9g, want %.9g", ops->name, loss / (double)R, want);
  place_destroy(&p);
  free(logits);
  free(ids);
}

/* The gradient of the loss is softmax minus one at the target. */
static void run_softmax(const cov_ops *ops, const json_t *item, double tol) {
  int64_t n, R = (int64_t)json_array_size(json_object_get(item, "x")), count = 0;
  double loss = 0;
  float *x = floats_read(item, "x", &n), *want = floats_read(item, "out", &n);
  int32_t targets[64] = {0};
  assert_true(R <= 64);
  cov_place p = place_create(ops, 1, 1, 1, 2);
  assert_int_equal(ops->cross_entropy(&p, x, x, targets, R, n / R, 1.0f, &loss, &count), 0);
  for (int64_t r = 0; r < R; r++) x[r * (n / R)] += 1.0f;
  check_absolute("softmax", ops, x, want, n, tol);
  place_destroy(&p);
  free(x);
  free(want);
}

static void run_rmsnorm(const cov_ops *ops, const json_t *item, double tol) {
  int64_t n, D;
  float *x = floats_read(item, "x", &n), *want = floats_read(item, "out", &n), *g = floats_read(item, "weight", &D);
  float *y = calloc((size_t)n, sizeof *y), *rstd = calloc((size_t)(n / D), sizeof *rstd);
  cov_place p = place_create(ops, 1, 1, D, 2);
  float eps = (float)json_number_value(json_object_get(item, "eps"));
  assert_int_equal(ops->rmsnorm_forward(&p, y, rstd, x, NULL, NULL, g, n / D, D, eps), 0);
  check_absolute("rmsnorm", ops, y, want, n, tol);
  place_destroy(&p);
  float *all[] = {x, want, g, y, rstd};
  for (int i = 0; i < 5; i++) free(all[i]);
}

/* y = W x, one sample a step; the target is (x0 + x1, -x2), the loss the sum of squares. */
static void run_adamw(const cov_ops *ops, const json_t *item, double tol) {
  int64_t n, n_x;
  float *w = floats_read(item, "w0", &n), *x = floats_read(item, "x", &n_x), *want = floats_read(item, "out", &n);
  float *other = floats_read(item, "out_other_reference", &n), m[6] = {0}, v[6] = {0}, g[6];
  const json_t *betas = json_object_get(item, "betas");
  float b1 = (float)json_number_value(json_array_get(betas, 0)),
        b2 = (float)json_number_value(json_array_get(betas, 1));
  float lr = (float)json_number_value(json_object_get(item, "lr"));
  float decay = (float)json_number_value(json_object_get(item, "weight_decay"));
  float eps = (float)json_number_value(json_object_get(item, "eps"));
  int64_t steps = json_integer_value(json_object_get(item, "steps"));
  cov_place p = place_create(ops, 1, 1, 1, 2);
  assert_int_equal(n, 6);
  assert_int_equal(n_x, steps * 3);
  for (int64_t s = 0; s < steps; s++) {
    const float *in = x + 3 * s;
    float target[2] = {in[0] + in[1], -in[2]};
    for (int r = 0; r < 2; r++) {
      float y = w[3 * r] * in[0] + w[3 * r + 1] * in[1] + w[3 * r + 2] * in[2];
      for (int c = 0; c < 3; c++) g[3 * r + c] = 2.0f * (y - target[r]) * in[c];
    }
    assert_int_equal(ops->adamw(&p, w, m, v, g, 6, lr, b1, b2, eps, decay, 1.0f, s + 1), 0);
  }
  /* The file gives the results of two references and either is accepted. */
  double distance = 0;
  for (int i = 0; i < 6; i++) distance = fmax(distance, fabs((double)w[i] - (double)want[i]));
  if (!(distance <= tol)) check_absolute("adamw", ops, w, other, 6, tol);
  place_destroy(&p);
  float *all[] = {w, x, want, other};
  for (int i = 0; i < 4; i++) free(all[i]);
}

typedef struct {
  const char *op;
  void (*run)(const cov_ops *ops, const json_t *item, double tol);
  int expected; /* cases in the file */
} kind;

static const kind KINDS[] = {
    {"attention", run_attention, 2}, {"rope_interleaved", run_rope, 2}, {"cross_entropy", run_cross_entropy, 2},
    {"softmax", run_softmax, 2},     {"rmsnorm", run_rmsnorm, 1},       {"adamw_regression", run_adamw, 1},
};
enum { N_KINDS = sizeof KINDS / sizeof KINDS[0] };

static json_t *cases_load(void) {
  const char *path = test_shared("vectors/kernels/kernels.json");
  if (!path) return NULL;
  json_error_t error;
  json_t *root = json_load_file(path, 0, &error);
  if (!root) fail_msg("%s: line %d: %s", path, error.line, error.text);
  return root;
}

static void run_table(const cov_ops *ops) {
  json_t *root = cases_load();
  if (!root) skip();
  const json_t *cases = json_object_get(root, "cases");
  int seen[N_KINDS] = {0};
  for (size_t i = 0; i < json_array_size(cases); i++) {
    const json_t *item = json_array_get(cases, i);
    const char *op = json_string_value(json_object_get(item, "op"));
    const json_t *tol = json_object_get(item, "abs_tol");
    int found = 0;
    for (int j = 0; j < N_KINDS; j++) {
      if (strcmp(op, KINDS[j].op) != 0) continue;
      assert_true(json_is_number(tol));
      KINDS[j].run(ops, item, json_number_value(tol));
      seen[j]++;
      found = 1;
    }
    if (!found) printf("not run here: case %zu, %s (no operation of the kernels; lib/optim has it)\n", i, op);
  }
  for (int j = 0; j < N_KINDS; j++) {
    if (seen[j] < KINDS[j].expected) fail_msg("%s: %d cases, want %d", KINDS[j].op, seen[j], KINDS[j].expected);
  }
  json_decref(root);
}

static void test_ref(void **state) {
  (void)state;
  run_table(cov_ops_ref());
}

static void test_cpu(void **state) {
  (void)state;
  static const char *const widths[] = {"baseline", "avx2", "avx512"};
  for (int i = 0; i < 3; i++) {
    if (covi_loops_choose(widths[i]) == 0) run_table(cov_ops_cpu());
  }
  assert_int_equal(covi_loops_choose(NULL), 0);
}

#else

static void test_ref(void **state) {
  (void)state;
  printf("skipped: built without jansson, which reads the vectors\n");
  skip();
}

static void test_cpu(void **state) {
  test_ref(state);
}

#endif

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref), cmocka_unit_test(test_cpu)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
