/* A peer ends as a whole. Each process of a peer registers in the segment; a watchdog thread in each ticks its own
 * heartbeat (4 Hz) and watches the others: by pidfd (death, at once) and by heartbeat (SIGSTOP or a wedged machine,
 * after member_timeout). When a train or sync member has died without having left, exactly one line is logged (by the
 * first member that sees it), naming program, shard and pid; a member that failed has said so itself, and the others
 * only note it in their log files. Stopped members are killed (only pids of the table whose start time matches); every
 * other process of the peer ends with _exit(exit code of COV_ECOMM), whatever its main thread waits for.
 *
 * Eval members are observers: their death costs a warning, and a dead peer does not end them, it shows in
 * cov_member_peer_lost(). All functions are Local. */
#ifndef COVENANT_COMM_MEMBER_H
#define COVENANT_COMM_MEMBER_H

#include "base/status.h"
#include "comm/segment.h"
#include "comm/wait.h"

typedef struct cov_member cov_member;

typedef struct {
  cov_program program;
  int shard;               /* 0 <= shard < n_members[program] of the segment */
  double member_timeout_s; /* silence that counts as death; at least 1, e.g. 30 */
  /* Called once in the watchdog thread before _exit, e.g. to let the main thread take leave of other peers. May be
   * NULL. Keep it short: the process ends 5 s later even if it does not return. `reason` is the logged line, `status`
   * what the member failed with, COV_ECOMM if it died. */
  void (*before_exit)(void *arg, cov_status status, const char *reason);
  void *arg;
} cov_member_params;

/** Take the slot (program, shard) and start the watchdog. COV_EMISMATCH if it is taken (two runs in one folder),
 * COV_EUSAGE if it does not exist. `segment` is borrowed until cov_member_leave. `*out` is owned. */
cov_status cov_member_join(cov_segment *segment, const cov_member_params *params, cov_member **out);
/** Until every train and sync slot has been taken. COV_ECOMM at the deadline, naming who is missing. */
cov_status cov_member_wait_all(cov_member *member, const cov_wait *how);
/** This process failed with `status` and has logged why: the others end. The watchdog stops; the caller ends the
 * program. */
void cov_member_fail(cov_member **member, cov_status status);
/** Leave cleanly: from now on nobody minds this process ending. The watchdog stops. NULL is fine; `*member` becomes
 * NULL. */
void cov_member_leave(cov_member **member);
/** 1 once an eval member has joined. */
int cov_member_observed(const cov_member *member);
/** For observers: 1 once a train or sync member has died or failed. */
int cov_member_peer_lost(const cov_member *member);
/** For observers: 1 once all train and sync members that joined have left cleanly. */
int cov_member_peer_left(const cov_member *member);

#endif
