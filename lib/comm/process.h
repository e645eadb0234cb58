/* What the kernel knows about processes of this machine. Private to lib/comm. Linux; all Local. */
#ifndef COVENANT_COMM_PROCESS_H
#define COVENANT_COMM_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

#include "base/status.h"

enum { COV_HOST_TEXT_BYTES = 128 };

/* Two processes can share memory through /proc if all three texts are equal. */
typedef struct {
  char host[COV_HOST_TEXT_BYTES]; /* name */
  char boot[64];                  /* /proc/sys/kernel/random/boot_id */
  char pidns[64];                 /* pid namespace, "pid:[4026531836]": containers have their own */
} cov_host;

/** Never fails: what cannot be read becomes "?". */
void cov_host_get(cov_host *out);
/** Start time of `pid` in clock ticks since boot (0 if there is no such process) and its state letter ('T' stopped,
 *  'Z' dead but not reaped; 0 if none). `state` may be NULL. With the pid it names a process for good: pids are reused.
 */
uint64_t cov_process_start(pid_t pid, char *state);
/** A pidfd of the process (pid, start), or -1 if it is gone or the kernel has no pidfds (errno ENOSYS). */
int cov_process_pidfd(pid_t pid, uint64_t start);
/** Send SIGKILL to the process (pid, start) and to no other. */
void cov_process_kill(pid_t pid, uint64_t start);

#endif
