/* One link: what is sent, what is received, when it is over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "exchange/carrier_private.h"

static const double forgiven_timeouts = 10;

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

void cov_link_enqueue(cov_carrier *c, int i, cov_outgoing *out) {
  cov_link *l = &c->link[i];
  if (l->last) {
    l->last->next = out;
  } else {
    l->first = out;
  }
  l->last = out;
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
  l->first = out->next;
  if (!l->first) l->last = NULL;
  l->queued_bytes -= out->frame.body_bytes;
  out->next = NULL;
  return out;
}

/* Frames that have not been handed to the backend. */
static void forget_queue(cov_link *l) {
  cov_outgoing *busy = l->sending ? take_first(l) : NULL;
  while (l->first) free_outgoing(take_first(l));
  if (!busy) return;
  l->first = l->last = busy;
  l->queued_bytes = busy->frame.body_bytes;
}

/* The frame and the body that were under way. */
static void bury(cov_carrier *c, cov_link *l, int buffers_free) {
  cov_outgoing *busy = l->sending ? take_first(l) : NULL;
  if (busy && buffers_free) {
    free_outgoing(busy);
  } else if (busy) {
    busy->next = c->graves;
    c->graves = busy;
  }
  if (l->body && buffers_free) {
    cov_mem_free(l->body);
  } else if (l->body) {
    kept_body *k = malloc(sizeof *k);
    if (k) *k = (kept_body){kept_bodies, l->body};
    if (k) kept_bodies = k;
  }
  l->sending = 0;
  l->body = NULL;
  l->in_body = 0;
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

static cov_status begin_first(cov_carrier *c, int i, double now) {
  cov_link *l = &c->link[i];
  cov_outgoing *out = l->first;
  out->frame.from = (uint32_t)c->params.self;
  out->frame.number = l->next_out++;
  out->frame.segment_bytes = (uint32_t)c->params.segment_bytes;
  cov_frame_encode(&out->frame, out->wire);
  l->sending = 1;
  l->sent_s = l->moved_s = now;
  return c->backend->send_begin(c->state, i, out->wire, out->bytes, out->frame.body_bytes);
}

static cov_status finish_first(cov_carrier *c, cov_link *l) {
  cov_outgoing *out = take_first(l);
  cov_status st = COV_OK;
  l->sending = 0;
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
    if (!l->sending) {
      int idle = !l->first && !l->bye_queued && now - l->sent_s >= c->params.heartbeat_s;
      if (idle) COV_TRY(cov_link_signal(c, i, COV_FRAME_PING));
      if (!l->first) return COV_OK;
      if (begin_first(c, i, now) != COV_OK) {
        end_broken(c, i);
        return COV_OK;
      }
    }
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
    COV_TRY(finish_first(c, l));
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

static cov_status deliver(cov_carrier *c, cov_link *l) {
  cov_carrier_event e = {
      .kind = COV_EVENT_MESSAGE, .peer = l->peer, .head = l->in.head, .bytes = l->body, .n_bytes = l->in.body_bytes};
  COV_TRY(cov_event_push(c, &e));
  l->body = NULL;
  l->in_body = 0;
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
  l->stats.received_bytes += COV_FRAME_BYTES;
  if (cov_frame_decode(wire, &l->in) != COV_OK || check_header(c, l, &l->in) != COV_OK) {
    l->stats.malformed++;
    end_broken(c, i);
    return COV_OK;
  }
  l->next_in++;
  if (l->in.kind == COV_FRAME_PING) return COV_OK;
  if (l->in.kind == COV_FRAME_BYE) return hear_bye(c, i);
  void *body;
  c->moved = 1;
  COV_TRY(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_PAYLOAD, l->in.body_bytes, &body));
  l->body = body;
  if (l->in.body_bytes == 0) return deliver(c, l);
  l->in_body = 1;
  if (c->backend->body_begin(c->state, i, l->body, l->in.body_bytes) != COV_OK) end_broken(c, i);
  return COV_OK;
}

static int is_paused(const cov_carrier *c, const cov_link *l) {
  return l->undelivered_bytes > c->params.max_queued_bytes;
}

/* One step; *more = 1 if another may be possible at once. */
static cov_status receive_step(cov_carrier *c, int i, double now, int *more) {
  cov_link *l = &c->link[i];
  *more = 0;
  if (l->in_body) {
    int done = 0;
    size_t moved = 0;
    cov_status st = c->backend->body_test(c->state, i, &done, &moved);
    l->stats.received_bytes += moved;
    if (moved) l->heard_s = now;
    c->moved |= moved > 0;
    if (st != COV_OK) {
      end_broken(c, i);
      return COV_OK;
    }
    *more = done;
    return done ? deliver(c, l) : COV_OK;
  }
  if (l->bye_heard) return COV_OK;
  if (is_paused(c, l)) { /* it is we who do not listen */
    l->heard_s = now;
    return COV_OK;
  }
  uint8_t wire[COV_FRAME_BYTES];
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
  if (!l->bye_heard && now - l->heard_s > limit) {
    snprintf(text, sizeof text, "silent for %.1f s (limit %.3g s): it died, is stopped, or the network is cut",
             now - l->heard_s, limit);
    cov_link_end(c, i, 0, 1, text);
  } else if (l->sending && now - l->moved_s > limit) {
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
  if (l->bye_sent && l->bye_heard && !l->in_body) {
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
