#include "router.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PACKET_MAX = 65536, BURST = 256, COMMAND_BYTES = 4096 };

typedef struct {
  int from, to, bytes, at_downlink;
  uint8_t data[];
} packet;

/* What happens to a packet next, by time and then by order of creation. */
typedef struct {
  double ns;
  uint64_t order;
  packet *packet;
} event;

/* State of a run beside the router's settings. */
typedef struct {
  lab_router *r;
  double up_free_ns[LAB_HOSTS_MAX], down_free_ns[LAB_HOSTS_MAX]; /* when the link has sent all that it took */
  event *heap;
  size_t n, room;
  uint64_t order, random;
} state;

static volatile sig_atomic_t ended;

static void on_signal(int signal) {
  (void)signal;
  ended = 1;
}

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

/* xorshift64*: the same losses for the same seed and packets */
static double uniform(state *s) {
  s->random ^= s->random >> 12;
  s->random ^= s->random << 25;
  s->random ^= s->random >> 27;
  return (double)((s->random * 0x2545F4914F6CDD1DU) >> 11) * 0x1p-53;
}

/* ---- the heap of events ---- */

static int before(const event *a, const event *b) {
  return a->ns < b->ns || (a->ns == b->ns && a->order < b->order);
}

static int heap_push(state *s, double ns, packet *p) {
  if (s->n == s->room) {
    size_t room = s->room ? 2 * s->room : 4096;
    event *grown = realloc(s->heap, room * sizeof *grown);
    if (!grown) return 0;
    s->heap = grown;
    s->room = room;
  }
  event e = {ns, s->order++, p};
  size_t i = s->n++;
  for (; i > 0 && before(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
  s->heap[i] = e;
  return 1;
}

static packet *heap_pop(state *s) {
  packet *p = s->heap[0].packet;
  event last = s->heap[--s->n];
  size_t i = 0;
  for (size_t child; (child = 2 * i + 1) < s->n; i = child) {
    if (child + 1 < s->n && before(&s->heap[child + 1], &s->heap[child])) child++;
    if (!before(&s->heap[child], &last)) break;
    s->heap[i] = s->heap[child];
  }
  if (s->n) s->heap[i] = last;
  return p;
}

/* ---- packets ---- */

static double bytes_per_ns(double mbit) {
  return mbit * 1e6 / 8 / 1e9;
}

/* From host `from` into its uplink queue, and from there into the core. */
static void take(state *s, int from, const uint8_t *data, int bytes) {
  lab_router *r = s->r;
  uint32_t address;
  int to = 0;
  if (bytes < 20 || data[0] >> 4 != 4) return; /* IPv4 only */
  memcpy(&address, data + 16, 4);
  while (to < r->n && r->address[to] != address) to++;
  if (to == r->n) return;
  const lab_link *a = &r->link[from], *b = &r->link[to];
  lab_count *count = &r->count[from];
  count->sent_packets++;
  count->sent_bytes += (uint64_t)bytes;
  double now = now_ns(), start = s->up_free_ns[from] > now ? s->up_free_ns[from] : now;
  if (!a->on || !b->on) {
    count->lost_off++;
  } else if (start - now > 1e6 * r->queue_ms) {
    count->lost_up++;
  } else {
    s->up_free_ns[from] = start + bytes / bytes_per_ns(a->up_mbit);
    if (uniform(s) < a->loss || uniform(s) < b->loss) {
      count->lost_random++;
      return;
    }
    double delay_ms = a->delay_ms + b->delay_ms + (a->jitter_ms + b->jitter_ms) * uniform(s);
    packet *p = malloc(sizeof *p + (size_t)bytes);
    if (!p) return;
    *p = (packet){from, to, bytes, 0};
    memcpy(p->data, data, (size_t)bytes);
    if (!heap_push(s, s->up_free_ns[from] + 1e6 * delay_ms, p)) free(p);
  }
}

/* Out of the core into the downlink queue, out of that to the host. */
static void move(state *s, double ns, packet *p) {
  lab_router *r = s->r;
  lab_count *count = &r->count[p->to];
  double start = s->down_free_ns[p->to] > ns ? s->down_free_ns[p->to] : ns;
  if (!r->link[p->from].on || !r->link[p->to].on) {
    count->lost_off++;
  } else if (p->at_downlink) {
    if (write(r->fd[p->to], p->data, (size_t)p->bytes) == p->bytes) {
      count->received_packets++;
      count->received_bytes += (uint64_t)p->bytes;
    }
  } else if (start - ns > 1e6 * r->queue_ms) {
    count->lost_down++;
  } else {
    s->down_free_ns[p->to] = start + p->bytes / bytes_per_ns(r->link[p->to].down_mbit);
    p->at_downlink = 1;
    if (heap_push(s, s->down_free_ns[p->to], p)) return;
  }
  free(p);
}

static void read_host(state *s, int i) {
  static uint8_t data[PACKET_MAX];
  for (int k = 0; k < BURST; k++) {
    ssize_t bytes = read(s->r->fd[i], data, sizeof data);
    if (bytes <= 0) return;
    take(s, i, data, (int)bytes);
  }
}

/* ---- control ---- */

int lab_link_set(lab_link *link, const char *text) {
  const char *equals = strchr(text, '=');
  if (!equals) return 0;
  size_t n = (size_t)(equals - text);
  if (strncmp(text, "state=", 6) == 0) {
    if (strcmp(equals + 1, "up") != 0 && strcmp(equals + 1, "down") != 0) return 0;
    link->on = equals[1] == 'u';
    return 1;
  }
  char *end;
  double value = strtod(equals + 1, &end);
  if (end == equals + 1 || *end != '\0' || !(value >= 0) || value > 1e6) return 0;
  const struct {
    const char *key;
    double *field, scale;
    int positive;
  } keys[] = {{"up", &link->up_mbit, 1, 1},
              {"down", &link->down_mbit, 1, 1},
              {"delay", &link->delay_ms, 1, 0},
              {"jitter", &link->jitter_ms, 1, 0},
              {"loss", &link->loss, 0.01, 0}};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    if (strlen(keys[i].key) != n || strncmp(keys[i].key, text, n) != 0) continue;
    if (keys[i].positive && value <= 0) return 0;
    *keys[i].field = value * keys[i].scale;
    return 1;
  }
  return 0;
}

static void write_stats(const lab_router *r, FILE *f) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  fprintf(f, "%.6f %.6f", 1e-9 * now_ns(),
          (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
              1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec));
  for (int i = 0; i < r->n; i++) {
    const lab_count *c = &r->count[i];
    const uint64_t value[5] = {c->sent_bytes, c->received_bytes, c->lost_up + c->lost_down, c->lost_random,
                               c->lost_off};
    for (int k = 0; k < 5; k++) fprintf(f, " %llu", (unsigned long long)value[k]);
  }
  fputc('\n', f);
  fflush(f);
}

static void obey(lab_router *r) {
  char text[COMMAND_BYTES];
  ssize_t n = recv(r->control, text, sizeof text - 1, MSG_DONTWAIT);
  if (n <= 0) return;
  text[n] = '\0';
  char *rest, *word = strtok_r(text, " ", &rest);
  if (!word) return;
  if (strcmp(word, "set") == 0 && (word = strtok_r(NULL, " ", &rest))) {
    int host = atoi(word);
    if (host < 0 || host >= r->n) return;
    while ((word = strtok_r(NULL, " ", &rest))) {
      if (!lab_link_set(&r->link[host], word)) fprintf(stderr, "lab: cannot set '%s'\n", word);
    }
  }
}

/* ---- the loop ---- */

/* Waking for each packet cost more than all the rest; packets that came within half a millisecond go together. Rates
 * do not suffer: a busy link's time goes on where it was. */
static const struct timespec coalesce = {0, 500000};

static struct timespec until_next(const state *s) {
  double ns = s->n ? s->heap[0].ns - now_ns() - (double)coalesce.tv_nsec : 1e8;
  if (ns < 0) ns = 0;
  if (ns > 1e8) ns = 1e8;
  return (struct timespec){0, (long)ns};
}

static void start(state *s) {
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGTERM, &action, NULL);
  prctl(PR_SET_TIMERSLACK, 1000);
  s->random = s->r->seed * 0x9E3779B97F4A7C15U + 1;
  ended = 0;
}

int lab_router_run(lab_router *r) {
  struct pollfd polled[LAB_HOSTS_MAX + 1];
  state s = {.r = r};
  int failed = 0;
  double stats_ns = 0;
  FILE *stats = r->stats ? fopen(r->stats, "w") : NULL;
  for (int i = 0; i < r->n; i++) polled[i] = (struct pollfd){.fd = r->fd[i], .events = POLLIN};
  polled[r->n] = (struct pollfd){.fd = r->control, .events = POLLIN}; /* -1 is ignored */
  start(&s);
  while (!ended && !failed) {
    struct timespec wait = until_next(&s);
    nanosleep(&coalesce, NULL);
    int ready = ppoll(polled, (nfds_t)r->n + 1, &wait, NULL);
    failed = ready < 0 && errno != EINTR;
    for (int i = 0; ready > 0 && i < r->n; i++) {
      if (polled[i].revents & POLLIN) read_host(&s, i);
    }
    if (ready > 0 && (polled[r->n].revents & POLLIN)) obey(r);
    if (stats && now_ns() >= stats_ns) {
      write_stats(r, stats);
      stats_ns = now_ns() + 0.25e9;
    }
    for (double now = now_ns(); s.n && s.heap[0].ns <= now;) {
      double ns = s.heap[0].ns;
      move(&s, ns, heap_pop(&s));
    }
  }
  if (failed) perror("lab: router");
  if (stats) fclose(stats);
  while (s.n) free(heap_pop(&s));
  free(s.heap);
  return failed;
}
