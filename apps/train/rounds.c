#include "rounds.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "comm/member.h"
#include "comm/stop.h"
#include "fsdp/mpi.h"
#include "moments.h"
#include "settings.h"

static const double stop_poll_s = 0.05;

typedef struct {
  cov_app *app;
  cov_segment *segment;
  cov_inner *inner;
  cov_fsdp_mpi *ranks; /* of this peer, if there are several */
  cov_moments moments;
  int told_stop; /* 1: the stop bell was rung by this process */
  double idle_s; /* spent waiting for the weights of the present round */
} trainer;

/* Somebody asked this process for the end. It only passes that on: sync ends the run at the round's end, for all peers
 * alike, so the round goes on. */
static void pass_stop_on(trainer *t) {
  if (t->told_stop || !cov_stop_requested()) return;
  t->told_stop = 1;
  cov_log_info("asked to stop (signal %d): the run ends after this round", cov_stop_requested());
  cov_doorbell_ring(cov_segment_stop_bell(t->segment), 1);
}

static void on_step(void *arg, const cov_inner_step *step) {
  trainer *t = arg;
  pass_stop_on(t);
  if (!t->app->cfg.log.steps || t->app->shard != 0) return;
  cov_log_info("step %lld: loss %.4f, gradient norm %.3g, lr %.3g", (long long)step->step, step->loss, step->grad_norm,
               step->lr);
}

static cov_status poll_stop(void *arg) {
  pass_stop_on(arg);
  return COV_OK;
}

/* The wait between two rounds is as long as the exchange of the peers, whose deadline sync keeps. A sync rank that died
 * or hangs ends this process through the watchdog of comm/member. The deadline here is far behind all of those and only
 * says that nothing waits for ever: four times what a round may wait, and ten minutes for encoding and the outer step.
 */
static cov_status await_theta(trainer *t, int64_t round) {
  const cov_wait how = {.timeout_s = 4.0 * t->app->cfg.exchange.round_timeout + 600.0, .poll = poll_stop, .arg = t};
  return cov_doorbell_await(cov_segment_theta_bell(t->segment), (uint32_t)(round + 1), &how,
                            "waiting for sync to publish the weights of the next round");
}

/* The end bell holds the number of rounds done, 0 while the run goes on; it is rung before the theta bell of the round
 * that does not come. */
static int is_over(const trainer *t, int64_t round) {
  const cov_doorbell *end = cov_segment_end_bell(t->segment);
  return cov_doorbell_now(end) != 0 && cov_doorbell_reached(end, (uint32_t)round);
}

/* train.round_time: a small model takes the time of a large one. */
static void fill_round_time(trainer *t, cov_inner_report *r) {
  const double end_s = cov_clock_s() + t->app->cfg.train.round_time - r->compute_s;
  for (double left_s; (left_s = end_s - cov_clock_s()) > 0.0;) {
    pass_stop_on(t);
    cov_sleep_s(left_s < stop_poll_s ? left_s : stop_poll_s);
  }
  if (t->app->cfg.train.round_time > r->compute_s) r->compute_s = t->app->cfg.train.round_time;
}

static void post_report(trainer *t, int64_t round, const cov_inner_report *r) {
  cov_train_report report = {.round = round,
                             .loss = r->loss,
                             .tokens = r->positions,
                             .inner_steps = r->steps,
                             .compute_s = r->compute_s,
                             .idle_s = t->idle_s,
                             .tokens_per_s = r->compute_s > 0.0 ? (double)r->positions / r->compute_s : 0.0};
  _Static_assert(sizeof report.sample_digest == sizeof r->sample_digest, "one digest, two places");
  memcpy(report.sample_digest, r->sample_digest, sizeof report.sample_digest);
  cov_segment_train_post(t->segment, &report);
  cov_log_debug("round %lld: loss %.4f over %lld positions, %.3g s, %.4g tokens/s", (long long)round, report.loss,
                (long long)report.tokens, report.compute_s, report.tokens_per_s);
}

/* Until sync has loaded what the run goes on from; *round is where that is, and training loads its own part. */
static cov_status load_start(trainer *t, int64_t *round) {
  const cov_wait how = {
      .timeout_s = 2.0 * t->app->cfg.run.start_timeout + t->app->cfg.checkpoint.timeout, .poll = poll_stop, .arg = t};
  cov_doorbell *bell = cov_segment_start_bell(t->segment);
  COV_TRY(cov_doorbell_await(bell, 1, &how, "waiting for sync to say from which round the run goes on"));
  cov_status refused = cov_segment_refused(t->segment);
  if (refused != COV_OK) {
    cov_status st = COV_FAIL(refused, "the start was refused; logs/peer-*-sync-0.log say why");
    cov_error_second_hand_set();
    t->app->refused = true;
    return st;
  }
  *round = (int64_t)cov_doorbell_now(bell) - 1;
  return *round > 0 ? cov_moments_load(&t->moments, *round) : COV_OK;
}

/* *rounds: how many of the run are done, before and after. */
static cov_status train_rounds(trainer *t, int64_t *rounds) {
  float *work = cov_segment_work(t->segment);
  const cov_shard *own = &cov_inner_layout(t->inner)->shard;
  for (;; ++*rounds) {
    cov_inner_report report;
    const double begin_s = cov_clock_s();
    COV_TRY(await_theta(t, *rounds));
    t->idle_s = cov_clock_s() - begin_s;
    if (is_over(t, *rounds)) return cov_moments_save_final(&t->moments, *rounds);
    COV_TRY(cov_moments_save(&t->moments, *rounds));
    cov_shard_copy(own, work, COV_LAYOUT_SPAN, cov_segment_start(t->segment), COV_LAYOUT_SPAN);
    COV_TRY(cov_inner_round(t->inner, *rounds, work, &report));
    if (t->app->shard != 0) continue; /* the first rank speaks for all: their weights are in `work` now */
    fill_round_time(t, &report);
    post_report(t, *rounds, &report);
    cov_doorbell_ring(cov_segment_inner_bell(t->segment), (uint32_t)(*rounds + 1));
  }
}

static cov_status write_stop(const cov_app *app, int64_t rounds) {
  int done = rounds >= app->cfg.run.rounds;
  const cov_event_stop stop = {.round = rounds,
                               .state = done ? "done" : "stopped",
                               .reason = done ? "all rounds are done" : "sync ended the run before its last round"};
  return cov_events_stop(app->events, &stop);
}

static cov_status open_segment(const cov_app *app, cov_segment **segment) {
  char path[COV_CONFIG_TEXT_BYTES + 64];
  cov_segment_params want;
  COV_TRY(cov_app_peer_path(app, "segment", path, sizeof path));
  cov_app_segment_params(app, &want);
  return cov_segment_open(path, &want, &app->wait_start, segment);
}

/* How this process ends MPI depends on whether the peers have parted complete. Sync keeps the deadlines of the parting,
 * of the last evaluation and of the last checkpoint; the one here lies behind them all. */
static cov_status await_parting(trainer *t) {
  const cov_config *cfg = &t->app->cfg;
  const cov_wait how = {.timeout_s =
                            4.0 * (cfg->exchange.link_timeout + cfg->eval.timeout + cfg->checkpoint.timeout) + 60.0,
                        .poll = poll_stop,
                        .arg = t};
  COV_TRY(cov_doorbell_await(cov_segment_over_bell(t->segment), 1, &how, "waiting for sync to part from other peers"));
  (void)cov_segment_over(t->segment, &t->app->lost_peers);
  return COV_OK;
}

/* The deadline only says that nothing waits for ever: a rank that died or hangs ends the peer through the watchdog of
 * comm/member, and between two collectives lie seconds. */
static cov_status open_ranks(trainer *t, cov_inner_params *params) {
  if (t->app->cfg.run.ranks_per_peer == 1) return COV_OK;
  const cov_wait how = {.timeout_s = COV_WAIT_DEFAULT_S, .poll = poll_stop, .arg = t};
  COV_TRY(cov_fsdp_mpi_create(t->app->comms.train, &how, &t->ranks));
  params->ranks = cov_fsdp_mpi_ops(t->ranks);
  return COV_OK;
}

cov_status train_run(cov_app *app) {
  cov_status st = COV_OK;
  trainer t = {.app = app};
  cov_member *member = NULL;
  cov_inner_params params;
  int64_t rounds = 0;
  /* In the peer first: if there is not enough memory here, the others hear of it at once. */
  COV_TRY_DONE(open_segment(app, &t.segment));
  const cov_member_params as = {
      .program = COV_PROGRAM_TRAIN, .shard = (int)app->shard, .member_timeout_s = app->cfg.run.member_timeout};
  COV_TRY_DONE(cov_member_join(t.segment, &as, &member));
  COV_TRY_DONE(train_settings(app, &params));
  params.on_step = on_step;
  params.arg = &t;
  COV_TRY_DONE(open_ranks(&t, &params));
  COV_TRY_DONE(cov_inner_create(&params, &app->llama, &app->params, app->data, train_backend(app), &t.inner));
  COV_TRY_DONE(cov_member_wait_all(member, &app->wait_start));
  COV_TRY_DONE(cov_moments_open(app, t.segment, t.inner, &t.moments));
  COV_TRY_DONE(load_start(&t, &rounds));
  COV_TRY_DONE(train_rounds(&t, &rounds));
  COV_TRY_DONE(write_stop(app, rounds));
  COV_TRY_DONE(await_parting(&t));
done:
  if (st != COV_OK) cov_app_say(app, st); /* before the others hear of it */
  if (st != COV_OK && member && !app->refused) cov_member_fail(&member, st);
  cov_member_leave(&member);
  cov_moments_close(&t.moments);
  cov_inner_destroy(&t.inner);
  cov_fsdp_mpi_destroy(&t.ranks, st == COV_OK && app->lost_peers == 0);
  cov_segment_destroy(&t.segment);
  return st;
}
