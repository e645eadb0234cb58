/* covenant-test: timeout=300
 * The payload format: round trips, and everything that must be refused. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/memory.h"
#include "sparse_cases.h"
#include "sparseloco/outer.h"
#include "sparseloco/overlap.h"
#include "support.h"

static const sparse_shape small[] = {{"matrix", 8, 12}, {"gain", 0, 10}, {"prime", 0, 7}, {"odd", 5, 3}};
static const cov_quant_params tried[] = {{.id = COV_QUANT_REFERENCE, .bins = 4, .range = 6},
                                         {.id = COV_QUANT_REFERENCE, .bins = 5, .range = 6},
                                         {.id = COV_QUANT_REFERENCE, .bins = 256, .range = 6},
                                         {.id = COV_QUANT_SIGN1, .bins = 2},
                                         {.id = COV_QUANT_NONE},
                                         {.id = COV_QUANT_SIGN2, .bins = 4}};
enum { N_TRIED = sizeof tried / sizeof *tried, N_CODERS = 2 };
static const cov_index_coder coders[N_CODERS] = {COV_INDEX_RICE, COV_INDEX_SPLIT};

static cov_params params;
static cov_grid grid;

static int set_up(void **state) {
  (void)state;
  sparse_params(&params, small, 4);
  return cov_grid_create(&params, 8, 6, &grid) != COV_OK;
}

static int tear_down(void **state) {
  (void)state;
  cov_grid_destroy(&grid);
  sparse_params_free(&params);
  return 0;
}

static uint8_t *encode_with(cov_index_coder coder, const cov_quant_params *quant, uint64_t seed, size_t *bytes) {
  cov_encoder_params p = {.quant = *quant, .beta = 0.95f, .index_coder = coder};
  cov_payload_head head = sparse_head(4);
  float *theta = sparse_random(&params, seed, 0.1f, 2), *end = sparse_random(&params, seed + 1, 0.1f, 2);
  float *e = calloc((size_t)params.span, sizeof *e);
  uint8_t *payload;
  assert_ok(sparse_encode(&grid, &p, 2, theta, end, e, &head, &payload, bytes));
  free(theta), free(end), free(e);
  return payload;
}

static uint8_t *encode_some(const cov_quant_params *quant, uint64_t seed, size_t *bytes) {
  return encode_with(COV_INDEX_RICE, quant, seed, bytes);
}

/* Write again what a view says; a payload has exactly one encoding. */
static uint8_t *write_again(const cov_payload_view *view, const cov_quant_params *quant) {
  size_t kept = (size_t)grid.n_kept, bins = (size_t)quant->bins, bytes;
  uint16_t *indices = calloc(kept, sizeof *indices);
  uint8_t *codes = calloc(kept, 1);
  float *values = calloc(kept, sizeof *values), *tables = calloc((size_t)grid.n * bins + 1, sizeof *tables);
  for (int t = 0; t < grid.n; t++) {
    const cov_grid_tensor *gt = &grid.tensor[t];
    if (bins > 0) memcpy(tables + (size_t)t * bins, view->tensor[t].table, bins * sizeof *tables);
    for (int64_t c = 0; c < gt->n_chunks; c++) {
      int64_t at = gt->kept_first + c * gt->k;
      cov_payload_chunk(view, t, c, indices + at, values + at);
      if (bins > 0) cov_payload_codes(view, t, c, indices + at, codes + at);
    }
  }
  cov_piece content = {.tables = bins > 0 ? tables : NULL,
                       .indices = indices,
                       .codes = bins > 0 ? codes : NULL,
                       .values = bins > 0 ? NULL : values,
                       .index_coder = (cov_index_coder)view->head.index_coder};
  uint8_t *payload = sparse_by_hand(&grid, quant, &view->head, &content, &bytes);
  if (view->head.index_coder == COV_INDEX_RICE) assert_int_equal(bytes, view->n_bytes);
  free(indices), free(codes), free(values), free(tables);
  return payload;
}

static void a_payload_survives_the_round_trip(void **state) {
  (void)state;
  for (int i = 0; i < N_TRIED * N_CODERS; i++) {
    int q = i / N_CODERS;
    size_t bytes;
    uint8_t *payload = encode_with(coders[i % N_CODERS], &tried[q], 11, &bytes);
    assert_in_range(bytes, 1, cov_payload_bytes_max(&grid, &tried[q]));
    cov_payload_expect expect = sparse_expect(&grid, &tried[q]);
    cov_payload_view view;
    cov_payload_head head, want = sparse_head(4);
    assert_ok(cov_payload_peek(payload, bytes, &head));
    assert_int_equal(head.peer, 4);
    assert_ok(cov_payload_check(payload, bytes, &expect, &view));
    assert_memory_equal(view.head.run_id, want.run_id, 16);
    assert_memory_equal(view.head.key_hash, want.key_hash, 32);
    assert_memory_equal(view.head.base_hash, want.base_hash, 32);
    assert_memory_equal(view.head.params_digest, want.params_digest, 32);
    assert_memory_equal(view.head.sample_digest, want.sample_digest, 16);
    assert_true(view.head.round == 7 && view.head.inner_steps == 15 && view.head.tokens == 30720);
    assert_true(view.head.train_loss == 3.25f);
    assert_int_equal(view.head.quantiser, tried[q].id);
    assert_int_equal(view.head.index_coder, coders[i % N_CODERS]);
    uint8_t *again = write_again(&view, &tried[q]);
    assert_memory_equal(again, payload, bytes);
    cov_payload_close(&view);
    free(again);
    free(payload);
  }
}

/* The first bytes of the format as they are documented, so that a change cannot go unnoticed. */
static void the_header_is_as_documented(void **state) {
  (void)state;
  size_t bytes;
  uint8_t *p = encode_some(&tried[0], 11, &bytes);
  static const uint8_t start[16] = {'C', 'O', 'V', 'P', 'A', 'Y', 'L', 'D', 1, 0, 0, 0, 0, 1, 0, 0};
  assert_memory_equal(p, start, sizeof start);
  static const uint8_t shape[20] = {0, 0, 0x50, 0x40, 1, 0, 1, 0, 4, 0, 6, 0, 8, 0, 1, 0, 4, 0, 0, 0};
  assert_memory_equal(p + 176, shape,
                      sizeof shape); /* loss 3.25, strategy, quantiser, bins, topk, edge, index coder, tensors */
  assert_int_equal(p[208] | p[209] << 8, bytes);
  const uint8_t *section = p + 256; /* 8 x 12: two chunks of 48, 6 each, in one band */
  static const uint8_t head[24] = {0, 0, 0, 0, 4, 0, 0, 1, 12, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 32};
  assert_memory_equal(section + 8, head, sizeof head); /* tensor, bins, codes as they are, Rice, kept, k, tables */
  int counted = 0;
  for (int b = 0; b < 4; b++) counted += section[48 + 4 * b];
  assert_int_equal(counted, 12);
  assert_in_range(section[0], 32 + 32 + 3 + 2 + 3, 32 + 32 + 3 + 4 + 3); /* 2 low bits each; quotients; 2 bits a code */
  assert_int_equal(section[section[0] + 8], 1);                          /* the next section */
  for (int i = 0; i < 64; i++) assert_int_equal(p[bytes - 64 + (size_t)i], 0);
  assert_ptr_equal(cov_payload_signature(p, bytes), p + bytes - 64);
  assert_ptr_equal(cov_payload_digest(p, bytes), p + bytes - 96);
  free(p);
}

static void every_flipped_byte_is_refused(void **state) {
  (void)state;
  for (int c = 0; c < N_TRIED * N_CODERS; c++) {
    int q = c / N_CODERS;
    if (tried[q].bins == 256) continue; /* nothing new, and long */
    size_t bytes;
    uint8_t *payload = encode_with(coders[c % N_CODERS], &tried[q], 21, &bytes);
    cov_payload_expect expect = sparse_expect(&grid, &tried[q]);
    cov_payload_view view;
    for (size_t i = 0; i < bytes; i++) {
      for (int how = 0; how < 3; how++) {
        uint8_t old = payload[i];
        payload[i] = (uint8_t)(how == 0 ? old ^ 1 : how == 1 ? old ^ 0x80 : ~old);
        cov_status st = cov_payload_check(payload, bytes, &expect, &view);
        if (i >= bytes - COV_PAYLOAD_SIGNATURE_BYTES) {
          assert_ok(st); /* the slot belongs to the caller */
          cov_payload_close(&view);
        } else {
          assert_int_equal(st, COV_EREMOTE);
          assert_null(view.tensor);
        }
        payload[i] = old;
      }
    }
    free(payload);
  }
}

/* `step` bytes at a time, what has not come yet looking like anything. COV_OK: the same view as of the whole. */
static cov_status check_in_steps(const uint8_t *payload, size_t bytes, const cov_payload_expect *expect, size_t step,
                                 size_t *refused_at, cov_payload_view *view, uint8_t *room) {
  cov_payload_stream *stream;
  cov_status st = cov_payload_stream_open(room, bytes, expect, &stream);
  size_t have = 0;
  memset(room, 0xFF, bytes);
  memset(view, 0, sizeof *view);
  for (; st == COV_OK && have < bytes; have += step) {
    size_t more = bytes - have < step ? bytes - have : step;
    memcpy(room + have, payload + have, more);
    st = cov_payload_stream_advance(stream, have + more);
  }
  *refused_at = have;
  if (st == COV_EREMOTE) { /* it stays so */
    memcpy(room + have, payload + have, bytes > have ? bytes - have : 0);
    assert_status(cov_payload_stream_end(&stream, view), COV_EREMOTE);
  } else if (st == COV_OK) {
    st = cov_payload_stream_end(&stream, view);
  }
  cov_payload_stream_close(&stream);
  return st;
}

static void assert_same_view(const cov_payload_view *a, const cov_payload_view *b, int bins) {
  assert_memory_equal(a->bands, b->bands, sizeof *a->bands * (size_t)grid.n_bands);
  assert_memory_equal(a->codes, b->codes, sizeof *a->codes * (size_t)grid.n_bands);
  assert_memory_equal(a->counts, b->counts, sizeof *a->counts * (size_t)(grid.n * bins));
  assert_memory_equal(a->tables, b->tables, sizeof *a->tables * (size_t)(grid.n * bins));
  for (int t = 0; t < grid.n; t++) assert_true(a->tensor[t].norm == b->tensor[t].norm);
}

static void a_payload_can_be_checked_while_it_comes(void **state) {
  (void)state;
  for (int i = 0; i < N_TRIED * N_CODERS; i++) {
    size_t bytes, at;
    cov_payload_view whole, view;
    uint8_t *payload = encode_with(coders[i % N_CODERS], &tried[i / N_CODERS], 11, &bytes), *room = malloc(bytes);
    cov_payload_expect expect = sparse_expect(&grid, &tried[i / N_CODERS]);
    assert_ok(cov_payload_check(payload, bytes, &expect, &whole));
    for (size_t step = 1; step <= bytes; step += 1 + step / 3) {
      assert_ok(check_in_steps(payload, bytes, &expect, step, &at, &view, room));
      assert_same_view(&view, &whole, tried[i / N_CODERS].bins);
      cov_payload_close(&view);
    }
    for (size_t k = 0; k < bytes - COV_PAYLOAD_SIGNATURE_BYTES; k++) { /* a wrong byte is found, at the end at last */
      payload[k] ^= 0x10;
      assert_status(check_in_steps(payload, bytes, &expect, 97, &at, &view, room), COV_EREMOTE);
      payload[k] ^= 0x10;
    }
    payload[COV_PAYLOAD_HEADER_BYTES + 12] ^= 0x10; /* in the head of the first section: before the rest has come */
    assert_status(check_in_steps(payload, bytes, &expect, 1, &at, &view, room), COV_EREMOTE);
    assert_true(at < bytes - 1);
    cov_payload_close(&whole);
    free(payload), free(room);
  }
}

static void every_truncation_is_refused(void **state) {
  (void)state;
  for (int c = 0; c < N_TRIED * N_CODERS; c++) {
    int q = c / N_CODERS;
    size_t bytes;
    uint8_t *payload = encode_with(coders[c % N_CODERS], &tried[q], 21, &bytes);
    cov_payload_expect expect = sparse_expect(&grid, &tried[q]);
    cov_payload_view view;
    cov_payload_head head;
    for (size_t n = 0; n < bytes; n++) {
      uint8_t *cut = malloc(n > 0 ? n : 1); /* exactly sized, so that ASan sees a read behind it */
      memcpy(cut, payload, n);
      assert_status(cov_payload_check(cut, n, &expect, &view), COV_EREMOTE);
      assert_status(cov_payload_peek(cut, n, &head), COV_EREMOTE);
      free(cut);
    }
    uint8_t *longer = calloc(bytes + 8, 1);
    memcpy(longer, payload, bytes);
    assert_status(cov_payload_check(longer, bytes + 8, &expect, &view), COV_EREMOTE);
    free(longer);
    free(payload);
  }
}

/* With the digest made good again: either refused, or the content says exactly what these bytes say. */
static void a_tampered_payload_is_refused_or_means_what_it_says(void **state) {
  (void)state;
  for (int c = 0; c < N_TRIED * N_CODERS; c++) {
    int q = c / N_CODERS;
    if (tried[q].bins == 256) continue;
    size_t bytes, accepted = 0, refused = 0;
    uint8_t *payload = encode_with(coders[c % N_CODERS], &tried[q], 31, &bytes);
    cov_payload_expect expect = sparse_expect(&grid, &tried[q]);
    cov_payload_view view;
    for (size_t i = 0; i < bytes - 96; i++) {
      for (int bit = 0; bit < 8; bit++) {
        payload[i] ^= (uint8_t)(1 << bit);
        sparse_redigest(payload, bytes);
        cov_status st = cov_payload_check(payload, bytes, &expect, &view);
        if (st == COV_OK) {
          uint8_t *again = write_again(&view, &tried[q]);
          /* The split coder leaves the mode of a band to its writer; test_sparseloco_coders has the rest. */
          if (coders[c % N_CODERS] == COV_INDEX_RICE) assert_memory_equal(again, payload, bytes);
          free(again);
          cov_payload_close(&view);
          accepted++;
        } else {
          assert_int_equal(st, COV_EREMOTE);
          refused++;
        }
        payload[i] ^= (uint8_t)(1 << bit);
      }
    }
    assert_true(accepted > 0 && refused > 300);
    free(payload);
  }
}

static void refuse(const char *why, uint8_t *payload, size_t bytes, const cov_payload_expect *expect) {
  cov_payload_view view;
  sparse_redigest(payload, bytes);
  assert_status(cov_payload_check(payload, bytes, expect, &view), COV_EREMOTE);
  if (!strstr(cov_error_text(), why)) fail_msg("'%s' does not say '%s'", cov_error_text(), why);
}

static void each_expectation_is_compared(void **state) {
  (void)state;
  size_t bytes;
  uint8_t *p = encode_some(&tried[0], 41, &bytes), other[32] = {1};
  const cov_payload_expect good = sparse_expect(&grid, &tried[0]);
  cov_payload_view view;
  cov_payload_expect e = good;
  cov_payload_head head = sparse_head(4);
  e.base_hash = head.base_hash, e.key_hash = head.key_hash, e.peer = 4;
  assert_ok(cov_payload_check(p, bytes, &e, &view));
  cov_payload_close(&view);
  e = good, e.run_id = other;
  refuse("another run", p, bytes, &e);
  e = good, e.round = 8;
  refuse("round 7, not 8", p, bytes, &e);
  e = good, e.peer = 5;
  refuse("peer 4, not 5", p, bytes, &e);
  e = good, e.key_hash = other;
  refuse("another key", p, bytes, &e);
  e = good, e.base_hash = other;
  refuse("another state", p, bytes, &e);
  e = good, e.params_digest = other;
  refuse("other tensors", p, bytes, &e);
  e = good, e.strategy = COV_STRATEGY_DENSE;
  refuse("strategy", p, bytes, &e);
  e = good, e.quant.bins = 3;
  refuse("quantiser 1 with 4 bins, not 1 with 3", p, bytes, &e);
  cov_grid other_grid;
  assert_ok(cov_grid_create(&params, 8, 7, &other_grid)); /* k is even, so this differs in the header only */
  e = good, e.grid = &other_grid;
  refuse("topk", p, bytes, &e);
  cov_grid_destroy(&other_grid);
  assert_ok(cov_grid_create(&params, 4, 6, &other_grid));
  e = good, e.grid = &other_grid;
  refuse("topk 6 of edge 8, not 6 of 4", p, bytes, &e);
  cov_grid_destroy(&other_grid);
  free(p);
}

/* The whole check and the one while it comes say the same. */
static void refuse_both(const char *why, uint8_t *payload, size_t bytes, const cov_payload_expect *expect) {
  size_t at;
  cov_payload_view view;
  uint8_t *room = malloc(bytes);
  refuse(why, payload, bytes, expect);
  assert_status(check_in_steps(payload, bytes, expect, 64, &at, &view, room), COV_EREMOTE);
  assert_null(view.tensor);
  free(room);
}

/* The run exchanges codes (sign2); one peer sends fp32 values: as it says, or under a header that says codes. Both are
 * short enough for the bound, and right where floats are expected. */
static void floats_are_refused_where_codes_are_expected(void **state) {
  (void)state;
  const cov_quant_params *sign2 = &tried[5], *none = &tried[4];
  cov_payload_expect e = sparse_expect(&grid, none);
  cov_payload_view view;
  size_t bytes;
  uint8_t *p = encode_some(none, 41, &bytes);
  assert_true(bytes <= cov_payload_bytes_max(&grid, sign2));
  assert_ok(cov_payload_check(p, bytes, &e, &view));
  cov_payload_close(&view);
  e = sparse_expect(&grid, sign2);
  refuse_both("quantiser 3 with 0 bins, not 4 with 4", p, bytes, &e);
  p[182] = (uint8_t)sign2->id, p[184] = (uint8_t)sign2->bins;
  refuse_both("section head of matrix", p, bytes, &e);
  free(p);
}

/* From here on until `old` is set again this process gets 1 MiB of memory more, and then COV_ENOMEM. A sanitizer's
 * allocator cannot live with that. */
static void limit_memory(struct rlimit *old) {
  long pages = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  assert_int_equal(getrlimit(RLIMIT_AS, old), 0);
  if (f) {
    assert_int_equal(fscanf(f, "%ld", &pages), 1);
    fclose(f);
  }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  pages = 0;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  pages = 0;
#endif
#endif
  struct rlimit tight = *old;
  if (pages > 0) tight.rlim_cur = (rlim_t)(pages * sysconf(_SC_PAGESIZE)) + (1 << 20);
  assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
}

/* Small payloads that claim to unfold to very much: lengths, counts, tables, and runs that do not end. What is taken is
 * what the grid says: not more than a MiB at any time, nothing of it accounted, and no view. */
static void a_decompression_bomb_is_refused_in_little_memory(void **state) {
  (void)state;
  static const struct {
    bool section; /* offsets from the first section's head */
    size_t at, n;
    uint8_t byte;
  } bomb[] = {
      {false, 208, 8, 0x7F},                                  /* bytes of the payload */
      {false, 200, 8, 0x7F},                                  /* entries */
      {false, 192, 4, 0xFF},                                  /* tensors */
      {false, 184, 2, 0xFF},                                  /* bins */
      {false, 186, 2, 0xFF},                                  /* topk */
      {false, 188, 2, 0xFF},                                  /* edge */
      {true, 0, 8, 0x7F},                                     /* bytes of the section */
      {true, 16, 8, 0x7F},                                    /* its entries */
      {true, 24, 4, 0xFF},                                    /* entries a chunk */
      {true, 12, 2, 0xFF},                                    /* bins */
      {true, 28, 4, 0xFF},                                    /* bytes of its table */
      {true, 48, 16, 0xFF},                                   /* entries with each code */
      {true, 64, SIZE_MAX, 0x00}, {true, 64, SIZE_MAX, 0xFF}, /* runs to the end of everything */
      {true, 0, SIZE_MAX, 0x00},  {true, 0, SIZE_MAX, 0xFF},
  };
  for (int coder = 0; coder < N_CODERS; coder++) {
    size_t bytes, at;
    uint8_t *good = encode_with(coders[coder], &tried[0], 51, &bytes), *p = malloc(bytes), *room = malloc(bytes);
    cov_payload_expect e = sparse_expect(&grid, &tried[0]);
    cov_payload_view view;
    const uint64_t allocations = cov_mem_allocations();
    assert_true(bytes < 1024);
    for (size_t i = 0; i < sizeof bomb / sizeof *bomb; i++) {
      size_t first = bomb[i].at + (bomb[i].section ? COV_PAYLOAD_HEADER_BYTES : 0), n = bomb[i].n;
      size_t room_for = bytes - COV_PAYLOAD_DIGEST_BYTES - COV_PAYLOAD_SIGNATURE_BYTES - first;
      struct rlimit old;
      memcpy(p, good, bytes);
      memset(p + first, bomb[i].byte, n < room_for ? n : room_for);
      sparse_redigest(p, bytes);
      limit_memory(&old);
      cov_status whole = cov_payload_check(p, bytes, &e, &view);
      bool empty = view.tensor == NULL;
      cov_status coming = check_in_steps(p, bytes, &e, 64, &at, &view, room);
      assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
      assert_int_equal(whole, COV_EREMOTE);
      assert_int_equal(coming, COV_EREMOTE);
      assert_true(empty && view.tensor == NULL);
    }
    assert_int_equal(cov_mem_allocations(), allocations);
    assert_ok(cov_payload_check(good, bytes, &e, &view)); /* the good one unfolds to what the grid has, and no more */
    int64_t entries = 0;
    for (int t = 0; t < grid.n; t++) {
      for (int b = 0; b < tried[0].bins; b++) entries += view.tensor[t].counts[b];
    }
    assert_int_equal(entries, grid.n_kept);
    cov_payload_close(&view);
    free(good), free(p), free(room);
  }
}

/* Content that a stranger may send, each with a correct digest. */
static void hostile_content_is_refused(void **state) {
  (void)state;
  size_t bytes;
  cov_payload_view view;
  cov_payload_expect e = sparse_expect(&grid, &tried[1]); /* 5 bins in 3 bits: codes 5..7 are free to abuse */
  uint8_t *good = encode_some(&tried[1], 51, &bytes), *p = malloc(bytes);
  memcpy(p, good, bytes);
  assert_ok(cov_payload_check(good, bytes, &e, &view));
  /* The third tensor has a single chunk, six of seven: its codes are always as they are. */
  uint8_t *band = p + view.tensor[2].bands[0], *counts = band - 20, *table = counts - 20, *section = table - 32;
  uint8_t *codes = band + view.tensor[2].codes[0], *next = p + view.tensor[3].bands[0] - 72;
  cov_payload_close(&view);
  print_message("coded %d counts %d %d %d %d %d\n", section[14], counts[0], counts[4], counts[8], counts[12],
                counts[16]);
  int from = 0, to = 0;
  while (counts[from] == 0) from += 4;
  to = from == 0 ? 4 : 0;
  static const uint8_t inf[4] = {0, 0, 0x80, 0x7F}, nan[4] = {1, 0, 0xC0, 0xFF}, large[4] = {1, 0, 0x80, 0x47};
  memcpy(p, good, bytes), memcpy(table, inf, 4), refuse("table entry 0", p, bytes, &e);
  memcpy(p, good, bytes), memcpy(table + 16, nan, 4), refuse("table entry 4", p, bytes, &e);
  memcpy(p, good, bytes), memcpy(table + 4, large, 4), refuse("table entry 1", p, bytes, &e);
  memcpy(p, good, bytes), counts[0] ^= 1, refuse("codes are counted, there are 6 entries", p, bytes, &e);
  memcpy(p, good, bytes), counts[3] = 0xFF, refuse("codes are counted, there are 6 entries", p, bytes, &e);
  memcpy(p, good, bytes), counts[from]--, counts[to]++, refuse("and is counted", p, bytes, &e);
  memcpy(p, good, bytes), codes[0] = (uint8_t)(codes[0] | 7), refuse("codes are not below 5", p, bytes, &e);
  memcpy(p, good, bytes), codes[2] |= 0xF0, refuse("not coded as a writer does", p, bytes, &e);
  memcpy(p, good, bytes), memset(band, 0, (size_t)(codes - band)), refuse("indices leave", p, bytes, &e);
  memcpy(p, good, bytes), memset(band, 0xFF, 3), refuse("indices leave", p, bytes, &e);
  memcpy(p, good, bytes), section[0]++, refuse("bytes too many", p, bytes, &e);
  memcpy(p, good, bytes), section[0]--, refuse("prime", p, bytes, &e);
  memcpy(p, good, bytes), memset(section, 0xFF, 8), refuse("says that it has", p, bytes, &e);
  memcpy(p, good, bytes), memset(section, 0, 8), refuse("says that it has", p, bytes, &e);
  memcpy(p, good, bytes), section[14] = 1, refuse("another coding", p, bytes, &e);
  memcpy(p, good, bytes), section[15] = 0, refuse("section head", p, bytes, &e);
  memcpy(p, good, bytes), memset(section + 16, 0xFF, 8), refuse("section head", p, bytes, &e); /* entries without end */
  memcpy(p, good, bytes), section[24]--, refuse("section head", p, bytes, &e);                 /* another k */
  memcpy(p, good, bytes), section[12] = 4, refuse("section head", p, bytes, &e);               /* bins */
  memcpy(p, good, bytes), section[28] = 32, refuse("section head", p, bytes, &e);              /* bytes of its table */
  memcpy(p, good, bytes), next[8] = 0, refuse("section head of odd", p, bytes, &e);            /* twice the first */
  memcpy(p, good, bytes), next[8] = 9, refuse("section head of odd", p, bytes, &e);            /* unknown */
  memcpy(p, good, bytes), memcpy(p + 176, nan, 4), refuse("train loss", p, bytes, &e);
  memcpy(p, good, bytes), p[36] = 1, refuse("flags", p, bytes, &e);
  memcpy(p, good, bytes), p[255] = 1, refuse("reserved", p, bytes, &e);
  memcpy(p, good, bytes), p[8] = 2, refuse("version 2", p, bytes, &e);
  memcpy(p, good, bytes), p[190] = 7, refuse("index coder 7", p, bytes, &e);
  memcpy(p, good, bytes), p[190] = 2, refuse("section head", p, bytes, &e);
  memcpy(p, good, bytes), p[192] = 3, refuse("counts", p, bytes, &e);
  memcpy(p, good, bytes), p[214] = 1, refuse("it says", p, bytes, &e); /* 2^48 bytes more */
  memcpy(p, good, bytes);                                              /* its last tensor is missing */
  size_t fewer = (size_t)(next - p) + COV_PAYLOAD_DIGEST_BYTES + COV_PAYLOAD_SIGNATURE_BYTES;
  p[208] = (uint8_t)fewer, p[209] = (uint8_t)(fewer >> 8), refuse("it ends before odd", p, fewer, &e);
  free(good), free(p);
  e = sparse_expect(&grid, &tried[4]);
  p = encode_some(&tried[4], 51, &bytes);
  memcpy(p + bytes - 96 - 4, inf, 4), refuse("a value", p, bytes, &e);
  free(p);
}

/* What no payload can exceed is refused by its length, before anything of it is read. */
static void a_payload_beyond_the_bound_is_refused(void **state) {
  (void)state;
  size_t most = cov_payload_bytes_max(&grid, &tried[0]);
  cov_payload_expect e = sparse_expect(&grid, &tried[0]);
  cov_payload_view view;
  uint8_t *p = calloc(most + 1, 1);
  assert_status(cov_payload_check(p, most + 1, &e, &view), COV_EREMOTE);
  assert_non_null(strstr(cov_error_text(), "no payload of this run has more than"));
  free(p);
}

static void pieces_that_do_not_fit_are_a_bug(void **state) {
  (void)state;
  cov_quant_params quant = tried[0];
  cov_payload_head head = sparse_head(1);
  cov_shard shard;
  assert_ok(cov_shard_create(&grid, 0, 1, &shard));
  size_t bytes, piece_bytes = cov_piece_bytes_max(&shard, &quant);
  uint8_t *piece = calloc(piece_bytes + 1, 1), *payload = malloc(cov_payload_bytes_max(&grid, &quant));
  float tables[16] = {0};
  uint16_t *indices = calloc((size_t)grid.n_kept, 2);
  uint8_t *codes = calloc((size_t)grid.n_kept, 1);
  cov_piece content = {.tables = tables, .indices = indices, .codes = codes};
  assert_status(cov_piece_write(&shard, &quant, &content, piece, &piece_bytes), COV_EBUG); /* all indices are 0 */
  for (int t = 0; t < grid.n; t++) {
    for (int64_t j = 0; j < grid.tensor[t].n_kept; j++)
      indices[grid.tensor[t].kept_first + j] = (uint16_t)(j % grid.tensor[t].k);
  }
  codes[5] = 4;
  assert_status(cov_piece_write(&shard, &quant, &content, piece, &piece_bytes), COV_EBUG);
  codes[5] = 3;
  assert_ok(cov_piece_write(&shard, &quant, &content, piece, &piece_bytes));
  assert_ok(cov_payload_write(&grid, &quant, &head, 1, piece, piece_bytes, payload, &bytes));
  assert_status(cov_payload_write(&grid, &quant, &head, 1, piece, piece_bytes - 1, payload, &bytes), COV_EBUG);
  assert_status(cov_payload_write(&grid, &quant, &head, 1, piece, piece_bytes + 1, payload, &bytes), COV_EBUG);
  assert_status(cov_payload_write(&grid, &quant, &head, 2, piece, piece_bytes, payload, &bytes), COV_EBUG);
  assert_status(cov_payload_write(&grid, &tried[3], &head, 1, piece, piece_bytes, payload, &bytes), COV_EBUG);
  head.train_loss = NAN;
  assert_status(cov_payload_write(&grid, &quant, &head, 1, piece, piece_bytes, payload, &bytes), COV_ENUMERIC);
  free(piece), free(payload), free(indices), free(codes);
  cov_shard_destroy(&shard);
}

static void overlap_is_a_share_of_positions(void **state) {
  (void)state;
  size_t bytes;
  cov_payload_expect e = sparse_expect(&grid, &tried[3]);
  cov_payload_view a, b;
  size_t bytes_b;
  uint8_t *pa = encode_some(&tried[3], 61, &bytes), *pb = encode_some(&tried[3], 71, &bytes_b);
  assert_ok(cov_payload_check(pa, bytes, &e, &a));
  assert_ok(cov_payload_check(pb, bytes_b, &e, &b));
  assert_true(cov_overlap_payloads(&a, &a) == 1);
  double ab = cov_overlap_payloads(&a, &b);
  assert_true(ab > 0 && ab < 1 && ab == cov_overlap_payloads(&b, &a));
  cov_payload_close(&a), cov_payload_close(&b);
  free(pa), free(pb);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_payload_survives_the_round_trip),
      cmocka_unit_test(the_header_is_as_documented),
      cmocka_unit_test(every_flipped_byte_is_refused),
      cmocka_unit_test(a_payload_can_be_checked_while_it_comes),
      cmocka_unit_test(every_truncation_is_refused),
      cmocka_unit_test(a_tampered_payload_is_refused_or_means_what_it_says),
      cmocka_unit_test(each_expectation_is_compared),
      cmocka_unit_test(floats_are_refused_where_codes_are_expected),
      cmocka_unit_test(a_decompression_bomb_is_refused_in_little_memory),
      cmocka_unit_test(hostile_content_is_refused),
      cmocka_unit_test(a_payload_beyond_the_bound_is_refused),
      cmocka_unit_test(pieces_that_do_not_fit_are_a_bug),
      cmocka_unit_test(overlap_is_a_share_of_positions),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
