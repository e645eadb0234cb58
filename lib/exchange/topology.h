/* Who sends to whom, and how long a round of payloads takes at least: the cost model behind exchange.topology=auto.
 *
 * With payloads of b bytes and n peers, peer i has up_i and down_i bytes a second:
 *   mesh   each sends to each:                  max over i of ((n-1) b / up_i, (n-1) b / down_i)
 *   relay  each sends to its relay, which fans out to the n-1 others; relay k serves n_k peers:
 *          max over i of (b / up_i, (n-1) b / down_i) and over k of (n_k b / down_k, n_k (n-1) b / up_k)
 * A relay needs n_k times the download of a peer, so it is a host of its own here. Peer i uses relay i mod K.
 * All functions are Local. */
#ifndef COVENANT_EXCHANGE_TOPOLOGY_H
#define COVENANT_EXCHANGE_TOPOLOGY_H

#include <stddef.h>
#include <stdint.h>

typedef enum { COV_TOPOLOGY_MESH, COV_TOPOLOGY_RELAY } cov_topology;

/* Bytes a second that a host's own access link can carry. */
typedef struct {
  double up, down;
} cov_link_rate;

typedef struct {
  int peers, relays;
  const cov_link_rate *rate; /* [peers + relays]: peers first */
  double payload_bytes;
} cov_cost_params;

/* A bound and what sets it. */
typedef struct {
  double s;
  int host;         /* 0 .. peers + relays - 1 */
  const char *what; /* "uplink", "downlink" */
} cov_cost;

/** Relay that peer i sends to: 0 .. relays - 1. */
static inline int cov_relay_of(int i, int relays) {
  return i % relays;
}
/** The least time of a round's payloads; relays >= 1 for COV_TOPOLOGY_RELAY. Rates must be positive. */
cov_cost cov_topology_cost(const cov_cost_params *params, cov_topology topology);
/** The topology with the lower bound (mesh if they are equal or there is no relay), and why, as one sentence. */
cov_topology cov_topology_choose(const cov_cost_params *params, char *why, size_t size);
/** "mesh", "relay". */
const char *cov_topology_name(cov_topology topology);

#endif
