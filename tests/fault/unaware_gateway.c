/* Linked into covenant-sync-unaware, a covenant-sync in which the gateway of peer 0 takes note of the end of its relay
 * only when all others have asked it to send directly, though the link to the relay is down before (--wrap of both).
 * Each gateway says of its own payloads whether they go to a peer. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "exchange/transfer.h"
#include "sync/gateway.h"
#include "sync/gateway_payloads.h"

enum { PEERS = 4 };

static int lost = -1, asked; /* number of the relay; peers */
static char why[512];

cov_status __real_cov_gateway_link_lost(cov_gateway *gw, int number, const char *reason);
cov_status __wrap_cov_gateway_link_lost(cov_gateway *gw, int number, const char *reason);
cov_status __real_cov_gateway_go_direct(cov_gateway *gw, int peer);
cov_status __wrap_cov_gateway_go_direct(cov_gateway *gw, int peer);
cov_status __real_cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes,
                                    size_t n, size_t part_bytes);
cov_status __wrap_cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes,
                                    size_t n, size_t part_bytes);

/* Once both have come: first what the others ask for, each time with the link down. */
cov_status __wrap_cov_gateway_link_lost(cov_gateway *gw, int number, const char *reason) {
  if (gw->app->peer != 0 || !cov_gateway_is_relay(gw, number)) return __real_cov_gateway_link_lost(gw, number, reason);
  lost = number;
  snprintf(why, sizeof why, "%s", reason);
  if (asked < gw->n_remote - 1) return COV_OK;
  for (int peer = 1; peer < gw->n_remote; peer++) COV_TRY(__real_cov_gateway_go_direct(gw, peer));
  return __real_cov_gateway_link_lost(gw, lost, why);
}

cov_status __wrap_cov_gateway_go_direct(cov_gateway *gw, int peer) {
  if (gw->app->peer != 0) return __real_cov_gateway_go_direct(gw, peer);
  asked++;
  return lost >= 0 && asked == gw->n_remote - 1 ? __wrap_cov_gateway_link_lost(gw, lost, why) : COV_OK;
}

cov_status __wrap_cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes,
                                    size_t n, size_t part_bytes) {
  cov_payload_head inside;
  bool own = cov_payload_peek(bytes, n, &inside) == COV_OK && inside.peer == head->owner; /* no answer to a question */
  if (own && to < PEERS) fprintf(stderr, "peer %" PRIu32 " sends directly\n", head->owner);
  return __real_cov_transfer_post(carrier, to, head, bytes, n, part_bytes);
}
