#include "fsdp/mpi.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* What is under way. */
typedef struct {
  MPI_Request request;
  const char *what;
  int busy;
} operation;

struct cov_fsdp_mpi {
  cov_fsdp_ops ops;
  MPI_Comm comm, sums; /* gathers and totals; reductions: two orders that do not wait for each other */
  MPI_Datatype block;  /* COV_FSDP_COUNT_ALIGN floats, so that counts fit into an int */
  cov_wait how;
  operation gather, reduce;
  float *staging; /* [size][room]: the blocks of all ranks before they are added */
  int64_t room, count;
  float *mine;    /* of the reduction under way */
  uint8_t *small; /* [(1 + size) * small_bytes]: totals; on the heap, for an abandoned one may still write */
  size_t small_bytes;
  int broken; /* 1: something was begun and cannot be finished */
};

static cov_status begin(cov_fsdp_mpi *m, operation *op, int code, const char *what) {
  op->what = what;
  cov_status st = cov_mpi_check(code, what);
  op->busy = st == COV_OK;
  if (st != COV_OK) m->broken = 1;
  return st;
}

static cov_status finish(cov_fsdp_mpi *m, operation *op) {
  if (!op->busy) return COV_FAIL(COV_EBUG, "a collective of the replica is to be finished that was not begun");
  cov_status st = cov_wait_request(&op->request, &m->how, op->what);
  op->busy = 0;
  if (st != COV_OK) m->broken = 1;
  return st;
}

/* Elements of a block as MPI counts it. */
static cov_status blocks_of(int64_t count, int *blocks) {
  if (count % COV_FSDP_COUNT_ALIGN != 0 || count / COV_FSDP_COUNT_ALIGN > INT_MAX) {
    return COV_FAIL(COV_EBUG, "a block of %lld elements: it must be a multiple of %d", (long long)count,
                    COV_FSDP_COUNT_ALIGN);
  }
  *blocks = (int)(count / COV_FSDP_COUNT_ALIGN);
  return COV_OK;
}

static cov_status gather_begin(void *self, const float *mine, float *all, int64_t count) {
  cov_fsdp_mpi *m = self;
  int n;
  COV_TRY(blocks_of(count, &n));
  int code = MPI_Iallgather(mine, n, m->block, all, n, m->block, m->comm, &m->gather.request);
  return begin(m, &m->gather, code, "collecting the weights of a layer from the ranks of this peer");
}

static cov_status gather_finish(void *self) {
  cov_fsdp_mpi *m = self;
  return finish(m, &m->gather);
}

void cov_fsdp_mpi_account(int size, int64_t count) {
  cov_mem_account(COV_SPACE_HOST, COV_MEM_GRADS, (ptrdiff_t)(count * size * (int64_t)sizeof(float)));
}

static cov_status reduce_begin(void *self, const float *all, float *mine, int64_t count) {
  cov_fsdp_mpi *m = self;
  int n;
  COV_TRY(blocks_of(count, &n));
  if (count > m->room) { /* in the first pass only */
    void *p;
    COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_GRADS, (size_t)count, (size_t)m->ops.size * sizeof(float), &p));
    cov_mem_free(m->staging);
    m->staging = p;
    m->room = count;
  }
  m->mine = mine;
  m->count = count;
  int code = MPI_Ialltoall(all, n, m->block, m->staging, n, m->block, m->sums, &m->reduce.request);
  return begin(m, &m->reduce, code, "adding up the gradient of a layer over the ranks of this peer");
}

/* sum[n] = blocks of all ranks, `stride` apart, in rank order; in pieces that stay in the cache. */
static void add_blocks(float *restrict sum, const float *restrict blocks, int ranks, int64_t stride, int64_t n) {
  enum { PIECE = 4096 };
  for (int64_t at = 0; at < n; at += PIECE) {
    const int64_t piece = n - at < PIECE ? n - at : PIECE;
    memcpy(sum + at, blocks + at, (size_t)piece * sizeof *sum);
    for (int r = 1; r < ranks; r++) {
      const float *block = blocks + r * stride + at;
      for (int64_t i = 0; i < piece; i++) sum[at + i] += block[i];
    }
  }
}

static cov_status reduce_finish(void *self) {
  cov_fsdp_mpi *m = self;
  COV_TRY(finish(m, &m->reduce));
  add_blocks(m->mine, m->staging, m->ops.size, m->count, m->count);
  return COV_OK;
}

static cov_status totals(void *self, const void *mine, size_t bytes, void *all) {
  cov_fsdp_mpi *m = self;
  const size_t size = (size_t)m->ops.size;
  operation op = {0};
  if (bytes > INT_MAX) return COV_FAIL(COV_EBUG, "totals of %zu bytes", bytes);
  if (bytes > m->small_bytes) {
    void *p;
    COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_SCRATCH, 1 + size, bytes, &p));
    cov_mem_free(m->small);
    m->small = p;
    m->small_bytes = bytes;
  }
  uint8_t *got = m->small + bytes;
  memcpy(m->small, mine, bytes);
  int code = MPI_Iallgather(m->small, (int)bytes, MPI_BYTE, got, (int)bytes, MPI_BYTE, m->comm, &op.request);
  COV_TRY(begin(m, &op, code, "comparing the ranks of this peer after a part of a step"));
  COV_TRY(finish(m, &op));
  memcpy(all, got, size * bytes);
  return COV_OK;
}

cov_status cov_fsdp_mpi_create(MPI_Comm comm, const cov_wait *how, cov_fsdp_mpi **out) {
  cov_status st = COV_OK;
  *out = NULL;
  cov_fsdp_mpi *m = calloc(1, sizeof *m);
  if (!m) return COV_FAIL(COV_ENOMEM, "no memory for the collectives of a replica");
  m->how = *how;
  m->comm = m->sums = MPI_COMM_NULL;
  m->block = MPI_DATATYPE_NULL;
  m->ops = (cov_fsdp_ops){.self = m,
                          .gather_begin = gather_begin,
                          .gather_finish = gather_finish,
                          .reduce_begin = reduce_begin,
                          .reduce_finish = reduce_finish,
                          .totals = totals};
  COV_TRY_DONE(cov_mpi_check(MPI_Comm_rank(comm, &m->ops.rank), "opening a replica"));
  COV_TRY_DONE(cov_mpi_check(MPI_Comm_size(comm, &m->ops.size), "opening a replica"));
  COV_TRY_DONE(cov_mpi_check(MPI_Type_contiguous(COV_FSDP_COUNT_ALIGN, MPI_FLOAT, &m->block), "opening a replica"));
  COV_TRY_DONE(cov_mpi_check(MPI_Type_commit(&m->block), "opening a replica"));
  m->broken = 1; /* until both are there: nothing collective is done on half of it */
  COV_TRY_DONE(cov_mpi_comm_dup(comm, how, &m->comm));
  COV_TRY_DONE(cov_mpi_comm_dup(comm, how, &m->sums));
  m->broken = 0;
  *out = m;
  m = NULL;
done:
  cov_fsdp_mpi_destroy(&m, 0);
  return st;
}

void cov_fsdp_mpi_destroy(cov_fsdp_mpi **mpi, int clean) {
  cov_fsdp_mpi *m = *mpi;
  *mpi = NULL;
  if (!m) return;
  if (m->broken || m->gather.busy || m->reduce.busy) { /* MPI may still write to it */
    cov_wait_keep(m);
    return;
  }
  if (m->block != MPI_DATATYPE_NULL) (void)MPI_Type_free(&m->block);
  if (clean && m->comm != MPI_COMM_NULL) (void)MPI_Comm_free(&m->comm);
  if (clean && m->sums != MPI_COMM_NULL) (void)MPI_Comm_free(&m->sums);
  cov_mem_free(m->staging);
  cov_mem_free(m->small);
  free(m);
}

const cov_fsdp_ops *cov_fsdp_mpi_ops(const cov_fsdp_mpi *mpi) {
  return &mpi->ops;
}
