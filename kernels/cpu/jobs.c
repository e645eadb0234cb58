#include "cpu/jobs.h"

#if defined(COVENANT_HAVE_ONEDNN)
#include <stdatomic.h>
#include <stddef.h>

typedef struct {
  covi_job_shape shape;
  int own_scratch, busy;
  uint64_t used; /* when, by the clock below; 0: an empty place */
  covi_job *job; /* NULL while it is being made */
} place;

static place places[COVI_JOBS_MAX];
static uint64_t uses;
static atomic_flag lock = ATOMIC_FLAG_INIT;

/* Held for a search of the table, never while a job is made or run. */
static void enter(void) {
  while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) continue;
}

static void leave(void) {
  atomic_flag_clear_explicit(&lock, memory_order_release);
}

static int same(const covi_job_shape *x, const covi_job_shape *y) {
  return x->kind == y->kind && x->in == y->in && x->out == y->out && x->m == y->m && x->n == y->n && x->k == y->k &&
         x->a_row == y->a_row && x->a_col == y->a_col && x->packed_b == y->packed_b && x->b_row == y->b_row &&
         x->b_col == y->b_col && x->c_row == y->c_row && x->add == y->add && x->threads == y->threads;
}

static place *find(const covi_job_shape *shape, int64_t room_bytes) {
  for (int i = 0; i < COVI_JOBS_MAX; i++) {
    place *p = &places[i];
    if (p->used == 0 || p->busy || !same(&p->shape, shape)) continue;
    if (p->own_scratch || covi_job_scratch_bytes(p->job) <= room_bytes) return p;
  }
  return NULL;
}

/* An empty place, or that of the job unused for longest; NULL if all are in use. */
static place *find_room(void) {
  place *oldest = NULL;
  for (int i = 0; i < COVI_JOBS_MAX; i++) {
    place *p = &places[i];
    if (!p->busy && (!oldest || p->used < oldest->used)) oldest = p;
  }
  return oldest;
}

static covi_job *make(const covi_job_shape *shape, int64_t room_bytes, int *own_scratch) {
  covi_job *job = NULL;
  *own_scratch = 0;
  if (covi_job_create(shape, 0, &job) != 0) return NULL;
  if (covi_job_scratch_bytes(job) <= room_bytes) return job;
  covi_job_destroy(job);
  *own_scratch = 1;
  return covi_job_create(shape, 1, &job) == 0 ? job : NULL;
}

covi_job *covi_jobs_take(const covi_job_shape *shape, int64_t room_bytes) {
  covi_job *old = NULL;
  enter();
  place *p = find(shape, room_bytes);
  if (p) {
    p->busy = 1;
    p->used = ++uses;
    leave();
    return p->job;
  }
  p = find_room();
  if (!p) {
    leave();
    return NULL;
  }
  old = p->job;
  *p = (place){.shape = *shape, .busy = 1, .used = ++uses};
  leave();
  covi_job_destroy(old);
  int own_scratch;
  covi_job *job = make(shape, room_bytes, &own_scratch);
  enter();
  p->job = job;
  p->own_scratch = own_scratch;
  if (!job) *p = (place){0};
  leave();
  return job;
}

void covi_jobs_give(covi_job *job) {
  enter();
  for (int i = 0; i < COVI_JOBS_MAX; i++) {
    if (places[i].job == job) places[i].busy = 0;
  }
  leave();
}
#else
typedef int covi_no_jobs; /* a translation unit is not empty */
#endif
