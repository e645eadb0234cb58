/* Payloads at the gateway: sending ours, directly or through a relay, taking those of others part by part, and getting
 * from somebody else what did not come. For gateway*.c. All functions are Local. */
#ifndef COVENANT_APPS_SYNC_GATEWAY_PAYLOADS_H
#define COVENANT_APPS_SYNC_GATEWAY_PAYLOADS_H

#include "sync/gateway.h"

/** Whether the link `number` is that of a relay. */
bool cov_gateway_is_relay(const cov_gateway *gateway, int number);
/** A part of a payload has come. COV_EREMOTE: the sender breaks the protocol. */
cov_status cov_gateway_part(cov_gateway *gateway, const cov_carrier_event *event);
/** A payload that came before its round began is checked now, and counts. */
cov_status cov_gateway_take(cov_gateway *gateway, cov_remote *from, cov_slot *slot);
/** Free what a slot holds, or keep it for ever if a dropped link may still read it. */
void cov_gateway_empty(cov_gateway *gateway, cov_slot *slot);
/** Somebody lacks a payload that we may have. */
cov_status cov_gateway_serve(cov_gateway *gateway, const cov_carrier_event *event);
/** Ask for what the agreed set has and we lack, if it is time to. */
cov_status cov_gateway_fetch(cov_gateway *gateway, double now_s);
/** A link is gone. If it was our relay's, payloads go directly from now on, and the others are asked to do so too. */
cov_status cov_gateway_link_lost(cov_gateway *gateway, int number, const char *reason);
/** `peer` has lost its relay: it gets our payloads directly, beginning with the present one. */
cov_status cov_gateway_go_direct(cov_gateway *gateway, int peer);

#endif
