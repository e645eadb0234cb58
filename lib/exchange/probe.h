/* What the links between peers and relays carry, measured at the start of a run for exchange.topology=auto.
 *
 * Three phases, in each of which data flow for about the same time between all of the named hosts at once, as they will
 * in an exchange:
 *   MESH      every peer sends to every other peer
 *   TO RELAY  every peer sends to its relay
 *   FANOUT    every relay sends to each of its peers
 * A receiver counts what comes in the second half of a phase (the first one is TCP finding the rate), and then tells
 * all peers. Uplink of a peer: the larger of what all others got from it in MESH and its relay in TO RELAY. Downlink
 * of a peer: the largest of what came in a phase, a lower bound. A relay's: what came and went in the last two. So all
 * peers have the same table before them, and come to the same choice (topology.h) without a vote. Should one of them
 * lack a report, it takes mesh, which needs nobody: the way of a payload is its sender's affair, receivers take both.
 *
 * A host goes on to the next phase when its own time is over and everything that was to come has come, or its sender is
 * gone; so the phases keep step without a barrier. A host that lies can make a round slower, and nothing else.
 *
 * Messages, all of one type: head.offset is the phase, or 3 for a report. Data: head.total is 0, and 1 in the last
 * message to a host in that phase; the body means nothing. Report: f32[3][hosts], bytes a second that came in a phase
 * from a host.
 *
 * A state machine over a carrier: whoever owns the carrier hands in its events. All functions are Local. */
#ifndef COVENANT_EXCHANGE_PROBE_H
#define COVENANT_EXCHANGE_PROBE_H

#include <stdbool.h>

#include "exchange/carrier.h"
#include "exchange/topology.h"

enum { COV_PROBE_HOSTS_MAX = 160, COV_PROBE_PART_BYTES = 1 << 16, COV_PROBE_QUEUED_PARTS = 4 };

typedef struct {
  uint32_t type;        /* of all messages of the probe */
  int self;             /* 0 .. peers - 1; peers .. peers + relays - 1 for a relay */
  int peers, relays;    /* numbers on the carrier: peers first; relays need no links to each other */
  double phase_s;       /* how long data are sent in a phase */
  double patience_s;    /* for all phases together; who has not answered then is left out */
  size_t segment_bytes; /* the carrier's */
} cov_probe_params;

/** Bytes of a message of data: a segment, but no more than a slow link sends in a fraction of a phase. */
static inline size_t cov_probe_part_bytes(size_t segment_bytes) {
  return segment_bytes < COV_PROBE_PART_BYTES ? segment_bytes : COV_PROBE_PART_BYTES;
}
/** What the carrier's max_queued_bytes must have room for: the parts that keep a link busy between two turns of its
 *  owner, and a report. */
static inline size_t cov_probe_room_bytes(size_t segment_bytes) {
  return (COV_PROBE_QUEUED_PARTS + 1) * cov_probe_part_bytes(segment_bytes) + 3 * COV_PROBE_HOSTS_MAX * sizeof(float);
}

typedef struct cov_probe cov_probe;

/** On `carrier` (borrowed until destroy). `*out` is owned. Time begins with the first advance; create it before any
 * other host may have begun, or what that sends is lost. */
cov_status cov_probe_create(cov_carrier *carrier, const cov_probe_params *params, cov_probe **out);
/** NULL is fine. */
void cov_probe_destroy(cov_probe **probe);
/** A MESSAGE of the probe's type. COV_EREMOTE: malformed. */
cov_status cov_probe_take(cov_probe *probe, const cov_carrier_event *event, double now_s);
/** Send what is to be sent; call every few milliseconds. */
cov_status cov_probe_advance(cov_probe *probe, double now_s);
/** A peer: no report is to come any more; all are here, or who did not send one is gone. A relay: it has sent and
 *  received all, and told the peers. Both: or patience is over. */
bool cov_probe_done(const cov_probe *probe);
/** rate[peers + relays]. False: somebody did not report, or nothing came from it; rates are not to be used. */
bool cov_probe_rates(const cov_probe *probe, cov_link_rate *rate);

#endif
