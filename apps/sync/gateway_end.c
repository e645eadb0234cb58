#include "sync/gateway_end.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "common/over.h"
#include "sync/difference.h"
#include "sync/gateway_store.h"

static const double farewell_s = 5;

static bool is_self(const cov_gateway *gw, const cov_remote *r) {
  return r->peer == gw->app->peer;
}

static bool is_alive(const cov_gateway *gw, const cov_remote *r) {
  return cov_carrier_alive(gw->carrier, r->peer);
}

static bool ends_like_us(const cov_gateway *gw, const cov_remote *r) {
  return r->final_known && memcmp(r->final_hash, gw->outer->hash, COV_HASH_BYTES) == 0;
}

/* How long another may be busy: with its last round, or with the evaluation of its parameters. A link that dies ends
 * each wait for it earlier. */
static double patience_s(const cov_gateway *gw) {
  return gw->app->cfg.exchange.link_timeout + gw->app->cfg.eval.timeout;
}

/* Until it is so and nothing more comes: a link may be over whose last messages have not been taken yet. */
static cov_status wait_until(cov_gateway *gw, bool (*done)(const cov_gateway *), double deadline) {
  for (double idle = gw->idle_s; cov_clock_s() < deadline; idle = gw->idle_s) {
    COV_TRY(cov_gateway_turn(gw, 0.01));
    if (done(gw) && gw->idle_s > idle) return COV_OK;
  }
  return COV_OK;
}

/* ---- final hashes ---- */

static cov_status say_final(cov_gateway *gw) {
  for (int i = 0; i < gw->n_remote; i++) {
    const cov_remote *r = &gw->remote[i];
    if (is_self(gw, r) || !is_alive(gw, r)) continue;
    COV_TRY(
        cov_gateway_post(gw, r->peer, COV_MESSAGE_FINAL, gw->round, gw->outer->hash, COV_HASH_BYTES, COV_POST_COPY));
  }
  return COV_OK;
}

static bool all_final(const cov_gateway *gw) {
  for (int i = 0; i < gw->n_remote; i++) {
    const cov_remote *r = &gw->remote[i];
    if (!is_self(gw, r) && is_alive(gw, r) && !r->final_known) return false;
  }
  return true;
}

static cov_status compare_final(cov_gateway *gw) {
  int same = 1, other = 0;
  const cov_remote *odd = NULL;
  char difference[COV_PARAM_NAME_MAX + 64];
  for (int i = 0; i < gw->n_remote; i++) {
    const cov_remote *r = &gw->remote[i];
    if (is_self(gw, r) || !r->final_known) continue;
    if (ends_like_us(gw, r)) {
      same++;
    } else {
      other++;
      odd = r;
    }
  }
  if (!odd) return COV_OK;
  cov_difference_describe(gw, odd->peer, odd->final_hash, difference, sizeof difference);
  if (same > other) {
    cov_log_warn("the final parameters of peer %d differ from those of %d others: %s", odd->peer, same, difference);
    return COV_OK;
  }
  return COV_FAIL(COV_EMISMATCH, "the final parameters of this peer differ from those of %d other(s), e.g. peer %d: %s",
                  other, odd->peer, difference);
}

/* ---- goodbye ---- */

/* Who did not end with our state. Before the others have said that they are done, only those that are lost already. */
static int count_lost(const cov_gateway *gw, bool done) {
  int n = 0;
  for (int i = 0; i < gw->n_remote; i++) {
    const cov_remote *r = &gw->remote[i];
    n += !is_self(gw, r) && (!ends_like_us(gw, r) || (done && !r->over));
  }
  for (int i = 0; i < gw->n_relays; i++) n += !cov_carrier_alive(gw->carrier, gw->n_remote + i);
  return n < gw->lost_heard ? gw->lost_heard : n;
}

cov_status cov_gateway_over(cov_gateway *gw, cov_remote *from, const uint8_t *bytes, size_t n) {
  int lost;
  COV_TRY(cov_over_decode(bytes, n, &lost));
  from->over = true;
  if (gw->lost_heard < lost) gw->lost_heard = lost;
  return COV_OK;
}

static cov_status say_over(cov_gateway *gw) {
  uint8_t lost[COV_OVER_BYTES];
  cov_over_encode(count_lost(gw, false), lost);
  for (int to = 0; to < gw->n_remote + gw->n_relays; to++) {
    if (to == gw->app->peer || !cov_carrier_alive(gw->carrier, to)) continue;
    COV_TRY(cov_gateway_post(gw, to, COV_MESSAGE_OVER, gw->round, lost, sizeof lost, COV_POST_COPY));
  }
  return COV_OK;
}

static bool all_over(const cov_gateway *gw) {
  for (int i = 0; i < gw->n_remote; i++) {
    const cov_remote *r = &gw->remote[i];
    if (!is_self(gw, r) && is_alive(gw, r) && !r->over) return false;
  }
  return true;
}

static cov_status part(cov_gateway *gw) {
  COV_TRY(say_over(gw));
  return wait_until(gw, all_over, cov_clock_s() + patience_s(gw) + farewell_s);
}

cov_status cov_gateway_end(cov_gateway *gw, cov_close_reason reason) {
  double deadline = cov_clock_s() + farewell_s;
  while (gw->commit && !cov_commit_settled(gw->commit) && cov_clock_s() < deadline) COV_TRY(cov_gateway_turn(gw, 0.01));
  COV_TRY(say_final(gw));
  while (gw->store_next < gw->n_remote) COV_TRY(cov_gateway_store_some(gw));
  COV_TRY(wait_until(gw, all_final, cov_clock_s() + patience_s(gw)));
  cov_status st = compare_final(gw);
  char why[512];
  snprintf(why, sizeof why, "%s", cov_error_text());
  /* Where no round was to be done (run.stop_after), it ends as it did before. */
  bool closes = st == COV_OK && !cov_ledger_closed(gw->ledger);
  if (closes) COV_TRY(cov_ledger_append_close(gw->ledger, gw->outer->hash, reason));
  COV_TRY(part(gw)); /* also if ours is the odd one: the others may still ask for its tensors */
  if (st != COV_OK) return COV_FAIL(st, "%s", why);
  gw->app->lost_peers = count_lost(gw, true);
  (void)cov_carrier_close(&gw->carrier, farewell_s); /* who does not say goodbye has its results all the same */
  return COV_OK;
}
