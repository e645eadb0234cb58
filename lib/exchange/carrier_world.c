#include "exchange/carrier_world.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "exchange/carrier_backend.h"

enum { HEADER_TAG = 1, BODY_TAG = 2, WINDOW = 4, FRAMES = COV_FRAMES_MAX };

/* A body in pieces, WINDOW of them with MPI at a time; piece k uses request k % WINDOW. The bodies of one direction of
 * a link have one tag, so MPI matches their pieces in order; hence a body is begun when the one before is begun to its
 * end. */
typedef struct {
  uint8_t *bytes;
  size_t n, begun, done;
  MPI_Request request[WINDOW];
  MPI_Request header; /* of sends */
} stream;

/* Frames under way in one direction. */
typedef struct {
  stream frame[FRAMES];
  int first, n;
} ring;

/* Everything MPI may write to or read from on behalf of one link; kept for ever if the link is abandoned with requests.
 * Headers are received ahead, so that the body behind one finds its buffer at once. */
typedef struct world_link {
  int rank;
  int abandoned;
  uint8_t header_in[FRAMES][COV_FRAME_BYTES];
  MPI_Request header_request[FRAMES];
  int next_header; /* of the ring of headers */
  ring out, in;
  struct world_link *next_kept;
} world_link;

typedef struct {
  MPI_Comm comm;
  size_t segment_bytes;
  int n;
  world_link **link;
} world;

static world_link *kept_links;

/* MPI errors on a link are the other side's or the wire's: the link ends, not the peer. */
static cov_status check(int code, int rank, const char *what) {
  if (code == MPI_SUCCESS) return COV_OK;
  char text[MPI_MAX_ERROR_STRING] = "";
  int n = 0;
  MPI_Error_string(code, text, &n);
  return COV_FAIL(COV_EREMOTE, "MPI failed %s world rank %d: %s", what, rank, text);
}

static stream *ring_push(ring *r, uint8_t *bytes, size_t n) {
  COV_ASSERT(r->n < FRAMES);
  stream *s = &r->frame[(r->first + r->n++) % FRAMES];
  s->bytes = bytes;
  s->n = n;
  s->begun = s->done = 0;
  return s;
}

static void ring_pop(ring *r) {
  r->first = (r->first + 1) % FRAMES;
  r->n--;
}

static int ring_busy(const ring *r) {
  for (int f = 0; f < FRAMES; f++) {
    if (r->frame[f].header != MPI_REQUEST_NULL) return 1;
    for (int i = 0; i < WINDOW; i++) {
      if (r->frame[f].request[i] != MPI_REQUEST_NULL) return 1;
    }
  }
  return 0;
}

static size_t piece_at(const world *w, const stream *s, size_t at) {
  return s->n - at < w->segment_bytes ? s->n - at : w->segment_bytes;
}

static MPI_Request *request_at(const world *w, stream *s, size_t at) {
  return &s->request[at / w->segment_bytes % WINDOW];
}

/* Hand pieces to MPI until the window is full. */
static cov_status stream_fill(const world *w, stream *s, int rank, int receive) {
  while (s->begun < s->n && *request_at(w, s, s->begun) == MPI_REQUEST_NULL) {
    int n = (int)piece_at(w, s, s->begun);
    MPI_Request *r = request_at(w, s, s->begun);
    int code = receive ? MPI_Irecv(s->bytes + s->begun, n, MPI_BYTE, rank, BODY_TAG, w->comm, r)
                       : MPI_Isend(s->bytes + s->begun, n, MPI_BYTE, rank, BODY_TAG, w->comm, r);
    COV_TRY(check(code, rank, receive ? "receiving from" : "sending to"));
    s->begun += (size_t)n;
  }
  return COV_OK;
}

/* Begin what may be begun, in the order of the frames. */
static cov_status ring_fill(const world *w, ring *r, int rank, int receive) {
  for (int k = 0; k < r->n; k++) {
    stream *s = &r->frame[(r->first + k) % FRAMES];
    COV_TRY(stream_fill(w, s, rank, receive));
    if (s->begun < s->n) return COV_OK;
  }
  return COV_OK;
}

/* Take completed pieces of the oldest frame in order. */
static cov_status ring_test(const world *w, ring *r, int rank, int receive, size_t *moved) {
  stream *s = &r->frame[r->first];
  while (s->done < s->begun) {
    int complete = 0, count = 0;
    MPI_Status status;
    size_t n = piece_at(w, s, s->done);
    COV_TRY(check(MPI_Test(request_at(w, s, s->done), &complete, &status), rank,
                  receive ? "receiving from" : "sending to"));
    if (!complete) return COV_OK;
    if (receive) {
      COV_TRY(check(MPI_Get_count(&status, MPI_BYTE, &count), rank, "receiving from"));
      if (count != (int)n) return COV_FAIL(COV_EREMOTE, "malformed frame: a piece of %d bytes, expected %zu", count, n);
    }
    s->done += n;
    *moved += n;
    COV_TRY(ring_fill(w, r, rank, receive));
  }
  return COV_OK;
}

static cov_status world_send_begin(void *self, int link, const uint8_t *header, const uint8_t *body, size_t n) {
  world *w = self;
  world_link *l = w->link[link];
  union {
    const uint8_t *in;
    uint8_t *out;
  } bytes = {body}; /* MPI only reads what it sends */
  stream *s = ring_push(&l->out, bytes.out, n);
  COV_TRY(check(MPI_Isend(header, COV_FRAME_BYTES, MPI_BYTE, l->rank, HEADER_TAG, w->comm, &s->header), l->rank,
                "sending to"));
  return ring_fill(w, &l->out, l->rank, 0);
}

static cov_status world_send_test(void *self, int link, int *done, size_t *moved) {
  world *w = self;
  world_link *l = w->link[link];
  stream *s = &l->out.frame[l->out.first];
  *done = 0;
  *moved = 0;
  if (s->header != MPI_REQUEST_NULL) {
    int complete = 0;
    COV_TRY(check(MPI_Test(&s->header, &complete, MPI_STATUS_IGNORE), l->rank, "sending to"));
    if (!complete) return COV_OK;
    *moved += COV_FRAME_BYTES;
  }
  COV_TRY(ring_test(w, &l->out, l->rank, 0, moved));
  *done = s->done == s->n;
  if (*done) ring_pop(&l->out);
  return COV_OK;
}

static cov_status listen_for_header(const world *w, world_link *l, int k) {
  return check(
      MPI_Irecv(l->header_in[k], COV_FRAME_BYTES, MPI_BYTE, l->rank, HEADER_TAG, w->comm, &l->header_request[k]),
      l->rank, "listening to");
}

static cov_status world_header_test(void *self, int link, uint8_t *wire, int *arrived) {
  world *w = self;
  world_link *l = w->link[link];
  int k = l->next_header, count = 0;
  MPI_Status status;
  *arrived = 0;
  if (l->header_request[k] == MPI_REQUEST_NULL) { /* the first time */
    for (int i = 0; i < FRAMES; i++) COV_TRY(listen_for_header(w, l, i));
  }
  COV_TRY(check(MPI_Test(&l->header_request[k], arrived, &status), l->rank, "listening to"));
  if (!*arrived) return COV_OK;
  COV_TRY(check(MPI_Get_count(&status, MPI_BYTE, &count), l->rank, "listening to"));
  if (count != COV_FRAME_BYTES) return COV_FAIL(COV_EREMOTE, "malformed frame: a header of %d bytes", count);
  memcpy(wire, l->header_in[k], COV_FRAME_BYTES);
  l->next_header = (k + 1) % FRAMES;
  return listen_for_header(w, l, k);
}

static cov_status world_body_begin(void *self, int link, uint8_t *body, size_t n) {
  world *w = self;
  world_link *l = w->link[link];
  (void)ring_push(&l->in, body, n);
  return ring_fill(w, &l->in, l->rank, 1);
}

static cov_status world_body_test(void *self, int link, int *done, size_t *moved) {
  world *w = self;
  world_link *l = w->link[link];
  const stream *s = &l->in.frame[l->in.first];
  *done = 0;
  *moved = 0;
  COV_TRY(ring_test(w, &l->in, l->rank, 1, moved));
  *done = s->done == s->n;
  if (*done) ring_pop(&l->in);
  return COV_OK;
}

static int world_abandon(void *self, int link) {
  world *w = self;
  world_link *l = w->link[link];
  l->abandoned = 1;
  return !ring_busy(&l->out) && !ring_busy(&l->in);
}

static double world_now(void *self) {
  (void)self;
  return cov_clock_s();
}

static void world_destroy(void *self) {
  world *w = self;
  for (int i = 0; i < w->n && w->link; i++) {
    world_link *l = w->link[i];
    if (!l) continue;
    int busy = ring_busy(&l->out) || ring_busy(&l->in);
    for (int k = 0; k < FRAMES; k++) busy |= l->header_request[k] != MPI_REQUEST_NULL;
    if (busy) { /* MPI may write to it until the process ends; reachable, so no leak checker complains */
      l->next_kept = kept_links;
      kept_links = l;
    } else {
      free(l);
    }
  }
  free(w->link);
  free(w);
}

static world_link *link_create(int rank) {
  world_link *l = calloc(1, sizeof *l);
  if (!l) return NULL;
  l->rank = rank;
  for (int f = 0; f < FRAMES; f++) {
    l->header_request[f] = l->out.frame[f].header = l->in.frame[f].header = MPI_REQUEST_NULL;
    for (int i = 0; i < WINDOW; i++) l->in.frame[f].request[i] = l->out.frame[f].request[i] = MPI_REQUEST_NULL;
  }
  return l;
}

static cov_status add_links(world *w, const cov_carrier_params *params, const int *world_rank) {
  int size;
  COV_TRY(check(MPI_Comm_size(w->comm, &size), 0, "asking about"));
  for (int i = 0; i < params->n_peers; i++) {
    if (params->peer[i] == params->self) continue;
    if (world_rank[i] < 0 || world_rank[i] >= size) {
      return COV_FAIL(COV_EUSAGE, "peer %d has no gateway in this mpirun (world rank %d of %d)", params->peer[i],
                      world_rank[i], size);
    }
    w->link[w->n] = link_create(world_rank[i]);
    if (!w->link[w->n]) return COV_FAIL(COV_ENOMEM, "no memory for a link");
    w->n++;
  }
  return COV_OK;
}

cov_status cov_carrier_world_open(MPI_Comm outer, const cov_carrier_params *params, const int *world_rank,
                                  cov_carrier **out) {
  static const cov_carrier_backend backend = {
      .name = "world",
      .frames_max = FRAMES,
      .send_begin = world_send_begin,
      .send_test = world_send_test,
      .header_test = world_header_test,
      .body_begin = world_body_begin,
      .body_test = world_body_test,
      .abandon = world_abandon,
      .now = world_now,
      .destroy = world_destroy,
  };
  cov_status st = COV_OK;
  *out = NULL;
  world *w = calloc(1, sizeof *w);
  if (!w) return COV_FAIL(COV_ENOMEM, "no memory for a carrier");
  w->comm = outer;
  w->segment_bytes = params->segment_bytes ? params->segment_bytes : (size_t)1 << 20;
  w->link = calloc((size_t)params->n_peers + 1, sizeof *w->link);
  if (!w->link) COV_FAIL_DONE(COV_ENOMEM, "no memory for %d links", params->n_peers);
  COV_TRY_DONE(add_links(w, params, world_rank));
  return cov_carrier_create(params, &backend, w, out);
done:
  world_destroy(w);
  return st;
}
