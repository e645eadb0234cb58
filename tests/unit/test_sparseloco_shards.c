/* covenant-test: timeout=300
 * The outer path as a whole: the same bits for any number of shards, any layout, any order of payloads; error feedback
 * that neither loses nor invents anything; errors that change nothing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/outer.h"
#include "support.h"

enum { N_PEERS = 11 }; /* a full set of chains, and a part of one */
static const cov_quant_id quantisers[] = {COV_QUANT_REFERENCE, COV_QUANT_SIGN1, COV_QUANT_SIGN2, COV_QUANT_NONE};
static const int shards_tried[] = {1, 2, 3, 4, 5, 6, 7, 8};

static cov_params params;
static cov_grid grid;
static size_t span_bytes;

static int set_up(void **state) {
  (void)state;
  sparse_params(&params, sparse_mixed, sparse_n_mixed);
  span_bytes = (size_t)params.span * sizeof(float);
  return cov_grid_create(&params, 16, 24, &grid) != COV_OK;
}

static int tear_down(void **state) {
  (void)state;
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
  return 0;
}

/* Two rounds on G shards: the second starts from the first one's feedback. Returns the second payload. */
static uint8_t *two_rounds(cov_quant_id id, cov_index_coder coder, int G, cov_layout feedback_layout, uint32_t peer,
                           float **feedback, size_t *bytes) {
  cov_encoder_params p = sparse_params_of(id);
  p.feedback_layout = feedback_layout;
  p.index_coder = coder;
  float *theta = sparse_random(&params, 1, 0.1f, 4), *end = sparse_random(&params, 50 + peer, 0.1f, 4);
  float *e = sparse_random(&params, 90 + peer, 0.01f, 6);
  cov_payload_head head = sparse_head(peer);
  uint8_t *payload = NULL;
  for (int round = 0; round < 2; round++) {
    free(payload);
    assert_ok(sparse_encode(&grid, &p, G, theta, end, e, &head, &payload, bytes));
  }
  free(theta);
  free(end);
  *feedback = e;
  return payload;
}

static void payload_does_not_depend_on_shards(void **state) {
  (void)state;
  for (int i = 0; i < 8; i++) {
    cov_quant_id id = quantisers[i / 2];
    cov_index_coder coder = i % 2 ? COV_INDEX_SPLIT : COV_INDEX_RICE;
    float *want_e, *e;
    size_t want_bytes, bytes;
    uint8_t *want = two_rounds(id, coder, 1, COV_LAYOUT_SPAN, 3, &want_e, &want_bytes);
    for (size_t g = 0; g < sizeof shards_tried / sizeof *shards_tried; g++) {
      for (int layout = 0; layout < 2; layout++) {
        cov_layout l = layout ? COV_LAYOUT_SHARD : COV_LAYOUT_SPAN;
        uint8_t *payload = two_rounds(id, coder, shards_tried[g], l, 3, &e, &bytes);
        assert_int_equal(bytes, want_bytes);
        assert_memory_equal(payload, want, bytes);
        assert_memory_equal(e, want_e, span_bytes);
        free(payload);
        free(e);
      }
    }
    free(want);
    free(want_e);
  }
}

/* e_new and what was sent add up to beta * e_old + delta, in exactly the specified operations. */
static void feedback_is_conserved(void **state) {
  (void)state;
  for (int q = 0; q < 4; q++) {
    cov_encoder_params p = sparse_params_of(quantisers[q]);
    cov_payload_head head = sparse_head(1);
    cov_payload_expect expect = sparse_expect(&grid, &p.quant);
    cov_payload_view view;
    float *theta = sparse_random(&params, 1, 0.1f, 8), *end = sparse_random(&params, 2, 0.1f, 8);
    float *old = sparse_random(&params, 3, 0.02f, 8), *e = sparse_copy(old, params.span);
    uint8_t *payload;
    size_t bytes;
    assert_ok(sparse_encode(&grid, &p, 3, theta, end, e, &head, &payload, &bytes));
    assert_ok(cov_payload_check(payload, bytes, &expect, &view));
    float *sent = calloc((size_t)params.span, sizeof *sent);
    unsigned char *is_sent = calloc((size_t)params.span, 1);
    uint16_t index[4096];
    float value[4096];
    for (int t = 0; t < grid.n; t++) {
      for (int64_t c = 0; c < grid.tensor[t].n_chunks; c++) {
        cov_payload_chunk(&view, t, c, index, value);
        float smallest = INFINITY, best_left = 0;
        for (int i = 0; i < grid.tensor[t].k; i++) {
          int64_t at = grid.tensor[t].offset + cov_grid_elem(&grid.tensor[t], c, index[i]);
          sent[at] = value[i];
          is_sent[at] = 1;
        }
        for (int i = 0; i < grid.tensor[t].chunk_elems; i++) { /* what stayed is no larger than what went */
          int64_t at = grid.tensor[t].offset + cov_grid_elem(&grid.tensor[t], c, i);
          float decayed = p.beta * old[at], delta = theta[at] - end[at], next = decayed + delta;
          if (is_sent[at]) smallest = fminf(smallest, fabsf(next));
          else best_left = fmaxf(best_left, fabsf(next));
          float want = is_sent[at] ? next - sent[at] : next;
          assert_memory_equal(&e[at], &want, sizeof want);
          if (quantisers[q] == COV_QUANT_NONE && is_sent[at]) assert_true(e[at] == 0);
        }
        assert_true(best_left <= smallest);
      }
    }
    cov_payload_close(&view);
    free(payload), free(sent), free(is_sent), free(theta), free(end), free(old), free(e);
  }
}

static void give_back_returns_what_was_sent(void **state) {
  (void)state;
  for (int q = 0; q < 4; q++) {
    cov_encoder_params p = sparse_params_of(quantisers[q]);
    cov_payload_head head = sparse_head(1);
    cov_payload_expect expect = sparse_expect(&grid, &p.quant);
    cov_payload_view view;
    float *theta = sparse_random(&params, 1, 0.1f, 2), *end = sparse_random(&params, 2, 0.1f, 2);
    float *e = calloc((size_t)params.span, sizeof *e);
    uint8_t *payload;
    size_t bytes;
    assert_ok(sparse_encode(&grid, &p, 1, theta, end, e, &head, &payload, &bytes));
    assert_ok(cov_payload_check(payload, bytes, &expect, &view));
    float *once = sparse_copy(e, params.span);
    for (int g = 0; g < 3; g++) { /* by three shards, or by one: the same bits */
      cov_shard shard;
      assert_ok(cov_shard_create(&grid, g, 3, &shard));
      cov_payload_give_back(&view, &shard, e, COV_LAYOUT_SPAN);
      cov_shard_destroy(&shard);
    }
    cov_shard whole;
    assert_ok(cov_shard_create(&grid, 0, 1, &whole));
    cov_payload_give_back(&view, &whole, once, COV_LAYOUT_SPAN);
    cov_shard_destroy(&whole);
    assert_memory_equal(e, once, span_bytes);
    for (int64_t i = 0; i < params.span; i++) {
      float delta = theta[i] - end[i];
      assert_true(fabsf(e[i] - delta) <= 4e-7f * fmaxf(fabsf(delta), 1.0f)); /* e was zero, so it is delta again */
    }
    cov_payload_close(&view);
    free(payload), free(theta), free(end), free(e), free(once);
  }
}

/* Five peers' payloads and their views. */
typedef struct {
  uint8_t *payload[N_PEERS];
  cov_payload_view view[N_PEERS];
  const cov_payload_view *set[N_PEERS];
} peers;

static void make_peers(peers *p, cov_quant_id id) {
  cov_encoder_params q = sparse_params_of(id);
  cov_payload_expect expect = sparse_expect(&grid, &q.quant);
  for (int i = 0; i < N_PEERS; i++) {
    float *e;
    size_t bytes;
    p->payload[i] =
        two_rounds(id, i % 2 ? COV_INDEX_SPLIT : COV_INDEX_RICE, 2, COV_LAYOUT_SPAN, (uint32_t)(2 + 3 * i), &e, &bytes);
    assert_ok(cov_payload_check(p->payload[i], bytes, &expect, &p->view[i]));
    p->set[i] = &p->view[i];
    free(e);
  }
}

static void free_peers(peers *p) {
  for (int i = 0; i < N_PEERS; i++) {
    cov_payload_close(&p->view[i]);
    free(p->payload[i]);
  }
}

/* The step written as naively as possible, on dense arrays. */
static float *step_naively(const peers *p, float alpha, int mean, int clip, const float *theta) {
  float *sum = calloc((size_t)params.span, sizeof *sum), *out = sparse_copy(theta, params.span);
  int *count = calloc((size_t)params.span, sizeof *count);
  uint16_t index[4096];
  float value[4096];
  for (int t = 0; t < grid.n; t++) {
    double norm[N_PEERS], median;
    for (int i = 0; i < N_PEERS; i++) norm[i] = p->view[i].tensor[t].norm;
    median = cov_norm_median(norm, N_PEERS);
    for (int i = 0; i < N_PEERS; i++) { /* peers were made in ascending order */
      double f = clip ? fmin(1, median / (norm[i] + 1e-8)) : 1;
      for (int64_t c = 0; c < grid.tensor[t].n_chunks; c++) {
        cov_payload_chunk(&p->view[i], t, c, index, value);
        for (int j = 0; j < grid.tensor[t].k; j++) {
          int64_t at = grid.tensor[t].offset + cov_grid_elem(&grid.tensor[t], c, index[j]);
          float scaled = (float)(f * (double)value[j]);
          sum[at] = sum[at] + scaled;
          count[at]++;
        }
      }
    }
  }
  for (int64_t i = 0; i < params.span; i++) {
    if (count[i] == 0) continue;
    float mean_value = sum[i] / (float)(mean == COV_MEAN_PAPER ? N_PEERS : count[i]);
    float step = alpha * mean_value;
    out[i] = theta[i] - step;
  }
  free(sum);
  free(count);
  return out;
}

static void step_does_not_depend_on_shards_or_order(void **state) {
  (void)state;
  static const int orders[][N_PEERS] = {
      {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}, {2, 0, 4, 10, 1, 3, 9, 5, 8, 7, 6}};
  for (int q = 0; q < 4; q++) {
    peers p;
    make_peers(&p, quantisers[q]);
    float *theta = sparse_random(&params, 1, 0.1f, 4);
    for (int mode = 0; mode < 4; mode++) {
      int mean = mode / 2 ? COV_MEAN_PAPER : COV_MEAN_SENDERS, clip = mode % 2;
      float *want = step_naively(&p, 0.7f, mean, clip, theta);
      uint8_t want_hash[32], hash[32];
      for (size_t g = 0; g < sizeof shards_tried / sizeof *shards_tried; g++) {
        for (int o = 0; o < 3; o++) {
          const cov_payload_view *set[N_PEERS];
          for (int i = 0; i < N_PEERS; i++) set[i] = p.set[orders[o][i]];
          float *out = calloc((size_t)params.span, sizeof *out);
          assert_ok(sparse_step(&grid, shards_tried[g], set, N_PEERS, 0.7f, mean, clip, theta, out, hash));
          assert_memory_equal(out, want, span_bytes);
          if (g == 0 && o == 0) memcpy(want_hash, hash, sizeof hash);
          assert_memory_equal(hash, want_hash, sizeof hash);
          memcpy(out, theta, span_bytes);
          assert_ok(sparse_step(&grid, shards_tried[g], set, N_PEERS, 0.7f, mean, clip, out, out, hash)); /* in place */
          assert_memory_equal(out, want, span_bytes);
          assert_memory_equal(hash, want_hash, sizeof hash);
          free(out);
        }
      }
      free(want);
    }
    free(theta);
    free_peers(&p);
  }
}

/* A peer multiplies all values of one tensor: a valid payload. */
static void make_loud(peers *p, int i, int t, cov_quant_id id, float by) {
  cov_encoder_params q = sparse_params_of(id);
  cov_payload_expect expect = sparse_expect(&grid, &q.quant);
  const int bins = q.quant.bins;
  size_t bytes = p->view[i].n_bytes;
  uint8_t *values = p->payload[i] + p->view[i].tensor[t].bands[0] - 8 * (size_t)bins;
  for (int b = 0; b < bins; b++) {
    float v;
    memcpy(&v, values + 4 * b, sizeof v);
    v *= by;
    memcpy(values + 4 * b, &v, sizeof v);
  }
  cov_payload_close(&p->view[i]);
  sparse_redigest(p->payload[i], bytes);
  assert_ok(cov_payload_check(p->payload[i], bytes, &expect, &p->view[i]));
}

/* Norm of what a step changed in tensor t. */
static double moved(int t, const float *before, const float *after) {
  double sum = 0;
  for (int64_t i = params.item[t].offset; i < params.item[t].offset + params.item[t].elems; i++) {
    double d = (double)after[i] - (double)before[i];
    sum += d * d;
  }
  return sqrt(sum);
}

/* Finite and allowed, but ten thousand times as large as everybody else's, in one tensor: it gets the weight of a
 * payload of the median norm there, and the others' tensors are none the wiser. */
static void a_peer_loud_in_one_tensor_counts_as_the_median(void **state) {
  (void)state;
  enum { LOUD = 4, T = 1 };
  const double by = 1e4;
  peers p;
  double norm[N_PEERS], factor[N_PEERS], loudest = 0;
  cov_clip clip = {.norm = norm, .factor = factor};
  uint8_t hash[32];
  make_peers(&p, COV_QUANT_REFERENCE);
  float *theta = sparse_random(&params, 1, 0.1f, 4);
  float *quiet = calloc((size_t)params.span, sizeof *quiet), *out = calloc((size_t)params.span, sizeof *out);
  assert_ok(sparse_step(&grid, 2, p.set, N_PEERS, 1, COV_MEAN_PAPER, 1, theta, quiet, hash));
  make_loud(&p, LOUD, T, COV_QUANT_REFERENCE, (float)by);
  cov_clip_describe(p.set, N_PEERS, T, 1, &clip);
  for (int i = 0; i < N_PEERS; i++) {
    if (norm[i] * factor[i] > loudest) loudest = norm[i] * factor[i];
    assert_true(i == LOUD ? norm[i] > 1000 * clip.median : norm[i] < 2 * clip.median);
  }
  assert_true(loudest <= clip.median && norm[LOUD] * factor[LOUD] > 0.999 * clip.median);
  assert_ok(sparse_step(&grid, 2, p.set, N_PEERS, 1, COV_MEAN_PAPER, 1, theta, out, hash));
  assert_true(moved(T, theta, out) <= 1.001 * clip.median); /* a mean of norms that are no larger */
  for (int t = 0; t < grid.n; t++) {
    size_t first = (size_t)params.item[t].offset, bytes = (size_t)params.item[t].elems * sizeof *out;
    assert_int_equal(memcmp(out + first, quiet + first, bytes) == 0, t != T);
  }
  assert_ok(sparse_step(&grid, 2, p.set, N_PEERS, 1, COV_MEAN_PAPER, 0, theta, out, hash)); /* sync.clip=none */
  assert_true(moved(T, theta, out) > 0.5 * by / N_PEERS * clip.median);
  free(theta), free(quiet), free(out);
  free_peers(&p);
}

static void positions_nobody_sent_keep_their_bits(void **state) {
  (void)state;
  peers p;
  make_peers(&p, COV_QUANT_SIGN1);
  uint8_t hash[32];
  float *theta = calloc((size_t)params.span, sizeof *theta), *out = calloc((size_t)params.span, sizeof *out);
  unsigned char *sent = calloc((size_t)params.span, 1);
  for (int64_t i = 0; i < params.span; i++) theta[i] = i % 2 ? -0.0f : 1e-41f; /* what careless code would change */
  uint16_t index[4096];
  float value[4096];
  for (int t = 0; t < grid.n; t++) {
    for (int64_t c = 0; c < grid.tensor[t].n_chunks; c++) {
      cov_payload_chunk(&p.view[0], t, c, index, value);
      for (int i = 0; i < grid.tensor[t].k; i++)
        sent[grid.tensor[t].offset + cov_grid_elem(&grid.tensor[t], c, index[i])] = 1;
    }
  }
  memcpy(out, theta, span_bytes);
  assert_ok(sparse_step(&grid, 2, p.set, 1, 0.5f, COV_MEAN_SENDERS, 1, out, out, hash));
  int changed = 0;
  for (int64_t i = 0; i < params.span; i++) {
    if (sent[i]) changed += memcmp(&out[i], &theta[i], 4) != 0;
    else assert_memory_equal(&out[i], &theta[i], 4);
  }
  assert_true(changed > 1000);
  memcpy(out, theta, span_bytes);
  assert_ok(sparse_step(&grid, 3, p.set, 0, 0.5f, COV_MEAN_PAPER, 1, out, out, hash)); /* an empty set */
  assert_memory_equal(out, theta, span_bytes);
  free(theta), free(out), free(sent);
  free_peers(&p);
}

/* After a round that failed: e as it was, up to rounding; 0 where it cannot be told. */
static void assert_taken_back(const float *e, const float *before, const float *theta, const float *end, float beta) {
  for (int64_t i = 0; i < params.span; i++) {
    float delta = theta[i] - end[i], sum = beta * before[i] + delta;
    if (isfinite(sum)) assert_true(fabsf(e[i] - before[i]) <= 0x1p-22f * (fabsf(sum) + fabsf(delta)) / beta);
    else assert_true(e[i] == 0);
  }
}

/* A value that is not finite anywhere: every shard refuses, nobody's feedback has moved, the tensor is named. */
static void numeric_errors_change_nothing(void **state) {
  (void)state;
  static const float poison[] = {NAN, INFINITY, -INFINITY, 3e38f, 70000.0f};
  for (size_t i = 0; i < sizeof poison / sizeof *poison; i++) {
    for (int where = 0; where < 3; where++) {
      for (int G = 1; G <= 4; G += 3) {
        cov_encoder_params p = sparse_params_of(quantisers[i % 4]);
        cov_payload_head head = sparse_head(1);
        float *x[3];
        for (int j = 0; j < 3; j++) x[j] = sparse_random(&params, 7 + (uint64_t)j, 0.1f, 2);
        const int t = 2; /* "prime": bands of one row */
        x[where][params.item[t].offset + params.item[t].elems - 1] = poison[i];
        float *before = sparse_copy(x[2], params.span);
        uint8_t *payload;
        size_t bytes;
        assert_status(sparse_encode(&grid, &p, G, x[0], x[1], x[2], &head, &payload, &bytes), COV_ENUMERIC);
        assert_non_null(strstr(sparse_failure(), params.item[t].name));
        assert_taken_back(x[2], before, x[0], x[1], p.beta);
        for (int j = 0; j < 3; j++) free(x[j]);
        free(before);
      }
    }
  }
}

/* Found by the step's own sweep: theta was no good before it. */
static void bad_theta_is_named(void **state) {
  (void)state;
  static const float poison[] = {NAN, INFINITY, 3e38f};
  peers p;
  make_peers(&p, COV_QUANT_REFERENCE);
  for (size_t i = 0; i < sizeof poison / sizeof *poison; i++) {
    uint8_t hash[32];
    float *theta = sparse_random(&params, 1, 0.1f, 2);
    theta[params.item[4].offset + 5] = poison[i];
    assert_status(sparse_step(&grid, 1, p.set, N_PEERS, 0.7f, COV_MEAN_SENDERS, 1, theta, theta, hash), COV_ENUMERIC);
    assert_non_null(strstr(cov_error_text(), params.item[4].name));
    free(theta);
  }
  const cov_payload_view *twice[2] = {p.set[0], p.set[0]};
  float *theta = sparse_random(&params, 1, 0.1f, 2);
  uint8_t hash[32];
  assert_status(sparse_step(&grid, 1, twice, 2, 0.7f, COV_MEAN_SENDERS, 1, theta, theta, hash), COV_EUSAGE);
  assert_status(sparse_step(&grid, 1, p.set, 2, NAN, COV_MEAN_SENDERS, 1, theta, theta, hash), COV_EUSAGE);
  free(theta);
  free_peers(&p);
}

static void a_round_of_zeros_is_a_payload_of_zeros(void **state) {
  (void)state;
  for (int q = 0; q < 4; q++) {
    cov_encoder_params p = sparse_params_of(quantisers[q]);
    cov_payload_head head = sparse_head(1);
    cov_payload_expect expect = sparse_expect(&grid, &p.quant);
    cov_payload_view view;
    float *theta = sparse_random(&params, 1, 0.1f, 2), *e = calloc((size_t)params.span, sizeof *e);
    float *zero = calloc((size_t)params.span, sizeof *e), *out = calloc((size_t)params.span, sizeof *out);
    uint8_t *payload, hash[32];
    size_t bytes;
    assert_ok(sparse_encode(&grid, &p, 2, theta, theta, e, &head, &payload, &bytes));
    assert_memory_equal(e, zero, span_bytes);
    assert_ok(cov_payload_check(payload, bytes, &expect, &view));
    for (int t = 0; t < grid.n; t++) {
      uint16_t index[4096];
      float value[4096];
      assert_true(view.tensor[t].norm == 0);
      cov_payload_chunk(&view, t, 0, index, value);
      for (int i = 0; i < grid.tensor[t].k; i++) {
        assert_int_equal(index[i], i); /* ties go to the lower index */
        assert_true(value[i] == 0);
      }
    }
    const cov_payload_view *set[1] = {&view};
    assert_ok(sparse_step(&grid, 1, set, 1, 0.7f, COV_MEAN_SENDERS, 1, theta, out, hash));
    assert_memory_equal(out, theta, span_bytes);
    cov_payload_close(&view);
    free(theta), free(e), free(zero), free(out), free(payload);
  }
}

static cov_status broken_reduce(void *context, int64_t *values, size_t n, cov_reduce_op op) {
  (void)values, (void)n, (void)op;
  int *left = context;
  return --*left < 0 ? COV_FAIL(COV_ECOMM, "a rank is gone") : COV_OK;
}

static void a_failed_reduction_changes_nothing(void **state) {
  (void)state;
  cov_shard shard;
  cov_encoder *encoder;
  assert_ok(cov_shard_create(&grid, 0, 2, &shard));
  cov_encoder_params p = sparse_params_of(COV_QUANT_REFERENCE);
  assert_ok(cov_encoder_create(&shard, &p, &encoder));
  float *x[3];
  for (int j = 0; j < 3; j++) x[j] = sparse_random(&params, 7 + (uint64_t)j, 0.1f, 2);
  float *before = sparse_copy(x[2], params.span);
  for (int calls = 0; calls < 3; calls++) { /* magnitudes, moments, bins */
    int left = calls;
    cov_reducer reducer = {.reduce = broken_reduce, .context = &left};
    memcpy(x[2], before, span_bytes);
    assert_status(cov_encoder_encode(encoder, x[0], x[1], x[2], &reducer), COV_ECOMM);
    assert_taken_back(x[2], before, x[0], x[1], p.beta);
  }
  assert_status(cov_encoder_encode(encoder, x[0], x[1], x[2], NULL), COV_EBUG);
  p.beta = 1.5f;
  cov_encoder *other;
  assert_status(cov_encoder_create(&shard, &p, &other), COV_EUSAGE);
  assert_null(other);
  for (int j = 0; j < 3; j++) free(x[j]);
  free(before);
  cov_encoder_destroy(&encoder);
  cov_shard_destroy(&shard);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(payload_does_not_depend_on_shards),
      cmocka_unit_test(feedback_is_conserved),
      cmocka_unit_test(give_back_returns_what_was_sent),
      cmocka_unit_test(step_does_not_depend_on_shards_or_order),
      cmocka_unit_test(a_peer_loud_in_one_tensor_counts_as_the_median),
      cmocka_unit_test(positions_nobody_sent_keep_their_bits),
      cmocka_unit_test(numeric_errors_change_nothing),
      cmocka_unit_test(bad_theta_is_named),
      cmocka_unit_test(a_round_of_zeros_is_a_payload_of_zeros),
      cmocka_unit_test(a_failed_reduction_changes_nothing),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
