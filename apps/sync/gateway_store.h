/* Payloads of past rounds: written to disk between other work, read for peers that have fallen behind. For gateway*.c.
 * All functions are Local. */
#ifndef COVENANT_APPS_SYNC_GATEWAY_STORE_H
#define COVENANT_APPS_SYNC_GATEWAY_STORE_H

#include "sync/gateway.h"

/** The round has been decided and all of its set is here: its payloads go to disk in the turns to come. Rounds before
 *  the last exchange.keep_rounds are removed. */
cov_status cov_gateway_store(cov_gateway *gateway);
/** Write one payload that is due, if any. A disk that cannot take it is told in the log, once a run; what fails
 *  is the links, which are looked after meanwhile. */
cov_status cov_gateway_store_some(cov_gateway *gateway);
/** A payload of a past round that is not in memory any more, read back for `cov_transfer_post`: borrowed, freed when it
 *  has been sent. NULL: it is not there or not the one with this hash. */
const uint8_t *cov_gateway_stored(cov_gateway *gateway, int64_t round, int32_t peer, const uint8_t hash[COV_HASH_BYTES],
                                  size_t *bytes);
/** Free what has been lent and sent; with `all`, whatever no send can still read. */
void cov_gateway_lent_free(cov_gateway *gateway, bool all);

#endif
