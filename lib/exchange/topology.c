#include "exchange/topology.h"

#include <stdio.h>

/* What a host has to send and to receive, in payloads. */
static void load_of(const cov_cost_params *p, cov_topology topology, int host, double *up, double *down) {
  int others = p->peers - 1;
  if (host < p->peers) {
    *up = topology == COV_TOPOLOGY_MESH ? others : 1;
    *down = others;
  } else if (topology == COV_TOPOLOGY_MESH) {
    *up = *down = 0;
  } else {
    int k = host - p->peers, served = 0;
    for (int i = 0; i < p->peers; i++) served += cov_relay_of(i, p->relays) == k;
    *up = (double)served * others;
    *down = served;
  }
}

cov_cost cov_topology_cost(const cov_cost_params *p, cov_topology topology) {
  cov_cost worst = {0, 0, "uplink"};
  if (p->peers < 2) return worst;
  for (int h = 0; h < p->peers + p->relays; h++) {
    double up, down;
    load_of(p, topology, h, &up, &down);
    double up_s = up * p->payload_bytes / p->rate[h].up, down_s = down * p->payload_bytes / p->rate[h].down;
    if (up > 0 && up_s > worst.s) worst = (cov_cost){up_s, h, "uplink"};
    if (down > 0 && down_s > worst.s) worst = (cov_cost){down_s, h, "downlink"};
  }
  return worst;
}

static void describe(const cov_cost_params *p, cov_topology topology, const cov_cost *cost, char *text, size_t size) {
  int relay = cost->host >= p->peers;
  const cov_link_rate *rate = &p->rate[cost->host];
  snprintf(text, size, "%s takes %.3g s (%s of %s %d, %.3g Mbit/s)", cov_topology_name(topology), cost->s, cost->what,
           relay ? "relay" : "peer", relay ? cost->host - p->peers : cost->host,
           (cost->what[0] == 'u' ? rate->up : rate->down) * 8e-6);
}

cov_topology cov_topology_choose(const cov_cost_params *p, char *why, size_t size) {
  char mesh_text[160], relay_text[160];
  cov_cost mesh = cov_topology_cost(p, COV_TOPOLOGY_MESH);
  if (p->peers < 2) {
    snprintf(why, size, "mesh: there is nobody to send to");
    return COV_TOPOLOGY_MESH;
  }
  describe(p, COV_TOPOLOGY_MESH, &mesh, mesh_text, sizeof mesh_text);
  if (p->relays == 0) {
    snprintf(why, size, "mesh: there is no relay; %s", mesh_text);
    return COV_TOPOLOGY_MESH;
  }
  cov_cost relay = cov_topology_cost(p, COV_TOPOLOGY_RELAY);
  describe(p, COV_TOPOLOGY_RELAY, &relay, relay_text, sizeof relay_text);
  cov_topology chosen = relay.s < mesh.s ? COV_TOPOLOGY_RELAY : COV_TOPOLOGY_MESH;
  snprintf(why, size, "%s: for payloads of %.4g MB %s, %s", cov_topology_name(chosen), p->payload_bytes * 1e-6,
           chosen == COV_TOPOLOGY_RELAY ? relay_text : mesh_text,
           chosen == COV_TOPOLOGY_RELAY ? mesh_text : relay_text);
  return chosen;
}

const char *cov_topology_name(cov_topology topology) {
  return topology == COV_TOPOLOGY_MESH ? "mesh" : "relay";
}
