#include "comm/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

static ssize_t read_small(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t n = read(fd, text, size - 1);
  close(fd);
  text[n > 0 ? n : 0] = '\0';
  return n;
}

void cov_host_get(cov_host *out) {
  memset(out, 0, sizeof *out);
  if (gethostname(out->host, sizeof out->host - 1) != 0 || !out->host[0]) strcpy(out->host, "?");
  if (read_small("/proc/sys/kernel/random/boot_id", out->boot, sizeof out->boot) <= 0) strcpy(out->boot, "?");
  out->boot[strcspn(out->boot, "\n")] = '\0';
  if (readlink("/proc/self/ns/pid", out->pidns, sizeof out->pidns - 1) <= 0) strcpy(out->pidns, "?");
}

uint64_t cov_process_start(pid_t pid, char *state) {
  char path[64], text[1024];
  if (state) *state = 0;
  snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
  if (read_small(path, text, sizeof text) <= 0) return 0;
  /* The command name (field 2) may hold blanks and brackets: count from the last ')'. Field 22 is the start time. */
  char *p = strrchr(text, ')');
  if (!p || p[1] != ' ') return 0;
  p += 2;
  if (state) *state = *p;
  for (int field = 3; field < 22; field++) {
    p = strchr(p, ' ');
    if (!p) return 0;
    p++;
  }
  return strtoull(p, NULL, 10);
}

int cov_process_pidfd(pid_t pid, uint64_t start) {
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return -1;
  /* The fd is pinned to a process now; was it the right one? */
  if (cov_process_start(pid, NULL) != start) {
    close(fd);
    errno = ESRCH;
    return -1;
  }
  return fd;
}

void cov_process_kill(pid_t pid, uint64_t start) {
  if (pid <= 1 || start == 0) return;
  int fd = cov_process_pidfd(pid, start);
  if (fd >= 0) {
    syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    close(fd);
  } else if (errno == ENOSYS && cov_process_start(pid, NULL) == start) {
    kill(pid, SIGKILL);
  }
}
