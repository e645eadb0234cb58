#include "sync/status.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

bool cov_status_speaks(const cov_gateway *gw) {
  return gw->ledger && cov_ledger_head_get(gw->ledger)->members[0].peer == (int32_t)gw->app->peer;
}

/* Mean over the peers in the set; each reports its own. */
static double mean_loss(cov_gateway *gw, const cov_round *agreed) {
  double sum = 0;
  for (int32_t i = 0; i < agreed->n_set; i++) {
    const cov_slot *slot = cov_gateway_slot(gw, agreed->set[i].peer);
    sum += slot ? (double)slot->view.head.train_loss : NAN;
  }
  return sum / (double)agreed->n_set;
}

static void print_line(const cov_status_writer *w, const cov_gateway *gw, const cov_metrics_row *row,
                       const cov_eval_report *eval) {
  int64_t done = row->round + 1, all = gw->app->cfg.run.rounds;
  double round_s = (cov_clock_s() - w->start_s) / (double)(done - w->start_round);
  int64_t left_s = (int64_t)(round_s * (double)(all - done) + 0.5);
  char heldout[64] = "", line[320];
  if (eval->tokens > 0)
    snprintf(heldout, sizeof heldout, "  held-out %.3f (round %" PRId64 ")", eval->loss, eval->round);
  int n = snprintf(
      line, sizeof line,
      "%sround %" PRId64 "/%" PRId64 "  peers %" PRId64 "  loss %.3f%s  %.0f tok/s  sent %.1f kB  wait %.2f s  "
      "ETA %" PRId64 ":%02" PRId64 "%s",
      w->terminal ? "\r\033[K" : "", done, all, row->peers_in, row->loss, heldout, row->tokens_per_s,
      (double)row->sent_bytes / 1000, row->wait_s, left_s / 60, left_s % 60, w->terminal && done < all ? "" : "\n");
  if (n > 0 && write(STDOUT_FILENO, line, (size_t)n) < 0) return; /* a closed terminal must not end a run */
}

/* Who spoke before, or still thinks that it does, may have failed and written that down. */
static cov_status say_that_it_runs(cov_status_writer *w) {
  cov_run_state state;
  char reason[COV_STATE_REASON_BYTES];
  if (cov_state_read(w->state.run_dir, &state, reason) == COV_OK && state == COV_RUN_RUNNING) return COV_OK;
  return cov_state_tell(&w->state, COV_RUN_RUNNING, "training");
}

static cov_status speak(cov_status_writer *w, const cov_gateway *gw, const cov_metrics_row *row,
                        const cov_eval_report *eval) {
  if (!w->metrics) {
    char path[COV_CONFIG_TEXT_BYTES + 32];
    COV_TRY(cov_path(path, sizeof path, "%s/metrics.csv", gw->app->cfg.run.dir));
    COV_TRY(cov_metrics_open(path, &w->metrics));
    COV_TRY(cov_metrics_cut(w->metrics, row->round)); /* rows of rounds that are done again after a resume */
  }
  COV_TRY(say_that_it_runs(w));
  COV_TRY(cov_metrics_write(w->metrics, row));
  print_line(w, gw, row, eval);
  return COV_OK;
}

cov_status cov_status_round(cov_status_writer *w, cov_gateway *gw, const cov_train_report *train,
                            const cov_round_times *times) {
  const cov_round *agreed = cov_gateway_round(gw);
  char hash[65];
  uint64_t sent, received;
  cov_eval_report eval = {0};
  int64_t round_tokens = 0;
  cov_hex(gw->outer->hash, COV_STATE_HASH_BYTES, hash);
  cov_gateway_traffic(gw, &sent, &received);
  if (!cov_segment_eval_read(gw->outer->segment, &eval)) eval.tokens = 0;
  for (int32_t i = 0; i < agreed->n_set; i++) round_tokens += agreed->set[i].tokens;
  const cov_slot *own = cov_gateway_slot(gw, (int32_t)gw->app->peer);
  COV_ASSERT(own);
  const cov_metrics_row row = {.round = gw->round,
                               .peers_in = agreed->n_set,
                               .loss = mean_loss(gw, agreed),
                               .heldout_loss = eval.tokens > 0 ? eval.loss : NAN,
                               .tokens = gw->tokens,
                               .tokens_per_s = (double)round_tokens / (cov_clock_s() - times->begin_s),
                               .sent_bytes = (int64_t)sent,
                               .received_bytes = (int64_t)received,
                               .payload_bytes = (int64_t)own->n_bytes,
                               .ratio_fp32 = 4.0 * (double)gw->app->params.elems / (double)own->n_bytes,
                               .compute_s = train->compute_s,
                               .idle_s = train->idle_s,
                               .wait_s = times->wait_s,
                               .encode_s = times->encode_s,
                               .exchange_s = times->exchange_s,
                               .apply_s = times->apply_s,
                               .state_hash = hash};
  const cov_event_round event = {.round = row.round,
                                 .peers_in = row.peers_in,
                                 .loss = train->loss,
                                 .tokens = train->tokens,
                                 .sent_bytes = row.sent_bytes,
                                 .received_bytes = row.received_bytes,
                                 .payload_bytes = row.payload_bytes,
                                 .compute_s = row.compute_s,
                                 .idle_s = row.idle_s,
                                 .encode_s = row.encode_s,
                                 .exchange_s = row.exchange_s,
                                 .wait_s = row.wait_s,
                                 .apply_s = row.apply_s,
                                 .state_hash = hash};
  COV_TRY(cov_events_round(gw->app->events, &event));
  return cov_status_speaks(gw) ? speak(w, gw, &row, &eval) : COV_OK;
}

cov_status cov_status_end(cov_status_writer *w, cov_gateway *gw, bool stopped, const char *no_checkpoint) {
  char reason[COV_STATE_REASON_BYTES];
  int64_t done = gw->round + 1, all = gw->app->cfg.run.rounds, stop_after = gw->app->cfg.run.stop_after;
  if (*no_checkpoint) {
    snprintf(
        reason, sizeof reason,
        "%" PRId64 " of %" PRId64
        " rounds are done, but the final checkpoint could not be written; launch again to redo what is not saved: %s",
        done, all, no_checkpoint);
  } else if (!stopped) {
    snprintf(reason, sizeof reason, "all %" PRId64 " rounds are done", all);
  } else if (stop_after > 0 && done > stop_after) {
    snprintf(reason, sizeof reason,
             "%" PRId64 " of %" PRId64 " rounds are done, more than run.stop_after=%" PRId64 " asks for", done, all,
             stop_after);
  } else if (done == stop_after) {
    snprintf(reason, sizeof reason, "stopped by run.stop_after after round %" PRId64 " of %" PRId64, done, all);
  } else {
    snprintf(reason, sizeof reason, "stopped on request after round %" PRId64 " of %" PRId64, done, all);
  }
  bool complete = !stopped && !*no_checkpoint;
  const cov_event_stop event = {.round = done, .state = complete ? "done" : "stopped", .reason = reason};
  COV_TRY(cov_events_stop(gw->app->events, &event));
  cov_status_close(w);
  if (!cov_status_speaks(gw)) return COV_OK;
  return cov_state_tell(&w->state, complete ? COV_RUN_DONE : COV_RUN_STOPPED, reason);
}

void cov_status_close(cov_status_writer *w) {
  cov_metrics_close(&w->metrics);
}
