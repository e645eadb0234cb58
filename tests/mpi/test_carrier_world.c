/* covenant-test: np=2,4 timeout=120
 * The world carrier: many messages of random sizes between all pairs at once, order and content per link, goodbye,
 * MPI's end. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/memory.h"
#include "comm/collective.h"
#include "comm/finish.h"
#include "exchange/carrier_world.h"
#include "support.h"

enum { MESSAGES = 40, PEERS_MAX = 4 };
static const size_t largest = (size_t)8 << 20;
static const double patience_s = 60;

static int rank, size;
static uint8_t *noise; /* [2 * largest]: bodies are slices of it */
static cov_carrier *carrier;

static uint64_t mix(uint64_t x) {
  x ^= x >> 31;
  x *= 0x9E3779B97F4A7C15u;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9u;
  return x ^ x >> 32;
}

/* Message k from a to b: size (many small, some of 8 MiB) and place in the noise, known to both sides. */
static size_t slice(int a, int b, int k, size_t *at) {
  uint64_t r = mix((uint64_t)(k * 64 + a * 8 + b + 1));
  *at = mix(r) % largest;
  if (k == 7) return 0;
  if (k == 11) return largest;
  return (size_t)(r % (largest + 1)) >> (r >> 40 & 15);
}

static void make_noise(void) {
  void *p;
  assert_ok(cov_mem_alloc(COV_SPACE_HOST, COV_MEM_SCRATCH, 2 * largest, &p));
  noise = p;
  for (size_t i = 0; i < 2 * largest; i += 8) {
    uint64_t v = mix(i + 12345);
    memcpy(noise + i, &v, 8);
  }
}

static void post_all(void) {
  for (int k = 0; k < MESSAGES; k++) {
    for (int to = 0; to < size; to++) {
      uint64_t handle; /* asked for, so that SENT comes */
      size_t at, n = slice(rank, to, k, &at);
      cov_message_head head = {.type = (uint32_t)k, .epoch = 77, .round = (uint64_t)n};
      if (to == rank) continue;
      /* Every third is borrowed: the noise never changes. */
      assert_ok(cov_carrier_post(carrier, to, &head, noise + at, n, k % 3 ? COV_POST_COPY : COV_POST_BORROW, &handle));
    }
  }
}

static void take_message(const cov_carrier_event *e, int *next) {
  size_t at, n = slice(e->peer, rank, next[e->peer], &at);
  assert_int_equal(e->head.type, next[e->peer]);
  assert_int_equal(e->head.epoch, 77);
  assert_int_equal(e->n_bytes, n);
  assert_int_equal(e->head.round, n);
  assert_memory_equal(e->bytes, noise + at, n);
  next[e->peer]++;
}

static void everyone_talks_to_everyone(void **state) {
  (void)state;
  int next[PEERS_MAX] = {0};
  int received = 0, sent = 0;
  const int want = (size - 1) * MESSAGES, want_sent = (size - 1) * ((MESSAGES + 2) / 3);
  double end = cov_clock_s() + patience_s;
  post_all();
  while (received < want || sent < want_sent) {
    cov_carrier_event e;
    assert_ok(cov_carrier_wait(carrier, 1, &e));
    if (e.kind == COV_EVENT_DROPPED) fail_msg("peer %d dropped: %s", e.peer, e.reason);
    if (e.kind == COV_EVENT_MESSAGE) take_message(&e, next);
    received += e.kind == COV_EVENT_MESSAGE;
    sent += e.kind == COV_EVENT_SENT;
    if (cov_clock_s() > end) fail_msg("%d of %d messages after %g s", received, want, patience_s);
  }
  for (int i = 0; i < cov_carrier_links(carrier); i++) {
    cov_link_stats s;
    cov_carrier_stats(carrier, i, &s);
    assert_int_equal(s.alive, 1);
    assert_int_equal(s.received_messages, MESSAGES);
    assert_int_equal(s.sent_messages, MESSAGES); /* SENT of the last borrowed one may precede, but k = 39 is borrowed */
    assert_int_equal(s.malformed, 0);
    assert_int_equal(s.queued_bytes, 0);
  }
  assert_int_equal(cov_carrier_in_use(carrier, noise, 2 * largest), 0);
}

static double cpu_s(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static cov_status keep_carrier_going(void *arg) {
  return cov_carrier_progress(arg);
}

static void wait_for_all(void) {
  cov_wait how = {patience_s, keep_carrier_going, carrier};
  assert_ok(cov_coll_barrier(MPI_COMM_WORLD, &how));
}

/* Only printed: how much of a core a waiting gateway takes. */
static void an_idle_gateway_sleeps(void **state) {
  (void)state;
  cov_carrier_event e;
  wait_for_all();
  double cpu = cpu_s(), start = cov_clock_s();
  while (cov_clock_s() - start < 2) {
    assert_ok(cov_carrier_wait(carrier, 2 - (cov_clock_s() - start), &e));
    assert_int_equal(e.kind, COV_EVENT_NONE);
  }
  printf("gateway %d, waiting: %.2f %% of a core\n", rank, 100 * (cpu_s() - cpu) / (cov_clock_s() - start));
  wait_for_all(); /* or the first to leave would be an event for the others */
}

static void all_leave_cleanly(void **state) {
  (void)state;
  assert_int_equal(cov_carrier_lost_links(carrier), 0);
  assert_ok(cov_carrier_close(&carrier, patience_s));
  assert_null(carrier);
  assert_int_equal(cov_mem_used_bytes(COV_SPACE_HOST, COV_MEM_PAYLOAD), 0);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(everyone_talks_to_everyone),
      cmocka_unit_test(an_idle_gateway_sleeps),
      cmocka_unit_test(all_leave_cleanly),
  };
  /* Peer numbers are not ranks: peer p is at rank p here only because slice() is simpler so; the carrier gets a table.
   */
  static const int peer[PEERS_MAX] = {0, 1, 2, 3};
  MPI_Comm outer;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  make_noise();
  cov_carrier_params params = {.self = rank,
                               .peer = peer,
                               .n_peers = size,
                               .max_message_bytes = largest,
                               .max_queued_bytes = MESSAGES * largest};
  if (cov_mpi_comm_dup(MPI_COMM_WORLD, NULL, &outer) != COV_OK ||
      cov_carrier_world_open(outer, &params, peer, &carrier) != COV_OK) {
    fprintf(stderr, "%s\n", cov_error_text());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  cov_mem_free(noise);
  cov_mpi_finish(failed, failed, 0); /* after a failure links may be in any state: do not wait for MPI_Finalize */
  return failed;
}
