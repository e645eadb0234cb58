/* How the gateways part after the last round. Each says its final state hash; where two differ, they find out which
 * tensors; then each says that it needs nothing more, and stays until the others have said so too. So nobody leaves
 * while another still asks, and all come to the same number of lost peers, which decides how the processes end MPI
 * (comm/finish.h). All functions are Local to the gateway. */
#ifndef COVENANT_APPS_SYNC_GATEWAY_END_H
#define COVENANT_APPS_SYNC_GATEWAY_END_H

#include "sync/gateway.h"

/** After the last round: stay until the others have it too, compare final state hashes, close the ledger and the
 *  links; app->lost_peers is set. Bounded by twice (exchange.link_timeout + eval.timeout) and some seconds.
 *  COV_EMISMATCH: our parameters are not those of most peers; the links are still open (cov_gateway_leave). */
cov_status cov_gateway_end(cov_gateway *gateway, cov_close_reason reason);
/** Take COV_MESSAGE_OVER. COV_EREMOTE: not such a message. */
cov_status cov_gateway_over(cov_gateway *gateway, cov_remote *from, const uint8_t *bytes, size_t n);

#endif
