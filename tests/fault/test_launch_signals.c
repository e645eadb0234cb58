/* covenant-test: timeout=120
 * What `covenant launch` does with signals and with ends of all kinds. This program is also the mpirun that launch
 * finds first in PATH, and, under the real mpirun, the ranks: as such it reports to the test through a named pipe,
 * line by line, so that the test never has to guess how far the others are. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include "../unit/launch_fixture.h"
#include "report/state.h"

/* ---- as mpirun or as a rank ---- */

static void tell(const char *text) {
  int fd = open(getenv("LAUNCH_TEST_PIPE"), O_WRONLY | O_CLOEXEC);
  char line[256];
  int n = snprintf(line, sizeof line, "%s\n", text);
  if (fd < 0 || write(fd, line, (size_t)n) != n) _exit(99);
  close(fd);
}

/* Takes as many signals as `mode` has letters in front of '=' or its end; returns what is behind them. */
static const char *take_signals(const char *name, const char *mode, const sigset_t *set) {
  char line[256];
  for (; *mode && *mode != '='; mode++) {
    int got = 0;
    sigwait(set, &got);
    snprintf(line, sizeof line, "%s got %s", name, got == SIGUSR1 ? "USR1" : got == SIGTERM ? "TERM" : "INT");
    tell(line);
  }
  return mode;
}

/* LETTERS=STATE|LETTERS: takes signals, writes STATE if it is mpirun or the sync rank, takes more. */
static int play(const char *name, const char *mode) {
  char line[256], target[64] = "";
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  alarm(60); /* survives the test */
  if (readlink("/proc/self/fd/0", target, sizeof target - 1) < 0) return 99;
  snprintf(line, sizeof line, "%s ready %d %d %s", name, (int)getpid(), (int)getpgrp(), target);
  tell(line);
  mode = take_signals(name, mode, &set);
  if (*mode != '=') return 0;
  size_t n = strcspn(mode + 1, "|");
  if (strcmp(name, "covenant-train") != 0) {
    const char *dir = getenv("LAUNCH_TEST_RUN");
    if (cov_file_write(dir, mode + 1, n) != COV_OK) return 99;
  }
  if (mode[1 + n] == '|') take_signals(name, mode + 2 + n, &set);
  return 0;
}

/* ---- the test ---- */

static char self_path[4096];
static FILE *reports;

/* The next line that a player reported. */
static const char *next_report(void) {
  static char line[256];
  if (!fgets(line, sizeof line, reports)) fail_msg("no report: %s", strerror(errno));
  line[strcspn(line, "\n")] = '\0';
  return line;
}

static void expect(const char *want) {
  assert_string_equal(next_report(), want);
}

/* Waits for the fake mpirun, checks how it was started, returns its pid. */
static pid_t expect_mpirun(pid_t launch) {
  int pid = 0, group = 0;
  char input[64] = "";
  assert_int_equal(sscanf(next_report(), "mpirun ready %d %d %63s", &pid, &group, input), 3);
  assert_int_equal(pid, group); /* a group of its own */
  assert_int_not_equal(pid, (int)launch);
  assert_string_equal(input, "/dev/null");
  return pid;
}

/* Starts `covenant launch` on RUN with both streams in the file `out`; `path` is put first in PATH. */
static pid_t start(const char *mode, const char *path) {
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child) return child;
  char all[4096];
  snprintf(all, sizeof all, "%s:%s", path, getenv("PATH"));
  int out = open(in_base("out"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (chdir(base_folder) != 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(99);
  setenv("PATH", all, 1);
  setenv("LAUNCH_TEST_MODE", mode, 1);
  execl("bin/covenant", "covenant", "launch", "data.dir=data", "run.dir=run", "run.peers=1", "run.start_timeout=1s",
        "checkpoint.timeout=1s", "eval.timeout=1s", "exchange.round_timeout=1s", "run.eval_ranks=0", (char *)NULL);
  _exit(99);
}

static pid_t start_fake(const char *mode) {
  return start(mode, in_base("fake"));
}

/* Exit code of `child`, or 1000 + the signal that ended it. */
static int end_of(pid_t child) {
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void assert_in(const char *name, const char *what) {
  char *text = text_of(name);
  if (!strstr(text, what)) fail_msg("'%s' is not in %s: %s", what, name, text);
  free(text);
}

static void assert_code(int code, int want) {
  if (code == want) return;
  char *text = text_of("out");
  print_message("%s\n", text);
  free(text);
  assert_int_equal(code, want);
}

static void assert_state(cov_run_state want, const char *reason_part) {
  cov_run_state state;
  char reason[COV_STATE_REASON_BYTES];
  assert_ok(cov_state_read(in_base("run"), &state, reason));
  assert_string_equal(cov_state_name(state), cov_state_name(want));
  if (!strstr(reason, reason_part)) fail_msg("'%s' is not in: %s", reason_part, reason);
}

static void one_interrupt_stops_after_the_round(void **state) {
  (void)state;
  pid_t launch = start_fake("u=stopped\nafter round 3\n\n");
  expect_mpirun(launch);
  kill(launch, SIGINT);
  expect("mpirun got USR1");
  assert_code(end_of(launch), 0);
  assert_in("out", "stopping at the end of the round; press Ctrl-C again to end at once\n");
  assert_in("out", "stopped: run, after round 3\n");
}

static void two_interrupts_end_the_run_at_once(void **state) {
  (void)state;
  pid_t launch = start_fake("ut");
  expect_mpirun(launch);
  kill(launch, SIGINT);
  expect("mpirun got USR1");
  kill(launch, SIGINT);
  expect("mpirun got TERM");
  assert_code(end_of(launch), 6);
  assert_state(COV_RUN_FAILED, "COV_ECOMM: ended at once on request");
}

/* SIGUSR1 is the batch system's early warning: a SIGTERM after it is still a first one. */
static void a_warning_is_no_interrupt(void **state) {
  (void)state;
  pid_t launch = start_fake("uu=stopped\nafter round 1\n\n");
  expect_mpirun(launch);
  kill(launch, SIGUSR1);
  expect("mpirun got USR1");
  kill(launch, SIGTERM);
  expect("mpirun got USR1");
  assert_code(end_of(launch), 0);
}

static void an_mpirun_that_does_not_end_is_killed(void **state) {
  (void)state;
  pid_t launch = start_fake("utt");
  pid_t mpirun = expect_mpirun(launch);
  kill(launch, SIGTERM);
  expect("mpirun got USR1");
  kill(launch, SIGTERM);
  expect("mpirun got TERM"); /* and waits for more */
  assert_code(end_of(launch), 6);
  assert_int_equal(kill(mpirun, 0), -1);
  assert_state(COV_RUN_FAILED, "COV_ECOMM: ended at once on request");
}

static void mpirun_does_not_outlive_launch(void **state) {
  (void)state;
  pid_t launch = start_fake("tu");
  pid_t mpirun = expect_mpirun(launch);
  kill(launch, SIGKILL);
  assert_int_equal(end_of(launch), 1000 + SIGKILL);
  expect("mpirun got TERM");
  assert_code(end_of(start_fake("=")), 2); /* this mpirun takes its time, and keeps the directory locked */
  assert_in("out", "run is in use by another 'covenant launch'");
  kill(mpirun, SIGUSR1);
  expect("mpirun got USR1");
}

/* Open MPI's may stay for ever on several hosts. */
static void an_mpirun_that_stays_after_the_end_is_ended(void **state) {
  (void)state;
  pid_t launch = start_fake("=failed\nCOV_ENUMERIC: loss of round 3\n\n|t");
  expect_mpirun(launch);
  expect("mpirun got TERM");
  assert_code(end_of(launch), 8);
  assert_in("out", "the run is over and mpirun has not noticed; ending it\n");
}

static void state_decides_the_exit_code(void **state) {
  (void)state;
  static const struct {
    const char *mode;
    int code;
    const char *text;
  } cases[] = {
      {"=done\n64 rounds\n\n", 0, "done: run, 64 rounds\n"},
      {"=requeue\n\n\n", 0, "requeue: run\n"},
      {"=failed\nCOV_ENUMERIC: loss of round 3\n\n", 8, "error: run failed: COV_ENUMERIC: loss of round 3 (a loss"},
      {"=failed\nCOV_EREMOTE: peer 2\n\n", 7, "COV_EREMOTE: peer 2"},
      {"=failed\nCOV_EIOS: no such name\n\n", 70, "COV_EIOS"},
      {"=nonsense\n", 3, "does not begin with a known state"},
      {"", 6, "no program said how the run ended (mpirun's exit code: 0)"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    pid_t launch = start_fake(cases[i].mode);
    expect_mpirun(launch);
    assert_code(end_of(launch), cases[i].code);
    assert_in("out", cases[i].text);
  }
  assert_state(COV_RUN_FAILED, "COV_ECOMM: no program said");
}

static void a_started_run_is_described(void **state) {
  (void)state;
  pid_t launch = start_fake("=done\n\n\n");
  expect_mpirun(launch);
  assert_code(end_of(launch), 0);
  assert_in("run/run.yaml", "peers: 1");
  assert_in("run/origin.yaml", "command line");
  assert_in("run/env.json", "\"covenant\": \"");
  assert_in("run/env.json", "\"cpu\": \"");
  assert_in("run/command", "mpirun --enable-recovery");
  assert_in("run/command", "run.eval_ranks=0 log.console=rounds --peer 0 --shard 0\n");
}

/* The real mpirun forwards SIGUSR1 to every rank. */
static void a_stop_reaches_all_ranks(void **state) {
  (void)state;
  int ready = 0, got = 0;
  pid_t launch = start("u=stopped\nby all\n\n", "/nonexistent");
  while (ready < 2) ready += strstr(next_report(), " ready ") != NULL;
  kill(launch, SIGINT);
  while (got < 2) got += strstr(next_report(), " got USR1") != NULL;
  assert_code(end_of(launch), 0);
  assert_in("out", "stopped: run, by all\n");
}

static int remove_run(void **state) {
  (void)state;
  char command[1024];
  snprintf(command, sizeof command, "rm -rf '%s'", in_base("run"));
  return system(command);
}

static int open_stage(void **state) {
  static const char *const roles[] = {"fake/mpirun", "bin/covenant-train", "bin/covenant-sync"};
  open_launch_folder(state);
  assert_ok(cov_dir_make(in_base("fake")));
  for (int i = 0; i < 3; i++) assert_int_equal(symlink(self_path, in_base(roles[i])), 0);
  const char *pipe = in_base("pipe");
  assert_int_equal(mkfifo(pipe, 0666), 0);
  setenv("LAUNCH_TEST_PIPE", pipe, 1);
  setenv("LAUNCH_TEST_RUN", in_base("run/STATE"), 1);
  reports = fopen(pipe, "r+e"); /* also open for writing, so that there is never an end of file */
  assert_non_null(reports);
  return 0;
}

static int close_stage(void **state) {
  (void)state;
  return fclose(reports);
}

int main(int argc, char **argv) {
  (void)argc;
  const char *role = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
  if (strcmp(role, "mpirun") == 0 || strncmp(role, "covenant-", 9) == 0) return play(role, getenv("LAUNCH_TEST_MODE"));
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(one_interrupt_stops_after_the_round, remove_run),
      cmocka_unit_test_teardown(two_interrupts_end_the_run_at_once, remove_run),
      cmocka_unit_test_teardown(a_warning_is_no_interrupt, remove_run),
      cmocka_unit_test_teardown(an_mpirun_that_does_not_end_is_killed, remove_run),
      cmocka_unit_test_teardown(mpirun_does_not_outlive_launch, remove_run),
      cmocka_unit_test_teardown(an_mpirun_that_stays_after_the_end_is_ended, remove_run),
      cmocka_unit_test_teardown(state_decides_the_exit_code, remove_run),
      cmocka_unit_test_teardown(a_started_run_is_described, remove_run),
      cmocka_unit_test_teardown(a_stop_reaches_all_ranks, remove_run),
  };
  ssize_t n = readlink("/proc/self/exe", self_path, sizeof self_path - 1);
  if (n <= 0) return 1;
  return cmocka_run_group_tests(tests, open_stage, close_stage);
}
