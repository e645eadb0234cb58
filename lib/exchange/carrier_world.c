#include "exchange/carrier_world.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "exchange/carrier_backend.h"

enum { HEADER_TAG = 1, BODY_TAG = 2, WINDOW = 4 };

/* A body in pieces, WINDOW of them with MPI at a time; piece k uses request k % WINDOW. Pieces of one direction of a
 * link have one tag, so MPI matches them in order. */
typedef struct {
  uint8_t *bytes;
  size_t n, begun, done;
  MPI_Request request[WINDOW];
} stream;

/* Everything MPI may write to or read from on behalf of one link; kept for ever if the link is abandoned with requests.
 */
typedef struct world_link {
  int rank;
  int abandoned;
  uint8_t header_in[COV_FRAME_BYTES];
  MPI_Request header_request, send_request;
  stream out, in;
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

static void stream_open(stream *s, uint8_t *bytes, size_t n) {
  s->bytes = bytes;
  s->n = n;
  s->begun = s->done = 0;
}

static int stream_busy(const stream *s) {
  for (int i = 0; i < WINDOW; i++) {
    if (s->request[i] != MPI_REQUEST_NULL) return 1;
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

/* Take completed pieces in order. */
static cov_status stream_test(const world *w, stream *s, int rank, int receive, size_t *moved) {
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
    COV_TRY(stream_fill(w, s, rank, receive));
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
  stream_open(&l->out, bytes.out, n);
  COV_TRY(check(MPI_Isend(header, COV_FRAME_BYTES, MPI_BYTE, l->rank, HEADER_TAG, w->comm, &l->send_request), l->rank,
                "sending to"));
  return stream_fill(w, &l->out, l->rank, 0);
}

static cov_status world_send_test(void *self, int link, int *done, size_t *moved) {
  world *w = self;
  world_link *l = w->link[link];
  *done = 0;
  *moved = 0;
  if (l->send_request != MPI_REQUEST_NULL) {
    int complete = 0;
    COV_TRY(check(MPI_Test(&l->send_request, &complete, MPI_STATUS_IGNORE), l->rank, "sending to"));
    if (!complete) return COV_OK;
    *moved += COV_FRAME_BYTES;
  }
  COV_TRY(stream_test(w, &l->out, l->rank, 0, moved));
  *done = l->out.done == l->out.n;
  return COV_OK;
}

static cov_status world_header_test(void *self, int link, uint8_t *wire, int *arrived) {
  world *w = self;
  world_link *l = w->link[link];
  MPI_Status status;
  int count = 0;
  *arrived = 0;
  if (l->header_request == MPI_REQUEST_NULL) {
    COV_TRY(check(MPI_Irecv(l->header_in, COV_FRAME_BYTES, MPI_BYTE, l->rank, HEADER_TAG, w->comm, &l->header_request),
                  l->rank, "listening to"));
  }
  COV_TRY(check(MPI_Test(&l->header_request, arrived, &status), l->rank, "listening to"));
  if (!*arrived) return COV_OK;
  COV_TRY(check(MPI_Get_count(&status, MPI_BYTE, &count), l->rank, "listening to"));
  if (count != COV_FRAME_BYTES) return COV_FAIL(COV_EREMOTE, "malformed frame: a header of %d bytes", count);
  memcpy(wire, l->header_in, COV_FRAME_BYTES);
  return COV_OK;
}

static cov_status world_body_begin(void *self, int link, uint8_t *body, size_t n) {
  world *w = self;
  world_link *l = w->link[link];
  stream_open(&l->in, body, n);
  return stream_fill(w, &l->in, l->rank, 1);
}

static cov_status world_body_test(void *self, int link, int *done, size_t *moved) {
  world *w = self;
  world_link *l = w->link[link];
  *done = 0;
  *moved = 0;
  COV_TRY(stream_test(w, &l->in, l->rank, 1, moved));
  *done = l->in.done == l->in.n;
  return COV_OK;
}

static int world_abandon(void *self, int link) {
  world *w = self;
  world_link *l = w->link[link];
  l->abandoned = 1;
  return l->send_request == MPI_REQUEST_NULL && !stream_busy(&l->out) && !stream_busy(&l->in);
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
    int busy = l->header_request != MPI_REQUEST_NULL || l->send_request != MPI_REQUEST_NULL || stream_busy(&l->out) ||
               stream_busy(&l->in);
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
  l->header_request = l->send_request = MPI_REQUEST_NULL;
  for (int i = 0; i < WINDOW; i++) l->in.request[i] = l->out.request[i] = MPI_REQUEST_NULL;
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
