#include "comm/agree.h"

#include <stdio.h>
#include <stdlib.h>

enum { TEXT_BYTES = 512 };

/* On the heap because an abandoned request may still write to it: then it is kept, never reused. */
typedef struct {
  int mine[2], worst[2]; /* status, rank: MPI_2INT */
  char text[TEXT_BYTES];
} ballot;

static cov_status exchange(MPI_Comm comm, ballot *b, const cov_wait *how) {
  MPI_Request request;
  COV_TRY(cov_mpi_check(MPI_Iallreduce(b->mine, b->worst, 1, MPI_2INT, MPI_MAXLOC, comm, &request),
                        "agreeing on a status"));
  COV_TRY(cov_wait_request(&request, how, "agreeing on a status"));
  if (b->worst[0] == COV_OK) return COV_OK;
  /* MAXLOC gives the lowest rank among the worst: it tells the others why. */
  COV_TRY(cov_mpi_check(MPI_Ibcast(b->text, TEXT_BYTES, MPI_CHAR, b->worst[1], comm, &request),
                        "passing on a failure's reason"));
  return cov_wait_request(&request, how, "passing on a failure's reason");
}

cov_status cov_agree(MPI_Comm comm, cov_status mine, const cov_wait *how) {
  int rank, size;
  COV_TRY(cov_mpi_errors_return(comm));
  COV_TRY(cov_mpi_check(MPI_Comm_rank(comm, &rank), "agreeing on a status"));
  COV_TRY(cov_mpi_check(MPI_Comm_size(comm, &size), "agreeing on a status"));
  ballot *b = calloc(1, sizeof *b);
  if (!b) return COV_FAIL(COV_ENOMEM, "no memory to agree on a status");
  b->mine[0] = (int)mine;
  b->mine[1] = rank;
  if (mine != COV_OK) snprintf(b->text, sizeof b->text, "%s", cov_error_text());

  cov_status st = exchange(comm, b, how);
  if (st != COV_OK) {
    cov_wait_keep(b);
    return st;
  }

  cov_status worst = (cov_status)b->worst[0];
  b->text[TEXT_BYTES - 1] = '\0';
  if (worst != COV_OK && mine == COV_OK) {
    COV_FAIL(worst, "rank %d of %d failed: %s", b->worst[1], size, b->text[0] ? b->text : cov_status_text(worst));
  }
  if (worst != COV_OK && b->worst[1] != rank) cov_error_second_hand_set();
  free(b);
  return worst;
}
