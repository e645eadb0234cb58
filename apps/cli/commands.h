/* The subcommands of `covenant`. To add one: write apps/cli/cmd_NAME.c with `int cmd_NAME(int argc, char **argv)` and
 * add its line to the list. A command gets argv[0] = its own name, parses the rest with cov_args_parse, prints its
 * failure through cli_failed, and returns an exit code of docs/reference/exit-codes.md. */
#ifndef COVENANT_CLI_COMMANDS_H
#define COVENANT_CLI_COMMANDS_H

#include "base/status.h"

/* clang-format off */
/*    name, one line of help */
#define CLI_COMMAND_LIST(X)                                                               \
  X(bench,   "measure speed and compression, against ceilings of the same run")            \
  X(ckpt,    "list, verify, compare and prune checkpoints")                              \
  X(config,  "print the YAML template, the reference pages, the resolved configuration") \
  X(data,    "prepare text, measure it, write the default corpus")                       \
  X(launch,  "start a run with mpirun, or print the line that does")                     \
  X(ledger,  "print, verify and compare ledgers")                                        \
  X(plan,    "what a run will take: memory of each rank, operations, bytes, time of a round") \
  X(report,  "one HTML file about a run: curves, timeline, agreement, settings")          \
  X(summary, "what a finished run achieved, and whether all peers agree")                \
  X(top,     "how a run stands: rounds, losses, bytes, waits, what happened last")
/* clang-format on */

#define X(name, help) int cmd_##name(int argc, char **argv);
CLI_COMMAND_LIST(X)
#undef X

/** For COV_OK returns 0; otherwise prints "error: TEXT (STATUS TEXT)" of this thread's last failure on stderr and
 *  returns the exit code. */
int cli_failed(cov_status st);

#endif
