/* Prints two digests over everything the outer path computes in a few rounds: payloads, error feedback, parameters,
 * state hash. The first is of SparseLoCo for each quantiser, mean and range of magnitudes; the second of what the other
 * strategies and the delay add: Nesterov momentum, what a peer goes on from, the cosine transform and its step.
 * tools/check_bits builds it with several compilers and compares. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "sparseloco/demo.h"
#include "sparseloco/encoder.h"
#include "sparseloco/keep.h"
#include "sparseloco/outer.h"
#include "sparseloco/payload.h"
#include "sparseloco/state_hash.h"
#include "sparseloco/width.h"

enum { N_TENSORS = 5, N_PEERS = 4, N_ROUNDS = 3 };

static cov_param items[N_TENSORS] = {
    {.name = "matrix", .dims = 2, .rows = 128, .cols = 192}, {.name = "narrow", .dims = 2, .rows = 67, .cols = 31},
    {.name = "gain", .dims = 1, .rows = 1, .cols = 192},     {.name = "odd", .dims = 2, .rows = 9, .cols = 15},
    {.name = "one", .dims = 1, .rows = 1, .cols = 1},
};
static const uint8_t zeros[32];

static void must(cov_status st) {
  if (st == COV_OK) return;
  fprintf(stderr, "%s: %s\n", cov_error_where(), cov_error_text());
  exit(1);
}

static void *must_have(void *p) {
  if (!p) exit(1);
  return p;
}

/* Bits of a finite float: sign and significand at random, exponent within `spread` below `top`. Integers only. */
static float draw(uint64_t seed, uint64_t i, unsigned top, unsigned spread) {
  uint64_t z = seed * 0x9E3779B97F4A7C15u + i + 1;
  for (int r = 0; r < 3; r++) {
    z ^= z >> 30, z *= 0xBF58476D1CE4E5B9u;
    z ^= z >> 27, z *= 0x94D049BB133111EBu;
    z ^= z >> 31;
  }
  uint32_t exponent = top - (uint32_t)((z >> 40) % spread), bits = (uint32_t)(z & 0x807FFFFFu) | exponent << 23;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static void fill(float *x, const cov_params *params, uint64_t seed, unsigned top, unsigned spread) {
  memset(x, 0, (size_t)params->span * sizeof *x);
  for (int t = 0; t < params->n; t++) {
    for (int64_t i = 0; i < params->item[t].elems; i++)
      x[params->item[t].offset + i] = draw(seed, (uint64_t)(params->item[t].offset + i), top, spread);
  }
}

/* What one peer brings to a round. */
static uint8_t *contribute(const cov_shard *shard, const cov_encoder_params *p, const float *theta, const float *end,
                           float *feedback, uint32_t peer, size_t *bytes) {
  cov_encoder *encoder;
  must(cov_encoder_create(shard, p, &encoder));
  must(cov_encoder_encode(encoder, theta, end, feedback, NULL));
  uint8_t *piece = must_have(malloc(cov_piece_bytes_max(shard, &p->quant)));
  size_t piece_bytes;
  must(cov_encoder_piece(encoder, piece, &piece_bytes));
  cov_payload_head head = {.peer = peer, .strategy = COV_STRATEGY_SPARSELOCO};
  uint8_t *payload = must_have(malloc(cov_payload_bytes_max(shard->grid, &p->quant)));
  must(cov_payload_write(shard->grid, &p->quant, &head, 1, piece, piece_bytes, payload, bytes));
  cov_encoder_destroy(&encoder);
  free(piece);
  return payload;
}

/* What the peer of `own` would start its next round from, by either rule, if this one's step were still to come. */
static void go_on(const cov_shard *shard, const cov_payload_view *own, const cov_outer_params *outer,
                  const float *theta, const float *end, cov_blake2b *digest) {
  size_t span_bytes = (size_t)shard->grid->params->span * sizeof(float);
  float *start = must_have(malloc(span_bytes));
  const cov_outer_params alone = cov_keep_step(outer, N_PEERS);
  memcpy(start, theta, span_bytes);
  must(cov_outer_apply(shard, &own, 1, &alone, theta, start, COV_LAYOUT_SPAN, NULL));
  cov_blake2b_add(digest, start, span_bytes);
  cov_keep_progress(shard, theta, end, start);
  cov_blake2b_add(digest, start, span_bytes);
  free(start);
}

/* With momentum also go_on of the last peer, each round. */
static void run(const cov_grid *grid, const cov_encoder_params *p, const cov_outer_params *outer, unsigned top,
                unsigned spread, cov_blake2b *digest) {
  const cov_params *params = grid->params;
  size_t span_bytes = (size_t)params->span * sizeof(float);
  float *theta = must_have(malloc(span_bytes)), *end = must_have(malloc(span_bytes));
  float *feedback = must_have(calloc(N_PEERS, span_bytes));
  float *velocity = outer->momentum > 0 ? must_have(calloc(1, span_bytes)) : NULL;
  cov_outer_params step = *outer;
  step.velocity = velocity;
  uint8_t *leaves = must_have(malloc((size_t)grid->n_bands * COV_LEAF_BYTES)), *payload[N_PEERS], hash[32];
  cov_shard shard;
  must(cov_shard_create(grid, 0, 1, &shard));
  fill(theta, params, 1, top, spread);
  for (int round = 0; round < N_ROUNDS; round++) {
    cov_payload_expect expect = {.grid = grid,
                                 .quant = p->quant,
                                 .strategy = COV_STRATEGY_SPARSELOCO,
                                 .run_id = zeros,
                                 .params_digest = zeros,
                                 .peer = -1};
    cov_payload_view view[N_PEERS];
    const cov_payload_view *set[N_PEERS];
    for (int i = 0; i < N_PEERS; i++) {
      size_t bytes;
      float *own = feedback + (size_t)i * (size_t)params->span;
      fill(end, params, (uint64_t)(100 + 10 * round + i), top, spread);
      payload[i] = contribute(&shard, p, theta, end, own, (uint32_t)i, &bytes);
      must(cov_payload_check(payload[i], bytes, &expect, &view[i]));
      set[N_PEERS - 1 - i] = &view[i];
      cov_blake2b_add(digest, payload[i], bytes);
      if (i == 3) cov_payload_give_back(&view[i], &shard, own, COV_LAYOUT_SPAN);
    }
    if (velocity) go_on(&shard, &view[N_PEERS - 1], &step, theta, end, digest);
    must(cov_outer_apply(&shard, set, N_PEERS, &step, theta, theta, COV_LAYOUT_SPAN, leaves));
    cov_state_hash(grid, leaves, hash);
    cov_blake2b_add(digest, hash, sizeof hash);
    for (int i = 0; i < N_PEERS; i++) {
      cov_payload_close(&view[i]);
      free(payload[i]);
    }
  }
  cov_blake2b_add(digest, theta, span_bytes);
  cov_blake2b_add(digest, feedback, N_PEERS * span_bytes);
  if (velocity) cov_blake2b_add(digest, velocity, (size_t)shard.elems * sizeof *velocity);
  cov_shard_destroy(&shard);
  free(theta), free(end), free(feedback), free(leaves), free(velocity);
}

/* A peer's coefficients of the movement from theta to end, as a payload. */
static uint8_t *contribute_demo(cov_demo *demo, const cov_encoder_params *p, const float *theta, const float *end,
                                float *feedback, uint32_t peer, size_t *bytes) {
  cov_demo_project(demo, theta, end);
  return contribute(demo->shard, p, demo->zero, demo->coefficients, feedback, peer, bytes);
}

static void run_demo(const cov_grid *grid, const cov_encoder_params *p, const cov_outer_params *outer, int sign,
                     cov_blake2b *digest) {
  size_t span_bytes = (size_t)grid->params->span * sizeof(float);
  float *theta = must_have(malloc(span_bytes)), *end = must_have(malloc(span_bytes));
  float *feedback = must_have(calloc(N_PEERS, span_bytes));
  uint8_t *leaves = must_have(malloc((size_t)grid->n_bands * COV_LEAF_BYTES)), *payload[N_PEERS], hash[32];
  const cov_payload_expect expect = {.grid = grid,
                                     .quant = p->quant,
                                     .strategy = COV_STRATEGY_SPARSELOCO,
                                     .run_id = zeros,
                                     .params_digest = zeros,
                                     .peer = -1};
  cov_shard shard;
  cov_demo demo;
  must(cov_shard_create(grid, 0, 1, &shard));
  must(cov_demo_create(&shard, sign, p->threads, &demo));
  fill(theta, grid->params, 1, 123, 6);
  for (int round = 0; round < N_ROUNDS; round++) {
    cov_payload_view view[N_PEERS];
    const cov_payload_view *set[N_PEERS];
    for (int i = 0; i < N_PEERS; i++) {
      size_t bytes;
      fill(end, grid->params, (uint64_t)(100 + 10 * round + i), 123, 6);
      payload[i] =
          contribute_demo(&demo, p, theta, end, feedback + (size_t)i * (size_t)grid->params->span, (uint32_t)i, &bytes);
      must(cov_payload_check(payload[i], bytes, &expect, &view[i]));
      set[i] = &view[i];
      cov_blake2b_add(digest, demo.coefficients, (size_t)shard.elems * sizeof(float));
      cov_blake2b_add(digest, payload[i], bytes);
    }
    must(cov_demo_apply(&demo, set, N_PEERS, outer, theta, theta, leaves));
    cov_state_hash(grid, leaves, hash);
    cov_blake2b_add(digest, hash, sizeof hash);
    for (int i = 0; i < N_PEERS; i++) cov_payload_close(&view[i]), free(payload[i]);
  }
  cov_blake2b_add(digest, theta, span_bytes);
  cov_blake2b_add(digest, feedback, N_PEERS * span_bytes);
  cov_demo_destroy(&demo);
  cov_shard_destroy(&shard);
  free(theta), free(end), free(feedback), free(leaves);
}

/* The second digest. */
static void run_others(const cov_grid *grid, cov_blake2b *digest) {
  static const cov_quant_params none = {.id = COV_QUANT_NONE},
                                four = {.id = COV_QUANT_REFERENCE, .bins = 4, .range = 6};
  for (int mode = 0; mode < 4; mode++) {
    cov_encoder_params p = {.quant = mode % 2 ? four : none, .beta = 0.95f, .threads = 1 + mode % 3};
    cov_outer_params outer = {.alpha = 0.7f,
                              .mean = mode < 2 ? COV_MEAN_PAPER : COV_MEAN_SENDERS,
                              .clip = mode == 3,
                              .momentum = 0.9f,
                              .threads = 1 + mode % 3};
    run(grid, &p, &outer, 123, 6, digest);
    p.theta_layout = p.feedback_layout = COV_LAYOUT_SHARD;
    outer.momentum = 0;
    run_demo(grid, &p, &outer, mode / 2, digest);
  }
}

static void print(cov_blake2b *digest) {
  uint8_t result[32];
  char text[65];
  cov_blake2b_close(digest, result);
  cov_hex(result, sizeof result, text);
  puts(text);
}

/* usage: outer_digest [WIDTH]     by that vector width (default: the widest); exit 77: not on this processor */
int main(int argc, char **argv) {
  if (argc > 1 && covi_width_choose(argv[1]) != 0) return 77;
  static const cov_quant_params quants[] = {{.id = COV_QUANT_REFERENCE, .bins = 4, .range = 6},
                                            {.id = COV_QUANT_REFERENCE, .bins = 256, .range = 6},
                                            {.id = COV_QUANT_SIGN1, .bins = 2},
                                            {.id = COV_QUANT_SIGN2, .bins = 4},
                                            {.id = COV_QUANT_NONE}};
  static const cov_index_coder coders[] = {COV_INDEX_RICE, COV_INDEX_SPLIT};
  static const unsigned ranges[][2] = {{123, 6}, {127, 60}, {3, 4}, {136, 1}}; /* top exponent, spread; 3: subnormals */
  cov_params params = {.item = items, .n = N_TENSORS};
  for (int t = 0; t < N_TENSORS; t++) {
    items[t].elems = items[t].rows * items[t].cols;
    items[t].offset = params.span;
    params.elems += items[t].elems;
    params.span += (items[t].elems + COV_PARAM_ALIGN_ELEMS - 1) / COV_PARAM_ALIGN_ELEMS * COV_PARAM_ALIGN_ELEMS;
  }
  cov_grid grid;
  must(cov_grid_create(&params, 64, 64, &grid));
  cov_blake2b digest;
  cov_blake2b_open(&digest, 32);
  for (size_t q = 0; q < sizeof quants / sizeof *quants; q++) {
    for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++) {
      for (int mode = 0; mode < 3; mode++) {
        cov_encoder_params p = {
            .quant = quants[q], .beta = 0.95f, .threads = 1 + mode, .index_coder = coders[mode % 2]};
        cov_outer_params outer = {.alpha = 0.7f,
                                  .mean = mode == 1 ? COV_MEAN_PAPER : COV_MEAN_SENDERS,
                                  .clip = mode < 2,
                                  .threads = 1 + mode};
        run(&grid, &p, &outer, ranges[r][0], ranges[r][1], &digest);
      }
    }
  }
  print(&digest);
  cov_blake2b_open(&digest, 32);
  run_others(&grid, &digest);
  print(&digest);
  cov_grid_destroy(&grid);
  return 0;
}
