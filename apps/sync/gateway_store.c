#include "sync/gateway_store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "comm/beside.h"
#include "ledger/store.h"

/* A payload that was read to be sent. */
struct cov_lent {
  struct cov_lent *next;
  uint8_t *bytes;
  size_t n;
};

static cov_status folder_of(const cov_gateway *gw, char *out, size_t size) {
  return cov_app_peer_path(gw->app, "payloads", out, size);
}

/* The run does not need the store; peers that fall behind do. */
static void note_failure(cov_gateway *gw) {
  if (!gw->store_failed) {
    cov_log_warn("payloads cannot be kept for peers that fall behind: %s", cov_error_text());
  }
  gw->store_failed = true;
}

/* One payload, on its way to disk. */
typedef struct {
  cov_gateway *gw;
  int32_t peer;
  const cov_slot *slot;
} storing;

static cov_status put(void *arg) {
  const storing *s = arg;
  char folder[COV_CONFIG_TEXT_BYTES + 64];
  cov_status st = folder_of(s->gw, folder, sizeof folder);
  if (st == COV_OK) st = cov_store_put(folder, s->slot->round, s->peer, s->slot->bytes, s->slot->n_bytes);
  if (st != COV_OK) note_failure(s->gw); /* no failure of the run */
  return COV_OK;
}

cov_status cov_gateway_store_some(cov_gateway *gw) {
  while (gw->store_next < gw->n_remote) {
    cov_remote *r = &gw->remote[gw->store_next++];
    const cov_slot *slot = &r->slot[gw->store_round % COV_GATEWAY_ROUNDS];
    if (slot->round != gw->store_round || !slot->open) continue;
    storing s = {.gw = gw, .peer = r->peer, .slot = slot};
    return cov_beside_run(put, &s, &gw->outer->how);
  }
  return COV_OK;
}

cov_status cov_gateway_store(cov_gateway *gw) {
  char folder[COV_CONFIG_TEXT_BYTES + 64];
  int64_t keep = gw->app->cfg.exchange.keep_rounds;
  while (gw->store_next < gw->n_remote)
    COV_TRY(cov_gateway_store_some(gw)); /* of the round before, if it was so short */
  gw->store_next = keep > 0 ? 0 : gw->n_remote;
  gw->store_round = gw->round;
  cov_status st = folder_of(gw, folder, sizeof folder);
  if (st == COV_OK) st = cov_store_prune(folder, gw->round - keep);
  if (st != COV_OK) note_failure(gw);
  return COV_OK;
}

const uint8_t *cov_gateway_stored(cov_gateway *gw, int64_t round, int32_t peer, const uint8_t hash[COV_HASH_BYTES],
                                  size_t *bytes) {
  char folder[COV_CONFIG_TEXT_BYTES + 64];
  uint8_t *payload = NULL;
  struct cov_lent *lent = calloc(1, sizeof *lent);
  cov_status st = lent ? folder_of(gw, folder, sizeof folder) : COV_ENOMEM;
  if (st == COV_OK) st = cov_store_get(folder, round, peer, gw->outer->payload_bytes_max, &payload, bytes);
  if (st == COV_OK && (*bytes < COV_PAYLOAD_HEADER_BYTES + COV_PAYLOAD_DIGEST_BYTES + COV_PAYLOAD_SIGNATURE_BYTES ||
                       memcmp(cov_payload_digest(payload, *bytes), hash, COV_HASH_BYTES) != 0)) {
    cov_mem_free(payload);
    st = COV_EDATA; /* of a run that was resumed from further back */
  }
  if (st != COV_OK) {
    free(lent);
    return NULL;
  }
  *lent = (struct cov_lent){.next = gw->lent, .bytes = payload, .n = *bytes};
  gw->lent = lent;
  return payload;
}

void cov_gateway_lent_free(cov_gateway *gw, bool all) {
  for (struct cov_lent **at = &gw->lent; *at;) {
    struct cov_lent *l = *at;
    bool used = gw->carrier && cov_carrier_in_use(gw->carrier, l->bytes, l->n);
    if (used && !all) {
      at = &l->next;
      continue;
    }
    *at = l->next;
    if (used) {
      cov_wait_keep(l->bytes);
    } else {
      cov_mem_free(l->bytes);
    }
    free(l);
  }
}
