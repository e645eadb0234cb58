/* A payload on a carrier travels in parts, each a message of its own whose head says owner, offset and total. So urgent
 * messages get in between, a relay passes on what it has before it has all, and a receiver can refuse a payload whose
 * beginning is wrong. All functions are Local. */
#ifndef COVENANT_EXCHANGE_TRANSFER_H
#define COVENANT_EXCHANGE_TRANSFER_H

#include <stdbool.h>

#include "exchange/carrier.h"

/** Post bytes[n] (n > 0) in parts of at most part_bytes. `bytes` is borrowed until cov_carrier_in_use(bytes, n) is 0.
 *  head: type, epoch, round and owner are taken from it. Errors as cov_carrier_post; after COV_EREMOTE what follows of
 * the payload is missing at the receiver, which forgets it when the owner's next one begins. */
cov_status cov_transfer_post(cov_carrier *carrier, int to, const cov_message_head *head, const uint8_t *bytes, size_t n,
                             size_t part_bytes);

/* Incoming payloads, one at most for each link and owner. */
typedef struct cov_transfers cov_transfers;

/* One of them. */
typedef struct {
  int via;        /* the peer whose link it comes by */
  uint32_t owner; /* whose payload it says it is: a claim, until its signature is checked */
  uint64_t epoch, round;
  uint64_t serial;    /* no other one of the same transfers has it; from 1 */
  uint8_t *bytes;     /* [total]; the first `have` of them have come */
  size_t have, total; /* have == total: complete */
} cov_transfer;

/** For payloads of at most max_bytes. `*out` is owned: cov_transfers_destroy. */
cov_status cov_transfers_create(size_t max_bytes, cov_transfers **out);
/** NULL is fine. */
void cov_transfers_destroy(cov_transfers **transfers);
/** Take a part (a MESSAGE event). *out is the payload that it belongs to, borrowed until the next call with
 *  `transfers`, or NULL if the part is of none: its beginning was refused or lost. An offset of 0 begins anew.
 *  COV_EREMOTE: lengths that cannot be; what was coming of that owner by that link is forgotten. */
cov_status cov_transfers_take(cov_transfers *transfers, const cov_carrier_event *part, cov_transfer **out);
/** End a transfer. Its bytes are the caller's (cov_mem_free) if `keep`, else freed. */
uint8_t *cov_transfers_end(cov_transfers *transfers, cov_transfer *transfer, bool keep);
/** The link to `via` is gone, and with it what was coming by it. */
void cov_transfers_drop(cov_transfers *transfers, int via);

#endif
