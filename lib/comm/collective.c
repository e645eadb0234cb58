#include "comm/collective.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { GATHER_TAG = 32001 };
/* Pieces small enough for int counts and for polling between them, large enough that their number does not matter. */
static const size_t piece_bytes = (size_t)64 << 20;

static size_t smaller(size_t a, size_t b) {
  return a < b ? a : b;
}

cov_status cov_coll_barrier(MPI_Comm comm, const cov_wait *how) {
  MPI_Request request;
  COV_TRY(cov_mpi_check(MPI_Ibarrier(comm, &request), "entering a barrier"));
  return cov_wait_request(&request, how, "waiting at a barrier");
}

cov_status cov_coll_bcast(MPI_Comm comm, int root, void *data, size_t bytes, const cov_wait *how) {
  char *p = data;
  for (size_t at = 0; at < bytes; at += piece_bytes) {
    MPI_Request request;
    int n = (int)smaller(piece_bytes, bytes - at);
    COV_TRY(cov_mpi_check(MPI_Ibcast(p + at, n, MPI_BYTE, root, comm, &request), "broadcasting"));
    COV_TRY(cov_wait_request(&request, how, "broadcasting"));
  }
  return COV_OK;
}

static cov_status reduce_words(MPI_Comm comm, MPI_Datatype type, cov_coll_op op, char *values, size_t n,
                               const cov_wait *how) {
  const size_t piece = piece_bytes / 8;
  MPI_Op mpi_op = op == COV_COLL_SUM ? MPI_SUM : MPI_MAX;
  for (size_t at = 0; at < n; at += piece) {
    MPI_Request request;
    int count = (int)smaller(piece, n - at);
    COV_TRY(
        cov_mpi_check(MPI_Iallreduce(MPI_IN_PLACE, values + 8 * at, count, type, mpi_op, comm, &request), "reducing"));
    COV_TRY(cov_wait_request(&request, how, "reducing"));
  }
  return COV_OK;
}

cov_status cov_coll_reduce_i64(MPI_Comm comm, cov_coll_op op, int64_t *values, size_t n, const cov_wait *how) {
  return reduce_words(comm, MPI_INT64_T, op, (char *)values, n, how);
}

cov_status cov_coll_reduce_u64(MPI_Comm comm, cov_coll_op op, uint64_t *values, size_t n, const cov_wait *how) {
  return reduce_words(comm, MPI_UINT64_T, op, (char *)values, n, how);
}

cov_status cov_coll_allgather(MPI_Comm comm, const void *mine, size_t bytes, void *all, const cov_wait *how) {
  int size_i;
  COV_TRY(cov_mpi_check(MPI_Comm_size(comm, &size_i), "gathering"));
  if (bytes == 0) return COV_OK;
  size_t size = (size_t)size_i;
  size_t piece = smaller(bytes, piece_bytes / size ? piece_bytes / size : 1);
  /* Through a staging area, because the pieces of one rank are not adjacent in `all`. */
  cov_status st = COV_OK;
  void *staging;
  COV_TRY(cov_mem_array(COV_SPACE_HOST, COV_MEM_SCRATCH, size, piece, &staging));
  for (size_t at = 0; at < bytes; at += piece) {
    MPI_Request request;
    size_t n = smaller(piece, bytes - at);
    COV_TRY_DONE(cov_mpi_check(
        MPI_Iallgather((const char *)mine + at, (int)n, MPI_BYTE, staging, (int)n, MPI_BYTE, comm, &request),
        "gathering"));
    COV_TRY_DONE(cov_wait_request(&request, how, "gathering"));
    for (size_t r = 0; r < size; r++) memcpy((char *)all + r * bytes + at, (char *)staging + r * n, n);
  }
  cov_mem_free(staging);
  staging = NULL;
done:
  cov_wait_keep(staging); /* MPI may still write to it */
  return st;
}

/* One sender's stream at the root: one piece in flight, so that memory and matching stay simple. */
typedef struct {
  char *at;
  size_t left;
  MPI_Request request;
} inflow;

static cov_status inflow_next(inflow *f, int from, MPI_Comm comm) {
  size_t n = smaller(piece_bytes, f->left);
  f->request = MPI_REQUEST_NULL;
  if (n == 0) return COV_OK;
  COV_TRY(cov_mpi_check(MPI_Irecv(f->at, (int)n, MPI_BYTE, from, GATHER_TAG, comm, &f->request), "gathering"));
  f->at += n;
  f->left -= n;
  return COV_OK;
}

static cov_status receive_all(MPI_Comm comm, int size, inflow *flow, const cov_wait *how) {
  cov_waiting w;
  cov_wait_begin(&w, how, "gathering at the root");
  for (int r = 0; r < size; r++) COV_TRY(inflow_next(&flow[r], r, comm));
  for (int open = size; open > 0;) {
    int moved = 0;
    open = 0;
    for (int r = 0; r < size; r++) {
      if (flow[r].request == MPI_REQUEST_NULL) continue;
      int done = 0;
      COV_TRY(cov_mpi_check(MPI_Test(&flow[r].request, &done, MPI_STATUS_IGNORE), "gathering"));
      if (done) COV_TRY(inflow_next(&flow[r], r, comm));
      moved |= done;
      open += flow[r].request != MPI_REQUEST_NULL;
    }
    if (open && !moved) COV_TRY(cov_wait_pause(&w));
  }
  return COV_OK;
}

static cov_status send_all(MPI_Comm comm, int root, const char *data, size_t bytes, const cov_wait *how) {
  for (size_t at = 0; at < bytes; at += piece_bytes) {
    MPI_Request request;
    int n = (int)smaller(piece_bytes, bytes - at);
    COV_TRY(cov_mpi_check(MPI_Isend(data + at, n, MPI_BYTE, root, GATHER_TAG, comm, &request), "sending to the root"));
    COV_TRY(cov_wait_request(&request, how, "sending to the root"));
  }
  return COV_OK;
}

/* The root's own piece is copied, the others are streamed. */
static cov_status gather_at_root(MPI_Comm comm, int rank, int size, const void *mine, const uint64_t *lengths,
                                 char *all, const cov_wait *how) {
  inflow *flow = size > 0 ? calloc((size_t)size, sizeof *flow) : NULL;
  if (!flow) return COV_FAIL(COV_ENOMEM, "no memory for %d receives", size);
  size_t at = 0;
  for (int r = 0; r < size; r++) {
    flow[r].at = all + at;
    flow[r].left = r == rank ? 0 : lengths[2 * r];
    if (r == rank && lengths[2 * r]) memcpy(all + at, mine, lengths[2 * r]);
    at += lengths[2 * r];
  }
  cov_status st = receive_all(comm, size, flow, how);
  free(flow); /* handles only; the buffers are the caller's */
  return st;
}

cov_status cov_coll_gatherv(MPI_Comm comm, int root, const void *mine, size_t bytes, void *all, size_t room,
                            size_t *counts, const cov_wait *how) {
  int rank, size;
  COV_TRY(cov_mpi_check(MPI_Comm_rank(comm, &rank), "gathering"));
  COV_TRY(cov_mpi_check(MPI_Comm_size(comm, &size), "gathering"));
  /* Lengths and room first, to everyone: all ranks then know alike whether it fits. */
  uint64_t own[2] = {bytes, rank == root ? room : 0};
  uint64_t *lengths = malloc((size_t)size * sizeof own);
  if (!lengths) return COV_FAIL(COV_ENOMEM, "no memory for %d lengths", size);
  cov_status st = cov_coll_allgather(comm, own, sizeof own, lengths, how);
  if (st != COV_OK) goto done;
  uint64_t left = lengths[2 * root + 1];
  for (int r = 0; r < size; r++) {
    if (lengths[2 * r] > left) {
      COV_FAIL_DONE(COV_EBUG, "pieces of %d ranks do not fit into the root's %llu bytes", size,
                    (unsigned long long)lengths[2 * root + 1]);
    }
    left -= lengths[2 * r];
  }
  if (rank != root) {
    st = send_all(comm, root, mine, bytes, how);
    goto done;
  }
  for (int r = 0; r < size; r++) counts[r] = lengths[2 * r];
  st = gather_at_root(comm, rank, size, mine, lengths, all, how);
done:
  free(lengths);
  return st;
}
