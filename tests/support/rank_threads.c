#include "rank_threads.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { RANKS_MAX = 16 };

typedef struct team {
  pthread_barrier_t barrier;
  int size;
  const void *gather[RANKS_MAX], *reduce[RANKS_MAX], *small[RANKS_MAX]; /* what each rank brings */
  cov_status (*body)(const cov_fsdp_ops *ops, void *arg);
  void *arg;
} team;

typedef struct {
  team *team;
  cov_fsdp_ops ops;
  float *all, *mine;
  int64_t gather_count, reduce_count;
  cov_status status;
} member;

static cov_status gather_begin(void *self, const float *mine, float *all, int64_t count) {
  member *m = self;
  assert_int_equal(count % COV_FSDP_COUNT_ALIGN, 0);
  m->team->gather[m->ops.rank] = mine;
  m->all = all;
  m->gather_count = count;
  return COV_OK;
}

static cov_status gather_finish(void *self) {
  member *m = self;
  const size_t bytes = (size_t)m->gather_count * sizeof(float);
  (void)pthread_barrier_wait(&m->team->barrier);
  for (int r = 0; r < m->ops.size; r++) memcpy(m->all + r * m->gather_count, m->team->gather[r], bytes);
  (void)pthread_barrier_wait(&m->team->barrier);
  return COV_OK;
}

static cov_status reduce_begin(void *self, const float *all, float *mine, int64_t count) {
  member *m = self;
  m->team->reduce[m->ops.rank] = all;
  m->mine = mine;
  m->reduce_count = count;
  return COV_OK;
}

static cov_status reduce_finish(void *self) {
  member *m = self;
  (void)pthread_barrier_wait(&m->team->barrier);
  for (int64_t i = 0; i < m->reduce_count; i++) {
    float sum = 0;
    for (int r = 0; r < m->ops.size; r++) sum += ((const float *)m->team->reduce[r])[m->ops.rank * m->reduce_count + i];
    m->mine[i] = sum;
  }
  (void)pthread_barrier_wait(&m->team->barrier);
  return COV_OK;
}

static cov_status totals(void *self, const void *mine, size_t bytes, void *all) {
  member *m = self;
  m->team->small[m->ops.rank] = mine;
  (void)pthread_barrier_wait(&m->team->barrier);
  for (int r = 0; r < m->ops.size; r++) memcpy((char *)all + (size_t)r * bytes, m->team->small[r], bytes);
  (void)pthread_barrier_wait(&m->team->barrier);
  return COV_OK;
}

static void *run_member(void *arg) {
  member *m = arg;
  m->status = m->team->body(&m->ops, m->team->arg);
  if (m->status != COV_OK) fprintf(stderr, "rank %d: %s\n", m->ops.rank, cov_error_text());
  return NULL;
}

cov_status test_run_ranks(int size, cov_status (*body)(const cov_fsdp_ops *ops, void *arg), void *arg) {
  team t = {.size = size, .body = body, .arg = arg};
  member m[RANKS_MAX];
  pthread_t thread[RANKS_MAX];
  cov_status worst = COV_OK;
  assert_true(size >= 1 && size <= RANKS_MAX);
  assert_int_equal(pthread_barrier_init(&t.barrier, NULL, (unsigned)size), 0);
  for (int r = 0; r < size; r++) {
    m[r] = (member){.team = &t};
    m[r].ops = (cov_fsdp_ops){.rank = r,
                              .size = size,
                              .self = &m[r],
                              .gather_begin = gather_begin,
                              .gather_finish = gather_finish,
                              .reduce_begin = reduce_begin,
                              .reduce_finish = reduce_finish,
                              .totals = totals};
  }
  for (int r = 0; r < size; r++) assert_int_equal(pthread_create(&thread[r], NULL, run_member, &m[r]), 0);
  for (int r = 0; r < size; r++) {
    assert_int_equal(pthread_join(thread[r], NULL), 0);
    if (m[r].status > worst) worst = m[r].status;
  }
  (void)pthread_barrier_destroy(&t.barrier);
  return worst;
}
