/* An encoder that leaves what it sent in the error feedback until the next round, against one that takes it off at
 * once: the same pieces, and after cov_encoder_settle the same error feedback, bit for bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparse_cases.h"
#include "sparseloco/width.h"
#include "support.h"

enum { ROUNDS = 4 };

static cov_params params;
static cov_grid grid;
static cov_shard shard;
static size_t span_bytes;

static int set_up(void **state) {
  (void)state;
  sparse_params(&params, sparse_mixed, sparse_n_mixed);
  assert_ok(cov_grid_create(&params, 64, 64, &grid));
  assert_ok(cov_shard_create(&grid, 0, 1, &shard));
  span_bytes = (size_t)params.span * sizeof(float);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  cov_shard_destroy(&shard);
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
  return 0;
}

/* One peer: an encoder and its error feedback. */
typedef struct {
  cov_encoder *encoder;
  float *e;
  uint8_t *piece;
  size_t bytes;
} side;

static side open_side(cov_quant_id id, int threads, int owes) {
  cov_encoder_params p = sparse_params_of(id);
  p.threads = threads;
  p.owes = owes;
  side s = {.e = sparse_random(&params, 5, 0.05f, 3), .piece = malloc(cov_piece_bytes_max(&shard, &p.quant))};
  assert_non_null(s.piece);
  assert_ok(cov_encoder_create(&shard, &p, &s.encoder));
  return s;
}

static void close_side(side *s) {
  cov_encoder_destroy(&s->encoder);
  free(s->e);
  free(s->piece);
}

static void encode(side *s, const float *theta, const float *end) {
  assert_ok(cov_encoder_encode(s->encoder, theta, end, s->e, NULL));
  assert_ok(cov_encoder_piece(s->encoder, s->piece, &s->bytes));
}

static void assert_same_piece(const side *have, const side *want) {
  assert_int_equal(have->bytes, want->bytes);
  assert_memory_equal(have->piece, want->piece, want->bytes);
}

/* The weights at one end of a round. */
static float *ends(int round, int which) {
  return sparse_random(&params, 100 + 2 * (uint64_t)round + (uint64_t)which, 0.1f, 2);
}

/* `settled`: after this round the one that owes settles, as before a checkpoint; the rounds go on. */
static void run_rounds(cov_quant_id id, int threads, int settled) {
  side have = open_side(id, threads, 1), want = open_side(id, 1, 0);
  for (int round = 0; round < ROUNDS; round++) {
    float *theta = ends(round, 0), *end = ends(round, 1);
    encode(&have, theta, end);
    encode(&want, theta, end);
    assert_same_piece(&have, &want);
    assert_memory_not_equal(have.e, want.e, span_bytes); /* something is owed */
    if (round == settled) {
      cov_encoder_settle(have.encoder);
      assert_memory_equal(have.e, want.e, span_bytes);
    }
    free(theta), free(end);
  }
  for (int again = 0; again < 2; again++) {
    cov_encoder_settle(have.encoder);
    assert_memory_equal(have.e, want.e, span_bytes);
  }
  close_side(&have), close_side(&want);
}

static void rounds_agree(void **state) {
  (void)state;
  static const cov_quant_id quantisers[] = {COV_QUANT_REFERENCE, COV_QUANT_SIGN1, COV_QUANT_SIGN2, COV_QUANT_NONE};
  static const char *const widths[] = {"plain", "avx2", "avx512", "avx512vbmi2"};
  for (int v = 0; v < 4; v++) {
    if (covi_width_choose(widths[v]) != 0) {
      print_message("not on this processor: %s\n", widths[v]);
      continue;
    }
    for (int q = 0; q < 4; q++) {
      for (int threads = 1; threads <= 5; threads += 2) run_rounds(quantisers[q], threads, threads % ROUNDS);
    }
  }
  assert_int_equal(covi_width_choose(NULL), 0);
}

static void another_feedback_is_refused(void **state) {
  (void)state;
  side s = open_side(COV_QUANT_SIGN2, 1, 1);
  float *theta = ends(0, 0), *end = ends(0, 1), *other = sparse_copy(s.e, params.span);
  encode(&s, theta, end);
  assert_status(cov_encoder_encode(s.encoder, theta, end, other, NULL), COV_EBUG);
  cov_encoder_settle(s.encoder);
  assert_ok(cov_encoder_encode(s.encoder, theta, end, other, NULL));
  free(theta), free(end), free(other);
  close_side(&s);
}

/* A checkpoint's error feedback in the same memory. */
static void what_is_forgotten_is_not_taken_off(void **state) {
  (void)state;
  side have = open_side(COV_QUANT_SIGN2, 1, 1), want = open_side(COV_QUANT_SIGN2, 1, 0);
  float *read = sparse_random(&params, 77, 0.05f, 3), *theta = ends(0, 0), *end = ends(0, 1);
  encode(&have, theta, end);
  memcpy(have.e, read, span_bytes);
  memcpy(want.e, read, span_bytes);
  cov_encoder_forget(have.encoder);
  cov_encoder_settle(have.encoder);
  assert_memory_equal(have.e, read, span_bytes);
  encode(&have, theta, end);
  encode(&want, theta, end);
  assert_same_piece(&have, &want);
  free(read), free(theta), free(end);
  close_side(&have), close_side(&want);
}

static cov_status broken_reduce(void *context, int64_t *values, size_t n, cov_reduce_op op) {
  (void)context, (void)values, (void)n, (void)op;
  return COV_FAIL(COV_ECOMM, "a rank is gone");
}

/* What a round leaves that failed behind one that was sent, and that nothing is owed to it. */
static void a_failed_round_is_taken_back(void **state) {
  (void)state;
  const cov_reducer broken = {.reduce = broken_reduce};
  side have = open_side(COV_QUANT_REFERENCE, 3, 1), want = open_side(COV_QUANT_REFERENCE, 1, 0);
  float *theta = ends(0, 0), *end = ends(0, 1), *bad = sparse_copy(end, params.span);
  bad[params.item[2].offset + 5] = INFINITY;
  for (int kind = 0; kind < 2; kind++) {
    const float *to = kind == 0 ? bad : end;
    encode(&have, theta, end);
    encode(&want, theta, end);
    assert_status(cov_encoder_encode(have.encoder, theta, to, have.e, kind == 0 ? NULL : &broken),
                  kind == 0 ? COV_ENUMERIC : COV_ECOMM);
    assert_status(cov_encoder_encode(want.encoder, theta, to, want.e, kind == 0 ? NULL : &broken),
                  kind == 0 ? COV_ENUMERIC : COV_ECOMM);
    assert_memory_equal(have.e, want.e, span_bytes);
    cov_encoder_settle(have.encoder);
    assert_memory_equal(have.e, want.e, span_bytes);
  }
  free(theta), free(end), free(bad);
  close_side(&have), close_side(&want);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rounds_agree),
      cmocka_unit_test(another_feedback_is_refused),
      cmocka_unit_test(what_is_forgotten_is_not_taken_off),
      cmocka_unit_test(a_failed_round_is_taken_back),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
