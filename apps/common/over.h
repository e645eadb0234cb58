/* The last message of a gateway to the other gateways and to the relays: it needs nothing more, and counts so many
 * peers as lost. The greatest number that any of them has counted decides how all processes end MPI (comm/finish.h).
 * All functions are Local. */
#ifndef COVENANT_APPS_COMMON_OVER_H
#define COVENANT_APPS_COMMON_OVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { COV_OVER_BYTES = 4 };

void cov_over_encode(int lost_peers, uint8_t out[COV_OVER_BYTES]);
/** COV_EREMOTE: not such a message. */
cov_status cov_over_decode(const uint8_t *bytes, size_t n, int *lost_peers);

#endif
