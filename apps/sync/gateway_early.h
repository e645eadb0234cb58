/* Parts of payloads that come before this gateway knows which round it is in: the first peers may have trained their
 * first round while this one still waits for the greeting of the last. They wait here, in order, and are taken then.
 * For gateway*.c. All functions are Local. */
#ifndef COVENANT_APPS_SYNC_GATEWAY_EARLY_H
#define COVENANT_APPS_SYNC_GATEWAY_EARLY_H

#include "sync/gateway.h"

/** Keep the part of `event`. More than one payload of a peer on a link is too much: COV_EREMOTE, but what a relay has
 *  passed on is refused in the peer's name. COV_EREMOTE too if it is in a name that cannot be. */
cov_status cov_gateway_early_keep(cov_gateway *gateway, const cov_carrier_event *event);
/** The round is known now: take what was kept. A sender that broke the protocol with it loses its link. */
cov_status cov_gateway_early_take(cov_gateway *gateway);
/** Free what is left. */
void cov_gateway_early_free(cov_gateway *gateway);

#endif
