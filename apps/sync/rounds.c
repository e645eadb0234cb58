#include "sync/rounds.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "comm/agree.h"
#include "comm/collective.h"
#include "comm/member.h"
#include "sync/gateway.h"
#include "sync/gateway_end.h"
#include "sync/notice.h"
#include "sync/saving.h"
#include "sync/status.h"

/* Everything one sync rank holds. The gateway part is used by rank 0 only. */
typedef struct {
  cov_app *app;
  cov_segment *segment;
  cov_member *member;
  cov_outer outer;
  cov_gateway gateway;
  cov_saving saving;
  cov_status_writer writer;
  cov_round_times times;
  int64_t start; /* round that the run begins or goes on with */
  bool is_gateway;
  atomic_bool watchdog_speaks; /* for the run, if a member fails; this rank's main thread has not failed itself */
  bool ahead;                  /* training is in a round whose predecessor is still being exchanged (sync.delay) */
  bool stopping;               /* all peers have agreed to stop; the round in training is the last */
  /* Payloads of the round; owned, but for the gateway's, which are its slots'. */
  cov_payload_bytes set[COV_LEDGER_MAX_MEMBERS + 1], rejected;
} sync_rank;

static cov_status keep_links(void *arg) {
  sync_rank *s = arg;
  return s->is_gateway ? cov_gateway_progress(&s->gateway) : COV_OK;
}

/* Before there is a ledger, and members, the first peer. */
static bool speaks(const sync_rank *s) {
  return s->is_gateway && (s->gateway.ledger ? cov_status_speaks(&s->gateway) : s->app->peer == 0);
}

static void write_failure(sync_rank *s, cov_status st, const char *cause) {
  char reason[COV_STATE_REASON_BYTES];
  snprintf(reason, sizeof reason, "%s: %s", cov_status_name(st), cause);
  (void)cov_state_tell(&s->writer.state, COV_RUN_FAILED, reason); /* the log has it too */
}

/* A member of this peer has ended, and this process will: in the watchdog's thread. The peer that speaks for the run
 * writes down why, if that was an error of its own; of one that was killed, or lost a connection, launch knows more.
 * Then the other peers hear it: whoever speaks next writes `running` after this. */
static void take_leave(void *arg, cov_status st, const char *reason) {
  sync_rank *s = arg;
  if (st != COV_ECOMM && atomic_load(&s->watchdog_speaks)) write_failure(s, st, reason);
  cov_gateway_ask_to_leave(&s->gateway, st, reason);
}

static cov_status open_segment(sync_rank *s) {
  const cov_app *app = s->app;
  char path[COV_CONFIG_TEXT_BYTES + 64];
  cov_segment_params params;
  cov_app_segment_params(app, &params);
  COV_TRY(cov_app_peer_path(app, "segment", path, sizeof path));
  cov_status st = COV_OK;
  if (s->is_gateway) st = cov_segment_create(path, &params, &s->segment);
  COV_TRY(cov_agree(app->comms.sync, st, &app->wait_start));
  if (!s->is_gateway) st = cov_segment_open(path, &params, &app->wait_start, &s->segment);
  COV_TRY(cov_agree(app->comms.sync, st, &app->wait_start));
  const cov_member_params me = {.program = COV_PROGRAM_SYNC,
                                .shard = (int)app->shard,
                                .member_timeout_s = app->cfg.run.member_timeout,
                                .before_exit = s->is_gateway ? take_leave : NULL,
                                .arg = s};
  COV_TRY(cov_member_join(s->segment, &me, &s->member));
  return cov_member_wait_all(s->member, &app->wait_start);
}

/* The state that the peers have chosen to go on from, into all ranks of this peer; then training may load its part. */
static cov_status load_start(sync_rank *s) {
  struct {
    int64_t round;
    uint8_t state_hash[COV_STATE_HASH_BYTES];
  } start = {0};
  char parent[COV_CKPT_PATH_BYTES], folder[COV_CKPT_PATH_BYTES];
  if (s->is_gateway) {
    start.round = s->gateway.resume.round;
    memcpy(start.state_hash, s->gateway.resume.state_hash, sizeof start.state_hash);
  }
  COV_TRY(cov_coll_bcast(s->outer.comm, 0, &start, sizeof start, &s->outer.how));
  s->start = start.round;
  if (start.round > 0) {
    COV_TRY(cov_app_ckpt_parent(s->app, parent, sizeof parent));
    COV_TRY(cov_ckpt_folder(parent, start.round, folder, sizeof folder));
    COV_TRY(cov_outer_load(&s->outer, folder, start.round, start.state_hash));
  }
  cov_status st = cov_saving_open(s->app, &s->outer, s->is_gateway ? &s->gateway : NULL, start.round, &s->saving);
  COV_TRY(cov_agree(s->outer.comm, st, &s->outer.how));
  if (s->is_gateway) cov_doorbell_ring(cov_segment_start_bell(s->segment), (uint32_t)(start.round + 1));
  return COV_OK;
}

static cov_status open_rank(sync_rank *s) {
  const cov_config *cfg = &s->app->cfg;
  COV_TRY(open_segment(s));
  const cov_wait how = {.timeout_s = 4 * cfg->exchange.round_timeout + 4 * cfg->exchange.link_timeout +
                                     2 * cfg->checkpoint.timeout,
                        .poll = keep_links,
                        .arg = s};
  COV_TRY(cov_outer_create(s->app, s->segment, &how, &s->outer));
  COV_TRY(cov_outer_init(&s->outer, (uint64_t)cfg->run.seed));
  cov_status st = COV_OK;
  if (s->is_gateway) st = cov_gateway_open(s->app, &s->outer, &s->gateway);
  if (s->is_gateway && s->app->refused) cov_segment_refuse(s->segment, st);
  atomic_store(&s->watchdog_speaks, speaks(s));
  COV_TRY(cov_agree(s->app->comms.sync, st, &s->app->wait_start));
  if (s->is_gateway && cov_status_speaks(&s->gateway)) {
    COV_TRY(cov_state_tell(&s->writer.state, COV_RUN_RUNNING, "training"));
    cov_log_info("%" PRId64 " peers, %" PRId64
                 " parameters, at most %zu bytes a payload (%.1fx smaller than fp32), signatures %s",
                 cfg->run.peers, s->app->params.elems, s->outer.payload_bytes_max,
                 4.0 * (double)s->app->params.elems / (double)s->outer.payload_bytes_max,
                 cov_identity_signs() ? "on" : "off");
  }
  return load_start(s);
}

/* Whether the state of `round` is saved: all ranks know it afterwards. Before training starts from it and asks too. */
static cov_status decide_saving(sync_rank *s, int64_t round, bool always) {
  cov_status st = cov_saving_look(&s->saving);
  if (st == COV_OK && s->is_gateway) cov_saving_due(&s->saving, round, always);
  return cov_agree(s->outer.comm, st, &s->outer.how); /* the others read the save word behind this */
}

/* Before error feedback or theta change: what is being saved must be in the file. */
static cov_status wait_for_saving(sync_rank *s) {
  while (!cov_saving_written(&s->saving, s->is_gateway ? 0.0 : 0.5)) {
    if (s->is_gateway) COV_TRY(cov_gateway_turn(&s->gateway, 0.004));
  }
  return cov_saving_look(&s->saving);
}

/* Until training has done round t. No deadline of its own: the watchdog ends us if a member dies or hangs, and other
 * peers go on without us after exchange.round_timeout. */
static cov_status wait_for_training(sync_rank *s, int64_t t) {
  cov_doorbell *bell = cov_segment_inner_bell(s->segment);
  uint32_t now;
  while (!cov_doorbell_reached(bell, (uint32_t)(t + 1))) {
    if (s->is_gateway) {
      COV_TRY(cov_gateway_turn(&s->gateway, 0.004));
    } else {
      (void)cov_doorbell_wait(bell, (uint32_t)(t + 1), 1.0, &now);
    }
  }
  return COV_OK;
}

static cov_status encode(sync_rank *s, int64_t t, const cov_train_report *train) {
  double start = cov_clock_s();
  uint8_t *payload = NULL;
  size_t bytes = 0;
  cov_payload_head head = {0};
  cov_status st = COV_OK;
  if (s->is_gateway) {
    void *p;
    st = cov_mem_alloc(COV_SPACE_HOST, COV_MEM_PAYLOAD, s->outer.payload_bytes_max, &p);
    payload = p;
    memcpy(head.run_id, s->app->run_id, sizeof head.run_id);
    head.peer = (uint32_t)s->app->peer;
    cov_identity_key_hash(s->gateway.identity.public_key, head.key_hash);
    head.round = (uint64_t)t;
    memcpy(head.base_hash, s->outer.hash, sizeof head.base_hash);
    memcpy(head.params_digest, s->app->params_digest, sizeof head.params_digest);
    head.inner_steps = (uint64_t)train->inner_steps;
    head.tokens = (uint64_t)train->tokens;
    memcpy(head.sample_digest, train->sample_digest, sizeof head.sample_digest);
    head.train_loss = (float)train->loss;
    head.strategy = s->outer.strategy;
  }
  COV_TRY(cov_agree(s->outer.comm, st, &s->outer.how));
  st = cov_outer_encode(&s->outer, &head, payload, &bytes);
  s->times.encode_s = cov_clock_s() - start;
  if (st == COV_OK && s->is_gateway) return cov_gateway_send(&s->gateway, payload, bytes);
  cov_mem_free(payload);
  return st;
}

/* Gateway: the agreed set as views and bytes. */
static void list_set(sync_rank *s, const cov_payload_view **views, int *n, const cov_payload_view **rejected) {
  const cov_round *agreed = cov_gateway_round(&s->gateway);
  *n = agreed->n_set;
  for (int32_t i = 0; i < agreed->n_set; i++) {
    cov_slot *slot = cov_gateway_slot(&s->gateway, agreed->set[i].peer);
    COV_ASSERT(slot);
    views[i] = &slot->view;
    s->set[i] = (cov_payload_bytes){slot->bytes, slot->n_bytes};
  }
  *rejected = NULL;
  if (!cov_round_find(agreed, (int32_t)s->app->peer)) {
    cov_slot *own = cov_gateway_slot(&s->gateway, (int32_t)s->app->peer);
    *rejected = &own->view;
    s->rejected = (cov_payload_bytes){own->bytes, own->n_bytes};
    cov_notice_give(&s->gateway, COV_NOTICE_PAYLOAD, (int32_t)s->app->peer, agreed->round,
                    "payload of peer %" PRId64 " for round %" PRId64
                    " is not in the agreed set: it came too late, or the others refused it (their logs say why); %s",
                    s->app->peer, agreed->round,
                    s->outer.keeps_errors ? "it goes back into the error feedback"
                                          : "it is lost, sync.strategy keeps no error feedback");
  }
}

/* Other ranks: open what the gateway sent. It has been checked there; the check here costs little and trusts nobody. */
static cov_status open_set(sync_rank *s, int64_t t, int n, cov_payload_view *store, const cov_payload_view **views,
                           int *opened) {
  cov_payload_expect expect;
  cov_outer_expect(&s->outer, s->app, t, &expect);
  for (*opened = 0; *opened < n; ++*opened) {
    COV_TRY(cov_payload_check(s->set[*opened].bytes, s->set[*opened].n, &expect, &store[*opened]));
    views[*opened] = &store[*opened];
  }
  return COV_OK;
}

static void release_set(sync_rank *s, cov_payload_view *store, int opened) {
  if (!s->is_gateway) {
    for (int i = 0; i < opened; i++) cov_payload_close(&store[i]);
    for (int i = 0; i <= COV_LEDGER_MAX_MEMBERS; i++) cov_mem_free(s->set[i].bytes);
  }
  memset(s->set, 0, sizeof s->set);
  s->rejected = (cov_payload_bytes){0};
}

/* Rounds that this launch does at most. */
static int64_t last_round(const cov_app *app) {
  int64_t stop_after = app->cfg.run.stop_after;
  return stop_after > 0 && stop_after < app->cfg.run.rounds ? stop_after : app->cfg.run.rounds;
}

/* What the gateway tells the other ranks about the next round. */
enum { NO_ROUND, ANOTHER_ROUND, LAST_ROUND };

/* Behind round t. A round that training is already in is finished even if the peers have agreed to stop: whether it is
 * does not depend on the peer, so all of them end with the same one. */
static int next_round(const sync_rank *s, int64_t t) {
  if (s->stopping || t + 1 >= last_round(s->app)) return NO_ROUND;
  if (!cov_gateway_round(&s->gateway)->stop) return ANOTHER_ROUND;
  return s->ahead ? LAST_ROUND : NO_ROUND;
}

/* Does the exchange of round t run while round t + 1 computes? The same for all peers: settings and the agreement
 * decide. In front of a checkpoint it does not, so that what is saved is the state between two rounds, without payloads
 * that are still under way; nor in the last round. */
static bool overlaps(const sync_rank *s, int64_t t) {
  const cov_config *cfg = &s->app->cfg;
  int64_t every = cfg->checkpoint.every_rounds;
  bool saved = every > 0 && (t + 1) % every == 0;
  return cfg->sync.delay > 0 && t >= cfg->sync.delay_from && t + 1 < last_round(s->app) && !saved && !s->stopping;
}

/* From the agreement to theta_{t+1}. *more = NO_ROUND: this was the last one. */
static cov_status step(sync_rank *s, int64_t t, int *more) {
  static cov_payload_view store[COV_LEDGER_MAX_MEMBERS + 1]; /* one rank a process, one round at a time */
  const cov_payload_view *views[COV_LEDGER_MAX_MEMBERS + 1] = {0}, *rejected = NULL;
  int n = 0, opened = 0, extra;
  cov_status st = COV_OK;
  if (s->is_gateway) {
    double start = cov_clock_s(), idle = s->gateway.idle_s;
    st = cov_gateway_decide(&s->gateway);
    s->times.exchange_s = cov_clock_s() - start;
    s->times.wait_s = s->gateway.idle_s - idle;
    if (st == COV_OK) {
      list_set(s, views, &n, &rejected);
      *more = next_round(s, t);
    }
  }
  COV_TRY(cov_agree(s->outer.comm, st, &s->outer.how));
  double start = cov_clock_s();
  st = cov_outer_share(&s->outer, &n, s->set, &s->rejected, more);
  if (st == COV_OK && !s->is_gateway) {
    extra = s->rejected.bytes != NULL;
    if (extra) s->set[n] = s->rejected; /* freed with the set */
    st = open_set(s, t, n + extra, store, views, &opened);
    if (extra) rejected = views[n];
  }
  s->stopping = s->stopping || *more == LAST_ROUND;
  st = cov_agree(s->outer.comm, st, &s->outer.how);
  if (st == COV_OK) st = cov_outer_finish(&s->outer, views, n, rejected, t + 1);
  s->times.apply_s = cov_clock_s() - start;
  release_set(s, store, opened);
  return st;
}

static void start_training(sync_rank *s, int64_t t) {
  if (s->is_gateway) cov_doorbell_ring(cov_segment_theta_bell(s->segment), (uint32_t)(t + 1));
}

/* Round t has been encoded and is on its way: training goes on with round t + 1 at once. */
static cov_status go_ahead(sync_rank *s, int64_t t) {
  const cov_payload_view *own = NULL;
  int n_peers = 0;
  s->ahead = overlaps(s, t);
  if (!s->ahead) return COV_OK;
  if (s->is_gateway) {
    own = &cov_gateway_slot(&s->gateway, (int32_t)s->app->peer)->view;
    n_peers = cov_ledger_head_get(s->gateway.ledger)->n_members;
  }
  COV_TRY(cov_outer_keep(&s->outer, s->app, own, n_peers));
  start_training(s, t + 1);
  return COV_OK;
}

static cov_status run_round(sync_rank *s, int64_t t, int *more) {
  cov_train_report train = {0};
  cov_status st = s->is_gateway ? cov_gateway_begin(&s->gateway) : COV_OK;
  COV_TRY(cov_agree(s->outer.comm, st, &s->outer.how));
  COV_TRY(decide_saving(s, t, false));
  s->times.begin_s = cov_clock_s();
  if (!s->ahead) {
    COV_TRY(cov_outer_reset(&s->outer));
    start_training(s, t);
  }
  COV_TRY(cov_saving_begin(&s->saving, t)); /* while training goes on: nothing of the state moves until it is encoded */
  COV_TRY(wait_for_training(s, t));
  if (s->is_gateway && (!cov_segment_train_read(s->segment, &train) || train.round != t)) {
    st = COV_FAIL(COV_EBUG, "training rang for round %" PRId64 " but reported on round %" PRId64, t, train.round);
  }
  if (st == COV_OK) st = wait_for_saving(s);
  COV_TRY(cov_agree(s->outer.comm, st, &s->outer.how));
  COV_TRY(encode(s, t, &train));
  COV_TRY(go_ahead(s, t));
  COV_TRY(step(s, t, more));
  atomic_store(&s->watchdog_speaks, speaks(s));
  return s->is_gateway ? cov_status_round(&s->writer, &s->gateway, &train, &s->times) : COV_OK;
}

/* Tell training and evaluation that round t was the last; give the evaluation time to see the final parameters. */
static void announce_end(sync_rank *s, int64_t t) {
  cov_eval_report eval;
  cov_doorbell_ring(cov_segment_end_bell(s->segment), (uint32_t)(t + 1));
  cov_doorbell_ring(cov_segment_theta_bell(s->segment), (uint32_t)(t + 2));
  if (!cov_segment_eval_read(s->segment, &eval)) return; /* nobody evaluates this peer */
  double deadline = cov_clock_s() + s->app->cfg.eval.timeout;
  while (cov_clock_s() < deadline) {
    if (cov_segment_eval_read(s->segment, &eval) && eval.round == t + 1) return;
    if (cov_gateway_turn(&s->gateway, 0.01) != COV_OK) return;
  }
  cov_log_warn("the evaluation of the final parameters took longer than eval.timeout; ending without it");
}

/* Until no checkpoint is being written. Bounded: a job gives up after checkpoint.timeout. */
static cov_status finish_saving(sync_rank *s) {
  double deadline = cov_clock_s() + 2 * s->app->cfg.checkpoint.timeout;
  while (cov_saving_busy(&s->saving)) {
    COV_TRY(cov_saving_look(&s->saving));
    if (cov_clock_s() > deadline) return COV_FAIL(COV_EIO, "writing a checkpoint hangs: is the disk gone?");
    if (s->is_gateway) {
      COV_TRY(cov_gateway_turn(&s->gateway, 0.01));
    } else {
      (void)cov_saving_written(&s->saving, 0.1);
    }
  }
  return COV_OK;
}

static cov_status finish(sync_rank *s, int64_t t) {
  bool stopped = t + 1 < s->app->cfg.run.rounds;
  cov_status st = finish_saving(s); /* the one before must not keep us from the final one */
  COV_TRY(cov_agree(s->outer.comm, st, &s->outer.how));
  COV_TRY(decide_saving(s, t + 1, true));
  COV_TRY(cov_saving_begin(&s->saving, t + 1));
  if (s->is_gateway) announce_end(s, t);
  st = finish_saving(s);
  if (s->is_gateway && st == COV_OK) {
    st = cov_gateway_end(&s->gateway, stopped ? COV_CLOSE_STOPPED : COV_CLOSE_FINISHED);
    if (st == COV_OK) cov_segment_over_set(s->segment, s->app->lost_peers);
    if (st == COV_OK) st = cov_status_end(&s->writer, &s->gateway, stopped, s->saving.failure);
  }
  st = cov_agree(s->outer.comm, st, &s->outer.how);
  if (st == COV_OK && !cov_segment_over(s->segment, &s->app->lost_peers)) {
    st = COV_FAIL(COV_EBUG, "the gateway ended without saying how many peers were lost");
  }
  return st;
}

static cov_status run(sync_rank *s) {
  COV_TRY(open_rank(s));
  s->writer.start_s = cov_clock_s();
  s->writer.terminal = s->app->cfg.log.console == COV_CFG_CONSOLE_LINE;
  s->writer.start_round = s->start;
  int64_t t = s->start - 1;
  int more = s->start < last_round(s->app) ? ANOTHER_ROUND : NO_ROUND;
  while (more) COV_TRY(run_round(s, ++t, &more));
  return finish(s, t);
}

/* A refused start is over so soon that the evaluation may not have looked for this peer yet. It would wait for it. */
static void await_evaluation(const sync_rank *s) {
  double deadline = cov_clock_s() + 10;
  if (s->app->cfg.run.eval_ranks < 1 || s->app->peer != 0 || !s->member) return;
  while (!cov_member_observed(s->member) && cov_clock_s() < deadline) cov_sleep_s(0.005);
}

/* First the user, then STATE, then the processes of this peer and the other peers. */
static void tell_failure(sync_rank *s, cov_status st, const char *cause) {
  cov_app *app = s->app;
  if (s->segment && cov_segment_refused(s->segment) == st) app->refused = true;
  cov_app_say(app, st);
  if (speaks(s)) write_failure(s, st, cause); /* whoever speaks after it writes its own end */
  if (app->refused) {
    if (s->is_gateway) await_evaluation(s);
    return;
  }
  if (s->member) cov_member_fail(&s->member, st);
  if (s->is_gateway && s->gateway.app) cov_gateway_leave(&s->gateway, st, cause);
}

cov_status cov_rounds_run(cov_app *app) {
  sync_rank *s = NULL;
  void *p;
  COV_TRY(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_SCRATCH, sizeof *s, &p));
  s = p;
  s->app = app;
  s->is_gateway = app->shard == 0;
  cov_state_writer_open(&s->writer.state, app->cfg.run.dir);
  atomic_store(&s->watchdog_speaks, speaks(s));
  cov_status st = run(s);
  char cause[1024] = "";
  if (st != COV_OK) {
    atomic_store(&s->watchdog_speaks, false);              /* this thread knows the cause */
    snprintf(cause, sizeof cause, "%s", cov_error_text()); /* what follows may fail too, and is not the cause */
    tell_failure(s, st, cause);
  }
  cov_member_leave(&s->member);
  cov_status_close(&s->writer);
  cov_saving_close(&s->saving);
  if (s->is_gateway && s->gateway.app) cov_gateway_close(&s->gateway);
  cov_outer_destroy(&s->outer);
  cov_segment_destroy(&s->segment);
  cov_mem_free(s);
  return st == COV_OK ? st : COV_FAIL(st, "%s", cause);
}
