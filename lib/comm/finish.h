/* Ending MPI in bounded time, also after other ranks of the same mpirun have died. */
#ifndef COVENANT_COMM_FINISH_H
#define COVENANT_COMM_FINISH_H

/** Run `what` under a deadline: if cov_guard_end is not called within `timeout_s`, log "gave up after ... s while WHAT"
 *  (level warn) and _exit(exit_code). For the few calls that have no non-blocking form (MPI_Finalize,
 *  MPI_Comm_create_group). One at a time in a process. Local. */
void cov_guard_begin(double timeout_s, int exit_code, const char *what);
void cov_guard_end(void);

/** End MPI: to be called last, returns to main with nothing left to do but `return exit_code`, or does not return and
 * ends the process with `exit_code`. lost_peers = 0: MPI_Finalize, guarded. lost_peers > 0: see the comment in
 * finish.c. busy_s: how long other ranks may have work left (MPI_Finalize waits for all); the guard waits so much
 * longer. */
void cov_mpi_finish(int lost_peers, int exit_code, double busy_s);

#endif
