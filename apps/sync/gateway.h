/* The gateway of a peer: the one process that talks to other peers. It collects the payloads of a round, checks each
 * before it counts, runs the agreement on the set and keeps the ledger. One thread uses the links; everything happens
 * in cov_gateway_turn, which never blocks longer than told. What takes long is done beside that thread (comm/beside.h).
 * Used by sync shard 0 only. All functions are Local. */
#ifndef COVENANT_APPS_SYNC_GATEWAY_H
#define COVENANT_APPS_SYNC_GATEWAY_H

#include "exchange/arrival.h"
#include "exchange/carrier.h"
#include "exchange/commit.h"
#include "exchange/probe.h"
#include "exchange/topology.h"
#include "exchange/transfer.h"
#include "ledger/ledger.h"
#include "common/outer.h"
#include "sync/gateway_messages.h"
#include "sync/resume.h"

enum { COV_GATEWAY_NOTICES = 64 };

/* A payload as it came; `open` once it has passed every check, `checked` while only its signature is left. */
typedef struct {
  int64_t round;  /* -1: the slot is empty */
  uint8_t *bytes; /* owned (cov_mem_free) */
  size_t n_bytes;
  bool checked, open;
  cov_payload_view view; /* of either */
} cov_slot;

typedef struct cov_remote {
  int32_t peer;
  uint8_t key[COV_KEY_BYTES], key_hash[COV_HASH_BYTES];
  bool greeted;              /* it said hello, or that it cannot start */
  bool declined;             /* the latter; `unfit` is then what it failed with */
  cov_status unfit;          /* not COV_OK: it cannot start, or its greeting does not fit ours */
  char why[COV_UNFIT_BYTES]; /* likewise */
  int64_t next_payload;      /* round of the payload that it sends next, as far as we know */
  int64_t refused;           /* latest round whose payload was refused; -1: none */
  int64_t notices_round;     /* for sync/notice.c: n_notices are of this round */
  int n_notices;
  cov_offers offers;      /* what it can start from */
  int64_t saved;          /* round of its newest checkpoint as far as we know; 0: none */
  bool final_known, over; /* its parameters at the end; it needs nothing more from us (sync/gateway_end.h) */
  uint8_t final_hash[COV_HASH_BYTES];
  cov_slot slot[COV_GATEWAY_ROUNDS]; /* by round % COV_GATEWAY_ROUNDS */
  cov_payload_stream *stream;        /* checks what it sends in the transfer `stream_of` while that comes, or NULL */
  uint64_t stream_of;                /* serial of the last transfer that was looked at; 0: none */
  cov_arrival arrival;               /* of what it sends: when to ask for it */
  const struct cov_remote *asked;    /* who was asked last for its payload of this round, or NULL */
  int32_t asks;                      /* how often somebody was */
  bool direct;                       /* our relay does not reach it: our payloads go directly */
  int64_t direct_round;              /* of our latest payload that went to it directly; -1: none */
} cov_remote;

/* What sync/notice.c has said. */
typedef struct {
  uint32_t kind;
  int32_t about;
  int64_t round;
} cov_notice_key;

/* A process of this peer has died: the watchdog asks the main thread, which alone may use the links, to say so. */
typedef struct {
  atomic_int asked, done;
  cov_status status; /* what it failed with; COV_ECOMM if it died */
  char why[400];
} cov_farewell;

typedef struct {
  cov_app *app;     /* borrowed */
  cov_outer *outer; /* borrowed */
  cov_carrier *carrier;
  cov_transfers *incoming;
  cov_probe *probe;                  /* at the start, or NULL */
  cov_topology topology;             /* how our payloads go */
  int n_relays;                      /* their links have the numbers n_remote .. n_remote + n_relays - 1 */
  int64_t store_round, newest_round; /* being written to disk; that somebody else is in, as far as we know */
  int store_next;                    /* peer whose payload is to be written next; n_remote: none */
  bool store_failed;
  struct cov_lent *lent;   /* payloads read back from disk that are being sent */
  struct cov_early *early; /* parts that came before the start (sync/gateway_early.c) */
  cov_identity identity;
  cov_ledger *ledger;
  cov_commit *commit; /* of `round`, or NULL */
  int64_t round;
  cov_remote *remote; /* [peers], self included */
  int n_remote;
  cov_resume resume;                                 /* where the run goes on */
  int lost_heard;                                    /* most lost peers that another has counted at the end */
  int64_t tokens;                                    /* of all agreed sets so far */
  double idle_s;                                     /* time in turns in which nothing came */
  uint64_t sent_bytes_before, received_bytes_before; /* counters at the end of the last round */
  cov_notice_key notice[COV_GATEWAY_NOTICES];        /* the latest that were said; kind 0: none */
  int n_notices;
  cov_farewell farewell;
  const uint8_t *tensors_wanted; /* [32] the state asked about (sync/difference.c), borrowed; NULL: none */
  uint8_t *tensors;              /* its answer, owned; NULL: none yet */
} cov_gateway;

/** Open key and carrier, greet the other peers, choose the state to go on from (gateway->resume), take ledger and
 *  checkpoints back to it, or agree on the genesis and create the ledger. Bounded by start_timeout. COV_EREMOTE: the
 *  others went on without this peer before that state. If some peer cannot start, or no state will do, all peers refuse
 *  with the same status, one of them says why, and app->refused is set. */
cov_status cov_gateway_open(cov_app *app, cov_outer *outer, cov_gateway *gateway);
void cov_gateway_close(cov_gateway *gateway);
/** This peer ends before the run does: tell the others and say goodbye, so that they need not wait for silence. Takes a
 *  second at most. Nothing happens without links. */
void cov_gateway_leave(cov_gateway *gateway, cov_status st, const char *why);
/** The same from another thread, for whose main thread may wait for ever: asks the thread that uses the links, which
 *  hears it in its next turn, and waits 2 s at most. */
void cov_gateway_ask_to_leave(cov_gateway *gateway, cov_status st, const char *why);
/** Between two tests of another wait: other peers must go on hearing from us. */
cov_status cov_gateway_progress(cov_gateway *gateway);

/** Begin the agreement of the next round: from now on payloads for it are checked as they come. */
cov_status cov_gateway_begin(cov_gateway *gateway);
/** Take what has come within `max_s`, let the agreement go on, send what it wants sent. */
cov_status cov_gateway_turn(cov_gateway *gateway, double max_s);
/** Hand in our own payload[bytes] (moved) and send it to everyone. */
cov_status cov_gateway_send(cov_gateway *gateway, uint8_t *payload, size_t bytes);
/** Until the set is agreed and all of it is here, then into the ledger. COV_EREMOTE: no majority, or we were left out
 *  of the run. COV_EMISMATCH: our state is not the one agreed on. */
cov_status cov_gateway_decide(cov_gateway *gateway);
/** The agreed round; borrowed until the next begin. */
const cov_round *cov_gateway_round(const cov_gateway *gateway);
/** The checked payload of `peer` for the present round, or NULL. */
cov_slot *cov_gateway_slot(cov_gateway *gateway, int32_t peer);
/** Tell the other peers that our checkpoint of `round` is complete. */
cov_status cov_gateway_saved(cov_gateway *gateway, int64_t round);
/** Round of the newest checkpoint that every member has, as far as we know: not to be removed. 0: none. */
int64_t cov_gateway_saved_by_all(const cov_gateway *gateway);
/** Bytes over all links since the last call. */
void cov_gateway_traffic(cov_gateway *gateway, uint64_t *sent_bytes, uint64_t *received_bytes);

/** For gateway*.c: one event of the carrier. A peer that breaks the protocol loses its link and nothing more. */
cov_status cov_gateway_event(cov_gateway *gateway, const cov_carrier_event *event);
/** For gateway*.c: post a message; a dead link is no failure, its DROPPED event tells the rest. */
cov_status cov_gateway_post(cov_gateway *gateway, int to, uint32_t type, int64_t round, const void *bytes, size_t n,
                            cov_post_mode mode);

#endif
