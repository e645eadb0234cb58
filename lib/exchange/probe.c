#include "exchange/probe.h"

#include <stdlib.h>
#include <string.h>

enum { MESH, TO_RELAY, FANOUT, PHASES, REPORT = PHASES }; /* head.offset */
enum { MORE, LAST };                                      /* head.total of data */
/* A second half shorter than this says nothing about the rate: then all that came counts. */
static const double half_min_s = 0.05;
/* No link has it; sums of such rates stay finite. */
static const double rate_max = 1e13;

/* What came by a link in a phase. */
typedef struct {
  double first_s, half_s, last_s; /* times of the first part, of the count `half`, of the last part */
  double bytes, half;
  bool begun, ended;
} flow;

struct cov_probe {
  cov_carrier *carrier;
  cov_probe_params p;
  int n;
  size_t part_bytes;
  int phase; /* what we send; PHASES: nothing more */
  bool begun, sending;
  double begin_s, phase_begin_s, now_s;
  flow in[PHASES][COV_PROBE_HOSTS_MAX];
  double *rate; /* [phase][from][to], bytes a second */
  bool reported[COV_PROBE_HOSTS_MAX];
  uint8_t *data;
};

static double *rate_of(const cov_probe *x, int phase, int from, int to) {
  return &x->rate[((size_t)phase * (size_t)x->n + (size_t)from) * (size_t)x->n + (size_t)to];
}

static bool is_relay(const cov_probe *x, int host) {
  return host >= x->p.peers;
}

static bool sends(const cov_probe *x, int phase, int from, int to) {
  if (from == to) return false;
  if (phase == MESH) return !is_relay(x, from) && !is_relay(x, to);
  int peer = phase == TO_RELAY ? from : to, relay = phase == TO_RELAY ? to : from;
  return !is_relay(x, peer) && is_relay(x, relay) && relay == x->p.peers + cov_relay_of(peer, x->p.relays);
}

cov_status cov_probe_create(cov_carrier *carrier, const cov_probe_params *p, cov_probe **out) {
  int n = p->peers + p->relays;
  *out = NULL;
  if (n > COV_PROBE_HOSTS_MAX) return COV_FAIL(COV_EUSAGE, "%d hosts to measure; at most %d", n, COV_PROBE_HOSTS_MAX);
  cov_probe *x = calloc(1, sizeof *x);
  if (x) x->rate = calloc((size_t)PHASES * (size_t)n * (size_t)n, sizeof *x->rate);
  if (x) x->data = calloc(cov_probe_part_bytes(p->segment_bytes), 1);
  if (!x || !x->rate || !x->data) {
    cov_probe_destroy(&x);
    return COV_FAIL(COV_ENOMEM, "no memory to measure links");
  }
  x->carrier = carrier;
  x->p = *p;
  x->n = n;
  x->part_bytes = cov_probe_part_bytes(p->segment_bytes);
  *out = x;
  return COV_OK;
}

void cov_probe_destroy(cov_probe **probe) {
  if (!*probe) return;
  free((*probe)->rate);
  free((*probe)->data);
  free(*probe);
  *probe = NULL;
}

/* ---- receiving ---- */

static void count(flow *f, double bytes, double now_s, double phase_s, bool last) {
  if (!f->begun) f->first_s = now_s;
  f->begun = true;
  f->bytes += bytes;
  if (now_s - f->first_s <= phase_s / 2) {
    f->half = f->bytes;
    f->half_s = now_s;
  }
  f->last_s = now_s;
  f->ended |= last;
}

/* Of the second half, if it was long enough to mean something; else of all. */
static double rate_from(const flow *f) {
  if (f->last_s - f->half_s > half_min_s) return (f->bytes - f->half) / (f->last_s - f->half_s);
  return f->last_s > f->first_s ? f->bytes / (f->last_s - f->first_s) : 0;
}

static cov_status take_report(cov_probe *x, const cov_carrier_event *event) {
  float value;
  size_t wanted = sizeof value * PHASES * (size_t)x->n;
  if (event->n_bytes != wanted) return COV_FAIL(COV_EREMOTE, "a report on links of %zu bytes", event->n_bytes);
  COV_ASSERT(event->bytes);
  for (int phase = 0; phase < PHASES; phase++) {
    for (int from = 0; from < x->n; from++) {
      memcpy(&value, event->bytes + sizeof value * (size_t)(phase * x->n + from), sizeof value);
      if (!(value >= 0) || !((double)value <= rate_max)) {
        return COV_FAIL(COV_EREMOTE, "a report on links with the rate %g", (double)value);
      }
      *rate_of(x, phase, from, event->peer) = (double)value;
    }
  }
  x->reported[event->peer] = true;
  return COV_OK;
}

cov_status cov_probe_take(cov_probe *x, const cov_carrier_event *event, double now_s) {
  if (event->peer < 0 || event->peer >= x->n || event->head.offset > REPORT) {
    return COV_FAIL(COV_EREMOTE, "malformed message about links");
  }
  if (event->head.offset == REPORT) return take_report(x, event);
  if (!sends(x, (int)event->head.offset, event->peer, x->p.self)) {
    return COV_FAIL(COV_EREMOTE, "a measurement where there is none to be");
  }
  count(&x->in[event->head.offset][event->peer], (double)event->n_bytes, now_s, x->p.phase_s,
        event->head.total == LAST);
  return COV_OK;
}

/* ---- sending ---- */

/* To a link that is gone nothing is sent, and nothing is wrong. */
static cov_status post(cov_probe *x, int to, uint64_t what, uint64_t last, const void *bytes, size_t n) {
  const cov_message_head head = {.type = x->p.type, .offset = what, .total = last};
  cov_status st = cov_carrier_post(x->carrier, to, &head, bytes, n, COV_POST_COPY, NULL);
  if (st != COV_EREMOTE) return st;
  if (!cov_carrier_alive(x->carrier, to)) return COV_OK;
  return COV_FAIL(COV_EBUG, "the queue to host %d has less room than cov_probe_room_bytes says", to);
}

static cov_status keep_busy(cov_probe *x, int to) {
  size_t queued = cov_carrier_queued(x->carrier, to) / x->part_bytes;
  for (; queued < COV_PROBE_QUEUED_PARTS; queued++) {
    COV_TRY(post(x, to, (uint64_t)x->phase, MORE, x->data, x->part_bytes));
  }
  return COV_OK;
}

static cov_status send_data(cov_probe *x) {
  bool over = x->now_s - x->phase_begin_s >= x->p.phase_s;
  for (int to = 0; to < x->n; to++) {
    if (!sends(x, x->phase, x->p.self, to)) continue;
    COV_TRY(over ? post(x, to, (uint64_t)x->phase, LAST, x->data, 1) : keep_busy(x, to));
  }
  x->sending = !over;
  return COV_OK;
}

/* What was to come in this phase has come, or its sender is gone. */
static bool all_came(const cov_probe *x) {
  for (int from = 0; from < x->n; from++) {
    bool waits = sends(x, x->phase, from, x->p.self) && cov_carrier_alive(x->carrier, from);
    if (waits && !x->in[x->phase][from].ended) return false;
  }
  return true;
}

static cov_status send_report(cov_probe *x) {
  float values[PHASES * COV_PROBE_HOSTS_MAX];
  for (int phase = 0; phase < PHASES; phase++) {
    for (int from = 0; from < x->n; from++) {
      double rate = rate_from(&x->in[phase][from]);
      values[phase * x->n + from] = (float)rate;
      *rate_of(x, phase, from, x->p.self) = (double)(float)rate; /* as the others read it */
    }
  }
  x->reported[x->p.self] = true;
  for (int to = 0; to < x->p.peers; to++) {
    if (to == x->p.self) continue;
    COV_TRY(post(x, to, REPORT, LAST, values, sizeof *values * PHASES * (size_t)x->n));
  }
  return COV_OK;
}

cov_status cov_probe_advance(cov_probe *x, double now_s) {
  if (!x->begun) {
    x->begun = x->sending = true;
    x->begin_s = x->phase_begin_s = now_s;
  }
  x->now_s = now_s;
  if (x->phase == PHASES) return COV_OK;
  if (x->sending) return send_data(x);
  if (!all_came(x)) return COV_OK;
  x->phase_begin_s = now_s;
  x->sending = ++x->phase < PHASES;
  return x->phase == PHASES ? send_report(x) : COV_OK;
}

bool cov_probe_done(const cov_probe *x) {
  if (x->now_s - x->begin_s > x->p.patience_s) return true;
  if (is_relay(x, x->p.self)) return x->reported[x->p.self];
  for (int h = 0; h < x->n; h++) {
    bool comes = h == x->p.self || cov_carrier_alive(x->carrier, h);
    if (comes && !x->reported[h]) return false;
  }
  return true;
}

/* ---- the table ---- */

bool cov_probe_rates(const cov_probe *x, cov_link_rate *rate) {
  for (int h = 0; h < x->n; h++) {
    if (!x->reported[h]) return false;
    rate[h] = (cov_link_rate){0, 0};
    for (int phase = 0; phase < PHASES; phase++) {
      double up = 0, down = 0;
      for (int other = 0; other < x->n; other++) {
        up += *rate_of(x, phase, h, other);
        down += *rate_of(x, phase, other, h);
      }
      if (up > rate[h].up) rate[h].up = up;
      if (down > rate[h].down) rate[h].down = down;
    }
    if (!(rate[h].up > 0) || !(rate[h].down > 0)) return false;
  }
  return true;
}
