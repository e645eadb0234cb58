/* Which tensors differ when two peers' state hashes do: the peers exchange the hashes of their tensors, which each
 * keeps for its latest states. Nobody needs them while all is well, so they are sent only when asked for. All functions
 * are Local to the gateway. */
#ifndef COVENANT_APPS_SYNC_DIFFERENCE_H
#define COVENANT_APPS_SYNC_DIFFERENCE_H

#include "sync/gateway.h"

/** Answer COV_MESSAGE_ASK_TENSORS (a state hash) if that state is one of our latest; else say nothing. */
cov_status cov_difference_serve(cov_gateway *gateway, int peer, const uint8_t *bytes, size_t n);
/** Take COV_MESSAGE_TENSORS: that state hash, then the hash of each tensor. One nobody asked for is ignored. */
cov_status cov_difference_take(cov_gateway *gateway, const uint8_t *bytes, size_t n);
/** Ask `peer` (-1: everyone) for the tensors of their state `theirs`, wait for the first answer, at most some seconds,
 *  and describe the difference to our state: "3 of 38 tensors differ, the first is NAME", or why that cannot be told.
 */
void cov_difference_describe(cov_gateway *gateway, int peer, const uint8_t theirs[COV_STATE_HASH_BYTES], char *text,
                             size_t size);

#endif
