/* Linked into covenant-sync-late, a covenant-sync in which the gateways of some peers hear the greeting of peer FROM
 * only after payloads of two others have come (--wrap of what they hear with): those have trained a round before these
 * know that there is one. COVTEST_LATE=PEERS:PAYLOADS is the list of their numbers, one digit each, and how many
 * payloads are waited for. With faulty_gateway.c. All else is the real program. */
#include <stdlib.h>
#include <string.h>

#include "exchange/carrier.h"
#include "sync/gateway.h"
#include "sync/gateway_messages.h"

enum { FROM = 3 };

static bool late;
static int payloads, wanted; /* that have come; each is one part */
static cov_carrier_event held;

cov_status __real_cov_gateway_open(cov_app *app, cov_outer *outer, cov_gateway *gateway);
cov_status __wrap_cov_gateway_open(cov_app *app, cov_outer *outer, cov_gateway *gateway);
cov_status __real_cov_carrier_wait(cov_carrier *carrier, double max_s, cov_carrier_event *event);
cov_status __wrap_cov_carrier_wait(cov_carrier *carrier, double max_s, cov_carrier_event *event);
cov_status __real_cov_carrier_poll(cov_carrier *carrier, cov_carrier_event *event);
cov_status __wrap_cov_carrier_poll(cov_carrier *carrier, cov_carrier_event *event);

cov_status __wrap_cov_gateway_open(cov_app *app, cov_outer *outer, cov_gateway *gateway) {
  const char *list = getenv("COVTEST_LATE"), *colon = list ? strchr(list, ':') : NULL;
  if (!colon) abort();
  wanted = atoi(colon + 1);
  late = memchr(list, '0' + (int)app->peer, (size_t)(colon - list)) != NULL;
  return __real_cov_gateway_open(app, outer, gateway);
}

static void hold_back(cov_carrier *carrier, cov_carrier_event *event) {
  if (event->kind != COV_EVENT_MESSAGE) return;
  payloads += event->head.type == COV_MESSAGE_PAYLOAD;
  if (event->head.type != COV_MESSAGE_HELLO || event->peer != FROM || payloads >= wanted) return;
  held = *event;
  held.bytes = cov_carrier_keep(carrier, event);
  *event = (cov_carrier_event){.kind = COV_EVENT_NONE, .peer = -1};
}

/* The greeting that was held back, if it is time. */
static bool give_held(cov_carrier_event *event) {
  if (held.kind == COV_EVENT_NONE || payloads < wanted) return false;
  *event = held; /* its bytes stay ours; the program ends soon */
  held.kind = COV_EVENT_NONE;
  return true;
}

cov_status __wrap_cov_carrier_wait(cov_carrier *carrier, double max_s, cov_carrier_event *event) {
  if (late && give_held(event)) return COV_OK;
  cov_status st = __real_cov_carrier_wait(carrier, max_s, event);
  if (late && st == COV_OK) hold_back(carrier, event);
  return st;
}

cov_status __wrap_cov_carrier_poll(cov_carrier *carrier, cov_carrier_event *event) {
  if (late && give_held(event)) return COV_OK;
  cov_status st = __real_cov_carrier_poll(carrier, event);
  if (late && st == COV_OK) hold_back(carrier, event);
  return st;
}
