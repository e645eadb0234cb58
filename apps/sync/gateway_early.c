#include "sync/gateway_early.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/memory.h"
#include "sync/gateway_payloads.h"

struct cov_early {
  struct cov_early *next;
  cov_carrier_event part; /* its bytes are ours */
};

/* What a link may bring before the start: all that is sent before the first round is decided. */
static size_t limit_of(const cov_gateway *gw, int number) {
  size_t payloads = cov_gateway_is_relay(gw, number) ? (size_t)gw->n_remote : 1;
  return payloads * gw->outer->payload_bytes_max;
}

cov_status cov_gateway_early_keep(cov_gateway *gw, const cov_carrier_event *event) {
  struct cov_early **at = &gw->early;
  size_t bytes = event->n_bytes;
  /* Longer than any payload: its first part is enough to refuse it, as later. */
  if (event->head.total > gw->outer->payload_bytes_max && event->head.offset > 0) return COV_OK;
  for (; *at; at = &(*at)->next) {
    if ((*at)->part.peer == event->peer) bytes += (*at)->part.n_bytes;
  }
  if (bytes > limit_of(gw, event->peer)) {
    return COV_FAIL(COV_EREMOTE, "%zu bytes of payloads before the start, at most %zu are accepted", bytes,
                    limit_of(gw, event->peer));
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
