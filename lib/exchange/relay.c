#include "exchange/relay.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "comm/wait.h"

/* The body of a part, shared by the links that still have to send it. */
typedef struct {
  uint8_t *bytes;
  size_t n;
  int users;
  int abandoned; /* a send on a link that is gone may still read it */
} body;

/* What was posted to a peer and is not sent yet. Sends of a link end in order, so this is a queue. */
typedef struct posted {
  struct posted *next;
  body *body;
} posted;

typedef struct {
  int number;
  posted *first, *last;
} receiver;

struct cov_relay {
  cov_carrier *carrier;
  uint32_t type;
  int n;
  receiver *receiver;
  cov_relay_stats stats;
};

cov_status cov_relay_create(cov_carrier *carrier, uint32_t type, const int *peer, int n, cov_relay **out) {
  cov_relay *r = calloc(1, sizeof *r);
  if (r) r->receiver = calloc((size_t)n + 1, sizeof *r->receiver);
  *out = r;
  if (!r || !r->receiver) {
    cov_relay_destroy(out);
    return COV_FAIL(COV_ENOMEM, "no memory for a relay of %d peers", n);
  }
  r->carrier = carrier;
  r->type = type;
  r->n = n;
  for (int i = 0; i < n; i++) r->receiver[i].number = peer[i];
  return COV_OK;
}

static void release(body *b) {
  if (--b->users > 0) return;
  if (b->abandoned) {
    cov_wait_keep(b->bytes);
  } else {
    cov_mem_free(b->bytes);
  }
  free(b);
}

static void pop(receiver *to, int abandoned) {
  posted *gone = to->first;
  to->first = gone->next;
  if (!to->first) to->last = NULL;
  gone->body->abandoned |= abandoned;
  release(gone->body);
  free(gone);
}

/* Nothing more is sent to this one. */
static void clear(const cov_relay *r, receiver *to) {
  while (to->first) {
    const body *b = to->first->body;
    pop(to, cov_carrier_in_use(r->carrier, b->bytes, b->n));
  }
}

void cov_relay_destroy(cov_relay **relay) {
  cov_relay *r = *relay;
  if (!r) return;
  for (int i = 0; r->receiver && i < r->n; i++) clear(r, &r->receiver[i]);
  free(r->receiver);
  free(r);
  *relay = NULL;
}

static receiver *find(cov_relay *r, int peer) {
  for (int i = 0; i < r->n; i++) {
    if (r->receiver[i].number == peer) return &r->receiver[i];
  }
  return NULL;
}

static cov_status send_to(cov_relay *r, receiver *to, const cov_message_head *head, body *b) {
  uint64_t handle;
  posted *p = calloc(1, sizeof *p);
  if (!p) return COV_FAIL(COV_ENOMEM, "no memory to pass a part on");
  cov_status st = cov_carrier_post(r->carrier, to->number, head, b->bytes, b->n, COV_POST_BORROW, &handle);
  if (st != COV_OK) {
    free(p);
    r->stats.lost_parts += st == COV_EREMOTE;
    return st == COV_EREMOTE ? COV_OK : st;
  }
  p->body = b;
  b->users++;
  r->stats.sent_bytes += b->n;
  if (to->last) {
    to->last->next = p;
  } else {
    to->first = p;
  }
  to->last = p;
  return COV_OK;
}

static cov_status pass_on(cov_relay *r, const cov_carrier_event *part) {
  cov_status st = COV_OK;
  if (part->head.owner != (uint32_t)part->peer || !find(r, part->peer)) {
    r->stats.refused_parts++; /* or somebody could send in another's name, and be asked for it in vain */
    return COV_OK;
  }
  body *b = calloc(1, sizeof *b);
  if (!b) return COV_FAIL(COV_ENOMEM, "no memory to pass a part on");
  r->stats.received_bytes += part->n_bytes;
  *b = (body){.bytes = cov_carrier_keep(r->carrier, part), .n = part->n_bytes, .users = 1};
  for (int i = 0; i < r->n && st == COV_OK; i++) {
    receiver *to = &r->receiver[i];
    if (to->number == part->peer || !cov_carrier_alive(r->carrier, to->number)) continue;
    st = send_to(r, to, &part->head, b);
  }
  release(b);
  return st;
}

cov_status cov_relay_take(cov_relay *r, const cov_carrier_event *event) {
  receiver *who = find(r, event->peer);
  if (event->kind == COV_EVENT_MESSAGE && event->head.type == r->type) return pass_on(r, event);
  if (event->kind == COV_EVENT_SENT && who && who->first) pop(who, 0);
  if (event->kind == COV_EVENT_DROPPED && who) clear(r, who);
  return COV_OK;
}

void cov_relay_stats_get(const cov_relay *r, cov_relay_stats *out) {
  *out = r->stats;
}
