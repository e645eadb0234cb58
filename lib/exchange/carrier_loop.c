#include "exchange/carrier_loop.h"

#include <stdlib.h>
#include <string.h>

#include "exchange/carrier_backend.h"

/* Small frames leave at once, as MPI's eager messages do; large ones leave when the other side has taken them. */
enum { EAGER_BYTES = 4096 };

typedef struct loop_frame {
  struct loop_frame *next;
  uint8_t header[COV_FRAME_BYTES];
  uint8_t *body;
  size_t n;
  double due_s;
} loop_frame;

/* One direction between two peers. */
typedef struct {
  loop_frame *first, *last;
  double delay_s;
  int cut;
  uint64_t sent, taken; /* frames put in and completely taken out */
  int header_taken;     /* the header of `first` has been handed out */
  size_t body_taken;    /* bytes of its body */
} pipe_state;

struct cov_loop {
  int n;
  double now_s;
  int *dead;
  pipe_state *pipe; /* [from * n + to] */
};

typedef struct {
  cov_loop *loop;
  int self;
  size_t segment_bytes;
  int n;
  int *peer; /* of link */
  /* [link] what is being received or sent */
  uint8_t **body_in;
  size_t *body_bytes, *body_done, *sending_bytes;
  uint64_t *sending_frame;
} endpoint;

cov_status cov_loop_create(int n_peers, cov_loop **out) {
  *out = NULL;
  size_t n = n_peers > 0 ? (size_t)n_peers : 0;
  cov_loop *l = calloc(1, sizeof *l);
  if (l) {
    l->n = n_peers;
    l->dead = calloc(n + 1, sizeof *l->dead);
    l->pipe = calloc(n * n + 1, sizeof *l->pipe);
  }
  if (!l || !l->dead || !l->pipe) {
    if (l) cov_loop_destroy(&l);
    return COV_FAIL(COV_ENOMEM, "no memory for a loop of %d peers", n_peers);
  }
  *out = l;
  return COV_OK;
}

static void pop_frame(pipe_state *p) {
  loop_frame *f = p->first;
  p->first = f->next;
  if (!p->first) p->last = NULL;
  p->taken++;
  p->header_taken = 0;
  p->body_taken = 0;
  free(f->body);
  free(f);
}

void cov_loop_destroy(cov_loop **loop) {
  cov_loop *l = *loop;
  if (!l) return;
  for (int i = 0; l->pipe && i < l->n * l->n; i++) {
    while (l->pipe[i].first) pop_frame(&l->pipe[i]);
  }
  free(l->pipe);
  free(l->dead);
  free(l);
  *loop = NULL;
}

static pipe_state *pipe_of(const cov_loop *l, int from, int to) {
  COV_ASSERT(from >= 0 && from < l->n && to >= 0 && to < l->n);
  return &l->pipe[from * l->n + to];
}

static int passes(const cov_loop *l, int from, int to) {
  return !pipe_of(l, from, to)->cut && !l->dead[from] && !l->dead[to];
}

static cov_status push_frame(cov_loop *l, int from, int to, const uint8_t *header, const uint8_t *body, size_t n) {
  pipe_state *p = pipe_of(l, from, to);
  loop_frame *f = calloc(1, sizeof *f);
  if (f && n) f->body = malloc(n);
  if (!f || (n && !f->body)) {
    free(f);
    return COV_FAIL(COV_ENOMEM, "no memory for a frame of %zu bytes", n);
  }
  memcpy(f->header, header, sizeof f->header);
  if (n) memcpy(f->body, body, n);
  f->n = n;
  f->due_s = l->now_s + p->delay_s;
  if (p->last) {
    p->last->next = f;
  } else {
    p->first = f;
  }
  p->last = f;
  p->sent++;
  return COV_OK;
}

/* ---- backend ---- */

static cov_status loop_send_begin(void *self, int link, const uint8_t *header, const uint8_t *body, size_t n) {
  endpoint *e = self;
  COV_TRY(push_frame(e->loop, e->self, e->peer[link], header, body, n));
  e->sending_frame[link] = pipe_of(e->loop, e->self, e->peer[link])->sent;
  e->sending_bytes[link] = n + COV_FRAME_BYTES;
  return COV_OK;
}

static cov_status loop_send_test(void *self, int link, int *done, size_t *moved) {
  endpoint *e = self;
  const pipe_state *p = pipe_of(e->loop, e->self, e->peer[link]);
  *done = e->sending_bytes[link] <= EAGER_BYTES || p->taken >= e->sending_frame[link];
  *moved = *done ? e->sending_bytes[link] : 0;
  return COV_OK;
}

static cov_status loop_header_test(void *self, int link, uint8_t *wire, int *arrived) {
  endpoint *e = self;
  pipe_state *p = pipe_of(e->loop, e->peer[link], e->self);
  *arrived =
      p->first && !p->header_taken && p->first->due_s <= e->loop->now_s && passes(e->loop, e->peer[link], e->self);
  if (!*arrived) return COV_OK;
  memcpy(wire, p->first->header, COV_FRAME_BYTES);
  p->header_taken = 1;
  if (p->first->n == 0) pop_frame(p);
  return COV_OK;
}

static cov_status loop_body_begin(void *self, int link, uint8_t *body, size_t n) {
  endpoint *e = self;
  e->body_in[link] = body;
  e->body_bytes[link] = n;
  e->body_done[link] = 0;
  return COV_OK;
}

static cov_status loop_body_test(void *self, int link, int *done, size_t *moved) {
  endpoint *e = self;
  pipe_state *p = pipe_of(e->loop, e->peer[link], e->self);
  *done = 0;
  *moved = 0;
  if (!p->first || !p->header_taken || !passes(e->loop, e->peer[link], e->self)) return COV_OK;
  if (p->first->n != e->body_bytes[link]) {
    return COV_FAIL(COV_EREMOTE, "malformed frame: a body of %zu bytes, announced %zu", p->first->n,
                    e->body_bytes[link]);
  }
  size_t left = e->body_bytes[link] - e->body_done[link];
  size_t n = left < e->segment_bytes ? left : e->segment_bytes;
  memcpy(e->body_in[link] + e->body_done[link], p->first->body + e->body_done[link], n);
  e->body_done[link] += n;
  *moved = n;
  *done = n == left;
  if (*done) pop_frame(p);
  return COV_OK;
}

static int loop_abandon(void *self, int link) {
  (void)self;
  (void)link;
  return 1; /* everything was copied */
}

static double loop_now(void *self) {
  const endpoint *e = self;
  return e->loop->now_s;
}

static void loop_destroy(void *self) {
  endpoint *e = self;
  free(e->peer);
  free(e->body_in);
  free(e->body_bytes);
  free(e->body_done);
  free(e->sending_bytes);
  free(e->sending_frame);
  free(e);
}

cov_status cov_carrier_loop_open(cov_loop *loop, const cov_carrier_params *params, cov_carrier **out) {
  static const cov_carrier_backend backend = {
      .name = "loop",
      .frames_max = 1,
      .send_begin = loop_send_begin,
      .send_test = loop_send_test,
      .header_test = loop_header_test,
      .body_begin = loop_body_begin,
      .body_test = loop_body_test,
      .abandon = loop_abandon,
      .now = loop_now,
      .destroy = loop_destroy,
  };
  *out = NULL;
  size_t n = (size_t)params->n_peers + 1;
  endpoint *e = calloc(1, sizeof *e);
  if (!e) return COV_FAIL(COV_ENOMEM, "no memory for an endpoint");
  e->loop = loop;
  e->self = params->self;
  e->segment_bytes = params->segment_bytes ? params->segment_bytes : (size_t)1 << 20;
  e->peer = calloc(n, sizeof *e->peer);
  e->body_in = calloc(n, sizeof *e->body_in);
  e->body_bytes = calloc(n, sizeof *e->body_bytes);
  e->body_done = calloc(n, sizeof *e->body_done);
  e->sending_bytes = calloc(n, sizeof *e->sending_bytes);
  e->sending_frame = calloc(n, sizeof *e->sending_frame);
  if (!e->peer || !e->body_in || !e->body_bytes || !e->body_done || !e->sending_bytes || !e->sending_frame) {
    loop_destroy(e);
    return COV_FAIL(COV_ENOMEM, "no memory for an endpoint");
  }
  for (int i = 0; i < params->n_peers; i++) {
    if (params->peer[i] != params->self) e->peer[e->n++] = params->peer[i];
  }
  return cov_carrier_create(params, &backend, e, out);
}

/* ---- hooks ---- */

double cov_loop_now(const cov_loop *loop) {
  return loop->now_s;
}

void cov_loop_advance(cov_loop *loop, double seconds) {
  loop->now_s += seconds;
}

void cov_loop_delay(cov_loop *loop, int from, int to, double seconds) {
  pipe_of(loop, from, to)->delay_s = seconds;
}

void cov_loop_cut(cov_loop *loop, int from, int to, int cut) {
  pipe_of(loop, from, to)->cut = cut;
}

void cov_loop_kill(cov_loop *loop, int peer) {
  COV_ASSERT(peer >= 0 && peer < loop->n);
  loop->dead[peer] = 1;
}

cov_status cov_loop_inject(cov_loop *loop, int from, int to, const void *header, const void *body, size_t n) {
  return push_frame(loop, from, to, header, body, n);
}
