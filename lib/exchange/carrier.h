/* The one interface between a peer's gateway and other peers: messages over links, one link a peer.
 *
 * Each link has its own state and its own deadline; nothing here blocks and nothing waits for a particular peer. A link
 * that was silent for link_timeout_s, or sent something malformed, is dropped for good: it is never touched again, and
 * buffers that MPI may still use are kept until the process ends. Coming back is a new link.
 *
 * Call poll (or progress) often: several times a heartbeat. A pause of this endpoint longer than a quarter of
 * link_timeout_s is not counted as silence of the others (up to 10 link timeouts in all, then it is), so a long
 * computation here does not drop them; but they may drop us.
 *
 * Several messages of a link are under way at once, as many as take about half a second, so that a long round trip
 * does not leave the link empty and an urgent message does not wait long behind what was already begun.
 *
 * Same frames on every carrier (little endian, 80 bytes, then the body):
 *    0 u32 magic "CVF1" | 4 u16 version 2 | 6 u16 kind (1 ping, 2 bye, 3 message) | 8 u32 type
 *   12 u32 sender's peer number | 16 u64 epoch | 24 u64 round | 32 u64 body bytes
 *   40 u64 number of the frame on this link, from 0 | 48 u32 segment bytes | 52 u32 owner | 56 u64 offset | 64 u64
 * total 72 8 bytes BLAKE2b-64 of bytes 0..71 Everything in a header is checked before a byte of body is taken; type,
 * epoch, round, owner, offset and total are the caller's. Bodies are opaque: their formats check themselves.
 *
 * Not thread-safe: one thread a carrier. All functions are Local. */
#ifndef COVENANT_EXCHANGE_CARRIER_H
#define COVENANT_EXCHANGE_CARRIER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct cov_carrier cov_carrier;

typedef struct {
  int self;        /* my peer number */
  const int *peer; /* [n_peers] peer numbers of the others (self may be among them: ignored); copied */
  int n_peers;
  size_t max_message_bytes; /* larger bodies drop the link that announces them */
  size_t max_queued_bytes;  /* per link and direction; 0: 4 * max_message_bytes */
  size_t segment_bytes;     /* bodies travel in pieces of this size; 0: 1 MiB. Must be the same everywhere */
  double heartbeat_s;       /* a ping on every link that sent nothing for so long; 0: 1 s */
  double link_timeout_s;    /* 0: 10 s; must exceed heartbeat_s at least twofold */
} cov_carrier_params;

typedef enum { COV_POST_COPY, COV_POST_BORROW, COV_POST_URGENT } cov_post_mode;

typedef struct {
  uint32_t type; /* the caller's, opaque here */
  uint64_t epoch;
  uint64_t round;
  uint32_t owner;         /* likewise; pieces.h: whose payload the body is a piece of */
  uint64_t offset, total; /* likewise; pieces.h: where in it, and its length */
} cov_message_head;

typedef enum { COV_EVENT_NONE, COV_EVENT_MESSAGE, COV_EVENT_SENT, COV_EVENT_DROPPED } cov_carrier_event_kind;

typedef struct {
  cov_carrier_event_kind kind;
  int peer;              /* MESSAGE: the sender; SENT: the receiver; DROPPED: who */
  cov_message_head head; /* MESSAGE */
  uint8_t *bytes;        /* MESSAGE: [n_bytes], valid until the next poll or wait unless kept (cov_carrier_keep) */
  size_t n_bytes;
  uint64_t handle;    /* SENT: from cov_carrier_post */
  cov_status status;  /* DROPPED: COV_OK if the peer said goodbye, else COV_EREMOTE */
  const char *reason; /* DROPPED: valid until cov_carrier_close */
} cov_carrier_event;

typedef struct {
  int peer;
  int alive;
  uint64_t sent_bytes, received_bytes;       /* headers and bodies that went through completely or in part */
  uint64_t sent_messages, received_messages; /* without pings and byes */
  uint64_t malformed;
  double silent_s;     /* since something was heard */
  size_t queued_bytes; /* waiting to be sent */
} cov_link_stats;

/* Opening is the backend's: cov_carrier_world_open, cov_carrier_loop_open. */

/** Queue one message to `to`; messages of a link arrive in order. COPY: `bytes` is copied now. BORROW: `bytes` must
 * stay unchanged until the SENT event with *handle, or, if the link is dropped before, until cov_carrier_in_use of it
 * is 0 (possibly never: then leak it). URGENT: as COPY, but ahead of all that was posted with the other modes and has
 * not been begun. `handle` may be NULL: then there is no SENT event; COPY and URGENT give none. COV_EREMOTE if the link
 * is dropped or its queue is full (URGENT does not mind a full queue); COV_EUSAGE if `to` is unknown or n too large. */
cov_status cov_carrier_post(cov_carrier *carrier, int to, const cov_message_head *head, const void *bytes, size_t n,
                            cov_post_mode mode, uint64_t *handle);
/** Move data on all links, send pings, find silent links. Events are kept for poll; a message handed out stays valid.
 */
cov_status cov_carrier_progress(cov_carrier *carrier);
/** Progress, then the next event or COV_EVENT_NONE. Only a fault of this process is an error (COV_ENOMEM, COV_EBUG). */
cov_status cov_carrier_poll(cov_carrier *carrier, cov_carrier_event *event);
/** Poll with sleeps of 0.5 to 1 ms (4 ms once no message has moved for half a second) until there is an event or max_s
 * is over (then COV_EVENT_NONE). */
cov_status cov_carrier_wait(cov_carrier *carrier, double max_s, cov_carrier_event *event);
/** Take the bytes of a MESSAGE event over: they stay valid, the caller frees them with cov_mem_free. */
uint8_t *cov_carrier_keep(cov_carrier *carrier, const cov_carrier_event *event);
/** Drop a link by decision of the caller: no event follows. Unknown or dropped already: nothing happens. */
void cov_carrier_drop(cov_carrier *carrier, int peer, const char *reason);

/** The other end may be opened `seconds` from now: until then it is not silent as long as nothing has come from it.
 *  Unknown: nothing happens. */
void cov_carrier_await(cov_carrier *carrier, int peer, double seconds);
/** 1 while `peer` has a live link. */
int cov_carrier_alive(const cov_carrier *carrier, int peer);
/** Links dropped other than by goodbye; what cov_mpi_finish wants to know. */
int cov_carrier_lost_links(const cov_carrier *carrier);
/** 1 while a borrowed part of bytes[n] may still be read by a send, on a live or a dropped link. */
int cov_carrier_in_use(const cov_carrier *carrier, const void *bytes, size_t n);
/** Bytes that wait to be sent to `peer`; 0 if its link is down. */
size_t cov_carrier_queued(const cov_carrier *carrier, int peer);
int cov_carrier_links(const cov_carrier *carrier);
/** Counters of link i of cov_carrier_links(). */
void cov_carrier_stats(const cov_carrier *carrier, int i, cov_link_stats *out);

/** Say goodbye: send what is queued and a bye on every live link, and take what comes until the others' byes have come
 * or timeout_s is over (messages that arrive meanwhile are discarded). Frees what may be freed. `*carrier` becomes
 * NULL; NULL is fine. Returns COV_EREMOTE if some live link did not end cleanly in time. */
cov_status cov_carrier_close(cov_carrier **carrier, double timeout_s);

#endif
