/* Follows a live run from the side: sees new common parameters in a peer's segment, copies those that are due for
 * evaluation, and moves to another peer of this host when its own dies. Training never waits for it.
 *
 * theta of round r is the common state after r rounds; theta_bell r + 1 says that it is there (comm/segment.h). Due are
 * the first state seen, then the newest as soon as a multiple of every_rounds has been passed, and always the final
 * one. A slow evaluation thus skips states and never queues them. All functions are Local. */
#ifndef COVENANT_EVALUATE_WATCH_H
#define COVENANT_EVALUATE_WATCH_H

#include "base/status.h"
#include "comm/segment.h"

typedef struct {
  const char *run_dir;        /* borrowed until close */
  cov_segment_params segment; /* peer: the one watched first; span and layout_digest as of all peers */
  int n_peers;                /* of the run */
  int shard;                  /* slot among the eval members */
  int64_t every_rounds;       /* 0: only the final state is due */
  double member_timeout_s;    /* as for cov_member_join */
  double start_timeout_s;     /* for the first segment to appear */
  double other_timeout_s;     /* for each other peer's segment once one's own is lost */
  double copy_timeout_s;      /* for a consistent copy of theta */
} cov_watch_params;

typedef enum {
  COV_WATCH_NOTHING, /* nothing became due in time: call again */
  COV_WATCH_STATE,   /* theta and round are filled; after the final one comes OVER */
  COV_WATCH_OVER     /* no more states will come, and the peers have parted or are gone */
} cov_watch_kind;

typedef struct {
  cov_watch_kind kind;
  int64_t round;
} cov_watch_news;

typedef struct cov_watch cov_watch;

/** Open the peer's segment and join it as an observer. `*out` is owned. Errors of cov_segment_open, cov_member_join. */
cov_status cov_watch_open(const cov_watch_params *params, cov_watch **out);
/** Leave and unmap. NULL is fine; `*w` becomes NULL. */
void cov_watch_close(cov_watch **w);

/** Sleep until a state is due or `timeout_s` is over; theta[span] is written only with COV_WATCH_STATE. A stop signal
 * to this process is passed on to the peer. The sleep is a futex in slices: no measurable load. COV_EREMOTE: the peer
 * died and no other peer of this host has a segment. */
cov_status cov_watch_next(cov_watch *w, double timeout_s, float *theta, cov_watch_news *news);

/** Publish a result in the mailbox of the peer watched now. */
void cov_watch_post(cov_watch *w, const cov_eval_report *report);
/** The peer watched now. */
int cov_watch_peer(const cov_watch *w);
/** Peers known to be lost: for cov_mpi_finish. Complete after COV_WATCH_OVER. */
int cov_watch_lost_peers(const cov_watch *w);

/** The round from which on a state is due after `last` was evaluated (-1: none yet); INT64_MAX: none but the final. */
int64_t cov_watch_due(int64_t last, int64_t every_rounds);

#endif
