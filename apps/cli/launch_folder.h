/* What `covenant launch` reads and writes in the run directory: is it free, what was started, how did it end. All
 * Local. */
#ifndef COVENANT_CLI_LAUNCH_FOLDER_H
#define COVENANT_CLI_LAUNCH_FOLDER_H

#include "cli/launch_line.h"

/** COV_EUSAGE if the directory already holds a run (a ledger of any peer) or another launch has it locked. A directory
 *  that is not there yet is free. Changes nothing. */
cov_status launch_folder_check(const cov_config *cfg);
/** Make the directory and lock RUN/lock. *fd stays open for as long as the run goes on; mpirun inherits it, so that
 *  the directory stays locked while ranks end after a launch that was killed. COV_EUSAGE if another launch has it. */
cov_status launch_folder_lock(const cov_config *cfg, int *fd);
/** run.yaml, origin.yaml, env.json, command, and STATE "running". */
cov_status launch_folder_write(const cov_config *cfg, const cov_origins *origins, const launch_line *line);

/** How the run ended, by STATE, after mpirun is gone: its exit code is 0 under --enable-recovery whatever happens.
 *  done, stopped, requeue: COV_OK and one line on stdout. failed: the status that the reason begins with. running:
 *  nobody said how it ended; STATE becomes failed with `otherwise` as the reason, COV_ECOMM. */
cov_status launch_folder_verdict(const char *run_dir, const char *otherwise);

#endif
