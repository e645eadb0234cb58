/* Vectors of the original's tests and recomputations of its behaviour, from JSON (tests/golden/README.md).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

#ifndef COVENANT_HAVE_JANSSON
static void vectors(void **state) {
  (void)state;
  printf("skipped: built without jansson, the vectors are JSON\n");
  skip();
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(vectors)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#else

#include <jansson.h>

#include "sparse_cases.h"
#include "sparseloco/original.h"
#include "sparseloco/outer.h"
#include "sparseloco/overlap.h"

static json_t *load(const char *path) {
  json_error_t error;
  json_t *root = json_load_file(path, 0, &error);
  if (!root) fail_msg("%s: %s (line %d)", path, error.text, error.line);
  return root;
}

/* A file of the shared folder, read in place; skips the test where it is absent. */
static json_t *load_shared(const char *name) {
  const char *path = test_shared(name);
  if (!path) skip();
  return load(path);
}

static const char *text(const json_t *o, const char *key) {
  return json_string_value(json_object_get(o, key));
}
static double number(const json_t *o, const char *key) {
  return json_number_value(json_object_get(o, key));
}
static int integer(const json_t *o, const char *key) {
  return (int)json_integer_value(json_object_get(o, key));
}
static float item(const json_t *array, size_t i) {
  return (float)json_number_value(json_array_get(array, i));
}
static uint16_t index_item(const json_t *array, size_t i) {
  return (uint16_t)json_integer_value(json_array_get(array, i));
}

/* The hex text of bytes[n] equals `want`. */
static void assert_hex(const uint8_t *bytes, size_t n, const char *want) {
  assert_int_equal(strlen(want), 2 * n);
  for (size_t i = 0; i < n; i++) {
    unsigned value = 256;
    assert_int_equal(sscanf(want + 2 * i, "%2x", &value), 1);
    assert_int_equal(bytes[i], value);
  }
}

static void pack12(void **state) {
  (void)state;
  json_t *root = load_shared("vectors/sparseloco/pack12.json"), *c;
  size_t i, n_errors = 0;
  json_array_foreach(json_object_get(root, "cases"), i, c) {
    json_t *list = json_object_get(c, "indices");
    size_t n = json_array_size(list);
    uint16_t *index = calloc(n + 1, sizeof *index), *back = calloc(n + 1, sizeof *back);
    uint8_t *packed = malloc(n * 2 + 1);
    for (size_t j = 0; j < n; j++) index[j] = index_item(list, j);
    if (text(c, "error")) {
      assert_status(cov_pack12(index, n, packed), COV_EUSAGE);
      n_errors++;
    } else {
      assert_ok(cov_pack12(index, n, packed));
      if (text(c, "packed_hex")) assert_hex(packed, n / 2 * 3, text(c, "packed_hex"));
      if (json_object_get(c, "packed_bytes")) assert_int_equal(n / 2 * 3, integer(c, "packed_bytes"));
      cov_unpack12(packed, 0, (int)n, back);
      assert_memory_equal(back, index, n * sizeof *index);
    }
    free(index), free(back), free(packed);
  }
  assert_int_equal(i, 10);
  assert_int_equal(n_errors, 2);
  json_decref(root);
}

static void chunk_order(const json_t *c) {
  sparse_shape shape = {"w", integer(c, "rows"), integer(c, "cols")};
  cov_params params;
  cov_grid grid;
  sparse_params(&params, &shape, 1);
  assert_ok(cov_grid_create(&params, integer(c, "target"), 64, &grid));
  const cov_grid_tensor *gt = &grid.tensor[0];
  assert_int_equal(gt->h, integer(c, "chunk_h"));
  assert_int_equal(gt->w, integer(c, "chunk_w"));
  json_t *order = json_object_get(c, "order");
  assert_int_equal(json_array_size(order), gt->elems);
  for (int64_t j = 0; j < gt->elems; j++)
    assert_int_equal(cov_grid_elem(gt, j / gt->chunk_elems, (int)(j % gt->chunk_elems)),
                     json_integer_value(json_array_get(order, (size_t)j)));
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

static void chunking(void **state) {
  (void)state;
  json_t *root = load_shared("vectors/sparseloco/chunking.json"), *c;
  size_t i;
  json_array_foreach(json_object_get(root, "cases"), i, c) {
    const char *op = text(c, "op");
    if (strcmp(op, "smaller_split") == 0) {
      assert_int_equal(cov_grid_split(integer(c, "n"), integer(c, "close_to")), integer(c, "out"));
    } else if (strcmp(op, "clamp_topk") == 0) {
      assert_int_equal(cov_grid_topk(integer(c, "topk"), integer(c, "last_dim")), integer(c, "out"));
    } else {
      assert_string_equal(op, "chunk_order_2d");
      chunk_order(c);
    }
  }
  assert_int_equal(i, 17);
  json_decref(root);
}

static void assert_near(const char *what, const char *name, const json_t *want, const float *got, size_t n,
                        double tol) {
  assert_int_equal(json_array_size(want), n);
  for (size_t i = 0; i < n; i++) {
    double w = json_number_value(json_array_get(want, i));
    if (!(fabs((double)got[i] - w) <= tol))
      fail_msg("%s: %s[%zu] is %.9g, want %.9g", name, what, i, (double)got[i], w);
  }
}

/* The same entries in the layouts of the original, and back. */
static void check_layouts(const cov_grid_tensor *gt, const uint16_t *index, const uint8_t *code, int bins,
                          const char *packed_hex) {
  size_t kept = (size_t)gt->n_kept, bytes;
  uint16_t *index_again = calloc(kept, sizeof *index);
  uint8_t *out = malloc(3 * kept), *code_again = calloc(kept, 1);
  for (int layout = COV_ORIGINAL_SHIPPED; layout <= COV_ORIGINAL_PAPER; layout++) {
    if (layout == COV_ORIGINAL_PAPER && bins > 4) continue;
    assert_ok(cov_original_bytes(gt, (cov_original_layout)layout, &bytes));
    assert_ok(cov_original_write(gt, (cov_original_layout)layout, index, code, out));
    assert_hex(out, kept / 2 * 3, packed_hex);
    assert_ok(
        cov_original_read(gt, (cov_original_layout)layout, bins > 0 ? bins : 1, out, bytes, index_again, code_again));
    assert_memory_equal(index_again, index, kept * sizeof *index);
    assert_memory_equal(code_again, code, kept);
    assert_status(cov_original_read(gt, (cov_original_layout)layout, 4, out, bytes - 1, index_again, code_again),
                  COV_EREMOTE);
  }
  free(index_again), free(out), free(code_again);
}

/* What a step sent: indices and codes exactly, then values, statistics and the dense transmission. */
static void check_step(const json_t *step, const char *name, const cov_grid *grid, const cov_payload_view *view,
                       double tol) {
  const cov_grid_tensor *gt = &grid->tensor[0];
  size_t kept = (size_t)gt->n_kept;
  uint16_t *index = calloc(kept, sizeof *index);
  float *value = calloc(kept, sizeof *value), *dense = calloc((size_t)gt->elems, sizeof *dense);
  uint8_t *code = calloc(kept, 1);
  json_t *q = json_object_get(step, "q"), *want = json_object_get(step, "indices");
  for (int64_t c = 0; c < gt->n_chunks; c++) {
    cov_payload_chunk(view, 0, c, index + c * gt->k, value + c * gt->k);
    if (q) cov_payload_codes(view, 0, c, index + c * gt->k, code + c * gt->k);
    for (int i = 0; i < gt->k; i++) dense[cov_grid_elem(gt, c, index[c * gt->k + i])] = value[c * gt->k + i];
  }
  assert_int_equal(gt->k, integer(step, "k"));
  assert_int_equal(json_array_size(want), kept);
  for (size_t i = 0; i < kept; i++) {
    assert_int_equal(index[i], index_item(want, i));
    if (q) assert_int_equal(code[i], json_integer_value(json_array_get(q, i)));
  }
  check_layouts(gt, index, code, q ? view->head.bins : 0, text(step, "packed_hex"));
  assert_near("values", name, json_object_get(step, q ? "dequantised" : "values"), value, kept, tol);
  assert_near("transmit", name, json_object_get(step, "transmit"), dense, (size_t)gt->elems, tol);
  for (int b = 0; q && b < view->head.bins; b++) { /* lookup is centred; an empty bin has no value */
    double lookup = json_number_value(json_array_get(json_object_get(step, "lookup"), (size_t)b));
    if (view->tensor[0].counts[b] == 0) assert_true(lookup == 0);
    else assert_true(fabs((double)view->tensor[0].table[b] - number(step, "shift") - lookup) <= tol);
  }
  free(index), free(value), free(dense), free(code);
}

static cov_encoder_params encoder_of(const json_t *c) {
  cov_encoder_params p = {.quant = {.id = COV_QUANT_NONE}, .beta = (float)number(c, "momentum_decay")};
  if (integer(c, "quantization_bins") > 0)
    p.quant = (cov_quant_params){.id = COV_QUANT_REFERENCE,
                                 .bins = integer(c, "quantization_bins"),
                                 .range = (float)number(c, "quantization_range")};
  return p;
}

static void compress_case(const json_t *c, int G) {
  const char *name = text(c, "name");
  const json_t *shape = json_object_get(c, "shape");
  int dims = (int)json_array_size(shape);
  sparse_shape s = {"w", dims == 2 ? json_integer_value(json_array_get(shape, 0)) : 0,
                    json_integer_value(json_array_get(shape, (size_t)dims - 1))};
  cov_encoder_params p = encoder_of(c);
  cov_params params;
  cov_grid grid;
  sparse_params(&params, &s, 1);
  assert_ok(cov_grid_create(&params, integer(c, "target_chunk"), integer(c, "topk"), &grid));
  cov_payload_expect expect = sparse_expect(&grid, &p.quant);
  cov_payload_head head = sparse_head(0);
  float *delta = calloc((size_t)params.span, sizeof *delta), *zero = calloc((size_t)params.span, sizeof *zero);
  float *e = calloc((size_t)params.span, sizeof *e);
  size_t i;
  json_t *step;
  json_array_foreach(json_object_get(c, "steps"), i, step) {
    uint8_t *payload;
    size_t bytes;
    cov_payload_view view;
    for (size_t j = 0; j < (size_t)params.elems; j++) delta[j] = item(json_object_get(step, "gradient"), j);
    assert_ok(sparse_encode(&grid, &p, G, delta, zero, e, &head, &payload, &bytes));
    assert_ok(cov_payload_check(payload, bytes, &expect, &view));
    check_step(step, name, &grid, &view, number(c, "tolerance"));
    assert_near("error_feedback", name, json_object_get(step, "error_feedback_out"), e, (size_t)params.elems,
                number(c, "tolerance"));
    cov_payload_close(&view);
    free(payload);
  }
  assert_true(i >= 2);
  free(delta), free(zero), free(e);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

static void compress_step(void **state) {
  (void)state;
  json_t *root = load(test_source("tests/data/sparseloco/compress_step.json")), *c;
  size_t i;
  json_array_foreach(json_object_get(root, "cases"), i, c) {
    compress_case(c, 1);
    compress_case(c, 3);
  }
  assert_int_equal(i, 5);
  json_decref(root);
}

/* One peer's payload from a case's nested lists. */
static uint8_t *payload_of(const json_t *peer, uint32_t number_of_peer, const cov_grid *grid,
                           const cov_quant_params *quant, size_t *bytes) {
  uint16_t index[64];
  float value[64];
  int k = grid->tensor[0].k, n = (int)grid->n_kept;
  assert_true(n <= 64);
  for (int j = 0; j < n; j++) {
    index[j] = index_item(json_array_get(json_object_get(peer, "indices"), (size_t)(j / k)), (size_t)(j % k));
    value[j] = item(json_array_get(json_object_get(peer, "values"), (size_t)(j / k)), (size_t)(j % k));
  }
  cov_payload_head head = sparse_head(number_of_peer);
  cov_piece content = {.indices = index, .values = value};
  return sparse_by_hand(grid, quant, &head, &content, bytes);
}

static void aggregate_case(const json_t *c) {
  json_t *peers = json_object_get(c, "peers");
  int chunks = integer(c, "chunks"), chunk_size = integer(c, "chunk_size");
  int clip = json_is_true(json_object_get(c, "clip_to_median_norm"));
  size_t n = json_array_size(peers);
  json_t *rows = json_object_get(json_array_get(peers, 0), "indices");
  sparse_shape s = {"v", 0, (int64_t)chunks * chunk_size};
  cov_params params;
  cov_grid grid;
  cov_quant_params quant = {.id = COV_QUANT_NONE};
  sparse_params(&params, &s, 1);
  assert_ok(cov_grid_create(&params, chunk_size, (int)json_array_size(json_array_get(rows, 0)), &grid));
  cov_payload_expect expect = sparse_expect(&grid, &quant);
  cov_payload_view view[8];
  const cov_payload_view *set[8];
  uint8_t *payload[8], hash[32];
  double norm[8], factor[8], tol = number(c, "tolerance");
  for (size_t i = 0; i < n; i++) {
    size_t bytes;
    payload[i] = payload_of(json_array_get(peers, i), (uint32_t)i, &grid, &quant, &bytes);
    assert_ok(cov_payload_check(payload[i], bytes, &expect, &view[i]));
    set[i] = &view[i];
  }
  cov_clip described = {.norm = norm, .factor = factor};
  cov_clip_describe(set, (int)n, 0, clip, &described);
  for (size_t i = 0; i < n; i++) {
    double want = json_number_value(json_array_get(json_object_get(c, "norms"), i));
    assert_true(fabs(norm[i] - want) <= 1e-6 * (1 + want)); /* the vectors are fp32 */
  }
  assert_true(fabs(described.median - number(c, "median_norm")) <= tol);
  float *theta = calloc((size_t)params.span, sizeof *theta);
  assert_ok(sparse_step(&grid, 1, set, (int)n, -1.0f, COV_MEAN_SENDERS, clip, theta, theta, hash)); /* 0 + D */
  for (int y = 0; y < chunks; y++)
    assert_near("out", text(c, "name"), json_array_get(json_object_get(c, "out"), (size_t)y), theta + y * chunk_size,
                (size_t)chunk_size, tol);
  for (size_t i = 0; i < n; i++) {
    cov_payload_close(&view[i]);
    free(payload[i]);
  }
  free(theta);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
}

static void aggregate(void **state) {
  (void)state;
  json_t *root = load(test_source("tests/data/sparseloco/aggregate.json")), *c;
  size_t i;
  json_array_foreach(json_object_get(root, "cases"), i, c) aggregate_case(c);
  assert_int_equal(i, 4);
  json_decref(root);
}

/* Shared positions over kept ones, of two peers given as lists of chunks. */
static double share_of(const json_t *a, const json_t *b) {
  size_t kept = 0;
  int64_t shared = 0;
  for (size_t y = 0; y < json_array_size(a); y++) {
    uint16_t of_a[16], of_b[16];
    size_t k = json_array_size(json_array_get(a, y));
    assert_true(k <= 16);
    for (size_t x = 0; x < k; x++) {
      of_a[x] = index_item(json_array_get(a, y), x);
      of_b[x] = index_item(json_array_get(b, y), x);
    }
    shared += cov_overlap_count(of_a, of_b, (int)k);
    kept += k;
  }
  return (double)shared / (double)kept;
}

static void overlap_case(const json_t *c) {
  static const char *const level_names[] = {"none", "high", "max", "mega"};
  json_t *peers = json_object_get(c, "peers"), *expect = json_object_get(c, "expect");
  int n = (int)json_array_size(peers);
  double share[64] = {0}, times[8] = {0};
  cov_overlap_level level[8];
  cov_overlap_summary summary;
  assert_true(n <= 8);
  for (int i = 0; i < n; i++) {
    times[i] = json_number_value(json_array_get(json_object_get(c, "upload_times"), (size_t)i));
    for (int j = i + 1; j < n; j++)
      share[i * n + j] = share_of(json_array_get(peers, (size_t)i), json_array_get(peers, (size_t)j));
  }
  cov_overlap_judge(share, times, n, number(c, "threshold"), level, &summary);
  assert_int_equal(summary.n_pairs, integer(expect, "pairs_checked"));
  assert_int_equal(summary.n_high, integer(expect, "pairs_high"));
  assert_true(fabs(summary.mean - number(expect, "mean_overlap")) < 1e-12);
  assert_true(summary.min == number(expect, "min_overlap") && summary.max == number(expect, "max_overlap"));
  json_t *offenders = json_object_get(expect, "offenders");
  for (int i = 0; i < n; i++) {
    char uid[16];
    snprintf(uid, sizeof uid, "%d", (int)json_integer_value(json_array_get(json_object_get(c, "uids"), (size_t)i)));
    const char *want = text(offenders, uid);
    assert_string_equal(level_names[level[i]], want ? want : "none");
  }
}

static void overlap(void **state) {
  (void)state;
  json_t *root = load_shared("vectors/sparseloco/overlap.json"), *c;
  size_t i;
  json_array_foreach(json_object_get(root, "cases"), i, c) overlap_case(c);
  assert_int_equal(i, 11);
  json_decref(root);
}

/* A tie in time has exactly one offender, the first of the pair (protocol 4.10). */
static void overlap_tie(void **state) {
  (void)state;
  static const double shares[4] = {0, 1, 0, 0}, times[2] = {5, 5};
  cov_overlap_level level[2];
  cov_overlap_summary summary;
  cov_overlap_judge(shares, times, 2, 0.4, level, &summary);
  assert_int_equal(level[0], COV_OVERLAP_MEGA);
  assert_int_equal(level[1], COV_OVERLAP_NONE);
}

/* The norm of two values as a payload's check forms it. */
static double norm_of(const json_t *values) {
  static const sparse_shape s = {"v", 0, 2};
  static const uint16_t index[2] = {0, 1};
  cov_params params;
  cov_grid grid;
  cov_quant_params quant = {.id = COV_QUANT_NONE};
  sparse_params(&params, &s, 1);
  assert_ok(cov_grid_create(&params, 2, 2, &grid));
  cov_payload_expect expect = sparse_expect(&grid, &quant);
  float value[2] = {item(values, 0), item(values, 1)};
  cov_payload_head head = sparse_head(0);
  cov_piece content = {.indices = index, .values = value};
  cov_payload_view view;
  size_t bytes;
  uint8_t *payload = sparse_by_hand(&grid, &quant, &head, &content, &bytes);
  assert_ok(cov_payload_check(payload, bytes, &expect, &view));
  double norm = view.tensor[0].norm;
  cov_payload_close(&view);
  free(payload);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
  return norm;
}

static void median_norm(void **state) {
  (void)state;
  json_t *root = load_shared("vectors/sparseloco/scoring_rules.json"), *c;
  size_t i, n_cases = 0;
  json_array_foreach(json_object_get(root, "cases"), i, c) {
    if (strcmp(text(c, "op"), "median_peer_norm") != 0) continue; /* the other rules are Gauntlet's */
    json_t *peers = json_object_get(c, "peers");
    double norm[8];
    for (size_t p = 0; p < json_array_size(peers); p++) norm[p] = norm_of(json_array_get(peers, p));
    assert_true(fabs(cov_norm_median(norm, (int)json_array_size(peers)) - number(c, "out")) < 1e-12);
    n_cases++;
  }
  assert_int_equal(n_cases, 3);
  json_decref(root);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pack12),      cmocka_unit_test(chunking), cmocka_unit_test(compress_step),
      cmocka_unit_test(aggregate),   cmocka_unit_test(overlap),  cmocka_unit_test(overlap_tie),
      cmocka_unit_test(median_norm),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
