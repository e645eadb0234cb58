#include "exchange/carrier.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "exchange/carrier_private.h"

/* A nap costs 10 to 35 us of CPU whatever its length (measured), so 1 ms for ever would be up to 3 % of a core. Where
 * nothing has moved for half a second, 4 ms more until the first byte is seen do not matter. */
static const double short_nap_s = 0.5e-3, nap_s = 1e-3, idle_nap_s = 4e-3;
static const double busy_s = 20e-3, idle_s = 0.5;

static double choose_nap(double quiet_s) {
  return quiet_s < busy_s ? short_nap_s : quiet_s < idle_s ? nap_s : idle_nap_s;
}

static cov_status check_params(cov_carrier_params *p) {
  if (p->segment_bytes == 0) p->segment_bytes = (size_t)1 << 20;
  if (p->max_queued_bytes == 0) p->max_queued_bytes = 4 * p->max_message_bytes;
  if (p->heartbeat_s == 0) p->heartbeat_s = 1;
  if (p->link_timeout_s == 0) p->link_timeout_s = 10;
  if (p->max_message_bytes < 1 || p->segment_bytes > (size_t)1 << 30 || p->n_peers < 0) {
    return COV_FAIL(COV_EUSAGE, "a carrier needs a message limit and segments of at most 1 GiB");
  }
  if (!(p->heartbeat_s > 0) || !(p->link_timeout_s >= 2 * p->heartbeat_s)) {
    return COV_FAIL(COV_EUSAGE, "the link timeout (%g s) must be at least twice the heartbeat (%g s)",
                    p->link_timeout_s, p->heartbeat_s);
  }
  return COV_OK;
}

cov_status cov_carrier_create(const cov_carrier_params *params, const cov_carrier_backend *backend, void *state,
                              cov_carrier **out) {
  cov_status st = COV_OK;
  *out = NULL;
  cov_carrier *c = calloc(1, sizeof *c);
  if (!c) COV_FAIL_DONE(COV_ENOMEM, "no memory for a carrier");
  c->params = *params;
  COV_TRY_DONE(check_params(&c->params));
  c->link = calloc((size_t)params->n_peers + 1, sizeof *c->link);
  if (!c->link) COV_FAIL_DONE(COV_ENOMEM, "no memory for %d links", params->n_peers);
  c->backend = backend;
  c->state = state;
  c->next_handle = 1;
  c->progress_s = -1;
  c->moved_s = cov_clock_s();
  double now = backend->now(state);
  for (int i = 0; i < params->n_peers; i++) {
    if (params->peer[i] == params->self) continue;
    cov_link *l = &c->link[c->n_links++];
    l->peer = params->peer[i];
    l->heard_s = l->moved_s = now;
    l->sent_s = now - c->params.heartbeat_s; /* the first ping goes out at once */
    l->window = backend->frames_max < 4 ? backend->frames_max : 4;
  }
  c->params.peer = NULL;
  *out = c;
  return COV_OK;
done:
  backend->destroy(state);
  if (c) free(c->link);
  free(c);
  return st;
}

static int find_link(const cov_carrier *c, int peer) {
  for (int i = 0; i < c->n_links; i++) {
    if (c->link[i].peer == peer) return i;
  }
  return -1;
}

static cov_status copy_body(cov_outgoing *out, const void *bytes, size_t n) {
  void *copy;
  if (n == 0) return COV_OK;
  COV_TRY(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_PAYLOAD, n, &copy));
  memcpy(copy, bytes, n);
  out->copy = copy;
  out->bytes = copy;
  return COV_OK;
}

cov_status cov_carrier_post(cov_carrier *c, int to, const cov_message_head *head, const void *bytes, size_t n,
                            cov_post_mode mode, uint64_t *handle) {
  int i = find_link(c, to);
  if (handle) *handle = 0;
  if (i < 0) return COV_FAIL(COV_EUSAGE, "there is no link to peer %d", to);
  cov_link *l = &c->link[i];
  if (n > c->params.max_message_bytes) {
    return COV_FAIL(COV_EUSAGE, "a message of %zu bytes; at most %zu are allowed", n, c->params.max_message_bytes);
  }
  if (l->state != COV_LINK_UP || l->bye_queued) {
    return COV_FAIL(COV_EREMOTE, "the link to peer %d is down: %s", to, l->reason);
  }
  if (mode != COV_POST_URGENT && l->first && l->queued_bytes + n > c->params.max_queued_bytes) {
    return COV_FAIL(COV_EREMOTE, "the queue to peer %d is full: %zu bytes wait", to, l->queued_bytes);
  }
  cov_outgoing *out = calloc(1, sizeof *out);
  if (!out) return COV_FAIL(COV_ENOMEM, "no memory for a frame");
  out->frame.kind = COV_FRAME_MESSAGE;
  out->frame.head = *head;
  out->frame.body_bytes = n;
  out->bytes = bytes;
  out->urgent = mode == COV_POST_URGENT;
  if (mode != COV_POST_BORROW) {
    cov_status st = copy_body(out, bytes, n);
    if (st != COV_OK) {
      free(out);
      return st;
    }
  } else if (handle) {
    *handle = out->handle = c->next_handle++;
  }
  cov_link_enqueue(c, i, out);
  return COV_OK;
}

cov_status cov_carrier_progress(cov_carrier *c) {
  double now = c->backend->now(c->state);
  for (int i = 0; i < c->n_links; i++) COV_TRY(cov_link_progress(c, i, now));
  c->progress_s = now;
  return COV_OK;
}

static void pop_event(cov_carrier *c, cov_carrier_event *event) {
  cov_pending_event *e = c->first_event;
  c->first_event = e->next;
  if (!c->first_event) c->last_event = NULL;
  *event = e->event;
  free(e);
  if (event->kind != COV_EVENT_MESSAGE) return;
  c->handed_out = event->bytes;
  c->link[find_link(c, event->peer)].undelivered_bytes -= event->n_bytes;
}

cov_status cov_carrier_poll(cov_carrier *c, cov_carrier_event *event) {
  static const cov_carrier_event nothing = {.kind = COV_EVENT_NONE, .peer = -1};
  *event = nothing;
  cov_mem_free(c->handed_out);
  c->handed_out = NULL;
  COV_TRY(cov_carrier_progress(c));
  if (c->first_event) pop_event(c, event);
  return COV_OK;
}

cov_status cov_carrier_wait(cov_carrier *c, double max_s, cov_carrier_event *event) {
  const double end = cov_clock_s() + max_s;
  for (;;) {
    COV_TRY(cov_carrier_poll(c, event));
    double now = cov_clock_s();
    if (c->moved) c->moved_s = now;
    c->moved = 0;
    if (event->kind != COV_EVENT_NONE || now >= end) return COV_OK;
    double nap = choose_nap(now - c->moved_s);
    cov_sleep_s(nap < end - now ? nap : end - now);
  }
}

uint8_t *cov_carrier_keep(cov_carrier *c, const cov_carrier_event *event) {
  COV_ASSERT(event->kind == COV_EVENT_MESSAGE && event->bytes == c->handed_out);
  c->handed_out = NULL;
  return event->bytes;
}

void cov_carrier_drop(cov_carrier *c, int peer, const char *reason) {
  int i = find_link(c, peer);
  if (i >= 0) cov_link_end(c, i, 0, 0, reason);
}

void cov_carrier_await(cov_carrier *c, int peer, double seconds) {
  int i = find_link(c, peer);
  if (i >= 0) c->link[i].await_s = c->backend->now(c->state) + seconds;
}

int cov_carrier_alive(const cov_carrier *c, int peer) {
  int i = find_link(c, peer);
  return i >= 0 && c->link[i].state == COV_LINK_UP;
}

int cov_carrier_lost_links(const cov_carrier *c) {
  return c->lost;
}

static int reads(const cov_outgoing *out, const void *bytes, size_t n) {
  uintptr_t begin = (uintptr_t)bytes, own = (uintptr_t)out->bytes;
  return !out->copy && own < begin + n && begin < own + out->frame.body_bytes;
}

int cov_carrier_in_use(const cov_carrier *c, const void *bytes, size_t n) {
  for (const cov_outgoing *o = c->graves; o; o = o->next) {
    if (reads(o, bytes, n)) return 1;
  }
  for (int i = 0; i < c->n_links; i++) {
    for (const cov_outgoing *o = c->link[i].first; o; o = o->next) {
      if (reads(o, bytes, n)) return 1;
    }
  }
  return 0;
}

size_t cov_carrier_queued(const cov_carrier *c, int peer) {
  int i = find_link(c, peer);
  return i >= 0 ? c->link[i].queued_bytes : 0;
}

int cov_carrier_links(const cov_carrier *c) {
  return c->n_links;
}

void cov_carrier_stats(const cov_carrier *c, int i, cov_link_stats *out) {
  const cov_link *l = &c->link[i];
  *out = l->stats;
  out->peer = l->peer;
  out->alive = l->state == COV_LINK_UP;
  out->silent_s = c->backend->now(c->state) - l->heard_s;
  out->queued_bytes = l->queued_bytes;
}

static void discard_events(cov_carrier *c) {
  cov_carrier_event event;
  while (c->first_event) {
    cov_mem_free(c->handed_out);
    c->handed_out = NULL;
    pop_event(c, &event);
  }
  cov_mem_free(c->handed_out);
  c->handed_out = NULL;
}

static int links_left(const cov_carrier *c) {
  int n = 0;
  for (int i = 0; i < c->n_links; i++) n += c->link[i].state != COV_LINK_DOWN;
  return n;
}

static cov_status say_goodbye(cov_carrier *c, double timeout_s) {
  const double end = cov_clock_s() + timeout_s;
  c->closing = 1;
  for (int i = 0; i < c->n_links; i++) {
    if (c->link[i].state != COV_LINK_DOWN && !c->link[i].bye_queued) COV_TRY(cov_link_signal(c, i, COV_FRAME_BYE));
  }
  for (;;) {
    COV_TRY(cov_carrier_progress(c));
    discard_events(c);
    if (!links_left(c) || cov_clock_s() >= end) return COV_OK;
    cov_sleep_s(short_nap_s);
  }
}

cov_status cov_carrier_close(cov_carrier **carrier, double timeout_s) {
  cov_carrier *c = *carrier;
  if (!c) return COV_OK;
  int lost = c->lost;
  cov_status st = say_goodbye(c, timeout_s);
  for (int i = 0; i < c->n_links; i++) cov_link_end(c, i, 0, 0, "the carrier was closed");
  if (st == COV_OK && c->lost > lost) {
    st = COV_FAIL(COV_EREMOTE, "%d links did not end with a goodbye within %.3g s", c->lost - lost, timeout_s);
  }
  discard_events(c);
  cov_graves_keep(c->graves);
  c->backend->destroy(c->state);
  free(c->link);
  free(c);
  *carrier = NULL;
  return st;
}
