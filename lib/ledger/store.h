/* The payloads of past rounds on disk, beside the ledger that names them: DIR/ROUND/PEER, as they were on the wire. Who
 * has fallen behind asks for them; what they are worth is said by their digest in the ledger, so files need no checksum
 * of their own and no sync. All functions are Local. */
#ifndef COVENANT_LEDGER_STORE_H
#define COVENANT_LEDGER_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/** Write payload[bytes] of `peer`, aside and then by rename. COV_EIO. */
cov_status cov_store_put(const char *dir, int64_t round, int32_t peer, const uint8_t *payload, size_t bytes);
/** The payload of `peer`, at most `limit` bytes; owned (cov_mem_free). COV_EIO if it is not there. */
cov_status cov_store_get(const char *dir, int64_t round, int32_t peer, size_t limit, uint8_t **payload, size_t *bytes);
/** Remove the rounds up to `last`; what is none of the store's stays. */
cov_status cov_store_prune(const char *dir, int64_t last);

#endif
