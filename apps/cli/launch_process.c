#include "cli/launch_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

static const double patience_s = 10; /* from SIGTERM to SIGKILL; mpirun itself takes about 2 s to end its ranks */
static const double look_s = 10;     /* between looks whether the run is over */

/* In the child: become mpirun. Only async-signal-safe calls. */
static _Noreturn void become(char *const *words, pid_t parent, const sigset_t *mask) {
  int null = open("/dev/null", O_RDONLY);
  if (null < 0 || dup2(null, STDIN_FILENO) < 0 || setpgid(0, 0) != 0) _exit(126);
  if (null != STDIN_FILENO) close(null);
  if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent) _exit(126);
  signal(SIGTTOU, SIG_IGN); /* a background group may write to a terminal set to `stty tostop` */
  sigprocmask(SIG_SETMASK, mask, NULL);
  execvp(words[0], words);
  _exit(127);
}

/* Signals to wait for. Those that were ignored when we started (nohup, a shell's background job) stay so. */
static void choose_signals(sigset_t *set) {
  static const int wanted[] = {SIGINT, SIGTERM, SIGUSR1};
  sigemptyset(set);
  signal(SIGCHLD, SIG_DFL); /* ignored, it would leave no status to wait for */
  sigaddset(set, SIGCHLD);
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    struct sigaction now;
    if (sigaction(wanted[i], NULL, &now) == 0 && now.sa_handler == SIG_IGN) continue;
    sigaddset(set, wanted[i]);
  }
}

static void say(const char *text) {
  fprintf(stderr, "%s%s\n", isatty(STDERR_FILENO) ? "\n" : "", text); /* the cursor may stand in a progress line */
}

static void end_group(pid_t child, double *kill_at_s) {
  kill(-child, SIGTERM);
  if (*kill_at_s == 0) *kill_at_s = cov_clock_s() + patience_s;
}

static void pass_on(int sig, pid_t child, launch_outcome *out, double *kill_at_s) {
  if (sig == SIGUSR1) {
    kill(child, SIGUSR1);
  } else if (++out->interrupts == 1) {
    say("stopping at the end of the round; press Ctrl-C again to end at once");
    kill(child, SIGUSR1);
  } else if (out->interrupts == 2) {
    say("ending at once");
    end_group(child, kill_at_s);
  }
}

/* What is known of a run that is over. */
typedef struct {
  const launch_watch *watch;
  double next_look_s, over_since_s; /* the latter 0: it is not over, as far as we know */
} overtime;

/* True once, when mpirun has stayed too long. */
static bool has_overstayed(overtime *o) {
  double now = cov_clock_s(), pause = look_s < o->watch->patience_s / 4 ? look_s : o->watch->patience_s / 4;
  if (now < o->next_look_s) return false;
  o->next_look_s = now + pause;
  if (!o->watch->is_over(o->watch->arg)) {
    o->over_since_s = 0;
    return false;
  }
  if (o->over_since_s == 0) o->over_since_s = now;
  return now - o->over_since_s > o->watch->patience_s;
}

/* Until mpirun has ended. `set` is blocked, so no signal is lost between two looks. */
static cov_status attend(pid_t child, const sigset_t *set, const launch_watch *watch, launch_outcome *out) {
  overtime over = {.watch = watch};
  double kill_at_s = 0; /* 0: no end was ordered */
  for (;;) {
    pid_t ended = waitpid(child, &out->wait_status, WNOHANG);
    if (ended == child) return COV_OK;
    if (ended < 0) return COV_FAIL(COV_EBUG, "waiting for mpirun: %s", strerror(errno));
    if (kill_at_s > 0 && cov_clock_s() > kill_at_s) {
      kill(-child, SIGKILL);
      kill_at_s = 0;
    }
    if (!out->overstayed && has_overstayed(&over)) {
      out->overstayed = true;
      say("the run is over and mpirun has not noticed; ending it");
      end_group(child, &kill_at_s);
    }
    struct timespec a_second = {1, 0};
    int sig = sigtimedwait(set, NULL, &a_second);
    if (sig > 0 && sig != SIGCHLD) pass_on(sig, child, out, &kill_at_s);
  }
}

cov_status launch_process_run(char *const *words, const launch_watch *watch, launch_outcome *out) {
  sigset_t set, before;
  memset(out, 0, sizeof *out);
  choose_signals(&set);
  if (sigprocmask(SIG_BLOCK, &set, &before) != 0) return COV_FAIL(COV_EBUG, "sigprocmask: %s", strerror(errno));
  pid_t parent = getpid();
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) become(words, parent, &before);
  if (child < 0) {
    cov_status st = COV_FAIL(COV_EIO, "cannot start mpirun: %s", strerror(errno));
    sigprocmask(SIG_SETMASK, &before, NULL);
    return st;
  }
  setpgid(child, child); /* the child does the same: whoever is first, the group is there before a signal is sent */
  return attend(child, &set, watch, out); /* signals stay blocked: the verdict is to be written in peace */
}
