/* A WAN in user space: IP packets between TUN devices, each behind an access link of its own.
 *
 *   host i --[uplink queue, up_i]--> core (delay d_i + d_j, jitter, loss) --[downlink queue, down_j]--> host j
 *
 * The TCP of the kernel runs at both ends, so congestion control, windows and retransmissions are real. The kernel's
 * own emulation (netem) is not needed; many kernels do not have it. One thread, one process. */
#ifndef COVENANT_LAB_ROUTER_H
#define COVENANT_LAB_ROUTER_H

#include <stdint.h>

enum { LAB_HOSTS_MAX = 64 };

typedef struct {
  double up_mbit, down_mbit; /* access rates, 10^6 bit/s, IP headers included */
  double delay_ms;           /* one way, of this access link: RTT(i,j) = 2 (d_i + d_j) */
  double jitter_ms;          /* up to so much more, uniform */
  double loss;               /* fraction of packets, once on each of the two links crossed */
  int on;                    /* 0: nothing passes (an outage; queued packets are lost) */
} lab_link;

/* What passed an access link since the start. */
typedef struct {
  uint64_t sent_packets, sent_bytes, received_packets, received_bytes;
  uint64_t lost_up, lost_down; /* queue full */
  uint64_t lost_random, lost_off;
} lab_count;

typedef struct {
  int n;
  int fd[LAB_HOSTS_MAX];           /* TUN devices, non-blocking */
  uint32_t address[LAB_HOSTS_MAX]; /* IPv4, network order */
  lab_link link[LAB_HOSTS_MAX];
  lab_count count[LAB_HOSTS_MAX];
  double queue_ms; /* longest wait in a queue */
  uint64_t seed;
  int control;       /* datagram socket: "set HOST KEY=VALUE..."; -1: none */
  const char *stats; /* file that gets a line every quarter of a second; NULL: none */
} lab_router;

/** Change `link` as "up=11", "down=50", "delay=20", "jitter=1", "loss=0.1" (percent), "state=up|down" says. 0 if it is
 * not such a text. */
int lab_link_set(lab_link *link, const char *assignment);
/** Forward packets until SIGTERM. A line of the statistics: seconds on the monotonic clock, seconds of this process on
 * a processor, then for each host bytes that it has sent and received, and packets that it lost (queue full, at random,
 * outage). 0, or 1 after an error that it has printed. */
int lab_router_run(lab_router *router);

#endif
