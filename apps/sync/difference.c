#include "sync/difference.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

static const double patience_s = 5;

static size_t answer_bytes(const cov_outer *outer) {
  return COV_STATE_HASH_BYTES + (size_t)outer->grid.n * COV_TENSOR_HASH_BYTES;
}

static cov_status take_buffer(size_t bytes, uint8_t **out) {
  void *p;
  COV_TRY(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_SCRATCH, bytes, &p));
  *out = p;
  return COV_OK;
}

cov_status cov_difference_serve(cov_gateway *gw, int peer, const uint8_t *bytes, size_t n) {
  uint8_t *answer;
  if (n != COV_STATE_HASH_BYTES) return COV_FAIL(COV_EREMOTE, "a request for tensors of %zu bytes", n);
  const uint8_t *tensors = cov_outer_tensor_hashes(gw->outer, bytes);
  if (!tensors) return COV_OK;
  size_t size = answer_bytes(gw->outer);
  COV_TRY(take_buffer(size, &answer));
  memcpy(answer, bytes, COV_STATE_HASH_BYTES);
  memcpy(answer + COV_STATE_HASH_BYTES, tensors, size - COV_STATE_HASH_BYTES);
  cov_status st = cov_gateway_post(gw, peer, COV_MESSAGE_TENSORS, gw->round, answer, size, COV_POST_COPY);
  cov_mem_free(answer);
  return st;
}

cov_status cov_difference_take(cov_gateway *gw, const uint8_t *bytes, size_t n) {
  size_t size = answer_bytes(gw->outer);
  if (n != size) return COV_FAIL(COV_EREMOTE, "hashes of tensors in %zu bytes, not %zu", n, size);
  if (!gw->tensors_wanted || gw->tensors || memcmp(bytes, gw->tensors_wanted, COV_STATE_HASH_BYTES) != 0) return COV_OK;
  COV_TRY(take_buffer(size, &gw->tensors));
  memcpy(gw->tensors, bytes, size);
  return COV_OK;
}

static void compare(const cov_outer *outer, const uint8_t *theirs, char *text, size_t size) {
  const uint8_t *ours = cov_outer_tensor_hashes(outer, outer->hash);
  int first = -1, n = 0;
  for (int t = 0; ours && t < outer->grid.n; t++) {
    size_t at = (size_t)t * COV_TENSOR_HASH_BYTES;
    if (memcmp(ours + at, theirs + at, COV_TENSOR_HASH_BYTES) == 0) continue;
    if (n++ == 0) first = t;
  }
  if (first < 0) snprintf(text, size, "the answer about their tensors does not fit their state hash");
  else
    snprintf(text, size, "%d of %d tensors differ, the first is %s", n, outer->grid.n,
             outer->grid.params->item[first].name);
}

static bool may_answer(const cov_gateway *gw, int from, int peer) {
  return from != gw->app->peer && (peer < 0 || from == peer) && cov_carrier_alive(gw->carrier, from);
}

static bool any_may_answer(const cov_gateway *gw, int peer) {
  bool any = false;
  for (int i = 0; i < gw->n_remote; i++) any |= may_answer(gw, gw->remote[i].peer, peer);
  return any;
}

static cov_status ask(cov_gateway *gw, int peer) {
  for (int i = 0; i < gw->n_remote; i++) {
    int to = gw->remote[i].peer;
    if (!may_answer(gw, to, peer)) continue;
    COV_TRY(cov_gateway_post(gw, to, COV_MESSAGE_ASK_TENSORS, gw->round, gw->tensors_wanted, COV_STATE_HASH_BYTES,
                             COV_POST_COPY));
  }
  return COV_OK;
}

void cov_difference_describe(cov_gateway *gw, int peer, const uint8_t theirs[COV_STATE_HASH_BYTES], char *text,
                             size_t size) {
  double deadline = cov_clock_s() + patience_s;
  uint8_t wanted[COV_STATE_HASH_BYTES]; /* `theirs` may belong to what a turn changes */
  memcpy(wanted, theirs, sizeof wanted);
  gw->tensors_wanted = wanted;
  cov_status st = ask(gw, peer);
  while (st == COV_OK && !gw->tensors && any_may_answer(gw, peer) && cov_clock_s() < deadline) {
    st = cov_gateway_turn(gw, 0.01);
  }
  if (gw->tensors) compare(gw->outer, gw->tensors + COV_STATE_HASH_BYTES, text, size);
  else snprintf(text, size, "which tensors differ could not be learned");
  cov_mem_free(gw->tensors);
  gw->tensors = NULL;
  gw->tensors_wanted = NULL;
}
