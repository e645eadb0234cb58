/* covenant-test: timeout=300
 * Real runs and exchanges on a network made here whose links are unequal, jitter and go down: an outage that is shorter
 * than exchange.link_timeout costs time only, a longer one the peer behind it, and nobody is faster than the slowest
 * link allows. Needs root and namespaces; else skipped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "run.h"
#include "support.h"

enum { WORDS = 48, CUT = 2 /* the host whose link goes down */ };

static test_run run;
static char script[320];

/* $1 programs, $2 configuration, $3 run directory, $4 how long the outage is in seconds, or "on"; settings. The outage
 * begins when two rounds are done. If it goes on for ever the peer behind it ends with an error, after which mpirun
 * (Open MPI 4.1), with its daemons on several hosts, does not end although all programs have: then the script is done
 * when the other two have said that they stop, and the lab with it. */
static const char outage[] = "bin=$1 config=$2 dir=$3 length=$4; shift 4\n"
                             "\"$bin/covenant\" launch -c \"$config\" run.dir=\"$dir\" \"$@\" &\n"
                             "launch=$!\n"
                             "until [ \"$(cat \"$dir/metrics.csv\" 2>/dev/null | wc -l)\" -ge 3 ]; do\n"
                             "  grep -qs '^State:.[^Z]' /proc/$launch/status || { wait $launch; exit 90; }\n"
                             "  sleep 0.05\n"
                             "done\n"
                             "\"$bin/covenant-wanlab\" set 2 state=down || exit 91\n"
                             "if [ \"$length\" != on ]; then\n"
                             "  sleep \"$length\"\n"
                             "  \"$bin/covenant-wanlab\" set 2 state=up || exit 91\n"
                             "  wait $launch; exit\n"
                             "fi\n"
                             "for peer in 0 1; do\n"
                             "  until grep -qs '\"ev\":\"stop\"' \"$dir/events/peer-$peer-sync.jsonl\" &&\n"
                             "    [ \"$(head -n 1 \"$dir/STATE\")\" != running ]; do\n"
                             "    grep -qs '^State:.[^Z]' /proc/$launch/status || { wait $launch; exit 92; }\n"
                             "    sleep 0.05\n"
                             "  done\n"
                             "done\n";

static int prepare(void **state) {
  (void)state;
  test_run_prepare(&run);
  snprintf(script, sizeof script, "%s/outage.sh", run.folder);
  return cov_file_write(script, outage, sizeof outage - 1) != COV_OK;
}

/* How mpirun reaches the hosts (as apps/cli/bench_lab.c). */
static void set_variables(const char *bin) {
  static const char *const variable[][2] = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                                            {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                                            {"OMPI_MCA_oob_tcp_if_include", "10.88.0.0/24"},
                                            {"UCX_TLS", "tcp,self"},
                                            {"UCX_NET_DEVICES", "wan0"}};
  char agent[4200];
  for (size_t i = 0; i < sizeof variable / sizeof *variable; i++) setenv(variable[i][0], variable[i][1], 1);
  snprintf(agent, sizeof agent, "%s/covenant-wanlab agent", bin);
  setenv("OMPI_MCA_plm_rsh_agent", agent, 1);
  setenv("OMPI_MCA_orte_tmpdir_base", run.folder[0] ? run.folder : "/tmp", 1);
}

/* Exit code of covenant-wanlab with these words; "@" is the folder of programs. What is said goes into `log`. */
static int in_lab(const char *log, const char *const *words) {
  const char *bin = getenv("COVENANT_BIN");
  char path[WORDS][4200];
  char *args[WORDS + 1];
  int n = 0, status;
  assert_non_null(bin);
  snprintf(path[n++], sizeof *path, "%s/covenant-wanlab", bin);
  for (; words[n - 1]; n++) {
    const char *w = words[n - 1];
    assert_true(n < WORDS);
    snprintf(path[n], sizeof *path, "%s%s", w[0] == '@' ? bin : "", w[0] == '@' ? w + 1 : w);
  }
  for (int i = 0; i < n; i++) args[i] = path[i];
  args[n] = NULL;
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a lab does not outlive its test */
    set_variables(bin);
    if (log && (!freopen(log, "w", stdout) || dup2(STDOUT_FILENO, STDERR_FILENO) < 0)) _exit(126);
    execv(args[0], args);
    _exit(127);
  }
  assert_true(waitpid(child, &status, 0) == child);
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (code != 0 && log) {
    snprintf(path[0], sizeof *path, "tail -n 30 '%s' 1>&2", log);
    (void)!system(path[0]);
  }
  return code;
}

/* A run of three peers on links that are unequal and jitter, with an outage of host CUT. */
static void run_with_outage(const char *name, const char *length, const char *link_timeout) {
  char log[400], stats[330], timeout[64];
  snprintf(run.dir, sizeof run.dir, "%.200s/%s", run.folder, name);
  snprintf(log, sizeof log, "%s.log", run.dir);
  snprintf(stats, sizeof stats, "--stats=%.200s/stats", run.folder);
  snprintf(timeout, sizeof timeout, "exchange.link_timeout=%s", link_timeout);
  const char *const words[] = {"--hosts=3",
                               "--up=20",
                               "--down=50",
                               "--rtt=20",
                               "--jitter=5",
                               "--link=1:up=2,down=8,delay=20",
                               stats,
                               "--",
                               "sh",
                               script,
                               "@",
                               run.config,
                               run.dir,
                               length,
                               "run.peers=3",
                               "run.hosts=10.88.0.1,10.88.0.2,10.88.0.3",
                               "run.eval_ranks=0",
                               "run.rounds=8",
                               "train.round_time=0.5s",
                               timeout,
                               NULL};
  assert_int_equal(in_lab(log, words), 0);
  assert_string_equal(test_run_state(&run), "done");
}

/* Packets that were lost because a link was down: the last five numbers of a host's in the router's last line. */
static uint64_t lost_to_outage(int hosts) {
  char path[330], *text, *line;
  size_t bytes;
  uint64_t lost = 0;
  snprintf(path, sizeof path, "%.200s/stats", run.folder);
  assert_ok(cov_file_read(path, 1 << 24, &text, &bytes));
  while (bytes > 0 && text[bytes - 1] == '\n') text[--bytes] = '\0';
  line = strrchr(text, '\n');
  line = line ? line + 1 : text;
  (void)strtod(line, &line), (void)strtod(line, &line);
  for (int i = 0; i < hosts; i++) {
    uint64_t n = 0;
    for (int k = 0; k < 5; k++) n = strtoull(line, &line, 10);
    lost += n;
  }
  free(text);
  return lost;
}

static void a_short_outage_costs_time_only(void **state) {
  (void)state;
  run_with_outage("short", "3", "30s");
  assert_true(lost_to_outage(3) > 0);
  for (int64_t row = 0; row < 8; row++) assert_true(test_run_metric(&run, row, "peers_in") == 3);
  (void)test_run_common_hash(&run, 3);
  assert_int_equal(test_run_count(&run, "is gone"), 0);
}

static void a_long_outage_costs_the_peer_behind_it(void **state) {
  (void)state;
  run_with_outage("long", "on", "4s");
  assert_true(lost_to_outage(3) > 0);
  assert_true(test_run_metric(&run, 1, "peers_in") == 3);
  assert_true(test_run_metric(&run, 7, "peers_in") == 2);
  (void)test_run_common_hash(&run, 2);
  assert_int_equal(test_run_count(&run, "peer 2 is gone: "), 1);
  assert_true(test_run_lines(&run, "logs/peer-2-sync-0.log", "1 of 3 members alive", "no majority") > 0);
}

/* Four megabits a second out of host 0, forty out of the others: the measurement finds out, and the exchange takes what
 * that one uplink takes. */
static void an_exchange_is_as_fast_as_its_slowest_link(void **state) {
  (void)state;
  enum { BYTES = 500000 };
  char log[400], file[330], out[340], *text;
  size_t bytes;
  double begin, end;
  snprintf(log, sizeof log, "%.200s/wan.log", run.folder);
  snprintf(file, sizeof file, "%.200s/wan.out", run.folder);
  snprintf(out, sizeof out, "--out=%s", file);
  const char *const words[] = {"--hosts=4",
                               "--up=40",
                               "--down=80",
                               "--rtt=20",
                               "--jitter=5",
                               "--link=0:up=4",
                               "--",
                               "mpirun",
                               "--bind-to",
                               "none",
                               "--mca",
                               "pml",
                               "ucx",
                               "--mca",
                               "opal_common_ucx_tls",
                               "any",
                               "--mca",
                               "opal_common_ucx_devices",
                               "any",
                               "--mca",
                               "btl",
                               "self",
                               "-x",
                               "UCX_TLS",
                               "-x",
                               "UCX_NET_DEVICES",
                               "--host",
                               "10.88.0.1:1,10.88.0.2:1,10.88.0.3:1,10.88.0.4:1",
                               "-np",
                               "4",
                               "@/covenant-wan",
                               "--relays=1",
                               "--topology=mesh",
                               "--bytes=500000",
                               "--reps=1",
                               out,
                               NULL};
  assert_int_equal(in_lab(log, words), 0);
  assert_ok(cov_file_read(file, 1 << 20, &text, &bytes));
  assert_non_null(strstr(text, "(uplink of peer 0, "));
  const char *exchange = strstr(text, "\nexchange ");
  assert_non_null(exchange);
  assert_int_equal(sscanf(exchange, "\nexchange %lf %lf", &begin, &end), 2);
  assert_true(end - begin > 0.999 * 2 * 8 * BYTES / 4e6); /* to two others; headers come on top */
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_short_outage_costs_time_only),
      cmocka_unit_test(a_long_outage_costs_the_peer_behind_it),
      cmocka_unit_test(an_exchange_is_as_fast_as_its_slowest_link),
  };
  if (in_lab(NULL, (const char *const[]){"--hosts=1", "--", "true", NULL}) == 77) return 77; /* it has said why */
  return cmocka_run_group_tests(tests, prepare, NULL);
}
