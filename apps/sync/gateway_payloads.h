/* Payloads at the gateway: sending ours, directly or through a relay, taking those of others part by part, and getting
 * from somebody else what did not come. For gateway*.c. All functions are Local. */
#ifndef COVENANT_APPS_SYNC_GATEWAY_PAYLOADS_H
#define COVENANT_APPS_SYNC_GATEWAY_PAYLOADS_H

#include "sync/gateway.h"

/** Whether the link `number` is that of a relay. */
bool cov_gateway_is_relay(const cov_gateway *gateway, int number);
/** In whose name a part of a payload comes: the link's, or by a relay any other peer's. NULL: in one that cannot be;
 * then cov_error_text says so. */
cov_remote *cov_gateway_part_owner(cov_gateway *gateway, const cov_carrier_event *event);
/** A part of a payload has come. COV_EREMOTE: who sends on this link breaks the protocol. A relay checks nothing, so
 * what is wrong with a part that it passes on is refused in the name of the part's owner. */
cov_status cov_gateway_part(cov_gateway *gateway, const cov_carrier_event *event);
/** Why a payload (cov_error_text) does not count is told, in its sender's name and once a round: an event and a notice.
 *  `meant`: the round that the sender was in, `round`: the one that its payload says. */
void cov_gateway_refuse(cov_gateway *gateway, int sender, int64_t meant, int64_t round, cov_status why);
/** A payload of `from` that `sender` has sent is checked, and counts; or is refused in the name of `sender`. */
cov_status cov_gateway_take(cov_gateway *gateway, cov_remote *from, cov_slot *slot, const cov_remote *sender);
/** Free what a slot holds, or keep it for ever if a dropped link may still read it. */
void cov_gateway_empty(cov_gateway *gateway, cov_slot *slot);
/** Somebody lacks a payload that we may have. */
cov_status cov_gateway_serve(cov_gateway *gateway, const cov_carrier_event *event);
/** Ask for what the agreed set has and we lack, if it is time to. */
cov_status cov_gateway_fetch(cov_gateway *gateway, double now_s);
/** A link is gone. If it was our relay's, our payloads go directly from now on; those whose relay it was are asked to
 *  send directly too. */
cov_status cov_gateway_link_lost(cov_gateway *gateway, int number, const char *reason);
/** Our relay does not reach `peer`: it gets our payloads directly, beginning with the present one. */
cov_status cov_gateway_go_direct(cov_gateway *gateway, int peer);

#endif
