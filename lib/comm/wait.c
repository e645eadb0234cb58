#include "comm/wait.h"

#include <sched.h>
#include <stdlib.h>

#include "base/clock.h"

static const cov_wait default_wait = {COV_WAIT_DEFAULT_S, NULL, NULL};

/* Short waits are common (all ranks arrive together), so the first pauses give up the core without sleeping. */
enum { YIELDS = 8, PAUSES_PER_DOUBLING = 4, DOUBLINGS = 5 };
static const double first_sleep_s = 32e-6, longest_sleep_s = 1e-3;
/* A sleep costs 10 to 35 us of CPU whatever its length (measured): at 1 ms up to 3 % of a core. Who has waited for a
 * second already does not mind 4 ms. */
static const double idle_after_s = 1, idle_sleep_s = 4e-3;

void cov_wait_begin(cov_waiting *w, const cov_wait *how, const char *what) {
  w->how = how ? how : &default_wait;
  w->what = what;
  w->start_s = cov_clock_s();
  w->idle_rounds = 0;
}

cov_status cov_wait_pause(cov_waiting *w) {
  if (w->how->poll) COV_TRY(w->how->poll(w->how->arg));
  int round = w->idle_rounds++;
  if (round < YIELDS) {
    sched_yield();
    return COV_OK;
  }
  double waited = cov_clock_s() - w->start_s;
  if (waited > w->how->timeout_s) {
    return COV_FAIL(COV_ECOMM,
                    "no answer within %.3g s while %s; a process of this peer is probably dead, stopped or much slower "
                    "than the others: see the logs of the other ranks",
                    w->how->timeout_s, w->what);
  }
  int doublings = (round - YIELDS) / PAUSES_PER_DOUBLING;
  double s = doublings >= DOUBLINGS ? longest_sleep_s : first_sleep_s * (double)(1 << doublings);
  cov_sleep_s(waited > idle_after_s ? idle_sleep_s : s);
  if (w->idle_rounds > 1 << 20) w->idle_rounds = YIELDS + DOUBLINGS * PAUSES_PER_DOUBLING;
  return COV_OK;
}

cov_status cov_wait_request(MPI_Request *request, const cov_wait *how, const char *what) {
  cov_waiting w;
  cov_wait_begin(&w, how, what);
  for (;;) {
    int done = 0;
    COV_TRY(cov_mpi_check(MPI_Test(request, &done, MPI_STATUS_IGNORE), what));
    if (done) return COV_OK;
    COV_TRY(cov_wait_pause(&w));
  }
}

typedef struct kept {
  struct kept *next;
  void *memory;
} kept;
static kept *kept_memory;

void cov_wait_keep(void *p) {
  kept *k = p ? malloc(sizeof *k) : NULL;
  if (!k) return; /* then it is kept all the same, only not reachable */
  *k = (kept){kept_memory, p};
  kept_memory = k;
}

cov_status cov_mpi_check(int code, const char *what) {
  if (code == MPI_SUCCESS) return COV_OK;
  char text[MPI_MAX_ERROR_STRING] = "";
  int n = 0;
  if (MPI_Error_string(code, text, &n) != MPI_SUCCESS) text[0] = '\0';
  return COV_FAIL(COV_ECOMM, "MPI failed while %s: %s (code %d)", what, text, code);
}

cov_status cov_mpi_errors_return(MPI_Comm comm) {
  return cov_mpi_check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "setting the error handler");
}

cov_status cov_mpi_comm_dup(MPI_Comm comm, const cov_wait *how, MPI_Comm *out) {
  cov_status st = COV_OK;
  MPI_Request request;
  *out = MPI_COMM_NULL;
  COV_TRY(cov_mpi_errors_return(comm));
  /* MPI writes the handle when the request completes, perhaps after we gave up: not to the caller's variable. */
  MPI_Comm *fresh = malloc(sizeof(MPI_Comm));
  if (!fresh) return COV_FAIL(COV_ENOMEM, "no memory for a communicator");
  COV_TRY_DONE(cov_mpi_check(MPI_Comm_idup(comm, fresh, &request), "duplicating a communicator"));
  COV_TRY_DONE(cov_wait_request(&request, how, "duplicating a communicator"));
  *out = *fresh;
  free(fresh);
  fresh = NULL;
  st = cov_mpi_errors_return(*out);
done:
  cov_wait_keep(fresh);
  return st; /* NOLINT(clang-analyzer-unix.Malloc): kept, also where there is no memory to note that */
}

/* Without memory for it things are slower, and less safe when a peer dies; not wrong. */
void cov_mpi_prepare(void) {
  (void)setenv("UCX_RNDV_THRESH", "inf", 0);
  (void)setenv("UCX_ZCOPY_THRESH", "inf", 0);
}
