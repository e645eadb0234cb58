#include "evaluate/watch.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "comm/member.h"
#include "comm/stop.h"

struct cov_watch {
  cov_watch_params p; /* segment.peer is the peer watched now */
  cov_segment *segment;
  cov_member *member;
  unsigned char *lost;        /* [n_peers]: seen dying; never tried again */
  int n_lost, n_lost_by_sync; /* seen here; what sync has counted, once the peers have parted */
  int64_t evaluated;          /* newest round handed out; -1: none */
};

int64_t cov_watch_due(int64_t last, int64_t every_rounds) {
  if (every_rounds <= 0) return INT64_MAX;
  return last < 0 ? 0 : (last / every_rounds + 1) * every_rounds;
}

static void detach(cov_watch *w) {
  cov_member_leave(&w->member);
  cov_segment_destroy(&w->segment);
}

static cov_status attach(cov_watch *w, int peer, double timeout_s) {
  cov_status st = COV_OK;
  char path[4096];
  const cov_wait how = {.timeout_s = timeout_s};
  const cov_member_params member = {
      .program = COV_PROGRAM_EVAL, .shard = w->p.shard, .member_timeout_s = w->p.member_timeout_s};
  cov_segment_params want = w->p.segment;
  want.peer = peer;
  COV_TRY(cov_path(path, sizeof path, "%s/peers/%d/segment", w->p.run_dir, peer));
  COV_TRY_DONE(cov_segment_open(path, &want, &how, &w->segment));
  COV_TRY_DONE(cov_member_join(w->segment, &member, &w->member));
  w->p.segment.peer = peer;
done:
  if (st != COV_OK) detach(w);
  return st;
}

cov_status cov_watch_open(const cov_watch_params *params, cov_watch **out) {
  cov_status st = COV_OK;
  *out = NULL;
  COV_ASSERT(params->n_peers > 0 && params->segment.peer >= 0 && params->segment.peer < params->n_peers);
  cov_watch *w = calloc(1, sizeof *w);
  if (!w) return COV_FAIL(COV_ENOMEM, "no memory to watch the run");
  w->p = *params;
  w->evaluated = -1;
  w->lost = calloc((size_t)params->n_peers, 1);
  if (!w->lost) COV_FAIL_DONE(COV_ENOMEM, "no memory for %d peers", params->n_peers);
  COV_TRY_DONE(attach(w, params->segment.peer, params->start_timeout_s));
  *out = w;
  w = NULL;
done:
  cov_watch_close(&w);
  return st;
}

void cov_watch_close(cov_watch **w) {
  if (!*w) return;
  detach(*w);
  free((*w)->lost);
  free(*w);
  *w = NULL;
}

static void count_lost(cov_watch *w) {
  w->n_lost += !w->lost[w->p.segment.peer];
  w->lost[w->p.segment.peer] = 1;
}

/* Ascending from the lost peer. What is wrong with a segment that cannot be used does not matter here. */
static cov_status move_to_another_peer(cov_watch *w) {
  const int from = w->p.segment.peer;
  detach(w);
  count_lost(w);
  for (int k = 1; k < w->p.n_peers; k++) {
    int peer = (from + k) % w->p.n_peers;
    if (w->lost[peer]) continue;
    if (attach(w, peer, w->p.other_timeout_s) == COV_OK) {
      cov_log_warn("peer %d was lost; evaluation goes on with peer %d", from, peer);
      return COV_OK;
    }
    cov_log_debug("peer %d cannot be watched instead: %s", peer, cov_error_text());
  }
  return COV_FAIL(COV_EREMOTE,
                  "peer %d was lost and no other peer of this host can be watched; the run is not evaluated any more",
                  from);
}

static cov_status give_up_if_lost(void *arg) {
  const cov_watch *w = arg;
  if (!cov_member_peer_lost(w->member)) return COV_OK;
  return COV_FAIL(COV_EREMOTE, "peer %d was lost while its parameters were copied", w->p.segment.peer);
}

/* What the segment says at one moment. */
typedef struct {
  int64_t newest; /* round of the newest state; -1: none yet */
  int64_t last;   /* round of the final state; INT64_MAX: not known yet */
  int gone, died; /* nothing more will come */
  int over;       /* the peers have parted */
} outlook;

static outlook look(cov_watch *w) {
  outlook o = {.last = INT64_MAX};
  /* Members before bells: who has left has rung all bells before. */
  o.died = cov_member_peer_lost(w->member);
  o.gone = o.died || cov_member_peer_left(w->member);
  uint32_t end = cov_doorbell_now(cov_segment_end_bell(w->segment));
  o.over = cov_segment_over(w->segment, &w->n_lost_by_sync);
  o.newest = (int64_t)cov_doorbell_now(cov_segment_theta_bell(w->segment)) - 1;
  if (end > 0) o.last = end; /* round end - 1 was the last: the state after it has the number `end` */
  return o;
}

static int is_due(const cov_watch *w, const outlook *o) {
  if (o->newest <= w->evaluated) return 0;
  if (o->newest >= o->last) return 1;
  if (o->died) return 0; /* perhaps half-written, and another peer has the same state */
  return o->gone || o->newest >= cov_watch_due(w->evaluated, w->p.every_rounds);
}

/* After the final state the watch stays until the peers have parted: cov_watch_lost_peers is complete then. */
static int is_over(const cov_watch *w, const outlook *o) {
  if (w->evaluated >= o->last) return o->over || o->gone;
  return o->gone && !o->died;
}

/* A state that sync keeps changing for copy_timeout_s is skipped: only rounds shorter than a copy do that. */
static cov_status take(cov_watch *w, const outlook *o, float *theta, cov_watch_news *news) {
  const cov_wait how = {.timeout_s = w->p.copy_timeout_s, .poll = o->died ? NULL : give_up_if_lost, .arg = w};
  cov_status st = cov_segment_copy_theta(w->segment, theta, &news->round, &how);
  if (st == COV_EREMOTE) return COV_OK; /* the next look sees the loss */
  if (st == COV_ECOMM && o->newest < o->last && !o->gone) {
    cov_log_warn("round %lld is not evaluated: %s", (long long)o->newest, cov_error_text());
    w->evaluated = o->newest;
    return COV_OK;
  }
  COV_TRY(st);
  w->evaluated = news->round;
  news->kind = COV_WATCH_STATE;
  return COV_OK;
}

cov_status cov_watch_next(cov_watch *w, double timeout_s, float *theta, cov_watch_news *news) {
  const double end = cov_clock_s() + timeout_s, slice_s = 0.1;
  *news = (cov_watch_news){.kind = COV_WATCH_NOTHING, .round = -1};
  for (;;) {
    if (cov_stop_requested()) cov_doorbell_ring(cov_segment_stop_bell(w->segment), 1);
    outlook o = look(w);
    if (is_due(w, &o)) {
      COV_TRY(take(w, &o, theta, news));
      if (news->kind == COV_WATCH_STATE) return COV_OK;
      continue;
    }
    if (is_over(w, &o)) {
      if (o.died) count_lost(w);
      news->kind = COV_WATCH_OVER;
      return COV_OK;
    }
    if (o.died) {
      COV_TRY(move_to_another_peer(w));
      continue;
    }
    double left = end - cov_clock_s();
    if (!(left > 0)) return COV_OK;
    /* Any new state wakes: one look a round is cheap. The slices see what rings no bell: end, loss, a signal. */
    cov_doorbell_wait(cov_segment_theta_bell(w->segment), (uint32_t)(o.newest + 2), left < slice_s ? left : slice_s,
                      NULL);
  }
}

void cov_watch_post(cov_watch *w, const cov_eval_report *report) {
  cov_segment_eval_post(w->segment, report);
}

int cov_watch_peer(const cov_watch *w) {
  return w->p.segment.peer;
}

int cov_watch_lost_peers(const cov_watch *w) {
  return w->n_lost_by_sync > w->n_lost ? w->n_lost_by_sync : w->n_lost;
}
