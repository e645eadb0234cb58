/* The mpirun command line of a run, word by word: which programs, in which order, on which hosts, with which flags.
 * docs/launch.md explains each flag. All Local; nothing is started here. */
#ifndef COVENANT_CLI_LAUNCH_LINE_H
#define COVENANT_CLI_LAUNCH_LINE_H

#include "config/args.h"

/** Where the ranks go. n = 0: this host, or the one host of the Slurm allocation. */
typedef struct {
  char **names; /* [n], owned */
  int n;
  bool slurm; /* names come from a Slurm allocation, whose slots may be too few */
} launch_hosts;

/** Words of a command; `words` has a NULL after its `n` entries and suits execvp. Owned. */
typedef struct {
  char **words;
  int n, room;
} launch_line;

typedef struct {
  const cov_config *cfg;
  const cov_args *args;      /* its files and overrides are repeated for each rank as they were written */
  const launch_hosts *hosts; /* peer p of P stands on names[p * n / P] */
  const char *programs;      /* folder of covenant-train, covenant-sync and covenant-eval */
  const char *console;       /* one more override at the end, "log.console=line"; NULL: none */
  bool root;                 /* Open MPI must be told that root is meant */
  bool single_copy;          /* one process may read another's memory: launch_single_copy() */
} launch_plan;

/** run.hosts; else the nodes of the Slurm job around us (asks scontrol); else none. *out is owned by the caller:
 *  launch_hosts_close, also after a failure. COV_EUSAGE: a name with other characters than a host name has;
 *  COV_EIO: scontrol does not answer. */
cov_status launch_hosts_find(const cov_config *cfg, launch_hosts *out);
void launch_hosts_close(launch_hosts *hosts);

/** Whether process_vm_readv is allowed. Containers often forbid it; Open MPI 4 is then told to send large messages
 *  through shared memory by copying twice, where it would read them out of the other process. */
bool launch_single_copy(void);

/** Build the line. *out is owned by the caller: launch_line_close, also after a failure (COV_ENOMEM). */
cov_status launch_line_build(const launch_plan *plan, launch_line *out);
void launch_line_close(launch_line *line);
/** The line as a shell would read it back, each word quoted where necessary, a newline at the end. */
void launch_line_write(const launch_line *line, FILE *out);
/** `word` for a POSIX shell. */
void launch_quote(const char *word, FILE *out);

#endif
