/* The same pattern over plain sockets: what the network gives to a program that does nothing else. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "comm/collective.h"
#include "wan/wan.h"

enum { PORT = 7701, CHUNK_BYTES = 1 << 18 };
static const double connect_s = 30;

struct wan_sockets {
  int out[WAN_HOSTS_MAX], in[WAN_HOSTS_MAX]; /* by host; -1: none */
  int64_t sent[WAN_HOSTS_MAX], received[WAN_HOSTS_MAX];
  uint8_t chunk[CHUNK_BYTES];
};

static bool is_relay(const wan_host *host, int which) {
  return which >= host->peers;
}

/* Does `from` send to `to`? */
static bool sends(const wan_host *host, int from, int to) {
  if (from == to) return false;
  if (host->topology == COV_TOPOLOGY_MESH) return !is_relay(host, from) && !is_relay(host, to);
  if (is_relay(host, from) == is_relay(host, to)) return false;
  return is_relay(host, from) || to == host->peers + cov_relay_of(from, host->relays);
}

static cov_status failed(const char *what) {
  return COV_FAIL(COV_ECOMM, "plain sockets: %s: %s", what, strerror(errno));
}

static struct sockaddr_in address_of(const wan_host *host, int which) {
  char text[64];
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT)};
  snprintf(text, sizeof text, "%s%d", host->network, which + 1);
  (void)inet_pton(AF_INET, text, &a.sin_addr);
  return a;
}

static cov_status connect_to(const wan_host *host, int which, int *out) {
  struct sockaddr_in a = address_of(host, which);
  uint8_t me = (uint8_t)host->rank;
  *out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (*out < 0 || connect(*out, (struct sockaddr *)&a, sizeof a) != 0) return failed("connect");
  if (send(*out, &me, 1, MSG_NOSIGNAL) != 1) return failed("send");
  return fcntl(*out, F_SETFL, O_NONBLOCK) == 0 ? COV_OK : failed("fcntl");
}

static cov_status accept_one(wan_host *host, wan_sockets *s, int listener) {
  uint8_t who;
  struct pollfd p = {.fd = listener, .events = POLLIN};
  if (poll(&p, 1, (int)(1000 * connect_s)) != 1) return failed("nobody connects");
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (fd < 0 || recv(fd, &who, 1, MSG_WAITALL) != 1) return failed("accept");
  if (who >= host->size || s->in[who] >= 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return failed("a stranger connects");
  s->in[who] = fd;
  return COV_OK;
}

static cov_status connect_all(wan_host *host, wan_sockets *s) {
  int on = 1, expected = 0;
  struct sockaddr_in own = address_of(host, host->rank);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(listener, (struct sockaddr *)&own, sizeof own) != 0 || listen(listener, WAN_HOSTS_MAX) != 0) {
    return failed("listen");
  }
  cov_status st = wan_barrier(host);
  for (int h = 0; h < host->size && st == COV_OK; h++) {
    if (sends(host, host->rank, h)) st = connect_to(host, h, &s->out[h]);
    expected += sends(host, h, host->rank);
  }
  for (int i = 0; i < expected && st == COV_OK; i++) st = accept_one(host, s, listener);
  close(listener);
  return st;
}

cov_status wan_sockets_open(wan_host *host, wan_sockets **out) {
  wan_sockets *s = calloc(1, sizeof *s);
  *out = s;
  if (!s) return COV_FAIL(COV_ENOMEM, "no memory for the plain sockets");
  for (int h = 0; h < WAN_HOSTS_MAX; h++) s->in[h] = s->out[h] = -1;
  return connect_all(host, s);
}

void wan_sockets_close(wan_sockets **sockets) {
  wan_sockets *s = *sockets;
  if (!s) return;
  for (int h = 0; h < WAN_HOSTS_MAX; h++) {
    if (s->in[h] >= 0) close(s->in[h]);
    if (s->out[h] >= 0) close(s->out[h]);
  }
  free(s);
  *sockets = NULL;
}

/* Bytes for `to` that could be sent now: own ones, or what a relay has received from the others. */
static int64_t ready_for(const wan_host *host, const wan_sockets *s, int64_t bytes, int to) {
  if (!is_relay(host, host->rank)) return bytes - s->sent[to];
  int64_t n = -s->sent[to];
  for (int h = 0; h < host->peers; h++) n += h != to ? s->received[h] : 0;
  return n;
}

static cov_status send_some(const wan_host *host, wan_sockets *s, int64_t bytes, int to) {
  for (int64_t left; (left = ready_for(host, s, bytes, to)) > 0;) {
    ssize_t n = send(s->out[to], s->chunk, (size_t)(left < CHUNK_BYTES ? left : CHUNK_BYTES), MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN ? COV_OK : failed("send");
    s->sent[to] += n;
  }
  return COV_OK;
}

static cov_status receive_some(wan_sockets *s, int from) {
  for (;;) {
    ssize_t n = recv(s->in[from], s->chunk, CHUNK_BYTES, 0);
    if (n < 0) return errno == EAGAIN ? COV_OK : failed("recv");
    if (n == 0) return COV_FAIL(COV_ECOMM, "plain sockets: host %d hung up", from);
    s->received[from] += n;
  }
}

/* One turn of poll over all connections. */
static cov_status turn(const wan_host *host, wan_sockets *s, int64_t bytes) {
  struct pollfd p[2 * WAN_HOSTS_MAX];
  int who[2 * WAN_HOSTS_MAX], n = 0;
  for (int h = 0; h < host->size; h++) {
    who[n] = h;
    if (s->in[h] >= 0) p[n++] = (struct pollfd){.fd = s->in[h], .events = POLLIN};
    who[n] = h;
    if (s->out[h] >= 0 && ready_for(host, s, bytes, h) > 0)
      p[n++] = (struct pollfd){.fd = s->out[h], .events = POLLOUT};
  }
  if (poll(p, (nfds_t)n, 5) < 0 && errno != EINTR) return failed("poll");
  for (int i = 0; i < n; i++) {
    if (p[i].revents == 0) continue;
    COV_TRY(p[i].events == POLLIN ? receive_some(s, who[i]) : send_some(host, s, bytes, who[i]));
  }
  return COV_OK;
}

static cov_status finished(const wan_host *host, const wan_sockets *s, int64_t bytes, bool *done) {
  int64_t received = 0, left = 0;
  for (int h = 0; h < host->size; h++) {
    received += s->received[h];
    if (s->out[h] >= 0) left += ready_for(host, s, bytes, h);
  }
  int64_t want = is_relay(host, host->rank) ? 0 : bytes * (host->peers - 1);
  for (int h = 0; is_relay(host, host->rank) && h < host->peers; h++) want += s->in[h] >= 0 ? bytes : 0;
  *done = received >= want && left == 0;
  return received <= want ? COV_OK : COV_FAIL(COV_EBUG, "plain sockets: more bytes than were sent");
}

cov_status wan_sockets_exchange(wan_host *host, wan_sockets *s, int64_t bytes, wan_time *out) {
  bool done = false;
  memset(s->sent, 0, sizeof s->sent);
  memset(s->received, 0, sizeof s->received);
  COV_TRY(wan_barrier(host));
  out->begin_s = cov_clock_s();
  while (!done) {
    COV_TRY(turn(host, s, bytes));
    COV_TRY(finished(host, s, bytes, &done));
    COV_TRY(cov_carrier_progress(host->carrier)); /* its links stay alive */
    out->end_s = cov_clock_s();
    if (out->end_s - out->begin_s > host->timeout_s) {
      return COV_FAIL(COV_ECOMM, "plain sockets: host %d is not done after %g s", host->rank, host->timeout_s);
    }
  }
  return wan_barrier(host);
}
