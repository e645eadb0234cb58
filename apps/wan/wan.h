/* covenant-wan: the exchange of one round without training, measured. Each rank of its mpirun is a host: peers first,
 * then relays. `covenant bench wan` starts it on a WAN of its own; it runs on real hosts too. */
#ifndef COVENANT_APPS_WAN_H
#define COVENANT_APPS_WAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "comm/wait.h"
#include "exchange/carrier.h"
#include "exchange/topology.h"

enum { WAN_HOSTS_MAX = 64, WAN_REPS_MAX = 64 };

typedef struct {
  int rank, size, peers, relays;
  cov_topology topology;
  int64_t payload_bytes, part_bytes, reps;
  double timeout_s;    /* of one exchange */
  const char *network; /* addresses of the hosts for the plain sockets: "10.77.0." and rank + 1; NULL: without them */
  cov_carrier *carrier;
} wan_host;

/* On a clock that the hosts of one machine share. */
typedef struct {
  double begin_s, end_s; /* of this host: from its first send to its last receive */
} wan_time;

/** Everyone's payload of `bytes` to everyone through the carrier, by host->topology; each is checked by its digest.
 *  Collective over the world. A relay's end_s is that of its last part. COV_ECOMM after host->timeout_s. */
cov_status wan_exchange(wan_host *host, int64_t bytes, uint64_t round, wan_time *out);

/** Measure the links and choose: why[size] gets the choice and its reason. Collective over the world. */
cov_status wan_probe(wan_host *host, char *why, size_t size);

typedef struct wan_sockets wan_sockets;
/** Connections for the same pattern, one an ordered pair. Collective over the world. */
cov_status wan_sockets_open(wan_host *host, wan_sockets **out);
/** The same bytes the same ways, by poll, send and recv alone, unchecked. Collective over the world. */
cov_status wan_sockets_exchange(wan_host *host, wan_sockets *sockets, int64_t bytes, wan_time *out);
void wan_sockets_close(wan_sockets **sockets);

/** All hosts are there; the carrier goes on meanwhile. Collective over the world. */
cov_status wan_barrier(wan_host *host);

#endif
