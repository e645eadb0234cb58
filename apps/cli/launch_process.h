/* Runs mpirun and stands between it and the user's signals. Local. */
#ifndef COVENANT_CLI_LAUNCH_PROCESS_H
#define COVENANT_CLI_LAUNCH_PROCESS_H

#include <stdbool.h>

#include "base/status.h"

/* On several hosts mpirun (Open MPI 4.1) may stay for ever after its programs have ended. */
typedef struct {
  bool (*is_over)(void *arg); /* looked at every ten seconds or so: nothing is left that mpirun should wait for */
  void *arg;
  double patience_s; /* for how long that must have been so before mpirun is ended */
} launch_watch;

typedef struct {
  int wait_status; /* of mpirun, as waitpid gives it */
  int interrupts;  /* SIGINT and SIGTERM that came: 2 or more ended the run at once */
  bool overstayed; /* mpirun was ended because the run was over */
} launch_outcome;

/** Run words[0] (looked up in PATH) to its end, in a process group of its own: a Ctrl-C on the terminal goes to the
 *  whole foreground group, and must reach the ranks through us only. stdin is /dev/null, stdout and stderr are ours.
 *  The first SIGINT or SIGTERM, and any SIGUSR1, is passed on as SIGUSR1, which mpirun forwards to all ranks: they stop
 *  at the end of the round. The second SIGINT or SIGTERM is passed on as SIGTERM to the group; SIGKILL follows after
 *  10 s. If this process dies, the kernel sends SIGTERM to mpirun. */
cov_status launch_process_run(char *const *words, const launch_watch *watch, launch_outcome *out);

#endif
