/* What `covenant launch` reads and writes in the run directory: is it free, what was started, how did it end. All
 * Local. */
#ifndef COVENANT_CLI_LAUNCH_FOLDER_H
#define COVENANT_CLI_LAUNCH_FOLDER_H

#include "cli/launch_line.h"

typedef enum {
  LAUNCH_FRESH,  /* no run was started there yet; also a directory that does not exist */
  LAUNCH_RESUME, /* a run with the same settings has not reached its end */
  LAUNCH_DONE    /* it has: nothing to do */
} launch_folder_kind;

/** What the directory holds. COV_EUSAGE if another launch has it locked, a run without launch has a ledger in it
 *  open, or it holds a run and run.resume is never; COV_EMISMATCH names the setting in which the run there differs.
 * Changes nothing. */
cov_status launch_folder_check(const cov_config *cfg, launch_folder_kind *kind);
/** Make the directory, lock RUN/lock and write "PID HOST" into it, then check as above. *fd stays open for as long as
 * the run goes on; mpirun inherits it, so that the directory stays locked while ranks end after a launch that was
 * killed. */
cov_status launch_folder_lock(const cov_config *cfg, int *fd, launch_folder_kind *kind);
/** Empty the lock file and close it. A launch that was killed leaves its line "PID HOST" there; the next one says so.
 */
void launch_folder_unlock(int *fd);
/** run.yaml, origin.yaml, env.json, command, and STATE "running". */
cov_status launch_folder_write(const cov_config *cfg, const cov_origins *origins, const launch_line *line);

/** True if STATE says how the run ended and no gateway is at work, though others may have failed: none has a ledger
 *  open, and all ledgers together are as long as *ledger_bytes says, which becomes their length (for file systems whose
 *  locks do not reach other hosts). What cannot be known counts as not over. */
bool launch_folder_over(const cov_config *cfg, int64_t *ledger_bytes);
/** How the run ended, by STATE, after mpirun is gone: its exit code is 0 under --enable-recovery whatever happens.
 *  done, stopped, requeue: COV_OK and one line on stdout. failed: the status that the reason begins with. running:
 *  nobody said how it ended; STATE becomes failed with `otherwise` as the reason, COV_ECOMM. */
cov_status launch_folder_verdict(const char *run_dir, const char *otherwise);

#endif
