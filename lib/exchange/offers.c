#include "exchange/offers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ledger/bytes.h"

void cov_offers_encode(const cov_offers *offers, uint8_t out[COV_OFFERS_BYTES]) {
  cov_byte_writer w = {.data = out, .room = COV_OFFERS_BYTES};
  COV_ASSERT(offers->n >= 0 && offers->n <= COV_OFFERS_MAX);
  cov_bytes_write_uint(&w, 8, (uint64_t)offers->height);
  cov_bytes_write_uint(&w, 4, (uint64_t)offers->n);
  for (int32_t i = 0; i < COV_OFFERS_MAX; i++) {
    static const cov_offer none;
    const cov_offer *o = i < offers->n ? &offers->offer[i] : &none;
    cov_bytes_write_uint(&w, 8, (uint64_t)o->round);
    cov_bytes_write(&w, o->state_hash, sizeof o->state_hash);
    cov_bytes_write(&w, o->ledger_hash, sizeof o->ledger_hash);
    cov_bytes_write(&w, o->members, sizeof o->members);
  }
  COV_ASSERT(!w.failed && w.used == COV_OFFERS_BYTES);
}

cov_status cov_offers_decode(const uint8_t *bytes, size_t n, cov_offers *out) {
  cov_byte_reader r = {.data = bytes, .left = n};
  memset(out, 0, sizeof *out);
  out->height = cov_bytes_read_count(&r, 8, INT64_MAX);
  out->n = (int32_t)cov_bytes_read_count(&r, 4, COV_OFFERS_MAX);
  bool ordered = true;
  for (int32_t i = 0; i < COV_OFFERS_MAX; i++) {
    cov_offer *o = &out->offer[i];
    o->round = cov_bytes_read_count(&r, 8, INT64_MAX);
    cov_bytes_read(&r, o->state_hash, sizeof o->state_hash);
    cov_bytes_read(&r, o->ledger_hash, sizeof o->ledger_hash);
    cov_bytes_read(&r, o->members, sizeof o->members);
    int64_t limit = i == 0 ? out->height + 1 : out->offer[i - 1].round;
    if (i < out->n && (o->round < 1 || o->round >= limit)) ordered = false;
  }
  if (r.failed || r.left != 0 || !ordered) return COV_FAIL(COV_EREMOTE, "a malformed list of checkpoints");
  return COV_OK;
}

static bool makes(const cov_offers *offers, const cov_offer *o) {
  for (int32_t i = 0; i < offers->n; i++) {
    const cov_offer *own = &offers->offer[i];
    if (own->round == o->round && memcmp(own->state_hash, o->state_hash, sizeof o->state_hash) == 0 &&
        memcmp(own->ledger_hash, o->ledger_hash, sizeof o->ledger_hash) == 0) {
      return true;
    }
  }
  return false;
}

static bool made_by_all_members(const cov_offers *by_peer, int32_t n, const cov_offer *o) {
  bool any = false;
  for (int32_t p = 0; p < COV_LEDGER_MAX_MEMBERS; p++) {
    if (!cov_offer_has_member(o, p)) continue;
    if (p >= n || !makes(&by_peer[p], o)) return false;
    any = true;
  }
  return any;
}

/* "peer 0: 24, 16; peer 1: none" */
static void describe(const cov_offers *by_peer, int32_t n, char *text, size_t size) {
  size_t used = 0;
  text[0] = '\0';
  for (int32_t p = 0; p < n && used < size - 80; p++) {
    used += (size_t)snprintf(text + used, size - used, "%speer %" PRId32 ": ", p ? "; " : "", p);
    if (by_peer[p].n == 0) used += (size_t)snprintf(text + used, size - used, "none");
    for (int32_t i = 0; i < by_peer[p].n && used < size - 40; i++) {
      used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i ? ", " : "", by_peer[p].offer[i].round);
    }
  }
}

cov_status cov_offers_choose(const cov_offers *by_peer, int32_t n, int64_t interval, cov_offer *out) {
  const cov_offer *best = NULL;
  int64_t newest = 0;
  char text[600];
  COV_ASSERT(n > 0 && n <= COV_LEDGER_MAX_MEMBERS);
  for (int32_t p = 0; p < n; p++) {
    for (int32_t i = 0; i < by_peer[p].n; i++) {
      const cov_offer *o = &by_peer[p].offer[i];
      if (o->round > newest) newest = o->round;
      if ((!best || o->round > best->round) && made_by_all_members(by_peer, n, o)) best = o;
    }
  }
  if (best) {
    *out = *best;
    return COV_OK;
  }
  memset(out, 0, sizeof *out);
  for (int32_t p = 0; p < n; p++) out->members[p / 8] |= (uint8_t)(1u << (p % 8));
  if (newest <= interval) return COV_OK;
  describe(by_peer, n, text, sizeof text);
  return COV_FAIL(COV_EMISMATCH,
                  "no good checkpoint is shared by all peers of its round (rounds that each peer has: %s). Bring back "
                  "the folder of the peer that lacks it, or start anew in another run.dir",
                  text);
}
