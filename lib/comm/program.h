/* Which of the MPI programs a process is. All Local. */
#ifndef COVENANT_COMM_PROGRAM_H
#define COVENANT_COMM_PROGRAM_H

typedef enum {
  COV_PROGRAM_TRAIN,
  COV_PROGRAM_SYNC,
  COV_PROGRAM_EVAL,
  COV_PROGRAM_RELAY,
  COV_PROGRAM_COUNT
} cov_program;

/** "train", "sync", "eval", "relay"; "?" for anything else. Never NULL. */
const char *cov_program_name(cov_program program);

#endif
