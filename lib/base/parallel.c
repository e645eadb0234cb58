#include "base/parallel.h"

#include <pthread.h>

#include "base/status.h"

typedef struct {
  cov_parallel_work *work;
  void *context;
  int slot, parts;
} part;

static void *run_part(void *argument) {
  const part *p = argument;
  p->work(p->context, p->slot, p->parts);
  return NULL;
}

void cov_parallel_run(int parts, cov_parallel_work *work, void *context) {
  pthread_t thread[COV_THREADS_MAX];
  part p[COV_THREADS_MAX];
  int started = 0;
  COV_ASSERT(parts >= 1 && parts <= COV_THREADS_MAX);
  for (int slot = 0; slot < parts; slot++) p[slot] = (part){work, context, slot, parts};
  while (started < parts - 1 && pthread_create(&thread[started], NULL, run_part, &p[started]) == 0) started++;
  for (int slot = started; slot < parts; slot++) run_part(&p[slot]);
  for (int i = 0; i < started; i++) (void)pthread_join(thread[i], NULL);
}
