/* A relay: a well-connected host that passes every part of a payload on to all other peers as it arrives, so that an
 * uplink carries its payload once. It holds no key and checks no payload; receivers do. It keeps what a slow downlink
 * has not taken yet, at most max_queued_bytes of the carrier's parameters a link; beyond that the link's receiver loses
 * the payload and asks somebody else for it. All functions are Local, one thread. */
#ifndef COVENANT_EXCHANGE_RELAY_H
#define COVENANT_EXCHANGE_RELAY_H

#include "exchange/carrier.h"

typedef struct cov_relay cov_relay;

typedef struct {
  uint64_t received_bytes, sent_bytes; /* of parts, handed to links */
  uint64_t refused_parts;              /* of an owner that is not their sender */
  uint64_t lost_parts;                 /* the receiver's queue was full */
} cov_relay_stats;

/** On `carrier` (borrowed until destroy), for messages of `type`. peer[n]: who gets them. */
cov_status cov_relay_create(cov_carrier *carrier, uint32_t type, const int *peer, int n, cov_relay **out);
/** NULL is fine. Before cov_carrier_close. */
void cov_relay_destroy(cov_relay **relay);
/** Pass on `event`, a MESSAGE of the relay's type, or take note of a SENT or DROPPED one. */
cov_status cov_relay_take(cov_relay *relay, const cov_carrier_event *event);
void cov_relay_stats_get(const cov_relay *relay, cov_relay_stats *out);

#endif
