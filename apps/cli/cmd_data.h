/* `covenant data prepare|stats|corpus`: the folder of token shards that training reads, and what is in it. */
#ifndef COVENANT_CLI_CMD_DATA_H
#define COVENANT_CLI_CMD_DATA_H

/** argv[0] is "data". Prints results to stdout, errors to stderr; returns the exit code. */
int cmd_data(int argc, char **argv);

#endif
