/* STATE: one small file in the run directory that says how the run stands; the job script reads its first line.
 * Line 1 is the state, line 2 the reason, line 3 the UTC time. Replaced atomically. All Local. */
#ifndef COVENANT_REPORT_STATE_H
#define COVENANT_REPORT_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/status.h"

/* clang-format off */
#define COV_RUN_STATE_LIST(X)                                                                   \
  X(COV_RUN_RUNNING, "running", "programs are at work, or died without a word")                 \
  X(COV_RUN_STOPPED, "stopped", "ended at a round boundary on request; can be continued")       \
  X(COV_RUN_REQUEUE, "requeue", "ended at a round boundary and wants the scheduler to start it again") \
  X(COV_RUN_DONE,    "done",    "all rounds are finished")                                      \
  X(COV_RUN_FAILED,  "failed",  "ended with an error; the reason says which")
/* clang-format on */
typedef enum {
#define X(name, text, doc) name,
  COV_RUN_STATE_LIST(X)
#undef X
} cov_run_state;

enum { COV_STATE_REASON_BYTES = 512 };

/** Write RUN_DIR/STATE. The reason is one line: control characters become blanks, a long one is cut. */
cov_status cov_state_write(const char *run_dir, cov_run_state state, const char *reason);
/** Read it. COV_EIO: no such file (no run was started there); COV_EDATA: not a STATE file. */
cov_status cov_state_read(const char *run_dir, cov_run_state *state, char reason[COV_STATE_REASON_BYTES]);

/* One process's hand on STATE: its main thread, and its watchdog's, which may write how a member failed while the main
 * thread goes on. The first end that it writes (anything but `running`) stays. */
typedef struct {
  const char *run_dir; /* borrowed */
  pthread_mutex_t lock;
  bool ended;
} cov_state_writer;
void cov_state_writer_open(cov_state_writer *writer, const char *run_dir);
/** cov_state_write, unless this writer has written an end before; then nothing, and COV_OK. From any thread. */
cov_status cov_state_tell(cov_state_writer *writer, cov_run_state state, const char *reason);

/** "running", "stopped", ... */
const char *cov_state_name(cov_run_state state);

#endif
