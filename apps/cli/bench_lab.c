#include "cli/bench_lab.h"

#include <errno.h>
#include <fts.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

enum { NO_LAB = 77 };
static const double relay_mbit = 500; /* a relay is a host of its own, on a better link */

/* ---- the lab ---- */

static cov_status make_folder(bench_lab *lab) {
  const char *parent = getenv("TMPDIR");
  COV_TRY(cov_path(lab->folder, sizeof lab->folder, "%s/covenant-bench.XXXXXX", parent && *parent ? parent : "/tmp"));
  if (mkdtemp(lab->folder)) return COV_OK;
  cov_status st = COV_FAIL(COV_EIO, "cannot make %s: %s", lab->folder, strerror(errno));
  lab->folder[0] = '\0';
  return st;
}

static cov_status find_programs(bench_lab *lab) {
  ssize_t n = readlink("/proc/self/exe", lab->bin, sizeof lab->bin - 1);
  if (n <= 0) return COV_FAIL(COV_EIO, "cannot find out where this program lies: %s", strerror(errno));
  lab->bin[n] = '\0';
  *strrchr(lab->bin, '/') = '\0';
  return COV_OK;
}

cov_status bench_lab_open(const bench_request *q, bench_lab *lab) {
  char *end = NULL;
  *lab = (bench_lab){.peers = (int)q->cfg.run.peers,
                     .relays = (int)q->relays,
                     .up_mbit = q->up_mbit,
                     .down_mbit = q->down_mbit,
                     .rtt_ms = q->rtt_ms,
                     .topology = q->relays > 0 ? COV_TOPOLOGY_RELAY : COV_TOPOLOGY_MESH};
  if (q->cfg.run.peers < 2 || q->cfg.run.peers + q->relays > BENCH_LAB_HOSTS_MAX) {
    return COV_FAIL(COV_EUSAGE, "run.peers is %lld: 2 .. %d hosts are possible, relays included",
                    (long long)q->cfg.run.peers, BENCH_LAB_HOSTS_MAX);
  }
  lab->loss = strtod(q->loss, &end);
  if (end == q->loss || *end || !(lab->loss >= 0 && lab->loss < 50)) {
    return COV_FAIL(COV_EUSAGE, "command line: --loss is '%.64s'; percent, below 50", q->loss);
  }
  for (int i = 0; i < lab->peers + lab->relays; i++) {
    bool relay = i >= lab->peers;
    lab->rate[i] = (cov_link_rate){.up = (relay ? relay_mbit : (double)q->up_mbit) * 1e6 / 8,
                                   .down = (relay ? relay_mbit : (double)q->down_mbit) * 1e6 / 8};
  }
  COV_TRY(find_programs(lab));
  return make_folder(lab);
}

void bench_lab_close(bench_lab *lab) {
  char *paths[] = {lab->folder, NULL};
  if (!lab->folder[0]) return;
  FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
  for (const FTSENT *e; tree && (e = fts_read(tree));) {
    if (e->fts_info != FTS_D) (void)remove(e->fts_accpath);
  }
  if (tree) (void)fts_close(tree);
  lab->folder[0] = '\0';
}

/* ---- commands ---- */

cov_status bench_command_add(bench_command *c, const char *format, ...) {
  char text[BENCH_LAB_PATH_BYTES];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  char *copy = n >= 0 && n < (int)sizeof text ? strdup(text) : NULL;
  if (!copy || c->n == BENCH_LAB_WORDS_MAX) {
    free(copy);
    return COV_FAIL(COV_ENOMEM, "no memory for the lab's command");
  }
  c->word[c->n++] = copy;
  return COV_OK;
}

void bench_command_close(bench_command *c) {
  for (int i = 0; i < c->n; i++) free(c->word[i]);
  c->n = 0;
}

cov_status bench_lab_command(const bench_lab *lab, const char *stats, bench_command *c) {
  COV_TRY(bench_command_add(c, "%s/covenant-wanlab", lab->bin));
  COV_TRY(bench_command_add(c, "--hosts=%d", lab->peers + lab->relays));
  COV_TRY(bench_command_add(c, "--up=%lld", (long long)lab->up_mbit));
  COV_TRY(bench_command_add(c, "--down=%lld", (long long)lab->down_mbit));
  COV_TRY(bench_command_add(c, "--rtt=%lld", (long long)lab->rtt_ms));
  COV_TRY(bench_command_add(c, "--loss=%g", lab->loss));
  if (stats) COV_TRY(bench_command_add(c, "--stats=%s", stats));
  for (int i = lab->peers; i < lab->peers + lab->relays; i++) {
    COV_TRY(bench_command_add(c, "--link=%d:up=%g,down=%g", i, relay_mbit, relay_mbit));
  }
  return bench_command_add(c, "--");
}

/* How mpirun reaches the hosts, said by variables so that `covenant launch` in between need not know. */
static void set_variables(const bench_lab *lab) {
  static const char *const variable[][2] = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                                            {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                                            {"PRTE_ALLOW_RUN_AS_ROOT", "1"},
                                            {"PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                                            {"OMPI_MCA_oob_tcp_if_include", "10.88.0.0/24"},
                                            {"UCX_TLS", "tcp,self"},
                                            {"UCX_NET_DEVICES", "wan0"}};
  char agent[BENCH_LAB_PATH_BYTES + 64];
  for (size_t i = 0; i < sizeof variable / sizeof *variable; i++) setenv(variable[i][0], variable[i][1], 1);
  snprintf(agent, sizeof agent, "%s/covenant-wanlab agent", lab->bin);
  setenv("OMPI_MCA_plm_rsh_agent", agent, 1);
  setenv("OMPI_MCA_orte_tmpdir_base", lab->folder, 1); /* host names and process ids are those of any other lab */
}

static _Noreturn void become(const bench_lab *lab, const bench_command *c) {
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a lab does not outlive who asked for it */
  set_variables(lab);
  dup2(STDERR_FILENO, STDOUT_FILENO); /* the report alone goes to stdout */
  execv(c->word[0], c->word);
  fprintf(stderr, "%s: %s\n", c->word[0], strerror(errno));
  _exit(127);
}

cov_status bench_lab_run(const bench_lab *lab, const bench_command *c, double limit_s) {
  int status;
  pid_t child = fork();
  if (child < 0) return COV_FAIL(COV_EIO, "cannot start %s: %s", c->word[0], strerror(errno));
  if (child == 0) become(lab, c);
  for (double end = cov_clock_s() + limit_s; waitpid(child, &status, WNOHANG) == 0; cov_sleep_s(0.1)) {
    if (cov_clock_s() < end) continue;
    kill(child, SIGKILL); /* takes the lab along */
    (void)waitpid(child, &status, 0);
    return COV_FAIL(COV_ECOMM, "what ran on the WAN was not done after %.0f s", limit_s);
  }
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (code == 0) return COV_OK;
  if (code == NO_LAB) return COV_FAIL(COV_EUSAGE, "no WAN can be made here; the line above says why");
  return COV_FAIL(COV_ECOMM, "what ran on the WAN failed with exit code %d; the lines above say why", code);
}
