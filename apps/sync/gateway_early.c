#include "sync/gateway_early.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/memory.h"
#include "sync/gateway_payloads.h"

struct cov_early {
  struct cov_early *next;
  cov_carrier_event part; /* its bytes are ours */
};

/* What a peer may bring on a link before the start is all that it sends before the first round is decided: a payload.
 * A relay that has passed on more is not to blame. */
static cov_status refuse_more(cov_gateway *gw, const cov_carrier_event *event, size_t bytes, size_t parts) {
  int64_t round = event->head.round > INT64_MAX ? -1 : (int64_t)event->head.round;
  cov_status st = COV_FAIL(COV_EREMOTE, "%zu bytes in %zu parts before the start, no payload has more than %zu", bytes,
                           parts, gw->outer->payload_bytes_max);
  if (!cov_gateway_is_relay(gw, event->peer)) return st;
  cov_gateway_refuse(gw, (int)event->head.owner, 0, round, st);
  return COV_OK;
}

cov_status cov_gateway_early_keep(cov_gateway *gw, const cov_carrier_event *event) {
  struct cov_early **at = &gw->early;
  size_t most = gw->outer->payload_bytes_max, bytes = event->n_bytes, parts = 1;
  if (!cov_gateway_part_owner(gw, event)) return COV_EREMOTE;
  /* Longer than any payload: its first part is enough to refuse it, as later. */
  if (event->head.total > most && event->head.offset > 0) return COV_OK;
  for (; *at; at = &(*at)->next) {
    const cov_carrier_event *kept = &(*at)->part;
    if (kept->peer != event->peer || kept->head.owner != event->head.owner) continue;
    bytes += kept->n_bytes;
    parts++;
  }
  if (bytes > most || parts > most / (size_t)gw->app->cfg.exchange.segment_bytes + 1) {
    return refuse_more(gw, event, bytes, parts);
  }
  struct cov_early *e = calloc(1, sizeof *e);
  if (!e) return COV_FAIL(COV_ENOMEM, "no memory for a payload that came before the start");
  e->part = *event;
  e->part.bytes = cov_carrier_keep(gw->carrier, event);
  *at = e;
  return COV_OK;
}

static void drop_first(cov_gateway *gw) {
  struct cov_early *e = gw->early;
  gw->early = e->next;
  cov_mem_free(e->part.bytes);
  free(e);
}

cov_status cov_gateway_early_take(cov_gateway *gw) {
  while (gw->early) {
    COV_TRY(cov_gateway_event(gw, &gw->early->part));
    drop_first(gw);
  }
  return COV_OK;
}

void cov_gateway_early_free(cov_gateway *gw) {
  while (gw->early) drop_first(gw);
}
