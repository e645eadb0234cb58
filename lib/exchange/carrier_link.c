/* One link: what is sent, what is received, when it is over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "exchange/carrier_private.h"

static const double forgiven_timeouts = 10;
/* A frame that takes longer from its begin to its end shrinks the window, one that takes less than the other lets it
 * grow: that fills a link of any delay, and bounds what an urgent message finds in front of it. */
static const double long_s = 1, short_s = 0.4;
enum { WINDOW_MIN = 2 };

/* Buffers that MPI may still use after a link was abandoned. Reachable from here for ever, so that they are neither
 * reused nor taken for leaks. */
static cov_outgoing *kept_sends;
typedef struct kept_body {
  struct kept_body *next;
  uint8_t *body;
} kept_body;
static kept_body *kept_bodies;

cov_status cov_event_push(cov_carrier *c, const cov_carrier_event *event) {
  cov_pending_event *e = calloc(1, sizeof *e);
  if (!e) return COV_FAIL(COV_ENOMEM, "no memory for a carrier event");
  e->event = *event;
  if (c->last_event) {
    c->last_event->next = e;
  } else {
    c->first_event = e;
  }
  c->last_event = e;
  return COV_OK;
}

/* Behind what is under way and behind earlier urgent ones; NULL: in front of all. */
static cov_outgoing *place_of_urgent(const cov_link *l) {
  cov_outgoing *before = NULL, *at = l->first;
  for (int k = 0; at && (k < l->n_sending || at->urgent); k++, at = at->next) before = at;
  return before;
}

void cov_link_enqueue(cov_carrier *c, int i, cov_outgoing *out) {
  cov_link *l = &c->link[i];
  cov_outgoing *before = out->urgent ? place_of_urgent(l) : l->last;
  out->next = before ? before->next : l->first;
  if (before) {
    before->next = out;
  } else {
    l->first = out;
  }
  if (!out->next) l->last = out;
  l->queued_bytes += out->frame.body_bytes;
}

cov_status cov_link_signal(cov_carrier *c, int i, cov_frame_kind kind) {
  cov_outgoing *out = calloc(1, sizeof *out);
  if (!out) return COV_FAIL(COV_ENOMEM, "no memory for a frame");
  out->frame.kind = kind;
  cov_link_enqueue(c, i, out);
  if (kind == COV_FRAME_BYE) c->link[i].bye_queued = 1;
  return COV_OK;
}

static void free_outgoing(cov_outgoing *out) {
  cov_mem_free(out->copy);
  free(out);
}

static cov_outgoing *take_first(cov_link *l) {
  cov_outgoing *out = l->first;
  COV_ASSERT(out);
  l->first = out->next;
  if (!l->first) l->last = NULL;
  l->queued_bytes -= out->frame.body_bytes;
  out->next = NULL;
  return out;
}

/* The last frame that is with the backend, or NULL. */
static cov_outgoing *last_sending(const cov_link *l) {
  cov_outgoing *at = NULL;
  for (int k = 0; k < l->n_sending; k++) at = at ? at->next : l->first;
  return at;
}

/* Frames that have not been handed to the backend. */
static void forget_queue(cov_link *l) {
  cov_outgoing *busy = last_sending(l), *at = busy ? busy->next : l->first;
  if (busy) {
    busy->next = NULL;
  } else {
    l->first = NULL;
  }
  l->last = busy;
  while (at) {
    cov_outgoing *next = at->next;
    l->queued_bytes -= at->frame.body_bytes;
    free_outgoing(at);
    at = next;
  }
}

static void bury_body(uint8_t *body, int buffers_free) {
  if (!body) return;
  if (buffers_free) {
    cov_mem_free(body);
    return;
  }
  kept_body *k = malloc(sizeof *k);
  if (!k) return; /* leaked all the same */
  *k = (kept_body){kept_bodies, body};
  kept_bodies = k;
}

/* The frames and the bodies that were under way. */
static void bury(cov_carrier *c, cov_link *l, int buffers_free) {
  while (l->n_sending > 0) {
    cov_outgoing *busy = take_first(l);
    l->n_sending--;
    if (buffers_free) {
      free_outgoing(busy);
    } else {
      busy->next = c->graves;
      c->graves = busy;
    }
  }
  for (; l->n_in > 0; l->n_in--) {
    bury_body(l->in[l->in_first].body, buffers_free);
    l->in_first = (l->in_first + 1) % COV_FRAMES_MAX;
  }
}

void cov_link_end(cov_carrier *c, int i, int clean, int tell, const char *reason) {
  cov_link *l = &c->link[i];
  if (l->state == COV_LINK_DOWN) return;
  int reported = l->state == COV_LINK_LEAVING;
  l->state = COV_LINK_DOWN;
  if (!reported) snprintf(l->reason, sizeof l->reason, "%s", reason);
  forget_queue(l);
  bury(c, l, c->backend->abandon(c->state, i));
  if (!clean && !reported) c->lost++;
  if (!tell || reported) return;
  cov_carrier_event e = {
      .kind = COV_EVENT_DROPPED, .peer = l->peer, .status = clean ? COV_OK : COV_EREMOTE, .reason = l->reason};
  if (cov_event_push(c, &e) != COV_OK) return; /* it still shows in cov_carrier_alive and cov_carrier_lost_links */
}

/* Broken by the other side or the wire: cov_error_text() says how. */
static void end_broken(cov_carrier *c, int i) {
  char text[sizeof c->link[i].reason];
  snprintf(text, sizeof text, "%s", cov_error_text());
  cov_link_end(c, i, 0, 1, text);
}

/* ---- sending ---- */

static cov_status begin_next(cov_carrier *c, int i, double now) {
  cov_link *l = &c->link[i];
  const cov_outgoing *before = last_sending(l);
  cov_outgoing *out = before ? before->next : l->first;
  out->frame.from = (uint32_t)c->params.self;
  out->frame.number = l->next_out++;
  out->frame.segment_bytes = (uint32_t)c->params.segment_bytes;
  cov_frame_encode(&out->frame, out->wire);
  if (l->n_sending++ == 0) l->moved_s = now;
  l->sent_s = out->begun_s = now;
  return c->backend->send_begin(c->state, i, out->wire, out->bytes, out->frame.body_bytes);
}

static int has_unsent(const cov_link *l) {
  return l->first && last_sending(l) != l->last;
}

static cov_status begin_more(cov_carrier *c, int i, double now) {
  while (c->link[i].n_sending < c->link[i].window && has_unsent(&c->link[i])) COV_TRY(begin_next(c, i, now));
  return COV_OK;
}

static void adapt_window(const cov_carrier *c, cov_link *l, double took_s) {
  if (took_s > long_s && l->window > WINDOW_MIN) l->window--;
  if (took_s < short_s && l->window < c->backend->frames_max) l->window++;
}

static cov_status finish_first(cov_carrier *c, cov_link *l, double now) {
  cov_outgoing *out = take_first(l);
  cov_status st = COV_OK;
  l->n_sending--;
  if (out->frame.body_bytes >= c->params.segment_bytes) adapt_window(c, l, now - out->begun_s);
  if (out->frame.kind == COV_FRAME_MESSAGE) l->stats.sent_messages++;
  if (out->frame.kind == COV_FRAME_BYE) l->bye_sent = 1;
  if (out->handle) {
    cov_carrier_event e = {.kind = COV_EVENT_SENT, .peer = l->peer, .handle = out->handle};
    st = cov_event_push(c, &e);
  }
  free_outgoing(out);
  return st;
}

/* Only a fault of this process is returned; a broken link has ended. */
static cov_status progress_send(cov_carrier *c, int i, double now) {
  cov_link *l = &c->link[i];
  for (;;) {
    int idle = !l->first && !l->bye_queued && now - l->sent_s >= c->params.heartbeat_s;
    if (idle) COV_TRY(cov_link_signal(c, i, COV_FRAME_PING));
    if (begin_more(c, i, now) != COV_OK) {
      end_broken(c, i);
      return COV_OK;
    }
    if (l->n_sending == 0) return COV_OK;
    int done = 0;
    size_t moved = 0;
    cov_status st = c->backend->send_test(c->state, i, &done, &moved);
    l->stats.sent_bytes += moved;
    if (moved) l->moved_s = now;
    c->moved |= moved && l->first->frame.kind == COV_FRAME_MESSAGE;
    if (st != COV_OK) {
      end_broken(c, i);
      return COV_OK;
    }
    if (!done) return COV_OK;
    COV_TRY(finish_first(c, l, now));
  }
}

/* ---- receiving ---- */

static cov_status check_header(const cov_carrier *c, const cov_link *l, const cov_frame *f) {
  if (f->from != (uint32_t)l->peer) {
    return COV_FAIL(COV_EREMOTE, "malformed frame: it says it is from peer %u", f->from);
  }
  if (f->number != l->next_in) {
    return COV_FAIL(COV_EREMOTE, "malformed frame: number %llu, expected %llu", (unsigned long long)f->number,
                    (unsigned long long)l->next_in);
  }
  if (f->segment_bytes != c->params.segment_bytes) {
    return COV_FAIL(COV_EREMOTE, "malformed frame: segments of %u bytes, ours have %zu", f->segment_bytes,
                    c->params.segment_bytes);
  }
  if (f->body_bytes > c->params.max_message_bytes) {
    return COV_FAIL(COV_EREMOTE, "oversize message: %llu bytes, at most %zu are accepted",
                    (unsigned long long)f->body_bytes, c->params.max_message_bytes);
  }
  return COV_OK;
}

static void pop_incoming(cov_link *l) {
  l->in_first = (l->in_first + 1) % COV_FRAMES_MAX;
  l->n_in--;
}

static cov_status deliver(cov_carrier *c, cov_link *l) {
  const cov_incoming *in = &l->in[l->in_first];
  cov_carrier_event e = {.kind = COV_EVENT_MESSAGE,
                         .peer = l->peer,
                         .head = in->frame.head,
                         .bytes = in->body,
                         .n_bytes = in->frame.body_bytes};
  COV_TRY(cov_event_push(c, &e));
  pop_incoming(l);
  l->undelivered_bytes += e.n_bytes;
  l->stats.received_messages++;
  return COV_OK;
}

/* The other side leaves: say so now, then answer. While closing, our own queue still goes out first. */
static cov_status hear_bye(cov_carrier *c, int i) {
  cov_link *l = &c->link[i];
  l->bye_heard = 1;
  if (c->closing) return COV_OK;
  snprintf(l->reason, sizeof l->reason, "it left");
  l->state = COV_LINK_LEAVING;
  forget_queue(l);
  cov_carrier_event e = {.kind = COV_EVENT_DROPPED, .peer = l->peer, .status = COV_OK, .reason = l->reason};
  COV_TRY(cov_event_push(c, &e));
  return cov_link_signal(c, i, COV_FRAME_BYE);
}

static cov_status take_header(cov_carrier *c, int i, const uint8_t *wire) {
  cov_link *l = &c->link[i];
  cov_incoming *in = &l->in[(l->in_first + l->n_in) % COV_FRAMES_MAX];
  l->stats.received_bytes += COV_FRAME_BYTES;
  if (cov_frame_decode(wire, &in->frame) != COV_OK || check_header(c, l, &in->frame) != COV_OK) {
    l->stats.malformed++;
    end_broken(c, i);
    return COV_OK;
  }
  l->next_in++;
  in->body = NULL;
  if (in->frame.kind == COV_FRAME_PING) return COV_OK;
  l->bye_coming = in->frame.kind == COV_FRAME_BYE;
  l->n_in++;
  if (l->bye_coming) return COV_OK;
  void *body;
  c->moved = 1;
  COV_TRY(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_PAYLOAD, in->frame.body_bytes, &body));
  in->body = body;
  if (in->frame.body_bytes == 0) return COV_OK;
  if (c->backend->body_begin(c->state, i, in->body, in->frame.body_bytes) != COV_OK) end_broken(c, i);
  return COV_OK;
}

static int is_paused(const cov_carrier *c, const cov_link *l) {
  return l->undelivered_bytes > c->params.max_queued_bytes;
}

/* The oldest frame whose header has come; *more = 1 if it is complete. */
static cov_status receive_body(cov_carrier *c, int i, double now, int *more) {
  cov_link *l = &c->link[i];
  const cov_incoming *in = &l->in[l->in_first];
  size_t moved = 0;
  cov_status st = COV_OK;
  *more = 1;
  if (in->frame.kind == COV_FRAME_BYE) {
    pop_incoming(l);
    return hear_bye(c, i);
  }
  if (in->frame.body_bytes > 0) st = c->backend->body_test(c->state, i, more, &moved);
  l->stats.received_bytes += moved;
  if (moved) l->heard_s = now;
  c->moved |= moved > 0;
  if (st == COV_OK) return *more ? deliver(c, l) : COV_OK;
  *more = 0;
  end_broken(c, i);
  return COV_OK;
}

static cov_status receive_header(cov_carrier *c, int i, double now, int *more) {
  cov_link *l = &c->link[i];
  uint8_t wire[COV_FRAME_BYTES];
  *more = 0;
  if (l->bye_coming || l->n_in == c->backend->frames_max) return COV_OK;
  if (is_paused(c, l)) { /* it is we who do not listen */
    l->heard_s = now;
    return COV_OK;
  }
  if (c->backend->header_test(c->state, i, wire, more) != COV_OK) {
    *more = 0;
    end_broken(c, i);
    return COV_OK;
  }
  if (!*more) return COV_OK;
  l->heard_s = now;
  l->forgiven_s = 0;
  return take_header(c, i, wire);
}

/* One step; *more = 1 if another may be possible at once. */
static cov_status receive_step(cov_carrier *c, int i, double now, int *more) {
  int complete = 0;
  COV_TRY(receive_header(c, i, now, more));
  if (c->link[i].state == COV_LINK_DOWN || c->link[i].n_in == 0) return COV_OK;
  COV_TRY(receive_body(c, i, now, &complete));
  *more |= complete;
  return COV_OK;
}

static cov_status progress_receive(cov_carrier *c, int i, double now) {
  enum { STEPS = 64 }; /* then the other links get their turn */
  int more = 1;
  for (int step = 0; step < STEPS && more && c->link[i].state != COV_LINK_DOWN; step++) {
    COV_TRY(receive_step(c, i, now, &more));
  }
  return COV_OK;
}

/* ---- time ---- */

/* Time in which this endpoint did not look is no silence of the other, within reason. */
static void forgive(const cov_carrier *c, cov_link *l, double now) {
  double gap = c->progress_s < 0 ? 0 : now - c->progress_s;
  if (gap <= c->params.link_timeout_s / 4 || l->forgiven_s > forgiven_timeouts * c->params.link_timeout_s) return;
  l->forgiven_s += gap;
  l->heard_s = l->heard_s + gap < now ? l->heard_s + gap : now;
  l->moved_s = l->moved_s + gap < now ? l->moved_s + gap : now;
}

static void judge_silence(cov_carrier *c, int i, double now) {
  cov_link *l = &c->link[i];
  char text[sizeof l->reason];
  double limit = c->params.link_timeout_s;
  if (l->next_in == 0 && now < l->await_s) {
    l->moved_s = now; /* it takes nothing before it is open */
    return;
  }
  if (!l->bye_heard && now - l->heard_s > limit) {
    snprintf(text, sizeof text, "silent for %.1f s (limit %.3g s): it died, is stopped, or the network is cut",
             now - l->heard_s, limit);
    cov_link_end(c, i, 0, 1, text);
  } else if (l->n_sending > 0 && now - l->moved_s > limit) {
    snprintf(text, sizeof text, "took no data for %.1f s (limit %.3g s)", now - l->moved_s, limit);
    cov_link_end(c, i, 0, 1, text);
  }
}

cov_status cov_link_progress(cov_carrier *c, int i, double now) {
  cov_link *l = &c->link[i];
  if (l->state == COV_LINK_DOWN) return COV_OK;
  forgive(c, l, now);
  COV_TRY(progress_receive(c, i, now));
  if (l->state == COV_LINK_DOWN) return COV_OK;
  COV_TRY(progress_send(c, i, now));
  if (l->state == COV_LINK_DOWN) return COV_OK;
  if (l->bye_sent && l->bye_heard) {
    cov_link_end(c, i, 1, 0, "both sides said goodbye");
    return COV_OK;
  }
  judge_silence(c, i, now);
  return COV_OK;
}

void cov_graves_keep(cov_outgoing *graves) {
  while (graves) {
    cov_outgoing *next = graves->next;
    graves->next = kept_sends;
    kept_sends = graves;
    graves = next;
  }
}
